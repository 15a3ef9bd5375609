//! Whether a hub may be failed over now. Each rule is a function of its own: the command and the dry run call the same ones.
//!
//! A forced failover neither waits for these rules nor counts in them: a disaster does not keep to a schedule, and the failback
//! after it, a planned one, must be free to begin as soon as the old region has returned. The legs of a drill are exempt
//! because a drill returns by itself and only one runs on a hub at a time; they do not count either, so that a drill which could
//! not return does not bar the failback, and a rehearsal never delays the real thing.
//!
//! `earliest` is the first instant at which the policy lets the same request pass, all its rules considered.
//! Source: DESIGN section 6; control-plane notes section 9.

use crate::iso::{iso8601, span};
use crate::lookup::active;
use crate::model::{Hub, Operation, OperationStatus, State};
use crate::refusal::{Refusal, RefusalCode};
use types::{RegionName, UnixMillis, limits};

/// All rules, in the order in which they refuse: pair, target, state, excluded regions, time between operations, daily limit.
///
/// # Errors
/// The first refusal in that order.
pub fn failover_allowed(
    state: &State,
    hub: &Hub,
    to: &RegionName,
    excluded: bool,
    now: UnixMillis,
) -> Result<(), Refusal> {
    has_pair(hub)?;
    is_secondary(hub, to)?;
    active(hub)?;
    is_offered(hub, excluded)?;
    failover_policy(state, hub, to, now)
}

/// How soon and how often: the time between operations, then the daily limit.
///
/// # Errors
/// [`RefusalCode::FailoverTooSoon`] or [`RefusalCode::FailoverDailyLimit`], with the earliest time.
pub fn failover_policy(
    state: &State,
    hub: &Hub,
    to: &RegionName,
    now: UnixMillis,
) -> Result<(), Refusal> {
    cooldown(state, hub, to, now)?;
    daily_limit(state, hub, to, now)
}

/// # Errors
/// [`RefusalCode::FailoverNoPair`].
pub fn has_pair(hub: &Hub) -> Result<(), Refusal> {
    match hub.secondary() {
        Some(_) => Ok(()),
        None => {
            let message = format!(
                "IotHub '{}' has no paired region: its data lives in '{}' only.",
                hub.name, hub.primary
            );
            Err(Refusal::new(RefusalCode::FailoverNoPair, message))
        }
    }
}

/// # Errors
/// [`RefusalCode::FailoverRegionMismatch`] unless `to` is the hub's current secondary.
pub fn is_secondary(hub: &Hub, to: &RegionName) -> Result<(), Refusal> {
    match hub.secondary() {
        Some(secondary) if secondary == to => Ok(()),
        Some(secondary) => {
            let message = format!(
                "IotHub '{}' can only fail over to its secondary region '{secondary}', not to '{to}'.",
                hub.name
            );
            Err(Refusal::new(RefusalCode::FailoverRegionMismatch, message))
        }
        None => has_pair(hub),
    }
}

/// `excluded`: the catalogue marks the hub's home as a region without manual failover.
///
/// # Errors
/// [`RefusalCode::FailoverRegionExcluded`].
pub fn is_offered(hub: &Hub, excluded: bool) -> Result<(), Refusal> {
    if !excluded {
        return Ok(());
    }
    let message = format!(
        "Manual failover is not offered for IotHubs whose home is '{}'.",
        hub.home
    );
    Err(Refusal::new(RefusalCode::FailoverRegionExcluded, message))
}

/// The time between the end of a failover or failback and the start of the next. One that was rolled back or cancelled moved
/// nothing and is not waited for.
///
/// # Errors
/// [`RefusalCode::FailoverTooSoon`] with the earliest time.
pub fn cooldown(state: &State, hub: &Hub, to: &RegionName, now: UnixMillis) -> Result<(), Refusal> {
    let Some(last) = switches(state, hub).map(|(_, ended)| ended).max() else {
        return Ok(());
    };
    let over = last.plus(state.deployment.policy.cooldown_ms);
    if now >= over {
        return Ok(());
    }
    let earliest = over.max(daily_limit_over(state, hub, to, over).unwrap_or(over));
    let message = format!(
        "IotHub '{}' finished its last failover at {}. The next one may start {} after that: at {} at the earliest.",
        hub.name,
        iso8601(last),
        span(state.deployment.policy.cooldown_ms),
        iso8601(earliest)
    );
    Err(Refusal::until(
        RefusalCode::FailoverTooSoon,
        message,
        earliest,
    ))
}

