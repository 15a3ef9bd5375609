//! What goes wrong, when, and how it is put right.

use super::World;
use super::event::{Happening, Mend};
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
    /// A region cannot reach the control plane.
    CutPlane {
        region: RegionId,
        ms: i64,
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

/// Which kinds of trouble a run has: few at a time find more than all at once.
#[derive(Clone, Debug)]
pub struct Mix(Vec<u64>);

/// Kinds of trouble, some more often than others.
const KINDS: [u64; 20] = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11];

impl Mix {
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
            7 => Trouble::CutPlane {
                region,
                ms: rng.range(200, 6000),
            },
            8 => Trouble::LeaderMoves,
            9 => Trouble::StepClock {
                region,
                ms: rng.range(-700, 700),
            },
            10 => Trouble::Trim {
                region,
                older_ms: rng.range(0, 20_000),
            },
            _ => Trouble::WipeSecondary { down_ms },
        }
    }
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
            Trouble::CutLink { ms } => self.break_link(ms),
            Trouble::Stall { to, ms } => self.link.stalled_until[to] = self.now + ms,
            Trouble::Crash { region, down_ms } => self.crash(region, down_ms),
            Trouble::CrashAtCommit {
                region,
                nth,
                kept,
                down_ms,
            } => {
                self.regions[region].dies_with_disk = Some(down_ms);
                self.regions[region].store.inject(nth, failure(kept));
            }
            Trouble::DiskFails { region, nth, kept } => {
                self.regions[region].store.inject(nth, failure(kept))
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
            Trouble::CutPlane { region, ms } => {
                self.plane.cut[region] = true;
                if self.plane.leader == Some(region) {
                    self.plane.leader = None;
                    let election = self.rng.range(300, 1500);
                    self.after(election, Happening::Elect);
                }
                self.after(ms, Happening::Mend(Mend::Plane(region)));
            }
            Trouble::LeaderMoves => {
                self.plane.leader = None;
                let election = self.rng.range(50, 800);
                self.after(election, Happening::Elect);
            }
            Trouble::StepClock { region, ms } => {
                self.regions[region].clock.offset_ms += ms;
                self.note_clock_error();
            }
            Trouble::Trim { region, older_ms } => self.trim(region, older_ms),
            Trouble::WipeSecondary { down_ms } => self.wipe_secondary(down_ms),
        }
    }

    pub(super) fn mend(&mut self, what: Mend) {
        self.disturbed();
        match what {
            Mend::Disk(region) => {
                self.regions[region].store.set_capacity(u64::MAX);
                self.regions[region].disk_full = false;
            }
            Mend::SlowDisk(region) => self.regions[region].commit_ms_max = 4,
            Mend::Plane(region) => {
                self.plane.cut[region] = false;
                if self.plane.leader.is_none() {
                    self.after(300, Happening::Elect);
                }
            }
            Mend::Link => self.link.cut_until = self.now,
        }
    }

    /// Everything that is broken is put right, at once.
    pub(super) fn heal(&mut self) {
        for region in 0..2 {
            self.mend(Mend::Disk(region));
            self.mend(Mend::SlowDisk(region));
            self.mend(Mend::Plane(region));
            self.regions[region].dies_with_disk = None;
            self.after(0, Happening::Start { region });
        }
        self.link.stalled_until = [self.now; 2];
        self.mend(Mend::Link);
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
            let first = first_kept(store.log_bounds(at).ok().flatten(), next);
            self.record(Entry::Trimmed { region, at, first });
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
        self.regions[region].store = MemoryStore::new(self.disk);
        self.regions[region].disk_full = false;
        for at in self.partitions.clone() {
            self.regions[region].logged.insert(at, Lsn(0));
            self.record(Entry::Reset { region, at });
        }
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
