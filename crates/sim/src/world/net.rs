//! The link between the two regions: one ordered stream each way, that delays, stalls and breaks.

use super::World;
use super::event::{Happening, Wire};
use crate::history::{Entry, RegionId};
use region::engine::Input;

/// A link that is silent for so long is noticed as broken. As `limits::LINK_SILENCE_MS_MAX`.
const SILENCE_MS_MAX: i64 = types::limits::LINK_SILENCE_MS_MAX as i64;

#[derive(Debug)]
pub struct Link {
    /// Counts connections; odd ones are up.
    pub number: u64,
    /// What each region believes: the connection it uses, if any.
    pub known: [Option<u64>; 2],
    pub delay_ms: i64,
    pub jitter_ms: i64,
    /// When the last message of each direction (by receiver) arrives.
    last: [i64; 2],
    /// Until when nothing gets through, by receiver: late, not lost.
    pub stalled_until: [i64; 2],
    /// Messages of the broken connection that arrive up to here still get through, by receiver.
    afterwards: [i64; 2],
    /// No connection is made before.
    pub cut_until: i64,
}

impl Link {
    pub fn new(delay_ms: i64, jitter_ms: i64) -> Self {
        Link {
            number: 0,
            known: [None; 2],
            delay_ms,
            jitter_ms,
            last: [0; 2],
            stalled_until: [0; 2],
            afterwards: [0; 2],
            cut_until: 0,
        }
    }

    pub fn is_up(&self) -> bool {
        self.number % 2 == 1
    }

    /// What was on its way to a region when the link broke is read by then.
    pub fn read_late(&mut self, region: RegionId, until: i64) {
        self.afterwards[region] = self.afterwards[region].max(until);
    }

    /// Does a message of connection `number` that arrives at `now` still get to `to`?
    fn delivers(&self, number: u64, to: RegionId, now: i64) -> bool {
        let current = self.number == number;
        let rest = self.number == number + 1 && now <= self.afterwards[to];
        (current || rest) && self.known[to] == Some(number)
    }
}

impl World {
    /// Sends to the other region; false: the sender knows of no connection, nothing was sent.
    pub(super) fn send(&mut self, from: RegionId, wire: Wire) -> bool {
        let Some(number) = self.link.known[from] else {
            return false;
        };
        self.script_sees_sent(&wire);
        let to = 1 - from;
        let jitter = self.rng.range(0, self.link.jitter_ms);
        let at = (self.now + self.link.delay_ms + jitter)
            .max(self.link.last[to])
            .max(self.link.stalled_until[to])
            // What a cut swallows is sent again, unless the connection is given up before.
            .max(self.voters.cuts.until(from, to));
        if self.link.number == number {
            self.link.last[to] = at;
            self.at(
                at,
                Happening::Arrive {
                    to,
                    link: number,
                    wire,
                },
            );
        }
        true
    }

    pub(super) fn arrive(&mut self, to: RegionId, number: u64, wire: Wire) {
        if !self.link.delivers(number, to, self.now) {
            return;
        }
        match wire {
            Wire::Engine(message) => {
                let message = self.faulty_message(message);
                let from = self.regions[1 - to].name.clone();
                self.tell(to, Input::Message { from, message });
            }
            Wire::Call { call, op, body } => self.called(to, number, call, op, body),
            Wire::Return { call, body } => self.returned(to, call, body),
            Wire::Route {
                hub,
                epoch,
                primary,
                forced,
            } => self.route_moved(to, hub, epoch, &primary, forced),
        }
    }

    /// A call's answer goes back on the connection on which the call came, or not at all.
    pub(super) fn send_back(&mut self, from: RegionId, link: u64, wire: Wire) {
        if self.link.known[from] == Some(link) {
            self.send(from, wire);
        }
    }

    /// The stream breaks; each side notices in its own time.
    pub(super) fn break_link(&mut self, cut_ms: i64) {
        self.link.cut_until = self.link.cut_until.max(self.now + cut_ms);
        if !self.link.is_up() {
            return;
        }
        let number = self.link.number;
        self.link.number += 1;
        self.disturbed();
        for region in 0..2 {
            // What was on its way may arrive in part.
            let rest = if self.rng.chance(50) {
                0
            } else {
                self.rng.range(0, 200)
            };
            self.link.afterwards[region] = self.now + rest;
            let late = if self.rng.chance(60) {
                self.rng.range(0, 60)
            } else {
                self.rng.range(0, SILENCE_MS_MAX)
            };
            self.after(
                late,
                Happening::LinkNoticed {
                    region,
                    link: number,
                    up: false,
                },
            );
        }
        let again = self.rng.range(50, 1000);
        self.at(
            self.link.cut_until.max(self.now + again),
            Happening::LinkMade,
        );
    }

    /// A connection is made once both sides live and have noticed the end of the former one.
    pub(super) fn make_link(&mut self) {
        if self.link.is_up() {
            return;
        }
        let ready = self.link.known == [None; 2]
            && self.now >= self.link.cut_until
            && self.linked_directly(0, 1);
        if !ready {
            let again = self.rng.range(50, 300);
            self.after(again, Happening::LinkMade);
            return;
        }
        self.link.number += 1;
        self.link.last = [self.now; 2];
        for region in 0..2 {
            let late = self.rng.range(0, self.link.delay_ms);
            self.link.known[region] = Some(self.link.number);
            self.after(
                late,
                Happening::LinkNoticed {
                    region,
                    link: self.link.number,
                    up: true,
                },
            );
        }
        self.record(Entry::Trouble("the link is made".into()));
    }

    pub(super) fn link_noticed(&mut self, region: RegionId, number: u64, up: bool) {
        if self.link.known[region] != Some(number) {
            return;
        }
        if !up {
            self.link.known[region] = None;
            self.calls_broken(region);
        }
        let peer = self.regions[1 - region].name.clone();
        self.tell(region, Input::Link { peer, up });
        self.disturbed();
    }
}