/// The number of successful failovers, or failbacks, within a rolling day.
///
/// # Errors
/// [`RefusalCode::FailoverDailyLimit`] with the earliest time; without one if the policy allows none at all.
pub fn daily_limit(
    state: &State,
    hub: &Hub,
    to: &RegionName,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let most = state.deployment.policy.per_day;
    let what = if *to == hub.home {
        "failback"
    } else {
        "failover"
    };
    if most == 0 {
        let message = format!(
            "The policy of this deployment allows no {what} of IotHub '{}'.",
            hub.name
        );
        return Err(Refusal::new(RefusalCode::FailoverDailyLimit, message));
    }
    let Some(earliest) = daily_limit_over(state, hub, to, now) else {
        return Ok(());
    };
    let message = format!(
        "IotHub '{}' has had {most} successful {what}s within 24 h, the most allowed. The next {what} may start at {} at the \
         earliest.",
        hub.name,
        iso8601(earliest)
    );
    Err(Refusal::until(
        RefusalCode::FailoverDailyLimit,
        message,
        earliest,
    ))
}

/// The instant at which policy allows a failover of this hub to `to`; `None`: now, or never by itself.
pub fn earliest(state: &State, hub: &Hub, to: &RegionName, now: UnixMillis) -> Option<UnixMillis> {
    failover_policy(state, hub, to, now).err()?.earliest
}

/// When the daily limit lets one more pass; `None`: at `now` already (or never, if it is zero).
fn daily_limit_over(
    state: &State,
    hub: &Hub,
    to: &RegionName,
    now: UnixMillis,
) -> Option<UnixMillis> {
    let most = usize::try_from(state.deployment.policy.per_day)
        .ok()
        .filter(|most| *most > 0)?;
    let back = *to == hub.home;
    let mut counted: Vec<_> = switches(state, hub)
        .filter(|(op, ended)| {
            op.switch().is_some_and(|s| s.back == back) && within_day(*ended, now)
        })
        .map(|(_, ended)| ended)
        .collect();
    counted.sort();
    // One more passes once all but `most - 1` of them have left the day.
    let leaves = counted.len().checked_sub(most)?;
    Some(counted[leaves].plus(limits::FAILOVER_DAY_MS))
}

/// True while the policy still looks at an operation.
pub(crate) fn still_counts(state: &State, op: &Operation, now: UnixMillis) -> bool {
    let horizon = state
        .deployment
        .policy
        .cooldown_ms
        .max(limits::FAILOVER_DAY_MS);
    counts(op) && op.ended.is_some_and(|ended| now.since(ended) < horizon)
}

fn switches<'a>(
    state: &'a State,
    hub: &'a Hub,
) -> impl Iterator<Item = (&'a Operation, UnixMillis)> {
    state
        .operations
        .values()
        .filter(|op| op.hub == Some(hub.id) && counts(op))
        .filter_map(|op| Some((op, op.ended?)))
}

/// Planned failovers that moved a hub, outside drills.
fn counts(op: &Operation) -> bool {
    let planned = |switch: crate::Switch<'_>| !switch.forced && switch.drill.is_none();
    op.status == OperationStatus::Succeeded && op.switch().is_some_and(planned)
}

