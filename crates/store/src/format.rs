//! Version 1 of everything the store writes, byte by byte (docs/formats/store.md). Integers are big-endian.
//!
//! Every value carries its version and a crc32c over its key and all that follows the checksum, so a value that was flipped,
//! cut or put under another key is found.

use crate::LogRecord;
use crate::directory::Position;
use bytes::Bytes;
use types::{HubId, Lsn, PartitionId, PartitionKey, Sequence, UnixMillis};

/// Version byte of every value below.
pub(crate) const VERSION: u8 = 1;
/// Bytes of `hub | partition`, with which every key of a partition begins (after its tag, in log segments).
pub(crate) const PARTITION_BYTES: usize = 6;
pub(crate) const RECORD_TAG: u8 = b'L';
pub(crate) const SEQUENCE_TAG: u8 = b'S';
const ENVELOPE_BYTES: usize = 5;
pub(crate) const RECORD_HEADER_BYTES: usize = ENVELOPE_BYTES + 28;
const LOG_KEY_BYTES: usize = 1 + PARTITION_BYTES + 4 + 8;
const HEAD_PRESENT: u8 = 1;
const HEAD_CLEARING: u8 = 2;
const HEAD_CUTTING: u8 = 4;

/// Why bytes on disk are not a value of this format.
pub(crate) type Bad = &'static str;

pub(crate) fn partition_prefix(partition: PartitionKey) -> [u8; PARTITION_BYTES] {
    let mut prefix = [0; PARTITION_BYTES];
    prefix[..4].copy_from_slice(&partition.hub.0.to_be_bytes());
    prefix[4..].copy_from_slice(&partition.partition.0.to_be_bytes());
    prefix
}

pub(crate) fn state_key(partition: PartitionKey, key: &[u8]) -> Vec<u8> {
    [&partition_prefix(partition)[..], key].concat()
}

/// A key in a log segment: `tag | hub | partition | generation | position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogKey {
    pub tag: u8,
    pub partition: PartitionKey,
    pub generation: u32,
    /// Lsn of a record entry, first sequence number of an index entry.
    pub position: u64,
}

impl LogKey {
    pub(crate) fn encode(self) -> [u8; LOG_KEY_BYTES] {
        let mut key = [0; LOG_KEY_BYTES];
        key[0] = self.tag;
        key[1..7].copy_from_slice(&partition_prefix(self.partition));
        key[7..11].copy_from_slice(&self.generation.to_be_bytes());
        key[11..].copy_from_slice(&self.position.to_be_bytes());
        key
    }

    pub(crate) fn decode(key: &[u8]) -> Result<LogKey, Bad> {
        let mut cursor = Cursor(key);
        let tag = cursor.u8()?;
        let decoded = LogKey {
            tag,
            partition: cursor.partition()?,
            generation: cursor.u32()?,
            position: cursor.u64()?,
        };
        if cursor.0.is_empty() {
            Ok(decoded)
        } else {
            Err("a key of a wrong length")
        }
    }
}

/// The partition a key of the `heads` keyspace names.
pub(crate) fn decode_head_key(key: &[u8]) -> Result<PartitionKey, Bad> {
    let mut cursor = Cursor(key);
    let partition = cursor.partition()?;
    if cursor.0.is_empty() {
        Ok(partition)
    } else {
        Err("a key of a wrong length")
    }
}

/// What precedes a record's bytes; the checksum covers those too.
pub(crate) fn record_header(key: &[u8], record: &LogRecord) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[5..13].copy_from_slice(&record.lsn.0.to_be_bytes());
    header[13..21].copy_from_slice(&record.first_sequence.0.to_be_bytes());
    header[21..25].copy_from_slice(&record.event_count.to_be_bytes());
    header[25..33].copy_from_slice(&record.time.0.to_be_bytes());
    let checksum = crc32c::crc32c_append(checksum(key, &header[ENVELOPE_BYTES..]), &record.bytes);
    header[0] = VERSION;
    header[1..5].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Decodes a record without copying its bytes.
