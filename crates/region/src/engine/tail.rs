//! What only the primary has, said to its partner as a word, so that a forced failover can show what it would lose.

use super::ledger::Ledger;
use super::message::{Message, SourceWord};
use super::partition::Serving;
use super::{Engine, Output, Role};
use replication::Record;
use store::StoreError;
use types::{Lsn, PartitionKey, RegionName, UnixMillis, limits};

/// Pages of older log read in one tick, over all partitions.
const PAGES_PER_TICK: usize = 4;

impl<T> Engine<T> {
    /// At a tick: each partition led here says what only it has. Said also while the partner is not linked: the control plane
    /// hears it on another way.
    pub(super) fn say_words(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        self.look_back(out);
        for (at, partition) in &mut self.partitions {
            let role = self.hubs.get(&at.hub).map(|hub| &hub.role);
            let Some(peer) = role.and_then(|role| role.peer.as_ref()) else {
                continue;
            };
            if partition.serving == Serving::No || partition.turn.opens {
                continue;
            }
            let (head, confirmed) = (partition.head, partition.shipper.confirmed());
            let ledger = &mut partition.ledger;
            ledger.confirmed(confirmed);
            ledger.prune();
            if !ledger.says(head.epoch, head.lsn, now) {
                continue;
            }
            let word = SourceWord {
                epoch: head.epoch,
                lsn: head.lsn,
                next_sequence: head.next_sequence,
                time: head.time,
                tail: ledger.tail(confirmed, head.lsn),
            };
            out.push(Output::Send {
                to: peer.clone(),
                message: Message::Word { at: *at, word },
            });
        }
    }

    /// Reads back what the log had before this region led and its follower still lacks.
    fn look_back(&mut self, out: &mut Vec<Output<T>>) {
        let mut pages = PAGES_PER_TICK;
        for (at, partition) in &mut self.partitions {
            let confirmed = partition.shipper.confirmed();
            let known = partition.shipper.connected() || confirmed > Lsn(0);
            if partition.serving == Serving::No || !known || self.failed.is_some() {
                continue;
            }
            partition.ledger.confirmed(confirmed);
            let Some(first) = partition.ledger.lacks(confirmed).filter(|_| pages > 0) else {
                continue;
            };
            pages -= 1;
            if let Err(error) = look_at_page(&mut partition.ledger, *at, first, &*self.store) {
                partition.ledger.give_up();
                out.push(Output::Alarm {
                    at: Some(*at),
                    text: format!("what its partner lacks cannot be counted: {error}"),
                });
            }
        }
    }

    /// The primary's word, as its secondary hears it.
    pub(super) fn word(&mut self, from: &RegionName, at: PartitionKey, word: SourceWord) {
        let role = self.hubs.get(&at.hub).map(|hub| &hub.role);
        let told = role.is_some_and(|role| {
            role.role == Role::Secondary
                && role.peer.as_ref() == Some(from)
                && word.epoch >= role.epoch
        });
        let heard = (self.monotonic)();
        if let (true, Some(partition)) = (told, self.partitions.get_mut(&at)) {
            let known = partition.word.as_ref().map(|(known, _)| known.epoch);
            if known.is_none_or(|known| known <= word.epoch) {
                partition.word = Some((word, heard));
            }
        }
    }
}

fn look_at_page(
    ledger: &mut Ledger,
    at: PartitionKey,
    first: Lsn,
    store: &dyn store::Store,
) -> Result<(), StoreError> {
    let kept = store.log_bounds(at)?.map(|bounds| bounds.first_lsn);
    let Some(kept) = kept.filter(|kept| *kept < ledger.begins()) else {
        // All of it is trimmed: the follower takes a copy.
        ledger.all_found();
        return Ok(());
    };
    let page = store.read_log(at, first.max(kept), limits::SHIP_PAGE_BYTES_MAX)?;
    for logged in page {
        if logged.lsn >= ledger.begins() {
            break;
        }
        let record = Record::decode(&logged.bytes).map_err(|error| StoreError::Corrupt {
            partition: at,
            at: logged.lsn,
            why: error.to_string(),
        })?;
        ledger.found(&record, logged.bytes.len());
    }
    Ok(())
}
