//! Restarts, snapshots, clearing.

use super::{
    Opener, assert_invalid, assert_trimmed, bounds, commit_of, lsns, partition, record, set, state,
    write,
};
use crate::{PartitionCommit, Snapshot, Store};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{HubId, Lsn, PartitionKey, Sequence, UnixMillis};

pub fn a_restart_keeps_everything(open: Opener) {
    let mut last = 0;
    for round in 1..=4u64 {
        let store = open();
        assert_eq!(
            lsns(&*store, partition(1), 1, 100),
            (1..=last).collect::<Vec<_>>(),
            "round {round}"
        );
        assert_eq!(
            store
                .scan(partition(1), b"a", b"z", 100)
                .expect("readable")
                .len() as u64,
            round - 1
        );
        for _ in 0..5 {
            last += 1;
            write(
                &*store,
                partition(1),
                vec![record(last, last - 1, 1, last as i64)],
            );
        }
        let entry = (Bytes::from(format!("k{round}")), Some(Bytes::from("v")));
        store
            .commit(vec![(partition(1), state(vec![entry]))])
            .expect("fine");
    }
    let store = open();
    assert_eq!(
        store
            .find_sequence(partition(1), Sequence(last - 1))
            .expect("kept"),
        Some(Lsn(last))
    );
    assert_eq!(
        store.head(partition(1)).expect("readable"),
        Some(Bytes::from(format!("head {last}")))
    );
    store
        .recover()
        .expect("recovering a healthy store is nothing to do");
}

