//! Device-to-cloud telemetry: who may send, and how an event is stored.
//!
//! An event is encoded once, when it is appended; followers and readers are served the stored bytes. The layout is described
//! byte by byte in docs/formats/event.md.

mod late;

use crate::command::{AuthMethod, EventOrigin, Message, TelemetryCommand, TelemetryEvent};
use crate::decision::PresenceChange;
use crate::{Context, Decision, Refused, Reply, View, registry};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use types::{ConnectionId, DeviceId, ErrorCode, Reject, Sequence, UnixMillis, limits};

/// Decides one command of this family.
///
/// Messages of the device's present connection are accepted without reading state: whoever deletes or disables a device
/// drops its presence in the same turn.
///
/// # Errors
/// [`ErrorCode::DeviceNotFound`], [`ErrorCode::DeviceDisabled`], [`ErrorCode::IotHubUnauthorized`] (the device was made anew
/// since the sender was authenticated), [`ErrorCode::MessageTooLarge`]; [`Refused::View`] as [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &TelemetryCommand,
) -> Result<Decision, Refused> {
    let (device, connection, origin, messages) = match command {
        TelemetryCommand::Send {
            device,
            connection,
            origin,
            messages,
        } => (device, connection, origin, messages),
        TelemetryCommand::Late { segment, events } => {
            return late::decide(view, segment, events);
        }
    };
    if !is_present(context, device, *connection) {
        check_identity(view, device, origin)?;
    }
    check_origin(origin)?;
    let mut decision = Decision::reply(Reply::Done);
    decision.writes.events.reserve_exact(messages.len());
    for message in messages {
        check_size(message)?;
        decision.writes.events.push(TelemetryEvent {
            device: device.clone(),
            origin: Arc::clone(origin),
            bag: message.bag.clone(),
            body: message.body.clone(),
        });
    }
    decision.presence.push(PresenceChange::Activity {
        device: device.clone(),
        at: context.now,
    });
    Ok(decision)
}

fn is_present(context: &Context<'_>, device: &DeviceId, connection: Option<ConnectionId>) -> bool {
    connection.is_some_and(|sender| {
        (context.presence)(device).is_some_and(|present| present.connection == sender)
    })
}

fn check_identity(view: &dyn View, device: &DeviceId, origin: &EventOrigin) -> Result<(), Refused> {
    let Some(identity) = registry::identity(view, device)? else {
        return Err(Reject::new(ErrorCode::DeviceNotFound, "the device is not registered").into());
    };
    if !identity.enabled {
        return Err(Reject::new(ErrorCode::DeviceDisabled, "the device is disabled").into());
    }
    if identity.generation != origin.generation {
        return Err(Reject::new(
            ErrorCode::IotHubUnauthorized,
            "the device was registered anew; authenticate again",
        )
        .into());
    }
    Ok(())
}

fn check_origin(origin: &EventOrigin) -> Result<(), Reject> {
    if origin.generation.len() > GENERATION_BYTES_MAX {
        return Err(Reject::new(
            ErrorCode::ArgumentInvalid,
            "the generation id is longer than 255 bytes",
        ));
    }
    Ok(())
}

fn check_size(message: &Message) -> Result<(), Reject> {
    let size = message.bag.len().saturating_add(message.body.len());
    if size > limits::D2C_MESSAGE_BYTES_MAX {
        let text = format!(
            "a message of {size} bytes exceeds the limit of {} bytes",
            limits::D2C_MESSAGE_BYTES_MAX
        );
        return Err(Reject::new(ErrorCode::MessageTooLarge, text));
    }
    Ok(())
}

/// First byte of every event written today.
const VERSION: u8 = 1;
/// Version byte and length.
const PREFIX_BYTES: usize = 5;
/// Enqueued time, authentication, device length, generation length, bag length.
const HEADER_BYTES: usize = 8 + 1 + 1 + 1 + 4;
/// One byte holds the length.
const GENERATION_BYTES_MAX: usize = u8::MAX as usize;
const _: () = assert!(limits::DEVICE_ID_CHARS_MAX <= u8::MAX as usize);

/// Appends one encoded event to `out`. A batch of events is just their concatenation.
///
/// # Panics
/// If the event is larger than [`decide`] lets through.
pub fn append_event(out: &mut Vec<u8>, event: &TelemetryEvent, enqueued: UnixMillis) {
    let device = event.device.as_str().as_bytes();
    let generation = event.origin.generation.as_bytes();
    let device_length = u8::try_from(device.len()).expect("a device id has at most 128 characters");
    let generation_length =
        u8::try_from(generation.len()).expect("decide checks the generation's length");
    let length =
        HEADER_BYTES + device.len() + generation.len() + event.bag.len() + event.body.len();
    let length_field = u32::try_from(length).expect("decide checks the message's size");
    out.reserve(PREFIX_BYTES + length);
    out.push(VERSION);
    out.extend_from_slice(&length_field.to_le_bytes());
    out.extend_from_slice(&enqueued.0.to_le_bytes());
    out.extend_from_slice(&[
        auth_to_byte(event.origin.auth_method),
        device_length,
        generation_length,
    ]);
    // No truncation: the bag is part of `length`, which fits.
    out.extend_from_slice(&(event.bag.len() as u32).to_le_bytes());
    out.extend_from_slice(device);
    out.extend_from_slice(generation);
    out.extend_from_slice(&event.bag);
    out.extend_from_slice(&event.body);
}

