//! Commits, contiguity and state.

use super::{
    Opener, assert_invalid, bounds, commit_of, lsns, partition, record, set, state, write,
};
use crate::{PartitionCommit, Store};
use bytes::Bytes;

pub fn a_commit_changes_all_partitions_or_none(open: Opener) {
    let store = open();
    let both = |lsn| {
        let mut one = commit_of(vec![record(lsn, lsn - 1, 1, 0)]);
        one.state.push(set("key", "value"));
        vec![(partition(1), one.clone()), (partition(2), one)]
    };
    store.commit(both(1)).expect("a first commit");
    let mut broken = both(2);
    broken[1].1.records = vec![record(9, 1, 1, 0)];
    broken[0].1.state.push(set("key", "other"));
    assert_invalid(store.commit(broken), "a gap in the second partition");
    for number in [1, 2] {
        assert_eq!(bounds(&*store, partition(number)), Some((1, 0, 1)));
        assert_eq!(
            store.head(partition(number)).expect("readable"),
            Some(Bytes::from("head 1"))
        );
        assert_eq!(
            store.get(partition(number), b"key").expect("readable"),
            Some(Bytes::from("value"))
        );
    }
}

pub fn a_commit_that_breaks_the_contract_changes_nothing(open: Opener) {
    let store = open();
    let mut commit = commit_of(vec![record(5, 0, 1, 0), record(7, 1, 1, 0)]);
    commit.state.push(set("key", "value"));
    assert_invalid(
        store.commit(vec![(partition(1), commit)]),
        "a gap inside a commit",
    );
    assert_invalid(
        store.commit(vec![(partition(1), state(vec![(Bytes::new(), None)]))]),
        "an empty state key",
    );
    assert_invalid(
        store.commit(vec![(partition(1), commit_of(vec![record(0, 0, 0, 0)]))]),
        "lsn 0",
    );
    assert_eq!(bounds(&*store, partition(1)), None);
    assert_eq!(store.get(partition(1), b"key").expect("readable"), None);
    assert_eq!(store.partitions().expect("readable"), []);
    store
        .commit(Vec::new())
        .expect("an empty commit is nothing to do");
}

pub fn records_must_follow_without_a_gap(open: Opener) {
    let store = open();
    write(
        &*store,
        partition(1),
        vec![record(1, 0, 2, 0), record(2, 2, 1, 0)],
    );
    for (lsn, what) in [(2, "a record again"), (4, "a gap"), (1, "an old record")] {
        assert_invalid(
            store.commit(vec![(partition(1), commit_of(vec![record(lsn, 3, 1, 0)]))]),
            what,
        );
    }
    drop(store);
    let store = open();
    assert_invalid(
        store.commit(vec![(partition(1), commit_of(vec![record(4, 3, 1, 0)]))]),
        "a gap after a restart",
    );
    write(&*store, partition(1), vec![record(3, 3, 1, 0)]);
    assert_eq!(lsns(&*store, partition(1), 1, 1 << 20), [1, 2, 3]);
}

pub fn sequence_numbers_and_event_times_must_follow(open: Opener) {
    let store = open();
    write(&*store, partition(1), vec![record(1, 10, 5, 100)]);
    let refused = |next, what| {
        assert_invalid(
            store.commit(vec![(partition(1), commit_of(vec![next]))]),
            what,
        )
    };
    refused(record(2, 14, 1, 100), "a sequence number again");
    refused(record(2, 16, 1, 100), "a gap in sequence numbers");
    refused(
        record(2, 16, 0, 100),
        "a gap before a record without events",
    );
    refused(record(2, 15, 1, 99), "time running backwards");
    write(
        &*store,
        partition(1),
        vec![record(2, 15, 0, 0), record(3, 15, 1, 100)],
    );
}

