//! What the engine keeps when processes are killed, disks fill up and bytes change.

mod faults;
mod fixture;
mod kill;
mod salvage;
mod torn;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use store::conformance::partition;
use store::{FjallStore, LogRecord, Options, PartitionCommit, Store};
use types::{Lsn, PartitionKey, Sequence, UnixMillis};

/// Segments and memtables so small that a short run goes through many of them.
fn small() -> Options {
    Options {
        segment_bytes_max: 64 << 10,
        memtable_bytes: 256 << 10,
        ..Options::default()
    }
}

fn open(path: &Path, options: Options) -> FjallStore {
    FjallStore::open(path, options).expect("the store opens")
}

/// A record of one event, with bytes that can be told from any other record's.
fn record(key: PartitionKey, lsn: u64) -> LogRecord {
    let length = 100 + (lsn * 7919 % 3000) as usize;
    let seed = lsn.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(key.partition.0);
    let bytes: Vec<u8> = (0..length as u64)
        .map(|at| (seed.wrapping_mul(at | 1) >> 32) as u8)
        .collect();
    LogRecord {
        lsn: Lsn(lsn),
        first_sequence: Sequence(lsn - 1),
        event_count: 1,
        time: UnixMillis(lsn as i64 * 60_000),
        bytes: bytes.into(),
    }
}

/// The record, a head and a state entry that both tell its lsn.
fn commit(key: PartitionKey, lsn: u64) -> (PartitionKey, PartitionCommit) {
    let number = Bytes::from(lsn.to_string());
    let state = vec![
        (Bytes::from("last"), Some(number.clone())),
        (Bytes::from(format!("k{lsn}")), Some(number.clone())),
    ];
    (
        key,
        PartitionCommit {
            records: vec![record(key, lsn)],
            state,
            head: Some(number),
            ..PartitionCommit::default()
        },
    )
}

fn write(store: &FjallStore, lsns: std::ops::RangeInclusive<u64>) {
    for lsn in lsns {
        store
            .commit(vec![commit(partition(1), lsn), commit(partition(2), lsn)])
            .expect("the commit follows the contract");
    }
}

/// Head, state and log of a partition belong together and are as they were written; gives the last lsn.
fn check_whole(store: &FjallStore, key: PartitionKey) -> u64 {
    let Some(bounds) = store.log_bounds(key).expect("the partition is whole") else {
        return 0;
    };
    let last = bounds.last_lsn.0;
    let number = Some(Bytes::from(last.to_string()));
    assert_eq!(
        store.head(key).expect("readable"),
        number,
        "the head is of the last record"
    );
    assert_eq!(
        store.get(key, b"last").expect("readable"),
        number,
        "the state is of the last record"
    );
    let mut next = bounds.first_lsn;
    while next.0 <= last {
        for found in store.read_log(key, next, 1 << 16).expect("readable") {
            assert_eq!(found, record(key, next.0));
            next = next.next();
        }
    }
    assert_eq!(next.0, last + 1);
    let keys = store
        .scan(key, b"k", b"l", usize::MAX)
        .expect("readable")
        .len() as u64;
    assert_eq!(keys, last, "one state entry per record ever written");
    last
}

type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// All files (and folders, as `None`) below a folder, journals without the zeros at their end.
fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the store") {
            let path = entry.expect("an entry").path();
            let name = path
                .strip_prefix(root)
                .expect("below the root")
                .to_str()
                .expect("plain names")
                .to_owned();
            if path.is_dir() {
                folders.push(path);
                tree.insert(name, None);
            } else {
                let mut bytes = fs::read(&path).expect("readable");
                if name.ends_with(".jnl") {
                    let used = bytes
                        .iter()
                        .rposition(|byte| *byte != 0)
                        .map_or(0, |at| at + 1);
                    bytes.truncate(used);
                }
                tree.insert(name, Some(bytes));
            }
        }
    }
    tree
}

fn write_tree(root: &Path, tree: &Tree) {
    for (name, bytes) in tree {
        let path = root.join(name);
        match bytes {
            None => fs::create_dir_all(&path).expect("a folder"),
            Some(bytes) => {
                fs::create_dir_all(path.parent().expect("has one")).expect("a folder");
                fs::write(&path, bytes).expect("a file");
            }
        }
    }
}