pub(crate) fn decode_record(key: &[u8], value: Bytes) -> Result<LogRecord, Bad> {
    let mut cursor = open(key, &value)?;
    let record = LogRecord {
        lsn: Lsn(cursor.u64()?),
        first_sequence: Sequence(cursor.u64()?),
        event_count: cursor.u32()?,
        time: UnixMillis(cursor.i64()?),
        bytes: value.slice(RECORD_HEADER_BYTES..),
    };
    if LogKey::decode(key)?.position != record.lsn.0 {
        return Err("the lsn in the value is not the one in the key");
    }
    Ok(record)
}

/// One entry of a segment's sequence index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub lsn: Lsn,
    pub time: UnixMillis,
    pub count: u32,
}

pub(crate) fn encode_index(key: &[u8], entry: &IndexEntry) -> Vec<u8> {
    let mut body = Vec::with_capacity(ENVELOPE_BYTES + 20);
    body.extend_from_slice(&[0; ENVELOPE_BYTES]);
    body.extend_from_slice(&entry.lsn.0.to_be_bytes());
    body.extend_from_slice(&entry.time.0.to_be_bytes());
    body.extend_from_slice(&entry.count.to_be_bytes());
    seal(key, body)
}

pub(crate) fn decode_index(key: &[u8], value: &[u8]) -> Result<IndexEntry, Bad> {
    let mut cursor = open(key, value)?;
    let entry = IndexEntry {
        lsn: Lsn(cursor.u64()?),
        time: UnixMillis(cursor.i64()?),
        count: cursor.u32()?,
    };
    if cursor.0.is_empty() {
        Ok(entry)
    } else {
        Err("an index entry of a wrong length")
    }
}

pub(crate) fn encode_head(key: &[u8], position: &Position) -> Vec<u8> {
    let head = position.head.as_deref().unwrap_or_default();
    let mut body = Vec::with_capacity(ENVELOPE_BYTES + 38 + head.len());
    body.extend_from_slice(&[0; ENVELOPE_BYTES]);
    body.extend_from_slice(&position.generation.to_be_bytes());
    let present = if position.head.is_some() {
        HEAD_PRESENT
    } else {
        0
    };
    let clearing = if position.clearing { HEAD_CLEARING } else { 0 };
    let cutting = if position.cutting { HEAD_CUTTING } else { 0 };
    body.push(present | clearing | cutting);
    body.push(position.retention_days);
    for number in [
        position.first_lsn,
        position.last_lsn,
        position.next_sequence,
    ] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    body.extend_from_slice(&position.event_time.to_be_bytes());
    body.extend_from_slice(head);
    seal(key, body)
}

pub(crate) fn decode_head(key: &[u8], value: &[u8]) -> Result<Position, Bad> {
    let mut cursor = open(key, value)?;
    let generation = cursor.u32()?;
    let flags = cursor.u8()?;
    let mut position = Position {
        generation,
        clearing: flags & HEAD_CLEARING != 0,
        cutting: flags & HEAD_CUTTING != 0,
        retention_days: cursor.u8()?,
        first_lsn: cursor.u64()?,
        last_lsn: cursor.u64()?,
        next_sequence: cursor.u64()?,
        event_time: cursor.i64()?,
        head: None,
    };
    if flags & HEAD_PRESENT != 0 {
        position.head = Some(Bytes::copy_from_slice(cursor.0));
    }
    Ok(position)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// Fills in the version and checksum of a value whose first bytes were left free for them.
fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &value[ENVELOPE_BYTES..]);
    value[0] = VERSION;
    value[1..ENVELOPE_BYTES].copy_from_slice(&sum.to_be_bytes());
    value
}

/// Checks version and checksum and gives what follows them.
fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<Cursor<'a>, Bad> {
    let mut cursor = Cursor(value);
    if cursor.u8()? != VERSION {
        return Err("its version is not known to this build");
    }
    let want = cursor.u32()?;
    if checksum(key, cursor.0) != want {
        return Err("its checksum is wrong");
    }
    Ok(cursor)
}

