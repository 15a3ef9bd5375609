//! How long the pause will be.

use super::{Finding, RegionFacts, Verdict, graded};
use crate::model::{Hub, Operation, OperationStatus, State};
use types::limits;

/// Rounds between the regions inside the pause: the record of the fence, the call, the shipment, the records of fence and
/// catch-up with the commit behind them, the opening.
const ROUND_TRIPS: i64 = 6;
/// Group commits of each region inside the pause: its part of the log's, and of the control plane's.
const GROUP_COMMITS: i64 = 4;
const PAUSE_WARN_MS: i64 = 1_000;

/// The expected pause in milliseconds: as long as the last one between these regions if there was one, else from the round
/// trip, the disks and the lag.
pub fn expected_pause_ms(
    state: &State,
    hub: &Hub,
    primary: &RegionFacts,
    secondary: &RegionFacts,
) -> i64 {
    measured(state, hub).unwrap_or_else(|| modelled(primary, secondary))
}

fn modelled(primary: &RegionFacts, secondary: &RegionFacts) -> i64 {
    let disks = i64::from(primary.fsync_ms).saturating_add(i64::from(secondary.fsync_ms));
    let lag = primary.lag_ms().clamp(0, limits::FAILOVER_WARM_LAG_MS);
    let rounds = primary.rtt_ms().saturating_mul(ROUND_TRIPS);
    rounds
        .saturating_add(disks.saturating_mul(GROUP_COMMITS))
        .saturating_add(lag)
        .max(1)
}

/// A measurement beats the model. Only the same hub counts: others have other loads.
fn measured(state: &State, hub: &Hub) -> Option<i64> {
    let succeeded =
        |op: &&Operation| op.hub == Some(hub.id) && op.status == OperationStatus::Succeeded;
    let last = state
        .operations
        .values()
        .filter(succeeded)
        .filter(|op| op.switch().is_some_and(|switch| !switch.forced));
    last.max_by_key(|op| op.ended)?
        .pause_ms()
        .map(|pause| pause.max(1))
}

/// A pause that would reach its ceiling would only be rolled back.
pub(super) fn budget(expected: Option<i64>) -> Finding {
    match expected {
        Some(millis) => {
            let text = format!(
                "about {millis} ms of the {} ms allowed",
                limits::FAILOVER_PAUSE_CEILING_MS
            );
            graded(
                millis,
                PAUSE_WARN_MS,
                limits::FAILOVER_PAUSE_CEILING_MS,
                text,
            )
        }
        None => (Verdict::Skip, "a region did not answer".into()),
    }
}
