//! Wrong secrets within the last minute, per client id.

use std::collections::{BTreeMap, VecDeque};
use types::{UnixMillis, limits};

/// Times of recent wrong secrets by client id; bounded in clients and in times.
#[derive(Default)]
pub(super) struct Attempts {
    by_client: BTreeMap<String, VecDeque<UnixMillis>>,
}

impl Attempts {
    /// True if a client has had as many wrong secrets as it may within the window before `now`.
    pub fn exhausted(&mut self, client: &str, now: UnixMillis) -> bool {
        let Some(times) = self.by_client.get_mut(client) else {
            return false;
        };
        times.retain(|at| is_recent(*at, now));
        times.len() >= limits::MANAGEMENT_WRONG_SECRETS_MAX
    }

    /// Counts a wrong secret.
    pub fn note(&mut self, client: &str, now: UnixMillis) {
        if !self.by_client.contains_key(client) {
            self.make_room();
        }
        let times = self.by_client.entry(client.to_owned()).or_default();
        if times.len() >= limits::MANAGEMENT_WRONG_SECRETS_MAX {
            times.pop_front();
        }
        times.push_back(now);
    }

    fn make_room(&mut self) {
        while self.by_client.len() >= limits::MANAGEMENT_WRONG_CLIENTS_MAX {
            let oldest = self
                .by_client
                .iter()
                .min_by_key(|(_, times)| times.back().copied())
                .map(|(client, _)| client.clone());
            match oldest {
                Some(client) => drop(self.by_client.remove(&client)),
                None => return,
            }
        }
    }
}

/// A clock that was set back must not keep a client out for longer than the window.
fn is_recent(at: UnixMillis, now: UnixMillis) -> bool {
    now.since(at).saturating_abs() < limits::MANAGEMENT_WRONG_SECRETS_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_secrets_within_a_minute_are_too_many_and_it_passes() {
        let mut attempts = Attempts::default();
        for n in 0..10 {
            assert!(!attempts.exhausted("a", UnixMillis(n)));
            attempts.note("a", UnixMillis(n));
        }
        assert!(attempts.exhausted("a", UnixMillis(59_999)));
        assert!(!attempts.exhausted("b", UnixMillis(59_999)));
        assert!(!attempts.exhausted("a", UnixMillis(60_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lock_out_for_long() {
        let mut attempts = Attempts::default();
        for _ in 0..10 {
            attempts.note("a", UnixMillis(86_400_000));
        }
        assert!(!attempts.exhausted("a", UnixMillis(0)));
    }

    #[test]
    fn memory_is_bounded_in_clients_and_times() {
        let mut attempts = Attempts::default();
        for n in 0..limits::MANAGEMENT_WRONG_CLIENTS_MAX + 5 {
            for _ in 0..20 {
                attempts.note(&n.to_string(), UnixMillis(n as i64));
            }
        }
        assert_eq!(
            attempts.by_client.len(),
            limits::MANAGEMENT_WRONG_CLIENTS_MAX
        );
        assert!(!attempts.by_client.contains_key("0"));
        assert!(
            attempts
                .by_client
                .values()
                .all(|times| times.len() <= limits::MANAGEMENT_WRONG_SECRETS_MAX)
        );
    }
}
