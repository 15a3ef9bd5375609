//! How close commits come to the disk's own limit: `cargo run --release -p castling-store --example commit_rate [FOLDER]`.
//!
//! Floors: 4 KiB plus fdatasync, appended to a growing file and written into one that was filled before. Then the store: one
//! record of 1 to 1000 events of 330 bytes in each of 4 partitions per commit, beside a floor that writes as many bytes.

use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::{FjallStore, LogRecord, Options, PartitionCommit, Store};
use types::{HubId, Lsn, PartitionId, PartitionKey, Sequence, UnixMillis};

const EVENT_BYTES: usize = 330;
const PARTITIONS: u16 = 4;
const MEASURE: Duration = Duration::from_secs(4);

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::fs::create_dir_all(&parent)?;
    let folder = tempfile::tempdir_in(parent)?;
    println!(
        "disk of {}, {MEASURE:?} each, rates per second, latencies in microseconds",
        folder.path().display()
    );
    let appended = floor(folder.path(), 4096, false)?;
    print("append 4 KiB + fdatasync", &appended, 1, 4096);
    let prepared = floor(folder.path(), 4096, true)?;
    print("prepared 4 KiB + fdatasync", &prepared, 1, 4096);
    for events in [1, 10, 100, 1000] {
        let bytes = usize::from(PARTITIONS) * events * EVENT_BYTES;
        let floor = floor(folder.path(), bytes, true)?;
        let store = store(&folder.path().join(format!("store-{events}")), events)?;
        let entries = usize::from(PARTITIONS) * events;
        print(&format!("floor, {bytes} bytes"), &floor, entries, bytes);
        print(
            &format!("store, 4 x {events} events"),
            &store,
            entries,
            bytes,
        );
        println!(
            "    store/floor of the same bytes {:.2}, store/prepared 4 KiB {:.2}, store/appended 4 KiB {:.2}",
            store.rate() / floor.rate(),
            store.rate() / prepared.rate(),
            store.rate() / appended.rate()
        );
    }
    Ok(())
}

/// How long each turn took, sorted.
struct Turns {
    micros: Vec<u64>,
    took: Duration,
}

impl Turns {
    fn measure<E>(
        mut turn: impl FnMut(u64) -> std::result::Result<(), E>,
    ) -> std::result::Result<Turns, E> {
        let mut micros = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < MEASURE {
            let at = Instant::now();
            turn(micros.len() as u64)?;
            micros.push(at.elapsed().as_micros() as u64);
        }
        let took = begun.elapsed();
        micros.sort_unstable();
        Ok(Turns { micros, took })
    }

    fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.took.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> u64 {
        let at = self.micros.len().saturating_sub(1) * percent / 100;
        self.micros.get(at).copied().unwrap_or_default()
    }
}

fn print(what: &str, turns: &Turns, entries: usize, bytes: usize) {
    println!(
        "{what:<28} {:>8.0} turns {:>9.0} entries {:>6.1} MB   p50 {:>6} p99 {:>7} max {:>7}",
        turns.rate(),
        turns.rate() * entries as f64,
        turns.rate() * bytes as f64 / 1e6,
        turns.percentile(50),
        turns.percentile(99),
        turns.percentile(100)
    );
}

fn floor(folder: &Path, bytes: usize, prepared: bool) -> Result<Turns> {
    const FILE_BYTES: u64 = 128 << 20;
    let path = folder.join("floor");
    let mut file = File::create(&path)?;
    if prepared {
        let block = vec![0; 1 << 20];
        (0..FILE_BYTES >> 20).try_for_each(|_| file.write_all(&block))?;
        file.sync_all()?;
        file = OpenOptions::new().write(true).open(&path)?;
    }
    let block = vec![7; bytes];
    let slots = FILE_BYTES / bytes as u64;
    let turns = Turns::measure(|turn| {
        let at = if prepared { turn % slots } else { turn };
        file.write_all_at(&block, at * bytes as u64)?;
        file.sync_data()
    });
    std::fs::remove_file(path)?;
    turns
}

fn store(path: &Path, events: usize) -> std::result::Result<Turns, store::StoreError> {
    let store = FjallStore::open(path, Options::default())?;
    // Not compressible, as if it were encrypted; the same for all: the store neither compresses nor compares.
    let mut seed = 88_172_645_463_325_252u64;
    let bytes: Bytes = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    })
    .take(events * EVENT_BYTES)
    .collect::<Vec<u8>>()
    .into();
    let head = Bytes::from(vec![1; 64]);
    let turns = Turns::measure(|turn| {
        let commit = |number| {
            let record = LogRecord {
                lsn: Lsn(turn + 1),
                first_sequence: Sequence(turn * events as u64),
                event_count: events as u32,
                time: UnixMillis(turn as i64),
                bytes: bytes.clone(),
            };
            let key = PartitionKey {
                hub: HubId(1),
                partition: PartitionId(number),
            };
            (
                key,
                PartitionCommit {
                    records: vec![record],
                    head: Some(head.clone()),
                    ..PartitionCommit::default()
                },
            )
        };
        store.commit((0..PARTITIONS).map(commit).collect())
    })?;
    drop(store);
    std::fs::remove_dir_all(path).map_err(|e| store::StoreError::Failed(e.to_string()))?;
    Ok(turns)
}
