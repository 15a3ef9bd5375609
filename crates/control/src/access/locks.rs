//! Locks: put, deleted, and enforced.

use super::command::AccessAnswer;
use super::model::{Lock, LockLevel};
use crate::apply::Call;
use crate::command::Answer;
use crate::directory::Mistakes;
use crate::model::State;
use crate::naming::shown;
use crate::refusal::{Refusal, RefusalCode};
use types::limits;

impl State {
    pub(super) fn put_lock(&mut self, call: Call<'_>, wanted: &Lock) -> Result<Answer, Refusal> {
        let mut mistakes = Mistakes::default();
        mistakes.text("name", &wanted.name, limits::LOCK_NAME_CHARS_MAX);
        mistakes.wrong(
            wanted.name.contains(['/', '\\', '<', '>', '%', '&', '?']),
            || "name: / \\ < > % & ? are not allowed".into(),
        );
        let notes = wanted.notes.as_deref().unwrap_or_default();
        let most = limits::LOCK_NOTES_CHARS_MAX;
        mistakes.wrong(notes.chars().count() > most, || {
            format!("notes: they must not exceed {most} characters")
        });
        let scope = self.scope_path(&wanted.scope);
        mistakes.wrong(scope.is_none(), || {
            format!("scope: '{}' names nothing here", shown(&wanted.scope))
        });
        mistakes.refuse(RefusalCode::InvalidProperties)?;
        let scope = scope.unwrap_or_default();
        let keys = (scope.to_lowercase(), wanted.name.to_lowercase());
        let of = self.access.locks.get(&keys.0);
        let before = of.and_then(|of| of.get(&keys.1)).cloned();
        let next = Lock {
            scope,
            created: before.as_ref().map_or(call.at, |known| known.created),
            by: before
                .as_ref()
                .map_or_else(|| call.by.to_owned(), |known| known.by.clone()),
            name: before
                .as_ref()
                .map_or_else(|| wanted.name.clone(), |known| known.name.clone()),
            ..wanted.clone()
        };
        if before.is_none() && self.locks().count() >= limits::LOCKS_MAX {
            let message = format!(
                "There are {} locks already, the most there may be.",
                limits::LOCKS_MAX
            );
            return Err(Refusal::new(RefusalCode::QuotaExceeded, message));
        }
        if before.as_ref() != Some(&next) {
            self.changed();
            let of = self.access.locks.entry(keys.0).or_default();
            of.insert(keys.1, next.clone());
        }
        Ok(Answer::Access(AccessAnswer::Lock {
            lock: Box::new(next),
            created: before.is_none(),
        }))
    }

    pub(super) fn delete_lock(&mut self, scope: &str, name: &str) -> Result<Answer, Refusal> {
        let scope = self.scope_path(scope).unwrap_or_else(|| scope.to_owned());
        let (scope, name) = (scope.to_lowercase(), name.to_lowercase());
        let of = self.access.locks.get_mut(&scope);
        if of.and_then(|of| of.remove(&name)).is_none() {
            return Ok(Answer::Absent);
        }
        self.access.locks.retain(|_, of| !of.is_empty());
        self.changed();
        Ok(Answer::Done)
    }

    /// All locks, by scope and name.
    pub fn locks(&self) -> impl Iterator<Item = &Lock> {
        self.access.locks.values().flat_map(|of| of.values())
    }

    /// Refuses an action that a lock keeps from being done at a scope.
    ///
    /// # Errors
    /// [`RefusalCode::ScopeLocked`], naming the lock.
    pub fn not_locked_against(&self, action: &str, scope: &str) -> Result<(), Refusal> {
        let Some(lock) = self.lock_against(action, scope) else {
            return Ok(());
        };
        let what = match lock.level {
            LockLevel::CanNotDelete => "cannot perform delete operation",
            LockLevel::ReadOnly => "cannot perform write operation",
        };
        let message = format!(
            "The scope '{}' {what} because following scope(s) are locked: '{}' (lock '{}'). Please remove the lock and try again.",
            shown(scope),
            lock.scope,
            lock.name
        );
        Err(Refusal::new(RefusalCode::ScopeLocked, message))
    }
}
