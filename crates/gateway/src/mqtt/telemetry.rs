//! Telemetry of a device: what it publishes, and its will (data-plane notes sections 3.2 and 3.5).

use super::end::End;
use bytes::Bytes;
use hub::command::Message;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::LastWill;
use types::{DeviceId, limits};
use wire::{property_bag, topic};

/// Checks a telemetry PUBLISH and takes its message out.
pub(super) fn message(publish: &Publish, bag: &str) -> Result<Message, End> {
    if bag.len() + publish.payload.len() > limits::D2C_MESSAGE_BYTES_MAX {
        return Err(End::Protocol("the message is larger than 256 KiB"));
    }
    property_bag::validate(bag)
        .map_err(|_| End::Protocol("PUBLISH has a malformed property bag"))?;
    let bag = if publish.retain || publish.dup {
        let mut builder = property_bag::Builder::after(bag);
        if publish.retain {
            builder = builder.application("mqtt-retain", Some("true"));
        }
        if publish.dup {
            builder = builder.application("mqtt-dup", Some("true"));
        }
        builder.finish().into()
    } else if bag.is_empty() {
        Bytes::new()
    } else {
        publish.topic.as_bytes().slice_ref(bag.as_bytes())
    };
    Ok(Message {
        bag,
        body: publish.payload.clone(),
    })
}

/// A will is telemetry of the device itself; it is kept as the message that will be sent.
pub(super) fn will(will: LastWill, device: &DeviceId) -> Result<Message, End> {
    let Ok(topic::Publish::Telemetry { bag, .. }) = topic::parse_publish(&will.topic, device)
    else {
        return Err(End::Protocol(
            "the will's topic is not the device's own telemetry topic",
        ));
    };
    if property_bag::validate(bag).is_err() {
        return Err(End::Protocol(
            "the will's topic has a malformed property bag",
        ));
    }
    let mut builder =
        property_bag::Builder::after(bag).application("iothub-MessageType", Some("Will"));
    if will.retain {
        builder = builder.application("mqtt-retain", Some("true"));
    }
    // A copy: the packet's buffer would be kept as long as the connection.
    Ok(Message {
        bag: builder.finish().into(),
        body: Bytes::copy_from_slice(&will.message),
    })
}
