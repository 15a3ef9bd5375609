//! The follower's side: ask the primary for what is missing, apply it, confirm it; take a whole copy when needed.

use super::message::Message;
use super::partition::{Partition, check_end};
use super::{Engine, Output, Role, Touched};
use bytes::Bytes;
use replication::{Body, Head, Mismatch, Record};
use store::{LogRecord, PartitionCommit, StoreError};
use types::{Epoch, Lsn, PartitionKey, RegionName, UnixMillis};

/// A question without an answer is asked again after this long.
const ASK_AGAIN_MS: i64 = 2000;

/// What a secondary's partition is doing about its primary.
#[derive(Debug, Default)]
pub enum Following {
    /// It will ask at the next tick.
    #[default]
    Idle,
    Asked {
        at: UnixMillis,
    },
    /// Records come; asked again when nothing came for a while, which costs nothing if nothing is missing.
    Streaming {
        heard: UnixMillis,
    },
    /// A copy is being taken.
    Copying {
        id: u64,
        head: Box<Head>,
        heard: UnixMillis,
        step: CopyStep,
    },
}

/// How far a copy is.
#[derive(Debug, PartialEq, Eq)]
pub enum CopyStep {
    State { after: Option<Bytes> },
    Log { next: Lsn },
}

impl Following {
    pub fn ask_again(&mut self) {
        *self = Following::Idle;
    }

    pub fn name(&self) -> &'static str {
        match self {
            Following::Idle => "idle",
            Following::Asked { .. } => "asked",
            Following::Streaming { .. } => "streaming",
            Following::Copying { .. } => "copying",
        }
    }
}

impl<T> Engine<T> {
    /// Asks for what is missing wherever nothing is under way.
    pub(super) fn follow_up(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        for (at, partition) in &mut self.partitions {
            let Some(role) = self.hubs.get(&at.hub).map(|hub| &hub.role) else {
                continue;
            };
            let (Role::Secondary, Some(primary)) = (role.role, &role.peer) else {
                continue;
            };
            if partition.broken.is_some() || self.links.get(primary) != Some(&true) {
                continue;
            }
            let due = match &partition.following {
                Following::Idle => true,
                Following::Asked { at } | Following::Streaming { heard: at } => {
                    now.since(*at) >= ASK_AGAIN_MS
                }
                Following::Copying { heard, .. } => now.since(*heard) >= ASK_AGAIN_MS * 5,
            };
            if !due {
                continue;
            }
            partition.following = Following::Asked { at: now };
            let message = Message::Follow {
                at: *at,
                lsn: partition.head.lsn,
                crc: partition.head.crc,
            };
            out.push(Output::Send {
                to: primary.clone(),
                message,
            });
        }
    }

    pub(super) fn link(&mut self, peer: RegionName, up: bool) {
        for (at, partition) in &mut self.partitions {
            let theirs = self
                .hubs
                .get(&at.hub)
                .is_some_and(|hub| hub.role.peer.as_ref() == Some(&peer));
            if theirs {
                partition.shipper.disconnect();
                partition.following.ask_again();
                partition.refill.ask_again();
            }
        }
        self.links.insert(peer, up);
    }

    /// Is `from` the hub's other region, and this one its secondary?
    pub(super) fn follows(&self, at: PartitionKey, from: &RegionName) -> bool {
        self.hubs.get(&at.hub).is_some_and(|hub| {
            hub.role.role == Role::Secondary && hub.role.peer.as_ref() == Some(from)
        })
    }

    pub(super) fn records(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        records: Vec<Bytes>,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let refills = self.refills(at, from);
        if !refills && !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if partition.broken.is_some() || matches!(partition.following, Following::Copying { .. }) {
            return;
        }
        if refills {
            partition.refill.heard(now);
        } else {
            partition.following = Following::Streaming { heard: now };
        }
        for bytes in records {
            touched.bytes += bytes.len();
            // Also when it fails: the turn's end sees to that.
            touched.partitions.insert(at);
            match take_record(partition, bytes, refills, &*self.store) {
                Ok(true) => {
                    touched.applied.insert(at);
                }
                Ok(false) => {}
                Err(Trouble::AskAgain) => {
                    partition.following.ask_again();
                    partition.refill.ask_again();
                    break;
                }
                Err(Trouble::Stop(why)) => {
                    out.push(Output::Alarm {
                        at: Some(at),
                        text: format!("stopped following: {why}"),
                    });
                    partition.broken = Some(why);
                    break;
                }
                Err(Trouble::Store) => break,
            }
        }
    }

