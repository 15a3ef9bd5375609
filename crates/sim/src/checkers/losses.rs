//! What forced failovers lost, put together from a history: everything that the old primary's log had beyond the position at
//! which the new one opened.

use super::questions::Question;
use crate::history::{Entry, EventId, History, LostRange, RegionId, Shown};
use std::collections::{BTreeMap, BTreeSet};
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

/// A record that stood in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stood {
    pub epoch: Epoch,
    pub crc: u32,
    pub time: UnixMillis,
}

/// One forced failover that was committed and opened.
#[derive(Clone, Debug)]
pub struct Loss {
    pub operation: String,
    /// The old primary.
    pub from: RegionId,
    /// The epoch that began.
    pub epoch: Epoch,
    pub shown: Shown,
    /// Where the new primary began, as the control plane recorded it.
    pub positions: BTreeMap<PartitionKey, (Lsn, Sequence)>,
    /// Where the histories part in truth.
    pub common: BTreeMap<PartitionKey, (Lsn, Sequence)>,
    /// What the new primary opened with.
    had: BTreeMap<PartitionKey, Records>,
    /// The new primary had been left behind by a forced failover itself, and had not returned.
    pub unreturned: bool,
    /// What only the old primary had.
    pub records: BTreeMap<PartitionKey, BTreeMap<Lsn, Stood>>,
    pub events: BTreeMap<EventId, (PartitionKey, Lsn, Sequence)>,
    /// Where the old primary was made primary again before it had given anything up: its history counts again from these epochs.
    pub counts_again: BTreeMap<PartitionKey, Epoch>,
    /// Records before these were taken by retention: nobody can set them aside or count them.
    pub kept_from: BTreeMap<PartitionKey, Lsn>,
    /// The old primary leads again, by force, and its return was not recorded.
    pub leads_again: bool,
    /// The old primary's disk was lost before it returned.
    pub wiped: bool,
    /// What it said when it returned.
    pub returned: Option<Vec<LostRange>>,
}

#[derive(Clone, Debug, Default)]
pub struct Losses(pub Vec<Loss>);

/// How sure it is that something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// Lost when the first epoch began, and back when the second one did, if any.
    Lost(Epoch, Option<Epoch>),
    /// Decided together with something that was lost.
    Perhaps(Epoch),
}

impl Fate {
    /// Nothing of it is found at this epoch.
    pub fn is_gone(self, at: Epoch) -> bool {
        matches!(self, Fate::Lost(lost, back) if lost <= at && back.is_none_or(|back| at < back))
    }

    /// It may or may not be found at this epoch.
    pub fn is_doubtful(self, at: Epoch) -> bool {
        matches!(self, Fate::Perhaps(lost) if lost <= at)
    }
}

pub fn of(history: &History) -> Losses {
    let mut all = opened(history);
    for loss in &mut all {
        collect(history, loss);
    }
    Losses(all)
}

fn opened(history: &History) -> Vec<Loss> {
    let mut shown: BTreeMap<&str, &Shown> = BTreeMap::new();
    let mut returned: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let mut away: Option<(RegionId, String)> = None;
    let mut all = Vec::new();
    for (_, entry) in &history.entries {
        match entry {
            Entry::Forced {
                operation,
                shown: seen,
                ..
            } => drop(shown.insert(operation, seen)),
            Entry::Returned { operation, ranges } => {
                away.take_if(|(_, known)| known == operation);
                returned.entry(operation).or_insert_with(|| ranges.clone());
            }
            Entry::Diverged {
                operation,
                from,
                epoch,
                positions,
            } => {
                all.push(Loss {
                    operation: operation.clone(),
                    from: *from,
                    epoch: *epoch,
                    shown: Shown::clone(
                        shown
                            .get(operation.as_str())
                            .copied()
                            .unwrap_or(&Shown::default()),
                    ),
                    positions: positions
                        .iter()
                        .map(|(at, lsn, next)| (*at, (*lsn, *next)))
                        .collect(),
                    common: BTreeMap::new(),
                    had: BTreeMap::new(),
                    unreturned: away.as_ref().is_some_and(|(region, _)| region != from),
                    records: BTreeMap::new(),
                    events: BTreeMap::new(),
                    counts_again: BTreeMap::new(),
                    kept_from: BTreeMap::new(),
                    leads_again: false,
                    wiped: false,
                    returned: None,
                });
                away = Some((*from, operation.clone()));
            }
            _ => {}
        }
    }
    for loss in &mut all {
        loss.returned = returned.remove(loss.operation.as_str());
    }
    all
}

