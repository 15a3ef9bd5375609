//! A session whose login was proven: what each packet and each answer of the hub means.

use super::ask::Ask;
use super::c2d::{C2d, completed};
use super::connect::Connecting;
use super::end::End;
use super::mailbox::Desired;
use super::subscriptions::Subscriptions;
use super::telemetry;
use super::work::{Moment, Tick, Work, publish};
use crate::backend::{CallError, SendError};
use bytes::Bytes;
use hub::Reply;
use hub::command::Message;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Packet, QoS, SubscribeReturnCode};
use std::num::NonZeroU16;
use types::{ConnectionId, DeviceId, ErrorCode, Reject};
use wire::error_body;
use wire::topic::{self, Filter};

/// What the hub said when the session was opened.
#[derive(Debug)]
pub struct Opened {
    pub connection: ConnectionId,
    /// The hub had kept state of an earlier session.
    pub present: bool,
    /// Kept subscriptions: filter and granted QoS.
    pub subscriptions: Vec<(String, u8)>,
    pub desired_version: u64,
    /// How long the token stays valid, in milliseconds.
    pub valid_for_ms: u64,
}

/// The open state of a [`super::session::Session`].
#[derive(Debug)]
pub(super) struct Open {
    device: DeviceId,
    connection: ConnectionId,
    keep_alive_ms: u64,
    last_heard: Tick,
    token_lapses: Tick,
    will: Option<Box<Message>>,
    subscriptions: Subscriptions,
    desired_seen: u64,
    c2d: C2d,
    /// Errors told so far; makes tracking ids differ.
    errors: u32,
}

impl Open {
    pub fn new(connecting: &mut Connecting, opened: Opened, now: Tick) -> Self {
        let device = connecting.device.clone();
        Open {
            subscriptions: Subscriptions::kept(&opened.subscriptions, &device),
            device,
            connection: opened.connection,
            keep_alive_ms: connecting.keep_alive_ms,
            last_heard: now,
            token_lapses: now.plus(opened.valid_for_ms),
            will: connecting.will.take().map(Box::new),
            desired_seen: opened.desired_version,
            c2d: C2d::default(),
            errors: 0,
        }
    }

    pub fn heard(&mut self, now: Tick) {
        self.last_heard = now;
    }

    pub fn deadline(&self) -> Tick {
        self.last_heard
            .plus(self.keep_alive_ms)
            .min(self.token_lapses)
    }

    pub fn overdue(&self, now: Tick) -> Option<End> {
        if self.token_lapses <= now {
            Some(End::TokenLapsed)
        } else if self.last_heard.plus(self.keep_alive_ms) <= now {
            Some(End::KeepAlive)
        } else {
            None
        }
    }

    pub fn into_will(self) -> Option<Message> {
        self.will.map(|will| *will)
    }

    pub fn interests(&self) -> (bool, Option<u64>) {
        let desired = self.subscriptions.qos(Filter::DesiredPatch);
        (
            self.subscriptions.qos(Filter::C2d).is_some(),
            desired.map(|_| self.desired_seen),
        )
    }

