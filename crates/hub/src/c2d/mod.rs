//! Cloud-to-device messages: one durable first-in-first-out queue per device. Source: data-plane notes section 10.1.
//!
//! A message is stored once and never rewritten; its place, lock and delivery count stand in the device's small queue entry,
//! which is all that locking, abandoning and counting touch. The due index finds what expires or times out by itself.

mod message;
mod queue;
mod send;
mod sweep;
pub(crate) mod token;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;

use crate::command::{C2dCommand, LockOwner, LockedMessage};
use crate::decision::PresenceChange;
use crate::feedback::{self, Record};
use crate::{Context, Decision, Effect, Refused, Reply, View, ViewError, WriteSet, keys, registry};
use bytes::Bytes;
use message::Header;
use queue::{Entry, Queue, Step};
use types::{ConnectionId, DeviceId, ErrorCode, Reject, UnixMillis, limits};

/// Decides one command of this family.
///
/// # Errors
/// [`ErrorCode::DeviceNotFound`], [`ErrorCode::MessageTooLarge`], [`ErrorCode::ArgumentInvalid`],
/// [`ErrorCode::InvalidMessageExpiryTime`], [`ErrorCode::DeviceMaximumQueueDepthExceeded`],
/// [`ErrorCode::DeviceMessageLockLost`]; [`Refused::View`] as [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &C2dCommand,
) -> Result<Decision, Refused> {
    let work = Work::new(view, context);
    match command {
        C2dCommand::Send { device, message } => send::decide(work, device, message),
        C2dCommand::Lock {
            device,
            max,
            owner,
            lock_ms,
        } => lock(work, device, *max, *owner, *lock_ms),
        C2dCommand::Complete { device, lock_token } => {
            settle(work, device, lock_token, |queue, nonce, sequence| {
                queue.complete(nonce, sequence)
            })
        }
        C2dCommand::Reject { device, lock_token } => {
            settle(work, device, lock_token, |queue, nonce, sequence| {
                queue.reject(nonce, sequence, context.now)
            })
        }
        C2dCommand::Abandon { device, lock_token } => {
            let deliveries_max = work.deliveries_max();
            settle(work, device, lock_token, |queue, nonce, sequence| {
                queue.abandon(nonce, sequence, context.now, deliveries_max)
            })
        }
        C2dCommand::Purge { device } => purge(work, device),
        C2dCommand::Sweep { max } => Ok(sweep::decide(work, *max)?),
    }
}

/// Messages in a device's queue, locked ones included: a new connection takes those over at once.
///
/// # Errors
/// When state cannot be read.
pub fn waiting(view: &dyn View, device: &DeviceId) -> Result<u32, ViewError> {
    Ok(u32::try_from(Queue::load(view, device)?.messages.len()).unwrap_or(u32::MAX))
}

/// Removes everything a device's queue keeps, without feedback, and gives the number of messages dropped: for a device that
/// is deleted.
///
/// # Errors
/// When state cannot be read.
pub fn clear(
    view: &dyn View,
    device: &DeviceId,
    writes: &mut WriteSet,
) -> Result<usize, ViewError> {
    let key = keys::c2d_queue(device);
    if view.get(&key)?.is_none() {
        return Ok(0);
    }
    let queue = Queue::load(view, device)?;
    for entry in &queue.messages {
        writes.remove(keys::c2d_message(device, entry.sequence));
        writes.remove(keys::due(entry.due(), device, entry.sequence));
    }
    writes.remove(key);
    Ok(queue.messages.len())
}

/// Ends the locks of an MQTT connection that closed, without counting a delivery; true when messages became available.
/// Optional: the device's next connection takes such locks over anyway, this lets HTTPS have them at once too.
///
/// # Errors
/// When state cannot be read.
pub fn release(
    view: &dyn View,
    device: &DeviceId,
    connection: ConnectionId,
    writes: &mut WriteSet,
) -> Result<bool, ViewError> {
    let before = Queue::load(view, device)?;
    let mut queue = before.clone();
    let released = queue.release(|holder| holder == connection);
    queue.store(&before, device, writes);
    Ok(released)
}

fn lock(
    mut work: Work<'_>,
    device: &DeviceId,
    max: usize,
    owner: LockOwner,
    lock_ms: i64,
) -> Result<Decision, Refused> {
    if !(1..=limits::C2D_LOCK_MS_MAX).contains(&lock_ms) {
        let text = format!("a lock lasts 1 to {} milliseconds", limits::C2D_LOCK_MS_MAX);
        return Err(Reject::new(ErrorCode::ArgumentInvalid, text).into());
    }
    let context = work.context;
    if is_replaced(context, device, owner) {
        return Ok(Decision::reply(Reply::C2dMessages(Vec::new())));
    }
    let (now, deliveries_max) = (context.now, work.deliveries_max());
    let before = Queue::load(work.view, device)?;
    let mut queue = before.clone();
    let mut ended = queue.refresh(now, deliveries_max, None).ended;
    if let LockOwner::Connection(connection) = owner {
        queue.release(|holder| holder != connection);
        ended.extend(queue.refresh(now, deliveries_max, None).ended);
    }
    let locked = queue.lock(max, owner, now.plus(lock_ms), || token::new_nonce(context));
    work.change(
        device,
        &before,
        &queue,
        Step {
            ended,
            freed: false,
        },
    )?;
    let messages = locked
        .into_iter()
        .map(|entry| work.locked_message(device, entry))
        .collect::<Result<Vec<_>, _>>()?;
    if !messages.is_empty() {
        work.heard_of(device);
    }
    Ok(work.finish(Reply::C2dMessages(messages))?)
}

