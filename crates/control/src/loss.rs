//! What a forced failover would lose, as far as it can be known without the primary, and what its operator accepts.

use crate::facts::{RegionFacts, Word};
use crate::failover::lease_wait_ms;
use crate::iso::span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{Epoch, Lsn, PartitionId, UnixMillis, limits};

/// The primary's last word of each partition, and how long ago it came, in milliseconds.
pub type Words = BTreeMap<PartitionId, (Word, i64)>;

/// The loss as of the primary's last words. `records` and `span_ms` are exact as of them; bytes, events, devices and kinds are
/// at most what is lost, since the secondary may have received more after its last confirmation was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossEstimate {
    pub at: UnixMillis,
    pub records: u64,
    pub bytes: u64,
    /// Telemetry events.
    pub events: u64,
    /// Devices touched; at least so many if `devices_cut`.
    pub devices: u64,
    pub devices_cut: bool,
    /// Changes by kind, as [`crate::facts::Tail::kinds`].
    pub kinds: BTreeMap<String, u64>,
    /// From the last record before the loss to the last lost one, in milliseconds: the longest over all partitions.
    pub span_ms: i64,
    /// How old the primary's last word is: the oldest over all partitions.
    pub age_ms: i64,
    /// The span, and what the primary may have acknowledged after its last word: as long as a lease lasts.
    pub worst_ms: i64,
    pub partitions: Vec<PartitionLoss>,
    /// Partitions of which no word is known: their loss cannot be told.
    #[serde(default)]
    pub unknown: Vec<PartitionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLoss {
    pub partition: PartitionId,
    /// The primary's last known record.
    pub known_lsn: Lsn,
    /// The secondary's last record.
    pub have_lsn: Lsn,
    pub records: u64,
}

/// The loss an operator accepts. Every bound that is given holds; without any, no loss is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLoss {
    #[serde(default)]
    pub span_ms: Option<i64>,
    #[serde(default)]
    pub records: Option<u64>,
    /// Whatever it is, also what cannot be told.
    #[serde(default)]
    pub all: bool,
}

impl AcceptedLoss {
    /// Whether the estimate stays within what is accepted.
    ///
    /// # Errors
    /// What exceeds it, in words.
    pub fn covers(&self, loss: &LossEstimate) -> Result<(), String> {
        if self.all {
            return Ok(());
        }
        if !loss.unknown.is_empty() {
            return Err(format!(
                "the loss of {} cannot be told, which only accepting all covers",
                numbered(&loss.unknown)
            ));
        }
        if loss.records == 0 {
            return Ok(());
        }
        let found = format!("{} records spanning {}", loss.records, span(loss.span_ms));
        match (self.span_ms, self.records) {
            (None, None) => Err(format!("{found} may be lost, and no loss was accepted")),
            (Some(most), _) if loss.span_ms > most => Err(format!(
                "{found} may be lost, more than the accepted {}",
                span(most)
            )),
            (_, Some(most)) if loss.records > most => Err(format!(
                "{found} may be lost, more than the accepted {most} records"
            )),
            _ => Ok(()),
        }
    }

    /// The bound in words.
    pub fn text(&self) -> String {
        if self.all {
            return "everything".into();
        }
        match (self.span_ms, self.records) {
            (None, None) => "nothing".into(),
            (Some(most), None) => span(most),
            (None, Some(most)) => format!("{most} records"),
            (Some(time), Some(most)) => format!("{} and {most} records", span(time)),
        }
    }
}

