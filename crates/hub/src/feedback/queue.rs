//! The stored form of the feedback queue: its entry, its batches and its records.

use super::{Outcome, Record};
use crate::c2d::token;
use crate::{Context, View, ViewError, WriteSet, keys, stored};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{DeviceId, ErrorCode, Reject, UnixMillis, limits};

/// What is stored under `F`. Records before `taken` belong to a batch or are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    /// Sequence number of the next record.
    pub next: u64,
    /// Sequence number of the first record that is in no batch yet.
    pub taken: u64,
    /// In order, disjoint, at most [`limits::FEEDBACK_BATCHES_LOCKED_MAX`].
    pub batches: Vec<Batch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub first: u64,
    pub last: u64,
    /// When its last record expires.
    pub expiry: UnixMillis,
    /// How often it came back by abandon or lock time-out.
    pub deliveries: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lock {
    pub nonce: u64,
    pub until: UnixMillis,
}

/// What is stored under `f`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredRecord {
    pub message_id: String,
    pub device: DeviceId,
    pub generation: String,
    pub outcome: Outcome,
    /// When the message ended.
    pub at: UnixMillis,
    pub expiry: UnixMillis,
}

impl Batch {
    pub(super) fn is_free(&self, now: UnixMillis) -> bool {
        self.lock.is_none_or(|lock| lock.until <= now)
    }

    /// Removes its records, those already gone included.
    pub(super) fn erase(&self, writes: &mut WriteSet) {
        for sequence in self.first..=self.last {
            writes.remove(keys::feedback(sequence));
        }
    }
}

impl Queue {
    pub(super) fn load(view: &dyn View) -> Result<Self, ViewError> {
        match view.get(keys::FEEDBACK_QUEUE)? {
            Some(value) => stored::decode("feedback queue", &value),
            None => Ok(Queue {
                next: 1,
                taken: 1,
                batches: Vec::new(),
            }),
        }
    }

    pub(super) fn store(&self, before: &Queue, writes: &mut WriteSet) {
        if self != before {
            writes.put(keys::FEEDBACK_QUEUE, stored::encode(self));
        }
    }

    /// The oldest record that may exist.
    pub(super) fn first(&self) -> u64 {
        self.batches.first().map_or(self.taken, |batch| batch.first)
    }

    pub(super) fn push(&mut self, record: Record, context: &Context<'_>, writes: &mut WriteSet) {
        if self.next - self.first() >= limits::FEEDBACK_QUEUE_DEPTH_MAX as u64 {
            self.drop_oldest(writes);
        }
        let Record {
            message_id,
            device,
            generation,
            outcome,
        } = record;
        let expiry = context
            .now
            .plus(context.settings.cloud_to_device.feedback.ttl_ms);
        let stored = StoredRecord {
            message_id,
            device,
            generation,
            outcome,
            at: context.now,
            expiry,
        };
        writes.put(keys::feedback(self.next), stored::encode(&stored));
        self.next += 1;
    }

    pub(super) fn drop_oldest(&mut self, writes: &mut WriteSet) {
        writes.remove(keys::feedback(self.first()));
        match self.batches.first_mut() {
            Some(batch) if batch.first < batch.last => batch.first += 1,
            Some(_) => drop(self.batches.remove(0)),
            None => self.taken += 1,
        }
    }

    /// The batch whose lock this token names and that passes `is_good`.
    pub(super) fn position(
        &self,
        lock_token: &str,
        is_good: impl Fn(&Lock) -> bool,
    ) -> Result<usize, Reject> {
        let named = token::parse_lock_token(lock_token).map(|(nonce, _)| nonce);
        let is_named = |lock: &Lock| Some(lock.nonce) == named && is_good(lock);
        let at = self
            .batches
            .iter()
            .position(|batch| batch.lock.as_ref().is_some_and(is_named));
        at.ok_or_else(|| {
            Reject::new(
                ErrorCode::DeviceMessageLockLost,
                "the lock token is unknown or its lock has expired",
            )
        })
    }

    /// Takes a batch back after a failed delivery; true if it may be delivered again.
    pub(super) fn take_back(
        &mut self,
        at: usize,
        deliveries_max: u16,
        writes: &mut WriteSet,
    ) -> bool {
        let Some(batch) = self.batches.get_mut(at) else {
            return false;
        };
        batch.lock = None;
        batch.deliveries = batch.deliveries.saturating_add(1);
        if batch.deliveries < deliveries_max {
            return true;
        }
        self.batches.remove(at).erase(writes);
        false
    }

    /// Drops expired records: free batches that are expired as a whole, then what stands in front of the rest.
    pub(super) fn trim(
        &mut self,
        view: &dyn View,
        now: UnixMillis,
        max: usize,
        writes: &mut WriteSet,
    ) -> Result<(), ViewError> {
        let mut dropped = 0;
        self.batches.retain(|batch| {
            let keep = dropped >= max || !batch.is_free(now) || batch.expiry > now;
            if !keep {
                batch.erase(writes);
                dropped += (batch.last - batch.first + 1) as usize;
            }
            keep
        });
        // Mostly nothing has expired, which one record tells.
        for page in [1, max.saturating_sub(dropped).saturating_sub(1)] {
            let records = self.records_from(view, self.taken, page.min(max))?;
            let seen = records.len();
            let expired: Vec<u64> = records
                .into_iter()
                .take_while(|(_, r)| r.expiry <= now)
                .map(|(s, _)| s)
                .collect();
            for sequence in &expired {
                writes.remove(keys::feedback(*sequence));
                self.taken = sequence + 1;
            }
            if expired.len() < seen || seen == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Stored records from `from` on.
    pub(super) fn records_from(
        &self,
        view: &dyn View,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, StoredRecord)>, ViewError> {
        if from >= self.next || limit == 0 {
            return Ok(Vec::new());
        }
        read_records(view, from, self.next, limit)
    }
}

pub(super) fn read_records(
    view: &dyn View,
    from: u64,
    until: u64,
    limit: usize,
) -> Result<Vec<(u64, StoredRecord)>, ViewError> {
    let page = view.scan(&keys::feedback(from), &keys::feedback(until), limit)?;
    let decode = |(key, value): (Bytes, Bytes)| {
        let number = key
            .last_chunk::<8>()
            .ok_or_else(|| ViewError("a feedback key is malformed".into()))?;
        Ok((
            u64::from_be_bytes(*number),
            stored::decode("feedback record", &value)?,
        ))
    };
    page.into_iter().map(decode).collect()
}
