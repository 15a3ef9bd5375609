//! Book-keeping of one partition's way to its follower: what was sent, what was confirmed, how far it lags.

use std::collections::VecDeque;
use types::{Lsn, UnixMillis, limits};

/// Unconfirmed records whose commit time is remembered one by one; beyond, only every other one is.
const REMEMBERED: usize = 4096;

/// How far the follower is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records committed here and not confirmed there.
    pub lag_records: u64,
    /// Age of the oldest such record, in milliseconds.
    pub lag_ms: i64,
}

/// One partition's shipping state. `None` in `next` means: no follower asked yet, or its link is down.
#[derive(Clone, Debug, Default)]
pub struct Shipper {
    next: Option<Lsn>,
    acked: Lsn,
    in_flight: VecDeque<(Lsn, usize)>,
    in_flight_bytes: usize,
    unconfirmed: VecDeque<(Lsn, UnixMillis)>,
}

impl Shipper {
    /// A follower that has everything up to `has` wants what comes after.
    pub fn follow(&mut self, has: Lsn) {
        self.next = Some(has.next());
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.acked(has);
    }

    /// The link went down, or a page could not be queued: the follower will ask again.
    pub fn disconnect(&mut self) {
        self.next = None;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    pub fn connected(&self) -> bool {
        self.next.is_some()
    }

    /// The next record to send, if one exists up to `last` and the window has room.
    pub fn wants(&self, last: Lsn) -> Option<Lsn> {
        let next = self.next?;
        let room = self.in_flight_bytes < limits::SHIP_WINDOW_BYTES_MAX;
        (next <= last && room).then_some(next)
    }

    /// A record was handed to the link.
    pub fn sent(&mut self, lsn: Lsn, bytes: usize) {
        debug_assert_eq!(self.next, Some(lsn), "records are sent in order");
        self.next = Some(lsn.next());
        self.in_flight.push_back((lsn, bytes));
        self.in_flight_bytes += bytes;
    }

    /// A record became durable here at `now`.
    pub fn committed(&mut self, lsn: Lsn, now: UnixMillis) {
        if lsn <= self.acked {
            return;
        }
        self.unconfirmed.push_back((lsn, now));
        if self.unconfirmed.len() > REMEMBERED {
            let mut keep = false;
            self.unconfirmed.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The follower has everything up to `lsn` on disk.
    pub fn acked(&mut self, lsn: Lsn) {
        self.acked = self.acked.max(lsn);
        while self
            .unconfirmed
            .front()
            .is_some_and(|(l, _)| *l <= self.acked)
        {
            self.unconfirmed.pop_front();
        }
        while let Some((l, bytes)) = self.in_flight.front() {
            if *l > self.acked {
                break;
            }
            self.in_flight_bytes -= bytes;
            self.in_flight.pop_front();
        }
    }

    /// What the follower confirmed last.
    pub fn confirmed(&self) -> Lsn {
        self.acked
    }

    pub fn progress(&self, last: Lsn, now: UnixMillis) -> Progress {
        let lag_records = last.0.saturating_sub(self.acked.0);
        let oldest = self.unconfirmed.front().map(|(_, at)| *at);
        let lag_ms = if lag_records == 0 {
            0
        } else {
            oldest.map_or(0, |at| now.since(at).max(0))
        };
        Progress {
            lag_records,
            lag_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_out_in_order_and_only_while_someone_follows() {
        let mut shipper = Shipper::default();
        assert_eq!(shipper.wants(Lsn(3)), None);
        shipper.follow(Lsn(1));
        assert_eq!(shipper.wants(Lsn(3)), Some(Lsn(2)));
        shipper.sent(Lsn(2), 10);
        shipper.sent(Lsn(3), 10);
        assert_eq!(shipper.wants(Lsn(3)), None);
        shipper.disconnect();
        assert_eq!(shipper.wants(Lsn(9)), None);
        shipper.follow(Lsn(2));
        assert_eq!(shipper.wants(Lsn(3)), Some(Lsn(3)));
    }

    #[test]
    fn a_full_window_stops_shipping_until_something_is_confirmed() {
        let mut shipper = Shipper::default();
        shipper.follow(Lsn(0));
        shipper.sent(Lsn(1), limits::SHIP_WINDOW_BYTES_MAX);
        assert_eq!(shipper.wants(Lsn(5)), None);
        shipper.acked(Lsn(1));
        assert_eq!(shipper.wants(Lsn(5)), Some(Lsn(2)));
    }

    #[test]
    fn lag_counts_from_the_oldest_unconfirmed_record() {
        let mut shipper = Shipper::default();
        shipper.committed(Lsn(1), UnixMillis(100));
        shipper.committed(Lsn(2), UnixMillis(150));
        assert_eq!(
            shipper.progress(Lsn(2), UnixMillis(200)),
            Progress {
                lag_records: 2,
                lag_ms: 100
            }
        );
        shipper.acked(Lsn(1));
        assert_eq!(
            shipper.progress(Lsn(2), UnixMillis(200)),
            Progress {
                lag_records: 1,
                lag_ms: 50
            }
        );
        shipper.acked(Lsn(2));
        assert_eq!(
            shipper.progress(Lsn(2), UnixMillis(200)),
            Progress::default()
        );
    }

    #[test]
    fn memory_stays_bounded_while_nobody_confirms() {
        let mut shipper = Shipper::default();
        for lsn in 1..=100_000 {
            shipper.committed(Lsn(lsn), UnixMillis(lsn as i64));
        }
        assert!(shipper.unconfirmed.len() <= REMEMBERED + 1);
        assert_eq!(
            shipper.progress(Lsn(100_000), UnixMillis(100_000)).lag_ms,
            99_999
        );
    }
}
