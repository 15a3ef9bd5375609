//! The checks before a failover. The dry run and the first step of the real one both call [`evaluate`], or
//! [`evaluate_forced`] for a forced one.
//!
//! Numbers and names are stable: scripts read them. A check that fails stops the failover, a warning does not.

mod estimate;
mod forced;
mod hub;
mod regions;
mod replication;

pub use crate::facts::{ControlFacts, PartitionFacts, RegionFacts, Role};
pub use estimate::expected_pause_ms;
pub use forced::{ForcedQuestion, evaluate_forced};

use crate::loss::LossEstimate;
use crate::model::{Hub, State};
use crate::policy;
use crate::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use types::{RegionName, UnixMillis};

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// True if nothing failed: a failover asked for now would begin.
    pub ready: bool,
    pub from: RegionName,
    pub to: RegionName,
    pub at: UnixMillis,
    pub results: Vec<CheckResult>,
    /// How long the hub would acknowledge nothing; `None` when a region did not answer.
    pub expected_pause_ms: Option<i64>,
    /// A planned failover loses nothing.
    pub expected_loss_records: u64,
    /// How far the secondary is behind now; `None` when the primary did not answer.
    pub lag_records: Option<u64>,
    pub lag_ms: Option<i64>,
    /// A forced failover is checked.
    #[serde(default)]
    pub forced: bool,
    /// What a forced failover would lose; `None`: it is a planned one, or the secondary did not answer.
    #[serde(default)]
    pub loss: Option<LossEstimate>,
    /// When the policy allows the next one; `None`: now, or not by itself.
    pub earliest: Option<UnixMillis>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// From 1.
    pub number: u8,
    /// Kebab case, stable.
    pub name: String,
    pub verdict: Verdict,
    /// What was found, for a person.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
    /// Not answerable because of something that another check names.
    Skip,
}

impl CheckReport {
    pub fn failed(&self) -> impl Iterator<Item = &CheckResult> {
        self.results
            .iter()
            .filter(|result| result.verdict == Verdict::Fail)
    }

    /// The failed checks in one text; empty if there are none.
    pub fn why_not(&self) -> String {
        self.failed()
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// The refusal's code: what the first failed check of a forced failover is about.
    pub fn code(&self) -> RefusalCode {
        let first = self.failed().next().map_or("", |check| &check.name);
        match first {
            _ if !self.forced => RefusalCode::FailoverChecksFailed,
            forced::PRIMARY_LOST => RefusalCode::PrimaryIsHealthy,
            forced::LOSS_ACCEPTED => RefusalCode::LossExceedsAccepted,
            name if name.starts_with("secondary-") => RefusalCode::SecondaryNotReady,
            _ => RefusalCode::FailoverChecksFailed,
        }
    }

    /// What to answer to one who wants to fail over although checks failed.
    pub fn refusal(&self) -> Option<Refusal> {
        (!self.ready).then(|| Refusal {
            code: self.code(),
            message: self.why_not(),
            earliest: self.earliest,
        })
    }
}

/// Everything a check may look at.
#[derive(Clone, Copy)]
struct Scene<'a> {
    state: &'a State,
    hub: &'a Hub,
    to: &'a RegionName,
    excluded: bool,
    primary: Option<&'a RegionFacts>,
    secondary: Option<&'a RegionFacts>,
    control: &'a ControlFacts,
    now: UnixMillis,
}

