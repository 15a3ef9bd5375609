//! Checks of the two regions and of what lies between them.

use super::{Finding, RegionFacts, Scene, both, fail, graded, pass, warn};
use types::limits;

const DISK_WARN_BYTES: u64 = 16 * limits::DISK_RESERVE_BYTES;
const UPTIME_WARN_MS: i64 = 30_000;
const UPTIME_FAIL_MS: i64 = 1_000;
/// Six round trips make most of the pause; half of its ceiling is the most they may take.
const RTT_WARN_MS: i64 = 150;
const RTT_FAIL_MS: i64 = limits::FAILOVER_PAUSE_CEILING_MS / 2 / 6;
const CERTIFICATE_WARN_DAYS: i64 = 14;
/// Tokens and expiry times are read by these clocks, and the pause ceiling is measured with them.
const CLOCK_WARN_MS: i64 = 500;
const CLOCK_FAIL_MS: i64 = limits::FAILOVER_PAUSE_CEILING_MS;
const FSYNC_WARN_MS: u32 = 100;
const FSYNC_FAIL_MS: u32 = 1_000;

pub(super) fn primary_reachable(scene: &Scene<'_>) -> Finding {
    reachable(scene.primary, "primary", &scene.hub.primary)
}

pub(super) fn secondary_reachable(scene: &Scene<'_>) -> Finding {
    reachable(scene.secondary, "secondary", scene.to)
}

fn reachable(facts: Option<&RegionFacts>, who: &str, expected: &types::RegionName) -> Finding {
    match facts {
        Some(facts) if facts.region == *expected => {
            pass(format!("{expected} answers, version {}", facts.version))
        }
        Some(facts) => fail(format!(
            "{} answered where the {who} {expected} was asked",
            facts.region
        )),
        None => fail(format!("the {who} {expected} did not answer")),
    }
}

pub(super) fn primary_store(scene: &Scene<'_>) -> Finding {
    scene.of_primary(store)
}

pub(super) fn secondary_store(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(store)
}

fn store(facts: &RegionFacts) -> Finding {
    match facts.store_healthy {
        true => pass(format!("the store of {} takes writes", facts.region)),
        false => fail(format!(
            "the store of {} is not healthy: {}",
            facts.region, facts.store_detail
        )),
    }
}

pub(super) fn primary_disk(scene: &Scene<'_>) -> Finding {
    scene.of_primary(disk)
}

pub(super) fn secondary_disk(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(disk)
}

fn disk(facts: &RegionFacts) -> Finding {
    let free = facts.disk_free_bytes;
    let text = format!("{} has {} MiB free", facts.region, free / (1024 * 1024));
    if free <= limits::DISK_RESERVE_BYTES {
        fail(format!("{text}: no more than the reserve"))
    } else if free <= DISK_WARN_BYTES {
        warn(text)
    } else {
        pass(text)
    }
}

/// A region serves only after it has read its roles from the control plane since it started.
pub(super) fn roles_known(scene: &Scene<'_>) -> Finding {
    scene.of_both(|facts| match facts.roles_known {
        true => pass(format!(
            "{} has read its roles from the control plane",
            facts.region
        )),
        false => fail(format!(
            "{} has not read its roles from the control plane since it started",
            facts.region
        )),
    })
}

pub(super) fn secondary_uptime(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(|facts| {
        let text = format!(
            "{} has been up for {}",
            facts.region,
            crate::iso::span(facts.uptime_ms)
        );
        match facts.uptime_ms {
            up if up < UPTIME_FAIL_MS => fail(text),
            up if up < UPTIME_WARN_MS => warn(text),
            _ => pass(text),
        }
    })
}

pub(super) fn link_up(scene: &Scene<'_>) -> Finding {
    scene.of_both(|facts| match facts.link_up {
        true => pass(format!("{} is linked", facts.region)),
        false => fail(format!("{} has no link to the other region", facts.region)),
    })
}

