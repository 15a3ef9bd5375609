//! What goes wrong, when, and how it is put right.

use super::World;
use super::event::{Happening, Mend, Node};
use super::voters::{NODES, WITNESS};
use crate::history::{Entry, RegionId};
use crate::rng::Rng;
use replication::Head;
use store::{InjectedFault, LogBounds, MemoryStore, Store};
use types::{Lsn, Sequence, UnixMillis};

const DAY_MS: i64 = 86_400_000;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The link breaks and cannot be made for a while.
    CutLink {
        ms: i64,
    },
    /// Nothing gets through to a region for a while; nothing is lost.
    Stall {
        to: RegionId,
        ms: i64,
    },
    Crash {
        region: RegionId,
        down_ms: i64,
    },
    /// The power goes at a group commit from now: the commit is on the disk or not.
    CrashAtCommit {
        region: RegionId,
        nth: u64,
        kept: bool,
        down_ms: i64,
    },
    /// A group commit fails; the process goes on.
    DiskFails {
        region: RegionId,
        nth: u64,
        kept: bool,
    },
    DiskFull {
        region: RegionId,
        ms: i64,
    },
    SlowDisk {
        region: RegionId,
        ms: i64,
    },
    /// Two members do not reach each other, or one of them not the other.
    CutPair {
        from: Node,
        to: Node,
        both: bool,
        ms: i64,
    },
    /// A pair is cut and heals, again and again.
    Flap {
        from: Node,
        to: Node,
        times: i64,
        every_ms: i64,
    },
    /// A member reaches nobody.
    Isolate {
        node: Node,
        ms: i64,
    },
    /// A process stops and goes on by itself.
    Pause {
        node: Node,
        ms: i64,
    },
    /// A process stops in the middle of a group commit.
    PauseAtCommit {
        region: RegionId,
        nth: u64,
        ms: i64,
    },
    /// Something befalls the hub's primary for which an operator forces a failover.
    Disaster {
        kind: Disaster,
        ms: i64,
        told_ms: i64,
    },
    LeaderMoves,
    StepClock {
        region: RegionId,
        ms: i64,
    },
    /// Retention takes what is older than so long.
    Trim {
        region: RegionId,
        older_ms: i64,
    },
    /// The secondary loses its disk.
    WipeSecondary {
        down_ms: i64,
    },
}

/// What befalls a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disaster {
    Dead,
    Hung,
    /// It reaches nobody.
    Cut,
    /// It hears nobody.
    Deaf,
    /// Nobody hears it.
    Mute,
    /// It reaches the witness, and clients reach it, but not its partner.
    Parted,
    /// Its disk fails now and then.
    Sick,
}

pub const DISASTERS: [Disaster; 7] = [
    Disaster::Dead,
    Disaster::Hung,
    Disaster::Cut,
    Disaster::Deaf,
    Disaster::Mute,
    Disaster::Parted,
    Disaster::Sick,
];

/// Which kinds of trouble a run has: few at a time find more than all at once.
#[derive(Clone, Debug)]
pub struct Mix(Vec<u64>);

/// Kinds of trouble, some more often than others.
const KINDS: [u64; 28] = [
    0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12, 12, 13, 13, 14, 14, 15, 16,
];
/// A secondary that lost its disk takes a copy if retention has taken the beginning of the log; otherwise it is sent all of it.
const COPIES: [u64; 6] = [10, 10, 10, 11, 11, 0];

impl Mix {
    /// Copies are taken all the time.
    pub fn of_copies() -> Mix {
        Mix(COPIES.into())
    }

    pub fn random(rng: &mut Rng) -> Mix {
        if rng.chance(40) {
            return Mix(KINDS.into());
        }
        let count = rng.range(1, 4);
        Mix((0..count).map(|_| *rng.pick(&KINDS)).collect())
    }