type Finding = (Verdict, String);
type Check = fn(&Scene<'_>) -> Finding;

/// All checks in their order. New ones go to the end: a number never changes its meaning.
const CHECKS: [(&str, Check); 32] = [
    ("hub-active", hub::active),
    ("pair-exists", hub::pair),
    ("target-is-secondary", hub::target),
    ("failover-offered", hub::offered),
    ("time-between-failovers", hub::cooldown),
    ("daily-limit", hub::daily_limit),
    ("regions-deployed", hub::deployed),
    ("control-leader", hub::leader),
    ("control-majority", hub::majority),
    ("control-copies", hub::copies),
    ("primary-reachable", regions::primary_reachable),
    ("secondary-reachable", regions::secondary_reachable),
    ("primary-store", regions::primary_store),
    ("secondary-store", regions::secondary_store),
    ("primary-disk", regions::primary_disk),
    ("secondary-disk", regions::secondary_disk),
    ("roles-known", regions::roles_known),
    ("secondary-uptime", regions::secondary_uptime),
    ("link-up", regions::link_up),
    ("link-round-trip", regions::link_round_trip),
    ("certificates", regions::certificates),
    ("clocks", regions::clocks),
    ("versions", regions::versions),
    ("engine-load", regions::engine_load),
    ("disk-speed", regions::disk_speed),
    ("secondary-gateway", regions::secondary_gateway),
    ("session-room", regions::session_room),
    ("primary-roles", replication::primary_roles),
    ("secondary-roles", replication::secondary_roles),
    ("partitions-sound", replication::sound),
    ("replication-lag", replication::lag),
    ("digests", replication::digests),
];

/// Those that came after the first list with its pause budget had its numbers.
const LATER_CHECKS: [(&str, Check); 2] = [
    ("secondary-returned", replication::secondary_returned),
    ("lease", replication::lease),
];

/// Runs all checks of a planned failover. `excluded`: the catalogue offers no manual failover to hubs of this home. `None`: that region did not
/// answer. Decides from its arguments alone.
#[allow(clippy::too_many_arguments)] // Each is a source of its own, and both callers have exactly these.
pub fn evaluate(
    state: &State,
    hub: &Hub,
    to: &RegionName,
    excluded: bool,
    primary: Option<&RegionFacts>,
    secondary: Option<&RegionFacts>,
    control: &ControlFacts,
    now: UnixMillis,
) -> CheckReport {
    let scene = Scene {
        state,
        hub,
        to,
        excluded,
        primary,
        secondary,
        control,
        now,
    };
    let mut results: Vec<CheckResult> = (1..)
        .zip(CHECKS)
        .map(|(n, (name, check))| result(n, name, check(&scene)))
        .collect();
    let expected = primary
        .zip(secondary)
        .map(|(from, into)| expected_pause_ms(state, hub, from, into));
    results.push(result(
        CHECKS.len() as u8 + 1,
        "pause-budget",
        estimate::budget(expected),
    ));
    let later = (CHECKS.len() as u8 + 2..).zip(LATER_CHECKS);
    results.extend(later.map(|(n, (name, check))| result(n, name, check(&scene))));
    CheckReport {
        ready: results.iter().all(|result| result.verdict != Verdict::Fail),
        from: hub.primary.clone(),
        to: to.clone(),
        at: now,
        results,
        expected_pause_ms: expected,
        expected_loss_records: 0,
        lag_records: primary.map(RegionFacts::lag_records),
        lag_ms: primary.map(RegionFacts::lag_ms),
        forced: false,
        loss: None,
        earliest: policy::earliest(state, hub, to, now),
    }
}

fn result(number: u8, name: &str, (verdict, detail): Finding) -> CheckResult {
    CheckResult {
        number,
        name: name.into(),
        verdict,
        detail,
    }
}

fn pass(detail: impl Into<String>) -> Finding {
    (Verdict::Pass, detail.into())
}

fn warn(detail: impl Into<String>) -> Finding {
    (Verdict::Warn, detail.into())
}

fn fail(detail: impl Into<String>) -> Finding {
    (Verdict::Fail, detail.into())
}

/// Larger is worse: passes below `warn_from`, fails from `fail_from` on.
fn graded<N: PartialOrd>(value: N, warn_from: N, fail_from: N, detail: String) -> Finding {
    let verdict = if value >= fail_from {
        Verdict::Fail
    } else if value >= warn_from {
        Verdict::Warn
    } else {
        Verdict::Pass
    };
    (verdict, detail)
}

/// The worse of two findings, with both details.
fn both(one: Finding, two: Finding) -> Finding {
    let rank = |verdict| match verdict {
        Verdict::Pass => 0,
        Verdict::Skip => 1,
        Verdict::Warn => 2,
        Verdict::Fail => 3,
    };
    let verdict = if rank(one.0) >= rank(two.0) {
        one.0
    } else {
        two.0
    };
    (verdict, format!("{}; {}", one.1, two.1))
}

impl Scene<'_> {
    fn of_primary(&self, check: impl FnOnce(&RegionFacts) -> Finding) -> Finding {
        answered(self.primary, "primary", check)
    }

    fn of_secondary(&self, check: impl FnOnce(&RegionFacts) -> Finding) -> Finding {
        answered(self.secondary, "secondary", check)
    }

    /// Asks both regions the same; a region that did not answer is skipped.
    fn of_both(&self, check: impl Fn(&RegionFacts) -> Finding) -> Finding {
        both(self.of_primary(&check), self.of_secondary(&check))
    }
}

fn answered(
    facts: Option<&RegionFacts>,
    who: &str,
    check: impl FnOnce(&RegionFacts) -> Finding,
) -> Finding {
    match facts {
        Some(facts) => check(facts),
        None => (Verdict::Skip, format!("the {who} did not answer")),
    }
}

impl RegionFacts {
    /// Records the follower has not confirmed, over all partitions.
    pub fn lag_records(&self) -> u64 {
        self.partitions
            .iter()
            .fold(0, |sum, p| sum.saturating_add(p.lag_records))
    }

    /// Age of the oldest such record.
    pub fn lag_ms(&self) -> i64 {
        self.partitions.iter().map(|p| p.lag_ms).max().unwrap_or(0)
    }

    /// The round trip of its link in whole milliseconds, rounded up; 0 when not measured.
    pub fn rtt_ms(&self) -> i64 {
        i64::try_from(self.link_rtt_us.unwrap_or(0).div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests;