fn all_pages(snapshot: &dyn Snapshot, bytes_max: usize) -> Vec<(Bytes, Bytes)> {
    let mut all: Vec<(Bytes, Bytes)> = Vec::new();
    loop {
        let after = all.last().map(|(key, _)| key.clone());
        let page = snapshot
            .state_page(after.as_deref(), bytes_max)
            .expect("readable");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub fn a_snapshot_stays_at_one_instant(open: Opener) {
    let store = open();
    let empty = store.snapshot(partition(1)).expect("of nothing");
    let mut first = commit_of(vec![record(1, 0, 1, 0)]);
    first.state = vec![set("a", "1"), set("b", "1"), set("c", "1")];
    store
        .commit(vec![
            (partition(1), first),
            (partition(2), state(vec![set("other", "1")])),
        ])
        .expect("fine");
    let snapshot = store.snapshot(partition(1)).expect("taken");
    let mut second = commit_of(vec![record(2, 1, 1, 0)]);
    second.state = vec![set("a", "2"), (Bytes::from("b"), None), set("d", "2")];
    store.commit(vec![(partition(1), second)]).expect("fine");

    let before: Vec<(Bytes, Bytes)> = ["a", "b", "c"]
        .map(|key| (Bytes::from(key), Bytes::from("1")))
        .to_vec();
    for bytes_max in [0, 1, 4, 1000] {
        assert_eq!(
            all_pages(&*snapshot, bytes_max),
            before,
            "pages of {bytes_max}"
        );
    }
    assert_eq!(
        snapshot.state_page(None, 4).expect("readable").len(),
        2,
        "as many as fit"
    );
    assert_eq!(
        snapshot.head().expect("readable"),
        Some(Bytes::from("head 1"))
    );
    assert_eq!(empty.head().expect("readable"), None);
    assert_eq!(all_pages(&*empty, 10), []);
    store.clear(partition(1)).expect("cleared");
    assert_eq!(
        all_pages(&*snapshot, 1),
        before,
        "a snapshot outlives what happens to the partition"
    );
}

pub fn snapshots_are_consistent_while_commits_go_on(open: Opener) {
    let store = open();
    let done = AtomicBool::new(false);
    let commit_all = || {
        for round in 1..=300u64 {
            let value = Bytes::from(round.to_string());
            let entries = (0..20)
                .map(|n| (Bytes::from(format!("k{n:02}")), Some(value.clone())))
                .collect();
            let commit = PartitionCommit {
                head: Some(value),
                state: entries,
                records: vec![record(round, round - 1, 1, 0)],
                ..PartitionCommit::default()
            };
            store.commit(vec![(partition(1), commit)]).expect("fine");
        }
        done.store(true, Ordering::SeqCst);
    };
    let check_some = || {
        while !done.load(Ordering::SeqCst) {
            let snapshot = store.snapshot(partition(1)).expect("taken");
            let entries = all_pages(&*snapshot, 20);
            match snapshot.head().expect("readable") {
                None => assert!(entries.is_empty()),
                Some(head) => {
                    assert_eq!(entries.len(), 20);
                    assert!(
                        entries.iter().all(|(_, value)| *value == head),
                        "head and state of one commit"
                    );
                }
            }
            let scanned = store.scan(partition(1), b"k", b"l", 100).expect("readable");
            assert!(
                scanned.windows(2).all(|pair| pair[0].1 == pair[1].1),
                "a scan sees a commit whole or not at all"
            );
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(commit_all);
        scope.spawn(check_some);
    });
    assert_eq!(bounds(&*store, partition(1)), Some((1, 0, 300)));
}

fn fill(store: &dyn Store, key: PartitionKey) {
    let mut commit = commit_of((1..=5).map(|lsn| record(lsn, lsn - 1, 1, 7)).collect());
    commit.state = (0..50)
        .map(|n| (Bytes::from(format!("k{n:02}")), Some(Bytes::from("v"))))
        .collect();
    store.commit(vec![(key, commit)]).expect("fine");
}

fn assert_empty(store: &dyn Store, key: PartitionKey) {
    assert!(!store.partitions().expect("readable").contains(&key));
    assert_eq!(store.head(key).expect("readable"), None);
    assert_eq!(store.get(key, b"k00").expect("readable"), None);
    assert_eq!(store.scan(key, b"", b"\xff", 100).expect("readable"), []);
    assert_eq!(bounds(store, key), None);
    assert_eq!(store.read_log(key, Lsn(1), 100).expect("empty"), []);
    assert_eq!(store.find_sequence(key, Sequence(0)).expect("empty"), None);
    assert_eq!(store.find_time(key, UnixMillis(0)).expect("empty"), None);
    assert_eq!(all_pages(&*store.snapshot(key).expect("taken"), 100), []);
}

pub fn clearing_empties_one_partition_only(open: Opener) {
    let store = open();
    let next_hub = PartitionKey {
        hub: HubId(2),
        ..partition(0)
    };
    let others = [partition(0), partition(2), next_hub];
    store.clear(partition(1)).expect("clearing nothing is fine");
    others
        .into_iter()
        .chain([partition(1)])
        .for_each(|key| fill(&*store, key));
    store.clear(partition(1)).expect("cleared");
    let check = |store: &dyn Store| {
        assert_empty(store, partition(1));
        for key in others {
            assert_eq!(bounds(store, key), Some((1, 0, 5)));
            assert_eq!(
                store.scan(key, b"", b"\xff", 100).expect("readable").len(),
                50
            );
        }
    };
    check(&*store);
    drop(store);
    check(&*open());
}

pub fn a_cleared_partition_begins_anywhere(open: Opener) {
    let store = open();
    fill(&*store, partition(1));
    for first in [3, 900, 1, u64::MAX - 5] {
        store.clear(partition(1)).expect("cleared");
        assert_empty(&*store, partition(1));
        write(
            &*store,
            partition(1),
            vec![record(first, 77, 2, 0), record(first + 1, 79, 0, 0)],
        );
        assert_eq!(bounds(&*store, partition(1)), Some((first, 77, first + 1)));
        assert_eq!(lsns(&*store, partition(1), first, 1), [first, first + 1]);
        assert_eq!(
            store
                .find_sequence(partition(1), Sequence(78))
                .expect("kept"),
            Some(Lsn(first))
        );
        if first > 1 {
            assert_trimmed(
                store.read_log(partition(1), Lsn(first - 1), 10),
                partition(1),
                first,
            );
        }
        assert_invalid(
            store.commit(vec![(
                partition(1),
                commit_of(vec![record(first + 3, 79, 0, 0)]),
            )]),
            "a gap",
        );
    }
    drop(store);
    let store = open();
    let first = u64::MAX - 5;
    assert_eq!(lsns(&*store, partition(1), first, 1), [first, first + 1]);
    store.clear(partition(1)).expect("cleared");
    store
        .trim(UnixMillis(0))
        .expect("segments nobody can read go at once");
    assert_empty(&*store, partition(1));
}

pub fn space_is_reported(open: Opener) {
    let store = open();
    let before = store.space().expect("measured");
    write(&*store, partition(1), vec![record(1, 0, 1, 0)]);
    let after = store.space().expect("measured");
    assert!(before.free > 0 && after.used > 0, "{before:?} {after:?}");
}
