//! The feedback queue of a partition: what became of cloud-to-device messages, for the services that sent them.
//!
//! Records are appended in order and handed out in batches. A batch stays together until it is completed, expires or was
//! delivered too often, so taking one back touches only the queue's entry. Source: data-plane notes sections 5.1, 7.1, 12.1.

use crate::c2d::token;
use crate::command::{Ack, FeedbackBatch, FeedbackCommand};
use crate::{Context, Decision, Refused, Reply, View, ViewError, WriteSet, keys, time_text};
use queue::{Batch, Lock, Queue, StoredRecord, read_records};
use serde::{Deserialize, Serialize};
use types::{DeviceId, limits};

mod queue;
#[cfg(test)]
mod tests;

/// Decides one command of this family.
///
/// # Errors
/// [`types::ErrorCode::DeviceMessageLockLost`] for a lock token that is unknown or whose lock is gone; [`Refused::View`] as
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