/// Reads integers off the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(*front)
    }

    fn u8(&mut self) -> Result<u8, Bad> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Bad> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Bad> {
        self.take().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Bad> {
        self.take().map(i64::from_be_bytes)
    }

    fn partition(&mut self) -> Result<PartitionKey, Bad> {
        let hub = HubId(self.u32()?);
        Ok(PartitionKey {
            hub,
            partition: PartitionId(self.take().map(u16::from_be_bytes)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(hub: u32, partition: u16) -> PartitionKey {
        PartitionKey {
            hub: HubId(hub),
            partition: PartitionId(partition),
        }
    }

    fn encode_record(key: &[u8], record: &LogRecord) -> Vec<u8> {
        [&record_header(key, record)[..], &record.bytes].concat()
    }

    fn any_record() -> impl Strategy<Value = LogRecord> {
        (
            any::<u64>(),
            any::<u64>(),
            any::<u32>(),
            any::<i64>(),
            proptest::collection::vec(any::<u8>(), 0..200),
        )
            .prop_map(|(lsn, sequence, event_count, time, bytes)| LogRecord {
                lsn: Lsn(lsn),
                first_sequence: Sequence(sequence),
                event_count,
                time: UnixMillis(time),
                bytes: bytes.into(),
            })
    }

    proptest! {
        #[test]
        fn records_survive_and_any_flip_cut_or_move_is_found(
            record in any_record(), hub: u32, number: u16, generation: u32, flip: proptest::sample::Index, bit in 0u8..8,
        ) {
            let key = LogKey { tag: RECORD_TAG, partition: partition(hub, number), generation, position: record.lsn.0 };
            prop_assert_eq!(LogKey::decode(&key.encode()), Ok(key));
            let key = key.encode();
            let value = encode_record(&key, &record);
            prop_assert_eq!(decode_record(&key, value.clone().into()), Ok(record));

            let mut flipped = value.clone();
            flipped[flip.index(value.len())] ^= 1 << bit;
            prop_assert!(decode_record(&key, flipped.into()).is_err());
            let mut elsewhere = key;
            elsewhere[flip.index(key.len())] ^= 1 << bit;
            prop_assert!(decode_record(&elsewhere, value.clone().into()).is_err());
            let cut = flip.index(value.len());
            prop_assert!(decode_record(&key, value[..cut].to_vec().into()).is_err());
        }

        #[test]
        fn heads_and_index_entries_survive_and_flips_are_found(
            numbers: [u64; 4], generation: u32, clearing: bool, cutting: bool, days: u8, time: i64, count: u32,
            head in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
            flip: proptest::sample::Index, bit in 0u8..8,
        ) {
            let key = partition_prefix(partition(7, 3));
            let position = Position {
                generation, clearing, cutting, retention_days: days, first_lsn: numbers[0], last_lsn: numbers[1],
                next_sequence: numbers[2], event_time: time, head: head.map(Bytes::from),
            };
            let mut value = encode_head(&key, &position);
            prop_assert_eq!(decode_head(&key, &value), Ok(position));
            let at = flip.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(decode_head(&key, &value).is_err());

            let entry = IndexEntry { lsn: Lsn(numbers[3]), time: UnixMillis(time), count };
            let mut value = encode_index(&key, &entry);
            prop_assert_eq!(decode_index(&key, &value), Ok(entry));
            let at = flip.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(decode_index(&key, &value).is_err());
        }

        #[test]
        fn log_keys_sort_by_partition_then_generation_then_position(a: (u32, u16, u32, u64), b: (u32, u16, u32, u64)) {
            let key = |t: (u32, u16, u32, u64)| LogKey { tag: b'L', partition: partition(t.0, t.1), generation: t.2, position: t.3 }.encode();
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }
    }

    #[test]
    fn a_value_of_a_later_version_is_refused_with_that_reason() {
        let key = partition_prefix(partition(1, 1));
        let mut value = encode_head(&key, &Position::default());
        value[0] = 2;
        assert_eq!(
            decode_head(&key, &value),
            Err("its version is not known to this build")
        );
    }
}
