//! I4: a sequence number names one event of an epoch for ever, in every region and to every consumer; logs have no gap; a consumer
//! skips nothing, and one that read what a forced failover gave up is put back to where that began, and told.

use super::losses::Losses;
use super::questions::Questions;
use crate::history::{Asked, Entry, EventId, Got, History, Outcome};
use std::collections::BTreeMap;
use types::{Epoch, PartitionKey, Sequence};

pub fn check(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut found = Vec::new();
    let names = names(history, &mut found);
    contiguous(history, &names, &mut found);
    consumers(history, questions, losses, &names, &mut found);
    found
}

type Names = BTreeMap<(PartitionKey, Sequence, Epoch), EventId>;

fn names(history: &History, found: &mut Vec<String>) -> Names {
    let mut names = Names::new();
    for (when, entry) in &history.entries {
        let Entry::Logged {
            region,
            at,
            sequence,
            epoch,
            event,
            ..
        } = entry
        else {
            continue;
        };
        let known = *names.entry((*at, *sequence, *epoch)).or_insert(*event);
        if known != *event {
            found.push(format!("at {when} ms the log of region {region} holds {event:?} of epoch {epoch} at {at}/{sequence}, known as {known:?}"));
        }
    }
    names
}

fn contiguous(history: &History, names: &Names, found: &mut Vec<String>) {
    for partition in &history.finals.partitions {
        let (at, region) = (partition.at, partition.region);
        let mut next = partition.first_sequence;
        for (sequence, epoch, event) in &partition.events {
            if *sequence != next {
                found.push(format!(
                    "the log of region {region} goes from {next} to {sequence} at {at}"
                ));
            }
            if names
                .get(&(at, *sequence, *epoch))
                .is_some_and(|known| known != event)
            {
                found.push(format!("region {region} ends with {event:?} at {at}/{sequence}, which was another event before"));
            }
            next = Sequence(sequence.0 + 1);
        }
        if next != partition.next_sequence {
            found.push(format!(
                "the log of region {region} ends at {next}, its head says {} at {at}",
                partition.next_sequence
            ));
        }
    }
}

/// Where a consumer stands, by what it was given.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    next: Sequence,
    /// In which it read last.
    epoch: Epoch,
}

/// Each consumer reads on from where it was put, up to what retention has taken.
fn consumers(
    history: &History,
    questions: &Questions,
    losses: &Losses,
    names: &Names,
    found: &mut Vec<String>,
) {
    let mut places: BTreeMap<(u32, PartitionKey), Place> = BTreeMap::new();
    let mut trimmed: BTreeMap<PartitionKey, Sequence> = BTreeMap::new();
    for (_, entry) in &history.entries {
        match entry {
            Entry::Trimmed { at, first, .. } => {
                let known = trimmed.entry(*at).or_default();
                *known = (*known).max(*first);
            }
            Entry::Positioned { consumer, at, next } => {
                let (epoch, next) = next.unwrap_or_default();
                let next = Sequence(next);
                places.insert((*consumer, *at), Place { next, epoch });
            }
            Entry::Completed {
                op,
                outcome: Outcome::Acked(got @ Got::Events { .. }),
            } => {
                let Some(Asked::ReadEvents { consumer, at, .. }) =
                    questions.get(op).map(|question| &question.asked)
                else {
                    continue;
                };
                let gone = trimmed.get(at).copied().unwrap_or_default();
                let place = places.entry((*consumer, *at)).or_default();
                let read = Read {
                    consumer: *consumer,
                    at: *at,
                    gone,
                    losses,
                    names,
                };
                read.follow(place, got, found);
            }
            _ => {}
        }
    }
}

/// One answer to a consumer.
struct Read<'a> {
    consumer: u32,
    at: PartitionKey,
    /// Retention has taken what comes before.
    gone: Sequence,
    losses: &'a Losses,
    names: &'a Names,
}

impl Read<'_> {
    fn follow(&self, place: &mut Place, got: &Got, found: &mut Vec<String>) {
        let Read {
            consumer, at, gone, ..
        } = self;
        let Got::Events {
            events,
            epoch: now,
            rewound,
            ..
        } = got
        else {
            return;
        };
        if let Some((from, to)) = rewound {
            if !self.may_be_put(place, *from, *to, *now) {
                found.push(format!("consumer {consumer} stood at {place:?} and was put from {from} back to {to} at {at}"));
            }
            *place = Place {
                next: *to,
                epoch: *now,
            };
        }
        for (sequence, epoch, event) in events {
            let next = place.next;
            let skipped = *sequence > next && *sequence > (*gone).max(next);
            if skipped || *sequence < next {
                found.push(format!("consumer {consumer} was to read {next} and got {sequence} at {at} (kept from {gone})"));
            }
            if let Some(cut) = self
                .cut_between(place.epoch, *epoch)
                .filter(|cut| *cut < next)
            {
                found.push(format!("consumer {consumer}, which had read up to {next} in epoch {}, went on in epoch {epoch}, which parts at {cut}, without being put back, at {at}", place.epoch));
            }
            match self.names.get(&(*at, *sequence, *epoch)) {
                Some(known) if known == event => {}
                known => found.push(format!("consumer {consumer} read {event:?} of epoch {epoch} at {at}/{sequence}; the log says {known:?}")),
            }
            *place = Place {
                next: Sequence(sequence.0 + 1),
                epoch: *now,
            };
        }
    }

    /// Where the histories of two epochs part first.
    fn cut_between(&self, before: Epoch, now: Epoch) -> Option<Sequence> {
        let later = self.losses.0.iter();
        later
            .filter(|loss| before < loss.epoch && loss.epoch <= now)
            .filter_map(|loss| Some(loss.positions.get(&self.at)?.1))
            .min()
    }

    fn may_be_put(&self, place: &Place, from: Sequence, to: Sequence, now: Epoch) -> bool {
        from == place.next && to < from && self.cut_between(place.epoch, now) == Some(to)
    }
}
