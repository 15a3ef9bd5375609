//! One MQTT 3.1.1 session, pure: packets, answers and time in; bytes and actions out.
//!
//! ```text
//!   AwaitingConnect ──CONNECT──▶ Authenticating ──opened──▶ Open ──▶ Closed
//!         └───────── a refusal, a broken rule or a deadline ────────────┘
//! ```
//!
//! The edge performs the actions in order and hands the answers back before it feeds the next packet; only telemetry may
//! gather from several packets into one action. Data-plane notes section 3.

use super::ask::Ask;
use super::check;
use super::connect::{self, Connecting};
use super::end::{End, Refusal};
use super::mailbox::Desired;
use super::open::{Open, Opened};
use super::work::{Action, Moment, Tick, Work};
use crate::backend::CallError;
use hub::Reply;
use hub::command::Message;
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::v3::{Connect, ConnectAck, ConnectAckReason, Packet};
use std::num::NonZeroU16;
use types::limits;

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
        Session {
            state: State::AwaitingConnect {
                until: now.plus(limits::CONNECT_TIMEOUT_MS),
            },
        }
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
            State::Authenticating(_) => {
                self.close(End::Protocol("a packet came before its turn"), work)
            }
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
            (State::AwaitingConnect { .. }, DecodeError::InvalidClientId) => {
                Some(Refusal::ClientId)
            }
            (State::AwaitingConnect { .. }, DecodeError::UnsupportedProtocolLevel) => {
                Some(Refusal::ProtocolVersion)
            }
            _ => None,
        };
        match refusal {
            Some(refusal) => self.refused(refusal, work),
            None => self.close(End::Protocol(check::describe(error)), work),
        }
    }

    fn connect(&mut self, connect: Connect, work: &mut Work) {
        match connect::read(connect) {
            Ok((connecting, login)) => {
                self.state = State::Authenticating(Box::new(connecting));
                work.actions
                    .push_back(Action::Authenticate(Box::new(login)));
            }
            Err(End::Refused(refusal)) => self.refused(refusal, work),
            Err(end) => self.close(end, work),
        }
    }

    /// The login was proven and the hub opened the session: CONNACK 0, then what the kept subscriptions call for.
    pub fn opened(&mut self, opened: Opened, now: Tick, work: &mut Work) {
        let State::Authenticating(connecting) = &mut self.state else {
            return;
        };
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
        work.write(Packet::ConnectAck(ConnectAck {
            return_code,
            session_present: false,
        }));
        self.close(End::Refused(refusal), work);
    }

    /// The batch is durable, or not: only then is it acknowledged.
    pub fn sent(&mut self, acks: &[NonZeroU16], result: Result<Reply, CallError>, work: &mut Work) {
        match result {
            // [MQTT-4.3.2-2] The PUBACK waits for the commit: acknowledging earlier could lose the message in a failover.
            Ok(_) => acks
                .iter()
                .for_each(|id| work.write(Packet::PublishAck { packet_id: *id })),
            Err(CallError::Reject(_)) => self.close(End::Rejected, work),
            Err(CallError::Send(_)) => self.close(End::Unavailable, work),
        }
    }

    /// The hub's answer to an [`Action::Ask`].
    pub fn answered(
        &mut self,
        ask: Ask,
        result: Result<Reply, CallError>,
        now: Moment,
        work: &mut Work,
    ) {
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

    #[cfg(test)]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }
}