    pub fn draw(&self, rng: &mut Rng) -> Trouble {
        let region = rng.below(2) as RegionId;
        let down_ms = if rng.chance(70) {
            rng.range(50, 2000)
        } else {
            rng.range(2000, 12_000)
        };
        let (nth, kept) = (rng.range(1, 12) as u64, rng.chance(50));
        match *rng.pick(&self.0) {
            0 => Trouble::CutLink {
                ms: if rng.chance(60) {
                    rng.range(0, 500)
                } else {
                    rng.range(500, 9000)
                },
            },
            1 => Trouble::Stall {
                to: region,
                ms: rng.range(100, 2900),
            },
            2 => Trouble::Crash { region, down_ms },
            3 => Trouble::CrashAtCommit {
                region,
                nth,
                kept,
                down_ms,
            },
            4 => Trouble::DiskFails { region, nth, kept },
            5 => Trouble::DiskFull {
                region,
                ms: rng.range(200, 4000),
            },
            6 => Trouble::SlowDisk {
                region,
                ms: rng.range(500, 4000),
            },
            7 => {
                let (from, to) = pair(rng);
                Trouble::CutPair {
                    from,
                    to,
                    both: kept,
                    ms: rng.range(200, 8000),
                }
            }
            8 => Trouble::LeaderMoves,
            9 => Trouble::StepClock {
                region,
                ms: rng.range(-700, 700),
            },
            10 => Trouble::Trim {
                region,
                older_ms: rng.range(0, 20_000),
            },
            11 => Trouble::WipeSecondary { down_ms },
            12 => Trouble::Pause {
                node: rng.below(NODES as u64) as Node,
                ms: pause_ms(rng),
            },
            13 => Trouble::PauseAtCommit {
                region,
                nth,
                ms: pause_ms(rng),
            },
            14 => Trouble::Isolate {
                node: rng.below(NODES as u64) as Node,
                ms: rng.range(500, 9000),
            },
            15 => {
                let (from, to) = pair(rng);
                Trouble::Flap {
                    from,
                    to,
                    times: rng.range(2, 8),
                    every_ms: rng.range(100, 1500),
                }
            }
            _ => Trouble::Crash {
                region: WITNESS,
                down_ms,
            },
        }
    }
}

/// Shorter than the lease, or longer.
fn pause_ms(rng: &mut Rng) -> i64 {
    if rng.chance(50) {
        rng.range(50, 3000)
    } else {
        rng.range(4000, 9000)
    }
}

/// Two different members.
fn pair(rng: &mut Rng) -> (Node, Node) {
    let from = rng.below(NODES as u64) as Node;
    let to = (from + 1 + rng.below(NODES as u64 - 1) as Node) % NODES;
    (from, to)
}

/// Strikes once, at a step of some failover.
#[derive(Clone, Debug)]
pub struct AtStep {
    pub step: &'static str,
    pub ended: bool,
    pub within_ms: i64,
    pub trouble: Trouble,
}

impl World {
    pub(super) fn trouble_at_step(&mut self, step: &'static str, ended: bool) {
        let Some(found) = self
            .at_steps
            .iter()
            .position(|at| at.step == step && at.ended == ended)
        else {
            return;
        };
        let struck = self.at_steps.remove(found);
        let late = self.rng.range(0, struck.within_ms);
        self.after(late, Happening::Trouble(struck.trouble));
    }

