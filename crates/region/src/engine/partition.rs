//! One partition at run time: its head, its role, and what the current turn adds to it.

use super::Refusal;
use super::follower::Following;
use super::lag::Together;
use super::ledger::{self, Ledger, Made};
use super::message::SourceWord;
use super::presence::Directory;
use super::refill::Refill;
use bytes::Bytes;
use hub::{Effect, Presence};
use replication::{Body, Head, Record, Shipper, digest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use store::{LogRecord, PartitionCommit, Store, StoreError};
use types::{ConnectionId, DeviceId, Lsn, PartitionKey, RegionName, Sequence, UnixMillis, limits};

/// Recently committed records kept in memory for a connected follower, in bytes.
const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An effect with the gateway and connection it is for.
#[derive(Debug)]
pub struct AddressedEffect {
    pub gateway: RegionName,
    pub connection: ConnectionId,
    pub effect: Effect,
}

/// An answer that must not leave before its turn is durable.
pub struct Held<T> {
    pub asker: T,
    pub answer: Result<super::Answer, Refusal>,
    /// What was asked for changed something.
    pub wrote: bool,
}

/// Answers of one turn, waiting for the partner; or only its effects, waiting for the lease.
pub struct Waiting<T> {
    pub lsn: Lsn,
    pub visible: Sequence,
    pub since: UnixMillis,
    pub replies: Vec<Held<T>>,
    pub effects: Vec<AddressedEffect>,
}

impl<T> Waiting<T> {
    pub fn held(&self) -> usize {
        self.replies.len() + self.effects.len()
    }
}

/// May this region serve the partition as its primary?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Not the primary, or not yet.
    No,
    Open,
    /// Stopped for a failover; answers nothing until opened again or told to follow.
    Fenced,
}

/// One partition at run time.
pub struct Partition<T> {
    pub at: PartitionKey,
    /// After the last durable commit.
    pub head: Head,
    pub serving: Serving,
    /// Its bytes are wrong or its history differs: not served and not followed, kept as they are.
    pub broken: Option<String>,
    pub shipper: Shipper,
    pub following: Following,
    /// As the primary: what the partner has that is missing here.
    pub refill: Refill,
    pub live: Directory,
    pub waiting: VecDeque<Waiting<T>>,
    /// Replies and effects in `waiting`.
    pub held: usize,
    /// As the primary of a hub that waits for its partner: whether that is near enough.
    pub together: Together,
    /// As the primary: events before it may be read.
    pub visible: Sequence,
    /// As the primary: what the follower has not confirmed.
    pub ledger: Ledger,
    /// As the secondary: the primary's last word, and when it came on the monotonic clock.
    pub word: Option<(SourceWord, u64)>,
    /// Bytes of its return so far, both ways.
    pub rewind_bytes: u64,
    /// What was said about a return, so that it is not repeated with every attempt.
    pub said: BTreeSet<&'static str>,
    pub turn: Turn<T>,
    tail: VecDeque<(Lsn, Bytes)>,
    tail_bytes: usize,
}

/// What the current turn adds; gone after its commit, whether that worked or not.
pub struct Turn<T> {
    /// The head as it will be.
    pub head: Head,
    /// Changes not yet in a record.
    open: BTreeMap<Bytes, Option<Bytes>>,
    events: Vec<u8>,
    event_count: u32,
    /// Bytes of `open` and `events`, roughly.
    open_bytes: usize,
    /// Changes that are in a record of this turn.
    sealed: BTreeMap<Bytes, Option<Bytes>>,
    records: Vec<LogRecord>,
    /// Marks of the devices of `events`.
    devices: Vec<u64>,
    /// This turn's records as far as they were made here.
    pub made: Vec<Made>,
    head_changed: bool,
    /// A record could be made only in part: nothing of this turn may be committed.
    failed: Option<StoreError>,
    /// The partition opens with this turn: readers learn of it once it is durable.
    pub opens: bool,
    /// Who was connected before this turn's decisions changed it, latest last.
    pub undo: Vec<(DeviceId, Option<Presence>)>,
    pub replies: Vec<Held<T>>,
    pub effects: Vec<AddressedEffect>,
}

