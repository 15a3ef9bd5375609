//! The return of a region whose records the other one never got: set them aside, take back what they changed, follow on from
//! the last common record (docs/adr/0014-rewind-by-difference.md). Bytes grow with the change, not with the hub.
//!
//! The follower drives; the source answers from what is durable and remembers nothing. Every step may be repeated.

mod difference;
mod goal;
mod history;
mod search;
mod source;

pub use difference::Difference;
pub(super) use goal::{arrived, emptied};
pub(super) use history::crc_at;
pub use search::Search;

use super::follower::Following;
use super::message::Message;
use super::partition::Partition;
use super::{Engine, Output};
use bytes::Bytes;
use difference::lay_over;
use history::{cut_after, kept};
use replication::{Goal, Head, Rewind, Stage};
use search::Found;
use std::collections::BTreeSet;
use store::{PartitionCommit, StoreError};
use types::{Epoch, Lsn, PartitionKey, RegionName, UnixMillis};

impl<T> Partition<T> {
    /// Why this partition must not be led: its content is on the way to what the other region has.
    pub fn returning(&self) -> Option<String> {
        let rewind = self.head.rewind;
        let aside = rewind.map_or(0, |rewind| rewind.set_aside);
        match (rewind.map(|rewind| rewind.stage), &self.following) {
            (Some(Stage::Difference), _) => Some(format!(
                "{aside} records of its own are set aside, what they changed is being taken back"
            )),
            (Some(Stage::Replay), _) => Some(format!(
                "{aside} records of its own are set aside, the other region's are applied up to {}",
                rewind.map_or(Lsn(0), |rewind| rewind.goal.lsn)
            )),
            (Some(Stage::Copy), _) => Some("its copy is not complete".into()),
            (None, Following::Searching { .. }) => Some(
                "it has records that the other region does not have; the last common one is looked for".into(),
            ),
            (None, _) => None,
        }
    }

    /// Nothing of the current turn is in it, so that a commit of its own is not mixed with the turn's.
    fn is_between_turns(&self) -> bool {
        self.turn.head == self.head
    }

    fn stage(&self) -> Option<Stage> {
        self.head.rewind.map(|rewind| rewind.stage)
    }

    /// Says something once per return, however often it is tried again.
    fn say_once(&mut self, about: &'static str, text: String, out: &mut Vec<Output<T>>) {
        if self.said.insert(about) {
            let at = Some(self.at);
            out.push(Output::Alarm { at, text });
        }
    }
}

impl<T> Engine<T> {
    /// The follower: its history is not its source's. The search begins.
    pub(super) fn diverged(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        (head, their_kept): (&Bytes, Lsn),
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let asked = matches!(partition.following, Following::Asked { .. });
        if !asked || partition.broken.is_some() || !partition.is_between_turns() {
            return;
        }
        let theirs = match Head::decode(head) {
            Ok(theirs) if theirs.rewind.is_none() => theirs,
            Ok(_) => return,
            Err(error) => return partition.say_once("head", error.to_string(), out),
        };
        let own = partition.head;
        let own_kept = match kept(at, &own, &*self.store) {
            Ok(kept) => kept,
            Err(error) => return self.return_failed(at, &error, now, out),
        };
        let Some(search) = Search::begin(&own, own_kept, theirs, their_kept) else {
            return self.nothing_common(at, &theirs, now, out);
        };
        let probe = search.probe;
        partition.following = Following::Searching {
            search: Box::new(search),
            heard: now,
        };
        partition.say_once(
            "diverged",
            format!(
                "records of epoch {} up to {} are not in the history of {from}, which is at epoch {}: looking for the last common one",
                own.epoch, own.lsn, theirs.epoch
            ),
            out,
        );
        out.push(Output::Send {
            to: from.clone(),
            message: Message::CrcAsked { at, lsn: probe },
        });
    }

    /// The follower: the checksum it asked for.
    pub(super) fn crc(
        &mut self,
        from: &RegionName,
        (at, lsn, crc): (PartitionKey, Lsn, Option<u32>),
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let own = partition.head;
        let Following::Searching { search, heard } = &mut partition.following else {
            return;
        };
        if search.probe != lsn {
            return;
        }
        *heard = now;
        let mine = match crc_at(at, &own, lsn, &*self.store) {
            Ok(mine) => mine,
            Err(error) => return self.return_failed(at, &error, now, out),
        };
        let (Some(mine), Some(theirs)) = (mine, crc) else {
            // It was trimmed on one side meanwhile: the bounds are others now.
            return partition.following.ask_again();
        };
        let theirs_head = search.theirs;
        match search.heard(mine == theirs) {
            Found::Ask(lsn) => out.push(Output::Send {
                to: from.clone(),
                message: Message::CrcAsked { at, lsn },
            }),
            Found::Common(common) => self.begin_difference(at, common, &theirs_head, now, out),
            Found::Nothing => self.nothing_common(at, &theirs_head, now, out),
        }
    }