    pub(super) fn strike(&mut self, trouble: Trouble) {
        if self.phase != super::Phase::Storm {
            return;
        }
        self.record(Entry::Trouble(format!("{trouble:?}")));
        self.disturbed();
        match trouble {
            Trouble::CutLink { ms } => {
                self.voters.cuts.cut(0, 1, self.now, self.now + ms);
                self.voters.cuts.cut(1, 0, self.now, self.now + ms);
                self.break_link(ms);
                self.reach_changes(ms);
            }
            Trouble::Stall { to, ms } => self.link.stalled_until[to] = self.now + ms,
            Trouble::Crash { region, down_ms } => self.crash(region, down_ms),
            Trouble::CutPair { from, to, both, ms } => self.cut_pair(from, to, both, ms),
            Trouble::Flap {
                from,
                to,
                times,
                every_ms,
            } => self.flap(from, to, times, every_ms),
            Trouble::Isolate { node, ms } => self.isolate(node, ms),
            Trouble::Pause { node, ms } => self.pause(node, ms),
            Trouble::PauseAtCommit { region, nth, ms } => {
                self.regions[region].time.pause_at(nth, ms)
            }
            Trouble::Disaster { kind, ms, told_ms } => self.befalls_primary(kind, ms, told_ms),
            Trouble::LeaderMoves => {
                self.voters.leader = None;
                self.election_in(50, 800);
            }
            Trouble::StepClock { region, ms } => {
                self.regions[region].clock.offset_ms += ms;
                self.note_clock_error();
            }
            Trouble::Trim { region, older_ms } => self.trim(region, older_ms),
            Trouble::WipeSecondary { down_ms } => self.wipe_secondary(down_ms),
            Trouble::CrashAtCommit { .. }
            | Trouble::DiskFails { .. }
            | Trouble::DiskFull { .. }
            | Trouble::SlowDisk { .. } => self.strike_disk(trouble),
        }
    }

