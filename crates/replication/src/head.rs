//! Where a partition stands: stored with every commit, read when it opens (docs/formats/log.md).

use std::fmt;
use types::{Epoch, Lsn, Sequence, UnixMillis};

const VERSION: u8 = 1;
const BYTES: usize = 1 + 8 * 4 + 4 + 8 + 16 + 8;

/// A partition's position, epoch and digests after its last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub next_sequence: Sequence,
    /// Enqueued times never run backwards: the latest one given.
    pub time: UnixMillis,
    /// Checksum of the last record; the next one names it.
    pub crc: u32,
    pub chain: u64,
    pub state: u128,
    /// This region wrote a handover record at this epoch and must not acknowledge at it; 0: not fenced.
    pub fenced: Epoch,
}

/// The stored head cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadError(pub String);

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading a partition's head: {}", self.0)
    }
}

impl std::error::Error for HeadError {}

impl Head {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.push(VERSION);
        for number in [
            self.epoch.0,
            self.lsn.0,
            self.next_sequence.0,
            self.time.0 as u64,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.crc.to_be_bytes());
        out.extend_from_slice(&self.chain.to_be_bytes());
        out.extend_from_slice(&self.state.to_be_bytes());
        out.extend_from_slice(&self.fenced.0.to_be_bytes());
        out
    }

    /// # Errors
    /// When the version or the length is not one this code knows.
    pub fn decode(bytes: &[u8]) -> Result<Head, HeadError> {
        if bytes.first() != Some(&VERSION) {
            return Err(HeadError(format!(
                "version {:?} is not known",
                bytes.first()
            )));
        }
        if bytes.len() != BYTES {
            return Err(HeadError(format!(
                "{} bytes instead of {BYTES}",
                bytes.len()
            )));
        }
        let mut at = 1;
        let mut take = |n: usize| {
            at += n;
            &bytes[at - n..at]
        };
        let mut u64_of = || u64::from_be_bytes(take(8).try_into().expect("eight bytes"));
        let (epoch, lsn, next_sequence, time) = (u64_of(), u64_of(), u64_of(), u64_of());
        let crc = u32::from_be_bytes(take(4).try_into().expect("four bytes"));
        let chain = u64::from_be_bytes(take(8).try_into().expect("eight bytes"));
        let state = u128::from_be_bytes(take(16).try_into().expect("sixteen bytes"));
        let fenced = u64::from_be_bytes(take(8).try_into().expect("eight bytes"));
        Ok(Head {
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            next_sequence: Sequence(next_sequence),
            time: UnixMillis(time as i64),
            crc,
            chain,
            state,
            fenced: Epoch(fenced),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Head {
        Head {
            epoch: Epoch(3),
            lsn: Lsn(77),
            next_sequence: Sequence(1234),
            time: UnixMillis(1_700_000_000_000),
            crc: 0xdead_beef,
            chain: 42,
            state: 7 << 100,
            fenced: Epoch(2),
        }
    }

    #[test]
    fn a_head_survives_its_encoding() {
        assert_eq!(Head::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn version_one_opens_for_ever() {
        let stored = "010000000000000003000000000000004d00000000000004d20000018bcfe56800deadbeef000000000000002a000000700000000000000000000000000000000000000002";
        let bytes: Vec<u8> = (0..stored.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&stored[i..i + 2], 16).unwrap())
            .collect();
        assert_eq!(Head::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn unknown_versions_and_wrong_lengths_are_refused() {
        let mut bytes = sample().encode();
        bytes[0] = 9;
        assert!(Head::decode(&bytes).is_err());
        assert!(Head::decode(&sample().encode()[1..]).is_err());
        assert!(Head::decode(&sample().encode()[..10]).is_err());
        assert!(Head::decode(&[]).is_err());
    }
}
