//! The journal's bytes are cut or flipped: a write that was never acknowledged goes, anything else is noticed.

use super::{Tree, check_whole, open, read_tree, record, write, write_tree};
use std::path::Path;
use store::conformance::partition;
use store::{FjallStore, Options, Store, StoreError};
use types::Lsn;

const JOURNAL: &str = "engine/0.jnl";

/// Folders as they were after 5 commits and after 6, copied while the store was in use.
fn before_and_after() -> (Tree, Tree) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let store = open(folder.path(), Options::default());
    write(&store, 1..=5);
    let before = read_tree(folder.path());
    write(&store, 6..=6);
    (before, read_tree(folder.path()))
}

fn journal(tree: &Tree) -> &Vec<u8> {
    tree[JOURNAL].as_ref().expect("the journal is a file")
}

fn with_journal(tree: &Tree, bytes: Vec<u8>) -> Tree {
    let mut tree = tree.clone();
    tree.insert(JOURNAL.to_owned(), Some(bytes));
    tree
}

fn open_copy(folder: &Path, tree: &Tree) -> Result<FjallStore, StoreError> {
    write_tree(folder, tree);
    FjallStore::open(folder, Options::default())
}

#[test]
fn a_write_that_was_not_acknowledged_goes_and_everything_before_it_stays() {
    let (before, after) = before_and_after();
    let (synced, whole) = (journal(&before).len(), journal(&after).clone());
    assert!(whole.len() > synced + 1000 && whole[..synced] == journal(&before)[..]);
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for at in (synced..whole.len()).step_by(211) {
        cases.push((format!("cut at {at}"), whole[..at].to_vec()));
        // The engine's files are longer than what is in them.
        cases.push((
            format!("zeros from {at}"),
            [&whole[..at], &vec![0; 5000]].concat(),
        ));
        let mut flipped = whole.clone();
        flipped[at] ^= 0x80;
        cases.push((format!("flipped at {at}"), flipped));
        // A page that never reached the disk, between two that did.
        let mut hole = whole.clone();
        let end = (at + 512).min(whole.len());
        hole[at..end].fill(0);
        cases.push((format!("hole at {at}"), hole));
    }
    for (what, bytes) in cases {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let store = open_copy(folder.path(), &with_journal(&before, bytes))
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        for number in [1, 2] {
            assert_eq!(check_whole(&store, partition(number)), 5, "{what}");
        }
        write(&store, 6..=7);
        drop(store);
        assert_eq!(
            check_whole(&open(folder.path(), Options::default()), partition(1)),
            7,
            "{what}"
        );
    }
}

#[test]
fn damage_to_what_was_acknowledged_never_passes() {
    let (_, tree) = before_and_after();
    let whole = journal(&tree).clone();
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(397) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        let folder = tempfile::tempdir().expect("a folder for the test");
        let Ok(store) = open_copy(folder.path(), &with_journal(&tree, flipped)) else {
            refused += 1;
            continue;
        };
        let last = |number| store.log_bounds(partition(number));
        match (last(1), last(2)) {
            (Err(StoreError::Corrupt { .. }), Err(StoreError::Corrupt { .. })) => refused += 1,
            (Ok(_), Ok(_)) => {
                assert_eq!(
                    (
                        check_whole(&store, partition(1)),
                        check_whole(&store, partition(2))
                    ),
                    (6, 6),
                    "flipped at {at}"
                );
                harmless += 1;
            }
            other => panic!("flipped at {at}: {other:?}"),
        }
    }
    assert!(
        refused > 10 * harmless,
        "{refused} refused, {harmless} without effect (batch numbers are not checked)"
    );
}

