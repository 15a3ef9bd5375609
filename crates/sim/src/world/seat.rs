//! What a member of the control plane has in memory: its copy of the state, what it waits for, and its coordinator.

use super::World;
use super::clock::{Clock, Monotonic};
use super::coordinator::Driver;
use super::event::{CallId, Gathering, Happening, Life, Node, Waiting};
use super::plane::Awaiting;
use super::voters::WITNESS;
use control::State;
use region::engine::SourceWord;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{PartitionKey, RegionName, UnixMillis};

/// Primaries' words on what only they have, each with when it was heard on the monotonic clock. As `region::words`.
pub type Words = BTreeMap<PartitionKey, (SourceWord, u64)>;

/// A region's or the witness's seat in the control plane.
#[derive(Default)]
pub struct Seat {
    pub view: Arc<State>,
    pub view_index: u64,
    /// Who leads, as it has heard.
    pub leader: Option<Node>,
    /// It has a copy that was current: it may coordinate, and a region may serve.
    pub trusted: bool,
    pub calls: BTreeMap<CallId, Waiting>,
    pub gathers: BTreeMap<u64, Gathering>,
    pub awaiting: Vec<Awaiting>,
    pub driver: Driver,
    /// What others said with their renewals while it led.
    pub heard: Words,
}

/// The third voter.
pub struct Witness {
    pub name: RegionName,
    pub clock: Clock,
    pub monotonic: Monotonic,
    pub life: Life,
    pub seat: Option<Seat>,
}

impl World {
    pub(super) fn seat(&mut self, node: Node) -> Option<&mut Seat> {
        match node {
            WITNESS => self.witness.seat.as_mut(),
            region => self.regions[region].process.as_mut().map(|p| &mut p.seat),
        }
    }

    pub(super) fn seat_of(&self, node: Node) -> Option<&Seat> {
        match node {
            WITNESS => self.witness.seat.as_ref(),
            region => self.regions[region].process.as_ref().map(|p| &p.seat),
        }
    }

    /// The seat, if it is still the one that was meant.
    pub(super) fn living_seat(&mut self, node: Node, life: Life) -> Option<&mut Seat> {
        if self.life(node) == Some(life) {
            self.seat(node)
        } else {
            None
        }
    }

    /// The number of the process that runs; `None`: none does.
    pub(super) fn life(&self, node: Node) -> Option<Life> {
        match node {
            WITNESS => self.witness.seat.as_ref().map(|_| self.witness.life),
            region => {
                let region = &self.regions[region];
                region.process.as_ref().map(|_| region.life)
            }
        }
    }

    pub(super) fn wall(&self, node: Node) -> UnixMillis {
        match node {
            WITNESS => self.witness.clock.at(self.now),
            region => self.regions[region].clock.at(self.now),
        }
    }

    pub(super) fn monotonic(&self, node: Node) -> u64 {
        match node {
            WITNESS => self.witness.monotonic.at(self.now),
            region => self.regions[region].monotonic.at(self.now),
        }
    }

    pub(super) fn name_of(&self, node: Node) -> RegionName {
        match node {
            WITNESS => self.witness.name.clone(),
            region => self.regions[region].name.clone(),
        }
    }

    pub(super) fn start_witness(&mut self) {
        if self.witness.seat.is_some() {
            return;
        }
        self.witness.life += 1;
        self.witness.seat = Some(Seat::default());
        self.take_seat(WITNESS);
    }

    pub(super) fn crash_witness(&mut self, down_ms: i64) {
        if self.witness.seat.take().is_none() {
            return;
        }
        self.witness.life += 1;
        self.paused_until[WITNESS] = self.now;
        self.disturbed();
        self.doubt_leader();
        self.after(down_ms, Happening::Start { node: WITNESS });
    }

    /// A process that has just started hears of the control plane.
    pub(super) fn take_seat(&mut self, node: Node) {
        let life = self.life(node).expect("it has just started");
        if let Some(leader) = self.voters.leader {
            self.after(1, Happening::Believe { node, leader });
        }
        let late = self.rng.range(1, 2 * self.link.delay_ms + 10);
        let (index, state) = (self.plane.index, self.plane.state.clone());
        self.after(
            late,
            Happening::View {
                node,
                life,
                index,
                state,
            },
        );
        self.doubt_leader();
    }
}
