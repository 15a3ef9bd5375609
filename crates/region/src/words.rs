//! The last words of primaries on what only they have: kept where they were said, and by the control plane's leader, which
//! hears them with each renewal of a lease.

use crate::clock::monotonic_ms;
use crate::engine::SourceWord;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use types::{HubId, PartitionId, PartitionKey};

/// Words by partition, each with when it was heard.
#[derive(Debug, Default)]
pub struct Words(Mutex<BTreeMap<PartitionKey, (SourceWord, u64)>>);

impl Words {
    pub fn heard(&self, at: PartitionKey, word: SourceWord) {
        let mut words = self.0.lock();
        let newer = words
            .get(&at)
            .is_none_or(|(known, _)| (known.epoch, known.lsn) <= (word.epoch, word.lsn));
        if newer {
            words.insert(at, (word, monotonic_ms()));
        }
    }

    pub fn take(&self, words: Vec<(PartitionKey, SourceWord)>) {
        for (at, word) in words {
            self.heard(at, word);
        }
    }

    pub fn all(&self) -> Vec<(PartitionKey, SourceWord)> {
        let words = self.0.lock();
        words
            .iter()
            .map(|(at, (word, _))| (*at, word.clone()))
            .collect()
    }

    /// A hub's words with their age in milliseconds.
    pub fn of_hub(&self, hub: HubId) -> BTreeMap<PartitionId, (SourceWord, i64)> {
        let now = monotonic_ms();
        let words = self.0.lock();
        let of_hub = words.iter().filter(|(at, _)| at.hub == hub);
        of_hub
            .map(|(at, (word, heard))| {
                let age = now.saturating_sub(*heard);
                (
                    at.partition,
                    (word.clone(), i64::try_from(age).unwrap_or(i64::MAX)),
                )
            })
            .collect()
    }

    /// Forgets hubs that are gone.
    pub fn keep(&self, known: impl Fn(HubId) -> bool) {
        self.0.lock().retain(|at, _| known(at.hub));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Lsn};

    fn at(hub: u32, partition: u16) -> PartitionKey {
        PartitionKey {
            hub: HubId(hub),
            partition: PartitionId(partition),
        }
    }

    fn word(epoch: u64, lsn: u64) -> SourceWord {
        SourceWord {
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            ..SourceWord::default()
        }
    }

    #[test]
    fn the_latest_word_stays_whatever_order_they_come_in() {
        let words = Words::default();
        for said in [word(1, 9), word(2, 3), word(2, 7), word(2, 5), word(1, 99)] {
            words.heard(at(1, 0), said);
        }
        words.heard(at(2, 0), word(1, 1));
        let of_hub = words.of_hub(HubId(1));
        assert_eq!(of_hub.len(), 1);
        let (latest, age) = &of_hub[&PartitionId(0)];
        assert_eq!(latest, &word(2, 7));
        assert!((0..60_000).contains(age), "{age}");
    }

    #[test]
    fn a_word_that_is_said_again_is_as_young_as_that() {
        let words = Words::default();
        words.heard(at(1, 0), word(1, 9));
        words.0.lock().get_mut(&at(1, 0)).unwrap().1 = 0;
        assert!(words.of_hub(HubId(1))[&PartitionId(0)].1 > 0);
        words.take(vec![(at(1, 0), word(1, 9))]);
        assert!(words.of_hub(HubId(1))[&PartitionId(0)].1 < 1_000);
    }

    #[test]
    fn hubs_that_are_gone_are_forgotten() {
        let words = Words::default();
        words.heard(at(1, 0), word(1, 9));
        words.heard(at(2, 0), word(1, 9));
        words.keep(|hub| hub == HubId(2));
        let left: Vec<_> = words.all().into_iter().map(|(at, _)| at.hub).collect();
        assert_eq!(left, [HubId(2)]);
    }
}
