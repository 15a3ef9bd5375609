//! What passes between the pure session and the edge: time in, bytes and actions out.

use super::ask::Ask;
use super::connect::Login;
use super::end::End;
use bytes::{Bytes, BytesMut};
use hub::command::Message;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Codec, Packet, QoS};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use tokio_util::codec::Encoder;
use types::UnixMillis;

/// Milliseconds of the edge's monotonic clock: a wall clock that jumps must not end sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    /// The instant `millis` later; saturates at the end of time.
    pub fn plus(self, millis: u64) -> Tick {
        Tick(self.0.saturating_add(millis))
    }
}

/// Both clocks, where an answer carries a time of day.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub tick: Tick,
    pub at: UnixMillis,
}

/// What the edge must do next.
#[derive(Debug)]
pub enum Action {
    /// Check the login and open the session at the hub, then call [`Session::opened`] or [`Session::refused`].
    Authenticate(Box<Login>),
    /// Send the messages as one command, then call [`Session::sent`].
    Send(Batch),
    /// Ask the hub, then call [`Session::answered`].
    Ask(Box<Ask>),
    /// Write what is in `out`, then close the socket.
    Close(End),
}

/// Telemetry of consecutive PUBLISH packets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub messages: Vec<Message>,
    /// Packet ids to acknowledge, in order. Ids that a client uses twice are acknowledged twice.
    pub acks: Vec<NonZeroU16>,
}

/// What the core hands to the edge: bytes to write and actions to perform, each in order.
#[derive(Debug, Default)]
pub struct Work {
    pub out: BytesMut,
    pub actions: VecDeque<Action>,
}

impl Work {
    /// True when nothing but telemetry waits: further packets may be fed before it is performed.
    pub fn may_gather(&self) -> bool {
        matches!(self.actions.back(), None | Some(Action::Send(_)))
    }

    pub(super) fn write(&mut self, packet: Packet) {
        let mut codec = Codec::new(0);
        codec
            .encode(packet, &mut self.out)
            .expect("every packet of ours is within the limits of MQTT and has its packet id");
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        self.actions.push_back(Action::Ask(Box::new(ask)));
    }

    /// Joins the message to the batch that is gathering, or begins one.
    pub(super) fn gather(&mut self, message: Message, ack: Option<NonZeroU16>) {
        if !matches!(self.actions.back(), Some(Action::Send(_))) {
            self.actions.push_back(Action::Send(Batch::default()));
        }
        if let Some(Action::Send(batch)) = self.actions.back_mut() {
            batch.messages.push(message);
            batch.acks.extend(ack);
        }
    }
}

/// A PUBLISH of ours.
pub(super) fn publish(
    topic: String,
    payload: Bytes,
    packet_id: Option<NonZeroU16>,
    dup: bool,
) -> Packet {
    let qos = if packet_id.is_some() {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    };
    Packet::Publish(Box::new(Publish {
        dup,
        retain: false,
        qos,
        topic: topic.into(),
        packet_id,
        payload,
        properties: None,
    }))
}
