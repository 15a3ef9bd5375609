//! What a client asks before it has a token, and how it gets one.

use super::*;
use crate::{identity, metadata};

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    open("GET", "/metadata/endpoints", "Metadata_Endpoints", metadata::endpoints),
    open("GET", "/{tenant}/v2.0/.well-known/openid-configuration", "OpenId_ConfigurationV2", identity::configuration),
    open("GET", "/{tenant}/.well-known/openid-configuration", "OpenId_Configuration", identity::configuration),
    open("GET", "/{tenant}/discovery/v2.0/keys", "OpenId_KeysV2", identity::keys),
    open("GET", "/{tenant}/discovery/keys", "OpenId_Keys", identity::keys),
    open("POST", "/{tenant}/oauth2/v2.0/token", "OAuth_TokenV2", identity::token),
    open("POST", "/{tenant}/oauth2/token", "OAuth_Token", identity::token),
    open("POST", "/adfs/{tenant}/oauth2/v2.0/token", "OAuth_AdfsTokenV2", identity::token),
    open("POST", "/adfs/{tenant}/oauth2/token", "OAuth_AdfsToken", identity::token),
];
