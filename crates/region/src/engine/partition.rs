//! One partition at run time: its head, its role, and what the current turn adds to it.

use super::Refusal;
use crate::engine::follower::Following;
use bytes::Bytes;
use hub::view::Page;
use hub::{Effect, Presence, View, ViewError};
use replication::{Body, Head, Record, Shipper, digest};
use std::collections::{BTreeMap, HashMap, VecDeque};
use store::{LogRecord, PartitionCommit, Store, StoreError};
use types::{ConnectionId, DeviceId, Lsn, PartitionKey, RegionName, Sequence, UnixMillis};

/// Recently committed records kept in memory for the follower, in bytes.
const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the region knows of a device since it started.
#[derive(Debug, Default)]
pub struct Live {
    pub presence: Option<Presence>,
    pub activity: Option<UnixMillis>,
}

/// An effect with the gateway and connection it is for.
#[derive(Debug)]
pub struct AddressedEffect {
    pub gateway: RegionName,
    pub connection: ConnectionId,
    pub effect: Effect,
}

/// An answer that must not leave before its turn is durable.
pub type Held<T> = (T, Result<super::Answer, Refusal>);

/// Answers of one turn of a `sync` hub, waiting for the partner.
pub struct Waiting<T> {
    pub lsn: Lsn,
    pub visible: Sequence,
    pub since: UnixMillis,
    pub replies: Vec<Held<T>>,
    pub effects: Vec<AddressedEffect>,
}

/// May this region serve the partition as its primary?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Not the primary.
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
    pub live: HashMap<DeviceId, Live>,
    pub waiting: VecDeque<Waiting<T>>,
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
    /// Changes that are in a record of this turn.
    sealed: BTreeMap<Bytes, Option<Bytes>>,
    records: Vec<LogRecord>,
    head_changed: bool,
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
            sealed: BTreeMap::new(),
            records: Vec::new(),
            head_changed: false,
            replies: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.open.insert(key, value);
    }

    pub fn event(&mut self, event: &hub::command::TelemetryEvent, enqueued: UnixMillis) {
        hub::telemetry::append_event(&mut self.events, event, enqueued);
        self.event_count += 1;
    }
}

impl<T> Partition<T> {
    /// Opens a partition from the store and checks that its log ends where its head says.
    ///
    /// # Errors
    /// When the store cannot be read at all; wrong content makes the partition `broken` instead.
    pub fn open(at: PartitionKey, store: &dyn Store) -> Result<Self, StoreError> {
        let mut broken = None;
        let head = match store.head(at)? {
            None => {
                // Records without a head are the rest of a copy that was cut off: it begins anew.
                store.clear(at)?;
                Head::default()
            }
            Some(bytes) => match Head::decode(&bytes) {
                Ok(head) => {
                    broken = check_end(at, &head, store)?;
                    head
                }
                Err(error) => {
                    broken = Some(error.to_string());
                    Head::default()
                }
            },
        };
        Ok(Partition {
            at,
            head,
            serving: Serving::No,
            broken,
            shipper: Shipper::default(),
            following: Following::default(),
            live: HashMap::new(),
            waiting: VecDeque::new(),
            turn: Turn::new(head),
            tail: VecDeque::new(),
            tail_bytes: 0,
        })
    }

