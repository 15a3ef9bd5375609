//! The control plane's three voters: the regions and the witness; who reaches whom, and who leads.

use super::World;
use super::event::{Happening, Node};

/// The third voter, which holds no hubs.
pub const WITNESS: Node = 2;
pub const NODES: usize = 3;
const MAJORITY: usize = 2;

/// Cuts between members, by sender and receiver: since when, and until when nothing gets through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuts {
    since: [[i64; NODES]; NODES],
    until: [[i64; NODES]; NODES],
}

/// A link that is silent for so long is given up, and its questions go through the third member.
const NOTICED_MS: i64 = 1500;

impl Cuts {
    pub fn cut(&mut self, from: Node, to: Node, now: i64, until: i64) {
        if self.passes(from, to, now) {
            self.since[from][to] = now;
        }
        self.until[from][to] = self.until[from][to].max(until);
    }

    pub fn until(&self, from: Node, to: Node) -> i64 {
        self.until[from][to]
    }

    /// One of the ways has been cut for so long that both know.
    fn is_noticed(&self, one: Node, two: Node, now: i64) -> bool {
        let long = |from: Node, to: Node| {
            !self.passes(from, to, now) && now - self.since[from][to] >= NOTICED_MS
        };
        long(one, two) || long(two, one)
    }

    pub fn heal(&mut self) {
        *self = Cuts::default();
    }

    pub fn passes(&self, from: Node, to: Node, now: i64) -> bool {
        from == to || self.until[from][to] <= now
    }

    /// Questions and answers get through.
    pub fn connects(&self, one: Node, two: Node, now: i64) -> bool {
        self.passes(one, two, now) && self.passes(two, one, now)
    }
}

/// Who leads, and what each voter's log has.
#[derive(Debug, Default)]
pub struct Voters {
    pub leader: Option<Node>,
    /// Up to which entry each voter's disk has the log.
    pub logs: [u64; NODES],
    pub cuts: Cuts,
    election_due: bool,
}

impl Voters {
    /// All have the log up to this entry, and nobody leads.
    pub fn founded(index: u64) -> Voters {
        Voters {
            logs: [index; NODES],
            ..Voters::default()
        }
    }
}

impl World {
    /// It runs and is not paused.
    pub(super) fn awake(&self, node: Node) -> bool {
        self.now >= self.paused_until[node] && self.is_up(node)
    }

    pub(super) fn is_up(&self, node: Node) -> bool {
        match node {
            WITNESS => self.witness.seat.is_some(),
            region => self.regions[region].process.is_some(),
        }
    }

    /// A question of one finds the other, and its answer the way back: directly, or through the third (`region::relay`).
    pub(super) fn linked(&self, one: Node, two: Node) -> bool {
        let cuts = &self.voters.cuts;
        let third = (0..NODES).find(|node| *node != one && *node != two);
        let relayed = third.is_some_and(|third| {
            let way = cuts.connects(one, third, self.now) && cuts.connects(third, two, self.now);
            self.awake(third) && way && cuts.is_noticed(one, two, self.now)
        });
        let awake = self.awake(one) && self.awake(two);
        awake && (cuts.connects(one, two, self.now) || relayed)
    }

    /// They reach each other without the third.
    pub(super) fn linked_directly(&self, one: Node, two: Node) -> bool {
        self.awake(one) && self.awake(two) && self.voters.cuts.connects(one, two, self.now)
    }

    /// How many voters it can count on, with itself.
    pub(super) fn counts_on(&self, node: Node) -> usize {
        (0..NODES).filter(|other| self.linked(node, *other)).count()
    }

    /// A leader that can commit.
    pub(super) fn working_leader(&self) -> Option<Node> {
        let leader = self.voters.leader?;
        (self.counts_on(leader) >= MAJORITY).then_some(leader)
    }

    pub(super) fn reaches_leader(&self, node: Node) -> bool {
        self.working_leader()
            .is_some_and(|leader| self.linked(node, leader))
    }

    /// Somebody may miss the leader: an election comes, unless the leader is heard again before.
    pub(super) fn doubt_leader(&mut self) {
        self.election_in(300, 1500);
    }

    pub(super) fn election_in(&mut self, least: i64, most: i64) {
        if !self.voters.election_due {
            self.voters.election_due = true;
            let late = self.rng.range(least, most);
            self.after(late, Happening::Elect);
        }
    }

    /// A voter that can count on a majority and has everything that was committed takes the lead; the others hear of it late.
    pub(super) fn elect(&mut self) {
        self.voters.election_due = false;
        if let Some(leader) = self.working_leader() {
            let left_out = (0..NODES).any(|node| self.awake(node) && !self.linked(node, leader));
            // One that does not hear the leader may disturb it.
            if !left_out || !self.rng.chance(20) {
                return;
            }
        }
        let able: Vec<Node> = (0..NODES)
            .filter(|node| self.counts_on(*node) >= MAJORITY)
            .filter(|node| self.voters.logs[*node] == self.plane.index)
            .collect();
        if able.is_empty() {
            self.voters.leader = None;
            self.election_in(300, 600);
            return;
        }
        let leader = *self.rng.pick(&able);
        self.lead(leader);
    }

    pub(super) fn lead(&mut self, leader: Node) {
        self.voters.leader = Some(leader);
        self.disturbed();
        for node in 0..NODES {
            let late = self.rng.range(0, 500);
            self.after(late, Happening::Believe { node, leader });
        }
    }

    /// An entry is committed: the leader has it, and enough others.
    pub(super) fn entry_committed(&mut self, leader: Node) {
        let index = self.plane.index;
        self.voters.logs[leader] = index;
        let others: Vec<Node> = (0..NODES)
            .filter(|node| *node != leader && self.linked(*node, leader))
            .collect();
        let first = *self.rng.pick(&others);
        for node in others {
            if node == first || self.rng.chance(70) {
                self.voters.logs[node] = index;
            }
        }
    }

    /// Whoever cannot be reached goes on believing in the leader it knew.
    pub(super) fn believe(&mut self, node: Node, leader: Node) {
        let Some(life) = self.life(node) else { return };
        if self.voters.leader != Some(leader) {
            return;
        }
        if !self.linked(node, leader) {
            return self.after(100, Happening::Believe { node, leader });
        }
        if let Some(seat) = self.seat(node) {
            seat.leader = Some(leader);
            self.after(0, Happening::Coordinate { node, life });
        }
    }

    /// A new copy of the control plane's state has come to a voter: its log has it too.
    pub(super) fn log_reaches(&mut self, node: Node, index: u64) {
        let known = &mut self.voters.logs[node];
        *known = (*known).max(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_lets_nothing_be_asked_and_ends() {
        let mut cuts = Cuts::default();
        cuts.cut(0, 1, 0, 100);
        assert!(!cuts.passes(0, 1, 99) && cuts.passes(1, 0, 99));
        assert!(!cuts.connects(0, 1, 99) && !cuts.connects(1, 0, 99));
        assert!(cuts.connects(0, 1, 100) && cuts.connects(0, 0, 0));
    }
}
