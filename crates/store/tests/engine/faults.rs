//! Full disks and failing ones.

use super::{check_whole, commit, open, small, write};
use parking_lot::Mutex;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use store::conformance::partition;
use store::{FaultPoint, FjallStore, Options, Store, StoreError};
use types::UnixMillis;

/// Errors that are due, each for one point; cleared by taking.
#[derive(Clone, Default)]
struct Plan(Arc<Mutex<Vec<(FaultPoint, StoreError)>>>);

impl Plan {
    fn due(&self, point: FaultPoint, error: StoreError) {
        self.0.lock().push((point, error));
    }

    fn options(&self) -> Options {
        let plan = self.0.clone();
        let fault = move |point| {
            let mut due = plan.lock();
            let at = due.iter().position(|(planned, _)| *planned == point)?;
            Some(due.remove(at).1)
        };
        Options {
            faults: Some(Arc::new(fault)),
            ..small()
        }
    }
}

fn failed() -> StoreError {
    StoreError::Failed("a test wants it".into())
}

fn both(lsn: u64) -> Vec<(types::PartitionKey, store::PartitionCommit)> {
    vec![commit(partition(1), lsn), commit(partition(2), lsn)]
}

fn lasts(store: &FjallStore) -> (u64, u64) {
    (
        check_whole(store, partition(1)),
        check_whole(store, partition(2)),
    )
}

#[test]
fn a_full_disk_refuses_a_commit_changes_nothing_and_heals_by_itself() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let plan = Plan::default();
    let store = open(folder.path(), plan.options());
    write(&store, 1..=2);
    plan.due(
        FaultPoint::FreeSpace,
        StoreError::DiskFull { free: 1, need: 2 },
    );
    assert_eq!(
        store.commit(both(3)),
        Err(StoreError::DiskFull { free: 1, need: 2 })
    );
    assert_eq!(lasts(&store), (2, 2));
    write(&store, 3..=3);
    assert_eq!(lasts(&store), (3, 3));
}

#[test]
fn a_reserve_larger_than_the_disk_refuses_commits_but_not_trimming_and_clearing() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    write(&open(folder.path(), small()), 1..=2);
    let store = open(
        folder.path(),
        Options {
            disk_reserve: u64::MAX / 2,
            ..small()
        },
    );
    let outcome = store.commit(both(3));
    assert!(
        matches!(outcome, Err(StoreError::DiskFull { free, need }) if need > free && free > 0),
        "{outcome:?}"
    );
    assert_eq!(lasts(&store), (2, 2));
    store.clear(partition(1)).expect("clearing makes room");
    assert_eq!(
        store
            .trim(UnixMillis(i64::MAX / 2))
            .expect("so does trimming"),
        1
    );
}

#[test]
fn after_a_failure_nothing_is_written_until_recovery_shows_the_outcome() {
    let points = [
        (FaultPoint::SegmentCreate, 2),
        (FaultPoint::BeforeWrite, 2),
        (FaultPoint::AfterWrite, 3),
    ];
    for (point, last) in points {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let plan = Plan::default();
        let store = open(
            folder.path(),
            Options {
                segment_bytes_max: 1,
                ..plan.options()
            },
        );
        write(&store, 1..=2);
        let snapshot = store.snapshot(partition(1)).expect("taken");
        plan.due(point, failed());
        for attempt in [
            store.commit(both(3)),
            store.commit(both(3)),
            store.clear(partition(1)),
            store.trim(UnixMillis(0)).map(drop),
        ] {
            assert!(
                matches!(attempt, Err(StoreError::Failed(_))),
                "{point:?}: {attempt:?}"
            );
        }
        plan.due(FaultPoint::Reopen, failed());
        assert!(
            matches!(store.recover(), Err(StoreError::Failed(_))),
            "{point:?}: the disk is still broken"
        );
        assert!(
            matches!(store.head(partition(1)), Err(StoreError::Failed(_))),
            "{point:?}: nothing is known while it is closed"
        );
        store
            .recover()
            .unwrap_or_else(|why| panic!("{point:?}: {why}"));
        assert_eq!(lasts(&store), (last, last), "{point:?}");
        assert!(
            matches!(snapshot.head(), Err(StoreError::Failed(_))),
            "a snapshot of before is of no use"
        );
        write(&store, last + 1..=last + 2);
        drop(store);
        assert_eq!(
            lasts(&open(folder.path(), small())),
            (last + 2, last + 2),
            "{point:?}"
        );
    }
}

#[test]
fn a_retention_that_was_set_holds_after_recovery() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let plan = Plan::default();
    let store = open(folder.path(), plan.options());
    store.set_retention(partition(1), 1);
    plan.due(FaultPoint::BeforeWrite, failed());
    assert!(store.commit(both(1)).is_err());
    store.recover().expect("recovered");
    write(&store, 1..=1);
    store.trim(UnixMillis(2 * 24 * 3_600_000)).expect("trimmed");
    assert_eq!(store.log_bounds(partition(1)), Ok(None));
    assert!(store.log_bounds(partition(2)).expect("readable").is_some());
}

