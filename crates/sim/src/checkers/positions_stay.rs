//! I4: a sequence number names one event for ever, in every region and to every consumer; logs have no gap; a consumer skips nothing.

use super::questions::Questions;
use crate::history::{Asked, Entry, EventId, Got, History, Outcome};
use std::collections::BTreeMap;
use types::{Epoch, PartitionKey, Sequence};

pub fn check(history: &History, questions: &Questions) -> Vec<String> {
    let mut found = Vec::new();
    let names = names(history, &mut found);
    contiguous(history, &names, &mut found);
    consumers(history, questions, &names, &mut found);
    found
}

type Names = BTreeMap<(PartitionKey, Sequence), (EventId, Epoch)>;

fn names(history: &History, found: &mut Vec<String>) -> Names {
    let mut names = Names::new();
    for (when, entry) in &history.entries {
        let Entry::Logged {
            region,
            at,
            sequence,
            epoch,
            event,
        } = entry
        else {
            continue;
        };
        let known = *names.entry((*at, *sequence)).or_insert((*event, *epoch));
        if known != (*event, *epoch) {
            found.push(format!("at {when} ms the log of region {region} holds {event:?} of epoch {epoch} at {at}/{sequence}, known as {known:?}"));
        }
    }
    names
}

fn contiguous(history: &History, names: &Names, found: &mut Vec<String>) {
    for partition in &history.finals.partitions {
        let (at, region) = (partition.at, partition.region);
        let mut next = partition.first_sequence;
        for (sequence, event) in &partition.events {
            if *sequence != next {
                found.push(format!(
                    "the log of region {region} goes from {next} to {sequence} at {at}"
                ));
            }
            if names
                .get(&(at, *sequence))
                .is_some_and(|(known, _)| known != event)
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

/// Each consumer reads on from where it was put, up to what retention has taken.
fn consumers(history: &History, questions: &Questions, names: &Names, found: &mut Vec<String>) {
    let mut stands: BTreeMap<(u32, PartitionKey), Sequence> = BTreeMap::new();
    let mut trimmed: BTreeMap<PartitionKey, Sequence> = BTreeMap::new();
    for (_, entry) in &history.entries {
        match entry {
            Entry::Trimmed { at, first, .. } => {
                let known = trimmed.entry(*at).or_default();
                *known = (*known).max(*first);
            }
            Entry::Positioned { consumer, at, next } => {
                stands.insert((*consumer, *at), Sequence(next.unwrap_or(0)));
            }
            Entry::Completed {
                op,
                outcome: Outcome::Acked(Got::Events { events, .. }),
            } => {
                let Some(Asked::ReadEvents { consumer, at, .. }) =
                    questions.get(op).map(|question| &question.asked)
                else {
                    continue;
                };
                let gone = trimmed.get(at).copied().unwrap_or_default();
                let stand = stands.entry((*consumer, *at)).or_default();
                for (sequence, event) in events {
                    let skipped = *sequence > *stand && *sequence > gone.max(*stand);
                    if skipped || sequence < stand {
                        found.push(format!("consumer {consumer} was to read {stand} and got {sequence} at {at} (kept from {gone})"));
                    }
                    match names.get(&(*at, *sequence)) {
                        Some((known, _)) if known == event => {}
                        known => found.push(format!("consumer {consumer} read {event:?} at {at}/{sequence}; the log says {known:?}")),
                    }
                    *stand = Sequence(sequence.0 + 1);
                }
            }
            _ => {}
        }
    }
}
