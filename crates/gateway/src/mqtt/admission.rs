//! How fast new connections are let in: a fleet that lost its region comes back at a set rate, whatever it does.
//!
//! A connection is admitted when a token is there, waits in line when the line is short enough to be served in time, and is
//! closed at once otherwise: its device comes again with its own back-off. It costs nothing before it is admitted; the TLS
//! handshake comes after.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;
use types::limits;

/// The rate at which a listener admits new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    pub per_second: u32,
    /// So many at once after a quiet time.
    pub burst: u32,
    /// Longest time in line.
    pub wait_ms: u64,
}

impl Default for Admission {
    fn default() -> Self {
        Admission {
            per_second: limits::RECONNECTS_PER_SECOND,
            burst: limits::RECONNECT_BURST,
            wait_ms: limits::RECONNECT_WAIT_MS,
        }
    }
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Bucket {
            per_second: f64::from(per_second),
            burst,
            tokens: burst,
            at: now,
        }
    }

    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.at = self.at.max(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    /// When the next token is there; `None`: never.
    fn ready(&self) -> Option<Instant> {
        let missing = (1.0 - self.tokens).max(0.0);
        if missing > 0.0 && self.per_second <= 0.0 {
            return None;
        }
        // Rounded up: a timer that fires a moment early would find nothing.
        let micros = (missing / self.per_second * 1e6).ceil();
        self.at.checked_add(Duration::from_micros(micros as u64))
    }
}

/// What becomes of an arrival.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    Admitted(T),
    Waits,
    Refused,
}

/// The line before a listener's door.
#[derive(Debug)]
pub(super) struct Door<T> {
    bucket: Bucket,
    line: VecDeque<T>,
    line_max: usize,
}

impl<T> Door<T> {
    pub fn new(admission: Admission, now: Instant) -> Self {
        let served_in_time = u64::from(admission.per_second) * admission.wait_ms / 1000;
        Door {
            bucket: Bucket::new(admission.per_second, admission.burst, now),
            line: VecDeque::new(),
            line_max: (served_in_time as usize).min(limits::CONNECTIONS_MAX),
        }
    }

    pub fn arrive(&mut self, one: T, now: Instant) -> Verdict<T> {
        if self.line.is_empty() && self.bucket.take(now) {
            Verdict::Admitted(one)
        } else if self.line.len() < self.line_max {
            self.line.push_back(one);
            Verdict::Waits
        } else {
            Verdict::Refused
        }
    }

    /// The first in line, if it may go in now.
    pub fn next(&mut self, now: Instant) -> Option<T> {
        if self.line.is_empty() || !self.bucket.take(now) {
            return None;
        }
        let first = self.line.pop_front();
        if self.line.is_empty() {
            // A quiet listener keeps no memory of the rush.
            self.line = VecDeque::new();
        }
        first
    }

    /// When to call [`Door::next`].
    pub fn wake(&self) -> Option<Instant> {
        if self.line.is_empty() {
            return None;
        }
        self.bucket.ready()
    }

    pub fn waiting(&self) -> usize {
        self.line.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMISSION: Admission = Admission {
        per_second: 100,
        burst: 10,
        wait_ms: 500,
    };

    fn after(begin: Instant, millis: u64) -> Instant {
        begin + Duration::from_millis(millis)
    }

    #[test]
    fn a_rush_is_admitted_in_order_at_the_set_rate() {
        let begin = Instant::now();
        let mut door = Door::new(ADMISSION, begin);
        let verdicts: Vec<_> = (0..100).map(|n| door.arrive(n, begin)).collect();
        let count =
            |wanted: fn(&Verdict<i32>) -> bool| verdicts.iter().filter(|v| wanted(v)).count();
        assert_eq!(count(|v| matches!(v, Verdict::Admitted(_))), 10);
        assert_eq!(count(|v| *v == Verdict::Waits), 50);
        assert_eq!(count(|v| *v == Verdict::Refused), 40);

        let mut admitted = Vec::new();
        let mut now = begin;
        while let Some(wake) = door.wake() {
            assert!(wake > now, "the door is not looked at in vain");
            now = wake;
            admitted.extend(std::iter::from_fn(|| door.next(now)));
        }
        assert_eq!(admitted, (10..60).collect::<Vec<_>>());
        let took = now - begin;
        assert!(
            took >= Duration::from_millis(499) && took < Duration::from_millis(520),
            "{took:?}"
        );
    }

    #[test]
    fn nobody_overtakes_the_line() {
        let begin = Instant::now();
        let mut door = Door::new(ADMISSION, begin);
        for n in 0..11 {
            door.arrive(n, begin);
        }
        assert_eq!(door.arrive(11, after(begin, 300)), Verdict::Waits);
        assert_eq!(door.next(after(begin, 300)), Some(10));
        assert_eq!(door.next(after(begin, 300)), Some(11));
        assert_eq!(door.wake(), None);
    }

    #[test]
    fn quiet_times_save_up_no_more_than_a_burst() {
        let begin = Instant::now();
        let mut door = Door::new(ADMISSION, begin);
        let later = after(begin, 3_600_000);
        let admitted = (0..100)
            .filter(|n| matches!(door.arrive(*n, later), Verdict::Admitted(_)))
            .count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn a_rate_of_nothing_admits_its_burst_and_never_wakes() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(0, 1, begin);
        assert!(bucket.take(begin));
        assert!(!bucket.take(after(begin, 3_600_000)));
        assert_eq!(bucket.ready(), None);
    }
}
