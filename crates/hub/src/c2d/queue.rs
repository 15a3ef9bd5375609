//! A device's cloud-to-device queue: order, locks, delivery counts and ends; the messages themselves are stored apart.
//!
//! States of a message: waiting → locked → ended, or back to waiting (abandon, lock time-out, connection gone). A message
//! expires while it waits; while it is locked its holder may still settle it. Source: data-plane notes section 10.1.

use crate::command::{Ack, LockOwner};
use crate::feedback::Outcome;
use crate::{View, ViewError, WriteSet, keys, stored};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{ConnectionId, DeviceId, UnixMillis};

/// What is stored under `q`. Stays when the queue is empty, so that sequence numbers go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    /// Sequence number of the next message, from 1.
    pub next: u64,
    /// In sequence order, at most [`types::limits::C2D_QUEUE_DEPTH_MAX`].
    pub messages: Vec<Entry>,
}

/// One message of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub sequence: u64,
    pub expiry: UnixMillis,
    pub ack: Ack,
    /// How often it came back by abandon or lock time-out.
    pub deliveries: u16,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// Names the last lock. Outlives the lock, so that a late completion is still good while nobody else got the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lock {
    pub until: UnixMillis,
    /// The MQTT connection that holds it; an HTTPS device has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
}

/// A message that left the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub sequence: u64,
    pub ack: Ack,
    pub outcome: Outcome,
}

/// What a step did to the queue beside its purpose.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub ended: Vec<Ended>,
    /// Messages became available to a device again.
    pub freed: bool,
}

impl Entry {
    /// When something happens to it by itself: its lock times out, or it expires.
    pub(super) fn due(&self) -> UnixMillis {
        self.lock.map_or(self.expiry, |lock| lock.until)
    }

    fn end(&self, outcome: Outcome) -> Ended {
        Ended {
            sequence: self.sequence,
            ack: self.ack,
            outcome,
        }
    }

    fn unlock(&mut self) {
        self.lock = None;
        self.redelivered = true;
    }

    /// Takes a failed delivery back into the queue; `Some` if that ends the message.
    fn take_back(&mut self, now: UnixMillis, deliveries_max: u16) -> Option<Outcome> {
        self.unlock();
        self.deliveries = self.deliveries.saturating_add(1);
        if self.expiry <= now {
            Some(Outcome::Expired)
        } else if self.deliveries >= deliveries_max {
            Some(Outcome::DeliveryCountExceeded)
        } else {
            None
        }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue {
            next: 1,
            messages: Vec::new(),
        }
    }

    /// Reads a device's queue; one that never had a message is empty.
    pub(super) fn load(view: &dyn View, device: &DeviceId) -> Result<Self, ViewError> {
        match view.get(&keys::c2d_queue(device))? {
            Some(value) => stored::decode("cloud-to-device queue", &value),
            None => Ok(Queue::new()),
        }
    }

    /// Writes what differs from `before`: the queue, the due index, and messages that are gone.
    pub(super) fn store(&self, before: &Queue, device: &DeviceId, writes: &mut WriteSet) {
        if self == before {
            return;
        }
        let dues = |queue: &Queue| -> BTreeMap<u64, UnixMillis> {
            queue
                .messages
                .iter()
                .map(|entry| (entry.sequence, entry.due()))
                .collect()
        };
        let (old, new) = (dues(before), dues(self));
        for (sequence, due) in &old {
            if new.get(sequence) != Some(due) {
                writes.remove(keys::due(*due, device, *sequence));
            }
            if !new.contains_key(sequence) {
                writes.remove(keys::c2d_message(device, *sequence));
            }
        }
        for (sequence, due) in &new {
            if old.get(sequence) != Some(due) {
                writes.put(keys::due(*due, device, *sequence), vec![stored::VERSION]);
            }
        }
        writes.put(keys::c2d_queue(device), stored::encode(self));
    }