    /// Makes one record of what is open in this turn; none if nothing is.
    ///
    /// # Errors
    /// When former values cannot be read for the state digest.
    pub fn seal(&mut self, store: &dyn Store, now: UnixMillis) -> Result<(), StoreError> {
        let turn = &mut self.turn;
        if turn.open.is_empty() && turn.event_count == 0 {
            return Ok(());
        }
        let state: Vec<_> = std::mem::take(&mut turn.open).into_iter().collect();
        let events = Bytes::from(std::mem::take(&mut turn.events));
        let event_count = std::mem::take(&mut turn.event_count);
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
        let bytes = encoded.unwrap_or_else(|| record.encode());
        let at = self.at;
        let turn = &mut self.turn;
        if let Body::Data { state, .. } = &record.body {
            let mut sum = digest::StateDigest(turn.head.state);
            for (key, value) in state {
                let old = match turn.sealed.get(key) {
                    Some(old) => old.clone(),
                    None => store.get(at, key)?,
                };
                sum.change(key, old.as_deref(), value.as_deref());
                turn.sealed.insert(key.clone(), value.clone());
            }
            turn.head.state = sum.0;
        }
        let head = &mut turn.head;
        head.epoch = record.epoch;
        head.lsn = record.lsn;
        head.next_sequence = record.next_sequence();
        head.time = head.time.max(record.time);
        head.crc = replication::record::crc_of(&bytes);
        head.chain = digest::chain(head.chain, &bytes);
        turn.head_changed = true;
        turn.records.push(LogRecord {
            lsn: record.lsn,
            first_sequence: record.first_sequence,
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

    /// What this turn commits, if anything.
    pub fn commit_of_turn(&self) -> Option<PartitionCommit> {
        let turn = &self.turn;
        turn.head_changed.then(|| PartitionCommit {
            records: turn.records.clone(),
            state: turn
                .sealed
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            head: Some(turn.head.encode().into()),
        })
    }

    /// The turn is durable: its head is the head, its records can be shipped.
    pub fn turn_committed(&mut self, now: UnixMillis) -> Turn<T> {
        let head = self.turn.head;
        let mut turn = std::mem::replace(&mut self.turn, Turn::new(head));
        self.head = head;
        for record in turn.records.drain(..) {
            self.shipper.committed(record.lsn, now);
            self.tail_bytes += record.bytes.len();
            self.tail.push_back((record.lsn, record.bytes));
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
        std::mem::replace(&mut self.turn, Turn::new(self.head))
    }

    /// After the head was set from outside (a copy was installed).
    pub fn reset(&mut self, head: Head) {
        self.head = head;
        self.turn = Turn::new(head);
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
        let in_memory = self.tail.front().is_some_and(|(first, _)| *first <= from);
        let mut out = Vec::new();
        let mut bytes = 0;
        if in_memory {
            let first = self.tail[0].0;
            for (lsn, record) in self.tail.iter().skip((from.0 - first.0) as usize) {
                if bytes > 0 && bytes + record.len() > bytes_max {
                    break;
                }
                bytes += record.len();
                out.push((*lsn, record.clone()));
            }
            return Ok(out);
        }
        let page = store.read_log(self.at, from, bytes_max)?;
        out.extend(page.into_iter().map(|record| (record.lsn, record.bytes)));
        Ok(out)
    }

    pub fn connected(&self) -> u64 {
        self.live
            .values()
            .filter(|live| live.presence.is_some())
            .count() as u64
    }
}

fn check_end(
    at: PartitionKey,
    head: &Head,
    store: &dyn Store,
) -> Result<Option<String>, StoreError> {
    if head.lsn == Lsn(0) {
        return Ok(None);
    }
    let last = store.log_bounds(at)?.map(|bounds| bounds.last_lsn);
    if last.is_some_and(|last| last != head.lsn) {
        return Ok(Some(format!(
            "the log ends at {}, its head says {}",
            last.unwrap_or_default(),
            head.lsn
        )));
    }
    if last.is_none() {
        // Everything was trimmed by retention: the head alone stands.
        return Ok(None);
    }
    match store.read_log(at, head.lsn, 1) {
        Ok(page) => {
            let fits = page
                .first()
                .is_some_and(|r| replication::record::crc_of(&r.bytes) == head.crc);
            Ok((!fits).then(|| {
                format!(
                    "the last record ({}) is not the one its head names",
                    head.lsn
                )
            }))
        }
        Err(StoreError::Corrupt { why, .. }) => Ok(Some(why)),
        Err(error) => Err(error),
    }
}

/// State as the current turn sees it: this turn's changes over what is stored.
pub struct TurnView<'a, T> {
    pub at: PartitionKey,
    pub store: &'a dyn Store,
    pub turn: &'a Turn<T>,
}

fn unreadable(error: StoreError) -> ViewError {
    ViewError(error.to_string())
}

impl<T> View for TurnView<'_, T> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self
            .turn
            .open
            .get(key)
            .or_else(|| self.turn.sealed.get(key))
        {
            Some(value) => Ok(value.clone()),
            None => self.store.get(self.at, key).map_err(unreadable),
        }
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Page, ViewError> {
        if from >= until || limit == 0 {
            return Ok(Vec::new());
        }
        let range = || {
            (
                std::ops::Bound::Included(from),
                std::ops::Bound::Excluded(until),
            )
        };
        let mut changed: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for map in [&self.turn.sealed, &self.turn.open] {
            changed.extend(
                map.range::<[u8], _>(range())
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
        }
        // Each removed or replaced entry can hide one stored entry, no more.
        let stored = self
            .store
            .scan(self.at, from, until, limit + changed.len())
            .map_err(unreadable)?;
        if changed.is_empty() {
            return Ok(stored);
        }
        let mut merged: BTreeMap<Bytes, Bytes> = stored.into_iter().collect();
        for (key, value) in changed {
            match value {
                Some(value) => merged.insert(key, value),
                None => merged.remove(&key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}
