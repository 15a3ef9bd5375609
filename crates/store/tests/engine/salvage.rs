//! Cutting logs and setting records aside on a disk that fails, is killed or holds changed bytes.

use super::{check_whole, commit, open, record, small, write};
use bytes::Bytes;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use store::conformance::partition;
use store::{FaultPoint, FjallStore, Options, PartitionCommit, Salvage, Store, StoreError};
use types::{Epoch, Lsn, PartitionKey, UnixMillis};

fn failed() -> StoreError {
    StoreError::Failed("a test wants it".into())
}

/// Fails at a point after it was passed so many times.
fn failing(point: FaultPoint, after: usize) -> Options {
    let left = Arc::new(Mutex::new(Some(after)));
    let fault = move |at| {
        let mut left = left.lock();
        match *left {
            Some(0) if at == point => {
                *left = None;
                Some(failed())
            }
            Some(more) if at == point => {
                *left = Some(more - 1);
                None
            }
            _ => None,
        }
    };
    Options {
        faults: Some(Arc::new(fault)),
        ..small()
    }
}

/// A cut that leaves everything as [`write`] does up to a record.
fn cut(key: PartitionKey, after: u64, last: u64) -> Vec<(PartitionKey, PartitionCommit)> {
    let number = Bytes::from(after.to_string());
    let gone = (after + 1..=last).map(|lsn| (Bytes::from(format!("k{lsn}")), None));
    let state = gone.chain([(Bytes::from("last"), Some(number.clone()))]);
    let commit = PartitionCommit {
        state: state.collect(),
        head: Some(number),
        truncate_after: Some(Lsn(after)),
        ..PartitionCommit::default()
    };
    vec![(key, commit)]
}

fn aside(store: &FjallStore, key: PartitionKey, after: u64) -> Result<Option<Salvage>, StoreError> {
    store.set_aside(key, Lsn(after), Epoch(3), UnixMillis(7))
}

fn salvaged(store: &FjallStore, id: &str) -> Result<Vec<store::LogRecord>, StoreError> {
    let mut next = Lsn(0);
    let mut all = Vec::new();
    loop {
        let page = store.read_salvage(id, next, 10_000)?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        next = last.lsn.next();
        all.extend(page);
    }
}

fn assert_salvaged(store: &FjallStore, key: PartitionKey, first: u64, last: u64) {
    let all = store.salvages().expect("listed");
    let [salvage] = &all[..] else {
        panic!("one salvage: {all:?}");
    };
    assert_eq!((salvage.first, salvage.last), (Lsn(first), Lsn(last)));
    let expected: Vec<_> = (first..=last).map(|lsn| record(key, lsn)).collect();
    assert_eq!(salvaged(store, &salvage.id), Ok(expected));
}

const LAST: u64 = 4500;
const CUT: u64 = 40;

/// Written in few commits: many records, over several segments.
fn fill(store: &FjallStore) {
    write(store, 1..=CUT);
    let mut next = CUT + 1;
    while next <= LAST {
        let until = (next + 499).min(LAST);
        let both = (next..=until).flat_map(|lsn| [1, 2].map(|n| commit(partition(n), lsn)));
        store.commit(both.collect()).expect("committed");
        next = until + 1;
    }
}

#[test]
fn a_cut_is_whole_or_not_at_all_wherever_it_fails() {
    let key = partition(1);
    let points = [
        (FaultPoint::BeforeWrite, 0, false),
        (FaultPoint::AfterWrite, 0, true),
        (FaultPoint::Cutting, 0, true),
        (FaultPoint::Cutting, 2, true),
        (FaultPoint::BeforeWrite, 1, true),
        (FaultPoint::AfterWrite, 1, true),
    ];
    let folder = tempfile::tempdir().expect("a folder for the test");
    fill(&open(folder.path(), small()));
    let before = super::read_tree(folder.path());
    for (point, after, done) in points {
        for reopens in [false, true] {
            let folder = tempfile::tempdir().expect("a folder for the test");
            super::write_tree(folder.path(), &before);
            let mut store = open(folder.path(), failing(point, after));
            let outcome = store.commit(cut(key, CUT, LAST));
            assert!(matches!(outcome, Err(StoreError::Failed(_))), "{point:?}");
            if reopens {
                drop(store);
                store = open(folder.path(), small());
            } else {
                store.recover().expect("recovered");
            }
            let expected = if done { CUT } else { LAST };
            assert_eq!(check_whole(&store, key), expected, "{point:?} {after}");
            assert_eq!(check_whole(&store, partition(2)), LAST);
            if !done {
                store.commit(cut(key, CUT, LAST)).expect("cut");
            }
            store
                .commit(vec![commit(key, CUT + 1)])
                .expect("it goes on from there");
            drop(store);
            let store = open(folder.path(), small());
            assert_eq!(check_whole(&store, key), CUT + 1, "{point:?} {after}");
        }
    }
}

