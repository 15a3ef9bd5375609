use super::*;
use crate::details::{Handover, HandoverDetail, record};
use crate::testing::*;
use crate::{Command, OperationStatus};
use serde_json::json;
use types::{Lsn, PartitionId};

const START: i64 = 10_000;

fn running() -> State {
    let mut state = active_hub();
    state.apply(&request("", START, start_failover(1, "east", "op")));
    state
}

fn next(state: &State, at: i64) -> Action {
    let op = &state.operations["op"];
    next_action(
        op,
        state.hub(HubId(1)).unwrap(),
        UnixMillis(at),
        &Timings::default(),
    )
}

fn start(state: &mut State, at: i64, step: StepName) {
    state.apply(&request(
        "",
        at,
        Command::StepStarted {
            operation: "op".into(),
            step,
        },
    ));
}

fn end(state: &mut State, at: i64, step: StepName, detail: serde_json::Value) {
    state.apply(&request(
        "",
        at,
        Command::StepEnded {
            operation: "op".into(),
            step,
            detail,
        },
    ));
}

fn check_goes_back(action: &Action, expected: &str, text: &str) {
    match action {
        Action::RollBack { code, why } => {
            assert_eq!(code, expected, "{why}");
            assert!(why.contains(text), "`{text}` in: {why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_healthy_failover_takes_its_steps_in_order() {
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
        Action::Warm,
        Action::Fence,
        Action::CatchUp,
        Action::Commit,
        Action::Open,
        Action::Reverse,
        finish,
    ];
    assert_eq!(seen, expected);
    assert_eq!(state.operations["op"].status, OperationStatus::Succeeded);
}

#[test]
fn a_step_that_began_and_did_not_end_is_performed_again() {
    for (before, action) in [
        (None, Action::GatherFacts),
        (Some(StepName::Check), Action::Warm),
        (Some(StepName::Warm), Action::Fence),
        (Some(StepName::Fence), Action::CatchUp),
        (Some(StepName::CatchUp), Action::Commit),
        (Some(StepName::Commit), Action::Open),
        (Some(StepName::Open), Action::Reverse),
    ] {
        let mut state = running();
        if let Some(step) = before {
            advance(&mut state, "op", START + 1, step);
        }
        assert_eq!(next(&state, START + 20), action);
        start(&mut state, START + 20, action.step().unwrap());
        assert!(!action.needs_start(&state.operations["op"]));
        assert_eq!(next(&state, START + 21), action);
    }
}

#[test]
fn only_what_comes_before_the_pause_and_the_fence_needs_a_recorded_start() {
    let state = running();
    let op = &state.operations["op"];
    for action in [Action::GatherFacts, Action::Warm, Action::Fence] {
        assert!(action.needs_start(op), "{action:?}");
    }
    for action in [
        Action::CatchUp,
        Action::Commit,
        Action::Open,
        Action::Reverse,
        Action::Unfence,
    ] {
        assert!(!action.needs_start(op), "{action:?}");
    }
}

#[test]
fn checks_that_failed_or_said_nothing_end_it_before_anything_is_paused() {
    let mut state = running();
    start(&mut state, START + 1, StepName::Check);
    let mut report = good_checks(&state, &state.operations["op"], START + 1);
    report.ready = false;
    report.results[18].verdict = crate::checks::Verdict::Fail;
    let mut silent = state.clone();
    end(&mut state, START + 2, StepName::Check, record(&report));
    check_goes_back(&next(&state, START + 3), "FailoverChecksFailed", "link-up");
    end(&mut silent, START + 2, StepName::Check, json!({}));
    check_goes_back(
        &next(&silent, START + 3),
        "FailoverChecksFailed",
        "no readable result",
    );
    state.apply(&request("", START + 4, roll_back("op")));
    assert!(
        matches!(next(&state, START + 5), Action::Finish { error: Some(_) }),
        "nothing is fenced"
    );
}

#[test]
fn checks_and_warming_have_a_time_limit() {
    let limits = Timings::default();
    let state = running();
    assert_eq!(
        next(&state, START + limits.check_ms_max - 1),
        Action::GatherFacts
    );
    check_goes_back(
        &next(&state, START + limits.check_ms_max),
        "ChecksTimedOut",
        "15000 ms",
    );

    let mut state = running();
    advance(&mut state, "op", START + 1, StepName::Check);
    start(&mut state, START + 100, StepName::Warm);
    assert_eq!(next(&state, START + 99 + limits.warm_ms_max), Action::Warm);
    check_goes_back(
        &next(&state, START + 100 + limits.warm_ms_max),
        "WarmTimedOut",
        "60000 ms",
    );
}

#[test]
fn the_pause_has_a_ceiling_counted_from_the_start_of_the_fence() {
    let ceiling = Timings::default().pause_ceiling_ms;
    for done in [StepName::Warm, StepName::Fence, StepName::CatchUp] {
        let mut state = running();
        advance(&mut state, "op", START + 1, done);
        start(&mut state, START + 50, StepName::Fence);
        let fence = state.operations["op"]
            .step(StepName::Fence)
            .unwrap()
            .started
            .0;
        assert!(
            !matches!(next(&state, fence + ceiling - 1), Action::RollBack { .. }),
            "{done:?}"
        );
        check_goes_back(
            &next(&state, fence + ceiling),
            "PauseCeilingReached",
            "the ceiling is 5000 ms",
        );
    }
}

#[test]
fn after_the_commit_it_goes_forward_however_late_it_is() {
    for (done, action) in [
        (StepName::Commit, Action::Open),
        (StepName::Open, Action::Reverse),
    ] {
        let mut state = running();
        advance(&mut state, "op", START + 1, done);
        assert_eq!(next(&state, i64::MAX), action);
    }
}

#[test]
fn a_roll_back_releases_the_fence_before_it_ends_even_if_the_fence_was_never_confirmed() {
    let mut state = running();
    advance(&mut state, "op", START + 1, StepName::Warm);
    start(&mut state, START + 20, StepName::Fence);
    state.apply(&request("", START + 21, roll_back("op")));
    assert_eq!(next(&state, START + 22), Action::Unfence);
    assert_eq!(
        next(&state, i64::MAX),
        Action::Unfence,
        "until the old primary says so"
    );
    end(&mut state, START + 30, StepName::RollBack, json!({}));
    let Action::Finish {
        error: Some((code, _)),
    } = next(&state, START + 31)
    else {
        panic!()
    };
    assert_eq!(code, "Test");
}

#[test]
fn it_commits_only_what_both_regions_have_alike() {
    type Change = fn(&mut HandoverDetail);
    let cases: [(Change, &str); 4] = [
        (
            |d| d.partitions[2].digest = "other".into(),
            "partition 2: digests differ at 10",
        ),
        (
            |d| d.partitions[1].end = Lsn(9),
            "partition 1: the log ends at 10, the new primary is at 9",
        ),
        (
            |d| drop(d.partitions.remove(3)),
            "partition 3: the new primary named no handover record",
        ),
        (
            |d| d.partitions.clear(),
            "partition 0: the new primary named no",
        ),
    ];
    for (change, text) in cases {
        let mut state = running();
        advance(&mut state, "op", START + 1, StepName::Fence);
        let mut reached = handover(state.hub(HubId(1)).unwrap());
        change(&mut reached);
        end(&mut state, START + 20, StepName::CatchUp, record(&reached));
        check_goes_back(&next(&state, START + 21), "HandoverMismatch", text);
    }
    let mut state = running();
    advance(&mut state, "op", START + 1, StepName::Fence);
    end(&mut state, START + 20, StepName::CatchUp, json!(null));
    check_goes_back(
        &next(&state, START + 21),
        "HandoverMismatch",
        "recorded no handover",
    );
}

#[test]
fn the_order_of_partitions_in_a_record_does_not_matter() {
    let mut state = running();
    advance(&mut state, "op", START + 1, StepName::Fence);
    let mut reached = handover(state.hub(HubId(1)).unwrap());
    reached.partitions.reverse();
    reached.partitions.push(Handover {
        partition: PartitionId(99),
        end: Lsn(1),
        digest: String::new(),
    });
    end(&mut state, START + 20, StepName::CatchUp, record(&reached));
    assert_eq!(next(&state, START + 21), Action::Commit);
}

#[test]
fn there_is_nothing_to_do_for_what_has_ended_or_is_no_failover() {
    let mut state = running();
    state.apply(&request("", START + 1, fail("op")));
    assert!(matches!(next(&state, START + 2), Action::Wait { .. }));
    let create = &state.operations["create-Hub-One"];
    let hub = state.hub(HubId(1)).unwrap();
    assert!(matches!(
        next_action(create, hub, UnixMillis(0), &Timings::default()),
        Action::Wait { .. }
    ));
}

#[test]
fn warm_is_enough_when_the_lag_is_one_round_trip_and_a_little() {
    assert!(warm_enough(0, 10_000, 0) && warm_enough(5, 99, 0) && warm_enough(5, 199, 100));
    assert!(!warm_enough(5, 100, 0) && !warm_enough(5, 200, 100));
    assert!(!warm_enough(5, 100, -50), "a negative round trip is none");
}

#[test]
fn a_fence_stands_until_its_operation_was_rolled_back() {
    let stands = |state: &State| fence_stands(state, HubId(1), "op", Epoch(1));
    let mut state = running();
    advance(&mut state, "op", START + 1, StepName::Fence);
    assert!(stands(&state));
    let mut back = state.clone();
    back.apply(&request("", START + 20, roll_back("op")));
    assert!(!stands(&back), "a fence that comes late is not obeyed");
    back.apply(&request("", START + 21, finish("op")));
    assert!(
        !stands(&back),
        "a region that was down releases it when it returns"
    );
    advance(&mut state, "op", START + 20, StepName::Reverse);
    assert!(stands(&state));
    turn(&mut state, "op", START + 60);
    assert_eq!(state.operations["op"].status, OperationStatus::Succeeded);
    assert!(
        stands(&state),
        "an old primary never serves at its old epoch again"
    );
}

#[test]
fn a_fence_of_an_operation_that_is_not_known_here_stands() {
    assert!(fence_stands(&State::default(), HubId(1), "op", Epoch(1)));
    assert!(fence_stands(&running(), HubId(1), "other", Epoch(1)));
    assert!(fence_stands(&running(), HubId(1), "op", Epoch(7)));
}
