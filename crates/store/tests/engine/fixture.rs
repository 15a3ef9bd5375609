//! A folder written by version 1 of the format opens for ever.

use super::{Tree, open, read_tree, record, write_tree};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use store::conformance::partition;
use store::{LogBounds, Options, PartitionCommit, Store};
use types::{Lsn, Sequence, UnixMillis};

const HEADER: &[u8] = b"castling store folder 1\n";
const FOLDER: u32 = u32::MAX;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store-v1.bin")
}

/// `header`, then per entry: name length, name, length (all ones for a folder), bytes.
fn pack(tree: &Tree) -> Vec<u8> {
    let mut packed = HEADER.to_vec();
    for (name, bytes) in tree {
        packed.extend((name.len() as u32).to_be_bytes());
        packed.extend(name.as_bytes());
        packed.extend(
            bytes
                .as_ref()
                .map_or(FOLDER, |bytes| bytes.len() as u32)
                .to_be_bytes(),
        );
        packed.extend(bytes.iter().flatten());
    }
    packed
}

fn unpack(packed: &[u8]) -> Tree {
    let mut rest = packed.strip_prefix(HEADER).expect("a packed folder");
    let mut take = |length: usize| {
        let (front, back) = rest.split_at(length);
        rest = back;
        front.to_vec()
    };
    let number = |take: &mut dyn FnMut(usize) -> Vec<u8>| {
        u32::from_be_bytes(take(4).try_into().expect("four bytes"))
    };
    let mut tree = Tree::new();
    let mut left = packed.len() - HEADER.len();
    while left > 0 {
        let name_length = number(&mut take) as usize;
        let name = String::from_utf8(take(name_length)).expect("plain names");
        let length = number(&mut take);
        let bytes = (length != FOLDER).then(|| take(length as usize));
        left -= 8 + name_length + bytes.as_ref().map_or(0, Vec::len);
        tree.insert(name, bytes);
    }
    tree
}

#[test]
fn a_folder_of_version_1_opens_with_all_it_holds() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    write_tree(
        folder.path(),
        &unpack(&std::fs::read(fixture()).expect("the fixture is there")),
    );
    let store = open(folder.path(), Options::default());
    assert_eq!(
        store.partitions(),
        Ok(vec![partition(1), partition(2), partition(3)])
    );
    for (number, first, last) in [(1, 1, 40), (2, 1, 40), (3, 500, 501)] {
        let key = partition(number);
        let bounds = LogBounds {
            first_lsn: Lsn(first),
            first_sequence: Sequence(first - 1),
            last_lsn: Lsn(last),
        };
        assert_eq!(store.log_bounds(key), Ok(Some(bounds)));
        let found = store
            .read_log(key, Lsn(first), usize::MAX)
            .expect("readable");
        assert_eq!(
            found,
            (first..=last)
                .map(|lsn| record(key, lsn))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            store.head(key),
            Ok(Some(Bytes::from(format!("head {last}"))))
        );
        assert_eq!(
            store.find_sequence(key, Sequence(last - 1)),
            Ok(Some(Lsn(last)))
        );
        assert_eq!(
            store.find_time(key, UnixMillis(last as i64 * 60_000)),
            Ok(Some(Lsn(last)))
        );
        let state = store.scan(key, b"k", b"l", 100).expect("readable");
        assert_eq!(state.len() as u64, if number == 3 { 2 } else { 20 });
    }
    // Partition 1 was kept for a day, the others longer: that is in the folder, too.
    store.trim(UnixMillis(3 * 24 * 3_600_000)).expect("trimmed");
    assert_eq!(store.log_bounds(partition(1)), Ok(None));
    assert!(store.log_bounds(partition(2)).expect("readable").is_some());
    let next = PartitionCommit {
        records: vec![record(partition(1), 41)],
        ..PartitionCommit::default()
    };
    store
        .commit(vec![(partition(1), next)])
        .expect("and it goes on from there");
}

/// Run by hand when a new version of the format gets its fixture: `cargo test -p castling-store -- --ignored make_the_fixture`.
#[test]
#[ignore = "writes a file of the repository"]
fn make_the_fixture() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let options = Options {
        memtable_bytes: 8 << 10,
        segment_bytes_max: 32 << 10,
        ..Options::default()
    };
    let store = open(folder.path(), options.clone());
    store.set_retention(partition(1), 1);
    let commit = |number: u16, lsn: u64| {
        let key = partition(number);
        // Twenty entries, each replaced or removed and written again.
        let state = vec![
            (
                Bytes::from(format!("k{:02}", lsn % 20)),
                Some(Bytes::from(format!("value {lsn}"))),
            ),
            (Bytes::from(format!("gone{lsn}")), None),
        ];
        let head = Some(Bytes::from(format!("head {lsn}")));
        (
            key,
            PartitionCommit {
                records: vec![record(key, lsn)],
                state,
                head,
                ..PartitionCommit::default()
            },
        )
    };
    for lsn in 1..=40 {
        store
            .commit(vec![commit(1, lsn), commit(2, lsn)])
            .expect("committed");
    }
    store.commit(vec![commit(3, 7)]).expect("committed");
    store.clear(partition(3)).expect("cleared");
    store.commit(vec![commit(3, 500)]).expect("committed");
    store.commit(vec![commit(3, 501)]).expect("committed");
    drop(store);
    drop(open(folder.path(), options));
    let tree = read_tree(folder.path());
    assert!(
        tree.iter()
            .any(|(name, bytes)| name.contains("/tables/") && bytes.is_some()),
        "tables are part of it"
    );
    std::fs::write(fixture(), pack(&tree)).expect("written");
}
