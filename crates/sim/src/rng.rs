//! Seeded random numbers: splitmix64, the same on every machine.

use std::sync::atomic::{AtomicU64, Ordering};

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(mix(seed.wrapping_add(STEP)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A stream of its own, so that more draws in one place change nothing elsewhere.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.next())
    }

    /// From `0` to `bound - 1`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// From `least` to `most`, both included.
    pub fn range(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least + 1).max(1) as u64) as i64
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// # Panics
    /// When there is nothing to pick from.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Random bytes for an engine, which draws them through a shared reference.
pub fn byte_source(seed: u64) -> region::engine::Random {
    let state = AtomicU64::new(seed);
    Box::new(move |buffer| {
        for part in buffer.chunks_mut(8) {
            let drawn = mix(state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP));
            part.copy_from_slice(&drawn.to_le_bytes()[..part.len()]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [
                rng.next(),
                rng.next(),
                rng.below(10),
                rng.range(-3, 3) as u64,
            ]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn ranges_include_both_ends_and_nothing_else() {
        let mut rng = Rng::new(1);
        let drawn: std::collections::BTreeSet<i64> = (0..1000).map(|_| rng.range(-2, 2)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
        assert_eq!(rng.below(0), 0);
    }
}
