//! One record of a partition's log, byte by byte (docs/formats/log.md).
//!
//! A record is all that one group commit changes in one partition, or a mark of a failover.

use crate::digest::StateDigest;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use types::{Epoch, Lsn, Sequence, UnixMillis};

const VERSION: u8 = 1;
const REMOVED: u32 = u32::MAX;
const HEADER: usize = 1 + 1 + 8 + 8 + 4 + 8 + 8 + 4;
const CRC: usize = 4;

/// A decoded record; `state` and `events` share the bytes it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: Epoch,
    pub lsn: Lsn,
    /// Checksum of the record before.
    pub previous_crc: u32,
    /// Enqueued time of its events, and the commit's time.
    pub time: UnixMillis,
    pub first_sequence: Sequence,
    pub event_count: u32,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// State entries (`None` removes) and encoded events.
    Data {
        state: Vec<(Bytes, Option<Bytes>)>,
        events: Bytes,
    },
    /// The primary has stopped: everything up to here was handed over. Digests as of before this record.
    Handover { state: StateDigest, chain: u64 },
    /// A new primary opened at this record's epoch.
    Open,
    /// The same primary goes on after a handover that was rolled back.
    Resume,
}

/// Bytes that are not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    Version(u8),
    Checksum { want: u32, found: u32 },
    Shape(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Version(version) => write!(f, "record version {version} is not known"),
            RecordError::Checksum { want, found } => {
                write!(f, "record checksum {found:08x} instead of {want:08x}")
            }
            RecordError::Shape(what) => write!(f, "record is malformed: {what}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl Record {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + CRC + self.body.size());
        out.put_u8(VERSION);
        out.put_u8(self.body.kind());
        out.put_u64(self.epoch.0);
        out.put_u64(self.lsn.0);
        out.put_u32(self.previous_crc);
        out.put_i64(self.time.0);
        out.put_u64(self.first_sequence.0);
        out.put_u32(self.event_count);
        self.body.encode(&mut out);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// # Errors
    /// When the version is unknown, the checksum does not fit, or lengths do not add up. Never panics.
    pub fn decode(bytes: &Bytes) -> Result<Record, RecordError> {
        if bytes.len() < HEADER + CRC {
            return Err(RecordError::Shape("too short"));
        }
        if bytes[0] != VERSION {
            return Err(RecordError::Version(bytes[0]));
        }
        let found = crc_of(bytes);
        let want = crc32c::crc32c(&bytes[..bytes.len() - CRC]);
        if want != found {
            return Err(RecordError::Checksum { want, found });
        }
        let mut reader = Reader {
            bytes: bytes.slice(..bytes.len() - CRC),
            at: 2,
        };
        let epoch = Epoch(reader.u64()?);
        let lsn = Lsn(reader.u64()?);
        let previous_crc = reader.u32()?;
        let time = UnixMillis(reader.u64()? as i64);
        let first_sequence = Sequence(reader.u64()?);
        let event_count = reader.u32()?;
        let body = Body::decode(bytes[1], &mut reader)?;
        Ok(Record {
            epoch,
            lsn,
            previous_crc,
            time,
            first_sequence,
            event_count,
            body,
        })
    }

    /// The sequence number after this record's last event.
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + u64::from(self.event_count))
    }
}

