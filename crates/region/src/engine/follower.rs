//! The follower's side: ask the primary for what is missing, apply it, confirm it; take a whole copy when needed.

use super::message::Message;
use super::partition::{Partition, check_end};
use super::rewind::{Difference, Search, arrived, emptied};
use super::{Engine, Output, Role, Touched};
use bytes::Bytes;
use replication::{Body, Head, Mismatch, Record, Stage};
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
    /// Its own records are not the primary's: the last common one is looked for.
    Searching {
        search: Box<Search>,
        heard: UnixMillis,
    },
    /// What its own records changed is being taken back; `heard`: when it asked or heard last, `None`: to be asked.
    Rewinding {
        work: Box<Difference>,
        heard: Option<UnixMillis>,
    },
}

/// How far a copy is.
#[derive(Debug, PartialEq, Eq)]
pub enum CopyStep {
    State { after: Option<Bytes> },
    Log { next: Lsn },
}

impl Following {
    /// What was asked for may not come. A rewind goes on where it is: its source remembers nothing.
    pub fn ask_again(&mut self) {
        match self {
            Following::Rewinding { heard, .. } => *heard = None,
            other => *other = Following::Idle,
        }
    }

    /// Whatever is under way begins anew.
    pub fn give_up(&mut self) {
        *self = Following::Idle;
    }

    pub fn name(&self) -> &'static str {
        match self {
            Following::Idle => "idle",
            Following::Asked { .. } => "asked",
            Following::Streaming { .. } => "streaming",
            Following::Copying { .. } => "copying",
            Following::Searching { .. } => "searching",
            Following::Rewinding { .. } => "rewinding",
        }
    }
}

impl<T> Engine<T> {
    /// Asks for what is missing wherever nothing is under way.
    pub(super) fn follow_up(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        let mut rewinding = Vec::new();
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
                Following::Copying { heard, .. } | Following::Searching { heard, .. } => {
                    now.since(*heard) >= ASK_AGAIN_MS * 5
                }
                Following::Rewinding { heard, .. } => {
                    if heard.is_none_or(|heard| now.since(heard) >= ASK_AGAIN_MS) {
                        rewinding.push(*at);
                    }
                    false
                }
            };
            if !due {
                continue;
            }
            partition.following = Following::Asked { at: now };
            let message = Message::Follow {
                at: *at,
                epoch: partition.head.epoch,
                lsn: partition.head.lsn,
                crc: partition.head.crc,
            };
            out.push(Output::Send {
                to: primary.clone(),
                message,
            });
        }
        for at in rewinding {
            self.go_on_rewinding(at, now, out);
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
        let elsewhere = matches!(
            partition.following,
            Following::Copying { .. } | Following::Searching { .. } | Following::Rewinding { .. }
        );
        // Content that is half rewound does not continue any history.
        let half = partition
            .head
            .rewind
            .is_some_and(|r| r.stage == Stage::Difference);
        if partition.broken.is_some() || elsewhere || half {
            return;
        }
        if refills {
            partition.refill.heard(now);
        } else {
            partition.following = Following::Streaming { heard: now };
        }
        let mut anew = None;
        for bytes in records {
            touched.bytes += bytes.len();
            if partition.head.rewind.is_some() {
                partition.rewind_bytes += bytes.len() as u64;
                self.stats.rewind_bytes += bytes.len() as u64;
            }
            // Also when it fails: the turn's end sees to that.
            touched.partitions.insert(at);
            match take_record(partition, bytes, refills, &*self.store) {
                Ok(Taken::Next) => {
                    touched.applied.insert(at);
                }
                Ok(Taken::Goal) => {
                    touched.applied.insert(at);
                    partition.said.clear();
                    let text = "it has what the other region has again, and follows it".into();
                    out.push(Output::Alarm { at: Some(at), text });
                }
                Ok(Taken::Nothing) => {}
                Err(Trouble::Anew(why)) => {
                    anew = Some(why);
                    break;
                }
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
        let goal = partition.head.rewind.map(|rewind| rewind.goal);
        if let (Some(why), Some(goal)) = (anew, goal) {
            self.take_anew(at, goal, &why, out);
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
            Following::Idle
            | Following::Streaming { .. }
            | Following::Searching { .. }
            | Following::Rewinding { .. } => refills,
        };
        if !asked || partition.broken.is_some() {
            return;
        }
        let head = match Head::decode(head) {
            Ok(head) => Box::new(Head {
                rewind: None,
                ..head
            }),
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
        let marked = emptied(&partition.head, head.goal());
        if let Err(error) = self.store.clear_to(at, marked.encode().into()) {
            self.copy_failed(at, &error, out);
            return;
        }
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("taking a copy from {from} as of lsn {}", head.lsn),
        });
        partition.reset(marked);
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
        let commit = PartitionCommit {
            records: stored,
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
        // Only now: a partition with this head may be led.
        let commit = PartitionCommit {
            head: Some(head.encode().into()),
            ..PartitionCommit::default()
        };
        if let Err(error) = self.store.commit(vec![(at, commit)]) {
            return self.copy_failed(at, &error, out);
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
        if !refills {
            self.ask_from_here(at, now, out);
        }
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
        let goal = partition.head.rewind.map(|rewind| rewind.goal);
        let marked = emptied(&partition.head, goal.unwrap_or_default());
        partition.reset(marked);
        partition.following.give_up();
        partition.refill.ask_again();
        if let Err(error) = self.store.clear_to(at, marked.encode().into()) {
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

    pub(super) fn store_trouble(
        &mut self,
        at: PartitionKey,
        error: &StoreError,
        out: &mut Vec<Output<T>>,
    ) {
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
    /// What was applied is not what the other region has: all of it is to be taken anew.
    Anew(String),
    /// The store cannot be read: the turn as a whole fails.
    Store,
}

/// What became of a record.
enum Taken {
    /// It was here already.
    Nothing,
    Next,
    /// With it a return is complete.
    Goal,
}

/// Takes a record into the turn.
fn take_record<T>(
    partition: &mut Partition<T>,
    bytes: Bytes,
    refills: bool,
    store: &dyn store::Store,
) -> Result<Taken, Trouble> {
    let record = Record::decode(&bytes).map_err(|error| Trouble::Stop(error.to_string()))?;
    match replication::follows(&partition.turn.head, &record) {
        Ok(()) => {}
        Err(Mismatch::Old { .. }) => return Ok(Taken::Nothing),
        Err(Mismatch::Gap { .. }) => return Err(Trouble::AskAgain),
        Err(mismatch) => return Err(Trouble::Stop(mismatch.to_string())),
    }
    if let Body::Handover { state, chain } = &record.body {
        let head = &partition.turn.head;
        // Up to the goal of a return neither is the one of the other region.
        let comparable = head.rewind.is_none_or(|r| r.stage != Stage::Replay);
        if comparable && (state.0, *chain) != (head.state, head.chain) {
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
    let stage = partition.turn.head.rewind.map(|rewind| rewind.stage);
    match arrived(&mut partition.turn.head) {
        Ok(true) => Ok(Taken::Goal),
        Ok(false) => Ok(Taken::Next),
        Err(why) if stage == Some(Stage::Replay) => Err(Trouble::Anew(why)),
        Err(why) => Err(Trouble::Stop(why)),
    }
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
