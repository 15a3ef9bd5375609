//! I8: every failover ends, or has a legal next command, within its budget; and when nothing is broken any more, the hub answers.

use super::losses::{Fate, Losses};
use super::questions::Questions;
use crate::history::{Asked, Entry, History, Outcome};
use types::limits;

/// Longest failover of a healthy world that began before it was healed: check, warm and pause each at their limit, the wait for
/// the follower, and what records and calls take.
const HEALED_MS_MAX: i64 = limits::FAILOVER_CHECK_MS_MAX
    + limits::FAILOVER_WARM_MS_MAX
    + limits::FAILOVER_PAUSE_CEILING_MS
    + 10_000
    + 5_000;

pub fn check(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut found = Vec::new();
    let finals = &history.finals;
    if !history
        .entries
        .iter()
        .any(|(_, entry)| matches!(entry, Entry::Healed))
    {
        found.push("the hub never came to life".into());
    }
    for operation in &finals.operations {
        if operation.running {
            found.push(format!(
                "operation {} still runs at the end; next: {}",
                operation.id, operation.legal_next
            ));
        }
        if operation.running && operation.legal_next.starts_with("none") {
            found.push(format!(
                "operation {} runs and has no legal next command",
                operation.id
            ));
        }
        if let Some(ended) = operation
            .ended
            .filter(|ended| *ended > finals.healed + HEALED_MS_MAX)
        {
            found.push(format!(
                "operation {} ended {} ms after everything was healed",
                operation.id,
                ended - finals.healed
            ));
        }
    }
    for op in &finals.unanswered {
        let asked = questions.get(op).map(|question| &question.asked);
        found.push(format!("question {op} ({asked:?}) never had an answer"));
    }
    found.extend(unserved(history, questions, losses));
    found
}

/// The last questions are answered, with an answer that a healthy hub gives.
fn unserved(history: &History, questions: &Questions, losses: &Losses) -> Vec<String> {
    let Some(audit) = history
        .entries
        .iter()
        .position(|(_, entry)| matches!(entry, Entry::Audit))
    else {
        return vec!["the last questions were never asked".into()];
    };
    // A device whose registration was lost is not known any more.
    let forgotten = |device: u32| {
        questions.values().any(|question| {
            let registers =
                matches!(question.asked, Asked::Register { device: d, .. } if d == device);
            registers && losses.fate(question) != Fate::Kept
        })
    };
    let last = questions
        .iter()
        .filter(|(_, question)| question.invoked > audit);
    last.filter(|(_, question)| {
        let rejected = matches!(question.completed, Some((_, Outcome::Rejected(_))));
        let gone = match &question.asked {
            Asked::GetIdentity { .. } => true,
            Asked::GetTwin { device } | Asked::LockMessages { device } => forgotten(*device),
            Asked::Telemetry(id) => forgotten(id.device),
            _ => false,
        };
        !(question.is_acked() || rejected && gone)
    })
    .map(|(op, question)| {
        format!(
            "question {op} ({:?}), asked at the end, was answered with {:?}",
            question.asked, question.completed
        )
    })
    .collect()
}