    fn strike_disk(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::CrashAtCommit {
                region,
                nth,
                kept,
                down_ms,
            } => {
                self.regions[region].dies_with_disk = Some(down_ms);
                self.regions[region].time.fail_at(nth, failure(kept));
            }
            Trouble::DiskFails { region, nth, kept } => {
                self.regions[region].time.fail_at(nth, failure(kept))
            }
            Trouble::DiskFull { region, ms } => {
                let used = self.regions[region]
                    .store
                    .space()
                    .map_or(0, |space| space.used);
                let room = self.rng.below(1500);
                self.regions[region].store.set_capacity(used + room);
                self.regions[region].disk_full = true;
                self.after(ms, Happening::Mend(Mend::Disk(region)));
            }
            Trouble::SlowDisk { region, ms } => {
                self.regions[region].commit_ms_max = self.rng.range(50, 400);
                self.after(ms, Happening::Mend(Mend::SlowDisk(region)));
            }
            _ => {}
        }
    }

    /// Nothing gets from one member to the other, and perhaps nothing back, for so long.
    pub(super) fn cut_pair(&mut self, from: Node, to: Node, both: bool, ms: i64) {
        self.voters.cuts.cut(from, to, self.now, self.now + ms);
        if both {
            self.voters.cuts.cut(to, from, self.now, self.now + ms);
        }
        if from != WITNESS && to != WITNESS {
            let silence = types::limits::LINK_SILENCE_MS_MAX as i64;
            self.after(silence, Happening::Silence { region: to });
        }
        self.reach_changes(ms);
    }

    fn reach_changes(&mut self, ms: i64) {
        self.disturbed();
        self.doubt_leader();
        self.after(ms, Happening::Mend(Mend::Reach));
    }

    fn flap(&mut self, from: Node, to: Node, times: i64, every_ms: i64) {
        for n in 0..times {
            let trouble = Trouble::CutPair {
                from,
                to,
                both: true,
                ms: every_ms / 2,
            };
            self.after(n * every_ms, Happening::Trouble(trouble));
        }
    }

    pub(super) fn isolate(&mut self, node: Node, ms: i64) {
        for other in (0..NODES).filter(|other| *other != node) {
            self.cut_pair(node, other, true, ms);
        }
    }

    fn befalls_primary(&mut self, kind: Disaster, ms: i64, told_ms: i64) {
        let Some(hub) = self.plane.state.hub(super::HUB) else {
            return;
        };
        let primary = self.region_id(&hub.primary);
        let partner = 1 - primary;
        match kind {
            Disaster::Dead => self.crash(primary, ms),
            Disaster::Hung => self.pause(primary, ms),
            Disaster::Cut => self.isolate(primary, ms),
            Disaster::Deaf => {
                self.cut_pair(partner, primary, false, ms);
                self.cut_pair(WITNESS, primary, false, ms);
            }
            Disaster::Mute => {
                self.cut_pair(primary, partner, false, ms);
                self.cut_pair(primary, WITNESS, false, ms);
            }
            Disaster::Parted => self.cut_pair(primary, partner, true, ms),
            Disaster::Sick => {
                for n in 0..ms / 200 {
                    let kept = self.rng.chance(50);
                    let trouble = Trouble::DiskFails {
                        region: primary,
                        nth: 1,
                        kept,
                    };
                    self.after(n * 200, Happening::Trouble(trouble));
                }
            }
        }
        self.after(told_ms, Happening::Force);
    }

    pub(super) fn mend(&mut self, what: Mend) {
        self.disturbed();
        match what {
            Mend::Disk(region) => {
                self.regions[region].store.set_capacity(u64::MAX);
                self.regions[region].disk_full = false;
            }
            Mend::SlowDisk(region) => self.regions[region].commit_ms_max = 4,
            Mend::Reach => self.doubt_leader(),
            Mend::Link => self.link.cut_until = self.now,
        }
    }

    /// Everything that is broken is put right, at once; a pause ends by itself.
    pub(super) fn heal(&mut self) {
        self.voters.cuts.heal();
        for region in 0..2 {
            self.mend(Mend::Disk(region));
            self.mend(Mend::SlowDisk(region));
            self.regions[region].dies_with_disk = None;
            self.regions[region].time.forget_pause();
            self.regions[region].time.forget_failure();
        }
        for node in 0..NODES {
            self.after(0, Happening::Start { node });
        }
        self.link.stalled_until = [self.now; 2];
        self.mend(Mend::Link);
        self.mend(Mend::Reach);
        self.after(0, Happening::LinkMade);
    }

    fn trim(&mut self, region: RegionId, older_ms: i64) {
        if self.regions[region].process.is_none() {
            return;
        }
        let now = self.regions[region]
            .clock
            .at(self.now)
            .plus(DAY_MS - older_ms);
        let store = self.regions[region].store.clone();
        // A failed store trims nothing; it is tried again by the next trouble of this kind, as the region does by its timer.
        let Ok(_) = store.trim(UnixMillis(now.0)) else {
            return;
        };
        for at in self.partitions.clone() {
            // What is stored counts: the process may not have opened it yet.
            let head = store
                .head(at)
                .ok()
                .flatten()
                .and_then(|bytes| Head::decode(&bytes).ok());
            let next = head.map_or(Sequence(0), |head| head.next_sequence);
            let bounds = store.log_bounds(at).ok().flatten();
            let kept = match (bounds, head) {
                (Some(bounds), _) => bounds.first_lsn,
                (None, Some(head)) => head.lsn.next(),
                (None, None) => Lsn(0),
            };
            let first = first_kept(bounds, next);
            self.record(Entry::Trimmed {
                region,
                at,
                first,
                kept,
            });
        }
    }

    /// Only a region that is secondary and in no failover: in the middle of one its disk is what the failover relies on.
    fn wipe_secondary(&mut self, down_ms: i64) {
        let Some(hub) = self.plane.state.hub(super::HUB) else {
            return;
        };
        let Some(secondary) = hub.secondary().filter(|_| hub.operation.is_none()).cloned() else {
            return;
        };
        let region = self.region_id(&secondary);
        self.crash(region, down_ms);
        self.regions[region].began = self.regions[region].clock.at(self.now);
        self.regions[region].store = MemoryStore::new(self.disk);
        self.regions[region].disk_full = false;
        self.log_lost(region);
    }
}

fn failure(kept: bool) -> InjectedFault {
    if kept {
        InjectedFault::FailedApplied
    } else {
        InjectedFault::FailedLost
    }
}

/// First sequence number that a log keeps.
pub fn first_kept(bounds: Option<LogBounds>, next: Sequence) -> Sequence {
    bounds.map_or(next, |bounds| bounds.first_sequence)
}