#[test]
fn clearing_that_was_interrupted_goes_on_when_the_store_opens() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let plan = Plan::default();
    let left = Arc::new(Mutex::new(None));
    let counted = left.clone();
    let inner = plan.options();
    let fault = move |point| match (point, counted.lock().as_mut()) {
        (FaultPoint::BeforeWrite, Some(0)) => Some(failed()),
        (FaultPoint::BeforeWrite, Some(left)) => {
            *left -= 1;
            None
        }
        _ => None,
    };
    let store = open(
        folder.path(),
        Options {
            faults: Some(Arc::new(fault)),
            ..inner
        },
    );
    write(&store, 1..=5);
    *left.lock() = Some(1);
    assert!(matches!(
        store.clear(partition(1)),
        Err(StoreError::Failed(_))
    ));
    let check = |store: &FjallStore| {
        assert_eq!(store.head(partition(1)), Ok(None));
        assert_eq!(store.get(partition(1), b"last"), Ok(None));
        assert_eq!(check_whole(store, partition(2)), 5);
    };
    check(&store);
    drop(store);
    let store = open(folder.path(), small());
    check(&store);
    store
        .commit(vec![commit(partition(1), 1)])
        .expect("clearing is over");
    assert_eq!(
        check_whole(&store, partition(1)),
        1,
        "nothing of before comes back"
    );
}

#[test]
fn a_folder_in_use_is_refused_with_that_reason() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let store = open(folder.path(), small());
    let Err(StoreError::Failed(why)) = FjallStore::open(folder.path(), small()) else {
        panic!("two stores in one folder")
    };
    assert!(
        why.contains("another castling is using this folder"),
        "{why}"
    );
    drop(store);
    open(folder.path(), small());
}

#[test]
fn a_folder_of_a_later_format_is_refused_and_half_a_creation_is_started_anew() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::create_dir_all(folder.path().join("engine.new/keyspaces"))
        .expect("as a crash leaves it");
    std::fs::write(folder.path().join("engine.new/0.jnl"), b"").expect("as a crash leaves it");
    write(&open(folder.path(), small()), 1..=1);
    assert_eq!(lasts(&open(folder.path(), small())), (1, 1));
    std::fs::write(folder.path().join("format"), b"castling-store 2\n").expect("written");
    let Err(StoreError::Failed(why)) = FjallStore::open(folder.path(), small()) else {
        panic!("a format of the future")
    };
    assert!(why.contains("castling-store 2"), "{why}");
}

/// Unmounts when the test is over.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where a disk may not be mounted; the tests with injected faults cover the store's own part.
    fn mount(mebibytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let size = format!("size={mebibytes}m");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        match done {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            Ok(output) => {
                println!(
                    "skipped: no small disk can be mounted here: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                None
            }
            Err(error) => {
                println!("skipped: there is no mount command here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("it is there");
    }
}

/// Writes until only `keep` bytes are free.
fn fill_up(disk: &Path, keep: u64) {
    let stat = rustix::fs::statvfs(disk).expect("measured");
    let free = (stat.f_bavail * stat.f_frsize).saturating_sub(keep);
    std::fs::write(disk.join("ballast"), vec![1; free as usize]).expect("it fits");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            println!("could not unmount {}", self.0.path().display());
        }
    }
}

#[test]
fn a_small_disk_fills_up_refuses_and_heals() {
    let Some(disk) = SmallDisk::mount(64) else {
        return;
    };
    let store = open(
        &disk.path().join("store"),
        Options {
            disk_reserve: 8 << 20,
            ..small()
        },
    );
    write(&store, 1..=3);
    fill_up(disk.path(), 7 << 20);
    // A commit of its full measure, so that an old measurement of free space is not enough.
    let full = (4..).find_map(|lsn| store.commit(both(lsn)).err().map(|error| (lsn, error)));
    let (lsn, error) = full.expect("it fills up");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert_eq!(lasts(&store), (lsn - 1, lsn - 1));
    disk.make_room();
    write(&store, lsn..=lsn + 1);
    assert_eq!(lasts(&store), (lsn + 1, lsn + 1));
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_fails_and_recovers_with_everything_acknowledged() {
    let Some(disk) = SmallDisk::mount(32) else {
        return;
    };
    let path = disk.path().join("store");
    // Somebody else fills the disk between our look at it and our write: the engine itself hits the end.
    let ballast = disk.path().to_path_buf();
    let armed = Arc::new(Mutex::new(false));
    let trigger = armed.clone();
    let fill = move |point| {
        if point == FaultPoint::BeforeWrite && std::mem::take(&mut *trigger.lock()) {
            fill_up(&ballast, 0);
        }
        None
    };
    let store = open(
        &path,
        Options {
            disk_reserve: 0,
            faults: Some(Arc::new(fill)),
            ..small()
        },
    );
    write(&store, 1..=3);
    *armed.lock() = true;
    // More than the block under the journal's end may still take.
    let outcome = store.commit((4..=40).flat_map(both).collect());
    assert!(matches!(outcome, Err(StoreError::Failed(_))), "{outcome:?}");
    assert!(matches!(store.commit(both(4)), Err(StoreError::Failed(_))));
    disk.make_room();
    store.recover().expect("there is room again");
    let (one, two) = lasts(&store);
    assert!(
        (one, two) == (3, 3) || (one, two) == (40, 40),
        "all of it or nothing: {one} {two}"
    );
    write(&store, one + 1..=one + 2);
}