    /// Handles one packet; an error ends the session.
    pub fn receive(&mut self, packet: Packet, now: Tick, work: &mut Work) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.publish(*publish, work),
            Packet::PublishAck { packet_id } => {
                self.c2d.acknowledged(packet_id, now, work);
                Ok(())
            }
            Packet::Subscribe {
                packet_id,
                topic_filters,
            } => {
                let filters = topic_filters
                    .iter()
                    .map(|(filter, qos)| (filter.as_ref(), qos.value()));
                self.subscribe(packet_id, filters, work)
            }
            Packet::Unsubscribe {
                packet_id,
                topic_filters,
            } => self.unsubscribe(
                packet_id,
                topic_filters.iter().map(|filter| filter.as_ref()),
                work,
            ),
            Packet::PingRequest => {
                work.write(Packet::PingResponse);
                Ok(())
            }
            Packet::Disconnect => Err(End::Disconnected),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => Err(End::Protocol("a second CONNECT")),
            // Refused by `check::packet` before.
            _ => Err(End::Protocol("a packet that clients do not send")),
        }
    }

    fn publish(&mut self, publish: Publish, work: &mut Work) -> Result<(), End> {
        let ack = publish.packet_id;
        match topic::parse_publish(&publish.topic, &self.device) {
            Ok(topic::Publish::Telemetry { bag, .. }) => {
                let message = telemetry::message(&publish, bag)?;
                work.gather(message, ack);
            }
            Ok(topic::Publish::TwinGet { rid }) => work.ask(Ask::TwinGet {
                ack,
                rid: rid.to_owned(),
            }),
            Ok(topic::Publish::TwinPatchReported {
                rid,
                base_version: base,
            }) => {
                work.ask(Ask::TwinPatch {
                    ack,
                    rid: rid.to_owned(),
                    body: publish.payload.clone(),
                    base,
                });
            }
            // No method call of ours waits for it: like an answer that comes after its call timed out.
            Ok(topic::Publish::MethodResponse { .. }) => {
                if let Some(packet_id) = ack {
                    work.write(Packet::PublishAck { packet_id });
                }
            }
            Err(_) => {
                return Err(End::Protocol(
                    "PUBLISH to a topic that is not the device's own",
                ));
            }
        }
        Ok(())
    }

    fn subscribe<'a>(
        &mut self,
        packet_id: NonZeroU16,
        asked: impl Iterator<Item = (&'a str, u8)>,
        work: &mut Work,
    ) -> Result<(), End> {
        let (mut filters, mut grants) = (Vec::new(), Vec::new());
        for (filter, qos) in asked {
            match topic::parse_filter(filter, &self.device) {
                Ok(kind) => {
                    // QoS 2 is granted as 1.
                    let qos = qos.min(1);
                    filters.push((filter.to_owned(), qos));
                    grants.push(Some((kind, qos)));
                }
                Err(why) if why.is_refusable() && !is_catch_all(filter) => grants.push(None),
                Err(_) => {
                    return Err(End::Protocol(
                        "SUBSCRIBE to a filter that is not the device's own",
                    ));
                }
            }
        }
        if filters.is_empty() {
            suback(packet_id, &grants, work);
        } else {
            work.ask(Ask::Subscribe {
                packet_id,
                filters,
                grants,
            });
        }
        Ok(())
    }

    fn unsubscribe<'a>(
        &mut self,
        packet_id: NonZeroU16,
        asked: impl Iterator<Item = &'a str>,
        work: &mut Work,
    ) -> Result<(), End> {
        let (mut filters, mut kinds) = (Vec::new(), Vec::new());
        for filter in asked {
            match topic::parse_filter(filter, &self.device) {
                Ok(kind) => {
                    filters.push(filter.to_owned());
                    kinds.push(kind);
                }
                // [MQTT-3.10.4-5] UNSUBACK also when nothing matched.
                Err(why) if why.is_refusable() => {}
                Err(_) => return Err(End::Protocol("UNSUBSCRIBE of a malformed filter")),
            }
        }
        if filters.is_empty() {
            work.write(Packet::UnsubscribeAck { packet_id });
        } else {
            work.ask(Ask::Unsubscribe {
                packet_id,
                filters,
                kinds,
            });
        }
        Ok(())
    }

    /// Messages wait in the device's queue.
    pub fn c2d_waiting(&mut self, now: Tick, work: &mut Work) {
        if self.subscriptions.qos(Filter::C2d).is_some() {
            self.c2d.waiting(now, work);
        }
    }

    /// Tells of a desired change unless the device already knows that version or a later one.
    pub fn desired_changed(&mut self, desired: Desired, work: &mut Work) {
        if self.subscriptions.qos(Filter::DesiredPatch).is_some()
            && desired.version > self.desired_seen
        {
            self.desired_seen = desired.version;
            work.write(publish(
                topic::desired_patch(desired.version),
                desired.body,
                None,
                false,
            ));
        }
    }

    /// Handles the hub's answer; an error ends the session.
    pub fn answered(
        &mut self,
        ask: Ask,
        result: Result<Reply, CallError>,
        now: Moment,
        work: &mut Work,
    ) -> Result<(), End> {
        match ask {
            Ask::TwinGet { ack, rid } => match result {
                Ok(Reply::Json { body, .. }) => {
                    self.twin_response(ack, topic::twin_response(200, &rid, None), body, work);
                    Ok(())
                }
                other => self.twin_refused(ack, &rid, other, now, work),
            },
            Ask::TwinPatch { ack, rid, .. } => match result {
                Ok(Reply::ReportedVersion(version)) => {
                    let topic = topic::twin_response(204, &rid, Some(version));
                    self.twin_response(ack, topic, Bytes::new(), work);
                    Ok(())
                }
                other => self.twin_refused(ack, &rid, other, now, work),
            },
            Ask::Subscribe {
                packet_id, grants, ..
            } => self.subscribed(packet_id, grants, result, now.tick, work),
            Ask::Unsubscribe {
                packet_id, kinds, ..
            } => {
                expect_done(result)?;
                kinds
                    .into_iter()
                    .for_each(|kind| self.subscriptions.remove(kind));
                work.write(Packet::UnsubscribeAck { packet_id });
                Ok(())
            }
            Ask::Lock { max } => {
                let acknowledged = self.subscriptions.qos(Filter::C2d) == Some(1);
                self.c2d
                    .locked(&self.device, max, acknowledged, result, now.tick, work)
            }
            Ask::Complete { .. } | Ask::Reject { .. } => completed(result),
        }
    }

    fn twin_response(
        &mut self,
        ack: Option<NonZeroU16>,
        topic: String,
        body: Bytes,
        work: &mut Work,
    ) {
        if let Some(packet_id) = ack {
            work.write(Packet::PublishAck { packet_id });
        }
        if self.subscriptions.qos(Filter::TwinResponse).is_some() {
            work.write(publish(topic, body, None, false));
        }
    }

    /// A definite "no" is told on the reply topic; with an unknown outcome the connection closes without acknowledging.
    fn twin_refused(
        &mut self,
        ack: Option<NonZeroU16>,
        rid: &str,
        result: Result<Reply, CallError>,
        now: Moment,
        work: &mut Work,
    ) -> Result<(), End> {
        let reject = match result {
            Err(CallError::Reject(reject)) => reject,
            Err(CallError::Send(SendError::FailingOver { .. })) => Reject::new(
                ErrorCode::IotHubFailingOver,
                "the hub is failing over; try again later",
            ),
            Err(CallError::Send(SendError::Unavailable { why, .. })) => {
                Reject::new(ErrorCode::ServiceUnavailable, why)
            }
            Err(CallError::Send(SendError::OutcomeUnknown { .. })) => return Err(End::Unavailable),
            Ok(reply) => return Err(wrong_kind(&reply)),
        };
        self.errors = self.errors.wrapping_add(1);
        let tracking_id = format!("{:016X}{:016X}", self.connection.0, self.errors);
        let body = error_body::mqtt_twin(&reject, &tracking_id, now.at);
        self.twin_response(
            ack,
            topic::twin_response(reject.code.status(), rid, None),
            body.into(),
            work,
        );
        Ok(())
    }

    fn subscribed(
        &mut self,
        packet_id: NonZeroU16,
        mut grants: Vec<Option<(Filter, u8)>>,
        result: Result<Reply, CallError>,
        now: Tick,
        work: &mut Work,
    ) -> Result<(), End> {
        let (granted, desired_version) = match result {
            Ok(Reply::Subscribed {
                granted,
                desired_version,
            }) => (granted, desired_version),
            Ok(reply) => return Err(wrong_kind(&reply)),
            Err(CallError::Reject(_)) => return Err(End::Rejected),
            Err(CallError::Send(_)) => return Err(End::Unavailable),
        };
        for ((kind, qos), granted) in grants.iter_mut().flatten().zip(granted) {
            *qos = granted.min(*qos);
            self.subscriptions.insert(*kind, *qos);
            if *kind == Filter::DesiredPatch {
                self.desired_seen = desired_version;
            }
        }
        suback(packet_id, &grants, work);
        if grants
            .iter()
            .flatten()
            .any(|(kind, _)| *kind == Filter::C2d)
        {
            self.c2d_waiting(now, work);
        }
        Ok(())
    }
}

fn suback(packet_id: NonZeroU16, grants: &[Option<(Filter, u8)>], work: &mut Work) {
    let status = grants.iter().map(|grant| match grant {
        Some((_, 0)) => SubscribeReturnCode::Success(QoS::AtMostOnce),
        Some(_) => SubscribeReturnCode::Success(QoS::AtLeastOnce),
        None => SubscribeReturnCode::Failure,
    });
    work.write(Packet::SubscribeAck {
        packet_id,
        status: status.collect(),
    });
}

/// A filter that asks for everything, as if this were a broker.
fn is_catch_all(filter: &str) -> bool {
    matches!(filter.split('/').next(), Some("#" | "+"))
}

pub(super) fn expect_done(result: Result<Reply, CallError>) -> Result<(), End> {
    match result {
        Ok(Reply::Done) => Ok(()),
        Ok(reply) => Err(wrong_kind(&reply)),
        Err(CallError::Reject(_)) => Err(End::Rejected),
        Err(CallError::Send(_)) => Err(End::Unavailable),
    }
}

pub(super) fn wrong_kind(reply: &Reply) -> End {
    tracing::error!(
        ?reply,
        "the hub gave an answer of another kind than was asked for"
    );
    End::Unavailable
}