#[test]
fn a_log_that_was_cut_is_not_taken_for_one_that_lost_records() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let key = partition(1);
    let store = open(folder.path(), small());
    write(&store, 1..=100);
    store.commit(cut(key, CUT, 100)).expect("cut");
    drop(store);
    let store = open(folder.path(), small());
    assert_eq!(check_whole(&store, key), CUT);
    for lsn in CUT + 1..=60 {
        store.commit(vec![commit(key, lsn)]).expect("committed");
    }
    drop(store);
    assert_eq!(check_whole(&open(folder.path(), small()), key), 60);
}

#[test]
fn setting_aside_is_whole_or_not_at_all_wherever_it_fails() {
    let key = partition(1);
    for (point, done) in [
        (FaultPoint::BeforeSetAside, false),
        (FaultPoint::AfterSetAside, true),
    ] {
        for reopens in [false, true] {
            let folder = tempfile::tempdir().expect("a folder for the test");
            let mut store = open(folder.path(), failing(point, 0));
            write(&store, 1..=100);
            assert!(matches!(
                aside(&store, key, CUT),
                Err(StoreError::Failed(_))
            ));
            if reopens {
                drop(store);
                store = open(folder.path(), small());
            } else {
                store.recover().expect("recovered");
            }
            assert_eq!(store.salvages().expect("listed").len(), usize::from(done));
            assert!(aside(&store, key, CUT).expect("set aside").is_some());
            assert_salvaged(&store, key, CUT + 1, 100);
            store.commit(cut(key, CUT, 100)).expect("cut");
            drop(store);
            let store = open(folder.path(), small());
            assert_salvaged(&store, key, CUT + 1, 100);
            assert_eq!(check_whole(&store, key), CUT);
        }
    }
}

#[test]
fn a_large_tail_is_set_aside_and_cut() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let key = partition(1);
    let store = open(folder.path(), small());
    fill(&store);
    let used = store.space().expect("measured").used;
    let salvage = aside(&store, key, CUT).expect("set aside").expect("some");
    assert!(store.space().expect("measured").used >= used + salvage.bytes);
    store.commit(cut(key, CUT, LAST)).expect("cut");
    assert_salvaged(&store, key, CUT + 1, LAST);
    assert_eq!(check_whole(&store, key), CUT);
    assert_eq!(check_whole(&store, partition(2)), LAST);
}

#[test]
fn a_full_disk_refuses_to_set_aside_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    write(&open(folder.path(), small()), 1..=10);
    let full = Options {
        disk_reserve: u64::MAX / 2,
        ..small()
    };
    let store = open(folder.path(), full);
    let outcome = aside(&store, partition(1), 5);
    assert!(
        matches!(outcome, Err(StoreError::DiskFull { .. })),
        "{outcome:?}"
    );
    assert_eq!(store.salvages(), Ok(vec![]));
    let left = std::fs::read_dir(folder.path().join("set-aside")).expect("listed");
    assert_eq!(left.count(), 0);
    drop(store);
    let store = open(folder.path(), small());
    aside(&store, partition(1), 5).expect("there is room again");
    assert_salvaged(&store, partition(1), 6, 10);
}

fn file_of(folder: &Path) -> std::path::PathBuf {
    folder.join("set-aside/h1-p1-e3-6.log")
}

#[test]
fn changed_bytes_of_a_salvage_are_never_given_out() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let store = open(folder.path(), small());
    write(&store, 1..=10);
    aside(&store, partition(1), 5).expect("set aside");
    drop(store);
    let good = std::fs::read(file_of(folder.path())).expect("the file is there");
    let check = |bytes: &[u8], listed: usize| {
        std::fs::write(file_of(folder.path()), bytes).expect("written");
        let store = open(folder.path(), small());
        let all = store.salvages().expect("the store opens all the same");
        assert_eq!(all.len(), listed);
        for salvage in all {
            let read = salvaged(&store, &salvage.id);
            assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
        }
    };
    for at in (0..104).step_by(19) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        check(&bad, 0);
    }
    for at in (104..good.len()).step_by(251) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        check(&bad, 1);
    }
    check(&good[..good.len() - 1], 1);
    check(&good[..50], 0);
}
