//! What is enumerated: every participant of every step, crashed, paused or cut, at its beginning, in its middle and at its end.

use std::fmt;

/// What happens in a run besides the one thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plot {
    Planned,
    /// The primary is lost, in one of several ways, and the hub is forced to the other region.
    Forced(Lost),
    /// Forced, then the old primary comes back.
    Return,
    /// Forced, returned, and a planned failover home.
    Failback,
    /// A planned failover that is cancelled at a step.
    Cancel,
    /// A forced failover that is cancelled while it waits for the lease.
    CancelForced,
    /// The coordinator dies at a step, and something else goes wrong when another one goes on.
    Resume,
    ResumeForced,
}

/// How the primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    Dead,
    Hung,
    Cut,
    /// Clients and the witness reach it, its partner does not.
    HalfAlive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Beginning,
    Middle,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The hub's home.
    A,
    B,
    Witness,
    /// Whoever leads the control plane at that moment.
    Leader,
    Operator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Crash,
    /// Shorter than the lease.
    ShortPause,
    /// Longer than the lease.
    LongPause,
    Cut,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub plot: Plot,
    pub step: &'static str,
    pub moment: Moment,
    pub who: Who,
    pub what: What,
}

const PLANNED: [&str; 7] = [
    "check", "warm", "fence", "catchup", "commit", "open", "reverse",
];
const FORCED: [&str; 4] = ["check", "lease", "commit", "open"];
/// Before its point of no return a planned failover can be cancelled.
const CANCELLED: [&str; 4] = ["check", "warm", "fence", "catchup"];
/// What the two regions say to each other at a return, and its record.
pub const RETURN: [&str; 7] = [
    "diverged",
    "search",
    "found",
    "difference",
    "values",
    "follows",
    "returned",
];
const MOMENTS: [Moment; 3] = [Moment::Beginning, Moment::Middle, Moment::End];
pub const WHO: [Who; 5] = [Who::A, Who::B, Who::Witness, Who::Leader, Who::Operator];
const WHAT: [What; 4] = [What::Crash, What::ShortPause, What::LongPause, What::Cut];

/// All of them, in an order that never changes.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(of(Plot::Planned, &PLANNED));
    for lost in [Lost::Dead, Lost::Hung, Lost::Cut, Lost::HalfAlive] {
        all.extend(of(Plot::Forced(lost), &FORCED));
    }
    all.extend(of(Plot::Return, &RETURN));
    all.extend(of(Plot::Failback, &PLANNED));
    all.extend(of(Plot::Cancel, &CANCELLED));
    all.extend(of(Plot::CancelForced, &["lease"]));
    all.extend(of(Plot::Resume, &PLANNED));
    all.extend(of(Plot::ResumeForced, &FORCED));
    all
}

fn of(plot: Plot, steps: &'static [&'static str]) -> impl Iterator<Item = Case> {
    steps.iter().flat_map(move |step| {
        MOMENTS.into_iter().flat_map(move |moment| {
            WHO.into_iter().flat_map(move |who| {
                WHAT.into_iter().map(move |what| Case {
                    plot,
                    step,
                    moment,
                    who,
                    what,
                })
            })
        })
    })
}

impl Plot {
    pub fn is_forced(self) -> bool {
        !matches!(self, Plot::Planned | Plot::Cancel | Plot::Resume)
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Plot::Planned => "planned",
            Plot::Forced(Lost::Dead) => "forced, primary dead",
            Plot::Forced(Lost::Hung) => "forced, primary hung",
            Plot::Forced(Lost::Cut) => "forced, primary cut off",
            Plot::Forced(Lost::HalfAlive) => "forced, half alive",
            Plot::Return => "return",
            Plot::Failback => "failback",
            Plot::Cancel => "cancel",
            Plot::CancelForced => "cancel of a forced one",
            Plot::Resume => "resume",
            Plot::ResumeForced => "resume of a forced one",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            plot,
            step,
            moment,
            who,
            what,
        } = self;
        write!(f, "{plot}: {who:?} {what:?} at the {moment:?} of {step}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_there_once() {
        let cases = all();
        let mut sorted = cases.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), cases.len());
        let steps = PLANNED.len() * 3 + FORCED.len() * 5 + RETURN.len() + CANCELLED.len() + 1;
        assert_eq!(cases.len(), steps * 3 * 5 * 4);
    }
}
