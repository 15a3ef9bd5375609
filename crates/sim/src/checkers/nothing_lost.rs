//! I2: everything acknowledged is there afterwards, of every kind of data, and once; what was said not to be done was not done.
//!
//! Of what was acknowledged only what a forced failover gave up may be missing; how much that may be is I3.

use super::losses::{Fate, Losses};
use super::questions::{Question, Questions};
use crate::history::{Asked, Entry, EventId, Got, History, OpId, Outcome, Stand};
use std::collections::{BTreeMap, BTreeSet};
use types::{Epoch, ErrorCode, PartitionKey, Sequence};

pub fn check(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut found = telemetry(history, questions, losses);
    for (name, register) in registers(questions, losses) {
        found.extend(register.check(&name));
    }
    found
}

/// Where each event stands, in any region's log at any time.
fn places(history: &History) -> BTreeMap<EventId, BTreeSet<(PartitionKey, Sequence)>> {
    let mut places: BTreeMap<EventId, BTreeSet<(PartitionKey, Sequence)>> = BTreeMap::new();
    for (_, entry) in &history.entries {
        if let Entry::Logged {
            at,
            sequence,
            event,
            ..
        } = entry
        {
            places.entry(*event).or_default().insert((*at, *sequence));
        }
    }
    places
}

fn telemetry(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut found = Vec::new();
    let places = places(history);
    let trimmed = trimmed(history);
    let kept: Vec<BTreeSet<EventId>> = (0..2)
        .map(|region| {
            history
                .finals
                .partitions
                .iter()
                .filter(|p| p.region == region)
                .flat_map(|p| p.events.iter().map(|(_, _, id)| *id))
                .collect()
        })
        .collect();
    for (op, question) in questions {
        let Asked::Telemetry(id) = &question.asked else {
            continue;
        };
        let stands = places.get(id).map_or(0, BTreeSet::len);
        if stands > 1 {
            found.push(format!(
                "question {op}: event {id:?} stands {stands} times in the log: {:?}",
                places[id]
            ));
        }
        if question.is_undone() && stands > 0 {
            found.push(format!(
                "question {op}: event {id:?} was said not to be done, and is in the log at {:?}",
                places[id]
            ));
        }
        if !question.is_acked() {
            continue;
        }
        let Some((at, sequence)) = places.get(id).and_then(|places| places.first()) else {
            found.push(format!(
                "question {op}: event {id:?} was acknowledged and never stood in a log"
            ));
            continue;
        };
        for (region, kept) in kept.iter().enumerate() {
            let gone = trimmed
                .get(&(region, *at))
                .is_some_and(|first| sequence < first);
            if !kept.contains(id) && !gone && !losses.lost(id) {
                found.push(format!("question {op}: event {id:?} was acknowledged at {at}/{sequence} and is not in the log of region {region}"));
            }
        }
    }
    found.extend(order(history, questions));
    found
}

/// First sequence numbers that retention left, as far as the simulator took things away itself: what a copy took over counts too.
fn trimmed(history: &History) -> BTreeMap<(usize, PartitionKey), Sequence> {
    let mut trimmed: BTreeMap<(usize, PartitionKey), Sequence> = BTreeMap::new();
    let mut worst: BTreeMap<PartitionKey, Sequence> = BTreeMap::new();
    for (_, entry) in &history.entries {
        if let Entry::Trimmed { at, first, .. } = entry {
            let known = worst.entry(*at).or_default();
            *known = (*known).max(*first);
        }
    }
    for region in 0..2 {
        trimmed.extend(worst.iter().map(|(at, first)| ((region, *at), *first)));
    }
    trimmed
}

/// A device's acknowledged events stand in the order in which it sent them.
fn order(history: &History, questions: &Questions) -> Vec<String> {
    let sent: BTreeMap<EventId, &Question> = questions
        .values()
        .filter_map(|question| match &question.asked {
            Asked::Telemetry(id) if question.is_acked() => Some((*id, question)),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    for partition in &history.finals.partitions {
        let mut last: BTreeMap<u32, EventId> = BTreeMap::new();
        for (sequence, _, id) in partition
            .events
            .iter()
            .filter(|(_, _, id)| sent.contains_key(id))
        {
            if let Some(before) = last.insert(id.device, *id)
                && before.counter > id.counter
            {
                found.push(format!(
                    "{}/{sequence}: {id:?} stands behind {before:?}",
                    partition.at
                ));
            }
        }
    }
    found
}

/// A value that one client writes and anybody reads.
#[derive(Default)]
struct Register<'a> {
    /// In the order in which they were asked.
    writes: Vec<Write<'a>>,
    reads: Vec<(OpId, Option<u64>, &'a Question)>,
}

struct Write<'a> {
    op: OpId,
    /// `None`: taken away.
    value: Option<u64>,
    question: &'a Question,
    fate: Fate,
}

impl Write<'_> {
    /// A read that was decided at this epoch finds nothing of it any more.
    fn is_gone(&self, epoch: Epoch) -> bool {
        self.fate.is_gone(epoch)
    }

    /// For a read that was decided at this epoch, it may or may not have been done.
    fn is_open(&self, epoch: Epoch) -> bool {
        self.question.is_open() || self.fate.is_doubtful(epoch)
    }
}

