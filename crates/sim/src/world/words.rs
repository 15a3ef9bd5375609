//! Primaries' last words: kept where they were said, and by the control plane's leader. As `region::words`.

use super::World;
use super::event::Node;
use super::seat::Words;
use crate::history::RegionId;
use region::engine::{Message, SourceWord};
use types::PartitionKey;

impl World {
    /// A region remembers its own engine's word, for its next renewal.
    pub(super) fn hears_itself(&mut self, region: RegionId, message: &Message) {
        if let Message::Word { at, word } = message {
            let now = self.monotonic(region);
            if let Some(process) = self.process(region) {
                hear(&mut process.words, *at, word.clone(), now);
            }
        }
    }

    /// The leader hears a region's words with its renewal.
    pub(super) fn leader_hears(&mut self, leader: Node, region: RegionId) {
        let Some(process) = &self.regions[region].process else {
            return;
        };
        let said = process.words.clone();
        let now = self.monotonic(leader);
        if let Some(seat) = self.seat(leader) {
            for (at, (word, _)) in said {
                hear(&mut seat.heard, at, word, now);
            }
        }
    }
}

fn hear(words: &mut Words, at: PartitionKey, word: SourceWord, now: u64) {
    let newer = words
        .get(&at)
        .is_none_or(|(known, _)| (known.epoch, known.lsn) <= (word.epoch, word.lsn));
    if newer {
        words.insert(at, (word, now));
    }
}
