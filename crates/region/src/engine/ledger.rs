//! A primary's book on the records that its follower has not confirmed: how many, how large, how old, of which kinds and devices.
//!
//! Kept up to date record by record, and bounded whatever the partner does: notes on records are merged in pairs, devices are
//! counted up to a limit. What was in the log before this region led is read back in pages.

use super::message::Tail;
use replication::{Body, Record};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use types::{Epoch, Lsn, UnixMillis, limits};

/// Notes on records one by one; beyond, every two of them become one.
const NOTES_MAX: usize = 1024;
/// A word that says the same is repeated after this long: the partner knows then how old it is, and a lost one is healed.
const SAY_AGAIN_MS: i64 = 1000;
/// Bytes of older log read for one partition; beyond, the word says that it is not complete.
const SCAN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The kind under which events are counted.
const TELEMETRY: &str = "telemetry";

/// Changes by kind: the first letter of the keys, 0 for events.
#[derive(Clone, Debug, Default)]
struct Kinds(Vec<(u8, u64)>);

impl Kinds {
    fn add(&mut self, letter: u8, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == letter) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((letter, count)),
        }
    }

    fn add_all(&mut self, other: &Kinds) {
        for (letter, count) in &other.0 {
            self.add(*letter, *count);
        }
    }

    fn remove_all(&mut self, other: &Kinds) {
        for (letter, count) in &other.0 {
            if let Some((_, sum)) = self.0.iter_mut().find(|(known, _)| known == letter) {
                *sum = sum.saturating_sub(*count);
            }
        }
    }
}

/// One or several records.
#[derive(Clone, Debug)]
struct Note {
    last: Lsn,
    bytes: u64,
    oldest: UnixMillis,
    kinds: Kinds,
}

/// A record that this region makes, with the devices it touches.
pub struct Made {
    note: Note,
    devices: Vec<u64>,
}

impl Made {
    /// `devices`: those of its events, as [`mark`] gives them.
    pub fn of(record: &Record, bytes: usize, mut devices: Vec<u64>) -> Made {
        let mut kinds = Kinds::default();
        if record.event_count > 0 {
            kinds.add(0, u64::from(record.event_count));
        }
        if let Body::Data { state, .. } = &record.body {
            for (key, _) in state {
                kinds.add(key.first().copied().unwrap_or(0), 1);
                devices.extend(hub::keys::device_part(key).map(mark));
            }
        }
        let note = Note {
            last: record.lsn,
            bytes: bytes as u64,
            oldest: record.time,
            kinds,
        };
        Made { note, devices }
    }
}

/// Stands for a device where only their number counts.
pub fn mark(device: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(device);
    hasher.finish()
}

/// Marks are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The last record that touches each device.
#[derive(Default)]
struct Devices {
    last: HashMap<u64, Lsn, BuildHasherDefault<AsItIs>>,
    /// Devices of records up to here may not have been counted.
    cut: Lsn,
    /// No device here was touched only by records up to this one.
    pruned: Lsn,
}

impl Devices {
    fn touch(&mut self, device: u64, lsn: Lsn) {
        let room = self.last.len() < limits::TAIL_DEVICES_MAX;
        match self.last.get_mut(&device) {
            Some(last) => *last = lsn.max(*last),
            None if room => drop(self.last.insert(device, lsn)),
            None => self.cut = self.cut.max(lsn),
        }
    }

    fn prune(&mut self, confirmed: Lsn) {
        if self.pruned != confirmed {
            self.last.retain(|_, last| *last > confirmed);
            self.pruned = confirmed;
        }
    }

    fn count(&self, confirmed: Lsn) -> u64 {
        match self.pruned == confirmed {
            true => self.last.len() as u64,
            false => self.last.values().filter(|last| **last > confirmed).count() as u64,
        }
    }
}

/// Notes on consecutive records and their sums.
#[derive(Default)]
struct Notes {
    notes: VecDeque<Note>,
    bytes: u64,
    kinds: Kinds,
}

