//! Clients' questions with their answers, put together from a history.

use crate::history::{Asked, Entry, Got, History, OpId, Outcome, RegionId};
use std::collections::BTreeMap;
use types::{Epoch, Lsn, PartitionKey, UnixMillis};

/// One question. Places are positions in the history, which order everything that clients saw.
#[derive(Clone, Debug)]
pub struct Question {
    pub asked: Asked,
    pub invoked: usize,
    pub completed: Option<(usize, Outcome)>,
    pub decided: Option<Decided>,
}

/// Which region decided it, in which turn of any engine, and what its clock showed; what it wrote stands after record `after`,
/// up to record `upto`.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    pub region: RegionId,
    pub at: PartitionKey,
    pub epoch: Epoch,
    pub turn: u64,
    pub clock: UnixMillis,
    pub after: Lsn,
    pub upto: Lsn,
}

pub type Questions = BTreeMap<OpId, Question>;

pub fn of(history: &History) -> Questions {
    let mut all = Questions::new();
    for (place, (_, entry)) in history.entries.iter().enumerate() {
        match entry {
            Entry::Invoked { op, asked, .. } => {
                let question = Question {
                    asked: asked.clone(),
                    invoked: place,
                    completed: None,
                    decided: None,
                };
                all.insert(*op, question);
            }
            Entry::Completed { op, outcome } => {
                if let Some(question) = all.get_mut(op) {
                    question.completed = Some((place, outcome.clone()));
                }
            }
            Entry::Answered {
                op,
                region,
                at,
                epoch,
                turn,
                clock,
                after,
                upto,
            } => {
                if let Some(question) = all.get_mut(op) {
                    question.decided = Some(Decided {
                        region: *region,
                        at: *at,
                        epoch: *epoch,
                        turn: *turn,
                        clock: *clock,
                        after: *after,
                        upto: *upto,
                    });
                }
            }
            _ => {}
        }
    }
    all
}

impl Question {
    pub fn got(&self) -> Option<&Got> {
        match &self.completed {
            Some((_, Outcome::Acked(got))) => Some(got),
            _ => None,
        }
    }

    /// Where its answer came; `None`: never.
    pub fn answered(&self) -> Option<usize> {
        self.completed.as_ref().map(|(place, _)| *place)
    }

    pub fn is_acked(&self) -> bool {
        self.got().is_some()
    }

    /// It was surely not done.
    pub fn is_undone(&self) -> bool {
        matches!(
            self.completed,
            Some((_, Outcome::NotDone | Outcome::Rejected(_)))
        )
    }

    /// It may or may not have been done.
    pub fn is_open(&self) -> bool {
        !self.is_acked() && !self.is_undone()
    }
}
