//! Checks a commit against the contract before anything is written.

use super::{CutAt, Directory, Position, newest};
use crate::{LogRecord, PartitionCommit, StoreError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::{PartitionKey, limits};

/// How segments are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub bytes_max: u64,
    pub age_divisor: u32,
}

/// What a commit will do, checked before anything is written.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub positions: BTreeMap<PartitionKey, Position>,
    /// Classes that need a new segment first.
    pub roll: BTreeSet<u8>,
    /// Bytes the commit adds, roughly.
    pub bytes: u64,
    /// Logs that are cut.
    pub cuts: BTreeMap<PartitionKey, CutAt>,
}

impl<H: Clone> Directory<H> {
    /// Checks a commit against the contract and says what it needs.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], or [`StoreError::Corrupt`] for a damaged partition.
    pub(crate) fn plan(
        &self,
        commits: &[(PartitionKey, PartitionCommit)],
        cuts: &BTreeMap<PartitionKey, CutAt>,
        cut: Cut,
    ) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        for (key, commit) in commits {
            check_alone(*key, commit, &plan)?;
            let mut position = match plan.positions.remove(key) {
                Some(planned) => planned,
                None => self
                    .partition(*key)?
                    .map(|p| p.position.clone())
                    .unwrap_or_default(),
            };
            if position.clearing {
                return Err(StoreError::Invalid(format!(
                    "partition {key} is being cleared"
                )));
            }
            if let (Some(_), Some(at)) = (commit.truncate_after, cuts.get(key)) {
                position.cut(at);
                plan.cuts.insert(*key, *at);
            }
            if let Some(first) = commit.records.first() {
                let days = self.retention_of(*key, &position)?;
                if self.must_roll(
                    *key,
                    position.generation,
                    days,
                    first.lsn.0,
                    newest(&commit.records),
                    cut,
                ) {
                    plan.roll.insert(days);
                }
                position.retention_days = days;
            }
            for record in &commit.records {
                advance(*key, &mut position, record)?;
                plan.bytes += record.bytes.len() as u64 + 128;
            }
            for (name, value) in &commit.state {
                check_state_entry(*key, name, value.as_ref())?;
                plan.bytes += (name.len() + value.as_ref().map_or(0, Bytes::len)) as u64 + 64;
            }
            if let Some(head) = &commit.head {
                plan.bytes += head.len() as u64;
                position.head = Some(head.clone());
            }
            plan.bytes += 128;
            plan.positions.insert(*key, position);
        }
        Ok(plan)
    }

    fn retention_of(&self, key: PartitionKey, position: &Position) -> Result<u8, StoreError> {
        let days = match (self.retention.get(&key), position.retention_days) {
            (Some(days), _) => *days,
            (None, 0) => limits::RETENTION_DAYS_MAX,
            (None, days) => days,
        };
        if (limits::RETENTION_DAYS_MIN..=limits::RETENTION_DAYS_MAX).contains(&days) {
            Ok(days)
        } else {
            Err(StoreError::Invalid(format!(
                "partition {key} has a retention of {days} days; 1 to 7 are known"
            )))
        }
    }

    fn must_roll(
        &self,
        key: PartitionKey,
        generation: u32,
        days: u8,
        lsn: u64,
        time: i64,
        cut: Cut,
    ) -> bool {
        let Some((id, segment)) = self
            .current(days)
            .and_then(|id| Some((id, self.segments.get(&id)?)))
        else {
            return true;
        };
        let age_max = id.retention_ms() / i64::from(cut.age_divisor.max(1));
        let old = segment
            .begun
            .is_some_and(|begun| time.saturating_sub(begun) > age_max);
        // A partition that came back from another class starts a new segment, so that a segment holds one run of it.
        let came_back = segment
            .runs
            .get(&(key, generation))
            .is_some_and(|run| run.last_lsn.wrapping_add(1) != lsn);
        old || came_back || segment.bytes >= cut.bytes_max
    }
}

/// A commit that cuts a partition's log appends nothing to it.
fn check_alone(key: PartitionKey, commit: &PartitionCommit, plan: &Plan) -> Result<(), StoreError> {
    let cuts = commit.truncate_after.is_some();
    let appends = !commit.records.is_empty();
    let twice = plan.positions.contains_key(&key);
    if cuts && (appends || twice) || appends && plan.cuts.contains_key(&key) {
        return Err(StoreError::Invalid(format!(
            "partition {key}: its log cannot be cut and appended to in one commit"
        )));
    }
    Ok(())
}

/// Checks that a record may follow and moves the position past it.
fn advance(
    key: PartitionKey,
    position: &mut Position,
    record: &LogRecord,
) -> Result<(), StoreError> {
    let invalid = |why: String| {
        Err(StoreError::Invalid(format!(
            "partition {key}, lsn {}: {why}",
            record.lsn
        )))
    };
    if record.lsn.0 == 0 || record.lsn.0 == u64::MAX {
        return invalid("it is not a record's position".into());
    }
    let Some(next_sequence) = record
        .first_sequence
        .0
        .checked_add(u64::from(record.event_count))
    else {
        return invalid("its sequence numbers overflow".into());
    };
    if position.last_lsn == 0 {
        position.first_lsn = record.lsn.0;
        position.event_time = i64::MIN;
    } else if record.lsn.0 != position.last_lsn + 1 {
        return invalid(format!("the next lsn is {}", position.last_lsn + 1));
    } else if record.first_sequence.0 != position.next_sequence {
        return invalid(format!(
            "first sequence is {}, the next one is {}",
            record.first_sequence, position.next_sequence
        ));
    }
    if record.event_count > 0 {
        if position.event_time > record.time.0 {
            return invalid(format!(
                "its time {} is before the last event's {}",
                record.time, position.event_time
            ));
        }
        position.event_time = record.time.0;
    }
    position.last_lsn = record.lsn.0;
    position.next_sequence = next_sequence;
    Ok(())
}

/// Longest state key and value: what the engine's length fields hold, less the partition prefix.
const STATE_KEY_BYTES_MAX: usize = u16::MAX as usize - 64;
const VALUE_BYTES_MAX: usize = 1 << 30;

fn check_state_entry(
    key: PartitionKey,
    name: &[u8],
    value: Option<&Bytes>,
) -> Result<(), StoreError> {
    if name.is_empty() || name.len() > STATE_KEY_BYTES_MAX {
        let why = format!(
            "partition {key}: a state key has {} bytes; 1 to {STATE_KEY_BYTES_MAX} are possible",
            name.len()
        );
        return Err(StoreError::Invalid(why));
    }
    match value {
        Some(value) if value.len() > VALUE_BYTES_MAX => Err(StoreError::Invalid(format!(
            "partition {key}: a state value has {} bytes",
            value.len()
        ))),
        _ => Ok(()),
    }
}
