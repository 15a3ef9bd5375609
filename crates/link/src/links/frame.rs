//! Frames of a link as bytes (docs/formats/link.md, "Frames").

use crate::Class;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;

/// Bytes of the length field.
const LENGTH: usize = 4;
/// Bytes before the body: length, kind, class, id.
pub(crate) const HEADER: usize = LENGTH + 1 + 1 + 8;
/// What the length field counts besides the body.
const COUNTED: usize = HEADER - LENGTH;

/// The longest body that fits in a frame whose length field may say `length_max`.
pub(crate) const fn body_max(length_max: usize) -> usize {
    length_max - COUNTED
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 1,
    Refuse = 2,
    Call = 3,
    /// The body is the answer.
    Answer = 4,
    /// The call was not begun; the body says why.
    NotDone = 5,
    /// The call was begun and has no answer; the body says why.
    Unknown = 6,
    Cast = 7,
    Ping = 8,
    Pong = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Hello,
            2 => Kind::Refuse,
            3 => Kind::Call,
            4 => Kind::Answer,
            5 => Kind::NotDone,
            6 => Kind::Unknown,
            7 => Kind::Cast,
            8 => Kind::Ping,
            9 => Kind::Pong,
            _ => return None,
        })
    }
}

fn class_from_byte(byte: u8) -> Option<Class> {
    Some(match byte {
        0 => Class::Control,
        1 => Class::Client,
        2 => Class::Bulk,
        _ => return None,
    })
}

fn class_byte(class: Class) -> u8 {
    match class {
        Class::Control => 0,
        Class::Client => 1,
        Class::Bulk => 2,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: Kind,
    pub class: Class,
    /// Of a call and its answer, or of a ping and its pong; 0 in other frames.
    pub id: u64,
    pub body: Bytes,
}

impl Frame {
    pub fn header(&self) -> [u8; HEADER] {
        let length = u32::try_from(COUNTED + self.body.len()).expect("senders bound their bodies");
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4] = self.kind as u8;
        header[5] = class_byte(self.class);
        header[6..].copy_from_slice(&self.id.to_be_bytes());
        header
    }
}

/// Bytes that are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    Length { length: usize, max: usize },
    Kind(u8),
    Class(u8),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFrame::Length { length, max } => {
                write!(
                    f,
                    "a frame of {length} bytes, allowed are {COUNTED} to {max}"
                )
            }
            BadFrame::Kind(kind) => write!(f, "a frame of unknown kind {kind}"),
            BadFrame::Class(class) => write!(f, "a frame of unknown class {class}"),
        }
    }
}

/// Takes the first frame off the buffer, without copying its body, once all of it is there.
pub(crate) fn take(buffer: &mut BytesMut, length_max: usize) -> Result<Option<Frame>, BadFrame> {
    let Some(length) = length(buffer) else {
        return Ok(None);
    };
    if !(COUNTED..=length_max).contains(&length) {
        return Err(BadFrame::Length {
            length,
            max: length_max,
        });
    }
    // Kind and class are judged as soon as they are there, before waiting for a long body.
    if buffer.len() < HEADER {
        return Ok(None);
    }
    let kind = Kind::from_byte(buffer[4]).ok_or(BadFrame::Kind(buffer[4]))?;
    let class = class_from_byte(buffer[5]).ok_or(BadFrame::Class(buffer[5]))?;
    if buffer.len() < LENGTH + length {
        return Ok(None);
    }
    buffer.advance(LENGTH + 2);
    let id = buffer.get_u64();
    let body = buffer.split_to(length - COUNTED).freeze();
    Ok(Some(Frame {
        kind,
        class,
        id,
        body,
    }))
}

/// How many bytes the first frame of the buffer still lacks, as far as can be told.
pub(crate) fn missing(buffer: &[u8]) -> usize {
    let whole = LENGTH + length(buffer).unwrap_or(COUNTED);
    whole.saturating_sub(buffer.len())
}

fn length(buffer: &[u8]) -> Option<usize> {
    let field: [u8; LENGTH] = buffer.get(..LENGTH)?.try_into().ok()?;
    Some(u32::from_be_bytes(field) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, class: Class, id: u64, body: &'static [u8]) -> Frame {
        Frame {
            kind,
            class,
            id,
            body: Bytes::from_static(body),
        }
    }

    fn bytes(frame: &Frame) -> Vec<u8> {
        [frame.header().as_slice(), &frame.body].concat()
    }

    #[test]
    fn a_frame_has_the_documented_bytes() {
        let call = frame(Kind::Call, Class::Client, 0x0102, b"hi");
        assert_eq!(
            bytes(&call),
            [0, 0, 0, 12, 3, 1, 0, 0, 0, 0, 0, 0, 1, 2, b'h', b'i']
        );
    }

    #[test]
    fn frames_survive_the_way_however_they_are_cut() {
        let frames = [
            frame(Kind::Hello, Class::Control, 0, b"h"),
            frame(Kind::Refuse, Class::Control, 0, b""),
            frame(Kind::Call, Class::Client, 1, b"call"),
            frame(Kind::Answer, Class::Client, 1, b"answer"),
            frame(Kind::NotDone, Class::Bulk, 2, b"busy"),
            frame(Kind::Unknown, Class::Bulk, 3, b"?"),
            frame(Kind::Cast, Class::Bulk, 0, b"cast"),
            frame(Kind::Ping, Class::Control, u64::MAX, b""),
            frame(Kind::Pong, Class::Control, 5, b""),
        ];
        let sent: Vec<u8> = frames.iter().flat_map(bytes).collect();
        for step in 1..=sent.len() {
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in sent.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take(&mut buffer, 100).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames, "in pieces of {step}");
        }
    }

    #[track_caller]
    fn refused(bytes: &[u8], why: BadFrame) {
        assert_eq!(take(&mut BytesMut::from(bytes), 100), Err(why));
    }

    #[test]
    fn bad_frames_are_refused_before_their_body_arrives() {
        refused(
            &[0, 0, 0, 101],
            BadFrame::Length {
                length: 101,
                max: 100,
            },
        );
        refused(
            &[0xff; 4],
            BadFrame::Length {
                length: u32::MAX as usize,
                max: 100,
            },
        );
        refused(
            &[0, 0, 0, 9],
            BadFrame::Length {
                length: 9,
                max: 100,
            },
        );
        refused(
            &[0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            BadFrame::Kind(0),
        );
        refused(
            &[0, 0, 0, 50, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            BadFrame::Kind(10),
        );
        refused(
            &[0, 0, 0, 50, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0],
            BadFrame::Class(3),
        );
    }

    #[test]
    fn what_a_frame_lacks_is_known_from_its_length() {
        assert_eq!(missing(&[]), HEADER);
        assert_eq!(missing(&[0, 0, 0, 20, 3]), 19);
        assert_eq!(missing(&[0, 0, 0, 10, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
    }
}
