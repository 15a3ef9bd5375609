//! The checks before a forced failover. The dry run and the first step of the real one both call [`evaluate_forced`].
//!
//! A list of its own: most of what a planned failover needs is gone in a disaster. The primary's state matters for one thing
//! only: if it is well, a planned failover loses nothing.

use super::{
    Check, CheckReport, CheckResult, ControlFacts, Finding, RegionFacts, Role, Scene, Verdict,
    fail, graded, hub, pass, regions, replication, result, warn,
};
use crate::failover::lease_wait_ms;
use crate::forced;
use crate::iso::span;
use crate::loss::{AcceptedLoss, LossEstimate, Words, estimate, latest};
use crate::model::{Hub, OperationKind, State};
use types::{PartnerAway, RegionName, Replication, UnixMillis, limits};

/// Everything the checks of a forced failover look at.
#[derive(Clone, Copy)]
pub struct ForcedQuestion<'a> {
    pub state: &'a State,
    pub hub: &'a Hub,
    pub to: &'a RegionName,
    /// `None`: it did not answer, which is the usual reason for a forced failover.
    pub primary: Option<&'a RegionFacts>,
    pub secondary: Option<&'a RegionFacts>,
    /// The primary's words that came by other ways than the secondary (with the renewals of its lease), with their ages.
    pub words: &'a Words,
    /// What the operator accepts. `None`: what the operation that asks has recorded, or nothing was said yet.
    pub accept: Option<&'a AcceptedLoss>,
    pub control: &'a ControlFacts,
    pub now: UnixMillis,
}

/// All checks that need no estimate, in their order. New ones go to the end of the list that is evaluated: a number never
/// changes its meaning.
const CHECKS: [(&str, Check); 15] = [
    ("hub-operable", operable),
    ("pair-exists", hub::pair),
    ("target-is-secondary", hub::target),
    ("target-deployed", deployed),
    ("control-leader", hub::leader),
    ("control-majority", hub::majority),
    (PRIMARY_LOST, primary_lost),
    ("secondary-reachable", regions::secondary_reachable),
    ("secondary-store", regions::secondary_store),
    ("secondary-disk", regions::secondary_disk),
    ("secondary-lease", secondary_lease),
    ("secondary-returned", replication::secondary_returned),
    ("secondary-roles", secondary_roles),
    ("secondary-sound", secondary_sound),
    ("secondary-gateway", secondary_gateway),
];
/// What a region that has not returned fails, unless the loss of everything is accepted.
const NOT_RETURNED: [&str; 2] = ["secondary-returned", "secondary-roles"];
pub(super) const PRIMARY_LOST: &str = "primary-lost";
pub(super) const LOSS_ACCEPTED: &str = "loss-accepted";

/// Runs all checks of a forced failover. Decides from its argument alone.
pub fn evaluate_forced(asked: &ForcedQuestion<'_>) -> CheckReport {
    let scene = Scene {
        state: asked.state,
        hub: asked.hub,
        to: asked.to,
        excluded: false,
        primary: asked.primary,
        secondary: asked.secondary,
        control: asked.control,
        now: asked.now,
    };
    let loss = asked.secondary.map(|secondary| estimated(asked, secondary));
    let mut results: Vec<CheckResult> = (1..)
        .zip(CHECKS)
        .map(|(n, (name, check))| result(n, name, check(&scene)))
        .collect();
    let last = [
        ("loss-known", known(asked.hub, loss.as_ref())),
        (LOSS_ACCEPTED, accepted(bound(asked), loss.as_ref())),
    ];
    for (number, (name, finding)) in (CHECKS.len() as u8 + 1..).zip(last) {
        results.push(result(number, name, finding));
    }
    let whole = asked
        .secondary
        .is_some_and(|facts| facts.partitions.iter().all(|p| p.returning.is_none()));
    let all = bound(asked).is_some_and(|accept| accept.all);
    if all && whole && asked.hub.away().is_some() {
        // Everything since then is given up: that it is not here is what was accepted.
        for result in results.iter_mut().filter(|result| {
            result.verdict == Verdict::Fail && NOT_RETURNED.contains(&result.name.as_str())
        }) {
            result.verdict = Verdict::Warn;
        }
    }
    CheckReport {
        ready: results.iter().all(|result| result.verdict != Verdict::Fail),
        from: asked.hub.primary.clone(),
        to: asked.to.clone(),
        at: asked.now,
        results,
        expected_pause_ms: asked.secondary.map(pause),
        expected_loss_records: loss.as_ref().map_or(0, |loss| loss.records),
        lag_records: asked.primary.map(RegionFacts::lag_records),
        lag_ms: asked.primary.map(RegionFacts::lag_ms),
        forced: true,
        loss,
        earliest: None,
    }
}

/// What would be lost, from every word of the primary that is known.
fn estimated(asked: &ForcedQuestion<'_>, secondary: &RegionFacts) -> LossEstimate {
    let own = asked.primary.map(RegionFacts::words_own);
    let heard = [secondary.words_heard(), asked.words.clone()];
    let words = latest(heard.into_iter().chain(own));
    estimate(
        secondary,
        &words,
        asked.hub.partition_count,
        asked.hub.epoch,
        asked.now,
    )
}

/// The wait for the old lease, then the commit and the opening in the other region.
fn pause(secondary: &RegionFacts) -> i64 {
    lease_wait_ms().saturating_add(i64::from(secondary.fsync_ms).saturating_mul(4))
}

