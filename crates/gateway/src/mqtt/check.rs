//! Rules of MQTT 3.1.1 that the codec does not enforce; each is answered by closing the connection.
//!
//! Those about topics are in [`wire::topic`], which knows that a device id may hold `+` and `#`.

use rmqtt_codec::error::DecodeError;
use rmqtt_codec::v3::{Packet, QoS};
use types::limits;

/// Checks one decoded packet of a client; `remaining` is the length its fixed header announced.
///
/// # Errors
/// The rule that is broken, in words.
pub fn packet(packet: &Packet, remaining: u32) -> Result<(), &'static str> {
    match packet {
        Packet::Connect(connect) => {
            // [MQTT-3.1.2-22]
            rule(
                connect.username.is_some() || connect.password.is_none(),
                "CONNECT has a password but no user name",
            )?;
            let user_name = connect.username.as_ref().map_or("", |name| name.as_ref());
            // [MQTT-1.5.3-2]
            rule(
                !has_nul(&connect.client_id) && !has_nul(user_name),
                "CONNECT has a text with U+0000",
            )
        }
        Packet::Publish(publish) => {
            // [MQTT-3.3.1-2]
            rule(
                !publish.dup || publish.qos != QoS::AtMostOnce,
                "PUBLISH has DUP at QoS 0",
            )?;
            rule(
                publish.qos != QoS::ExactlyOnce,
                "PUBLISH at QoS 2 is not supported",
            )
        }
        Packet::Subscribe { topic_filters, .. } => few(topic_filters.len()),
        Packet::Unsubscribe { topic_filters, .. } => few(topic_filters.len()),
        Packet::PublishAck { .. } => Ok(()),
        Packet::PingRequest => rule(remaining == 0, "PINGREQ has a body"),
        Packet::Disconnect => rule(remaining == 0, "DISCONNECT has a body"),
        Packet::PublishReceived { .. }
        | Packet::PublishRelease { .. }
        | Packet::PublishComplete { .. } => Err("a packet of QoS 2, which is not supported"),
        Packet::ConnectAck(_)
        | Packet::SubscribeAck { .. }
        | Packet::UnsubscribeAck { .. }
        | Packet::PingResponse => Err("a packet that only servers send"),
    }
}

fn few(filters: usize) -> Result<(), &'static str> {
    rule(
        filters <= limits::MQTT_SUBSCRIPTIONS_MAX,
        "a packet has more topic filters than a device may have",
    )
}

fn rule(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

/// The rule behind a decoding error, in words.
pub fn describe(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::MaxSizeExceeded { .. } => "a packet is larger than allowed",
        DecodeError::InvalidProtocol | DecodeError::UnsupportedProtocolLevel => {
            "CONNECT names another protocol"
        }
        DecodeError::ConnectReservedFlagSet | DecodeError::InvalidConnectFlags => {
            "CONNECT has flags that contradict"
        }
        DecodeError::Utf8Error => "a text is not UTF-8",
        DecodeError::UnsupportedPacketType => "a packet has an unknown type or reserved flags",
        DecodeError::InvalidTopicFilter | DecodeError::InvalidTopicName => "a topic is empty",
        DecodeError::InvalidClientId => "the client id is empty",
        DecodeError::PacketIdRequired
        | DecodeError::InvalidLength
        | DecodeError::MalformedPacket
        | DecodeError::ConnAckReservedFlagSet
        | DecodeError::Io(_) => "a packet is malformed",
    }
}
