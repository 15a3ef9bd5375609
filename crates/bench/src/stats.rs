//! Latencies in buckets of about 3 %: constant memory, whatever the count.

const STEPS: usize = 32;
const BUCKETS: usize = STEPS * 40;

/// Times in microseconds.
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }
}

impl Latencies {
    pub fn record(&mut self, micros: u64) {
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    pub fn add(&mut self, other: &Latencies) {
        for (own, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The time that `share` of all do not exceed, rounded up to its bucket.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper(at).min(self.max);
            }
        }
        self.max
    }
}

/// Up to 2·STEPS exactly, above it STEPS buckets per doubling.
fn bucket(micros: u64) -> usize {
    if micros < 2 * STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize - STEPS.ilog2() as usize;
    let step = (micros >> doubling) as usize - STEPS;
    ((doubling + 1) * STEPS + step).min(BUCKETS - 1)
}

fn upper(bucket: usize) -> u64 {
    if bucket < 2 * STEPS {
        return bucket as u64;
    }
    let doubling = bucket / STEPS - 1;
    (((bucket % STEPS + STEPS + 1) as u64) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket_within_four_percent() {
        for micros in (0..5000).chain([65_535, 65_536, 1_000_003, 3_600_000_000]) {
            let top = upper(bucket(micros));
            assert!(
                top >= micros && top <= micros + micros / 25 + 1,
                "{micros} {top}"
            );
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        for micros in 1..=50 {
            latencies.record(micros);
        }
        assert_eq!(
            (
                latencies.percentile(0.5),
                latencies.percentile(0.99),
                latencies.percentile(1.0),
                latencies.max()
            ),
            (25, 50, 50, 50)
        );
        let mut sum = Latencies::default();
        sum.add(&latencies);
        assert_eq!((sum.count(), Latencies::default().percentile(0.5)), (50, 0));
    }
}
