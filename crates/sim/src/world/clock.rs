//! A region's clocks: one that shows the time of day, shifted and drifting, and one that no one sets.

use types::UnixMillis;

/// Wall clock at true time 0.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub offset_ms: i64,
    /// Parts per million by which it runs fast.
    pub drift_ppm: i64,
}

impl Clock {
    pub fn at(self, now: i64) -> UnixMillis {
        UnixMillis(EPOCH_MS + now + self.error(now))
    }

    /// How far it is from true time.
    pub fn error(self, now: i64) -> i64 {
        self.offset_ms + now * self.drift_ppm / 1_000_000
    }
}

/// Milliseconds since some moment, at a rate of its own. It goes on while the process is paused.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic {
    pub start_ms: i64,
    /// Parts per million by which it runs fast. Two clocks differ by less than [`types::limits::LEASE_CLOCK_RATE_PARTS`] allows.
    pub rate_ppm: i64,
}

/// The largest rate error of a monotonic clock, either way.
pub const RATE_PPM_MAX: i64 = 9_500;

const _: () = {
    // The slowest clock's lease, measured by the fastest one, is over within the wait.
    let parts = types::limits::LEASE_CLOCK_RATE_PARTS as i64;
    assert!((1_000_000 + RATE_PPM_MAX) * parts <= (1_000_000 - RATE_PPM_MAX) * (parts + 1));
};

impl Monotonic {
    pub fn at(self, now: i64) -> u64 {
        (self.start_ms + now + now * self.rate_ppm / 1_000_000).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_clock_runs_at_its_rate() {
        let clock = Monotonic {
            start_ms: 100,
            rate_ppm: -5_000,
        };
        assert_eq!(clock.at(0), 100);
        assert_eq!(clock.at(10_000), 10_050);
    }

    #[test]
    fn a_clock_shows_true_time_but_for_its_offset_and_drift() {
        assert_eq!(
            Clock {
                offset_ms: 0,
                drift_ppm: 0
            }
            .at(5),
            UnixMillis(EPOCH_MS + 5)
        );
        assert_eq!(
            Clock {
                offset_ms: -3,
                drift_ppm: 1000
            }
            .at(10_000),
            UnixMillis(EPOCH_MS + 10_007)
        );
    }
}
