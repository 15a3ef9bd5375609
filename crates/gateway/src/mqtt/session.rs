//! One MQTT 3.1.1 session, pure: packets, answers and time in; bytes and actions out.
//!
//! ```text
//!   AwaitingConnect ──CONNECT──▶ Authenticating ──opened──▶ Open ──▶ Closed
//!         └───────── a refusal, a broken rule or a deadline ────────────┘
//! ```
//!
//! The edge performs the actions in order and hands the answers back before it feeds the next packet; only telemetry may
//! gather from several packets into one action. Data-plane notes section 3.

use super::check;
use super::end::{End, Refusal};
use super::mailbox::Desired;
use super::open::{Ask, Open, Opened};
use bytes::{Bytes, BytesMut};
use hub::command::Message;
use hub::Reply;
use crate::backend::CallError;
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Codec, Connect, ConnectAck, ConnectAckReason, LastWill, Packet};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use tokio_util::codec::Encoder;
use types::{DeviceId, UnixMillis, limits};
use wire::{MqttIdentity, property_bag, topic};
use wire::mqtt_identity::IdentityError;

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

/// What CONNECT claims; nothing of it is proven.
#[derive(Debug)]
pub struct Login {
    pub identity: MqttIdentity,
    /// The password: a SAS token as text.
    pub token: String,
    pub clean: bool,
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
        codec.encode(packet, &mut self.out).expect("every packet of ours is within the limits of MQTT and has its packet id");
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

/// What is remembered of CONNECT until the session is open.
#[derive(Debug)]
pub(super) struct Connecting {
    pub device: DeviceId,
    pub keep_alive_ms: u64,
    pub will: Option<Message>,
}

#[derive(Debug)]
enum State {
    AwaitingConnect { until: Tick },
    Authenticating(Box<Connecting>),
    Open(Box<Open>),
    Closed,
}

/// One client's session. Holds no socket and reads no clock.
#[derive(Debug)]
pub struct Session {
    state: State,
}

impl Session {
    /// A connection accepted at `now`; CONNECT must come within [`limits::CONNECT_TIMEOUT_MS`].
    pub fn new(now: Tick) -> Self {
        Session { state: State::AwaitingConnect { until: now.plus(limits::CONNECT_TIMEOUT_MS) } }
    }

    /// Handles one packet; `remaining` is the length its fixed header announced.
    pub fn receive(&mut self, packet: Packet, remaining: u32, now: Tick, work: &mut Work) {
        if let Err(rule) = check::packet(&packet, remaining) {
            return self.close(End::Protocol(rule), work);
        }
        match &mut self.state {
            State::AwaitingConnect { .. } => match packet {
                Packet::Connect(connect) => self.connect(*connect, work),
                // [MQTT-3.1.0-1]
                _ => self.close(End::Protocol("the first packet is not CONNECT"), work),
            },
            State::Authenticating(_) => self.close(End::Protocol("a packet came before its turn"), work),
            State::Open(open) => {
                open.heard(now);
                if let Err(end) = open.receive(packet, now, work) {
                    self.close(end, work);
                }
            }
            State::Closed => {}
        }
    }

    /// Handles bytes that are no packet.
    pub fn undecodable(&mut self, error: &DecodeError, work: &mut Work) {
        let refusal = match (&self.state, error) {
            (State::AwaitingConnect { .. }, DecodeError::InvalidClientId) => Some(Refusal::ClientId),
            (State::AwaitingConnect { .. }, DecodeError::UnsupportedProtocolLevel) => Some(Refusal::ProtocolVersion),
            _ => None,
        };
        match refusal {
            Some(refusal) => self.refused(refusal, work),
            None => self.close(End::Protocol(check::describe(error)), work),
        }
    }

    fn connect(&mut self, connect: Connect, work: &mut Work) {
        match read_connect(connect) {
            Ok((connecting, login)) => {
                self.state = State::Authenticating(Box::new(connecting));
                work.actions.push_back(Action::Authenticate(Box::new(login)));
            }
            Err(End::Refused(refusal)) => self.refused(refusal, work),
            Err(end) => self.close(end, work),
        }
    }