    pub(super) fn bootstrap(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        id: u64,
        head: &Bytes,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let refills = self.refills(at, from);
        if !refills && !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        // Only an answer to a question of ours may empty the partition.
        let asked = match partition.following {
            Following::Asked { .. } | Following::Copying { .. } => true,
            Following::Idle | Following::Streaming { .. } => refills,
        };
        if !asked || partition.broken.is_some() {
            return;
        }
        let head = match Head::decode(head) {
            Ok(head) => Box::new(head),
            Err(error) => {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
                return;
            }
        };
        let own = partition.head.lsn;
        if own > head.lsn || refills && own > Lsn(0) {
            let why = format!(
                "{from} offers a copy up to lsn {}, but records up to {own} are here; nothing is overwritten",
                head.lsn
            );
            out.push(Output::Alarm {
                at: Some(at),
                text: format!("stopped: {why}"),
            });
            partition.broken = Some(why);
            return;
        }
        if let Err(error) = self.store.clear(at) {
            self.copy_failed(at, &error, out);
            return;
        }
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("taking a copy from {from} as of lsn {}", head.lsn),
        });
        partition.reset(Head::default());
        partition.following = Following::Copying {
            id,
            head,
            heard: now,
            step: CopyStep::State { after: None },
        };
        out.push(Output::Send {
            to: from.clone(),
            message: Message::StateNext {
                at,
                id,
                after: None,
            },
        });
    }

    /// Pages of a copy are taken from the hub's other region only, and not while the store is in trouble.
    fn copies_from(&self, at: PartitionKey, from: &RegionName) -> bool {
        self.failed.is_none() && (self.follows(at, from) || self.refills(at, from))
    }

    pub(super) fn state_page(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        id: u64,
        entries: Vec<(Bytes, Bytes)>,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.copies_from(at, from) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let Following::Copying {
            id: mine,
            heard,
            step,
            ..
        } = &mut partition.following
        else {
            return;
        };
        if *mine != id || !matches!(step, CopyStep::State { .. }) {
            return;
        }
        *heard = now;
        partition.refill.heard(now);
        let message = match entries.last() {
            Some((last, _)) => {
                let after = Some(last.clone());
                *step = CopyStep::State {
                    after: after.clone(),
                };
                Message::StateNext { at, id, after }
            }
            None => {
                *step = CopyStep::Log { next: Lsn(0) };
                Message::LogNext {
                    at,
                    id,
                    from: Lsn(0),
                }
            }
        };
        let state = entries.into_iter().map(|(k, v)| (k, Some(v))).collect();
        let commit = PartitionCommit {
            state,
            ..PartitionCommit::default()
        };
        if let Err(error) = self.store.commit(vec![(at, commit)]) {
            self.copy_failed(at, &error, out);
            return;
        }
        out.push(Output::Send {
            to: from.clone(),
            message,
        });
    }

    pub(super) fn log_page(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        id: u64,
        records: Vec<Bytes>,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.copies_from(at, from) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let Following::Copying {
            id: mine,
            head,
            heard,
            step: CopyStep::Log { next },
        } = &mut partition.following
        else {
            return;
        };
        if *mine != id {
            return;
        }
        *heard = now;
        partition.refill.heard(now);
        let mut stored = Vec::with_capacity(records.len());
        for bytes in records {
            let record = match Record::decode(&bytes) {
                Ok(record) => record,
                Err(error) => return self.copy_anew(at, &error.to_string(), out),
            };
            if record.lsn > head.lsn {
                break;
            }
            *next = record.lsn.next();
            stored.push(log_record(&record, bytes));
        }
        // Without any record all of the log is trimmed there: the head stands alone.
        let done = *next > head.lsn || stored.is_empty() && *next == Lsn(0);
        if stored.is_empty() && !done {
            return self.copy_anew(at, "the log ended before its head", out);
        }
        let head_now = done.then(|| Bytes::from(head.encode()));
        let commit = PartitionCommit {
            records: stored,
            head: head_now,
            ..PartitionCommit::default()
        };
        let (next, head) = (*next, **head);
        if let Err(error) = self.store.commit(vec![(at, commit)]) {
            self.copy_failed(at, &error, out);
            return;
        }
        if done {
            self.copy_done(from, at, head, now, out);
        } else {
            out.push(Output::Send {
                to: from.clone(),
                message: Message::LogNext { at, id, from: next },
            });
        }
    }

    /// The copy is complete: its content must have the digest its head names, then following goes on from there.
    fn copy_done(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        head: Head,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let checked = stored_digest(&*self.store, at)
            .and_then(|digest| Ok((digest, check_end(at, &head, &*self.store)?)));
        match checked {
            Ok((digest, None)) if digest == head.state => {}
            Ok((_, None)) => return self.copy_anew(at, "its digest is wrong", out),
            Ok((_, Some(why))) => return self.copy_anew(at, &why, out),
            Err(error) => return self.copy_failed(at, &error, out),
        }
        let refills = self.refills(at, from);
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.reset(head);
        partition.following = Following::Idle;
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("the copy is complete up to lsn {}", head.lsn),
        });
        if refills {
            return;
        }
        partition.following = Following::Asked { at: now };
        let message = Message::Follow {
            at,
            lsn: head.lsn,
            crc: head.crc,
        };
        out.push(Output::Send {
            to: from.clone(),
            message,
        });
    }

    /// What was copied is not what its source has: it goes, and the copy begins anew.
    fn copy_anew(&mut self, at: PartitionKey, why: &str, out: &mut Vec<Output<T>>) {
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("taking the copy again: {why}"),
        });
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.reset(Head::default());
        partition.following.ask_again();
        partition.refill.ask_again();
        if let Err(error) = self.store.clear(at) {
            self.store_trouble(at, &error, out);
        }
    }

    fn copy_failed(&mut self, at: PartitionKey, error: &StoreError, out: &mut Vec<Output<T>>) {
        match error {
            // The store takes nothing now; when it was recovered, the partition is opened anew and the rest of the copy goes.
            StoreError::Failed(_) => self.store_trouble(at, error, out),
            _ => self.copy_anew(at, &error.to_string(), out),
        }
    }

    fn store_trouble(&mut self, at: PartitionKey, error: &StoreError, out: &mut Vec<Output<T>>) {
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("taking a copy: {error}"),
        });
        match error {
            StoreError::Corrupt { .. } => {
                if let Some(partition) = self.partitions.get_mut(&at) {
                    partition.broken = Some(error.to_string());
                }
            }
            _ => self.failed = Some(error.to_string()),
        }
    }
}

