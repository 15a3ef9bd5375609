//! Where faults are put into the world. Nothing here runs without one.

use super::World;
use crate::fault::Fault;
use crate::history::{Asked, Entry, Got, OpId, RegionId};
use bytes::Bytes;
use region::engine::Message;
use replication::Record;
use store::{PartitionCommit, Store};
use types::{PartitionKey, Sequence};

impl World {
    /// What a message on the link becomes.
    pub(super) fn faulty_message(&mut self, message: Message) -> Message {
        match (self.fault, message) {
            (
                Some(Fault::DropRecordWhileCopying),
                Message::LogPage {
                    at,
                    id,
                    mut records,
                },
            ) => {
                let events = |bytes: &Bytes| Record::decode(bytes).is_ok_and(|r| r.event_count > 0);
                let first = records.iter().position(events);
                if let Some(first) = first.filter(|first| first + 1 < records.len()) {
                    records.drain(..=first);
                }
                Message::LogPage { at, id, records }
            }
            (_, message) => message,
        }
    }

    /// What a client is told instead of the truth.
    pub(super) fn faulty_answer(&mut self, op: OpId, got: Got) -> Got {
        let Some(fault) = self.fault else { return got };
        let Some(asked) = self.ops.get(&op).map(|open| open.asked.clone()) else {
            return got;
        };
        match (fault, asked, got) {
            (Fault::OldTwin, Asked::GetTwin { device }, Got::Twin(seen)) => {
                let old = self
                    .old_twins
                    .entry(device)
                    .or_insert_with(|| seen.clone())
                    .clone();
                Got::Twin(if self.rng.chance(20) { old } else { seen })
            }
            (
                Fault::DeliverExpired | Fault::DeliverCompleted,
                Asked::LockMessages { .. },
                Got::Messages(mut messages),
            ) => {
                let now = super::clock::EPOCH_MS + self.now;
                let again = self
                    .delivered
                    .iter()
                    .find(|old| fault == Fault::DeliverCompleted || old.expiry.0 < now - 2000)
                    .cloned();
                self.delivered.extend(messages.iter().cloned());
                messages.extend(again);
                Got::Messages(messages)
            }
            (Fault::HideMessage, Asked::LockMessages { .. }, Got::Messages(mut messages)) => {
                messages.retain(|message| message.message % 7 != 0);
                Got::Messages(messages)
            }
            (_, _, got) => got,
        }
    }

    /// An entry as it is recorded.
    pub(super) fn faulty_entry(&self, entry: Entry) -> Entry {
        match (self.fault, entry) {
            (
                Some(Fault::RenameEvent),
                Entry::Logged {
                    region: 1,
                    at,
                    lsn,
                    sequence: Sequence(n),
                    epoch,
                    mut event,
                },
            ) if n % 13 == 5 => {
                event.counter += 1;
                Entry::Logged {
                    region: 1,
                    at,
                    lsn,
                    sequence: Sequence(n),
                    epoch,
                    event,
                }
            }
            (_, entry) => entry,
        }
    }

    /// [`Fault::ChangeState`], once everything is in step.
    pub(super) fn faulty_disk(&mut self) {
        if self.fault == Some(Fault::ChangeState) {
            self.change_behind(1, self.partitions[0]);
        }
    }

    /// [`Fault::KeepDivergedKey`], when a region has given up its records.
    pub(super) fn faulty_rewind(&mut self, region: RegionId, at: PartitionKey) {
        if self.fault == Some(Fault::KeepDivergedKey) {
            self.change_behind(region, at);
        }
    }

    fn change_behind(&mut self, region: RegionId, at: PartitionKey) {
        let entry = (b"zz".to_vec().into(), Some(b"not there".to_vec().into()));
        let commit = PartitionCommit {
            state: vec![entry],
            ..PartitionCommit::default()
        };
        // A disk that is broken now misses this fault.
        let _ = self.regions[region].store.commit(vec![(at, commit)]);
    }
}