pub fn one_partition_may_appear_twice_in_a_commit(open: Opener) {
    let store = open();
    let mut first = commit_of(vec![record(1, 0, 1, 0)]);
    first.state = vec![set("a", "1"), set("b", "1")];
    let mut second = commit_of(vec![record(2, 1, 1, 0)]);
    second.state = vec![set("b", "2")];
    store
        .commit(vec![(partition(1), first), (partition(1), second)])
        .expect("parts are done in order");
    assert_eq!(lsns(&*store, partition(1), 1, 1 << 20), [1, 2]);
    assert_eq!(
        store.get(partition(1), b"a").expect("readable"),
        Some(Bytes::from("1"))
    );
    assert_eq!(
        store.get(partition(1), b"b").expect("readable"),
        Some(Bytes::from("2"))
    );
    assert_eq!(
        store.head(partition(1)).expect("readable"),
        Some(Bytes::from("head 2"))
    );
}

pub fn state_entries_are_replaced_and_removed(open: Opener) {
    let store = open();
    let commit = |entries| {
        store
            .commit(vec![(partition(1), state(entries))])
            .expect("state alone is fine")
    };
    commit(vec![set("a", "1"), set("b", "1"), set("empty", "")]);
    commit(vec![
        set("a", "2"),
        (Bytes::from("b"), None),
        (Bytes::from("never there"), None),
    ]);
    let get =
        |store: &dyn Store, key: &str| store.get(partition(1), key.as_bytes()).expect("readable");
    let check = |store: &dyn Store| {
        assert_eq!(get(store, "a"), Some(Bytes::from("2")));
        assert_eq!(get(store, "b"), None);
        assert_eq!(get(store, "empty"), Some(Bytes::new()));
        assert_eq!(store.get(partition(2), b"a").expect("readable"), None);
    };
    check(&*store);
    drop(store);
    check(&*open());
}

pub fn a_scan_keeps_its_bounds_and_its_partition(open: Opener) {
    let store = open();
    let entries = || vec![set("a", "1"), set("b", "2"), set("b\0", "3"), set("c", "4")];
    let commits = [0, 1, 2, u16::MAX].map(|number| (partition(number), state(entries())));
    store.commit(commits.to_vec()).expect("state alone is fine");
    let keys = |from: &str, until: &str, limit| -> Vec<Bytes> {
        let found = store
            .scan(partition(1), from.as_bytes(), until.as_bytes(), limit)
            .expect("readable");
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("a", "c", 10), ["a", "b", "b\0"]);
    assert_eq!(keys("", "\u{7f}", 10), ["a", "b", "b\0", "c"]);
    assert_eq!(keys("b", "c", 1), ["b"]);
    assert_eq!(keys("b\0", "b\0", 10), [""; 0]);
    assert_eq!(keys("c", "a", 10), [""; 0]);
    assert_eq!(keys("a", "z", 0), [""; 0]);
    assert_eq!(
        store.scan(partition(1), b"c", b"d", 9).expect("readable"),
        [(Bytes::from("c"), Bytes::from("4"))]
    );
    assert_eq!(
        store
            .scan(partition(u16::MAX), b"a", b"z", 9)
            .expect("readable")
            .len(),
        4
    );
}

pub fn partitions_are_those_with_a_head(open: Opener) {
    let store = open();
    assert_eq!(store.partitions().expect("readable"), []);
    let head = PartitionCommit {
        head: Some(Bytes::from("h")),
        ..PartitionCommit::default()
    };
    store
        .commit(vec![
            (partition(2), head.clone()),
            (partition(1), head),
            (partition(3), state(vec![set("a", "1")])),
        ])
        .expect("fine");
    assert_eq!(
        store.partitions().expect("readable"),
        [partition(1), partition(2)]
    );
    write(&*store, partition(3), vec![record(1, 0, 0, 0)]);
    // A commit without a head keeps the one before.
    store
        .commit(vec![(partition(3), state(vec![set("a", "2")]))])
        .expect("fine");
    assert_eq!(
        store.head(partition(3)).expect("readable"),
        Some(Bytes::from("head 1"))
    );
    drop(store);
    let store = open();
    assert_eq!(
        store.partitions().expect("readable"),
        [partition(1), partition(2), partition(3)]
    );
    assert_eq!(store.head(partition(9)).expect("readable"), None);
}