/// A connection that is not the device's present one any more must not take messages from it.
fn is_replaced(context: &Context<'_>, device: &DeviceId, owner: LockOwner) -> bool {
    match owner {
        LockOwner::Connection(connection) => {
            (context.presence)(device).is_some_and(|present| present.connection != connection)
        }
        LockOwner::Http => false,
    }
}

/// Ends a lock one way or the other; `end` is told nonce and sequence number and gives `None` if the lock is lost.
fn settle(
    mut work: Work<'_>,
    device: &DeviceId,
    lock_token: &str,
    end: impl FnOnce(&mut Queue, u64, u64) -> Option<Step>,
) -> Result<Decision, Refused> {
    let lost = || {
        Reject::new(
            ErrorCode::DeviceMessageLockLost,
            "the lock token is unknown or its lock has expired",
        )
    };
    let (nonce, sequence) = token::parse_lock_token(lock_token).ok_or_else(lost)?;
    let before = Queue::load(work.view, device)?;
    let mut queue = before.clone();
    let step = end(&mut queue, nonce, sequence).ok_or_else(lost)?;
    work.change(device, &before, &queue, step)?;
    work.heard_of(device);
    Ok(work.finish(Reply::Done)?)
}

fn purge(mut work: Work<'_>, device: &DeviceId) -> Result<Decision, Refused> {
    if registry::identity(work.view, device)?.is_none() {
        return Err(Reject::new(ErrorCode::DeviceNotFound, "the device is not registered").into());
    }
    let before = Queue::load(work.view, device)?;
    let mut queue = before.clone();
    let expired = queue.refresh(work.context.now, work.deliveries_max(), None);
    let purged = queue.purge();
    let count = purged.ended.len();
    work.change(
        device,
        &before,
        &queue,
        Step {
            ended: [expired.ended, purged.ended].concat(),
            freed: false,
        },
    )?;
    Ok(work.finish(Reply::Purged { count })?)
}

/// One decision in the making.
struct Work<'a> {
    view: &'a dyn View,
    context: &'a Context<'a>,
    decision: Decision,
    records: Vec<Record>,
}

impl<'a> Work<'a> {
    fn new(view: &'a dyn View, context: &'a Context<'a>) -> Self {
        Work {
            view,
            context,
            decision: Decision::reply(Reply::Done),
            records: Vec::new(),
        }
    }

    fn deliveries_max(&self) -> u16 {
        self.context
            .settings
            .cloud_to_device
            .max_delivery_count
            .max(1)
    }

    /// Writes a queue that changed and what follows from it: feedback, and a nudge to the connected device.
    fn change(
        &mut self,
        device: &DeviceId,
        before: &Queue,
        after: &Queue,
        step: Step,
    ) -> Result<(), ViewError> {
        for ended in step.ended {
            if ended.outcome.is_wanted(ended.ack) {
                let (header, _) = self.message(device, ended.sequence)?;
                self.records.push(Record {
                    message_id: header.message_id,
                    device: device.clone(),
                    generation: header.generation,
                    outcome: ended.outcome,
                });
            }
        }
        after.store(before, device, &mut self.decision.writes);
        if step.freed {
            self.nudge(device);
        }
        Ok(())
    }

    fn nudge(&mut self, device: &DeviceId) {
        if (self.context.presence)(device).is_some() {
            self.decision.effects.push(Effect::C2dWaiting {
                device: device.clone(),
            });
        }
    }

    fn heard_of(&mut self, device: &DeviceId) {
        self.decision.presence.push(PresenceChange::Activity {
            device: device.clone(),
            at: self.context.now,
        });
    }

    fn message(&self, device: &DeviceId, sequence: u64) -> Result<(Header, Bytes), ViewError> {
        let value = self.view.get(&keys::c2d_message(device, sequence))?;
        message::decode(
            &value
                .ok_or_else(|| ViewError("a queued cloud-to-device message is missing".into()))?,
        )
    }

    fn locked_message(&self, device: &DeviceId, entry: Entry) -> Result<LockedMessage, ViewError> {
        let (header, body) = self.message(device, entry.sequence)?;
        Ok(LockedMessage {
            lock_token: token::lock_token(
                entry.nonce.expect("a locked message has a nonce"),
                entry.sequence,
            ),
            sequence: entry.sequence,
            enqueued: header.enqueued,
            expiry: header.expiry,
            delivery_count: entry.deliveries,
            redelivered: entry.redelivered,
            message: header.into_message(body),
        })
    }

    fn finish(self, reply: Reply) -> Result<Decision, ViewError> {
        self.finish_and_trim(reply, 0)
    }

    /// Writes the feedback collected, and drops up to `trim_max` expired feedback records.
    fn finish_and_trim(mut self, reply: Reply, trim_max: usize) -> Result<Decision, ViewError> {
        feedback::append(
            self.view,
            self.context,
            self.records,
            trim_max,
            &mut self.decision.writes,
        )?;
        self.decision.reply = reply;
        Ok(self.decision)
    }

    fn now(&self) -> UnixMillis {
        self.context.now
    }
}
