//! Our own look at the engine's journals before the engine opens them.
//!
//! The engine (fjall 3.1.13) ends recovery silently at the first unreadable batch, cuts everything behind it, and refuses to open
//! at all where a batch is complete in form but its checksum is wrong, which is what a power cut leaves when pages reached the
//! disk out of order. So every journal is read first:
//!
//! * A torn tail (nothing complete follows, only the newest journal can have one) was never acknowledged: it is cut off.
//! * Anything else is damage to what was acknowledged: recorded as a suspicion of every partition, then cut off, too.
//!
//! What is cut off is kept in `salvage/`.

use super::open::{io_failed, sync_folder, write_synced};
use crate::StoreError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// There while damage inside a journal has not been recorded for every partition.
pub(super) const SUSPECT_FILE: &str = "suspect";
const SALVAGE_FOLDER: &str = "salvage";
const TRAILER: &[u8; 4] = b"FJL\x03";
const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;
const ITEM_HEADER_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;
/// A batch after a damaged one has a number not much above the last good one.
const SEQNO_AHEAD_MAX: u64 = 1 << 20;

/// Checks all journals in `engine` and makes them fit for the engine; `home` takes what is cut off.
pub(super) fn check(engine: &Path, home: &Path) -> Result<(), StoreError> {
    let journals = list(engine)?;
    let mut last_seqno = 0;
    for (at, (id, path)) in journals.iter().enumerate() {
        let newest = at + 1 == journals.len();
        let found =
            Scan::of(path, last_seqno).map_err(|e| io_failed("checking a journal", path, &e))?;
        last_seqno = found.last_seqno;
        if found.torn_bytes == 0 {
            continue;
        }
        let kind = if newest && !found.complete_batch_follows {
            Kind::Torn
        } else {
            Kind::Damaged
        };
        cut(home, *id, path, &found, kind)?;
    }
    Ok(())
}

/// Copies the newest journal into new blocks of the disk. After a failed fsync the kernel may show bytes that never got there.
pub(super) fn write_anew(engine: &Path) -> Result<(), StoreError> {
    let Some((_, path)) = list(engine)?.pop() else {
        return Ok(());
    };
    let copy = path.with_extension("jnl-copy");
    let work = || {
        fs::copy(&path, &copy)?;
        File::open(&copy)?.sync_all()?;
        fs::rename(&copy, &path)?;
        sync_folder(engine)
    };
    work().map_err(|e| io_failed("writing the journal anew", &path, &e))
}

/// Journals by number, oldest first.
fn list(engine: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let read = || -> io::Result<Vec<(u64, PathBuf)>> {
        let mut journals = Vec::new();
        for entry in fs::read_dir(engine)? {
            let path = entry?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
            journals.extend(number.map(|number| (number, path)));
        }
        journals.sort();
        Ok(journals)
    };
    read().map_err(|e| io_failed("listing the journals", engine, &e))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Torn,
    Damaged,
}