    /// The login was proven and the hub opened the session: CONNACK 0, then what the kept subscriptions call for.
    pub fn opened(&mut self, opened: Opened, now: Tick, work: &mut Work) {
        let State::Authenticating(connecting) = &mut self.state else { return };
        work.write(Packet::ConnectAck(ConnectAck {
            return_code: ConnectAckReason::ConnectionAccepted,
            session_present: opened.present,
        }));
        self.state = State::Open(Box::new(Open::new(connecting, opened, now)));
        self.c2d_waiting(now, work);
    }

    /// CONNACK with the refusal's code, then close.
    pub fn refused(&mut self, refusal: Refusal, work: &mut Work) {
        let return_code = match refusal {
            Refusal::ProtocolVersion => ConnectAckReason::UnacceptableProtocolVersion,
            Refusal::ClientId => ConnectAckReason::IdentifierRejected,
            Refusal::ServerUnavailable => ConnectAckReason::ServiceUnavailable,
            Refusal::UserNameOrPassword => ConnectAckReason::BadUserNameOrPassword,
            Refusal::NotAuthorized => ConnectAckReason::NotAuthorized,
        };
        work.write(Packet::ConnectAck(ConnectAck { return_code, session_present: false }));
        self.close(End::Refused(refusal), work);
    }

    /// The batch is durable, or not: only then is it acknowledged.
    pub fn sent(&mut self, acks: &[NonZeroU16], result: Result<Reply, CallError>, work: &mut Work) {
        match result {
            // [MQTT-4.3.2-2] The PUBACK waits for the commit: acknowledging earlier could lose the message in a failover.
            Ok(_) => acks.iter().for_each(|id| work.write(Packet::PublishAck { packet_id: *id })),
            Err(CallError::Reject(_)) => self.close(End::Rejected, work),
            Err(CallError::Send(_)) => self.close(End::Unavailable, work),
        }
    }

    /// The hub's answer to an [`Action::Ask`].
    pub fn answered(&mut self, ask: Ask, result: Result<Reply, CallError>, now: Moment, work: &mut Work) {
        if let State::Open(open) = &mut self.state
            && let Err(end) = open.answered(ask, result, now, work)
        {
            self.close(end, work);
        }
    }

    /// Messages wait in the device's queue.
    pub fn c2d_waiting(&mut self, now: Tick, work: &mut Work) {
        if let State::Open(open) = &mut self.state {
            open.c2d_waiting(now, work);
        }
    }

    /// Desired properties changed.
    pub fn desired_changed(&mut self, desired: Desired, work: &mut Work) {
        if let State::Open(open) = &mut self.state {
            open.desired_changed(desired, work);
        }
    }

    /// Ends the session; the first reason stays.
    pub fn close(&mut self, end: End, work: &mut Work) {
        if !matches!(self.state, State::Closed) {
            if !matches!(self.state, State::Open(_)) {
                self.state = State::Closed;
            }
            work.actions.push_back(Action::Close(end));
        }
    }

    /// Takes what must still reach the hub after the socket closed: the will, when `end` calls for it.
    pub fn finish(&mut self, end: End) -> Option<Message> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(open) if end.publishes_will() => open.into_will(),
            _ => None,
        }
    }

    /// The socket was not read for a while because the hub was asked: the client could not be heard.
    pub fn excuse_silence(&mut self, now: Tick) {
        if let State::Open(open) = &mut self.state {
            open.heard(now);
        }
    }

    /// When [`Session::tick`] must be called at the latest. Only ever moves to later while the session is open.
    pub fn deadline(&self) -> Option<Tick> {
        match &self.state {
            State::AwaitingConnect { until } => Some(*until),
            State::Authenticating(_) | State::Closed => None,
            State::Open(open) => Some(open.deadline()),
        }
    }

    /// Closes the session if a deadline has passed.
    pub fn tick(&mut self, now: Tick, work: &mut Work) {
        let end = match &self.state {
            State::AwaitingConnect { until } if *until <= now => Some(End::ConnectTimeout),
            State::Open(open) => open.overdue(now),
            _ => None,
        };
        if let Some(end) = end {
            self.close(end, work);
        }
    }

    /// For the region: subscribed to cloud-to-device messages, and the desired version last seen if subscribed to those.
    pub fn interests(&self) -> (bool, Option<u64>) {
        match &self.state {
            State::Open(open) => open.interests(),
            _ => (false, None),
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }
}

