//! Primaries' last words: kept where they were said, and by the control plane's leader. As `region::words`.

use super::World;
use super::event::Node;
use super::seat::Words;
use super::voters::{NODES, WITNESS};
use crate::history::RegionId;
use control::loss;
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

impl World {
    /// With a renewal, a region tells every other member that it reaches, since the leader may be lost as well.
    pub(super) fn tell_words(&mut self, region: RegionId) {
        for other in 0..NODES {
            if other != region && self.linked_directly(region, other) {
                self.leader_hears(other, region);
            }
        }
    }

    /// Primaries' words as this member and those that it reaches heard them. As `region::facts::heard_words`.
    pub(super) fn words_of(&self, node: Node) -> loss::Words {
        let reached =
            (0..NODES).filter(|other| *other == node || self.linked_directly(node, *other));
        loss::latest(reached.map(|other| self.words_heard(other)))
    }

    /// What others said to this member, and what it says itself, which has no age.
    fn words_heard(&self, node: Node) -> loss::Words {
        let now = self.monotonic(node);
        let of = |words: &Words, aged: bool| -> loss::Words {
            let words = words.iter();
            words
                .map(|(at, (word, since))| {
                    let age = if aged { now.saturating_sub(*since) } else { 0 };
                    (at.partition, (region::facts::of_word(word), age as i64))
                })
                .collect()
        };
        let heard = self.seat_of(node).map(|seat| of(&seat.heard, true));
        let own = match node {
            WITNESS => None,
            region => self.regions[region].process.as_ref(),
        };
        let own = own.map(|process| of(&process.words, false));
        loss::latest([heard.unwrap_or_default(), own.unwrap_or_default()])
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
