//! Layout of a partition's state keys: one letter, then the parts. Described byte by byte in docs/formats/state.md.
//!
//! A device id never contains a byte below 0x21, so 0x00 ends it and keeps ids in order.

use types::DeviceId;

pub const STATISTICS: &[u8] = b"s";

const END: u8 = 0;

fn of_device(letter: u8, device: &DeviceId) -> Vec<u8> {
    let mut key = Vec::with_capacity(device.as_str().len() + 2);
    key.push(letter);
    key.extend_from_slice(device.as_str().as_bytes());
    key.push(END);
    key
}

/// `d`: the identity of a device.
pub fn device(device: &DeviceId) -> Vec<u8> {
    of_device(b'd', device)
}

/// The device whose identity stands under `key`.
pub fn device_of(key: &[u8]) -> Option<DeviceId> {
    let id = key.strip_prefix(b"d")?.strip_suffix(&[END])?;
    DeviceId::parse(std::str::from_utf8(id).ok()?).ok()
}

/// The device's part of a key that belongs to one device; `None` for all others.
pub fn device_part(key: &[u8]) -> Option<&[u8]> {
    let rest = match key.first()? {
        b'd' | b't' | b'm' | b'q' | b'c' => key.get(1..)?,
        b'x' => key.get(9..)?,
        _ => return None,
    };
    rest.split(|byte| *byte == END).next()
}

/// Range of all identities after `after`.
pub fn devices_after(after: Option<&DeviceId>) -> (Vec<u8>, Vec<u8>) {
    let from = match after {
        Some(id) => {
            let mut key = device(id);
            key.push(END);
            key
        }
        None => vec![b'd'],
    };
    (from, vec![b'd' + 1])
}

/// `t`: the twin of a device; absent while it is as new.
pub fn twin(device: &DeviceId) -> Vec<u8> {
    of_device(b't', device)
}

/// `m`: kept subscriptions of a device's MQTT session.
pub fn subscriptions(device: &DeviceId) -> Vec<u8> {
    of_device(b'm', device)
}

/// `q`: counters of a device's cloud-to-device queue.
pub fn c2d_queue(device: &DeviceId) -> Vec<u8> {
    of_device(b'q', device)
}

/// `c`: one cloud-to-device message, in sequence order.
pub fn c2d_message(device: &DeviceId, sequence: u64) -> Vec<u8> {
    let mut key = of_device(b'c', device);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Range of all messages of a device's queue.
pub fn c2d_messages(device: &DeviceId) -> (Vec<u8>, Vec<u8>) {
    let from = of_device(b'c', device);
    let mut until = from.clone();
    *until.last_mut().expect("never empty") = END + 1;
    (from, until)
}

/// `x`: what falls due at a time: message expiry and lock time-outs, in time order.
pub fn due(at: types::UnixMillis, device: &DeviceId, sequence: u64) -> Vec<u8> {
    let mut key = vec![b'x'];
    key.extend_from_slice(&(at.0.max(0) as u64).to_be_bytes());
    key.extend_from_slice(device.as_str().as_bytes());
    key.push(END);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Time, device and sequence number of a [`due`] key; `None` if it is not one.
pub fn parse_due(key: &[u8]) -> Option<(types::UnixMillis, DeviceId, u64)> {
    let rest = key.strip_prefix(b"x")?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (device, sequence) = rest.split_last_chunk::<8>()?;
    let device = DeviceId::parse(std::str::from_utf8(device.strip_suffix(&[END])?).ok()?).ok()?;
    let at = i64::try_from(u64::from_be_bytes(*at)).ok()?;
    Some((types::UnixMillis(at), device, u64::from_be_bytes(*sequence)))
}

/// Range of everything due up to and including `now`.
pub fn due_until(now: types::UnixMillis) -> (Vec<u8>, Vec<u8>) {
    let mut until = vec![b'x'];
    until.extend_from_slice(&(now.0.max(0) as u64 + 1).to_be_bytes());
    (vec![b'x'], until)
}

/// `f`: one feedback record, in order.
pub fn feedback(sequence: u64) -> Vec<u8> {
    let mut key = vec![b'f'];
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Range of all feedback records.
pub fn feedbacks() -> (Vec<u8>, Vec<u8>) {
    (vec![b'f'], vec![b'f' + 1])
}

/// `F`: counters and lock of the feedback queue.
pub const FEEDBACK_QUEUE: &[u8] = b"F";

/// `l`: how far a salvaged segment was replayed.
pub fn late(segment: &str) -> Vec<u8> {
    let mut key = vec![b'l'];
    key.extend_from_slice(segment.as_bytes());
    key
}

/// `o`: a consumer group's stored offset.
pub fn offset(group: &str) -> Vec<u8> {
    let mut key = vec![b'o'];
    key.extend_from_slice(group.as_bytes());
    key
}
