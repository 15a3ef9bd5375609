//! What is kept for how long.

use super::{
    Opener, assert_invalid, assert_trimmed, bounds, commit_of, lsns, partition, record, write,
};
use crate::Store;
use types::{Lsn, Sequence, UnixMillis};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// One record of one event every two hours: with a day of retention, each has a segment of its own.
fn write_every_two_hours(store: &dyn Store, number: u16, lsns: std::ops::RangeInclusive<u64>) {
    for lsn in lsns {
        write(
            store,
            partition(number),
            vec![record(lsn, lsn - 1, 1, lsn as i64 * 2 * HOUR)],
        );
    }
}

pub fn trimming_drops_only_what_is_older_than_its_retention(open: Opener) {
    let store = open();
    store.set_retention(partition(1), 1);
    write_every_two_hours(&*store, 1, 1..=12);
    let written_at = |lsn: i64| lsn * 2 * HOUR;
    assert_eq!(
        store
            .trim(UnixMillis(written_at(1) + DAY))
            .expect("trimmed"),
        0,
        "exactly as old as its retention"
    );
    assert_eq!(
        store
            .trim(UnixMillis(written_at(1) + DAY + 1))
            .expect("trimmed"),
        1
    );
    assert_eq!(
        store
            .trim(UnixMillis(written_at(4) + DAY + 1))
            .expect("trimmed"),
        3
    );
    let check = |store: &dyn Store| {
        assert_eq!(bounds(store, partition(1)), Some((5, 4, 12)));
        assert_eq!(
            lsns(store, partition(1), 5, 1),
            (5..=12).collect::<Vec<_>>()
        );
        assert_trimmed(store.read_log(partition(1), Lsn(4), 100), partition(1), 5);
        assert_trimmed(store.read_log(partition(1), Lsn(0), 100), partition(1), 5);
        assert_trimmed(
            store.find_sequence(partition(1), Sequence(3)),
            partition(1),
            5,
        );
        assert_eq!(
            store
                .find_sequence(partition(1), Sequence(4))
                .expect("kept"),
            Some(Lsn(5))
        );
        assert_eq!(
            store
                .find_time(partition(1), UnixMillis(0))
                .expect("readable"),
            Some(Lsn(5))
        );
    };
    check(&*store);
    drop(store);
    let store = open();
    check(&*store);
    assert_eq!(
        store
            .trim(UnixMillis(written_at(4) + DAY + 1))
            .expect("trimmed"),
        0,
        "once is enough"
    );
}

pub fn trimming_everything_keeps_the_position(open: Opener) {
    let store = open();
    store.set_retention(partition(1), 1);
    write_every_two_hours(&*store, 1, 1..=3);
    assert_eq!(store.trim(UnixMillis(30 * DAY)).expect("trimmed"), 3);
    let check = |store: &dyn Store| {
        assert_eq!(bounds(store, partition(1)), None);
        assert_trimmed(store.read_log(partition(1), Lsn(1), 100), partition(1), 4);
        assert_eq!(
            store
                .read_log(partition(1), Lsn(4), 100)
                .expect("at the end"),
            []
        );
        assert_trimmed(
            store.find_sequence(partition(1), Sequence(2)),
            partition(1),
            4,
        );
        assert_eq!(
            store
                .find_sequence(partition(1), Sequence(3))
                .expect("not written yet"),
            None
        );
        assert_eq!(
            store
                .find_time(partition(1), UnixMillis(0))
                .expect("readable"),
            None
        );
        assert_invalid(
            store.commit(vec![(partition(1), commit_of(vec![record(1, 0, 1, 0)]))]),
            "an old lsn again",
        );
    };
    check(&*store);
    drop(store);
    let store = open();
    check(&*store);
    write(&*store, partition(1), vec![record(4, 3, 1, 30 * DAY)]);
    assert_eq!(bounds(&*store, partition(1)), Some((4, 3, 4)));
}

pub fn classes_are_trimmed_apart_and_the_log_stays_contiguous(open: Opener) {
    let store = open();
    // Partition 1 goes from 7 days to 1 and back; partition 2 keeps 7 days in the same segments.
    store.set_retention(partition(1), 7);
    store.set_retention(partition(2), 7);
    let both = |lsn: u64| write_both(&*store, lsn);
    (1..=3).for_each(both);
    store.set_retention(partition(1), 1);
    (4..=6).for_each(both);
    store.set_retention(partition(1), 7);
    (7..=9).for_each(both);
    assert_eq!(
        lsns(&*store, partition(1), 1, 1),
        (1..=9).collect::<Vec<_>>()
    );
    assert!(store.trim(UnixMillis(3 * DAY)).expect("trimmed") > 0);
    let check = |store: &dyn Store| {
        assert_eq!(
            bounds(store, partition(1)),
            Some((7, 6, 9)),
            "older records are cut off by those that went before"
        );
        assert_trimmed(store.read_log(partition(1), Lsn(2), 100), partition(1), 7);
        assert_trimmed(
            store.find_sequence(partition(1), Sequence(1)),
            partition(1),
            7,
        );
        assert_eq!(
            store
                .find_time(partition(1), UnixMillis(0))
                .expect("readable"),
            Some(Lsn(7))
        );
        assert_eq!(lsns(store, partition(1), 7, 1), [7, 8, 9]);
        assert_eq!(lsns(store, partition(2), 1, 1), (1..=9).collect::<Vec<_>>());
    };
    check(&*store);
    drop(store);
    let store = open();
    check(&*store);
    store.trim(UnixMillis(8 * DAY)).expect("trimmed");
    assert_eq!(bounds(&*store, partition(1)), None);
    assert_eq!(bounds(&*store, partition(2)), None);
}

fn write_both(store: &dyn Store, lsn: u64) {
    let time = lsn as i64 * 2 * HOUR;
    let commit = || commit_of(vec![record(lsn, lsn - 1, 1, time)]);
    store
        .commit(vec![(partition(1), commit()), (partition(2), commit())])
        .expect("the commit follows the contract");
}

pub fn an_unknown_retention_is_refused(open: Opener) {
    let store = open();
    for days in [0, 8, 255] {
        store.set_retention(partition(1), days);
        let outcome = store.commit(vec![(partition(1), commit_of(vec![record(1, 0, 1, 0)]))]);
        assert_invalid(outcome, &format!("{days} days"));
    }
    store.set_retention(partition(1), 2);
    write(&*store, partition(1), vec![record(1, 0, 1, 0)]);
    // Nothing was set: kept as long as anything can be.
    write(&*store, partition(2), vec![record(1, 0, 1, 0)]);
    store.trim(UnixMillis(2 * DAY + 1)).expect("trimmed");
    assert_eq!(
        (bounds(&*store, partition(1)), bounds(&*store, partition(2))),
        (None, Some((1, 0, 1)))
    );
    drop(store);
    // What was used last goes on after a restart.
    let store = open();
    write(&*store, partition(1), vec![record(2, 1, 1, 3 * DAY)]);
    store.trim(UnixMillis(5 * DAY + 1)).expect("trimmed");
    assert_eq!(
        (bounds(&*store, partition(1)), bounds(&*store, partition(2))),
        (None, Some((1, 0, 1)))
    );
}