impl Notes {
    fn push(&mut self, note: Note) {
        self.bytes += note.bytes;
        self.kinds.add_all(&note.kinds);
        self.notes.push_back(note);
        if self.notes.len() > NOTES_MAX {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let mut merged = VecDeque::with_capacity(NOTES_MAX);
        while let Some(mut note) = self.notes.pop_front() {
            if let Some(next) = self.notes.pop_front() {
                note.last = next.last;
                note.bytes += next.bytes;
                note.kinds.add_all(&next.kinds);
            }
            merged.push_back(note);
        }
        self.notes = merged;
    }

    fn confirmed(&mut self, confirmed: Lsn) {
        while self.notes.front().is_some_and(|n| n.last <= confirmed) {
            let note = self.notes.pop_front().expect("just seen");
            self.bytes -= note.bytes;
            self.kinds.remove_all(&note.kinds);
        }
    }
}

/// What a primary knows of its records that the follower has not confirmed.
#[derive(Default)]
pub struct Ledger {
    /// Every record from here on is in `newer`, until it is confirmed.
    begins: Lsn,
    /// Time of the last record before.
    before: UnixMillis,
    /// Read back from the log, up to `scan`.
    older: Notes,
    newer: Notes,
    /// The record to read back next.
    scan: Lsn,
    scanned: usize,
    /// What the follower had confirmed at the last look.
    floor: Lsn,
    devices: Devices,
    said: Option<Said>,
}

/// Names the word said last, and when that was.
#[derive(Clone, Copy)]
struct Said {
    epoch: Epoch,
    lsn: Lsn,
    confirmed: Lsn,
    scan: Lsn,
    at: UnixMillis,
}

impl Ledger {
    /// Of a partition that this region leads from now on, or whose partner is new; its last record is `last`, of `time`.
    pub fn new(last: Lsn, time: UnixMillis) -> Ledger {
        Ledger {
            begins: last.next(),
            before: time,
            ..Ledger::default()
        }
    }

    /// Without a partner nothing is noted.
    pub fn skip(&mut self, last: Lsn, time: UnixMillis) {
        if !self.newer.notes.is_empty() || self.floor > Lsn(0) {
            *self = Ledger::new(last, time);
        }
        self.begins = last.next();
        self.before = time;
    }

    /// A record of this region is durable.
    pub fn made(&mut self, made: Made) {
        let lsn = made.note.last;
        if lsn <= self.floor {
            return;
        }
        for device in made.devices {
            self.devices.touch(device, lsn);
        }
        self.newer.push(made.note);
    }

    /// The follower has everything up to `confirmed`; less than before if it lost some.
    pub fn confirmed(&mut self, confirmed: Lsn) {
        if confirmed < self.floor {
            self.begins = self.begins.max(self.floor.next());
            self.older = Notes::default();
            self.scan = Lsn(0);
            self.scanned = 0;
        }
        self.floor = confirmed;
        self.older.confirmed(confirmed);
        self.newer.confirmed(confirmed);
    }

    /// The first record after `confirmed` that is to be read back from the log, if there is one.
    pub fn lacks(&self, confirmed: Lsn) -> Option<Lsn> {
        self.gap(confirmed)
            .filter(|_| self.scanned < SCAN_BYTES_MAX)
    }

    /// Nothing is read back any more: the tail stays incomplete, and says so.
    pub fn give_up(&mut self) {
        self.scanned = SCAN_BYTES_MAX;
    }

    /// Records of the log before this one are to be read back.
    pub fn begins(&self) -> Lsn {
        self.begins
    }

    /// There is nothing more to read back.
    pub fn all_found(&mut self) {
        self.scan = self.begins;
    }

    /// Forgets devices of confirmed records.
    pub fn prune(&mut self) {
        self.devices.prune(self.floor);
    }

    /// The first record after `confirmed` that was not looked at, if there is one.
    fn gap(&self, confirmed: Lsn) -> Option<Lsn> {
        let first = self.scan.max(confirmed.next());
        (first < self.begins).then_some(first)
    }

    /// A record from before, read back from the log.
    pub fn found(&mut self, record: &Record, bytes: usize) {
        let mut devices = Vec::new();
        if let Body::Data { events, .. } = &record.body {
            let (first, count) = (record.first_sequence, record.event_count);
            let events = hub::telemetry::decode_events(first, count, events.clone());
            // Events that cannot be read are reported by whoever reads them; here they are not counted by device.
            for event in events.unwrap_or_default() {
                devices.push(mark(event.device.as_str().as_bytes()));
            }
        }
        let Made { note, devices } = Made::of(record, bytes, devices);
        for device in devices {
            self.devices.touch(device, record.lsn);
        }
        self.scan = record.lsn.next();
        self.scanned += bytes;
        self.older.push(note);
    }

    /// Time of the oldest record that is not confirmed; of the last one before, while older ones are not known.
    pub fn oldest(&self, confirmed: Lsn) -> Option<UnixMillis> {
        let first = |notes: &Notes| Some(notes.notes.front()?.oldest);
        let before = self.gap(confirmed).map(|_| self.before);
        first(&self.older).or(before).or_else(|| first(&self.newer))
    }

