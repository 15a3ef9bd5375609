//! Records that were set aside: how they are named, summed up and written to a file (docs/formats/store.md).

use crate::format::{self, Bad, LogKey, RECORD_HEADER_BYTES, RECORD_TAG};
use crate::{LogRecord, Salvage, StoreError};
use bytes::Bytes;
use types::{Epoch, HubId, Lsn, PartitionId, PartitionKey, UnixMillis};

/// The first bytes of a salvage's file.
const MAGIC: &[u8; 20] = b"castling-salvage 1\n\0";
/// Magic, checksum, then what [`encode_header`] lists.
pub(crate) const HEADER_BYTES: usize = MAGIC.len() + 4 + 4 + 2 + 2 + 8 * 9;
/// Salvages of one name; more would be a mistake that repeats itself.
const SAME_NAME_MAX: u32 = 100;

impl Salvage {
    /// A salvage of what begins with `first`, still without an id.
    pub(crate) fn of(
        at: PartitionKey,
        epoch: Epoch,
        made: UnixMillis,
        first: &LogRecord,
    ) -> Salvage {
        Salvage {
            id: String::new(),
            at,
            epoch,
            first: first.lsn,
            last: first.lsn,
            records: 0,
            events: 0,
            bytes: 0,
            first_time: first.time,
            last_time: first.time,
            made,
        }
    }

    pub(crate) fn add(&mut self, record: &LogRecord) {
        self.last = record.lsn;
        self.records += 1;
        self.events += u64::from(record.event_count);
        self.bytes += record.bytes.len() as u64;
        self.last_time = record.time;
    }

    fn stem(&self) -> String {
        format!(
            "h{}-p{}-e{}-{}",
            self.at.hub.0, self.at.partition.0, self.epoch.0, self.first.0
        )
    }

    /// The first id of this salvage's name that nothing kept has.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a hundred of the name are kept.
    pub(crate) fn free_id(&self, taken: impl Fn(&str) -> bool) -> Result<String, StoreError> {
        let stem = self.stem();
        let named = (1..=SAME_NAME_MAX).map(|nth| match nth {
            1 => stem.clone(),
            nth => format!("{stem}-{nth}"),
        });
        named.into_iter().find(|id| !taken(id)).ok_or_else(|| {
            StoreError::Invalid(format!("{SAME_NAME_MAX} salvages named {stem} are kept"))
        })
    }
}

/// The salvage that holds these records already. One epoch has one history, so equal ends mean equal records.
pub(crate) fn known<'a>(
    kept: impl Iterator<Item = &'a Salvage>,
    at: PartitionKey,
    epoch: Epoch,
    first: Lsn,
    last: Lsn,
) -> Option<Salvage> {
    let mut kept = kept;
    kept.find(|s| (s.at, s.epoch, s.first, s.last) == (at, epoch, first, last))
        .cloned()
}

/// By partition, then by first record.
pub(crate) fn sorted(mut all: Vec<Salvage>) -> Vec<Salvage> {
    all.sort_by(|a, b| (a.at, a.first, &a.id).cmp(&(b.at, b.first, &b.id)));
    all
}

pub(crate) fn unknown(id: &str) -> StoreError {
    StoreError::Invalid(format!("there is no salvage named {id:?}"))
}

/// The part of a file before its records.
pub(crate) fn encode_header(salvage: &Salvage) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER_BYTES);
    body.extend_from_slice(&salvage.at.hub.0.to_be_bytes());
    body.extend_from_slice(&salvage.at.partition.0.to_be_bytes());
    body.extend_from_slice(&[0; 2]);
    for number in [
        salvage.epoch.0,
        salvage.first.0,
        salvage.last.0,
        salvage.records,
        salvage.events,
        salvage.bytes,
        salvage.first_time.0 as u64,
        salvage.last_time.0 as u64,
        salvage.made.0 as u64,
    ] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    let sum = crc32c::crc32c(&body);
    [&MAGIC[..], &sum.to_be_bytes(), &body].concat()
}