    /// Appends a message and gives its sequence number.
    pub(super) fn push(&mut self, expiry: UnixMillis, ack: Ack) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.messages.push(Entry {
            sequence,
            expiry,
            ack,
            deliveries: 0,
            redelivered: false,
            nonce: None,
            lock: None,
        });
        sequence
    }

    /// Lets happen what is due: locks that timed out end, then expired and undeliverable messages leave. With `only`,
    /// other messages are left alone.
    pub(super) fn refresh(
        &mut self,
        now: UnixMillis,
        deliveries_max: u16,
        only: Option<&BTreeSet<u64>>,
    ) -> Step {
        let mut step = Step::default();
        self.messages.retain_mut(|entry| {
            if entry.due() > now || only.is_some_and(|only| !only.contains(&entry.sequence)) {
                return true;
            }
            let outcome = match entry.lock {
                Some(_) => entry.take_back(now, deliveries_max),
                None => Some(Outcome::Expired),
            };
            step.freed |= outcome.is_none();
            step.ended.extend(outcome.map(|outcome| entry.end(outcome)));
            outcome.is_none()
        });
        step
    }

    /// Ends MQTT locks whose connection `is_gone`, without counting a delivery; true if there were any.
    pub(super) fn release(&mut self, is_gone: impl Fn(ConnectionId) -> bool) -> bool {
        let mut released = false;
        for entry in &mut self.messages {
            if entry
                .lock
                .and_then(|lock| lock.connection)
                .is_some_and(&is_gone)
            {
                entry.unlock();
                released = true;
            }
        }
        released
    }

    /// Locks up to `max` waiting messages in order and gives them as they stand.
    pub(super) fn lock(
        &mut self,
        max: usize,
        owner: LockOwner,
        until: UnixMillis,
        nonce: impl Fn() -> u64,
    ) -> Vec<Entry> {
        let connection = match owner {
            LockOwner::Connection(connection) => Some(connection),
            LockOwner::Http => None,
        };
        let waiting = self
            .messages
            .iter_mut()
            .filter(|entry| entry.lock.is_none());
        let locked = waiting.take(max).map(|entry| {
            entry.nonce = Some(nonce());
            entry.lock = Some(Lock { until, connection });
            entry.clone()
        });
        locked.collect()
    }

    /// Completes the message of a lock, also of one that timed out if nobody else got the message since.
    pub(super) fn complete(&mut self, nonce: u64, sequence: u64) -> Option<Step> {
        let at = self
            .messages
            .iter()
            .position(|entry| entry.sequence == sequence && entry.nonce == Some(nonce))?;
        Some(Step {
            ended: vec![self.messages.remove(at).end(Outcome::Success)],
            freed: false,
        })
    }

    /// Takes the message of a lock that still holds out of the queue as rejected.
    pub(super) fn reject(&mut self, nonce: u64, sequence: u64, now: UnixMillis) -> Option<Step> {
        let at = self.position_locked(nonce, sequence, now)?;
        Some(Step {
            ended: vec![self.messages.remove(at).end(Outcome::Rejected)],
            freed: false,
        })
    }

    /// Puts the message of a lock that still holds back into its place in the queue; its token is worth nothing then.
    pub(super) fn abandon(
        &mut self,
        nonce: u64,
        sequence: u64,
        now: UnixMillis,
        deliveries_max: u16,
    ) -> Option<Step> {
        let at = self.position_locked(nonce, sequence, now)?;
        let entry = self.messages.get_mut(at)?;
        entry.nonce = None;
        match entry.take_back(now, deliveries_max) {
            Some(outcome) => Some(Step {
                ended: vec![self.messages.remove(at).end(outcome)],
                freed: false,
            }),
            None => Some(Step {
                ended: Vec::new(),
                freed: true,
            }),
        }
    }

    fn position_locked(&self, nonce: u64, sequence: u64, now: UnixMillis) -> Option<usize> {
        let held = |lock: Option<Lock>| lock.is_some_and(|lock| lock.until > now);
        self.messages.iter().position(|entry| {
            entry.sequence == sequence && entry.nonce == Some(nonce) && held(entry.lock)
        })
    }

    /// Empties the queue.
    pub(super) fn purge(&mut self) -> Step {
        let ended = self
            .messages
            .drain(..)
            .map(|entry| entry.end(Outcome::Purged))
            .collect();
        Step {
            ended,
            freed: false,
        }
    }
}
