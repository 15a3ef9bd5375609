//! Paused processes: nothing of them happens, their clocks go on, and awake again they go on with what they were doing.

use super::World;
use super::event::{Happening, Node};
use super::voters::WITNESS;
use crate::history::{Entry, RegionId};
use types::limits;

/// A link that is silent for so long is given up by the other side.
const SILENCE_MS: i64 = limits::LINK_SILENCE_MS_MAX as i64;

impl World {
    /// A process stops, and goes on by itself. What its last commit gave out has left before.
    pub(super) fn pause(&mut self, node: Node, ms: i64) {
        if !self.is_up(node) {
            return;
        }
        // What is left of the storm: nothing is broken after it.
        let ms = ms.min(self.storm_until - self.now).max(1);
        let until = self.now + ms;
        self.paused_until[node] = self.paused_until[node].max(until);
        self.record(Entry::Trouble(format!("node {node} is paused for {ms} ms")));
        self.disturbed();
        self.doubt_leader();
        self.after(ms, Happening::Awake { node });
        if node != WITNESS {
            self.after(SILENCE_MS, Happening::Silence { region: node });
            self.clients_lose_patience(node);
        }
    }

    /// One side of the regions' link may have heard nothing for too long: the other is paused, or the way is cut.
    pub(super) fn silence(&mut self, region: RegionId) {
        let until = self.paused_until[region];
        let cut = !self.voters.cuts.connects(0, 1, self.now);
        if (self.now < until || cut) && self.link.is_up() {
            self.break_link(0);
            // What the other side sent lies in the paused region's buffers.
            self.link.read_late(region, until);
        }
    }

    pub(super) fn awake_again(&mut self, node: Node) {
        if self.awake(node) {
            self.disturbed();
            self.doubt_leader();
        }
    }

    /// Something that waits for a process that is paused; true: it comes later.
    pub(super) fn put_off(&mut self, happening: Happening) -> Option<Happening> {
        let node = happening
            .node()
            .filter(|node| self.now < self.paused_until[*node]);
        match node {
            Some(node) => {
                self.at(self.paused_until[node], happening);
                None
            }
            None => Some(happening),
        }
    }

    /// Clients of a gateway that does not answer go elsewhere, after a while.
    fn clients_lose_patience(&mut self, region: RegionId) {
        let Some(process) = &self.regions[region].process else {
            return;
        };
        let asked: Vec<_> = process.requests.keys().copied().collect();
        for op in asked {
            let patience = self.rng.range(2000, 6000);
            self.after(patience, Happening::ClientGivesUp { region, op });
        }
    }
}