/// Reads back [`encode_header`]; the id is the file's name.
pub(crate) fn decode_header(id: &str, bytes: &[u8]) -> Result<Salvage, Bad> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("it is not a salvage of a version this build knows")?;
    let (sum, body) = rest.split_first_chunk::<4>().ok_or("it is cut short")?;
    if body.len() != HEADER_BYTES - MAGIC.len() - 4 {
        return Err("it is cut short");
    }
    if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
        return Err("its checksum is wrong");
    }
    let (numbers, _) = body[8..].as_chunks::<8>();
    let number = |nth: usize| u64::from_be_bytes(numbers[nth]);
    let hub = body.first_chunk::<4>().map(|b| u32::from_be_bytes(*b));
    let partition = body[4..].first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
    Ok(Salvage {
        id: id.to_owned(),
        at: PartitionKey {
            hub: HubId(hub.unwrap_or_default()),
            partition: PartitionId(partition.unwrap_or_default()),
        },
        epoch: Epoch(number(0)),
        first: Lsn(number(1)),
        last: Lsn(number(2)),
        records: number(3),
        events: number(4),
        bytes: number(5),
        first_time: UnixMillis(number(6) as i64),
        last_time: UnixMillis(number(7) as i64),
        made: UnixMillis(number(8) as i64),
    })
}

fn key_of(at: PartitionKey, lsn: Lsn) -> impl AsRef<[u8]> {
    LogKey {
        tag: RECORD_TAG,
        partition: at,
        generation: 0,
        position: lsn.0,
    }
    .encode()
}

/// Length (4 bytes), then the record as a log segment holds it.
pub(crate) fn encode_frame(at: PartitionKey, record: &LogRecord, out: &mut Vec<u8>) {
    let length = (RECORD_HEADER_BYTES + record.bytes.len()) as u32;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&format::record_header(
        key_of(at, record.lsn).as_ref(),
        record,
    ));
    out.extend_from_slice(&record.bytes);
}

/// A frame without its length, as the record of this lsn.
pub(crate) fn decode_frame(at: PartitionKey, lsn: Lsn, frame: Bytes) -> Result<LogRecord, Bad> {
    format::decode_record(key_of(at, lsn).as_ref(), frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{partition, record};

    #[test]
    fn headers_and_frames_are_read_back_and_any_flip_is_found() {
        let mut salvage = Salvage::of(
            partition(3),
            Epoch(4),
            UnixMillis(99),
            &record(120, 7, 2, 50),
        );
        salvage.add(&record(120, 7, 2, 50));
        salvage.add(&record(121, 9, 1, 60));
        assert_eq!((salvage.records, salvage.events), (2, 3));
        salvage.id = salvage.free_id(|_| false).unwrap();
        assert_eq!(salvage.id, "h1-p3-e4-120");
        assert_eq!(
            salvage.free_id(|id| id == "h1-p3-e4-120"),
            Ok("h1-p3-e4-120-2".into())
        );
        let header = encode_header(&salvage);
        assert_eq!(header.len(), HEADER_BYTES);
        assert_eq!(decode_header(&salvage.id, &header), Ok(salvage));
        let mut frame = Vec::new();
        encode_frame(partition(3), &record(120, 7, 2, 50), &mut frame);
        let frame = frame.split_off(4);
        let decode = |bytes: &[u8]| {
            decode_frame(partition(3), Lsn(120), Bytes::copy_from_slice(bytes)).is_ok()
        };
        assert!(decode(&frame));
        assert!(decode_frame(partition(3), Lsn(121), Bytes::copy_from_slice(&frame)).is_err());
        for at in 0..header.len() {
            let mut bad = header.clone();
            bad[at] ^= 1;
            assert!(decode_header("x", &bad).is_err(), "byte {at}");
        }
        for at in 0..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 1;
            assert!(!decode(&bad), "byte {at}");
        }
    }
}