/// A region's log of one partition as it stands at some moment.
#[derive(Clone, Debug, Default)]
struct Log {
    records: Records,
    /// The sequence number after each record that has events.
    nexts: BTreeMap<Lsn, Sequence>,
}

pub type Records = BTreeMap<Lsn, Stood>;

impl Log {
    /// Takes away what comes after a record.
    fn cut(&mut self, to: Lsn) -> Records {
        drop(self.nexts.split_off(&to.next()));
        self.records.split_off(&to.next())
    }

    /// The last record up to which both are the same.
    fn common(&self, other: &Log) -> Lsn {
        let same = self.records.iter().rev().find(|(lsn, stood)| {
            let theirs = other.records.get(lsn);
            theirs.is_some_and(|theirs| theirs.crc == stood.crc)
        });
        same.map_or(Lsn(0), |(lsn, _)| *lsn)
    }

    fn next_after(&self, lsn: Lsn) -> Sequence {
        let last = self.nexts.range(..=lsn).next_back();
        last.map_or(Sequence(0), |(_, next)| *next)
    }
}

/// Follows both regions' logs from the beginning: what stood in the old primary's beyond what the new one opened with is lost,
/// whether it was taken away or not.
fn collect(history: &History, loss: &mut Loss) {
    let mut logs: BTreeMap<(RegionId, PartitionKey), Log> = BTreeMap::new();
    let mut began = false;
    for (_, entry) in &history.entries {
        match entry {
            Entry::Forced { operation, .. } if *operation == loss.operation => began = true,
            Entry::Record {
                region,
                at,
                lsn,
                epoch,
                crc,
                time,
            } => {
                let stood = Stood {
                    epoch: *epoch,
                    crc: *crc,
                    time: *time,
                };
                if began && *region != loss.from && *epoch == loss.epoch {
                    loss.opened(*at, &logs);
                }
                let log = logs.entry((*region, *at)).or_default();
                log.records.insert(*lsn, stood);
            }
            Entry::Logged {
                region,
                at,
                lsn,
                sequence,
                ..
            } => {
                let log = logs.entry((*region, *at)).or_default();
                log.nexts.insert(*lsn, Sequence(sequence.0 + 1));
            }
            Entry::Rewound { region, at, to } => {
                let gone = logs.entry((*region, *at)).or_default().cut(*to);
                loss.took_away(began && *region == loss.from, *at, gone);
            }
            Entry::Reset { region, at } => {
                let gone = logs.remove(&(*region, *at)).unwrap_or_default().records;
                loss.took_away(began && *region == loss.from, *at, gone);
            }
            Entry::Serves { region, at, epoch } if began => {
                loss.served(*region, *at, *epoch, &logs);
            }
            Entry::Trimmed {
                region, at, kept, ..
            } if *region == loss.from && !loss.records.contains_key(at) => {
                loss.kept_from.insert(*at, *kept);
            }
            Entry::Wiped { region } if *region == loss.from && began => {
                loss.wiped |= !has_returned_before(history, entry, loss);
            }
            _ => {}
        }
    }
    for ((region, at), log) in logs {
        loss.took_away(region == loss.from, at, log.records);
    }
    loss.name_events(history);
}

fn has_returned_before(history: &History, wiped: &Entry, loss: &Loss) -> bool {
    let before = history
        .entries
        .iter()
        .take_while(|(_, entry)| !std::ptr::eq(entry, wiped));
    before.into_iter().any(
        |(_, entry)| matches!(entry, Entry::Returned { operation, .. } if *operation == loss.operation),
    )
}

impl Loss {
    fn took_away(&mut self, mine: bool, at: PartitionKey, gone: Records) {
        if mine && !self.counts_again.contains_key(&at) {
            let lost = gone.into_iter();
            let lost: Records = lost
                .filter(|(lsn, stood)| self.is_lost(at, *lsn, stood))
                .collect();
            self.records.entry(at).or_default().extend(lost);
        }
    }

    /// Whether what this question wrote is part of it: surely, or perhaps; `None`: it is not.
    pub fn part_of(&self, question: &Question) -> Option<bool> {
        let decided = question.decided?;
        let (have, _) = self.common.get(&decided.at)?;
        // Whoever decided it: the old primary had it too, unless that was its own loss.
        let older = decided.epoch < self.epoch;
        (older && decided.upto > *have).then_some(decided.after >= *have)
    }

