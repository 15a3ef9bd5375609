//! What must never happen (DESIGN section 8), each in its own file, judged from a recorded history alone.

mod answers_in_time;
mod copies_equal;
mod dry_run_true;
mod loss_known;
mod losses;
mod messages_delivered;
mod nothing_lost;
mod one_active;
mod positions_stay;
mod questions;
#[cfg(test)]
mod tests;
mod versions_rise;

use crate::history::History;
use std::fmt;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I9`.
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// All violations of a history, by invariant.
pub fn check(history: &History) -> Vec<Violation> {
    let questions = questions::of(history);
    let losses = losses::of(history);
    let checks: [(&'static str, Vec<String>); 9] = [
        ("I1", one_active::check(history, &losses)),
        ("I2", nothing_lost::check(history, &questions, &losses)),
        ("I3", loss_known::check(history, &questions, &losses)),
        ("I4", positions_stay::check(history, &questions, &losses)),
        ("I5", versions_rise::check(&questions, &losses)),
        (
            "I6",
            messages_delivered::check(history, &questions, &losses),
        ),
        ("I7", copies_equal::check(history)),
        ("I8", answers_in_time::check(history, &questions, &losses)),
        ("I9", dry_run_true::check(history)),
    ];
    let violations = checks.into_iter().flat_map(|(invariant, found)| {
        found
            .into_iter()
            .map(move |what| Violation { invariant, what })
    });
    violations.collect()
}
