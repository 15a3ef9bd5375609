//! Where a partition stands: stored with every commit, read when it opens (docs/formats/log.md).

use std::fmt;
use types::{Epoch, Lsn, Sequence, UnixMillis};

const VERSION: u8 = 2;
/// Version 1, after its version byte.
const BYTES_V1: usize = 8 * 4 + 4 + 8 + 16 + 8;
/// What version 2 adds: start of the epoch, the epoch before, stage of a return.
const BYTES_V2: usize = BYTES_V1 + 8 + 8 + 1;
/// What follows when a return is under way.
const BYTES_RETURN: usize = 8 + 8 + 8 + 4 + 8 + 16;

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
    /// The last open record; 0: not known.
    pub opened: Lsn,
    /// The epoch before that record.
    pub before: Epoch,
    /// What is here is not yet what any primary had: it must not be led. `None`: it is.
    pub rewind: Option<Rewind>,
}

/// How far a region that must take back another history is (docs/adr/0014-rewind-by-difference.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewind {
    pub stage: Stage,
    /// The last record both regions have; 0 in [`Stage::Copy`].
    pub common: Lsn,
    /// Records that were set aside.
    pub set_aside: u64,
    /// Where content and log are what the other region has; lsn 0 while it is not known.
    pub goal: Goal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its own records are set aside; what they changed is being taken back.
    Difference,
    /// Its log is cut; the other region's records up to the goal are being applied.
    Replay,
    /// The whole partition is being taken anew.
    Copy,
}

/// A place in the other region's history, and its digests there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    pub lsn: Lsn,
    pub crc: u32,
    pub chain: u64,
    pub state: u128,
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

impl Stage {
    fn number(stage: Option<Stage>) -> u8 {
        match stage {
            None => 0,
            Some(Stage::Difference) => 1,
            Some(Stage::Replay) => 2,
            Some(Stage::Copy) => 3,
        }
    }

    fn of(number: u8) -> Result<Option<Stage>, HeadError> {
        match number {
            0 => Ok(None),
            1 => Ok(Some(Stage::Difference)),
            2 => Ok(Some(Stage::Replay)),
            3 => Ok(Some(Stage::Copy)),
            other => Err(HeadError(format!("stage {other} is not known"))),
        }
    }
}

impl Head {
    /// This place and its digests, for a region that returns to it.
    pub fn goal(&self) -> Goal {
        Goal {
            lsn: self.lsn,
            crc: self.crc,
            chain: self.chain,
            state: self.state,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + BYTES_V2 + BYTES_RETURN);
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
        for number in [self.fenced.0, self.opened.0, self.before.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(Stage::number(self.rewind.map(|rewind| rewind.stage)));
        if let Some(rewind) = &self.rewind {
            for number in [rewind.common.0, rewind.set_aside, rewind.goal.lsn.0] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            out.extend_from_slice(&rewind.goal.crc.to_be_bytes());
            out.extend_from_slice(&rewind.goal.chain.to_be_bytes());
            out.extend_from_slice(&rewind.goal.state.to_be_bytes());
        }
        out
    }

    /// # Errors
    /// When the version or the length is not one this code knows.
    pub fn decode(bytes: &[u8]) -> Result<Head, HeadError> {
        let known = |version: &u8| (1..=VERSION).contains(version);
        let Some((version, rest)) = bytes.split_first().filter(|(v, _)| known(v)) else {
            let version = bytes.first();
            return Err(HeadError(format!("version {version:?} is not known")));
        };
        let mut reader = Reader(rest);
        let mut head = Head {
            epoch: Epoch(reader.u64()?),
            lsn: Lsn(reader.u64()?),
            next_sequence: Sequence(reader.u64()?),
            time: UnixMillis(reader.u64()? as i64),
            crc: u32::from_be_bytes(reader.take()?),
            chain: reader.u64()?,
            state: u128::from_be_bytes(reader.take()?),
            fenced: Epoch(reader.u64()?),
            ..Head::default()
        };
        if *version > 1 {
            head.opened = Lsn(reader.u64()?);
            head.before = Epoch(reader.u64()?);
            let [stage] = reader.take::<1>()?;
            if let Some(stage) = Stage::of(stage)? {
                head.rewind = Some(Rewind {
                    stage,
                    common: Lsn(reader.u64()?),
                    set_aside: reader.u64()?,
                    goal: Goal {
                        lsn: Lsn(reader.u64()?),
                        crc: u32::from_be_bytes(reader.take()?),
                        chain: reader.u64()?,
                        state: u128::from_be_bytes(reader.take()?),
                    },
                });
            }
        }
        match reader.0 {
            [] => Ok(head),
            left => Err(HeadError(format!("{} bytes too many", left.len()))),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeadError> {
        let cut = || HeadError("it is cut short".into());
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*front)
    }

    fn u64(&mut self) -> Result<u64, HeadError> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What version 1 knows.
    fn first() -> Head {
        Head {
            epoch: Epoch(3),
            lsn: Lsn(77),
            next_sequence: Sequence(1234),
            time: UnixMillis(1_700_000_000_000),
            crc: 0xdead_beef,
            chain: 42,
            state: 7 << 100,
            fenced: Epoch(2),
            ..Head::default()
        }
    }

    fn returning(stage: Stage) -> Head {
        Head {
            opened: Lsn(70),
            before: Epoch(2),
            rewind: Some(Rewind {
                stage,
                common: Lsn(60),
                set_aside: 5,
                goal: Goal {
                    lsn: Lsn(90),
                    crc: 0xfeed,
                    chain: 43,
                    state: 9 << 90,
                },
            }),
            ..first()
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect()
    }

    const STORED: &str = "0000000000000003000000000000004d00000000000004d20000018bcfe56800deadbeef000000000000002a000000700000000000000000000000000000000000000002";

    #[test]
    fn a_head_survives_its_encoding() {
        let stages = [Stage::Difference, Stage::Replay, Stage::Copy];
        for head in stages.map(returning).into_iter().chain([first()]) {
            assert_eq!(Head::decode(&head.encode()), Ok(head));
        }
    }

    #[test]
    fn version_one_opens_for_ever() {
        assert_eq!(Head::decode(&bytes(&format!("01{STORED}"))), Ok(first()));
    }

    #[test]
    fn version_two_opens_for_ever() {
        let rest = "0000000000000046000000000000000202000000000000003c0000000000000005000000000000005a0000feed000000000000002b00000000240000000000000000000000";
        let stored = bytes(&format!("02{STORED}{rest}"));
        assert_eq!(Head::decode(&stored), Ok(returning(Stage::Replay)));
        assert_eq!(returning(Stage::Replay).encode(), stored);
    }

    #[test]
    fn unknown_versions_stages_and_wrong_lengths_are_refused() {
        for head in [first(), returning(Stage::Copy)] {
            let good = head.encode();
            let mut bad = good.clone();
            bad[0] = 9;
            assert!(Head::decode(&bad).is_err());
            let mut bad = good.clone();
            bad[1 + BYTES_V2 - 1] = 9;
            assert!(Head::decode(&bad).is_err());
            assert!(Head::decode(&[&good[..], &[0]].concat()).is_err());
            for length in 0..good.len() {
                assert!(Head::decode(&good[..length]).is_err(), "{length} bytes");
            }
        }
    }
}
