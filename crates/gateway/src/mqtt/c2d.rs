//! Cloud-to-device messages of one session: locked as slots are free, delivered, completed when acknowledged
//! (data-plane notes sections 3.4 and 10.1).

use super::ask::Ask;
use super::end::End;
use super::in_flight::InFlight;
use super::open::{expect_done, wrong_kind};
use super::work::{Tick, Work, publish};
use crate::backend::CallError;
use hub::Reply;
use hub::command::{Ack, LockedMessage};
use std::num::NonZeroU16;
use types::{DeviceId, ErrorCode, limits};
use wire::topic;

/// The state of delivery.
#[derive(Debug, Default)]
pub(super) struct C2d {
    in_flight: InFlight,
    /// The queue may hold more than was locked last time.
    more: bool,
    /// When a lock was asked for that is not answered yet.
    asked: Option<Tick>,
}

impl C2d {
    /// Asks for as many messages as there are free slots.
    pub fn waiting(&mut self, now: Tick, work: &mut Work) {
        self.more = true;
        let max = self.in_flight.free(now);
        if self.asked.is_none() && max > 0 {
            self.asked = Some(now);
            work.ask(Ask::Lock { max });
        }
    }

    /// A delivery was acknowledged: it is done, and its slot is free.
    pub fn acknowledged(&mut self, packet_id: NonZeroU16, now: Tick, work: &mut Work) {
        // An id that is not in flight: its lock lapsed, or the client acknowledges twice.
        if let Some(lock_token) = self.in_flight.remove(packet_id) {
            work.ask(Ask::Complete { lock_token });
            if self.more {
                self.waiting(now, work);
            }
        }
    }

    /// Delivers what was locked, at QoS 1 if `acknowledged`, and goes on while the queue may hold more.
    pub fn locked(
        &mut self,
        device: &DeviceId,
        max: usize,
        acknowledged: bool,
        result: Result<Reply, CallError>,
        now: Tick,
        work: &mut Work,
    ) -> Result<(), End> {
        let messages = match result {
            Ok(Reply::C2dMessages(messages)) => messages,
            Ok(reply) => return Err(wrong_kind(&reply)),
            Err(CallError::Reject(_)) => return Err(End::Rejected),
            // Without an answer nobody knows what is locked: the client comes back and gets it again.
            Err(CallError::Send(_)) => return Err(End::Unavailable),
        };
        // Counted from before the hub locked, so that slots are free again when the hub takes the messages back.
        let until = self
            .asked
            .take()
            .unwrap_or(now)
            .plus(limits::C2D_LOCK_MS as u64);
        self.more = messages.len() >= max;
        for locked in messages {
            self.deliver(device, locked, acknowledged, until, work);
        }
        if self.more {
            self.waiting(now, work);
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        device: &DeviceId,
        locked: LockedMessage,
        acknowledged: bool,
        until: Tick,
        work: &mut Work,
    ) {
        let topic = topic_of(device, &locked);
        let LockedMessage {
            lock_token,
            redelivered,
            message,
            ..
        } = locked;
        let Ok(topic) = topic else {
            // Its properties fit no MQTT topic: it would come back for ever.
            return work.ask(Ask::Reject { lock_token });
        };
        let body = message.body;
        if acknowledged {
            let packet_id = self.in_flight.insert(lock_token, until);
            work.write(publish(topic, body, Some(packet_id), redelivered));
        } else {
            // Nobody will acknowledge it: done as soon as it is written.
            work.write(publish(topic, body, None, false));
            work.ask(Ask::Complete { lock_token });
        }
    }
}

fn topic_of(device: &DeviceId, locked: &LockedMessage) -> Result<String, topic::TopicError> {
    let message = &locked.message;
    let bag = wire::c2d::Delivery {
        device,
        message_id: &message.message_id,
        correlation_id: message.correlation_id.as_deref(),
        user_id: message.user_id.as_deref(),
        content_type: message.content_type.as_deref(),
        content_encoding: message.content_encoding.as_deref(),
        // The wish of the sender; a default life is the hub's own affair.
        expiry: message.expiry,
        ack: match message.ack {
            Ack::None => None,
            Ack::Positive => Some("positive"),
            Ack::Negative => Some("negative"),
            Ack::Full => Some("full"),
        },
        sequence: locked.sequence,
        enqueued: locked.enqueued,
        delivery_count: locked.delivery_count,
        properties: &message.properties,
    }
    .mqtt_bag();
    topic::c2d(device, &bag)
}

/// Delivery is at least once: a lock that lapsed or an unknown outcome means that the message may come again.
pub(super) fn completed(result: Result<Reply, CallError>) -> Result<(), End> {
    match result {
        Err(CallError::Reject(reject)) if reject.code == ErrorCode::DeviceMessageLockLost => Ok(()),
        Err(CallError::Send(why)) => {
            tracing::debug!(
                ?why,
                "a delivered message could not be completed and may be delivered again"
            );
            Ok(())
        }
        other => expect_done(other),
    }
}
