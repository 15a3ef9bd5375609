//! I3: what a forced failover loses is a suffix per partition of the old primary's log, stands in its salvage, is no more than was
//! shown, and is what the report says.

use super::losses::{Loss, Losses, Stood};
use super::questions::Questions;
use crate::history::{Asked, History};
use std::collections::{BTreeMap, BTreeSet};
use types::{Lsn, PartitionKey};

pub fn check(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut found = Vec::new();
    for loss in &losses.0 {
        suffix(loss, &mut found);
        within_shown(loss, &mut found);
        if !loss.wiped {
            salvaged(history, loss, &mut found);
            reported(loss, &mut found);
        }
    }
    invented(history, losses, &mut found);
    if history.finals.sync {
        sync_loses_nothing(questions, losses, &mut found);
    }
    found
}

/// Everything between the position and the end is lost, and nothing else.
fn suffix(loss: &Loss, found: &mut Vec<String>) {
    for (at, records) in &loss.records {
        let Some((have, next)) = loss.common.get(at) else {
            continue;
        };
        let recorded = loss.positions.get(at);
        let right = recorded.is_some_and(|recorded| {
            recorded == &(*have, *next) || loss.unreturned && recorded.0 <= *have
        });
        if !right && !records.is_empty() {
            found.push(format!(
                "{}: the histories of {at} part after {have:?}/{next}, recorded was {recorded:?}",
                loss.operation
            ));
        }
        let mut expected = have.next();
        for lsn in records.keys() {
            if *lsn != expected {
                found.push(format!(
                    "{}: the loss of {at} goes from before {expected} to {lsn}: it is no suffix",
                    loss.operation
                ));
            }
            expected = lsn.next();
        }
        let before = loss.events.values().filter(|(key, ..)| key == at);
        for (.., sequence) in before.filter(|(.., sequence)| sequence < next) {
            found.push(format!("{}: event {at}/{sequence} is lost, though the new primary had everything before {next}", loss.operation));
        }
    }
}

/// A word is said at most once a tick, and takes its way: what came before the lease was renewed for the last time may be so much
/// younger than the last word.
const WORD_MS: i64 = 300;

/// The span of what was lost stays within the worst case that the operator saw, as old as that was when the failover began.
fn within_shown(loss: &Loss, found: &mut Vec<String>) {
    if loss.shown.unknown > 0 {
        return;
    }
    for (at, records) in &loss.records {
        let (Some((_, first)), Some((_, last))) =
            (records.first_key_value(), records.last_key_value())
        else {
            continue;
        };
        let span = last.time.since(first.time);
        if span > loss.shown.worst_ms + loss.shown.old_ms + WORD_MS {
            found.push(format!(
                "{}: {} records over {span} ms are lost of {at}, shown was {:?}",
                loss.operation,
                records.len(),
                loss.shown
            ));
        }
    }
}

/// What stands in the old primary's salvage is what was lost.
fn salvaged(history: &History, loss: &Loss, found: &mut Vec<String>) {
    for at in loss.records.keys() {
        let mine = history
            .finals
            .salvages
            .iter()
            .filter(|salvage| salvage.region == loss.from && salvage.at == *at);
        let kept: BTreeSet<(Lsn, u32)> = mine.flat_map(|salvage| salvage.records.clone()).collect();
        for (lsn, Stood { crc, .. }) in loss.given_up(*at) {
            if !kept.contains(&(lsn, crc)) {
                found.push(format!(
                    "{}: record {lsn} of {at} is lost and stands in no salvage of region {}",
                    loss.operation, loss.from
                ));
            }
        }
    }
}

/// What the returning region said is what it lost.
fn reported(loss: &Loss, found: &mut Vec<String>) {
    let Some(returned) = &loss.returned else {
        if loss.leads_again {
            return;
        }
        let lost: usize = loss.records.values().map(BTreeMap::len).sum();
        found.push(format!(
            "{}: region {} never said what it had lost ({lost} records)",
            loss.operation, loss.from
        ));
        return;
    };
    if returned.is_empty() {
        found.push(format!(
            "{}: region {} said that its disk was lost, and it was not",
            loss.operation, loss.from
        ));
        return;
    }
    let again = |at: &&PartitionKey| !loss.counts_again.contains_key(at);
    for at in loss.positions.keys().filter(again) {
        let records = loss.given_up(*at);
        let (truth, events) = (records.len() as u64, loss.events_given_up(*at) as u64);
        let said = returned.iter().find(|range| range.0 == *at);
        let (said_records, said_events) = said.map_or((0, 0), |range| (range.3, range.4));
        if (said_records, said_events) != (truth, events) {
            found.push(format!("{}: {truth} records with {events} events of {at} are lost, reported were {said_records} with {said_events}", loss.operation));
        }
        let ends = (records.first_key_value(), records.last_key_value());
        if let (Some(said), (Some((first, _)), Some((last, _)))) = (said, ends)
            && (said.1, said.2) != (*first, *last)
        {
            found.push(format!(
                "{}: records {first} to {last} of {at} are lost, reported were {} to {}",
                loss.operation, said.1, said.2
            ));
        }
    }
}

/// A salvage holds nothing but what was lost, and can be read.
fn invented(history: &History, losses: &Losses, found: &mut Vec<String>) {
    for salvage in &history.finals.salvages {
        if let Some(why) = &salvage.broken {
            found.push(format!(
                "salvage {} of region {} cannot be read: {why}",
                salvage.id, salvage.region
            ));
        }
        if salvage.count != salvage.records.len() as u64 {
            found.push(format!(
                "salvage {} of region {} says {} records and has {}",
                salvage.id,
                salvage.region,
                salvage.count,
                salvage.records.len()
            ));
        }
        for (lsn, crc) in &salvage.records {
            let lost = losses.0.iter().filter(|loss| loss.from == salvage.region);
            let mut stood = lost.filter_map(|loss| loss.records.get(&salvage.at)?.get(lsn));
            if !stood.any(|stood| stood.crc == *crc) {
                found.push(format!(
                    "salvage {} of region {} has record {lsn}, which was not lost",
                    salvage.id, salvage.region
                ));
            }
        }
    }
}

/// A `sync` hub acknowledges what its partner has: a forced failover loses nothing of it. One whose partner was left behind by a
/// former forced failover acknowledges alone, and that is known.
fn sync_loses_nothing(questions: &Questions, losses: &Losses, found: &mut Vec<String>) {
    for (op, question) in questions.iter().filter(|(_, question)| question.is_acked()) {
        let writes = !matches!(
            question.asked,
            Asked::GetTwin { .. }
                | Asked::GetIdentity { .. }
                | Asked::GetOffset { .. }
                | Asked::Identify { .. }
                | Asked::ReadEvents { .. }
        );
        let lost = losses.0.iter().filter(|loss| !loss.unreturned);
        let lost = lost
            .filter_map(|loss| loss.part_of(question))
            .any(|sure| sure);
        if writes && lost {
            found.push(format!(
                "question {op} ({:?}) was acknowledged by a sync hub and is lost",
                question.asked
            ));
        }
    }
}