impl Register<'_> {
    /// A read must find a write that is not overwritten by one that was acknowledged before the read was asked. A write without an
    /// answer may take effect at any time after it was asked.
    fn check(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (op, value, read) in &self.reads {
            let (Some(answered), Some(decided)) = (read.answered(), read.decided) else {
                continue;
            };
            let epoch = decided.epoch;
            let last_acked = self.writes.iter().rposition(|write| {
                let asked = write.question;
                let before = asked.answered().is_some_and(|place| place < read.invoked);
                asked.is_acked() && before && !write.is_gone(epoch) && !write.is_open(epoch)
            });
            let from = last_acked.unwrap_or(0);
            let untouched = last_acked.is_none() && value.is_none();
            let possible = self.writes.iter().enumerate().any(|(n, write)| {
                let asked = write.question;
                let in_time = asked.invoked < answered && !asked.is_undone();
                let there = in_time && !write.is_gone(epoch) && write.value == *value;
                there && (n >= from || write.is_open(epoch))
            });
            if !possible && !untouched {
                let wanted = last_acked.map(|n| (self.writes[n].op, self.writes[n].value));
                found.push(format!("{name}: question {op} found {value:?}; the last acknowledged write before it was {wanted:?}"));
            }
        }
        found
    }
}

/// Twins' sections, identities and stored offsets.
fn registers<'a>(questions: &'a Questions, losses: &Losses) -> BTreeMap<String, Register<'a>> {
    let mut all: BTreeMap<String, Register<'a>> = BTreeMap::new();
    let mut write = |name: String, op: OpId, value: Option<u64>, question: &'a Question| {
        all.entry(name).or_default().writes.push(Write {
            op,
            value,
            question,
            fate: losses.fate(question),
        })
    };
    for (op, question) in questions {
        match &question.asked {
            Asked::SetReported { device, value } => {
                write(format!("reported of {device}"), *op, Some(*value), question)
            }
            Asked::SetDesired { device, value } => {
                write(format!("desired of {device}"), *op, Some(*value), question)
            }
            Asked::Register { device, value, .. } => {
                write(format!("identity {device}"), *op, Some(*value), question)
            }
            Asked::Unregister { device } => {
                write(format!("identity {device}"), *op, None, question)
            }
            Asked::CommitOffset { consumer, at, next } => write(
                format!("offset of {consumer} at {at}"),
                *op,
                Some(offset(*next)),
                question,
            ),
            _ => {}
        }
    }
    let mut read = |name: String, op: OpId, value: Option<u64>, question| {
        all.entry(name)
            .or_default()
            .reads
            .push((op, value, question))
    };
    for (op, question) in questions {
        match (&question.asked, &question.completed) {
            (Asked::GetTwin { device }, Some((_, Outcome::Acked(Got::Twin(seen))))) => {
                read(
                    format!("reported of {device}"),
                    *op,
                    seen.reported,
                    question,
                );
                read(format!("desired of {device}"), *op, seen.desired, question);
            }
            (
                Asked::GetIdentity { device },
                Some((_, Outcome::Acked(Got::Identity { value, .. }))),
            ) => {
                read(format!("identity {device}"), *op, Some(*value), question);
            }
            (
                Asked::GetIdentity { device },
                Some((_, Outcome::Rejected(ErrorCode::DeviceNotFound))),
            ) => {
                read(format!("identity {device}"), *op, None, question);
            }
            (Asked::GetOffset { consumer, at }, Some((_, Outcome::Acked(Got::Offset(next))))) => {
                read(
                    format!("offset of {consumer} at {at}"),
                    *op,
                    next.map(offset),
                    question,
                );
            }
            _ => {}
        }
    }
    all
}

/// A stored offset as one number.
fn offset(stand: Stand) -> u64 {
    stand.0.0 << 40 | stand.1
}