/// A telemetry event as stored. `bag` and `body` share the batch's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub sequence: Sequence,
    pub enqueued: UnixMillis,
    pub device: DeviceId,
    pub generation: String,
    pub auth_method: AuthMethod,
    pub bag: Bytes,
    pub body: Bytes,
}

/// Stored event bytes that this code cannot understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptEvents {
    pub sequence: Sequence,
    pub why: &'static str,
}

impl fmt::Display for CorruptEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decoding stored event {}: {}", self.sequence, self.why)
    }
}

impl std::error::Error for CorruptEvents {}

/// Decodes a whole batch of exactly `count` events, the first of which has the sequence number `first`.
///
/// # Errors
/// [`CorruptEvents`] if `bytes` is anything else.
pub fn decode_events(
    first: Sequence,
    count: u32,
    bytes: Bytes,
) -> Result<Vec<StoredEvent>, CorruptEvents> {
    let room = (count as usize).min(bytes.len() / (PREFIX_BYTES + HEADER_BYTES));
    let mut decoded = Vec::with_capacity(room);
    for event in Events::new(first, count, bytes) {
        decoded.push(event?);
    }
    Ok(decoded)
}

/// Walks the events of a batch in order; ends after the first error.
#[derive(Clone, Debug)]
pub struct Events {
    rest: Bytes,
    next: Sequence,
    left: u32,
}

impl Events {
    pub fn new(first: Sequence, count: u32, bytes: Bytes) -> Self {
        Events {
            rest: bytes,
            next: first,
            left: count,
        }
    }

    /// Passes over the next `count` events (or all that are left), reading only their lengths.
    ///
    /// # Errors
    /// [`CorruptEvents`] if a length does not fit.
    pub fn skip_events(&mut self, count: u32) -> Result<(), CorruptEvents> {
        for _ in 0..count.min(self.left) {
            self.take_one()?;
        }
        Ok(())
    }

    /// Cuts the next event, without its prefix, off the rest.
    fn take_one(&mut self) -> Result<Bytes, CorruptEvents> {
        match split_event(&mut self.rest) {
            Ok(event) => {
                self.left -= 1;
                self.next = Sequence(self.next.0.wrapping_add(1));
                Ok(event)
            }
            Err(why) => Err(self.fail(self.next, why)),
        }
    }

    fn fail(&mut self, sequence: Sequence, why: &'static str) -> CorruptEvents {
        self.left = 0;
        self.rest = Bytes::new();
        CorruptEvents { sequence, why }
    }
}

impl Iterator for Events {
    type Item = Result<StoredEvent, CorruptEvents>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            return Some(Err(
                self.fail(self.next, "bytes are left after the last event")
            ));
        }
        let sequence = self.next;
        let event = match self.take_one() {
            Ok(event) => event,
            Err(corrupt) => return Some(Err(corrupt)),
        };
        Some(decode_event(sequence, event).map_err(|why| self.fail(sequence, why)))
    }
}

fn split_event(rest: &mut Bytes) -> Result<Bytes, &'static str> {
    let Some((prefix, after)) = rest.split_first_chunk::<PREFIX_BYTES>() else {
        return Err("the batch ends inside an event's prefix");
    };
    let [version, length @ ..] = *prefix;
    if version != VERSION {
        return Err("its format version is unknown");
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > after.len() {
        return Err("the batch ends inside the event");
    }
    let mut event = rest.split_to(PREFIX_BYTES + length);
    Ok(event.split_off(PREFIX_BYTES))
}

fn decode_event(sequence: Sequence, event: Bytes) -> Result<StoredEvent, &'static str> {
    let Some((header, texts)) = event.split_first_chunk::<HEADER_BYTES>() else {
        return Err("it is shorter than its header");
    };
    let [
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        t6,
        t7,
        auth,
        device_length,
        generation_length,
        b0,
        b1,
        b2,
        b3,
    ] = *header;
    let enqueued = UnixMillis(i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
    let bag_length = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
    let auth_method = auth_from_byte(auth).ok_or("its authentication method is unknown")?;

    let short = "its parts are longer than the event";
    let (device, texts) = texts
        .split_at_checked(usize::from(device_length))
        .ok_or(short)?;
    let (generation, payload) = texts
        .split_at_checked(usize::from(generation_length))
        .ok_or(short)?;
    if bag_length > payload.len() {
        return Err(short);
    }
    let device = std::str::from_utf8(device)
        .ok()
        .and_then(|text| DeviceId::parse(text).ok());
    let device = device.ok_or("its device id is not valid")?;
    let generation = std::str::from_utf8(generation)
        .map_err(|_| "its generation id is not text")?
        .to_owned();
    let payload_length = payload.len();
    let mut bag = event.slice(event.len() - payload_length..);
    let body = bag.split_off(bag_length);
    Ok(StoredEvent {
        sequence,
        enqueued,
        device,
        generation,
        auth_method,
        bag,
        body,
    })
}

fn auth_to_byte(method: AuthMethod) -> u8 {
    match method {
        AuthMethod::DeviceSas => 0,
        AuthMethod::HubSas => 1,
        AuthMethod::Certificate => 2,
    }
}

fn auth_from_byte(byte: u8) -> Option<AuthMethod> {
    match byte {
        0 => Some(AuthMethod::DeviceSas),
        1 => Some(AuthMethod::HubSas),
        2 => Some(AuthMethod::Certificate),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