fn cut(home: &Path, id: u64, path: &Path, found: &Scan, kind: Kind) -> Result<(), StoreError> {
    let kept = format!("journal-{id}-from-{}.bin", found.good_bytes);
    if kind == Kind::Damaged {
        tracing::error!(path = %path.display(), at = found.good_bytes, kept, "the journal is damaged inside; every partition is suspect");
        write_synced(
            home,
            SUSPECT_FILE,
            format!("journal {id} is damaged at byte {}\n", found.good_bytes).as_bytes(),
        )?;
    } else {
        tracing::warn!(path = %path.display(), at = found.good_bytes, kept, "the last write was not complete and is cut off");
    }
    let salvage = home.join(SALVAGE_FOLDER);
    let work = || {
        fs::create_dir_all(&salvage)?;
        let mut journal = OpenOptions::new().read(true).write(true).open(path)?;
        journal.seek(SeekFrom::Start(found.good_bytes))?;
        let mut copy = File::create(salvage.join(&kept))?;
        io::copy(&mut (&mut journal).take(found.torn_bytes), &mut copy)?;
        copy.flush()?;
        copy.sync_all()?;
        sync_folder(&salvage)?;
        sync_folder(home)?;
        journal.set_len(found.good_bytes)?;
        journal.sync_all()
    };
    work().map_err(|e| io_failed("cutting a damaged journal", path, &e))
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
struct Scan {
    /// Length of the complete batches from the start on.
    good_bytes: u64,
    /// Bytes behind them up to the last one that is not zero (the engine makes journals longer than needed).
    torn_bytes: u64,
    last_seqno: u64,
    complete_batch_follows: bool,
}

impl Scan {
    fn of(path: &Path, last_seqno: u64) -> io::Result<Scan> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut found = Scan {
            good_bytes: 0,
            torn_bytes: 0,
            last_seqno,
            complete_batch_follows: false,
        };
        while let Some(batch) = read_batch(&mut reader, length - found.good_bytes)? {
            found.good_bytes += batch.bytes;
            found.last_seqno = found.last_seqno.max(batch.seqno);
        }
        reader.seek(SeekFrom::Start(found.good_bytes))?;
        found.torn_bytes = bytes_up_to_zeros(&mut reader)?;
        if found.torn_bytes > 0 {
            reader.seek(SeekFrom::Start(found.good_bytes))?;
            let mut tail = Vec::new();
            reader.take(found.torn_bytes).read_to_end(&mut tail)?;
            found.complete_batch_follows = batch_within(&tail, found.last_seqno)?;
        }
        Ok(found)
    }
}

/// Number of bytes up to the last one that is not zero.
fn bytes_up_to_zeros(reader: &mut impl Read) -> io::Result<u64> {
    let mut block = vec![0; 1 << 16];
    let zeros = block.clone();
    let (mut at, mut last) = (0, 0);
    loop {
        let read = reader.read(&mut block)?;
        if read == 0 {
            return Ok(last);
        }
        let filled = block.get(..read).unwrap_or_default();
        // Most of it is zeros: comparing whole blocks is what makes opening fast.
        if zeros.get(..read) != Some(filled) {
            last = at
                + filled
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |found| found as u64 + 1);
        }
        at += read as u64;
    }
}

/// Whether a complete batch begins anywhere behind the first byte of `tail`.
fn batch_within(tail: &[u8], last_seqno: u64) -> io::Result<bool> {
    for from in 1..tail.len() {
        let mut rest = tail.get(from..).unwrap_or_default();
        // Tag, item count, number, then the tag of an item: rarely all plausible by chance.
        let plausible = rest.first() == Some(&TAG_START)
            && matches!(rest.get(13), Some(&(TAG_ITEM | TAG_CLEAR)));
        if !plausible {
            continue;
        }
        let left = rest.len() as u64;
        let ahead =
            read_batch(&mut rest, left)?.map(|batch| batch.seqno.saturating_sub(last_seqno));
        if ahead.is_some_and(|ahead| (1..=SEQNO_AHEAD_MAX).contains(&ahead)) {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Batch {
    bytes: u64,
    seqno: u64,
}

/// Reads one batch: start (count, number), items, end (xxh3 of the items as written, trailer). `None` when none is complete.
fn read_batch(reader: &mut impl Read, left: u64) -> io::Result<Option<Batch>> {
    match read_batch_or_end(reader, left) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        other => other,
    }
}

fn read_batch_or_end(reader: &mut impl Read, left: u64) -> io::Result<Option<Batch>> {
    let start: [u8; 13] = take(reader)?;
    let [TAG_START, c0, c1, c2, c3, seqno @ ..] = start else {
        return Ok(None);
    };
    let mut bytes = start.len() as u64;
    let mut hash = Xxh3::new();
    for _ in 0..u32::from_le_bytes([c0, c1, c2, c3]) {
        let Some(item) = read_item(reader, left.saturating_sub(bytes), &mut hash)? else {
            return Ok(None);
        };
        bytes += item;
    }
    let end: [u8; 13] = take(reader)?;
    let [TAG_END, h0, h1, h2, h3, h4, h5, h6, h7, trailer @ ..] = end else {
        return Ok(None);
    };
    let whole = trailer == *TRAILER
        && hash.digest() == u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]);
    Ok(whole.then_some(Batch {
        bytes: bytes + end.len() as u64,
        seqno: u64::from_le_bytes(seqno),
    }))
}