    /// The new primary's first record of the new epoch comes: what it has now is what it opened with.
    fn opened(&mut self, at: PartitionKey, logs: &BTreeMap<(RegionId, PartitionKey), Log>) {
        if self.had.contains_key(&at) {
            return;
        }
        let empty = Log::default();
        let log = logs.get(&(1 - self.from, at)).unwrap_or(&empty);
        let old = logs.get(&(self.from, at)).unwrap_or(&empty);
        let lsn = log.common(old);
        let recorded = self.positions.get(&at).copied().unwrap_or_default();
        // Of a log that retention took away nothing is left to compare.
        let trimmed = log
            .records
            .keys()
            .next()
            .is_none_or(|first| *first > recorded.0);
        let common = if trimmed && lsn < recorded.0 {
            recorded
        } else {
            (lsn, log.next_after(lsn))
        };
        self.common.insert(at, common);
        self.had.insert(at, log.records.clone());
    }

    /// A region serves a partition at an epoch: the old primary may lead again.
    fn served(
        &mut self,
        region: RegionId,
        at: PartitionKey,
        epoch: Epoch,
        logs: &BTreeMap<(RegionId, PartitionKey), Log>,
    ) {
        let empty = Log::default();
        let log = logs.get(&(region, at)).unwrap_or(&empty);
        let leads_again = region == self.from && epoch > self.epoch;
        self.leads_again |= leads_again;
        if leads_again && !self.counts_again.contains_key(&at) && self.has_lost(at, &log.records) {
            self.took_away(true, at, log.records.clone());
            self.counts_again.insert(at, epoch);
        }
    }

    /// The log still has something that the new primary did not have.
    fn has_lost(&self, at: PartitionKey, records: &Records) -> bool {
        records
            .iter()
            .any(|(lsn, stood)| self.is_lost(at, *lsn, stood))
    }

    fn is_lost(&self, at: PartitionKey, lsn: Lsn, stood: &Stood) -> bool {
        let Some((common, _)) = self.common.get(&at) else {
            return false;
        };
        let theirs = self.had.get(&at).and_then(|had| had.get(&lsn));
        stood.epoch < self.epoch
            && lsn > *common
            && theirs.is_none_or(|theirs| theirs.crc != stood.crc)
    }

    /// What of a partition is lost for good and could be set aside.
    pub fn given_up(&self, at: PartitionKey) -> Records {
        if self.counts_again.contains_key(&at) {
            return Records::new();
        }
        let kept = self.kept_from.get(&at).copied().unwrap_or_default();
        let records = self.records.get(&at).into_iter().flatten();
        let kept = records.filter(|(lsn, _)| **lsn >= kept);
        kept.map(|(lsn, stood)| (*lsn, *stood)).collect()
    }

    /// Events among them.
    pub fn events_given_up(&self, at: PartitionKey) -> usize {
        let kept = self.given_up(at);
        let mine = self
            .events
            .values()
            .filter(|(key, lsn, _)| *key == at && kept.contains_key(lsn));
        mine.count()
    }

    fn name_events(&mut self, history: &History) {
        for (_, entry) in &history.entries {
            if let Entry::Logged {
                region,
                at,
                lsn,
                sequence,
                epoch,
                event,
            } = entry
                && *region == self.from
                && *epoch < self.epoch
                && self
                    .records
                    .get(at)
                    .and_then(|records| records.get(lsn))
                    .is_some_and(|stood| stood.epoch == *epoch)
            {
                self.events.insert(*event, (*at, *lsn, *sequence));
            }
        }
    }
}

impl Losses {
    /// What became of something that this question wrote.
    pub fn fate(&self, question: &Question) -> Fate {
        let Some(decided) = &question.decided else {
            return Fate::Kept;
        };
        for loss in &self.0 {
            let back = loss.counts_again.get(&decided.at).copied();
            match loss.part_of(question) {
                None => {}
                Some(true) => return Fate::Lost(loss.epoch, back),
                Some(false) => return Fate::Perhaps(loss.epoch),
            }
        }
        Fate::Kept
    }

    /// The event stood where it was lost.
    pub fn lost(&self, event: &EventId) -> bool {
        self.0.iter().any(|loss| {
            let place = loss.events.get(event);
            place.is_some_and(|(at, ..)| !loss.counts_again.contains_key(at))
        })
    }

    /// How many times history was cut off up to this epoch: what was seen before may be gone.
    pub fn cuts(&self, epoch: Epoch) -> usize {
        self.0.iter().filter(|loss| loss.epoch <= epoch).count()
    }

    pub fn epochs(&self) -> BTreeSet<Epoch> {
        self.0.iter().map(|loss| loss.epoch).collect()
    }
}
