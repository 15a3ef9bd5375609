//! Checks of the hub, of the policy, and of the control plane.

use super::{Finding, Scene, fail, graded, pass, warn};
use crate::iso::span;
use crate::model::HubState;
use crate::policy;
use crate::refusal::Refusal;

/// Entries a region's copy of the control plane may be behind.
const COPY_BEHIND_WARN: u64 = 16;
const COPY_BEHIND_FAIL: u64 = 256;

/// The hub is Active, or in the very failover that asks.
pub(super) fn active(scene: &Scene<'_>) -> Finding {
    let hub = scene.hub;
    let own = scene.control.operation.is_some() && scene.control.operation == hub.operation;
    if own && hub.state == HubState::FailingOver {
        return pass("the hub is Active but for this failover");
    }
    ruled(crate::lookup::active(hub), "the hub is Active")
}

pub(super) fn pair(scene: &Scene<'_>) -> Finding {
    let partner = scene.hub.secondary().map_or("", |region| region.as_str());
    ruled(
        policy::has_pair(scene.hub),
        &format!("{} and {partner} are a pair", scene.hub.primary),
    )
}

pub(super) fn target(scene: &Scene<'_>) -> Finding {
    ruled(
        policy::is_secondary(scene.hub, scene.to),
        &format!("{} is the secondary", scene.to),
    )
}

pub(super) fn offered(scene: &Scene<'_>) -> Finding {
    let text = format!("manual failover is offered to hubs of {}", scene.hub.home);
    ruled(policy::is_offered(scene.hub, scene.excluded), &text)
}

/// The drill whose leg asks: the policy's time and number do not hold for it.
fn drill<'a>(scene: &Scene<'a>) -> Option<&'a str> {
    let asking = scene.control.operation.as_ref()?;
    scene.state.operations.get(asking)?.switch()?.drill
}

pub(super) fn cooldown(scene: &Scene<'_>) -> Finding {
    if let Some(drill) = drill(scene) {
        return pass(format!("drill '{drill}' returns by itself"));
    }
    let text = format!(
        "{} have passed since the last failover",
        span(scene.state.deployment.policy.cooldown_ms)
    );
    ruled(
        policy::cooldown(scene.state, scene.hub, scene.to, scene.now),
        &text,
    )
}

pub(super) fn daily_limit(scene: &Scene<'_>) -> Finding {
    if let Some(drill) = drill(scene) {
        return pass(format!("drill '{drill}' is not counted"));
    }
    let text = format!(
        "fewer than {} of this direction within 24 h",
        scene.state.deployment.policy.per_day
    );
    ruled(
        policy::daily_limit(scene.state, scene.hub, scene.to, scene.now),
        &text,
    )
}

pub(super) fn deployed(scene: &Scene<'_>) -> Finding {
    let regions = &scene.state.deployment.regions;
    match [&scene.hub.primary, scene.to]
        .into_iter()
        .find(|region| !regions.contains(region))
    {
        Some(missing) => fail(format!("{missing} is not a region of this deployment")),
        None => pass("both regions are part of this deployment"),
    }
}

pub(super) fn leader(scene: &Scene<'_>) -> Finding {
    match &scene.control.leader {
        Some(leader) => pass(format!("{leader} leads the control plane")),
        None => fail("nobody leads the control plane"),
    }
}

pub(super) fn majority(scene: &Scene<'_>) -> Finding {
    let (up, all) = (scene.control.voters_up, scene.control.voters);
    let text = format!("{up} of {all} voters are up");
    if u64::from(up) * 2 <= u64::from(all) {
        fail(format!("{text}: no majority"))
    } else if up < all {
        warn(text)
    } else {
        pass(text)
    }
}

/// Regions learn their roles from their copies.
pub(super) fn copies(scene: &Scene<'_>) -> Finding {
    scene.of_both(|facts| {
        let behind = scene.control.applied.saturating_sub(facts.control_applied);
        let text = format!("the copy of {} is {behind} entries behind", facts.region);
        graded(behind, COPY_BEHIND_WARN, COPY_BEHIND_FAIL, text)
    })
}

fn ruled(rule: Result<(), Refusal>, good: &str) -> Finding {
    match rule {
        Ok(()) => pass(good),
        Err(refusal) => fail(refusal.message),
    }
}