pub(super) fn link_round_trip(scene: &Scene<'_>) -> Finding {
    scene.of_primary(|facts| match facts.link_rtt_us {
        None => warn("not measured yet"),
        Some(micros) => {
            let text = format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
            graded(facts.rtt_ms(), RTT_WARN_MS, RTT_FAIL_MS, text)
        }
    })
}

pub(super) fn certificates(scene: &Scene<'_>) -> Finding {
    scene.of_both(|facts| {
        let days = facts.certificate_days;
        let text = format!(
            "the certificates of {} are good for {days} days",
            facts.region
        );
        match days {
            d if d <= 0 => fail(format!(
                "a certificate of {} has expired or does so today",
                facts.region
            )),
            d if d < CERTIFICATE_WARN_DAYS => warn(text),
            _ => pass(text),
        }
    })
}

pub(super) fn clocks(scene: &Scene<'_>) -> Finding {
    let (Some(one), Some(two)) = (scene.primary, scene.secondary) else {
        return scene.of_both(|facts| apart(facts.clock_offset_ms));
    };
    let offsets = [one.clock_offset_ms, two.clock_offset_ms, 0];
    let (least, most) = (
        offsets.into_iter().min().unwrap_or(0),
        offsets.into_iter().max().unwrap_or(0),
    );
    apart(most.saturating_sub(least))
}

fn apart(millis: i64) -> Finding {
    let millis = millis.saturating_abs();
    graded(
        millis,
        CLOCK_WARN_MS,
        CLOCK_FAIL_MS,
        format!("the clocks are {millis} ms apart"),
    )
}

/// Programs may differ, their log format may not: after the switch the log flows the other way.
pub(super) fn versions(scene: &Scene<'_>) -> Finding {
    scene.of_primary(|one| {
        scene.of_secondary(|two| {
            if one.log_format != two.log_format {
                fail(format!(
                    "log formats differ: {} and {}",
                    one.log_format, two.log_format
                ))
            } else if one.version != two.version {
                warn(format!(
                    "versions differ: {} and {}",
                    one.version, two.version
                ))
            } else {
                pass(format!("both run {}", one.version))
            }
        })
    })
}

pub(super) fn engine_load(scene: &Scene<'_>) -> Finding {
    scene.of_both(|facts| {
        let text = format!(
            "{} commands wait for the engine of {}",
            facts.engine_queue, facts.region
        );
        graded(
            facts.engine_queue,
            limits::ENGINE_QUEUE_MAX / 4,
            limits::ENGINE_QUEUE_MAX / 4 * 3,
            text,
        )
    })
}

pub(super) fn disk_speed(scene: &Scene<'_>) -> Finding {
    scene.of_both(|facts| {
        let text = format!(
            "a group commit of {} takes {} ms",
            facts.region, facts.fsync_ms
        );
        graded(facts.fsync_ms, FSYNC_WARN_MS, FSYNC_FAIL_MS, text)
    })
}

pub(super) fn secondary_gateway(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(|facts| match facts.gateway_listening {
        true => pass(format!(
            "the gateway of {} accepts connections",
            facts.region
        )),
        false => fail(format!(
            "the gateway of {} does not accept connections",
            facts.region
        )),
    })
}

/// A planned failover keeps sockets where they are; yet the target should be able to take them all, and must take some.
pub(super) fn session_room(scene: &Scene<'_>) -> Finding {
    scene.of_secondary(|target| {
        let most = limits::CONNECTIONS_MAX as u64;
        let full = graded(
            target.sessions,
            u64::MAX,
            most,
            format!("{} holds {} of {most}", target.region, target.sessions),
        );
        let all = match scene.primary {
            Some(source) => {
                let sum = source.sessions.saturating_add(target.sessions);
                graded(sum, most, u64::MAX, format!("both hold {sum} connections"))
            }
            None => pass("the connections of the primary are not known"),
        };
        both(full, all)
    })
}
