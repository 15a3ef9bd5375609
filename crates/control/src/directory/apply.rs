//! The directory's commands, each family in its file.

use super::command::DirectoryCommand;
use super::model::Directory;
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::refusal::{Refusal, RefusalCode};
use types::UnixMillis;

impl State {
    pub(crate) fn directory_command(
        &mut self,
        call: Call<'_>,
        command: &DirectoryCommand,
    ) -> Result<Answer, Refusal> {
        use DirectoryCommand as D;
        match command {
            D::PutUser { user, expected } => self.put_user(call, user, expected.as_deref()),
            D::DeleteUser { object_id } => self.delete_user(call, object_id),
            D::SetPassword {
                object_id,
                password,
                expired,
                keep,
            } => self.set_password(call, object_id, password, *expired, keep.as_deref()),
            D::SignInFailed { object_id } => self.sign_in_failed(call, object_id),
            D::SignedIn { object_id } => self.signed_in(call, object_id),
            D::UnlockUser { object_id } => self.unlock_user(object_id),
            D::PutApplication {
                application,
                expected,
            } => self.put_application(call, application, expected.as_deref()),
            D::DeleteApplication { client_id } => self.delete_application(call, client_id),
            D::PutCode { hash, code } => self.put_code(call, hash, code),
            D::TakeCode { hash } => self.take_code(call, hash),
            D::PutDeviceCode { hash, code } => self.put_device_code(call, hash, code),
            D::DecideDeviceCode {
                user_code,
                standing,
            } => self.decide_device_code(call, user_code, standing),
            D::TakeDeviceCode { hash } => self.take_device_code(call, hash),
            D::PutSession(session) => self.put_session(call, session),
            D::RenewSession { given, next, until } => self.renew_session(call, given, next, *until),
            D::EndSession { id } => self.end_session(id),
            D::EndSessions { user } => self.end_sessions(user),
            D::PutProvider { provider, expected } => {
                self.put_provider(provider, expected.as_deref())
            }
            D::DeleteProvider { name } => self.delete_provider(name),
            D::AddKey(key) => self.add_key(call, key),
        }
    }
}

impl Directory {
    /// Drops what is good no more. Called as others come, so that nothing has to wake up for it.
    pub(super) fn forget_expired(&mut self, now: UnixMillis) {
        self.codes.retain(|_, code| code.expires > now);
        self.device_codes.retain(|_, code| code.expires > now);
        self.sessions.retain(|_, session| session.expires > now);
    }

    /// Ends the sessions of a user, but for the one named; and drops the codes that would make new ones.
    pub(super) fn end_sessions_of(&mut self, user: &str, keep: Option<&str>) {
        self.sessions
            .retain(|id, session| session.user != user || Some(id.as_str()) == keep);
        self.codes.retain(|_, code| code.user != user);
        self.device_codes
            .retain(|_, code| !matches!(&code.standing, super::model::DeviceCodeStanding::Approved { user: of, .. } if of == user));
    }
}

/// Every mistake of a definition, named; a refusal if there are any.
#[derive(Default)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    pub fn wrong(&mut self, when: bool, what: impl FnOnce() -> String) {
        if when {
            self.0.push(what());
        }
    }

    /// A text that must have between 1 and `most` characters, none of them a control character.
    pub fn text(&mut self, name: &str, text: &str, most: usize) {
        let count = text.chars().count();
        self.wrong(!(1..=most).contains(&count), || {
            format!("{name}: it must have 1 to {most} characters")
        });
        self.wrong(text.chars().any(char::is_control), || {
            format!("{name}: control characters are not allowed")
        });
    }

    /// As [`Mistakes::text`], of ASCII letters, digits and the characters of `also`.
    pub fn plain(&mut self, name: &str, text: &str, also: &str, most: usize) {
        self.text(name, text, most);
        let fits = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
        self.wrong(!text.chars().all(fits), || {
            format!("{name}: only letters, digits and {also} are allowed")
        });
    }

    pub fn refuse(self, code: RefusalCode) -> Result<(), Refusal> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Refusal::new(code, self.0.join("; "))),
        }
    }
}

/// Refuses to write over what is not as its writer read it; what is as wanted already needs no writing.
pub(super) fn as_read<T>(
    known: Option<&T>,
    expected: Option<&T>,
    wanted: &T,
    same: impl Fn(&T, &T) -> bool,
) -> Result<(), Refusal> {
    let fits = match (known, expected) {
        (None, None) => true,
        (Some(known), Some(expected)) if same(known, expected) => true,
        (Some(known), _) => same(known, wanted),
        (None, Some(_)) => false,
    };
    match fits {
        true => Ok(()),
        false => Err(Refusal::new(
            RefusalCode::PreconditionFailed,
            "It was made, changed or deleted meanwhile. Try again.",
        )),
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::DirectoryObjectInvalid, message)
}

pub(super) fn exists(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::DirectoryObjectExists, message)
}

pub(super) fn absent(what: &str, id: &str) -> Refusal {
    Refusal::new(
        RefusalCode::DirectoryObjectNotFound,
        format!("The {what} '{}' was not found.", crate::naming::shown(id)),
    )
}

pub(super) fn full(what: &str, most: usize) -> Refusal {
    Refusal::new(
        RefusalCode::QuotaExceeded,
        format!("There are {most} {what} already, which is the most there may be."),
    )
}

/// The same words for whatever is wrong with a code or token: who guesses learns nothing.
pub(super) fn no_grant() -> Refusal {
    Refusal::new(
        RefusalCode::GrantInvalid,
        "The code or token is not known, was used, or has expired.",
    )
}
