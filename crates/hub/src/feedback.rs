//! The feedback queue of a partition: what became of cloud-to-device messages, for the services that sent them.
//!
//! Records are appended in order and handed out in batches. A batch stays together until it is completed, expires or was
//! delivered too often, so taking one back touches only the queue's entry. Source: data-plane notes sections 5.1, 7.1, 12.1.

use crate::c2d::token;
use crate::command::{Ack, FeedbackBatch, FeedbackCommand};
use crate::{
    Context, Decision, Refused, Reply, View, ViewError, WriteSet, keys, stored, time_text,
};
use serde::{Deserialize, Serialize};
use types::{DeviceId, ErrorCode, Reject, UnixMillis, limits};

#[cfg(test)]
mod tests;

/// Decides one command of this family.
///
/// # Errors
/// [`ErrorCode::DeviceMessageLockLost`] for a lock token that is unknown or whose lock is gone; [`Refused::View`] as
/// [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &FeedbackCommand,
) -> Result<Decision, Refused> {
    let before = Queue::load(view)?;
    let mut queue = before.clone();
    let mut decision = Decision::reply(Reply::Done);
    match command {
        FeedbackCommand::Lock => {
            let batch = lock(view, context, &mut queue, &mut decision.writes)?;
            decision.reply = Reply::Feedback(batch);
        }
        FeedbackCommand::Complete { lock_token } => {
            let at = queue.position(lock_token, |_| true)?;
            queue.batches.remove(at).erase(&mut decision.writes);
        }
        FeedbackCommand::Abandon { lock_token } => {
            let at = queue.position(lock_token, |lock| lock.until > context.now)?;
            queue.take_back(at, deliveries_max(context), &mut decision.writes);
        }
    }
    queue.store(&before, &mut decision.writes);
    Ok(decision)
}

/// How a cloud-to-device message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Success,
    Expired,
    DeliveryCountExceeded,
    Rejected,
    Purged,
}

impl Outcome {
    /// Does a sender who asked for `ack` want to hear of this?
    pub(crate) fn is_wanted(self, ack: Ack) -> bool {
        match ack {
            Ack::None => false,
            Ack::Positive => self == Outcome::Success,
            Ack::Negative => self != Outcome::Success,
            Ack::Full => true,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Outcome::Success => "Success",
            Outcome::Expired => "The message expired before the device completed it.",
            Outcome::DeliveryCountExceeded => {
                "The message was delivered as often as the hub allows."
            }
            Outcome::Rejected => "The device rejected the message.",
            Outcome::Purged => "The device's queue was purged.",
        }
    }
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub message_id: String,
    pub device: DeviceId,
    pub generation: String,
    pub outcome: Outcome,
}

/// Appends records as of now, and drops up to about `trim_max` expired ones; reads nothing when there is nothing to do.
///
/// The queue is bounded by [`limits::FEEDBACK_QUEUE_DEPTH_MAX`]: the oldest record gives way.
///
/// # Errors
/// When state cannot be read.
pub(crate) fn append(
    view: &dyn View,
    context: &Context<'_>,
    records: Vec<Record>,
    trim_max: usize,
    writes: &mut WriteSet,
) -> Result<(), ViewError> {
    if records.is_empty() && trim_max == 0 {
        return Ok(());
    }
    let before = Queue::load(view)?;
    let mut queue = before.clone();
    queue.trim(view, context.now, trim_max, writes)?;
    for record in records {
        queue.push(record, context, writes);
    }
    queue.store(&before, writes);
    Ok(())
}

/// What is stored under `F`. Records before `taken` belong to a batch or are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Queue {
    /// Sequence number of the next record.
    next: u64,
    /// Sequence number of the first record that is in no batch yet.
    taken: u64,
    /// In order, disjoint, at most [`limits::FEEDBACK_BATCHES_LOCKED_MAX`].
    batches: Vec<Batch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Batch {
    first: u64,
    last: u64,
    /// When its last record expires.
    expiry: UnixMillis,
    /// How often it came back by abandon or lock time-out.
    deliveries: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<Lock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    nonce: u64,
    until: UnixMillis,
}

/// What is stored under `f`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRecord {
    message_id: String,
    device: DeviceId,
    generation: String,
    outcome: Outcome,
    /// When the message ended.
    at: UnixMillis,
    expiry: UnixMillis,
}

/// A record as services read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicRecord<'a> {
    original_message_id: &'a str,
    description: &'static str,
    device_generation_id: &'a str,
    device_id: &'a str,
    enqueued_time_utc: String,
    status_code: Outcome,
}

impl Batch {
    fn is_free(&self, now: UnixMillis) -> bool {
        self.lock.is_none_or(|lock| lock.until <= now)
    }

    /// Removes its records, those already gone included.
    fn erase(&self, writes: &mut WriteSet) {
        for sequence in self.first..=self.last {
            writes.remove(keys::feedback(sequence));
        }
    }
}

impl Queue {
    fn load(view: &dyn View) -> Result<Self, ViewError> {
        match view.get(keys::FEEDBACK_QUEUE)? {
            Some(value) => stored::decode("feedback queue", &value),
            None => Ok(Queue {
                next: 1,
                taken: 1,
                batches: Vec::new(),
            }),
        }
    }

