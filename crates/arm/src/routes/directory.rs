//! Who may sign in (docs/formats/directory-api.md).

use super::*;
use crate::directory::{applications, me, providers, sessions, users};
use crate::external;

macro_rules! identity {
    ($rest:literal) => {
        concat!("/providers/Castling.Identity", $rest)
    };
}

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    read("GET", identity!("/users"), "Users_List", "Castling.Identity/users/read", users::list),
    read("GET", identity!("/users/{user}"), "Users_Get", "Castling.Identity/users/read", users::get),
    act("PUT", identity!("/users/{user}"), "Users_Put", "Castling.Identity/users/write", |call| Box::pin(users::put(call))),
    act("PATCH", identity!("/users/{user}"), "Users_Update", "Castling.Identity/users/write", |call| Box::pin(users::patch(call))),
    act("DELETE", identity!("/users/{user}"), "Users_Delete", "Castling.Identity/users/delete", |call| Box::pin(users::delete(call))),
    act("POST", identity!("/users/{user}/setPassword"), "Users_SetPassword", "Castling.Identity/users/setPassword/action", |call| Box::pin(users::set_password(call))),
    act("POST", identity!("/users/{user}/unlock"), "Users_Unlock", "Castling.Identity/users/unlock/action", |call| Box::pin(users::unlock(call))),
    act("POST", identity!("/users/{user}/endSessions"), "Users_EndSessions", "Castling.Identity/users/endSessions/action", |call| Box::pin(users::end_sessions(call))),
    read("GET", identity!("/applications"), "Applications_List", "Castling.Identity/applications/read", applications::list),
    read("GET", identity!("/applications/{application}"), "Applications_Get", "Castling.Identity/applications/read", applications::get),
    act("PUT", identity!("/applications/{application}"), "Applications_Put", "Castling.Identity/applications/write", |call| Box::pin(applications::put(call))),
    act("PATCH", identity!("/applications/{application}"), "Applications_Update", "Castling.Identity/applications/write", |call| Box::pin(applications::patch(call))),
    act("DELETE", identity!("/applications/{application}"), "Applications_Delete", "Castling.Identity/applications/delete", |call| Box::pin(applications::delete(call))),
    act("POST", identity!("/applications/{application}/addSecret"), "Applications_AddSecret", "Castling.Identity/applications/addSecret/action", |call| Box::pin(applications::add_secret(call))),
    act("POST", identity!("/applications/{application}/removeSecret"), "Applications_RemoveSecret", "Castling.Identity/applications/removeSecret/action", |call| Box::pin(applications::remove_secret(call))),
    act("POST", identity!("/applications/{application}/addCertificate"), "Applications_AddCertificate", "Castling.Identity/applications/addCertificate/action", |call| Box::pin(applications::add_certificate(call))),
    act("POST", identity!("/applications/{application}/removeCertificate"), "Applications_RemoveCertificate", "Castling.Identity/applications/removeCertificate/action", |call| Box::pin(applications::remove_certificate(call))),
    read("GET", identity!("/sessions"), "Sessions_List", "Castling.Identity/sessions/read", sessions::list),
    read("GET", identity!("/sessions/{session}"), "Sessions_Get", "Castling.Identity/sessions/read", sessions::get),
    act("DELETE", identity!("/sessions/{session}"), "Sessions_End", "Castling.Identity/sessions/delete", |call| Box::pin(sessions::end(call))),
    read("GET", identity!("/identityProviders"), "IdentityProviders_List", "Castling.Identity/identityProviders/read", providers::list),
    read("GET", identity!("/identityProviders/{provider}"), "IdentityProviders_Get", "Castling.Identity/identityProviders/read", providers::get),
    act("PUT", identity!("/identityProviders/{provider}"), "IdentityProviders_Put", "Castling.Identity/identityProviders/write", |call| Box::pin(providers::put(call))),
    act("PATCH", identity!("/identityProviders/{provider}"), "IdentityProviders_Update", "Castling.Identity/identityProviders/write", |call| Box::pin(providers::patch(call))),
    act("DELETE", identity!("/identityProviders/{provider}"), "IdentityProviders_Delete", "Castling.Identity/identityProviders/delete", |call| Box::pin(providers::delete(call))),
    read("GET", identity!("/me"), "Me_Get", "", me::get),
    act("POST", identity!("/me/setPassword"), "Me_SetPassword", "", |call| Box::pin(me::set_password(call))),
    act("POST", identity!("/me/endSessions"), "Me_EndSessions", "", |call| Box::pin(me::end_sessions(call))),
    act("DELETE", identity!("/me/sessions/{session}"), "Me_EndSession", "", |call| Box::pin(me::end_session(call))),
    open_act("GET", "/{tenant}/oauth2/external/{provider}", "External_Start", external::start),
];

/// Where browsers come back to; before [`ROUTES`], whose `{provider}` takes this word too.
#[rustfmt::skip]
pub static CALLBACK: &[Route] = &[
    open_act("GET", "/{tenant}/oauth2/external/callback", "External_Callback", external::callback),
];
