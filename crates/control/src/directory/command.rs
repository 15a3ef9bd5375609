//! What may be asked of the directory.

use super::model::*;
use serde::{Deserialize, Serialize};
use types::UnixMillis;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DirectoryCommand {
    /// Makes a user, or changes display name, enabled, password and external identity of the one with this object id. Without
    /// a password it keeps the one it has.
    PutUser {
        user: Box<User>,
        /// As its writer read it; refused if it is not so any more. `None`: it must not be there yet.
        #[serde(default)]
        expected: Option<Box<User>>,
    },
    DeleteUser {
        object_id: String,
    },
    /// Sets a password's hash; ends every session of the user but `keep`.
    SetPassword {
        object_id: String,
        password: Secret,
        expired: bool,
        keep: Option<String>,
    },
    /// A wrong password. Locks the user after so many in a row.
    SignInFailed {
        object_id: String,
    },
    /// A right password or an external sign-in: forgets failures, notes the time.
    SignedIn {
        object_id: String,
    },
    /// Lets passwords of a locked user count again, and forgets failures.
    UnlockUser {
        object_id: String,
    },
    PutApplication {
        application: Box<Application>,
        /// As in [`DirectoryCommand::PutUser`].
        #[serde(default)]
        expected: Option<Box<Application>>,
    },
    DeleteApplication {
        client_id: String,
    },
    /// An authorization code was given out; `hash`: hex SHA-256 of it.
    PutCode {
        hash: String,
        code: AuthorizationCode,
    },
    /// Redeems a code: it is gone afterwards. → [`DirectoryAnswer::Code`].
    TakeCode {
        hash: String,
    },
    PutDeviceCode {
        hash: String,
        code: DeviceCode,
    },
    /// A person approves or denies by user code.
    DecideDeviceCode {
        user_code: String,
        standing: DeviceCodeStanding,
    },
    /// Redeems a device code that was approved or denied; one that is pending stays. → [`DirectoryAnswer::DeviceCode`].
    TakeDeviceCode {
        hash: String,
    },
    PutSession(Box<Session>),
    /// Changes the refresh token of a session: `given` is the one presented (hex SHA-256), `next` the new one. One that was
    /// used before ends the session. → [`DirectoryAnswer::Session`].
    RenewSession {
        given: Secret,
        next: Secret,
        until: UnixMillis,
    },
    EndSession {
        id: String,
    },
    /// Ends every session of a user.
    EndSessions {
        user: String,
    },
    PutProvider {
        provider: Box<IdentityProvider>,
        /// As in [`DirectoryCommand::PutUser`].
        #[serde(default)]
        expected: Option<Box<IdentityProvider>>,
    },
    /// Its users are not its people any more, and its groups lose their roles.
    DeleteProvider {
        name: String,
    },
    /// A new signing key; keys whose tokens can no longer be good are dropped.
    AddKey(SigningKey),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DirectoryAnswer {
    User(Box<User>),
    Application(Box<Application>),
    Session(Box<Session>),
    Code(Box<AuthorizationCode>),
    DeviceCode(Box<DeviceCode>),
    Provider(Box<IdentityProvider>),
}