#[test]
fn a_damaged_partition_answers_so_until_it_is_cleared() {
    let (_, tree) = before_and_after();
    let mut flipped = journal(&tree).clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let folder = tempfile::tempdir().expect("a folder for the test");
    drop(
        open_copy(folder.path(), &with_journal(&tree, flipped))
            .expect("damage does not keep the store from opening"),
    );
    // It is known after another restart, too, and the bytes are kept.
    let store = open(folder.path(), Options::default());
    assert_eq!(
        std::fs::read_dir(folder.path().join("salvage"))
            .expect("kept")
            .count(),
        1
    );
    let key = partition(1);
    assert_eq!(
        store.partitions().expect("listed, so that somebody looks"),
        [key, partition(2)]
    );
    let is_corrupt = |outcome: Result<(), StoreError>| {
        assert!(
            matches!(outcome, Err(StoreError::Corrupt { .. })),
            "{outcome:?}"
        )
    };
    is_corrupt(store.head(key).map(drop));
    is_corrupt(store.get(key, b"last").map(drop));
    is_corrupt(store.scan(key, b"a", b"z", 9).map(drop));
    is_corrupt(store.read_log(key, Lsn(1), 9).map(drop));
    is_corrupt(store.find_sequence(key, types::Sequence(0)).map(drop));
    is_corrupt(store.find_time(key, types::UnixMillis(0)).map(drop));
    is_corrupt(store.snapshot(key).map(drop));
    is_corrupt(store.commit(vec![super::commit(key, 7)]));

    store.clear(key).expect("cleared");
    store.clear(partition(2)).expect("cleared");
    write(&store, 1..=3);
    drop(store);
    let store = open(folder.path(), Options::default());
    assert_eq!(
        (check_whole(&store, key), check_whole(&store, partition(2))),
        (3, 3)
    );
}

#[test]
fn without_the_file_of_acknowledged_positions_only_damage_to_the_very_last_commit_looks_like_a_shorter_log()
 {
    let (before, mut tree) = before_and_after();
    tree.remove("acked");
    for (at, corrupt) in [
        (journal(&before).len() - 50, true),
        (journal(&tree).len() - 50, false),
    ] {
        let mut flipped = journal(&tree).clone();
        flipped[at] ^= 1;
        let folder = tempfile::tempdir().expect("a folder for the test");
        let store = open_copy(folder.path(), &with_journal(&tree, flipped)).expect("opens");
        match store.log_bounds(partition(1)) {
            Err(StoreError::Corrupt { .. }) => assert!(corrupt),
            other => {
                assert!(!corrupt, "{other:?}");
                assert_eq!(check_whole(&store, partition(1)), 5);
            }
        }
    }
}

#[test]
fn a_journal_that_is_gone_is_noticed() {
    let (_, mut tree) = before_and_after();
    tree.remove(JOURNAL);
    let folder = tempfile::tempdir().expect("a folder for the test");
    let store = open_copy(folder.path(), &tree).expect("opens");
    let outcome = store.log_bounds(partition(1));
    assert!(
        matches!(outcome, Err(StoreError::Corrupt { at: Lsn(1), .. })),
        "{outcome:?}"
    );
}

#[test]
fn flipped_table_files_never_give_wrong_records() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let options = Options {
        memtable_bytes: 4 << 10,
        ..Options::default()
    };
    let store = open(folder.path(), options.clone());
    write(&store, 1..=60);
    drop(store);
    // Opening again lets the engine write what was waiting to tables.
    drop(open(folder.path(), options.clone()));
    let tree = read_tree(folder.path());
    let tables: Vec<_> = tree
        .iter()
        .filter(|(name, bytes)| name.contains("/tables/") && bytes.is_some())
        .collect();
    assert!(!tables.is_empty(), "some records are in tables");
    let mut noticed = 0;
    for (name, bytes) in tables.iter().take(8) {
        let bytes = bytes.as_ref().expect("a file");
        for part in 1..4 {
            let mut flipped = bytes.clone();
            flipped[bytes.len() * part / 4] ^= 4;
            let mut tree = tree.clone();
            tree.insert((*name).clone(), Some(flipped));
            let folder = tempfile::tempdir().expect("a folder for the test");
            match open_copy(folder.path(), &tree) {
                Ok(store) => noticed += u32::from(!reads_are_right_or_refused(&store)),
                Err(_) => noticed += 1,
            }
        }
    }
    assert!(noticed > 0, "damage shows somewhere");
}

/// Reads all that can be read: true if everything was there, false if something was refused; wrong bytes fail the test.
fn reads_are_right_or_refused(store: &FjallStore) -> bool {
    let mut all = true;
    for key in [partition(1), partition(2)] {
        for lsn in 1..=60 {
            match store.read_log(key, Lsn(lsn), 1) {
                Ok(found) => assert_eq!(found, [record(key, lsn)]),
                Err(_) => all = false,
            }
        }
        match store.scan(key, b"k", b"l", usize::MAX) {
            Ok(entries) => assert_eq!(entries.len(), 60),
            Err(_) => all = false,
        }
    }
    all
}