enum Trouble {
    AskAgain,
    Stop(String),
    /// The store cannot be read: the turn as a whole fails.
    Store,
}

/// Gives true if the record was taken into the turn, false if it was here already.
fn take_record<T>(
    partition: &mut Partition<T>,
    bytes: Bytes,
    refills: bool,
    store: &dyn store::Store,
) -> Result<bool, Trouble> {
    let record = Record::decode(&bytes).map_err(|error| Trouble::Stop(error.to_string()))?;
    match replication::follows(&partition.turn.head, &record) {
        Ok(()) => {}
        Err(Mismatch::Old { .. }) => return Ok(false),
        Err(Mismatch::Gap { .. }) => return Err(Trouble::AskAgain),
        Err(mismatch) => return Err(Trouble::Stop(mismatch.to_string())),
    }
    if let Body::Handover { state, chain } = &record.body {
        let head = &partition.turn.head;
        if (state.0, *chain) != (head.state, head.chain) {
            return Err(Trouble::Stop(
                Mismatch::Digest { at: record.lsn }.to_string(),
            ));
        }
    }
    // A primary that takes back its own handover record was fenced when it wrote it, and is so again.
    let fenced = match &record.body {
        Body::Handover { .. } => Some(record.epoch),
        Body::Open | Body::Resume => Some(Epoch(0)),
        Body::Data { .. } => None,
    };
    partition
        .append(record, Some(bytes), store)
        .map_err(|_| Trouble::Store)?;
    if let (true, Some(fenced)) = (refills, fenced) {
        partition.turn.head.fenced = fenced;
    }
    Ok(true)
}

pub(super) fn log_record(record: &Record, bytes: Bytes) -> LogRecord {
    LogRecord {
        lsn: record.lsn,
        first_sequence: record.first_sequence,
        event_count: record.event_count,
        time: record.time,
        bytes,
    }
}

/// The state digest computed from what is stored.
///
/// # Errors
/// When the store cannot be read.
pub fn stored_digest(store: &dyn store::Store, at: PartitionKey) -> Result<u128, StoreError> {
    let snapshot = store.snapshot(at)?;
    let mut sum = replication::StateDigest::default();
    let mut after: Option<Bytes> = None;
    loop {
        let page = snapshot.state_page(after.as_deref(), types::limits::SNAPSHOT_PAGE_BYTES_MAX)?;
        let Some((last, _)) = page.last() else {
            return Ok(sum.0);
        };
        after = Some(last.clone());
        for (key, value) in &page {
            sum.change(key, None, Some(value));
        }
    }
}
