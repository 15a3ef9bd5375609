//! What a client asks before it has a token, and how it gets one.

use super::*;
use crate::{identity, metadata, signin};

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    open("GET", "/metadata/endpoints", "Metadata_Endpoints", metadata::endpoints),
    open("GET", "/{tenant}/v2.0/.well-known/openid-configuration", "OpenId_ConfigurationV2", identity::configuration),
    open("GET", "/{tenant}/.well-known/openid-configuration", "OpenId_Configuration", identity::configuration),
    open("GET", "/{tenant}/discovery/v2.0/keys", "OpenId_KeysV2", identity::keys),
    open("GET", "/{tenant}/discovery/keys", "OpenId_Keys", identity::keys),
    open_act("POST", "/{tenant}/oauth2/v2.0/token", "OAuth_TokenV2", identity::token),
    open_act("POST", "/{tenant}/oauth2/token", "OAuth_Token", identity::token),
    open_act("POST", "/adfs/{tenant}/oauth2/v2.0/token", "OAuth_AdfsTokenV2", identity::token),
    open_act("POST", "/adfs/{tenant}/oauth2/token", "OAuth_AdfsToken", identity::token),
    open("GET", "/{tenant}/oauth2/v2.0/authorize", "OAuth_AuthorizeV2", signin::authorize),
    open("GET", "/{tenant}/oauth2/authorize", "OAuth_Authorize", signin::authorize),
    open_act("POST", "/{tenant}/oauth2/v2.0/authorize", "OAuth_SignInV2", signin::submitted),
    open_act("POST", "/{tenant}/oauth2/authorize", "OAuth_SignIn", signin::submitted),
    open_act("POST", "/{tenant}/oauth2/v2.0/devicecode", "OAuth_DeviceCodeV2", identity::device_code),
    open_act("POST", "/{tenant}/oauth2/devicecode", "OAuth_DeviceCode", identity::device_code),
    open("GET", "/{tenant}/oauth2/v2.0/deviceauth", "OAuth_DevicePageV2", signin::device_page),
    open("GET", "/{tenant}/oauth2/deviceauth", "OAuth_DevicePage", signin::device_page),
    open("POST", "/{tenant}/oauth2/v2.0/deviceauth", "OAuth_EnterUserCodeV2", signin::enter_user_code),
    open("POST", "/{tenant}/oauth2/deviceauth", "OAuth_EnterUserCode", signin::enter_user_code),
    open_act("GET", "/{tenant}/oauth2/v2.0/logout", "OAuth_SignOutV2", identity::sign_out),
    open_act("GET", "/{tenant}/oauth2/logout", "OAuth_SignOut", identity::sign_out),
    open_act("POST", "/{tenant}/oauth2/v2.0/logout", "OAuth_SignOutPostV2", identity::sign_out),
    open_act("POST", "/{tenant}/oauth2/logout", "OAuth_SignOutPost", identity::sign_out),
    open_act("POST", "/{tenant}/oauth2/v2.0/revoke", "OAuth_RevokeV2", identity::revoke),
    open_act("POST", "/{tenant}/oauth2/revoke", "OAuth_Revoke", identity::revoke),
];
