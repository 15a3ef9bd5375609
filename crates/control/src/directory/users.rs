//! Users: made and changed, their passwords, failed sign-ins and locks.

use super::apply::{Mistakes, absent, as_read, exists, full, invalid};
use super::model::{Directory, Secret, User};
use super::{DirectoryAnswer, DirectoryCommand};
use crate::apply::Call;
use crate::command::Answer;
use crate::iso::iso8601;
use crate::model::State;
use crate::naming::shown;
use crate::refusal::{Refusal, RefusalCode};
use types::{UnixMillis, limits};

/// How every password hash begins: anything else came here by mistake.
const ARGON2ID: &str = "$argon2id$";
const PASSWORD_CHARS_MAX: usize = 512;

impl User {
    /// Whether there is any way for this user to sign in.
    pub fn can_sign_in(&self) -> bool {
        self.enabled && (self.password.is_some() || self.external.is_some())
    }

    /// Whether these are alike, but for what sign-ins change and when it was made.
    fn same(&self, other: &User) -> bool {
        let still = User {
            created: self.created,
            failures: self.failures,
            locked_until: self.locked_until,
            last_sign_in: self.last_sign_in,
            ..other.clone()
        };
        *self == still
    }

    /// Until when no password of this user counts, if it is locked at `now`.
    pub fn locked(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.locked_until.filter(|until| *until > now)
    }
}

impl Directory {
    /// The user of this name, in any case.
    pub fn user_named(&self, name: &str) -> Option<&User> {
        let wanted = name.to_lowercase();
        self.users
            .values()
            .find(|user| user.name.to_lowercase() == wanted)
    }

    /// The user that an external provider knows under this subject.
    pub fn user_of(&self, provider: &str, subject: &str) -> Option<&User> {
        let is = |user: &&User| {
            user.external
                .as_ref()
                .is_some_and(|(name, known)| name == provider && known == subject)
        };
        self.users.values().find(is)
    }

    /// Whether a user or an application has this object id.
    pub(super) fn has_object(&self, id: &str) -> bool {
        let same = |known: &str| known.eq_ignore_ascii_case(id);
        self.users.keys().any(|known| same(known))
            || self
                .applications
                .values()
                .any(|application| same(&application.object_id))
    }
}

impl State {
    pub(super) fn user_or_refuse(&self, object_id: &str) -> Result<&User, Refusal> {
        self.directory
            .users
            .get(object_id)
            .ok_or_else(|| absent("user", object_id))
    }

    /// A user that may have sessions and codes.
    pub(super) fn enabled_user(&self, object_id: &str) -> Result<&User, Refusal> {
        let user = self.user_or_refuse(object_id)?;
        match user.enabled {
            true => Ok(user),
            false => Err(invalid(format!("The user '{}' is disabled.", user.name))),
        }
    }

    pub(super) fn put_user(
        &mut self,
        call: Call<'_>,
        wanted: &User,
        expected: Option<&User>,
    ) -> Result<Answer, Refusal> {
        self.user_mistakes(wanted)?;
        let known = self.directory.users.get(&wanted.object_id);
        as_read(known, expected, wanted, User::same)?;
        let next = match known {
            None => self.new_user(call, wanted)?,
            Some(known) => self.changed_user(known, wanted)?,
        };
        let before = self.directory.users.get(&next.object_id);
        if before == Some(&next) {
            return Ok(answer(next));
        }
        let out = before.is_some_and(|before| before.password != next.password) || !next.enabled;
        if out {
            self.directory.end_sessions_of(&next.object_id, None);
        }
        self.changed();
        self.directory
            .users
            .insert(next.object_id.clone(), next.clone());
        self.directory.bound_sessions(&next);
        Ok(answer(next))
    }

    fn user_mistakes(&self, wanted: &User) -> Result<(), Refusal> {
        let mut mistakes = Mistakes::default();
        let ids = limits::DIRECTORY_ID_CHARS_MAX;
        mistakes.plain("objectId", &wanted.object_id, "-_.", ids);
        mistakes.plain("name", &wanted.name, ".-_@+'", ids);
        mistakes.text(
            "displayName",
            &wanted.display_name,
            limits::DIRECTORY_TEXT_CHARS_MAX,
        );
        if let Some(password) = &wanted.password {
            hash_mistakes(&mut mistakes, password);
        }
        if let Some((provider, subject)) = &wanted.external {
            mistakes.plain("external provider", provider, "-", 64);
            mistakes.text(
                "external subject",
                subject,
                limits::DIRECTORY_TEXT_CHARS_MAX,
            );
            let other = self.directory.user_of(provider, subject);
            mistakes.wrong(
                other.is_some_and(|other| other.object_id != wanted.object_id),
                || "external: another user is this person at the provider".into(),
            );
        }
        mistakes.refuse(RefusalCode::DirectoryObjectInvalid)
    }

    fn new_user(&self, call: Call<'_>, wanted: &User) -> Result<User, Refusal> {
        let directory = &self.directory;
        // Records name users and applications by these names: nobody may pass for another.
        let taken = directory.user_named(&wanted.name).is_some()
            || directory
                .applications
                .contains_key(&wanted.name.to_ascii_lowercase());
        if taken {
            return Err(exists(format!(
                "The name '{}' is in use.",
                shown(&wanted.name)
            )));
        }
        if directory.has_object(&wanted.object_id) {
            return Err(exists(format!(
                "The object id '{}' is in use.",
                shown(&wanted.object_id)
            )));
        }
        if directory.users.len() >= limits::USERS_MAX {
            return Err(full("users", limits::USERS_MAX));
        }
        Ok(User {
            created: call.at,
            failures: 0,
            locked_until: None,
            last_sign_in: None,
            ..wanted.clone()
        })
    }

