use crate::details::record;
use crate::failover::{Action, Timings, next_action, suspended};
use crate::loss::{AcceptedLoss, LossEstimate};
use crate::refusal::RefusalCode;
use crate::testing::*;
use crate::{Answer, Command, HubState, OperationStatus, State, StepName};
use serde_json::json;
use types::{Epoch, HubId, UnixMillis, limits};

const START: i64 = 10_000;

fn running() -> State {
    let mut state = active_hub();
    let answer = state.apply(&request("", START, start_forced(1, "east", "op", ALL)));
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
    state
}

/// A forced failover whose steps up to `step` have ended.
fn after(step: StepName) -> State {
    let mut state = running();
    advance(&mut state, "op", START + 1, step);
    state
}

fn apply(state: &mut State, command: Command) -> Answer {
    state.apply(&request("", 11_000, command))
}

fn next(state: &State) -> Action {
    let hub = state.hub(HubId(1)).unwrap();
    next_action(
        &state.operations["op"],
        hub,
        state.time,
        &Timings::default(),
    )
}

fn is_suspended(state: &State) -> bool {
    suspended(state, state.hub(HubId(1)).unwrap())
}

fn started(step: StepName) -> Command {
    Command::StepStarted {
        operation: "op".into(),
        step,
    }
}

fn ended(step: StepName, detail: serde_json::Value) -> Command {
    Command::StepEnded {
        operation: "op".into(),
        step,
        detail,
    }
}

fn commit() -> Command {
    Command::CommitFailover {
        operation: "op".into(),
        detail: json!(null),
        caught_up: None,
    }
}

fn cancel() -> Command {
    Command::CancelFailover {
        operation: "op".into(),
    }
}

#[test]
fn it_takes_check_lease_commit_open_and_ends() {
    let mut state = running();
    let mut seen = Vec::new();
    for at in START + 1..START + 20 {
        match turn(&mut state, "op", at) {
            Action::Wait { .. } => break,
            action => seen.push(action),
        }
    }
    let finish = Action::Finish { error: None };
    let expected = [
        Action::GatherFacts,
        Action::AwaitLease,
        Action::Commit,
        Action::Open,
        finish,
    ];
    assert_eq!(seen, expected);
    let (op, hub) = (&state.operations["op"], state.hub(HubId(1)).unwrap());
    assert_eq!(op.status, OperationStatus::Succeeded);
    assert_eq!(
        (hub.epoch, hub.primary.as_str(), hub.state),
        (Epoch(2), "east", HubState::Active)
    );
    assert!(op.pause_ms().is_some());
}

#[test]
fn it_cannot_be_committed_before_the_lease_step_has_ended() {
    let mut state = after(StepName::Check);
    let text = "the next step is lease, not commit";
    check_refused(
        &apply(&mut state, commit()),
        RefusalCode::StepOutOfOrder,
        text,
    );
    apply(&mut state, started(StepName::Lease));
    check_refused(
        &apply(&mut state, commit()),
        RefusalCode::StepOutOfOrder,
        text,
    );
    let detail = json!({ "waited_ms": 5_100, "confirmed": true });
    apply(&mut state, ended(StepName::Lease, detail));
    assert_eq!(apply(&mut state, commit()), Answer::Epoch(Epoch(2)));
    assert_eq!(apply(&mut state, commit()), Answer::Epoch(Epoch(2)));
}

#[test]
fn the_lease_step_must_be_recorded_before_it_is_waited_for() {
    let mut state = after(StepName::Check);
    assert!(next(&state).needs_start(&state.operations["op"]));
    let detail = json!({ "waited_ms": 5_100, "confirmed": false });
    check_refused(
        &apply(&mut state, ended(StepName::Lease, detail)),
        RefusalCode::StepOutOfOrder,
        "lease has not begun",
    );
}

#[test]
fn steps_of_a_planned_failover_are_refused_and_the_other_way_round() {
    for step in [
        StepName::Warm,
        StepName::Fence,
        StepName::CatchUp,
        StepName::Reverse,
    ] {
        let mut state = after(StepName::Check);
        check_refused(
            &apply(&mut state, started(step)),
            RefusalCode::StepOutOfOrder,
            "lease",
        );
    }
    let mut planned = active_hub();
    apply(&mut planned, start_failover(1, "east", "op"));
    advance(&mut planned, "op", 11_001, StepName::Check);
    check_refused(
        &apply(&mut planned, started(StepName::Lease)),
        RefusalCode::StepOutOfOrder,
        "the next step is warm, not lease",
    );
}