/// Reads one item into the hash and gives its length; `None` when it is none, or longer than what is left of the file.
fn read_item(reader: &mut impl Read, left: u64, hash: &mut Xxh3) -> io::Result<Option<u64>> {
    let [tag]: [u8; 1] = take(reader)?;
    hash.update(&[tag]);
    if tag == TAG_CLEAR {
        hash.update(&take::<8>(reader)?);
        return Ok(Some(9));
    }
    if tag != TAG_ITEM {
        return Ok(None);
    }
    let header: [u8; ITEM_HEADER_BYTES] = take(reader)?;
    hash.update(&header);
    // Value type, compression, keyspace (8), key length (2), value length (4), length of the value as written (4).
    let [
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        k0,
        k1,
        _,
        _,
        _,
        _,
        v0,
        v1,
        v2,
        v3,
    ] = header;
    let body =
        u64::from(u16::from_le_bytes([k0, k1])) + u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
    let bytes = 1 + ITEM_HEADER_BYTES as u64 + body;
    if bytes > left {
        return Ok(None);
    }
    let mut body = reader.take(body);
    let mut block = [0; 8192];
    while body.limit() > 0 {
        let read = body.read(&mut block)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(block.get(..read).unwrap_or_default());
    }
    Ok(Some(bytes))
}

fn take<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    /// A journal of three batches as the engine writes it, and where each one ends.
    fn journal(folder: &Path) -> (PathBuf, Vec<u8>, Vec<u64>) {
        let path = folder.join("0.jnl");
        let database = Database::builder(folder).open().unwrap();
        let keyspace = database
            .keyspace("log", KeyspaceCreateOptions::default)
            .unwrap();
        let mut ends = Vec::new();
        for number in 0..3u8 {
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&keyspace, vec![number; 5], vec![number; 3000]);
            batch.remove(&keyspace, "gone");
            batch.commit().unwrap();
            ends.push(Scan::of(&path, 0).unwrap().good_bytes);
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(100_000);
        (path, bytes, ends)
    }

    fn scan(path: &Path, bytes: &[u8]) -> Scan {
        fs::write(path, bytes).unwrap();
        Scan::of(path, 0).unwrap()
    }

    #[test]
    fn the_engines_own_journal_is_understood_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes, ends) = journal(folder.path());
        assert!(ends[0] > 3000 && ends[0] < ends[1] && ends[1] < ends[2]);
        let found = scan(&path, &bytes);
        assert_eq!((found.good_bytes, found.torn_bytes), (ends[2], 0));
    }

    #[test]
    fn a_tail_cut_or_flipped_anywhere_is_torn_and_a_flip_before_a_complete_batch_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes, ends) = journal(&folder.path().join("db"));
        let path = path.with_extension("copy");
        let [_, second, third] = ends[..] else {
            panic!("three batches")
        };
        for at in (second..third).step_by(97) {
            let mut flipped = bytes.clone();
            flipped[at as usize] ^= 0x41;
            let found = scan(&path, &flipped);
            assert_eq!(
                (found.good_bytes, found.complete_batch_follows),
                (second, false),
                "flipped at {at}"
            );
            assert!(found.torn_bytes > 0);
            assert_eq!(
                scan(&path, &bytes[..at as usize]).good_bytes,
                second,
                "cut at {at}"
            );
        }
        let mut flipped = bytes.clone();
        flipped[second as usize - 100] ^= 1;
        let found = scan(&path, &flipped);
        assert_eq!(
            (found.good_bytes, found.complete_batch_follows),
            (ends[0], true)
        );
    }

    #[test]
    fn lengths_out_of_a_damaged_header_do_not_become_memory() {
        let mut bytes = vec![TAG_START, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, TAG_ITEM];
        bytes.extend([0xff; ITEM_HEADER_BYTES]);
        let length = bytes.len() as u64;
        assert!(read_batch(&mut &bytes[..], length).unwrap().is_none());
    }
}