    fn store(&self, before: &Queue, writes: &mut WriteSet) {
        if self != before {
            writes.put(keys::FEEDBACK_QUEUE, stored::encode(self));
        }
    }

    /// The oldest record that may exist.
    fn first(&self) -> u64 {
        self.batches.first().map_or(self.taken, |batch| batch.first)
    }

    fn push(&mut self, record: Record, context: &Context<'_>, writes: &mut WriteSet) {
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

    fn drop_oldest(&mut self, writes: &mut WriteSet) {
        writes.remove(keys::feedback(self.first()));
        match self.batches.first_mut() {
            Some(batch) if batch.first < batch.last => batch.first += 1,
            Some(_) => drop(self.batches.remove(0)),
            None => self.taken += 1,
        }
    }

    /// The batch whose lock this token names and that passes `is_good`.
    fn position(&self, lock_token: &str, is_good: impl Fn(&Lock) -> bool) -> Result<usize, Reject> {
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
    fn take_back(&mut self, at: usize, deliveries_max: u16, writes: &mut WriteSet) -> bool {
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
    fn trim(
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
    fn records_from(
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

fn read_records(
    view: &dyn View,
    from: u64,
    until: u64,
    limit: usize,
) -> Result<Vec<(u64, StoredRecord)>, ViewError> {
    let page = view.scan(&keys::feedback(from), &keys::feedback(until), limit)?;
    let decode = |(key, value): (bytes::Bytes, bytes::Bytes)| {
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

fn deliveries_max(context: &Context<'_>) -> u16 {
    context
        .settings
        .cloud_to_device
        .feedback
        .max_delivery_count
        .max(1)
}

/// Locks the oldest batch that came back, else a new one of the records that wait.
fn lock(
    view: &dyn View,
    context: &Context<'_>,
    queue: &mut Queue,
    writes: &mut WriteSet,
) -> Result<Option<FeedbackBatch>, ViewError> {
    let now = context.now;
    while let Some(at) = queue.batches.iter().position(|batch| batch.is_free(now)) {
        let Some(batch) = queue.batches.get(at).cloned() else {
            break;
        };
        if batch.lock.is_some() && !queue.take_back(at, deliveries_max(context), writes) {
            continue;
        }
        let records = read_records(
            view,
            batch.first,
            batch.last + 1,
            limits::FEEDBACK_BATCH_RECORDS_MAX,
        )?;
        let (live, expired): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|(_, record)| record.expiry > now);
        for (sequence, _) in &expired {
            writes.remove(keys::feedback(*sequence));
        }
        match queue.batches.get_mut(at) {
            Some(batch) if !live.is_empty() => return Ok(Some(hand_out(context, batch, &live))),
            _ => drop(queue.batches.remove(at)),
        }
    }
    if queue.batches.len() >= limits::FEEDBACK_BATCHES_LOCKED_MAX {
        return Ok(None);
    }
    lock_new(view, context, queue, writes)
}

/// Pages of expired records one lock passes over; the sweep removes them too.
const EXPIRED_PAGES_MAX: usize = 16;

fn lock_new(
    view: &dyn View,
    context: &Context<'_>,
    queue: &mut Queue,
    writes: &mut WriteSet,
) -> Result<Option<FeedbackBatch>, ViewError> {
    for _ in 0..EXPIRED_PAGES_MAX {
        let records = queue.records_from(view, queue.taken, limits::FEEDBACK_BATCH_RECORDS_MAX)?;
        let Some((last, _)) = records.last() else {
            return Ok(None);
        };
        queue.taken = last + 1;
        let (live, expired): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|(_, record)| record.expiry > context.now);
        for (sequence, _) in &expired {
            writes.remove(keys::feedback(*sequence));
        }
        if let (Some((first, _)), Some((last, _))) = (live.first(), live.last()) {
            let expiry = live
                .iter()
                .map(|(_, record)| record.expiry)
                .max()
                .unwrap_or(context.now);
            let mut batch = Batch {
                first: *first,
                last: *last,
                expiry,
                deliveries: 0,
                lock: None,
            };
            let handed_out = hand_out(context, &mut batch, &live);
            queue.batches.push(batch);
            return Ok(Some(handed_out));
        }
    }
    Ok(None)
}

fn hand_out(
    context: &Context<'_>,
    batch: &mut Batch,
    records: &[(u64, StoredRecord)],
) -> FeedbackBatch {
    let until = context
        .now
        .plus(context.settings.cloud_to_device.feedback.lock_ms);
    let lock = Lock {
        nonce: token::new_nonce(context),
        until,
    };
    batch.lock = Some(lock);
    let public = records
        .iter()
        .map(|(_, record)| publish(record))
        .collect::<Vec<_>>();
    let body =
        serde_json::to_vec(&public).expect("records have string keys and are written to memory");
    FeedbackBatch {
        lock_token: token::lock_token(lock.nonce, batch.first),
        body: body.into(),
    }
}

fn publish(record: &StoredRecord) -> PublicRecord<'_> {
    PublicRecord {
        original_message_id: &record.message_id,
        description: record.outcome.description(),
        device_generation_id: &record.generation,
        device_id: record.device.as_str(),
        enqueued_time_utc: time_text::iso(record.at),
        status_code: record.outcome,
    }
}