/// Reads CONNECT as far as that needs no hub.
fn read_connect(connect: Connect) -> Result<(Connecting, Login), End> {
    if connect.protocol.level() != rmqtt_codec::types::MQTT_LEVEL_311 {
        return Err(End::Refused(Refusal::ProtocolVersion));
    }
    let Some(user_name) = &connect.username else {
        return Err(End::Refused(Refusal::UserNameOrPassword));
    };
    let identity = MqttIdentity::parse(&connect.client_id, user_name).map_err(|why| {
        End::Refused(match why {
            IdentityError::UserName(_) => Refusal::UserNameOrPassword,
            IdentityError::ClientId(_) | IdentityError::Mismatch => Refusal::ClientId,
        })
    })?;
    // Certificates and modules are not supported: such an identity is positively not one of ours.
    let Some(password) = &connect.password else {
        return Err(End::Refused(Refusal::NotAuthorized));
    };
    if identity.module.is_some() {
        return Err(End::Refused(Refusal::NotAuthorized));
    }
    let Ok(token) = std::str::from_utf8(password) else {
        return Err(End::Refused(Refusal::UserNameOrPassword));
    };
    let will = connect.last_will.map(|will| read_will(will, &identity.device)).transpose()?;
    let (device, keep_alive_ms) = (identity.device.clone(), keep_alive_ms(connect.keep_alive));
    let login = Login { identity, token: token.to_owned(), clean: connect.clean_session };
    Ok((Connecting { device, keep_alive_ms, will }, login))
}

/// A will is telemetry of the device itself; it is kept as the message that will be sent.
fn read_will(will: LastWill, device: &DeviceId) -> Result<Message, End> {
    let Ok(topic::Publish::Telemetry { bag, .. }) = topic::parse_publish(&will.topic, device) else {
        return Err(End::Protocol("the will's topic is not the device's own telemetry topic"));
    };
    if property_bag::validate(bag).is_err() {
        return Err(End::Protocol("the will's topic has a malformed property bag"));
    }
    let mut builder = property_bag::Builder::after(bag).application("iothub-MessageType", Some("Will"));
    if will.retain {
        builder = builder.application("mqtt-retain", Some("true"));
    }
    // A copy: the packet's buffer would be kept as long as the connection.
    Ok(Message { bag: builder.finish().into(), body: Bytes::copy_from_slice(&will.message) })
}

/// One and a half times the client's value [MQTT-3.1.2-24], capped; 0 means the cap (data-plane notes section 3.2).
fn keep_alive_ms(seconds: u16) -> u64 {
    let seconds = if seconds == 0 { limits::MQTT_KEEP_ALIVE_S_MAX } else { seconds.min(limits::MQTT_KEEP_ALIVE_S_MAX) };
    u64::from(seconds) * 1500
}

/// A PUBLISH of ours.
pub(super) fn publish(topic: String, payload: Bytes, packet_id: Option<NonZeroU16>, dup: bool) -> Packet {
    let qos = if packet_id.is_some() { rmqtt_codec::v3::QoS::AtLeastOnce } else { rmqtt_codec::v3::QoS::AtMostOnce };
    Packet::Publish(Box::new(Publish { dup, retain: false, qos, topic: topic.into(), packet_id, payload, properties: None }))
}