impl<T> Turn<T> {
    fn new(head: Head) -> Self {
        Turn {
            head,
            open: BTreeMap::new(),
            events: Vec::new(),
            event_count: 0,
            open_bytes: 0,
            sealed: BTreeMap::new(),
            records: Vec::new(),
            devices: Vec::new(),
            made: Vec::new(),
            head_changed: false,
            failed: None,
            opens: false,
            undo: Vec::new(),
            replies: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.open_bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.open.insert(key, value);
    }

    pub fn event(&mut self, event: &hub::command::TelemetryEvent, enqueued: UnixMillis) {
        let before = self.events.len();
        hub::telemetry::append_event(&mut self.events, event, enqueued);
        self.open_bytes += self.events.len() - before;
        self.event_count += 1;
        let device = ledger::mark(event.device.as_str().as_bytes());
        if self.devices.last() != Some(&device) {
            self.devices.push(device);
        }
    }

    /// This turn's change of a state entry.
    pub fn changed(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.open.get(key).or_else(|| self.sealed.get(key))
    }

    /// This turn's changes, older ones first.
    pub fn changes(&self) -> [&BTreeMap<Bytes, Option<Bytes>>; 2] {
        [&self.sealed, &self.open]
    }

    #[cfg(test)]
    pub fn fail(&mut self, error: StoreError) {
        self.failed = Some(error);
    }

    /// What is open fills a page of replication: it becomes a record of its own, so that no record outgrows a link's frame.
    pub fn is_full(&self) -> bool {
        self.open_bytes >= limits::SHIP_PAGE_BYTES_MAX
    }
}

impl<T> Partition<T> {
    /// Opens a partition from the store and checks that its log ends where its head says.
    ///
    /// # Errors
    /// When the store cannot be read at all; wrong content makes the partition `broken` instead.
    pub fn open(at: PartitionKey, store: &dyn Store) -> Result<Self, StoreError> {
        let (head, broken) = match stored_head(at, store) {
            Ok(found) => found,
            Err(error @ StoreError::Corrupt { .. }) => (Head::default(), Some(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(Partition {
            at,
            head,
            serving: Serving::No,
            broken,
            shipper: Shipper::default(),
            following: Following::default(),
            refill: Refill::No,
            live: Directory::default(),
            waiting: VecDeque::new(),
            held: 0,
            together: Together::default(),
            visible: head.next_sequence,
            ledger: Ledger::default(),
            word: None,
            rewind_bytes: 0,
            said: BTreeSet::new(),
            turn: Turn::new(head),
            tail: VecDeque::new(),
            tail_bytes: 0,
        })
    }

    /// Makes one record of what is open in this turn; none if nothing is.
    ///
    /// # Errors
    /// When former values cannot be read for the state digest; the turn as a whole cannot be committed then.
    pub fn seal(&mut self, store: &dyn Store, now: UnixMillis) -> Result<(), StoreError> {
        let turn = &mut self.turn;
        if let Some(error) = &turn.failed {
            return Err(error.clone());
        }
        if turn.open.is_empty() && turn.event_count == 0 {
            return Ok(());
        }
        let state: Vec<_> = std::mem::take(&mut turn.open).into_iter().collect();
        let events = Bytes::from(std::mem::take(&mut turn.events));
        let event_count = std::mem::take(&mut turn.event_count);
        turn.open_bytes = 0;
        let record = self.next_record(now, event_count, Body::Data { state, events });
        self.append(record, None, store)
    }

    /// Adds a mark (handover, open, resume) after everything so far.
    ///
    /// # Errors
    /// As [`Partition::seal`].
    pub fn mark(
        &mut self,
        body: Body,
        store: &dyn Store,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.seal(store, now)?;
        let record = self.next_record(now, 0, body);
        self.append(record, None, store)
    }

    fn next_record(&self, now: UnixMillis, event_count: u32, body: Body) -> Record {
        let head = &self.turn.head;
        Record {
            epoch: head.epoch,
            lsn: head.lsn.next(),
            previous_crc: head.crc,
            time: now.max(head.time),
            first_sequence: head.next_sequence,
            event_count,
            body,
        }
    }

    /// Takes a record into this turn, made here or by the primary (`encoded`: as received).
    ///
    /// # Errors
    /// As [`Partition::seal`].
    pub fn append(
        &mut self,
        record: Record,
        encoded: Option<Bytes>,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        let turn = &mut self.turn;
        if let Some(error) = &turn.failed {
            return Err(error.clone());
        }
        let made_here = encoded.is_none();
        let bytes = encoded.unwrap_or_else(|| record.encode());
        if made_here {
            let devices = std::mem::take(&mut turn.devices);
            turn.made.push(Made::of(&record, bytes.len(), devices));
        }
        if let Body::Data { state, .. } = record.body.clone() {
            match turn.change_state(self.at, state, store) {
                Ok(sum) => turn.head.state = sum,
                Err(error) => {
                    turn.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        let first_sequence = record.first_sequence;
        let next_sequence = Sequence(first_sequence.0 + u64::from(record.event_count));
        let head = &mut turn.head;
        if record.body == Body::Open {
            head.opened = record.lsn;
            // A new primary is at its epoch before it writes the record, and noted the one before by itself.
            if record.epoch > head.epoch {
                head.before = head.epoch;
            }
        }
        head.epoch = record.epoch;
        head.lsn = record.lsn;
        head.next_sequence = next_sequence;
        head.time = head.time.max(record.time);
        head.crc = replication::record::crc_of(&bytes);
        head.chain = digest::chain(head.chain, &bytes);
        turn.head_changed = true;
        turn.records.push(LogRecord {
            lsn: record.lsn,
            first_sequence,
            event_count: record.event_count,
            time: record.time,
            bytes,
        });
        Ok(())
    }

    /// Notes a change of the head alone (fence lifted or set).
    pub fn touch_head(&mut self) {
        self.turn.head_changed = true;
    }

    /// What this turn commits, if anything; to be followed by [`Partition::turn_committed`] or [`Partition::turn_failed`].
    pub fn commit_of_turn(&mut self) -> Option<PartitionCommit> {
        let turn = &mut self.turn;
        turn.head_changed.then(|| PartitionCommit {
            // Their bytes are shared; the turn keeps its own list for the follower.
            records: turn.records.clone(),
            state: std::mem::take(&mut turn.sealed).into_iter().collect(),
            head: Some(turn.head.encode().into()),
            truncate_after: None,
        })
    }

    /// The turn is durable: its head is the head, its records can be shipped.
    pub fn turn_committed(&mut self, now: UnixMillis) -> Turn<T> {
        let head = self.turn.head;
        let mut turn = std::mem::replace(&mut self.turn, Turn::new(head));
        self.head = head;
        if !self.shipper.connected() {
            self.forget_tail();
        }
        for record in turn.records.drain(..) {
            if self.serving != Serving::No {
                self.shipper.committed(record.lsn, now);
            }
            if self.shipper.connected() {
                self.tail_bytes += record.bytes.len();
                self.tail.push_back((record.lsn, record.bytes));
            }
        }
        while self.tail_bytes > TAIL_BYTES_MAX {
            let Some((_, bytes)) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= bytes.len();
        }
        turn
    }

    /// The turn did not become durable: everything is as before it.
    pub fn turn_failed(&mut self) -> Turn<T> {
        let mut turn = std::mem::replace(&mut self.turn, Turn::new(self.head));
        for (device, before) in turn.undo.drain(..).rev() {
            self.live.restore(device, before);
        }
        turn
    }

    /// After the head was set from outside (a copy was installed).
    pub fn reset(&mut self, head: Head) {
        self.head = head;
        self.turn = Turn::new(head);
        self.forget_tail();
    }

    fn forget_tail(&mut self) {
        self.tail.clear();
        self.tail_bytes = 0;
    }

    /// Encoded records from `from` on, about `bytes_max` of them, from memory if they are there, else from the log.
    ///
    /// # Errors
    /// As [`Store::read_log`].
    pub fn records_from(
        &self,
        from: Lsn,
        bytes_max: usize,
        store: &dyn Store,
    ) -> Result<Vec<(Lsn, Bytes)>, StoreError> {
        let first = self.tail.front().map(|(first, _)| *first);
        let Some(first) = first.filter(|first| *first <= from) else {
            let page = store.read_log(self.at, from, bytes_max)?;
            return Ok(page
                .into_iter()
                .map(|record| (record.lsn, record.bytes))
                .collect());
        };
        let mut out = Vec::new();
        let mut bytes = 0;
        for (lsn, record) in self.tail.iter().skip((from.0 - first.0) as usize) {
            if bytes > 0 && bytes + record.len() > bytes_max {
                break;
            }
            bytes += record.len();
            out.push((*lsn, record.clone()));
        }
        Ok(out)
    }

    /// The record that opened `epoch` here: in this turn, or in the log. `None`: it is not kept.
    ///
    /// # Errors
    /// As [`Store::read_log`].
    pub fn opening_record(
        &self,
        epoch: types::Epoch,
        store: &dyn Store,
    ) -> Result<Option<Record>, StoreError> {
        let opens = |record: &Record| record.epoch == epoch && record.body == Body::Open;
        let in_turn = self.turn.records.iter();
        let found = in_turn
            .filter_map(|r| Record::decode(&r.bytes).ok())
            .find(opens);
        if found.is_some() {
            return Ok(found);
        }
        let Some(bounds) = store.log_bounds(self.at)? else {
            return Ok(None);
        };
        // Epochs rise along the log: the first record that is not older is the one that opened the epoch.
        let (mut low, mut high) = (bounds.first_lsn.0, bounds.last_lsn.0);
        let mut found = None;
        while low <= high {
            let middle = low + (high - low) / 2;
            let page = store.read_log(self.at, Lsn(middle), 1)?;
            let Some(record) = page.first().and_then(|r| Record::decode(&r.bytes).ok()) else {
                return Ok(None);
            };
            if record.epoch < epoch {
                low = middle + 1;
            } else {
                high = middle.saturating_sub(1);
                found = Some(record);
            }
        }
        Ok(found.filter(opens))
    }

    #[cfg(test)]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }
}

impl<T> Turn<T> {
    /// Lays a record's state over this turn's; gives the state digest after it.
    fn change_state(
        &mut self,
        at: PartitionKey,
        state: Vec<(Bytes, Option<Bytes>)>,
        store: &dyn Store,
    ) -> Result<u128, StoreError> {
        let mut sum = digest::StateDigest(self.head.state);
        for (key, value) in state {
            let old = match self.sealed.get(&key) {
                Some(old) => old.clone(),
                None => store.get(at, &key)?,
            };
            sum.change(&key, old.as_deref(), value.as_deref());
            self.sealed.insert(key, value);
        }
        Ok(sum.0)
    }
}

/// The head as stored, and why the partition is broken if it is.
fn stored_head(at: PartitionKey, store: &dyn Store) -> Result<(Head, Option<String>), StoreError> {
    let Some(bytes) = store.head(at)? else {
        // Records without a head are the rest of a copy that was cut off: it begins anew.
        store.clear(at)?;
        return Ok((Head::default(), None));
    };
    match Head::decode(&bytes) {
        Ok(head) if head.lsn == Lsn(0) && head.rewind.is_some() => {
            // What is here besides is the rest of a copy that was cut off: it begins anew.
            store.clear_to(at, bytes)?;
            Ok((head, None))
        }
        Ok(head) => Ok((head, check_end(at, &head, store)?)),
        Err(error) => Ok((Head::default(), Some(error.to_string()))),
    }
}

/// Says why the log does not end where `head` says, if so.
///
/// # Errors
/// When the store cannot be read.
pub fn check_end(
    at: PartitionKey,
    head: &Head,
    store: &dyn Store,
) -> Result<Option<String>, StoreError> {
    // Without a record everything was trimmed by retention: the head alone stands.
    let Some(bounds) = store.log_bounds(at)? else {
        return Ok(None);
    };
    if bounds.last_lsn != head.lsn {
        return Ok(Some(format!(
            "the log ends at {}, its head says {}",
            bounds.last_lsn, head.lsn
        )));
    }
    let last = match store.read_log(at, head.lsn, 1) {
        Ok(page) => page.into_iter().next(),
        Err(StoreError::Corrupt { why, .. }) => return Ok(Some(why)),
        Err(error) => return Err(error),
    };
    let fits = last.is_some_and(|r| replication::record::crc_of(&r.bytes) == head.crc);
    Ok((!fits).then(|| {
        format!(
            "the last record ({}) is not the one its head names",
            head.lsn
        )
    }))
}