    /// The last common record is known: what comes after it is set aside, and the partition is marked, before anything changes.
    fn begin_difference(
        &mut self,
        at: PartitionKey,
        common: Lsn,
        theirs: &Head,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if !partition.is_between_turns() || common >= partition.head.lsn {
            return partition.following.ask_again();
        }
        if partition.stage().is_some_and(|s| s != Stage::Difference) {
            // What differs is not its own, but came from the other region: nothing to set aside, all to be taken anew.
            return self.take_anew(at, theirs.goal(), "the other region's history changed", out);
        }
        match cut_after(at, common, &*self.store) {
            Ok(Some(_)) => {}
            Ok(None) => return self.nothing_common(at, theirs, now, out),
            Err(error) => return self.return_failed(at, &error, now, out),
        }
        let mut head = partition.head;
        let set_aside = match self.store.set_aside(at, common, head.epoch, now) {
            Ok(salvage) => salvage,
            Err(error) => return self.return_failed(at, &error, now, out),
        };
        let first_time = head.rewind.is_none();
        head.rewind = Some(Rewind {
            stage: Stage::Difference,
            common,
            set_aside: set_aside.as_ref().map_or(0, |s| s.records),
            goal: Goal::default(),
        });
        if let Err(error) = self.commit_alone(at, &head, Vec::new(), None) {
            return self.return_failed(at, &error, now, out);
        }
        if let (Some(salvage), true) = (&set_aside, first_time) {
            self.stats.salvaged_records += salvage.records;
            let text = format!(
                "{} records after {common} ({} events) are set aside as {}; what they changed is taken back",
                salvage.records, salvage.events, salvage.id
            );
            out.push(Output::Alarm { at: Some(at), text });
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.following = Following::Rewinding {
            work: Box::new(Difference {
                id: now.0 as u64,
                next: common.next(),
                keys: Vec::new(),
                seen: BTreeSet::new(),
                goal: theirs.goal(),
            }),
            heard: None,
        };
        self.go_on_rewinding(at, now, out);
    }

    /// Asks for the next values, or cuts the log when there are none left to ask for.
    pub(super) fn go_on_rewinding(
        &mut self,
        at: PartitionKey,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let peer = self.hubs.get(&at.hub).and_then(|hub| hub.role.peer.clone());
        let (Some(to), Some(partition)) = (peer, self.partitions.get_mut(&at)) else {
            return;
        };
        let last = partition.head.lsn;
        let Following::Rewinding { work, heard } = &mut partition.following else {
            return;
        };
        if let Err(error) = work.list(at, last, &*self.store) {
            return self.return_failed(at, &error, now, out);
        }
        if work.keys.is_empty() {
            return self.cut(at, now, out);
        }
        *heard = Some(now);
        let keys = work.keys.clone();
        let bytes = keys.iter().map(|key| key.len() as u64).sum::<u64>();
        partition.rewind_bytes += bytes;
        self.stats.rewind_bytes += bytes;
        let id = work.id;
        let message = Message::DifferenceAsked { at, id, keys };
        out.push(Output::Send { to, message });
    }

    /// The follower: values it asked for.
    pub(super) fn difference(
        &mut self,
        from: &RegionName,
        (at, id): (PartitionKey, u64),
        (head, entries): (&Bytes, Vec<(Bytes, Option<Bytes>)>),
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.follows(at, from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let mut own = partition.head;
        let between = partition.is_between_turns();
        let Following::Rewinding { work, heard } = &mut partition.following else {
            return;
        };
        let asked = entries.len() <= work.keys.len()
            && entries.iter().zip(&work.keys).all(|(e, key)| e.0 == *key);
        let (true, true, Ok(theirs)) = (work.id == id, asked, Head::decode(head)) else {
            return;
        };
        if entries.is_empty() || !between || theirs.rewind.is_some() {
            return;
        }
        *heard = None;
        if theirs.lsn > work.goal.lsn {
            work.goal = theirs.goal();
        }
        work.keys.drain(..entries.len());
        let size = |e: &(Bytes, Option<Bytes>)| e.0.len() + e.1.as_ref().map_or(0, Bytes::len);
        let bytes = entries.iter().map(size).sum::<usize>() as u64;
        partition.rewind_bytes += bytes;
        self.stats.rewind_bytes += bytes;
        let done = lay_over(at, &mut own, entries, &*self.store)
            .and_then(|state| self.commit_alone(at, &own, state, None));
        match done {
            Ok(()) => self.go_on_rewinding(at, now, out),
            Err(error) => self.return_failed(at, &error, now, out),
        }
    }

    /// Everything that the own records changed is as the other region has it, or is changed again by its records: the own ones
    /// go from the log, and following goes on from the last common one.
    fn cut(&mut self, at: PartitionKey, now: UnixMillis, out: &mut Vec<Output<T>>) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let (Following::Rewinding { work, .. }, Some(rewind)) =
            (&partition.following, partition.head.rewind)
        else {
            return;
        };
        let (common, goal) = (rewind.common, work.goal);
        let place = match cut_after(at, common, &*self.store) {
            Ok(Some(place)) if goal.lsn > common => place,
            Ok(_) => return self.take_anew(at, goal, "its log cannot be cut", out),
            Err(error) => return self.return_failed(at, &error, now, out),
        };
        let own = partition.head;
        let known = own.opened <= common;
        let head = Head {
            epoch: place.epoch,
            lsn: common,
            next_sequence: place.next_sequence,
            time: place.time,
            crc: place.crc,
            // Not known here; the goal's is taken over there.
            chain: 0,
            state: own.state,
            fenced: Epoch(0),
            opened: if known { own.opened } else { Lsn(0) },
            before: if known { own.before } else { Epoch(0) },
            rewind: Some(Rewind {
                stage: Stage::Replay,
                goal,
                ..rewind
            }),
        };
        if let Err(error) = self.commit_alone(at, &head, Vec::new(), Some(common)) {
            return self.return_failed(at, &error, now, out);
        }
        out.push(Output::Visible {
            at,
            next: head.next_sequence,
            epoch: None,
        });
        self.ask_from_here(at, now, out);
    }

    /// No record is kept on both sides that both have: what the other region cannot have is set aside, then all is copied.
    fn nothing_common(
        &mut self,
        at: PartitionKey,
        theirs: &Head,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if !partition.is_between_turns() {
            return partition.following.ask_again();
        }
        let own = partition.head;
        let floor = match kept(at, &own, &*self.store) {
            Ok(floor) => floor,
            Err(error) => return self.return_failed(at, &error, now, out),
        };
        let after = match own.rewind {
            Some(Rewind {
                stage: Stage::Difference,
                common,
                ..
            }) => common,
            Some(_) => own.lsn,
            // One epoch has one primary: up to its end the two histories are the same.
            None if own.epoch == theirs.before && theirs.opened > Lsn(0) => {
                Lsn(theirs.opened.0 - 1)
            }
            None => Lsn(0),
        };
        match self.store.set_aside(at, after.max(floor), own.epoch, now) {
            Ok(Some(salvage)) => {
                self.stats.salvaged_records += salvage.records;
                let text = format!(
                    "no record common with the other region is kept; {} records ({} events) are set aside as {}",
                    salvage.records, salvage.events, salvage.id
                );
                out.push(Output::Alarm { at: Some(at), text });
            }
            Ok(None) => {}
            Err(error) => return self.return_failed(at, &error, now, out),
        }
        self.take_anew(at, theirs.goal(), "no common record is kept", out);
    }

    /// Empties the partition and takes all of it from the other region. It cannot be led until it is at `goal`.
    pub(super) fn take_anew(
        &mut self,
        at: PartitionKey,
        goal: Goal,
        why: &str,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("taking the whole partition anew: {why}"),
        });
        let head = emptied(&partition.head, goal);
        partition.reset(head);
        partition.following.give_up();
        partition.refill.ask_again();
        if let Err(error) = self.store.clear_to(at, head.encode().into()) {
            self.store_trouble(at, &error, out);
        }
    }

    /// Commits a head, and what goes with it, apart from the turn.
    fn commit_alone(
        &mut self,
        at: PartitionKey,
        head: &Head,
        state: Vec<(Bytes, Option<Bytes>)>,
        truncate_after: Option<Lsn>,
    ) -> Result<(), StoreError> {
        let commit = PartitionCommit {
            state,
            head: Some(head.encode().into()),
            truncate_after,
            ..PartitionCommit::default()
        };
        self.stats.commits += 1;
        self.store.commit(vec![(at, commit)])?;
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.reset(*head);
        }
        Ok(())
    }

    /// A step could not be done: it is tried again from the beginning, which repeats nothing that is done.
    fn return_failed(
        &mut self,
        at: PartitionKey,
        error: &StoreError,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        match error {
            StoreError::Failed(_) | StoreError::Corrupt { .. } => {
                self.store_trouble(at, error, out);
            }
            _ => {
                if let Some(partition) = self.partitions.get_mut(&at) {
                    partition.following = Following::Asked { at: now };
                    let text = format!("giving way to the other region: {error}");
                    partition.say_once("trouble", text, out);
                }
            }
        }
    }
}

impl<T> Engine<T> {
    /// What was set aside of a hub goes with the hub.
    pub(super) fn discard_salvages(
        &self,
        gone: impl Fn(types::HubId) -> bool,
        out: &mut Vec<Output<T>>,
    ) {
        let done = self.store.salvages().and_then(|all| {
            all.iter()
                .filter(|salvage| gone(salvage.at.hub))
                .try_for_each(|salvage| self.store.discard_salvage(&salvage.id).map(drop))
        });
        if let Err(error) = done {
            out.push(Output::Alarm {
                at: None,
                text: error.to_string(),
            });
        }
    }
}

impl<T> Engine<T> {
    /// Asks the source for what comes after this region's end.
    pub(super) fn ask_from_here(
        &mut self,
        at: PartitionKey,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let peer = self.hubs.get(&at.hub).and_then(|hub| hub.role.peer.clone());
        let (Some(to), Some(partition)) = (peer, self.partitions.get_mut(&at)) else {
            return;
        };
        partition.following = Following::Asked { at: now };
        let head = &partition.head;
        let message = Message::Follow {
            at,
            epoch: head.epoch,
            lsn: head.lsn,
            crc: head.crc,
        };
        out.push(Output::Send { to, message });
    }
}
