//! Checks of the hub's partitions in both regions.

use super::{Finding, PartitionFacts, RegionFacts, Role, Scene, fail, pass, warn};
use types::limits;

pub(super) fn primary_roles(scene: &Scene<'_>) -> Finding {
    scene.of_primary(|facts| roles(scene, facts, Role::Primary))
}

/// The follower has also been heard by the primary, and has not confirmed what the primary does not have.
pub(super) fn secondary_roles(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(|facts| {
        if let Some(primary) = scene.primary {
            for p in &primary.partitions {
                match p.follower_lsn {
                    None => {
                        return fail(format!(
                            "partition {}: the primary has not heard its follower",
                            p.partition
                        ));
                    }
                    Some(lsn) if lsn > p.lsn => {
                        return fail(format!(
                            "partition {}: the follower is ahead, at {lsn} of {}",
                            p.partition, p.lsn
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        roles(scene, facts, Role::Secondary)
    })
}

fn roles(scene: &Scene<'_>, facts: &RegionFacts, expected: Role) -> Finding {
    let hub = scene.hub;
    for number in 0..hub.partition_count {
        let Some(found) = facts.partitions.iter().find(|p| p.partition.0 == number) else {
            return fail(format!(
                "partition {number} is not open in {}",
                facts.region
            ));
        };
        if let Some(why) = misfit(found, expected, hub.epoch) {
            return fail(format!("partition {number} of {}: {why}", facts.region));
        }
    }
    pass(format!(
        "all {} partitions of {} are {expected:?} at epoch {}",
        hub.partition_count, facts.region, hub.epoch
    ))
}

fn misfit(found: &PartitionFacts, expected: Role, epoch: types::Epoch) -> Option<String> {
    if found.role != expected {
        Some(format!("its role is {:?}, not {expected:?}", found.role))
    } else if found.epoch != epoch {
        Some(format!("its epoch is {}, not {epoch}", found.epoch))
    } else if found.fenced {
        Some("it is fenced".into())
    } else {
        None
    }
}

pub(super) fn sound(scene: &Scene<'_>) -> Finding {
    scene.of_both(sound_here)
}

pub(super) fn sound_here(facts: &RegionFacts) -> Finding {
    let stopped = facts
        .partitions
        .iter()
        .find_map(|p| Some((p.partition, p.corrupt.as_ref()?)));
    match stopped {
        Some((partition, why)) => fail(format!(
            "partition {partition} of {} has stopped: {why}",
            facts.region
        )),
        None => pass(format!("no partition of {} has stopped", facts.region)),
    }
}

/// A region that was lost in a forced failover cannot lead before it is back, and has all of the history it follows.
pub(super) fn secondary_returned(scene: &Scene<'_>) -> Finding {
    if let Some(away) = scene.hub.away() {
        return fail(format!(
            "{} has not returned since it was lost in forced failover '{}' at {}",
            away.from,
            away.operation,
            crate::iso::iso8601(away.at)
        ));
    }
    scene.of_secondary(|facts| {
        let returning = facts
            .partitions
            .iter()
            .find_map(|p| Some((p.partition, p.returning.as_ref()?)));
        match returning {
            Some((partition, what)) => fail(format!(
                "partition {partition} of {} is not ready to lead: {what}",
                facts.region
            )),
            None => pass(format!("{} has the whole history it follows", facts.region)),
        }
    })
}

/// Both will have to acknowledge: the old primary until the fence, the new one after it.
pub(super) fn lease(scene: &Scene<'_>) -> Finding {
    scene.of_both(holds_lease)
}

pub(super) fn holds_lease(facts: &RegionFacts) -> Finding {
    match facts.lease_held {
        true => pass(format!(
            "{} holds its lease, for {} ms more",
            facts.region, facts.lease_left_ms
        )),
        false => fail(format!(
            "{} holds no lease: it could not acknowledge",
            facts.region
        )),
    }
}

/// The warm step waits for the lag to fall, but not for ever.
pub(super) fn lag(scene: &Scene<'_>) -> Finding {
    scene.of_primary(|facts| {
        let (records, millis) = (facts.lag_records(), facts.lag_ms());
        let text = format!("the secondary is {records} records and {millis} ms behind");
        if millis >= limits::FAILOVER_WARM_MS_MAX {
            fail(text)
        } else if crate::failover::warm_enough(records, millis, facts.rtt_ms()) {
            pass(text)
        } else {
            warn(text)
        }
    })
}

/// Compares only where both stand at the same record: facts of two regions are never of the same instant.
pub(super) fn digests(scene: &Scene<'_>) -> Finding {
    scene.of_primary(|one| {
        scene.of_secondary(|two| {
            let (mut equal, mut open) = (0, 0);
            for p in &one.partitions {
                let other = two.partitions.iter().find(|q| q.partition == p.partition && q.lsn == p.lsn);
                match (&p.digest, other.and_then(|q| q.digest.as_ref())) {
                    (Some(a), Some(b)) if a == b => equal += 1,
                    (Some(a), Some(b)) => {
                        return fail(format!("partition {} differs at {}: {a} and {b}", p.partition, p.lsn));
                    }
                    _ if other.is_some() || p.digest.is_none() => return unknown(p),
                    _ => open += 1,
                }
            }
            pass(format!("{equal} partitions are equal, {open} are on their way; all are compared at the handover"))
        })
    })
}

fn unknown(p: &PartitionFacts) -> Finding {
    warn(format!(
        "partition {}: a digest is not known yet; it is compared at the handover",
        p.partition
    ))
}