/// What is accepted: as given, else as the operation that asks has recorded it.
fn bound(asked: &ForcedQuestion<'_>) -> Option<AcceptedLoss> {
    let recorded = || {
        let id = asked.control.operation.as_ref()?;
        match &asked.state.operations.get(id)?.kind {
            OperationKind::Forced { accept, .. } => Some(*accept),
            _ => None,
        }
    };
    asked.accept.copied().or_else(recorded)
}

/// The hub is Active, or in the very failover that asks.
fn operable(scene: &Scene<'_>) -> Finding {
    let hub = scene.hub;
    let own = scene.control.operation.is_some() && scene.control.operation == hub.operation;
    if own {
        return pass("nothing but this failover runs on the hub");
    }
    match forced::operable(scene.state, hub) {
        Ok(None) => pass("nothing runs on the hub"),
        Ok(Some(stuck)) => pass(format!("it takes over operation '{}'", stuck.id)),
        Err(refusal) => fail(refusal.message),
    }
}

fn deployed(scene: &Scene<'_>) -> Finding {
    match scene.state.deployment.regions.contains(scene.to) {
        true => pass(format!("{} is part of this deployment", scene.to)),
        false => fail(format!("{} is not a region of this deployment", scene.to)),
    }
}

fn primary_lost(scene: &Scene<'_>) -> Finding {
    let name = &scene.hub.primary;
    let Some(facts) = scene.primary else {
        return pass(format!("the primary {name} does not answer"));
    };
    match ailment(scene.hub, facts) {
        Some(what) => pass(format!("the primary {name} answers, but {what}")),
        None => fail(format!(
            "the primary {name} is healthy and followed: use a planned failover, which loses nothing"
        )),
    }
}

/// Why a planned failover could not do; `None`: it could.
fn ailment(hub: &Hub, facts: &RegionFacts) -> Option<String> {
    if facts.region != hub.primary {
        return Some(format!("as {}", facts.region));
    }
    if !facts.store_healthy {
        return Some(format!("its store is not healthy: {}", facts.store_detail));
    }
    if !facts.lease_held {
        return Some("it holds no lease".into());
    }
    for number in 0..hub.partition_count {
        let found = facts.partitions.iter().find(|p| p.partition.0 == number);
        let Some(p) = found else {
            return Some(format!("partition {number} is not open"));
        };
        if let Some(why) = &p.corrupt {
            return Some(format!("partition {number} has stopped: {why}"));
        }
        if p.role != Role::Primary || p.epoch != hub.epoch {
            return Some(format!(
                "partition {number} does not serve epoch {}",
                hub.epoch
            ));
        }
        if p.follower_lsn.is_none() {
            return Some(format!("nobody follows its partition {number}"));
        }
    }
    // A lag within the longest pause can be caught up in a planned failover.
    let lag = facts.lag_ms();
    (lag >= limits::FAILOVER_PAUSE_CEILING_MS)
        .then(|| format!("its secondary is {} behind", span(lag)))
}

fn secondary_lease(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(replication::holds_lease)
}

fn secondary_roles(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(|facts| {
        let hub = scene.hub;
        for number in 0..hub.partition_count {
            let found = facts.partitions.iter().find(|p| p.partition.0 == number);
            let why = match found {
                None => "it is not open".into(),
                Some(p) if p.role != Role::Secondary => format!("its role is {:?}", p.role),
                // It may be behind: it has an epoch only when it has a record of it.
                Some(p) if p.epoch > hub.epoch => format!("its epoch is {}", p.epoch),
                Some(_) => continue,
            };
            return fail(format!("partition {number} of {}: {why}", facts.region));
        }
        pass(format!("{} is secondary for all partitions", facts.region))
    })
}

fn secondary_sound(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(replication::sound_here)
}

/// Devices need it, but it can be mended after the failover, and the hub's data is served then.
fn secondary_gateway(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(|facts| {
        let most = limits::CONNECTIONS_MAX as u64;
        let text = format!(
            "{} holds {} connections of {most}",
            facts.region, facts.sessions
        );
        match facts.gateway_listening {
            true => graded(facts.sessions, most, u64::MAX, text),
            false => warn(format!(
                "the gateway of {} does not accept connections",
                facts.region
            )),
        }
    })
}

fn known(hub: &Hub, loss: Option<&LossEstimate>) -> Finding {
    let Some(loss) = loss else {
        return (Verdict::Skip, "the secondary did not answer".into());
    };
    let mut text = format!(
        "{} records ({} events, at most {} bytes) spanning {}; the primary's last word is {} old, so at most {} are lost",
        loss.records,
        loss.events,
        loss.bytes,
        span(loss.span_ms),
        span(loss.age_ms),
        span(loss.worst_ms)
    );
    if hub.replication == Replication::Sync && hub.partner_away == PartnerAway::Wait {
        text.push_str("; a sync hub that waits for its partner has acknowledged none of them");
    }
    if loss.unknown.is_empty() {
        return pass(text);
    }
    let unknown = crate::loss::numbered(&loss.unknown);
    warn(format!(
        "{text}; of {unknown} no word of the primary is known"
    ))
}

fn accepted(bound: Option<AcceptedLoss>, loss: Option<&LossEstimate>) -> Finding {
    match (bound, loss) {
        (None, _) => (Verdict::Skip, "no bound was given yet".into()),
        (Some(bound), _) if bound.all => pass("everything is accepted"),
        (Some(_), None) => (Verdict::Skip, "the secondary did not answer".into()),
        (Some(bound), Some(loss)) => match bound.covers(loss) {
            Ok(()) => pass(format!(
                "{} records are within the accepted {}",
                loss.records,
                bound.text()
            )),
            Err(why) => fail(why),
        },
    }
}

#[cfg(test)]
#[path = "forced_tests.rs"]
mod tests;