    fn changed_user(&self, known: &User, wanted: &User) -> Result<User, Refusal> {
        if known.name != wanted.name {
            return Err(invalid(format!(
                "The name of a user is never changed: it is '{}'.",
                known.name
            )));
        }
        let next = User {
            display_name: wanted.display_name.clone(),
            enabled: wanted.enabled,
            password: wanted
                .password
                .as_ref()
                .or(known.password.as_ref())
                .cloned(),
            password_expired: wanted.password_expired,
            external: wanted.external.clone(),
            ..known.clone()
        };
        if known.can_sign_in() && !next.can_sign_in() {
            self.not_last_owner(&known.object_id)?;
        }
        Ok(next)
    }

    pub(super) fn delete_user(
        &mut self,
        _call: Call<'_>,
        object_id: &str,
    ) -> Result<Answer, Refusal> {
        if !self.directory.users.contains_key(object_id) {
            return Ok(Answer::Absent);
        }
        self.not_last_owner(object_id)?;
        self.changed();
        self.directory.users.remove(object_id);
        self.directory.end_sessions_of(object_id, None);
        self.access.forget_principal(object_id);
        Ok(Answer::Done)
    }

    pub(super) fn set_password(
        &mut self,
        _call: Call<'_>,
        object_id: &str,
        password: &Secret,
        expired: bool,
        keep: Option<&str>,
    ) -> Result<Answer, Refusal> {
        self.user_or_refuse(object_id)?;
        let mut mistakes = Mistakes::default();
        hash_mistakes(&mut mistakes, password);
        mistakes.refuse(RefusalCode::DirectoryObjectInvalid)?;
        self.directory.end_sessions_of(object_id, keep);
        self.edit_user(object_id, |user| {
            user.password = Some(password.clone());
            user.password_expired = expired;
            user.failures = 0;
            user.locked_until = None;
        })
    }

    /// Counts a wrong password; every so many in a row lock the user for a while. One that is locked is not counted further.
    pub(super) fn sign_in_failed(
        &mut self,
        call: Call<'_>,
        object_id: &str,
    ) -> Result<Answer, Refusal> {
        self.not_locked(call, object_id)?;
        self.edit_user(object_id, |user| {
            user.failures = user.failures.saturating_add(1);
            if user.failures.is_multiple_of(limits::SIGN_IN_FAILURES_MAX) {
                user.locked_until = Some(call.at.plus(limits::SIGN_IN_LOCK_MS));
            }
        })
    }

    /// A lock holds for passwords: who came in by an external provider, or before the lock, is not kept out by a guesser.
    pub(super) fn signed_in(&mut self, call: Call<'_>, object_id: &str) -> Result<Answer, Refusal> {
        let user = self.enabled_user(object_id)?;
        if user.external.is_none() {
            self.not_locked(call, object_id)?;
        }
        self.edit_user(object_id, |user| {
            user.failures = 0;
            user.locked_until = None;
            user.last_sign_in = Some(call.at);
        })
    }

    pub(super) fn unlock_user(&mut self, object_id: &str) -> Result<Answer, Refusal> {
        self.user_or_refuse(object_id)?;
        self.edit_user(object_id, |user| {
            user.failures = 0;
            user.locked_until = None;
        })
    }

    fn not_locked(&self, call: Call<'_>, object_id: &str) -> Result<(), Refusal> {
        let user = self.user_or_refuse(object_id)?;
        match user.locked(call.at) {
            None => Ok(()),
            Some(until) => {
                let message = format!(
                    "Too many wrong passwords: the user '{}' is locked until {}.",
                    user.name,
                    iso8601(until)
                );
                Err(Refusal::until(RefusalCode::UserLocked, message, until))
            }
        }
    }

    fn edit_user(
        &mut self,
        object_id: &str,
        edit: impl FnOnce(&mut User),
    ) -> Result<Answer, Refusal> {
        self.changed();
        let user = self
            .directory
            .users
            .get_mut(object_id)
            .ok_or_else(|| absent("user", object_id))?;
        edit(user);
        Ok(answer(user.clone()))
    }
}

fn hash_mistakes(mistakes: &mut Mistakes, password: &Secret) {
    mistakes.wrong(!password.0.starts_with(ARGON2ID), || {
        "password: it must come as a hash of argon2id".into()
    });
    mistakes.wrong(password.0.len() > PASSWORD_CHARS_MAX, || {
        format!("password: its hash must not exceed {PASSWORD_CHARS_MAX} characters")
    });
}

fn answer(user: User) -> Answer {
    Answer::Directory(DirectoryAnswer::User(Box::new(user)))
}

/// What the activity log says of a sign-in that failed.
pub(crate) fn failure_text(command: &DirectoryCommand, answer: &Answer) -> Option<String> {
    let DirectoryCommand::SignInFailed { .. } = command else {
        return None;
    };
    let Answer::Directory(DirectoryAnswer::User(user)) = answer else {
        return None;
    };
    let locked = match user.failures.is_multiple_of(limits::SIGN_IN_FAILURES_MAX) {
        true => ", locked now",
        false => "",
    };
    Some(format!(
        "refused: WrongPassword: {} in a row{locked}",
        user.failures
    ))
}