#[test]
fn a_lease_step_without_a_readable_wait_goes_back() {
    let mut state = after(StepName::Check);
    apply(&mut state, started(StepName::Lease));
    apply(&mut state, ended(StepName::Lease, json!({ "n": 1 })));
    match next(&state) {
        Action::RollBack { code, .. } => assert_eq!(code, "LeaseNotAwaited"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_primary_is_suspended_from_the_lease_step_to_the_commit() {
    let mut state = after(StepName::Check);
    assert!(!is_suspended(&state));
    apply(&mut state, started(StepName::Lease));
    assert!(is_suspended(&state));
    let detail = json!({ "waited_ms": 5_100 });
    apply(&mut state, ended(StepName::Lease, detail));
    assert!(is_suspended(&state));
    apply(&mut state, commit());
    assert!(!is_suspended(&state));
    assert!(!is_suspended(&active_hub()));
}

#[test]
fn going_back_ends_the_suspension_without_an_unfence() {
    for back in [cancel(), roll_back("op")] {
        let mut state = after(StepName::Check);
        apply(&mut state, started(StepName::Lease));
        apply(&mut state, back);
        assert!(!is_suspended(&state));
        check_refused(
            &apply(&mut state, commit()),
            RefusalCode::StepOutOfOrder,
            "",
        );
        for at in 11_001..11_010 {
            assert_ne!(turn(&mut state, "op", at), Action::Unfence);
        }
        let hub = state.hub(HubId(1)).unwrap();
        assert_eq!((hub.epoch, hub.state), (Epoch(1), HubState::Active));
        assert!(!state.operations["op"].is_running() && hub.divergences.is_empty());
    }
}

#[test]
fn it_is_cancelled_before_its_commit_and_not_after() {
    let mut state = after(StepName::Lease);
    assert!(state.operations["op"].can_cancel());
    apply(&mut state, commit());
    check_refused(
        &apply(&mut state, cancel()),
        RefusalCode::PastPointOfNoReturn,
        "cancelled",
    );
    check_refused(
        &apply(&mut state, finish("op")),
        RefusalCode::StepOutOfOrder,
        "open",
    );
}

#[test]
fn the_same_operation_id_gives_the_same_operation_back() {
    let mut state = running();
    let again = |state: &mut State| match apply(state, start_forced(1, "east", "op", ALL)) {
        Answer::Operation(op) => assert_eq!(*op, state.operations["op"]),
        other => panic!("{other:?}"),
    };
    again(&mut state);
    for at in 11_001..11_020 {
        turn(&mut state, "op", at);
    }
    assert!(!state.operations["op"].is_running());
    again(&mut state);
    check_refused(
        &apply(&mut state, start_failover(1, "east", "op")),
        RefusalCode::FailoverRegionMismatch,
        "",
    );
}

#[test]
fn a_second_command_while_one_runs_is_refused_and_names_it() {
    let mut state = running();
    check_refused(
        &apply(&mut state, start_forced(1, "east", "other", ALL)),
        RefusalCode::HubNotActive,
        "Operation 'op' runs on IotHub 'Hub-One': cancel it first",
    );
    check_refused(
        &apply(&mut state, start_failover(1, "east", "other")),
        RefusalCode::HubNotActive,
        "operation 'op' runs on it",
    );
    let mut committed = after(StepName::Commit);
    check_refused(
        &apply(&mut committed, start_forced(1, "west", "other", ALL)),
        RefusalCode::HubNotActive,
        "past its point of no return",
    );
    let mut planned = active_hub();
    apply(&mut planned, start_failover(1, "east", "plan"));
    check_refused(
        &apply(&mut planned, start_forced(1, "east", "other", ALL)),
        RefusalCode::HubNotActive,
        "'plan' runs on IotHub 'Hub-One': cancel it first",
    );
}

/// A planned failover to east, up to the end of `step`.
fn planned(step: StepName) -> State {
    let mut state = active_hub();
    apply(&mut state, start_failover(1, "east", "plan"));
    advance(&mut state, "plan", 11_001, step);
    state
}

fn cancel_plan() -> Command {
    Command::CancelFailover {
        operation: "plan".into(),
    }
}

#[test]
fn a_failover_that_cannot_go_back_without_the_lost_primary_is_taken_over() {
    for back in [cancel_plan(), roll_back("plan")] {
        let mut state = planned(StepName::Fence);
        apply(&mut state, back);
        let at = force(&mut state, "op", "east", 12_000);
        let plan = &state.operations["plan"];
        assert!(!plan.is_running() && plan.error.is_some() && plan.report.is_some());
        assert_ne!(plan.status, OperationStatus::Failed);
        let report = state.operations["op"].report.as_ref().unwrap();
        assert_eq!(report["tookOver"], "plan");
        assert_eq!(state.hub(HubId(1)).unwrap().epoch, Epoch(2));
        assert!(at > 12_000);
    }
}

#[test]
fn the_fence_of_what_it_took_over_is_released_on_the_way_back() {
    let mut state = planned(StepName::Fence);
    apply(&mut state, cancel_plan());
    apply(&mut state, start_forced(1, "east", "op", ALL));
    check_refused(
        &apply(&mut state, fail("op")),
        RefusalCode::StepOutOfOrder,
        "roll back first",
    );
    apply(&mut state, roll_back("op"));
    assert_eq!(next(&state), Action::Unfence);
    assert!(
        state.operations["op"]
            .legal_next()
            .contains("west releases its fence")
    );
    // That the primary is not to be had is no reason to be stuck here either.
    let answer = apply(&mut state, start_forced(1, "east", "again", ALL));
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
    apply(&mut state, roll_back("again"));
    for at in 13_000..13_010 {
        turn(&mut state, "again", at);
    }
    let hub = state.hub(HubId(1)).unwrap();
    assert_eq!((hub.epoch, hub.state), (Epoch(1), HubState::Active));
    let mut early = planned(StepName::Check);
    apply(&mut early, cancel_plan());
    apply(&mut early, start_forced(1, "east", "op", ALL));
    apply(&mut early, roll_back("op"));
    assert!(matches!(next(&early), Action::Finish { .. }));
}

#[test]
fn a_committed_planned_failover_whose_new_primary_is_lost_is_taken_over() {
    let mut state = planned(StepName::Commit);
    force(&mut state, "op", "west", 12_000);
    let plan = &state.operations["plan"];
    assert_eq!(plan.status, OperationStatus::Failed);
    assert_eq!(plan.error.as_ref().unwrap().0, "TakenOver");
    assert_eq!(plan.report.as_ref().unwrap()["outcome"], "Failed");
    let hub = state.hub(HubId(1)).unwrap();
    assert_eq!(
        (hub.epoch, hub.primary.as_str(), hub.state),
        (Epoch(3), "west", HubState::Active)
    );
    check_refused(
        &apply(
            &mut state,
            Command::StepEnded {
                operation: "plan".into(),
                step: StepName::Open,
                detail: json!({}),
            },
        ),
        RefusalCode::OperationEnded,
        "plan",
    );
}

#[test]
fn it_needs_a_pair_the_secondary_an_operable_hub_and_a_short_reason() {
    let check = |spoil: fn(&mut State), to: &str, code, text: &str| {
        let mut state = active_hub();
        spoil(&mut state);
        check_refused(
            &apply(&mut state, start_forced(1, to, "op", ALL)),
            code,
            text,
        );
        assert!(!state.operations.contains_key("op"));
    };
    check(
        |s| s.hubs.get_mut("hub-one").unwrap().partner = None,
        "east",
        RefusalCode::FailoverNoPair,
        "no paired region",
    );
    check(
        |_| {},
        "west",
        RefusalCode::FailoverRegionMismatch,
        "its secondary region 'east'",
    );
    for state in [HubState::Deleting, HubState::Activating] {
        let mut world = active_hub();
        world.hubs.get_mut("hub-one").unwrap().state = state;
        check_refused(
            &apply(&mut world, start_forced(1, "east", "op", ALL)),
            RefusalCode::HubNotActive,
            "409002",
        );
    }
    let mut long = start_forced(1, "east", "op", ALL);
    if let Command::StartForcedFailover { reason, .. } = &mut long {
        *reason = "x".repeat(limits::FAILOVER_REASON_CHARS_MAX + 1);
    }
    check_refused(
        &apply(&mut active_hub(), long),
        RefusalCode::InvalidProperties,
        "reason",
    );
    check_refused(
        &apply(&mut active_hub(), start_forced(9, "east", "op", ALL)),
        RefusalCode::ResourceNotFound,
        "",
    );
}

#[test]
fn a_loss_beyond_what_is_accepted_is_refused_at_the_start() {
    let mut state = active_hub();
    let with = |span_ms: Option<i64>, records: Option<u64>| {
        let mut command = start_forced(
            1,
            "east",
            "op",
            AcceptedLoss {
                span_ms,
                records,
                all: false,
            },
        );
        if let Command::StartForcedFailover { shown, .. } = &mut command {
            *shown = LossEstimate {
                records: 12,
                span_ms: 2_500,
                ..LossEstimate::default()
            };
        }
        command
    };
    for (bound, text) in [
        (with(None, None), "no loss was accepted"),
        (with(Some(2_000), None), "more than the accepted 2.0 s"),
        (with(None, Some(11)), "more than the accepted 11 records"),
        (with(Some(3_000), Some(11)), "11 records"),
    ] {
        check_refused(
            &apply(&mut state, bound),
            RefusalCode::LossExceedsAccepted,
            text,
        );
    }
    let answer = apply(&mut state, with(Some(2_500), Some(12)));
    assert!(matches!(answer, Answer::Operation(_)));
}

#[test]
fn the_policy_neither_delays_nor_counts_it_and_lets_the_failback_follow_at_once() {
    let mut state = active_hub();
    state.deployment.policy.per_day = 1;
    let ended = switch(&mut state, "planned", "east", START);
    // Within the hour of a planned one, and beyond its daily number.
    let forced = force(&mut state, "forced", "west", ended + 1);
    assert_eq!(state.hub(HubId(1)).unwrap().primary, region("west"));
    state.apply(&request("", forced, returned("forced", "east", vec![])));
    let probe = |state: &State, at: i64| {
        let command = start_failover(1, "east", "probe");
        state.clone().apply(&request("", at, command))
    };
    check_refused(&probe(&state, forced + 1), RefusalCode::FailoverTooSoon, "");
    state.deployment.policy.per_day = 2;
    let hour = state.deployment.policy.cooldown_ms;
    assert!(matches!(probe(&state, ended + hour), Answer::Operation(_)));
    // Without the planned one before, nothing is waited for.
    let mut fresh = active_hub();
    let ended = force(&mut fresh, "forced", "east", START);
    let back = start_failover(1, "west", "back");
    fresh.apply(&request("", ended, returned("forced", "west", vec![])));
    let answer = fresh.apply(&request("", ended + 1, back));
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
}

#[test]
fn the_hub_remembers_where_the_histories_part_and_who_is_away() {
    let mut state = active_hub();
    assert!(state.hub(HubId(1)).unwrap().away().is_none());
    let at = force(&mut state, "op", "east", START);
    let hub = state.hub(HubId(1)).unwrap();
    let parted = hub.away().unwrap();
    assert_eq!(
        (parted.epoch, parted.from.as_str(), parted.to.as_str()),
        (Epoch(2), "west", "east")
    );
    assert_eq!(parted.partitions, opened(hub));
    assert!(parted.at <= UnixMillis(at) && parted.operation == "op");
    check_refused(
        &apply(&mut state, start_forced(1, "west", "again", SOME)),
        RefusalCode::SecondaryNotReady,
        "'west' was lost in forced failover 'op'",
    );
}

#[test]
fn a_region_that_has_not_returned_leads_again_only_if_everything_else_is_given_up() {
    let mut state = active_hub();
    force(&mut state, "op", "east", START);
    let at = force(&mut state, "back", "west", START + 60_000);
    let hub = state.hub(HubId(1)).unwrap();
    assert_eq!((hub.primary.as_str(), hub.epoch), ("west", Epoch(3)));
    let away = hub.away().unwrap();
    assert_eq!(
        (away.from.as_str(), away.operation.as_str()),
        ("east", "back")
    );
    assert!(away.at <= UnixMillis(at));
    apply(&mut state, returned("back", "east", vec![]));
    assert!(state.hub(HubId(1)).unwrap().away().is_none());
}

#[test]
fn the_return_tells_the_exact_loss_once() {
    let mut state = active_hub();
    force(&mut state, "op", "east", START);
    let ranges = vec![lost_range(2, 0), lost_range(0, 4), lost_range(99, 9)];
    check_refused(
        &apply(&mut state, returned("op", "east", ranges.clone())),
        RefusalCode::FailoverRegionMismatch,
        "waits for the return of 'west'",
    );
    check_refused(
        &apply(&mut state, returned("none", "west", ranges.clone())),
        RefusalCode::OperationNotFound,
        "none",
    );
    assert_eq!(
        state.operations["op"].report.as_ref().unwrap()["lost"]["exact"],
        json!(false)
    );
    let tell = returned("op", "west", ranges);
    assert_eq!(state.apply(&request("", 12_000, tell)), Answer::Done);
    let hub = state.hub(HubId(1)).unwrap();
    assert!(hub.away().is_none());
    let back = hub.divergences[0].returned.clone().unwrap();
    let order: Vec<_> = back.partitions.iter().map(|p| p.partition.0).collect();
    assert_eq!(order, [0, 2]);
    assert_eq!((back.at, back.records()), (UnixMillis(12_000), 4));
    let lost = &state.operations["op"].report.as_ref().unwrap()["lost"];
    assert_eq!(
        (&lost["records"], &lost["exact"], &lost["spanMs"]),
        (&json!(4), &json!(true), &json!(40))
    );
    assert_eq!(lost["partitions"][0]["from"], json!(11));
    let before = state.clone();
    apply(&mut state, returned("op", "west", vec![lost_range(0, 9)]));
    assert_eq!((state.hubs, state.revision), (before.hubs, before.revision));
}

#[test]
fn divergences_are_bounded() {
    let mut state = active_hub();
    let mut at = START;
    for n in 0..limits::DIVERGENCES_KEPT_MAX + 3 {
        let (to, from) = if n % 2 == 0 {
            ("east", "west")
        } else {
            ("west", "east")
        };
        let id = format!("op-{n}");
        at = force(&mut state, &id, to, at + 1);
        state.apply(&request("", at, returned(&id, from, vec![])));
    }
    let kept = &state.hub(HubId(1)).unwrap().divergences;
    assert_eq!(kept.len(), limits::DIVERGENCES_KEPT_MAX);
    assert_eq!(kept[0].operation, "op-3");
    assert!(kept.windows(2).all(|pair| pair[0].epoch < pair[1].epoch));
}

#[test]
fn failed_checks_roll_it_back_under_their_own_code() {
    let mut state = running();
    apply(&mut state, started(StepName::Check));
    let mut checks = good_checks(&state, &state.operations["op"], 11_000);
    let name = "primary-lost";
    let check = checks.results.iter_mut().find(|r| r.name == name).unwrap();
    check.verdict = crate::checks::Verdict::Fail;
    checks.ready = false;
    apply(&mut state, ended(StepName::Check, record(&checks)));
    match next(&state) {
        Action::RollBack { code, why } => {
            assert_eq!(code, "PrimaryIsHealthy");
            assert!(why.contains(name));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_report_tells_what_was_shown_accepted_waited_for_and_where_it_opened() {
    let mut state = active_hub();
    force(&mut state, "op", "east", START);
    let op = &state.operations["op"];
    let report = op.report.as_ref().unwrap();
    for (field, value) in [
        ("planned", json!(false)),
        ("kind", json!("failover")),
        ("outcome", json!("Succeeded")),
        ("epochAfter", json!(2)),
        ("leaseWaitMs", json!(5_100)),
        ("leaseConfirmed", json!(false)),
        ("returned", json!(null)),
        ("partitions", json!([])),
    ] {
        assert_eq!(report[field], value, "{field}");
    }
    assert_eq!(report["lost"]["records"], json!(3));
    assert_eq!(report["lost"]["exact"], json!(false));
    assert_eq!(report["lossAccepted"]["text"], "everything");
    assert_eq!(report["lossShown"]["records"], json!(0));
    assert_eq!(report["lossChecked"]["records"], json!(3));
    assert_eq!(report["positions"].as_array().unwrap().len(), 4);
    assert_eq!(report["steps"][1]["number"], json!(2));
    assert_eq!(report["steps"][1]["name"], "lease");
    let open = op.step(StepName::Open).unwrap().ended.unwrap();
    assert_eq!(report["recoveryMs"], json!(open.since(op.started)));
}
