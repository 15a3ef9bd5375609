//! Both stores keep every rule.

use std::sync::Arc;
use store::{FjallStore, MemoryStore, Options, Store, conformance};

fn fjall(options: Options) -> Box<dyn FnMut() -> Box<dyn Store>> {
    let folder = Arc::new(tempfile::tempdir().expect("a folder for the test"));
    Box::new(move || {
        Box::new(FjallStore::open(folder.path(), options.clone()).expect("the store opens"))
    })
}

fn memory() -> Box<dyn FnMut() -> Box<dyn Store>> {
    let store = MemoryStore::default();
    Box::new(move || Box::new(store.reopen()))
}

#[test]
fn the_list_of_rules_holds_on_a_store_that_rolls_its_segments_all_the_time() {
    let options = Options {
        segment_bytes_max: 1,
        memtable_bytes: 1 << 20,
        ..Options::default()
    };
    conformance::run_all(|| fjall(options.clone()));
}

macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        mod fjall_store {
            $(#[test] fn $name() { store::conformance::$name(&mut *super::fjall(store::Options::default())); })*
        }
        mod memory_store {
            $(#[test] fn $name() { store::conformance::$name(&mut *super::memory()); })*
        }
        #[test]
        fn every_rule_is_a_test() {
            let named = [$(stringify!($name)),*];
            let listed: Vec<_> = conformance::RULES.iter().map(|(name, _)| *name).collect();
            assert_eq!(named[..], listed[..]);
        }
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
