//! Sessions: sign-ins that are renewed with a refresh token, which changes each time it is used.

use super::DirectoryAnswer;
use super::apply::{Mistakes, exists, no_grant};
use super::grants::groups_bounded;
use super::model::{Directory, Secret, Session, User};
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::refusal::{Refusal, RefusalCode};
use types::{UnixMillis, limits};

/// What a refresh token meets.
enum Presented {
    Good(String),
    /// It was used before: two hold it, and nobody knows which is the thief.
    UsedBefore(String),
}

impl Directory {
    /// The session of this id, if it is good at `now`.
    pub fn session(&self, id: &str, now: UnixMillis) -> Option<&Session> {
        self.sessions.get(id).filter(|known| known.expires > now)
    }

    fn presented(&self, given: &Secret, now: UnixMillis) -> Option<Presented> {
        let mut alive = self.sessions.values().filter(|known| known.expires > now);
        let found = alive.find(|known| {
            known.refresh == *given || known.refresh_before.as_ref() == Some(given)
        })?;
        Some(match found.refresh == *given {
            true => Presented::Good(found.id.clone()),
            false => Presented::UsedBefore(found.id.clone()),
        })
    }

    /// Beyond which a session is not renewed: what its provider said of the person must be asked again some time.
    fn absolute_end(&self, session: &Session) -> Option<UnixMillis> {
        let user = self.users.get(&session.user);
        let external = user.is_some_and(|user| user.external.is_some());
        let bounded = external || !session.groups.is_empty();
        bounded.then(|| session.created.plus(limits::SESSION_EXTERNAL_MS_MAX))
    }

    /// Sessions of a user that became a provider's person end as theirs do.
    pub(super) fn bound_sessions(&mut self, user: &User) {
        if user.external.is_none() {
            return;
        }
        let of = |known: &&mut Session| known.user == user.object_id;
        for session in self.sessions.values_mut().filter(of) {
            let end = session.created.plus(limits::SESSION_EXTERNAL_MS_MAX);
            session.expires = session.expires.min(end);
        }
    }

    /// The one not used for longest gives way.
    fn make_room(&mut self, user: &str) {
        let of: Vec<_> = self
            .sessions
            .values()
            .filter(|known| known.user == user)
            .collect();
        if of.len() < limits::SESSIONS_PER_USER_MAX {
            return;
        }
        let oldest = of.iter().min_by_key(|known| (known.last_used, &known.id));
        if let Some(id) = oldest.map(|known| known.id.clone()) {
            self.sessions.remove(&id);
        }
    }
}

impl State {
    pub(super) fn put_session(
        &mut self,
        call: Call<'_>,
        session: &Session,
    ) -> Result<Answer, Refusal> {
        self.enabled_user(&session.user)?;
        session_mistakes(session)?;
        self.directory.forget_expired(call.at);
        let end = self.directory.absolute_end(session);
        let session = &Session {
            expires: end.map_or(session.expires, |end| session.expires.min(end)),
            ..session.clone()
        };
        if let Some(known) = self.directory.sessions.get(&session.id) {
            return match known == session {
                true => Ok(answer(known.clone())),
                false => Err(exists("The id of this session is in use.")),
            };
        }
        self.directory.make_room(&session.user);
        self.changed();
        self.directory
            .sessions
            .insert(session.id.clone(), session.clone());
        Ok(answer(session.clone()))
    }

    pub(super) fn renew_session(
        &mut self,
        call: Call<'_>,
        given: &Secret,
        next: &Secret,
        until: UnixMillis,
    ) -> Result<Answer, Refusal> {
        let id = match self.directory.presented(given, call.at) {
            None => return Err(no_grant()),
            Some(Presented::Good(id)) => id,
            Some(Presented::UsedBefore(id)) => {
                self.changed();
                self.directory.sessions.remove(&id);
                return Err(Refusal::new(
                    RefusalCode::GrantInvalid,
                    "The refresh token was used before, so its session was ended: sign in again.",
                ));
            }
        };
        let known = self.directory.sessions.get(&id).ok_or_else(no_grant)?;
        let end = self.directory.absolute_end(known);
        let over = end.is_some_and(|end| end <= call.at);
        if over || self.enabled_user(&known.user).is_err() || next == given || next.0.is_empty() {
            return Err(no_grant());
        }
        self.changed();
        self.directory.forget_expired(call.at);
        let session = self.directory.sessions.get_mut(&id).ok_or_else(no_grant)?;
        session.refresh_before = Some(std::mem::replace(&mut session.refresh, next.clone()));
        session.last_used = call.at;
        session.expires = end.map_or(until, |end| until.min(end));
        Ok(answer(session.clone()))
    }

    pub(super) fn end_session(&mut self, id: &str) -> Result<Answer, Refusal> {
        if self.directory.sessions.remove(id).is_none() {
            return Ok(Answer::Absent);
        }
        self.changed();
        Ok(Answer::Done)
    }

    pub(super) fn end_sessions(&mut self, user: &str) -> Result<Answer, Refusal> {
        self.user_or_refuse(user)?;
        self.changed();
        self.directory.end_sessions_of(user, None);
        Ok(Answer::Done)
    }
}

fn session_mistakes(session: &Session) -> Result<(), Refusal> {
    let mut mistakes = Mistakes::default();
    let ids = limits::DIRECTORY_ID_CHARS_MAX;
    mistakes.plain("id", &session.id, "-_.", ids);
    mistakes.text("clientId", &session.client_id, ids);
    mistakes.wrong(
        session.refresh.0.is_empty() || session.refresh.0.len() > ids,
        || "refresh: the hash of a refresh token is expected".into(),
    );
    let address = session.address.as_deref().unwrap_or_default();
    mistakes.wrong(address.len() > ids, || "address: it is too long".into());
    mistakes.refuse(RefusalCode::DirectoryObjectInvalid)?;
    groups_bounded(&session.groups)
}

fn answer(session: Session) -> Answer {
    Answer::Directory(DirectoryAnswer::Session(Box::new(session)))
}