    /// What comes after `confirmed`, which was looked at last.
    pub fn tail(&self, confirmed: Lsn, last: Lsn) -> Tail {
        if last <= confirmed {
            return Tail {
                after: confirmed,
                ..Tail::default()
            };
        }
        let mut kinds = self.older.kinds.clone();
        kinds.add_all(&self.newer.kinds);
        let named = kinds.0.into_iter().filter(|(_, count)| *count > 0);
        let kinds: BTreeMap<String, u64> = named
            .map(|(letter, count)| match letter {
                0 => (TELEMETRY.to_owned(), count),
                _ => (char::from(letter).to_string(), count),
            })
            .collect();
        Tail {
            after: confirmed,
            records: last.0 - confirmed.0,
            bytes: self.older.bytes + self.newer.bytes,
            oldest: self.oldest(confirmed),
            devices: self.devices.count(confirmed),
            devices_cut: self.devices.cut > confirmed || self.gap(confirmed).is_some(),
            kinds,
        }
    }

    /// Gives true if the word is to be said now, as something changed or enough time passed.
    pub fn says(&mut self, epoch: Epoch, lsn: Lsn, now: UnixMillis) -> bool {
        let (confirmed, scan) = (self.floor, self.scan);
        let same = self.said.is_some_and(|said| {
            (said.epoch, said.lsn, said.confirmed, said.scan) == (epoch, lsn, confirmed, scan)
                && (0..SAY_AGAIN_MS).contains(&now.since(said.at))
        });
        if same {
            return false;
        }
        self.said = Some(Said {
            epoch,
            lsn,
            confirmed,
            scan,
            at: now,
        });
        true
    }

    #[cfg(test)]
    pub fn notes(&self) -> usize {
        self.older.notes.len() + self.newer.notes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Sequence;

    /// A record of `count` events, each of another device.
    fn made(lsn: u64, first: u64, count: u64) -> Made {
        let record = Record {
            epoch: Epoch(1),
            lsn: Lsn(lsn),
            previous_crc: 0,
            time: UnixMillis(lsn as i64),
            first_sequence: Sequence(first),
            event_count: count as u32,
            body: Body::Open,
        };
        let devices = (first..first + count).map(|n| mark(&n.to_be_bytes()));
        Made::of(&record, 10, devices.collect())
    }

    #[test]
    fn devices_are_counted_up_to_a_limit_and_forgotten_when_confirmed() {
        let most = limits::TAIL_DEVICES_MAX as u64;
        let mut ledger = Ledger::new(Lsn(0), UnixMillis(0));
        ledger.made(made(1, 0, most));
        let tail = ledger.tail(Lsn(0), Lsn(1));
        assert_eq!((tail.devices, tail.devices_cut), (most, false));
        ledger.made(made(2, most, 1));
        let tail = ledger.tail(Lsn(0), Lsn(2));
        assert_eq!((tail.devices, tail.devices_cut), (most, true));
        ledger.confirmed(Lsn(2));
        ledger.prune();
        assert!(ledger.devices.last.is_empty());
        ledger.made(made(3, 0, 7));
        let tail = ledger.tail(Lsn(2), Lsn(3));
        assert_eq!((tail.devices, tail.devices_cut), (7, false));
    }

    #[test]
    fn a_device_stays_in_the_tail_until_its_last_record_is_confirmed() {
        let mut ledger = Ledger::new(Lsn(0), UnixMillis(0));
        ledger.made(made(1, 0, 2));
        ledger.made(made(2, 0, 1));
        ledger.confirmed(Lsn(1));
        assert_eq!(ledger.tail(Lsn(1), Lsn(2)).devices, 1);
        ledger.prune();
        assert_eq!(ledger.tail(Lsn(1), Lsn(2)).devices, 1);
    }

    #[test]
    fn merged_notes_keep_the_sums_and_the_oldest_time() {
        let mut ledger = Ledger::new(Lsn(0), UnixMillis(0));
        let count = NOTES_MAX as u64 * 10;
        for lsn in 1..=count {
            ledger.made(made(lsn, lsn, 1));
        }
        assert!(ledger.notes() <= NOTES_MAX);
        let tail = ledger.tail(Lsn(0), Lsn(count));
        assert_eq!(
            (tail.records, tail.bytes, tail.kinds[TELEMETRY]),
            (count, count * 10, count)
        );
        assert_eq!(tail.oldest, Some(UnixMillis(1)));
        ledger.confirmed(Lsn(count - 1));
        let tail = ledger.tail(Lsn(count - 1), Lsn(count));
        assert_eq!((tail.records, tail.kinds[TELEMETRY]), (1, 1));
    }

    #[test]
    fn without_a_partner_nothing_is_kept() {
        let mut ledger = Ledger::new(Lsn(0), UnixMillis(0));
        ledger.made(made(1, 0, 5));
        ledger.skip(Lsn(9), UnixMillis(9));
        assert_eq!(ledger.notes(), 0);
        assert_eq!(ledger.begins(), Lsn(10));
        assert!(ledger.devices.last.is_empty());
    }
}
