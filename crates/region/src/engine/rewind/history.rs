//! What a region's own log tells about its history.

use replication::record::crc_of;
use replication::{Body, Head, Record};
use store::{Store, StoreError};
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

/// What the cut leaves as the last record, read from the log before it is cut.
pub(super) struct Cut {
    pub epoch: Epoch,
    pub crc: u32,
    pub next_sequence: Sequence,
    pub time: UnixMillis,
}

/// The lowest record whose checksum is known here: the one before the oldest kept.
pub(super) fn kept(at: PartitionKey, head: &Head, store: &dyn Store) -> Result<Lsn, StoreError> {
    let bounds = store.log_bounds(at)?;
    Ok(bounds.map_or(head.lsn, |bounds| Lsn(bounds.first_lsn.0.saturating_sub(1))))
}

/// The checksum of a record of this history; `None` when it is not known here.
pub(in super::super) fn crc_at(
    at: PartitionKey,
    head: &Head,
    lsn: Lsn,
    store: &dyn Store,
) -> Result<Option<u32>, StoreError> {
    if lsn == head.lsn {
        return Ok(Some(head.crc));
    }
    if lsn > head.lsn {
        return Ok(None);
    }
    if lsn > Lsn(0) {
        match store.read_log(at, lsn, 1) {
            Ok(page) => return Ok(page.first().map(|record| crc_of(&record.bytes))),
            Err(StoreError::Trimmed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // The record after it names it.
    match store.read_log(at, lsn.next(), 1) {
        Ok(page) => Ok(decoded(page.first()).map(|record| record.previous_crc)),
        Err(StoreError::Trimmed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decoded(record: Option<&store::LogRecord>) -> Option<Record> {
    record.and_then(|record| Record::decode(&record.bytes).ok())
}

/// What the head is after a cut; `None` when the log does not tell.
pub(super) fn cut_after(
    at: PartitionKey,
    common: Lsn,
    store: &dyn Store,
) -> Result<Option<Cut>, StoreError> {
    let Some(next) = decoded(store.read_log(at, common.next(), 1)?.first()) else {
        return Ok(None);
    };
    let last = match store.read_log(at, common, 1) {
        _ if common == Lsn(0) => None,
        Ok(page) => decoded(page.first()),
        Err(StoreError::Trimmed { .. }) => None,
        Err(error) => return Err(error),
    };
    let epoch = match &last {
        Some(last) => last.epoch,
        None if common == Lsn(0) => Epoch(0),
        // Only an open record changes the epoch.
        None if next.body != Body::Open => next.epoch,
        None => return Ok(None),
    };
    Ok(Some(Cut {
        epoch,
        crc: next.previous_crc,
        next_sequence: next.first_sequence,
        time: last.map_or(UnixMillis(0), |last| last.time),
    }))
}