fn within_day(ended: UnixMillis, now: UnixMillis) -> bool {
    now.since(ended) < limits::FAILOVER_DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Answer, Command};

    const HOUR: i64 = 3_600_000;

    fn start(state: &State, to: &str, at: i64) -> Answer {
        state
            .clone()
            .apply(&request("", at, start_failover(1, to, "probe")))
    }

    fn check(state: &State, to: &str, at: i64, code: RefusalCode, earliest: i64) {
        let Answer::Refused(refusal) = start(state, to, at) else {
            panic!("started")
        };
        assert_eq!(
            (refusal.code, refusal.earliest),
            (code, Some(UnixMillis(earliest))),
            "{}",
            refusal.message
        );
        assert!(
            refusal.message.contains(&iso8601(UnixMillis(earliest))),
            "{}",
            refusal.message
        );
        assert!(
            matches!(start(state, to, earliest), Answer::Operation(_)),
            "the time named is kept"
        );
        let Answer::Refused(early) = start(state, to, earliest - 1) else {
            panic!("started too early")
        };
        assert!(early.earliest.is_some());
    }

    #[test]
    fn one_hour_passes_between_the_end_of_one_and_the_start_of_the_next() {
        let mut state = active_hub();
        let ended = switch(&mut state, "one", "east", 10_000);
        check(
            &state,
            "west",
            ended + 1,
            RefusalCode::FailoverTooSoon,
            ended + HOUR,
        );
    }

    #[test]
    fn failovers_and_failbacks_of_a_day_are_counted_on_their_own() {
        let mut state = active_hub();
        let first = switch(&mut state, "f1", "east", 10_000);
        let first_back = switch(&mut state, "b1", "west", first + 2 * HOUR);
        let second = switch(&mut state, "f2", "east", first_back + HOUR);
        let second_back = switch(&mut state, "b2", "west", second + HOUR);
        let day = limits::FAILOVER_DAY_MS;
        check(
            &state,
            "east",
            second_back + HOUR,
            RefusalCode::FailoverDailyLimit,
            first + day,
        );
        check(
            &state,
            "east",
            second_back + 1,
            RefusalCode::FailoverTooSoon,
            first + day,
        );
        let third = switch(&mut state, "f3", "east", first + day);
        check(
            &state,
            "west",
            third + HOUR,
            RefusalCode::FailoverDailyLimit,
            first_back + day,
        );
    }

    #[test]
    fn what_was_rolled_back_is_neither_counted_nor_waited_for() {
        let mut state = active_hub();
        for n in 0..5 {
            let id = format!("op{n}");
            state.apply(&request("", 10_000, start_failover(1, "east", &id)));
            state.apply(&request("", 10_001, roll_back(&id)));
            state.apply(&request("", 10_002, finish(&id)));
        }
        assert!(matches!(
            start(&state, "east", 10_003),
            Answer::Operation(_)
        ));
    }

    #[test]
    fn the_deployment_may_set_other_figures_or_allow_none() {
        let mut state = active_hub();
        state.deployment.policy.cooldown_ms = 0;
        state.deployment.policy.per_day = 100;
        let mut at = 10_000;
        for n in 0..20 {
            at = switch(
                &mut state,
                &format!("n{n}"),
                if n % 2 == 0 { "east" } else { "west" },
                at,
            );
        }
        state.deployment.policy.per_day = 0;
        let Answer::Refused(refusal) = start(&state, "east", at + 100 * HOUR) else {
            panic!()
        };
        assert_eq!(
            (refusal.code, refusal.earliest),
            (RefusalCode::FailoverDailyLimit, None)
        );
    }

    #[test]
    fn refusals_come_in_their_documented_order() {
        let mut state = active_hub();
        let ended = switch(&mut state, "one", "east", 10_000);
        let at = ended + 1;
        let ask = |state: &State, hub: u32, to: &str, excluded: bool| {
            let command = Command::StartFailover {
                hub: types::HubId(hub),
                to: region(to),
                operation: "probe".into(),
                reason: String::new(),
                excluded,
                drill: None,
            };
            match state.clone().apply(&request("", at, command)) {
                Answer::Refused(refusal) => refusal.code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask(&state, 1, "west", false), RefusalCode::FailoverTooSoon);
        assert_eq!(
            ask(&state, 1, "west", true),
            RefusalCode::FailoverRegionExcluded
        );
        state.hubs.get_mut("hub-one").unwrap().state = crate::HubState::FailingOver;
        assert_eq!(ask(&state, 1, "west", true), RefusalCode::HubNotActive);
        assert_eq!(
            ask(&state, 1, "east", true),
            RefusalCode::FailoverRegionMismatch
        );
        let hub = state.hubs.get_mut("hub-one").unwrap();
        (hub.partner, hub.primary) = (None, hub.home.clone());
        assert_eq!(ask(&state, 1, "east", true), RefusalCode::FailoverNoPair);
        assert_eq!(ask(&state, 2, "east", true), RefusalCode::ResourceNotFound);
    }
}
