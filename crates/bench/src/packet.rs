//! The few MQTT 3.1.1 packets that a load generator needs.

use std::ops::Range;

const KEEP_ALIVE_S: u16 = 1177;
/// Longer than any packet a server sends us; a longer one means that we lost our place.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// CONNECT with a clean session.
pub fn connect(client: &str, user: &str, password: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010];
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    for text in [client, user, password] {
        put_text(&mut body, text);
    }
    packet(0x10, &body)
}

/// A PUBLISH at QoS 1, encoded once; the packet id, and a counter in the body, are written in before it is sent.
#[derive(Clone)]
pub struct Publish {
    bytes: Vec<u8>,
    id_at: usize,
    body_at: usize,
}

impl Publish {
    pub fn new(device: &str, body: &[u8]) -> Publish {
        let topic = format!("devices/{device}/messages/events/");
        let mut rest = Vec::new();
        put_text(&mut rest, &topic);
        let id_in_rest = rest.len();
        rest.extend([0, 0]);
        rest.extend(body);
        let bytes = packet(0x32, &rest);
        let head = bytes.len() - rest.len();
        Publish {
            id_at: head + id_in_rest,
            body_at: head + id_in_rest + 2,
            bytes,
        }
    }

    /// Appends the packet with this id.
    pub fn write(&self, id: u16, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start + self.id_at..start + self.id_at + 2].copy_from_slice(&id.to_be_bytes());
    }

    /// Appends the packet with this id and `digits` written over the beginning of `place` in its body.
    pub fn write_with(&self, id: u16, place: Range<usize>, digits: &str, out: &mut Vec<u8>) {
        let start = out.len();
        self.write(id, out);
        let at = start + self.body_at + place.start;
        let length = digits.len().min(place.len());
        out[at..at + length].copy_from_slice(&digits.as_bytes()[..length]);
    }
}

/// What a server sends a client that only publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromServer {
    Connack(u8),
    Puback(u16),
    Other,
}

/// Takes the first whole packet off `bytes`; `None`: more bytes are needed.
///
/// # Errors
/// When this is not MQTT.
pub fn take(bytes: &mut &[u8]) -> Result<Option<FromServer>, String> {
    let mut length = 0usize;
    let mut head = 1;
    loop {
        let Some(byte) = bytes.get(head) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if head > 4 {
            return Err("the server's packet has a length that never ends".into());
        }
    }
    if length > PACKET_BYTES_MAX {
        return Err(format!("the server's packet is {length} bytes long"));
    }
    let Some(body) = bytes.get(head..head + length) else {
        return Ok(None);
    };
    let packet = match (bytes[0] >> 4, body) {
        (2, [_, code]) => FromServer::Connack(*code),
        (4, [high, low]) => FromServer::Puback(u16::from_be_bytes([*high, *low])),
        _ => FromServer::Other,
    };
    *bytes = &bytes[head + length..];
    Ok(Some(packet))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(&text.as_bytes()[..usize::from(length)]);
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_carries_its_id_and_counter() {
        let publish = Publish::new("d", b"{\"counter\":          }");
        let mut out = vec![0xff];
        publish.write_with(0x1234, 11..21, "42", &mut out);
        assert_eq!(out[1], 0x32);
        assert_eq!(usize::from(out[2]), out.len() - 3);
        let topic = b"devices/d/messages/events/";
        assert_eq!(&out[5..5 + topic.len()], topic);
        assert_eq!(&out[5 + topic.len()..7 + topic.len()], [0x12, 0x34]);
        assert_eq!(&out[7 + topic.len()..], b"{\"counter\":42        }");
    }

    #[test]
    fn packets_are_taken_whole() {
        let mut stream: &[u8] = &[0x20, 2, 0, 5, 0x40, 2, 1, 2, 0x90, 3, 0, 0, 0, 0x40];
        assert_eq!(take(&mut stream), Ok(Some(FromServer::Connack(5))));
        assert_eq!(take(&mut stream), Ok(Some(FromServer::Puback(0x102))));
        assert_eq!(take(&mut stream), Ok(Some(FromServer::Other)));
        assert_eq!(take(&mut stream), Ok(None));
        assert_eq!(stream, [0x40]);
        assert!(take(&mut [0x40, 0x80, 0x80, 0x80, 0x80, 1].as_slice()).is_err());
    }

    #[test]
    fn long_packets_have_longer_lengths() {
        let publish = Publish::new("d", &[b'x'; 300]);
        let mut out = Vec::new();
        publish.write(1, &mut out);
        assert_eq!(
            out.len() - 3,
            usize::from(out[1] & 0x7f) | usize::from(out[2]) << 7
        );
    }
}
