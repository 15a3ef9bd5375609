//! What every store keeps, as plain functions. A rule gets a function that opens the store: the first call makes an empty one,
//! each later call opens the same disk again after the one before was dropped. Rules panic with what was broken.
//!
//! [`RULES`] lists them all; a store's own test calls each by name or runs the list.

mod commits;
mod lifecycle;
mod log;
mod retention;
mod salvage;

pub use commits::*;
pub use lifecycle::*;
pub use log::*;
pub use retention::*;
pub use salvage::*;

use crate::{LogRecord, PartitionCommit, Store, StoreError};
use bytes::Bytes;
use types::{HubId, Lsn, PartitionId, PartitionKey, Sequence, UnixMillis};

/// Opens one disk, again and again.
pub type Opener<'a> = &'a mut dyn FnMut() -> Box<dyn Store>;

/// A rule and its name.
pub type Rule = (&'static str, fn(Opener));

macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        /// Every rule of the trait's documentation.
        pub const RULES: &[Rule] = &[$((stringify!($name), $name)),*];
    };
}

rules![
    a_commit_changes_all_partitions_or_none,
    a_commit_that_breaks_the_contract_changes_nothing,
    records_must_follow_without_a_gap,
    sequence_numbers_and_event_times_must_follow,
    one_partition_may_appear_twice_in_a_commit,
    state_entries_are_replaced_and_removed,
    a_scan_keeps_its_bounds_and_its_partition,
    partitions_are_those_with_a_head,
    an_empty_log_is_empty_and_no_error,
    reading_gives_whole_pages_and_at_least_one_record,
    reading_crosses_segments,
    events_are_found_by_sequence_number,
    events_are_found_by_time,
    records_without_events_do_not_disturb_the_indexes,
    trimming_drops_only_what_is_older_than_its_retention,
    trimming_everything_keeps_the_position,
    classes_are_trimmed_apart_and_the_log_stays_contiguous,
    an_unknown_retention_is_refused,
    a_restart_keeps_everything,
    a_snapshot_stays_at_one_instant,
    snapshots_are_consistent_while_commits_go_on,
    clearing_empties_one_partition_only,
    a_cleared_partition_begins_anywhere,
    a_cut_log_ends_there_and_goes_on_with_other_records,
    a_log_is_cut_anywhere_within_what_it_keeps,
    a_cut_that_breaks_the_contract_changes_nothing,
    what_is_set_aside_outlives_cutting_clearing_and_restarts,
    setting_aside_twice_gives_one_salvage_and_other_ends_give_others,
    a_salvage_is_gone_once_discarded,
    only_what_is_kept_can_be_set_aside,
    a_partition_is_emptied_down_to_a_head,
    space_is_reported,
];

/// Runs all rules, each on a new disk.
pub fn run_all(mut new_disk: impl FnMut() -> Box<dyn FnMut() -> Box<dyn Store>>) {
    for (name, rule) in RULES {
        tracing::info!(name, "conformance");
        rule(&mut *new_disk());
    }
}

/// A partition of hub 1.
pub fn partition(number: u16) -> PartitionKey {
    PartitionKey {
        hub: HubId(1),
        partition: PartitionId(number),
    }
}

/// A record whose bytes tell its lsn.
pub fn record(lsn: u64, first_sequence: u64, event_count: u32, time: i64) -> LogRecord {
    LogRecord {
        lsn: Lsn(lsn),
        first_sequence: Sequence(first_sequence),
        event_count,
        time: UnixMillis(time),
        bytes: Bytes::from(format!("record {lsn:08}").repeat(1 + (lsn % 3) as usize)),
    }
}

/// A commit of records with a head that tells the last one.
pub fn commit_of(records: Vec<LogRecord>) -> PartitionCommit {
    let head = records
        .last()
        .map(|record| Bytes::from(format!("head {}", record.lsn)));
    PartitionCommit {
        records,
        head,
        ..PartitionCommit::default()
    }
}

pub(crate) fn set(key: &'static str, value: &'static str) -> (Bytes, Option<Bytes>) {
    (
        Bytes::from_static(key.as_bytes()),
        Some(Bytes::from_static(value.as_bytes())),
    )
}

pub(crate) fn state(entries: Vec<(Bytes, Option<Bytes>)>) -> PartitionCommit {
    PartitionCommit {
        state: entries,
        ..PartitionCommit::default()
    }
}

pub(crate) fn write(store: &dyn Store, key: PartitionKey, records: Vec<LogRecord>) {
    store
        .commit(vec![(key, commit_of(records))])
        .expect("the commit follows the contract");
}

pub(crate) fn bounds(store: &dyn Store, key: PartitionKey) -> Option<(u64, u64, u64)> {
    let bounds = store.log_bounds(key).expect("the log is readable");
    bounds.map(|bounds| {
        (
            bounds.first_lsn.0,
            bounds.first_sequence.0,
            bounds.last_lsn.0,
        )
    })
}

/// Lsns from `from` to the end of the log, read in pages; each record is as [`record`] made it.
pub(crate) fn lsns(store: &dyn Store, key: PartitionKey, from: u64, page_bytes: usize) -> Vec<u64> {
    let mut next = Lsn(from);
    let mut all = Vec::new();
    loop {
        let page = store
            .read_log(key, next, page_bytes)
            .expect("the log is readable");
        let Some(last) = page.last() else { return all };
        next = last.lsn.next();
        for found in page {
            assert_eq!(
                found.bytes,
                record(found.lsn.0, 0, 0, 0).bytes,
                "bytes are those that were written"
            );
            all.push(found.lsn.0);
        }
    }
}

pub(crate) fn assert_invalid(outcome: Result<(), StoreError>, what: &str) {
    assert!(
        matches!(outcome, Err(StoreError::Invalid(_))),
        "{what}: {outcome:?}"
    );
}

pub(crate) fn assert_trimmed<T: std::fmt::Debug>(
    outcome: Result<T, StoreError>,
    key: PartitionKey,
    first: u64,
) {
    let expected = StoreError::Trimmed {
        partition: key,
        first: Lsn(first),
    };
    assert_eq!(
        outcome.expect_err("what is older than the log is an error"),
        expected
    );
}