/// The estimate of what `secondary` lacks of a hub's `count` partitions, from the primary's last `words`.
pub fn estimate(
    secondary: &RegionFacts,
    words: &Words,
    count: u16,
    epoch: Epoch,
    now: UnixMillis,
) -> LossEstimate {
    let mut loss = LossEstimate {
        at: now,
        ..LossEstimate::default()
    };
    for partition in (0..count).map(PartitionId) {
        let mine = secondary
            .partitions
            .iter()
            .find(|p| p.partition == partition);
        match (mine, words.get(&partition)) {
            (Some(mine), Some((word, age)))
                if word.epoch >= mine.epoch.max(epoch) && (mine.lsn.0 > 0 || word.lsn.0 == 0) =>
            {
                loss.add(partition, (mine.lsn, mine.time), word, *age);
            }
            _ => loss.unknown.push(partition),
        }
    }
    // A primary that nobody hears goes on acknowledging until the lease lapses that it renewed last; its words travel with
    // renewals, so the last one that was heard may be older than that by one of them, and lag a little behind the log.
    let unheard = lease_wait_ms().saturating_add(2 * limits::LEASE_RENEW_MS as i64);
    loss.worst_ms = loss.span_ms.saturating_add(unheard);
    loss
}

impl LossEstimate {
    fn add(
        &mut self,
        partition: PartitionId,
        (have, have_time): (Lsn, UnixMillis),
        word: &Word,
        age_ms: i64,
    ) {
        let records = word.lsn.0.saturating_sub(have.0);
        self.age_ms = self.age_ms.max(age_ms);
        self.partitions.push(PartitionLoss {
            partition,
            known_lsn: word.lsn,
            have_lsn: have,
            records,
        });
        if records == 0 {
            return;
        }
        // What is lost begins after both: the secondary's last record, and the oldest it had not confirmed. A ledger with gaps,
        // as after a restart of the primary, does not know that oldest one; nor does it if the secondary lost what it had confirmed.
        let knows = !word.tail.devices_cut && have >= word.tail.after;
        let oldest = word.tail.oldest.filter(|_| knows);
        let begins = oldest.map_or(have_time, |oldest| oldest.max(have_time));
        self.span_ms = self.span_ms.max(word.time.since(begins));
        self.records = self.records.saturating_add(records);
        self.bytes = self.bytes.saturating_add(word.tail.bytes);
        self.devices = self.devices.saturating_add(word.tail.devices);
        self.devices_cut |= word.tail.devices_cut;
        for (kind, count) in &word.tail.kinds {
            let sum = self.kinds.entry(kind.clone()).or_default();
            *sum = sum.saturating_add(*count);
            if kind == EVENTS {
                self.events = self.events.saturating_add(*count);
            }
        }
    }
}

/// The kind under which telemetry events are counted.
pub const EVENTS: &str = "telemetry";

/// The latest word of each partition from several sources: the greatest epoch, then the greatest position, then the youngest.
pub fn latest(sources: impl IntoIterator<Item = Words>) -> Words {
    let mut latest = Words::new();
    for (partition, (word, age)) in sources.into_iter().flatten() {
        let rank = |word: &Word, age: i64| (word.epoch, word.lsn, std::cmp::Reverse(age));
        match latest.get(&partition) {
            Some((known, known_age)) if rank(known, *known_age) >= rank(&word, age) => {}
            _ => drop(latest.insert(partition, (word, age))),
        }
    }
    latest
}

impl RegionFacts {
    /// The primary's words as this region, the secondary, has heard them.
    pub fn words_heard(&self) -> Words {
        let heard = |p: &crate::facts::PartitionFacts| Some((p.partition, p.word.clone()?));
        self.partitions.iter().filter_map(heard).collect()
    }

    /// This region's own words, if it answers as the primary.
    pub fn words_own(&self) -> Words {
        let own = |p: &crate::facts::PartitionFacts| {
            let word = Word {
                epoch: p.epoch,
                lsn: p.lsn,
                next_sequence: types::Sequence(0),
                time: p.time,
                tail: p.tail.clone()?,
            };
            Some((p.partition, (word, 0)))
        };
        self.partitions.iter().filter_map(own).collect()
    }
}

/// Partitions by their numbers, for a person.
pub(crate) fn numbered(partitions: &[PartitionId]) -> String {
    let numbers: Vec<_> = partitions.iter().map(|p| p.0.to_string()).collect();
    match numbers.len() {
        1 => format!("partition {}", numbers[0]),
        _ => format!("partitions {}", numbers.join(", ")),
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