/// The checksum at the end of an encoded record; 0 for bytes that are too short to be one.
pub fn crc_of(bytes: &[u8]) -> u32 {
    match bytes.len().checked_sub(CRC) {
        Some(at) => u32::from_be_bytes(bytes[at..].try_into().expect("four bytes")),
        None => 0,
    }
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Body::Data { .. } => 1,
            Body::Handover { .. } => 2,
            Body::Open => 3,
            Body::Resume => 4,
        }
    }

    fn size(&self) -> usize {
        match self {
            Body::Data { state, events } => {
                let entries: usize = state
                    .iter()
                    .map(|(k, v)| 6 + k.len() + v.as_ref().map_or(0, Bytes::len))
                    .sum();
                8 + entries + events.len()
            }
            Body::Handover { .. } => 24,
            Body::Open | Body::Resume => 0,
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Body::Data { state, events } => {
                out.put_u32(state.len() as u32);
                for (key, value) in state {
                    out.put_u16(
                        u16::try_from(key.len()).expect("state keys are shorter than 64 KiB"),
                    );
                    match value {
                        Some(value) => out.put_u32(value.len() as u32),
                        None => out.put_u32(REMOVED),
                    }
                    out.put_slice(key);
                    if let Some(value) = value {
                        out.put_slice(value);
                    }
                }
                out.put_u32(events.len() as u32);
                out.put_slice(events);
            }
            Body::Handover { state, chain } => {
                out.put_u128(state.0);
                out.put_u64(*chain);
            }
            Body::Open | Body::Resume => {}
        }
    }

    fn decode(kind: u8, reader: &mut Reader) -> Result<Body, RecordError> {
        let body = match kind {
            1 => {
                let count = reader.u32()? as usize;
                let mut state = Vec::with_capacity(count.min(4096));
                for _ in 0..count {
                    let key_len = usize::from(u16::from_be_bytes(
                        reader.take(2)?[..].try_into().expect("two bytes"),
                    ));
                    let value_len = reader.u32()?;
                    let key = reader.take(key_len)?;
                    let value = if value_len == REMOVED {
                        None
                    } else {
                        Some(reader.take(value_len as usize)?)
                    };
                    state.push((key, value));
                }
                let events_len = reader.u32()? as usize;
                Body::Data {
                    state,
                    events: reader.take(events_len)?,
                }
            }
            2 => {
                let sum = reader.take(16)?;
                let state = StateDigest(u128::from_be_bytes(
                    sum[..].try_into().expect("sixteen bytes"),
                ));
                Body::Handover {
                    state,
                    chain: reader.u64()?,
                }
            }
            3 => Body::Open,
            4 => Body::Resume,
            _ => return Err(RecordError::Shape("unknown kind")),
        };
        if reader.at != reader.bytes.len() {
            return Err(RecordError::Shape("bytes are left over"));
        }
        Ok(body)
    }
}

struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn take(&mut self, n: usize) -> Result<Bytes, RecordError> {
        let end = self
            .at
            .checked_add(n)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(RecordError::Shape("a length points past the end"))?;
        let part = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(part)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(
            self.take(4)?[..].try_into().expect("four bytes"),
        ))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(
            self.take(8)?[..].try_into().expect("eight bytes"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(body: Body) -> Record {
        Record {
            epoch: Epoch(2),
            lsn: Lsn(5),
            previous_crc: 9,
            time: UnixMillis(1000),
            first_sequence: Sequence(40),
            event_count: 3,
            body,
        }
    }

    fn data() -> Body {
        Body::Data {
            state: vec![
                (Bytes::from_static(b"k"), Some(Bytes::from_static(b"v"))),
                (Bytes::from_static(b"gone"), None),
            ],
            events: Bytes::from_static(b"three events"),
        }
    }

    #[test]
    fn every_kind_survives_its_encoding() {
        for body in [
            data(),
            Body::Handover {
                state: StateDigest(1 << 90),
                chain: 3,
            },
            Body::Open,
            Body::Resume,
        ] {
            let record = sample(body);
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn version_one_opens_for_ever() {
        let stored = "010100000000000000020000000000000005000000090000000000000 3e8000000000000002800000003\
                      000000020001000000016b760004ffffffff676f6e650000000c7468726565206576656e7473";
        let hex: String = stored.chars().filter(|c| !c.is_whitespace()).collect();
        let mut bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect();
        let crc = crc32c::crc32c(&bytes);
        assert_eq!(
            crc,
            crc_of(&sample(data()).encode()),
            "the checksum covers the same bytes"
        );
        bytes.extend_from_slice(&crc.to_be_bytes());
        assert_eq!(Record::decode(&bytes.into()), Ok(sample(data())));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let good = sample(data()).encode();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << bit;
                assert!(Record::decode(&bad.into()).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&Bytes::from(bytes));
        }

        #[test]
        fn bytes_with_a_right_checksum_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 46..300), kind in 0u8..6) {
            bytes[0] = VERSION;
            bytes[1] = kind;
            let crc = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_be_bytes());
            let _ = Record::decode(&Bytes::from(bytes));
        }
    }
}
