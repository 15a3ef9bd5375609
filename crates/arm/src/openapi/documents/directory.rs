//! Who may sign in.

use super::Body::{List, Nothing, Of, Page};
use super::*;

#[rustfmt::skip]
pub static DOCUMENTS: &[Document] = &[
    with_query(&["$top", "$skiptoken"], ask("Users_List", "Lists users.", &[(200, List("DirectoryResource"), "One page; `nextLink` leads to the next.")])),
    ask("Users_Get", "Gets one user.", &[(200, Of("DirectoryResource"), "The user.")]),
    send("Users_Put", "Makes or changes one user.", Of("DirectoryRequest"), &[(200, Of("DirectoryResource"), "Changed."), (201, Of("DirectoryResource"), "Made.")]),
    send("Users_Update", "Changes what is given.", Of("DirectoryRequest"), &[(200, Of("DirectoryResource"), "Changed.")]),
    ask("Users_Delete", "Deletes one user.", &[(200, Nothing, "Deleted."), (204, Nothing, "It was not there.")]),
    may_send("Users_SetPassword", "Sets a password, or makes one and tells it once.", Of("SetPasswordRequest"), &[(200, Of("DirectoryResource"), "The user.")]),
    ask("Users_Unlock", "Lets passwords of a locked user count again.", &[(200, Of("DirectoryResource"), "The user.")]),
    ask("Users_EndSessions", "Ends every session of a user.", &[(200, Nothing, "Ended.")]),
    with_query(&["$top", "$skiptoken"], ask("Applications_List", "Lists applications.", &[(200, List("DirectoryResource"), "One page; `nextLink` leads to the next.")])),
    ask("Applications_Get", "Gets one application.", &[(200, Of("DirectoryResource"), "The application.")]),
    send("Applications_Put", "Makes or changes one application.", Of("DirectoryRequest"), &[(200, Of("DirectoryResource"), "Changed."), (201, Of("DirectoryResource"), "Made.")]),
    send("Applications_Update", "Changes what is given.", Of("DirectoryRequest"), &[(200, Of("DirectoryResource"), "Changed.")]),
    ask("Applications_Delete", "Deletes one application.", &[(200, Nothing, "Deleted."), (204, Nothing, "It was not there.")]),
    may_send("Applications_AddSecret", "Makes a secret; this answer is the only one that has it.", Of("AddSecretRequest"), &[(200, Of("ApplicationSecret"), "The secret.")]),
    send("Applications_RemoveSecret", "Removes a secret.", Of("IdRequest"), &[(200, Of("DirectoryResource"), "The application.")]),
    send("Applications_AddCertificate", "Adds a certificate whose key signs client assertions.", Of("AddCertificateRequest"), &[(200, Of("DirectoryResource"), "The application.")]),
    send("Applications_RemoveCertificate", "Removes a certificate.", Of("IdRequest"), &[(200, Of("DirectoryResource"), "The application.")]),
    with_query(&["$top", "$skiptoken", "user"], ask("Sessions_List", "Lists sessions.", &[(200, List("DirectoryResource"), "One page; `nextLink` leads to the next.")])),
    ask("Sessions_Get", "Gets one session.", &[(200, Of("DirectoryResource"), "The session.")]),
    ask("Sessions_End", "Ends a session: its tokens are good no more.", &[(200, Nothing, "Ended."), (204, Nothing, "It was not there.")]),
    with_query(&["$top", "$skiptoken"], ask("IdentityProviders_List", "Lists external providers.", &[(200, List("DirectoryResource"), "One page; `nextLink` leads to the next.")])),
    ask("IdentityProviders_Get", "Gets one external provider.", &[(200, Of("DirectoryResource"), "The external provider.")]),
    send("IdentityProviders_Put", "Makes or changes one external provider.", Of("DirectoryRequest"), &[(200, Of("DirectoryResource"), "Changed."), (201, Of("DirectoryResource"), "Made.")]),
    send("IdentityProviders_Update", "Changes what is given.", Of("DirectoryRequest"), &[(200, Of("DirectoryResource"), "Changed.")]),
    ask("IdentityProviders_Delete", "Deletes one external provider.", &[(200, Nothing, "Deleted."), (204, Nothing, "It was not there.")]),
    ask("Me_Get", "Who asks: name, groups, roles and own sessions.", &[(200, Of("DirectoryResource"), "The caller.")]),
    send("Me_SetPassword", "Changes the own password; other sessions end.", Of("OwnPasswordRequest"), &[(200, Nothing, "Changed.")]),
    ask("Me_EndSessions", "Ends all own sessions.", &[(200, Nothing, "Ended.")]),
    ask("Me_EndSession", "Ends one own session.", &[(200, Nothing, "Ended.")]),
    with_query(&["request"], ask("External_Start", "Sends a browser to an external provider.", &[(302, Nothing, "To the provider."), (400, Page, "The sign-in is too old."), (404, Page, "There is no such provider."), (502, Page, "The provider did not answer properly.")])),
    with_query(&["code", "state", "iss", "error"], ask("External_Callback", "Where browsers come back to from an external provider.", &[(200, Page, "A page of the sign-in."), (302, Nothing, "Back to the program."), (400, Page, "The sign-in is too old."), (403, Page, "Refused."), (404, Page, "There is no such provider."), (409, Page, "The name is taken."), (502, Page, "The provider did not answer properly.")])),
];
