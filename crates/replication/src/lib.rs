//! What a partition's log is made of and how it gets to the other region, pure: record format, head, digests, the checks of a
//! follower and the book-keeping of a shipper.
//!
//! The log holds write-sets, not commands: a follower only applies. Every record names its epoch, its position and the
//! checksum of the record before it, so a gap, a flip or a foreign record is found where it happens.

pub mod digest;
pub mod head;
pub mod record;
pub mod shipper;

pub use digest::{StateDigest, entry_digest};
pub use head::{Goal, Head, HeadError, Rewind, Stage};
pub use record::{Body, Record, RecordError};
pub use shipper::{Progress, Shipper};

use std::fmt;
use types::{Epoch, Lsn};

/// Why a follower does not take a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It has this record already.
    Old { lsn: Lsn },
    /// Records before it are missing: ask again from the follower's own end.
    Gap { expected: Lsn, found: Lsn },
    /// It continues another history than the one this region has.
    Diverged { at: Lsn },
    /// It belongs to an epoch that this region has already left.
    StaleEpoch { known: Epoch, found: Epoch },
    /// A handover record whose digests are not this region's.
    Digest { at: Lsn },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Old { lsn } => write!(f, "record {lsn} is here already"),
            Mismatch::Gap { expected, found } => {
                write!(f, "expected record {expected}, found {found}")
            }
            Mismatch::Diverged { at } => write!(f, "the history differs at record {at}"),
            Mismatch::StaleEpoch { known, found } => {
                write!(f, "record of epoch {found}, but epoch {known} is known")
            }
            Mismatch::Digest { at } => {
                write!(f, "the digests of the two regions differ at record {at}")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Checks that `record` is the next one after `head`.
///
/// # Errors
/// [`Mismatch`]; a handover's digests are compared by the caller, after applying.
pub fn follows(head: &Head, record: &Record) -> Result<(), Mismatch> {
    if record.lsn <= head.lsn {
        return Err(Mismatch::Old { lsn: record.lsn });
    }
    if record.lsn != head.lsn.next() {
        return Err(Mismatch::Gap {
            expected: head.lsn.next(),
            found: record.lsn,
        });
    }
    if record.previous_crc != head.crc {
        return Err(Mismatch::Diverged { at: record.lsn });
    }
    if record.epoch < head.epoch {
        return Err(Mismatch::StaleEpoch {
            known: head.epoch,
            found: record.epoch,
        });
    }
    if record.first_sequence != head.next_sequence {
        return Err(Mismatch::Diverged { at: record.lsn });
    }
    // Only an open record begins an epoch: anything else of a higher one skipped its primary's opening.
    if record.epoch > head.epoch && record.body != Body::Open {
        return Err(Mismatch::Diverged { at: record.lsn });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::{Sequence, UnixMillis};

    fn next_of(head: &Head) -> Record {
        Record {
            epoch: head.epoch,
            lsn: head.lsn.next(),
            previous_crc: head.crc,
            time: UnixMillis(1),
            first_sequence: head.next_sequence,
            event_count: 0,
            body: Body::Data {
                state: vec![],
                events: Bytes::new(),
            },
        }
    }

    #[test]
    fn only_the_next_record_of_the_same_history_is_taken() {
        let head = Head {
            lsn: Lsn(4),
            epoch: Epoch(2),
            crc: 7,
            next_sequence: Sequence(9),
            ..Head::default()
        };
        assert_eq!(follows(&head, &next_of(&head)), Ok(()));
        let check = |change: fn(&mut Record), want: Mismatch| {
            let mut record = next_of(&head);
            change(&mut record);
            assert_eq!(follows(&head, &record), Err(want));
        };
        check(|r| r.lsn = Lsn(4), Mismatch::Old { lsn: Lsn(4) });
        check(
            |r| r.lsn = Lsn(6),
            Mismatch::Gap {
                expected: Lsn(5),
                found: Lsn(6),
            },
        );
        check(|r| r.previous_crc = 8, Mismatch::Diverged { at: Lsn(5) });
        check(
            |r| r.first_sequence = Sequence(8),
            Mismatch::Diverged { at: Lsn(5) },
        );
        check(|r| r.epoch = Epoch(3), Mismatch::Diverged { at: Lsn(5) });
        let mut opening = next_of(&head);
        (opening.epoch, opening.body) = (Epoch(3), Body::Open);
        assert_eq!(follows(&head, &opening), Ok(()));
        check(
            |r| r.epoch = Epoch(1),
            Mismatch::StaleEpoch {
                known: Epoch(2),
                found: Epoch(1),
            },
        );
    }
}
