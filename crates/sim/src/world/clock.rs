//! A region's clock: true time, shifted and drifting.

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

#[cfg(test)]
mod tests {
    use super::*;

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
