//! The follower's side: ask the primary for what is missing, apply it, confirm it; take a whole copy when needed.

use super::message::Message;
use super::partition::Partition;
use super::{Engine, Output, Role, Touched};
use bytes::Bytes;
use replication::{Body, Head, Mismatch, Record};
use store::{LogRecord, PartitionCommit, StoreError};
use types::{Lsn, PartitionKey, RegionName, UnixMillis};

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

    pub(super) fn link(&mut self, peer: RegionName, up: bool, out: &mut Vec<Output<T>>) {
        for (at, partition) in &mut self.partitions {
            let theirs = self
                .hubs
                .get(&at.hub)
                .is_some_and(|hub| hub.role.peer.as_ref() == Some(&peer));
            if theirs {
                partition.shipper.disconnect();
                partition.following.ask_again();
            }
        }
        self.links.insert(peer, up);
        let _ = out;
    }

    /// Is `from` the hub's other region, and this one its secondary?
    fn follows(&self, at: PartitionKey, from: &RegionName) -> bool {
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
        if !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if partition.broken.is_some() || matches!(partition.following, Following::Copying { .. }) {
            return;
        }
        partition.following = Following::Streaming { heard: now };
        for bytes in records {
            touched.bytes += bytes.len();
            match take_record(partition, bytes, &*self.store) {
                Ok(true) => {
                    touched.partitions.insert(at);
                    touched.applied.insert(at);
                }
                Ok(false) => {}
                Err(Trouble::AskAgain) => {
                    partition.following.ask_again();
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
                Err(Trouble::Store(error)) => {
                    self.failed = Some(error.to_string());
                    break;
                }
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
        if !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
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
        if let Err(error) = self.store.clear(at) {
            self.failed = Some(error.to_string());
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

    pub(super) fn state_page(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        id: u64,
        entries: Vec<(Bytes, Bytes)>,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
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
        let mut stored = Vec::with_capacity(records.len());
        for bytes in records {
            let record = match Record::decode(&bytes) {
                Ok(record) => record,
                Err(error) => {
                    out.push(Output::Alarm {
                        at: Some(at),
                        text: error.to_string(),
                    });
                    partition.following.ask_again();
                    return;
                }
            };
            if record.lsn > head.lsn {
                break;
            }
            *next = record.lsn.next();
            stored.push(log_record(&record, bytes));
        }
        let done = stored.is_empty() || *next > head.lsn;
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
        let digest = match stored_digest(&*self.store, at) {
            Ok(digest) => digest,
            Err(error) => {
                self.copy_failed(at, &error, out);
                return;
            }
        };
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if digest != head.state {
            out.push(Output::Alarm {
                at: Some(at),
                text: "the copy's digest is wrong; taking it again".into(),
            });
            partition.reset(Head::default());
            partition.following.ask_again();
            if let Err(error) = self.store.clear(at) {
                self.failed = Some(error.to_string());
            }
            return;
        }
        partition.reset(head);
        partition.following = Following::Asked { at: now };
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("the copy is complete up to lsn {}", head.lsn),
        });
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

    fn copy_failed(&mut self, at: PartitionKey, error: &StoreError, out: &mut Vec<Output<T>>) {
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("taking a copy: {error}"),
        });
        match self.partitions.get_mut(&at) {
            Some(partition) => partition.following.ask_again(),
            None => return,
        }
        if !matches!(error, StoreError::DiskFull { .. }) {
            self.failed = Some(error.to_string());
        }
    }
}

enum Trouble {
    AskAgain,
    Stop(String),
    Store(StoreError),
}

/// Gives true if the record was taken into the turn, false if it was here already.
fn take_record<T>(
    partition: &mut Partition<T>,
    bytes: Bytes,
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
    partition
        .append(record, Some(bytes), store)
        .map_err(Trouble::Store)?;
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
