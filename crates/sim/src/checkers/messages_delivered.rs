//! I6: a cloud-to-device message is not delivered after its expiry or completion, and everything accepted that is neither is still
//! there to be delivered at the end.
//!
//! Expiry counts by the clock of the region that decides, in the turn in which it decides. What a forced failover lost, messages
//! and completions, counts for nothing after it.

use super::losses::{Fate, Losses};
use super::questions::{Decided, Question, Questions};
use crate::history::{Asked, Entry, Got, History, OpId};
use std::collections::{BTreeMap, BTreeSet};

pub fn check(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut found = Vec::new();
    let sent: BTreeMap<u64, (OpId, &Question)> = questions
        .iter()
        .filter_map(|(op, question)| match question.asked {
            Asked::SendMessage { message, .. } => Some((message, (*op, question))),
            _ => None,
        })
        .collect();
    let ended = ended(questions);
    for (op, question) in questions {
        let Some(Got::Messages(messages)) = question.got() else {
            continue;
        };
        for message in messages {
            let number = message.message;
            match question.decided {
                Some(Decided { region, clock, .. }) if message.expiry <= clock => {
                    found.push(format!("question {op}: message {number} was delivered by region {region} {} ms after its expiry", clock.since(message.expiry)));
                }
                _ => {}
            }
            if sent.get(&number).is_none_or(|(_, send)| send.is_undone()) {
                found.push(format!(
                    "question {op}: message {number} was delivered and never accepted"
                ));
            }
            let Some(complete) = ended.get(&number) else {
                continue;
            };
            let (Some(now), Some(then)) = (question.decided, complete.decided) else {
                continue;
            };
            if now.turn > then.turn && !undone(losses.fate(complete), now) {
                found.push(format!("question {op}: message {number} was delivered in turn {}, after it was completed in turn {}", now.turn, then.turn));
            }
        }
    }
    found.extend(missing(history, questions, &sent, losses));
    found
}

/// What was decided then may be lost for what is decided now.
fn undone(fate: Fate, now: Decided) -> bool {
    fate.is_gone(now.epoch) || fate.is_doubtful(now.epoch)
}

/// Acknowledged completions by message.
fn ended(questions: &Questions) -> BTreeMap<u64, &Question> {
    let completions = questions.values().filter(|question| question.is_acked());
    completions
        .filter_map(|question| match question.asked {
            Asked::CompleteMessage { message, .. } => Some((message, question)),
            _ => None,
        })
        .collect()
}

fn missing(
    history: &History,
    questions: &Questions,
    sent: &BTreeMap<u64, (OpId, &Question)>,
    losses: &Losses,
) -> Vec<String> {
    let Some(audit) = history
        .entries
        .iter()
        .position(|(_, entry)| matches!(entry, Entry::Audit))
    else {
        return Vec::new();
    };
    let last = questions
        .values()
        .filter(|question| question.invoked > audit);
    let mut asked = BTreeSet::new();
    let mut there = BTreeSet::new();
    for question in last {
        if let (Asked::LockMessages { device }, Some(Got::Messages(messages))) =
            (&question.asked, question.got())
        {
            asked.insert(*device);
            there.extend(messages.iter().map(|message| message.message));
        }
    }
    let perhaps_completed: BTreeSet<u64> = questions
        .values()
        .filter(|question| !question.is_undone())
        .filter_map(|question| match question.asked {
            Asked::CompleteMessage { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    // By whichever clock, and a little more.
    let over = history.finals.epoch_ms + history.finals.over + history.finals.clock_error_ms + 1000;
    let mut found = Vec::new();
    for (message, (op, question)) in sent {
        let Asked::SendMessage { device, expiry, .. } = question.asked else {
            continue;
        };
        let waits = question.is_acked()
            && losses.fate(question) == Fate::Kept
            && expiry.0 > over
            && !perhaps_completed.contains(message)
            && asked.contains(&device);
        if waits && !there.contains(message) {
            found.push(format!("message {message} was accepted (question {op}), has not expired and was not completed, and is not delivered at the end"));
        }
    }
    found
}
