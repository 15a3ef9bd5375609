//! Signing in.

use super::Body::{Form, Nothing, Of, Page};
use super::*;

const TOKEN: &[(u16, Body, &str)] = &[(200, Of("Token"), "A token.")];

const PAGES: &[(u16, Body, &str)] = &[
    (200, Page, "A page."),
    (302, Page, "Back to the program, with a code or an error."),
    (400, Page, "What is wrong, and what to do."),
    (500, Page, "What went wrong, and what to do."),
    (503, Page, "The control plane does not answer."),
];
const SIGN_IN: &[&str] = &[
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "login_hint",
    "prompt",
];
const REVOKED: &[(u16, Body, &str)] = &[(
    200,
    Nothing,
    "The session has ended, or the token was none.",
)];
const DEVICE: &[(u16, Body, &str)] = &[(
    200,
    Of("Anything"),
    "A device code, and what a person types.",
)];

#[rustfmt::skip]
pub static DOCUMENTS: &[Document] = &[
    with_query(&["api-version"], ask("Metadata_Endpoints", "Tells a client where this deployment signs in and manages.", &[(200, Of("Anything"), "One object, or an array for older api-versions.")])),
    ask("OpenApi_Get", "This document.", &[(200, Of("Anything"), "OpenAPI 3.1.")]),
    ask("OpenId_ConfigurationV2", "The tenant's OpenID configuration.", &[(200, Of("OpenIdConfiguration"), "The configuration.")]),
    ask("OpenId_Configuration", "The tenant's OpenID configuration, as under `/adfs`.", &[(200, Of("OpenIdConfiguration"), "The configuration.")]),
    ask("OpenId_KeysV2", "The public halves of the signing keys.", &[(200, Of("KeySet"), "A JSON web key set.")]),
    ask("OpenId_Keys", "The public halves of the signing keys.", &[(200, Of("KeySet"), "A JSON web key set.")]),
    send("OAuth_TokenV2", "Gives a token.", Form("TokenRequest"), TOKEN),
    send("OAuth_Token", "Gives a token.", Form("TokenRequest"), TOKEN),
    send("OAuth_AdfsTokenV2", "Gives a token.", Form("TokenRequest"), TOKEN),
    send("OAuth_AdfsToken", "Gives a token.", Form("TokenRequest"), TOKEN),
    with_query(SIGN_IN, ask("OAuth_AuthorizeV2", "The page that asks a person who they are.", PAGES)),
    send("OAuth_SignInV2", "A form of the sign-in pages.", Form("Anything"), PAGES),
    send("OAuth_DeviceCodeV2", "Gives a device code (RFC 8628).", Form("Anything"), DEVICE),
    with_query(&["user_code"], ask("OAuth_DevicePageV2", "The page that asks for another device's code.", PAGES)),
    send("OAuth_EnterUserCodeV2", "Takes another device's code.", Form("Anything"), PAGES),
    with_query(&["id_token_hint", "post_logout_redirect_uri", "state"], ask("OAuth_SignOutV2", "Signs out in the browser.", PAGES)),
    send("OAuth_SignOutPostV2", "Signs out in the browser.", Form("Anything"), PAGES),
    send("OAuth_RevokeV2", "Ends the session of a token (RFC 7009).", Form("Anything"), REVOKED),
    with_query(SIGN_IN, ask("OAuth_Authorize", "The page that asks a person who they are.", PAGES)),
    send("OAuth_SignIn", "A form of the sign-in pages.", Form("Anything"), PAGES),
    send("OAuth_DeviceCode", "Gives a device code (RFC 8628).", Form("Anything"), DEVICE),
    with_query(&["user_code"], ask("OAuth_DevicePage", "The page that asks for another device's code.", PAGES)),
    send("OAuth_EnterUserCode", "Takes another device's code.", Form("Anything"), PAGES),
    with_query(&["id_token_hint", "post_logout_redirect_uri", "state"], ask("OAuth_SignOut", "Signs out in the browser.", PAGES)),
    send("OAuth_SignOutPost", "Signs out in the browser.", Form("Anything"), PAGES),
    send("OAuth_Revoke", "Ends the session of a token (RFC 7009).", Form("Anything"), REVOKED),
];
