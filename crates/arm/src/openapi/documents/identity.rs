//! Signing in.

use super::Body::{Form, Of};
use super::*;

const TOKEN: &[(u16, Body, &str)] = &[(200, Of("Token"), "A token.")];

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
];
