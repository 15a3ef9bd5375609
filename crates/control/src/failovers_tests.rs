use crate::details::{HandoverDetail, record};
use crate::failover::{Action, Timings, next_action};
use crate::refusal::RefusalCode;
use crate::testing::*;
use crate::{Answer, Command, HubState, OperationStatus, State, StepName};
use serde_json::json;
use types::{Epoch, HubId, UnixMillis};

fn running() -> State {
    let mut state = active_hub();
    state.apply(&request("", 10_000, start_failover(1, "east", "op")));
    state
}

/// A failover whose steps up to `step` have ended.
fn after(step: StepName) -> State {
    let mut state = running();
    advance(&mut state, "op", 10_001, step);
    state
}

fn apply(state: &mut State, command: Command) -> Answer {
    state.apply(&request("", 11_000, command))
}

fn started(step: StepName) -> Command {
    Command::StepStarted {
        operation: "op".into(),
        step,
    }
}

fn ended(step: StepName) -> Command {
    Command::StepEnded {
        operation: "op".into(),
        step,
        detail: json!({ "n": 1 }),
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

fn hub(state: &State) -> (Epoch, &str, HubState) {
    let hub = state.hub(HubId(1)).unwrap();
    (hub.epoch, hub.primary.as_str(), hub.state)
}

#[test]
fn a_failover_starts_with_the_hub_failing_over_and_nothing_moved() {
    let state = running();
    assert_eq!(hub(&state), (Epoch(1), "west", HubState::FailingOver));
    let op = &state.operations["op"];
    assert_eq!(
        (op.by.as_str(), op.reason.as_str(), op.steps.len()),
        ("tester", "drill", 0)
    );
    assert!(!op.switch().unwrap().back);
}

#[test]
fn the_same_operation_id_gives_the_same_operation_back_also_after_its_end() {
    let mut state = running();
    let Answer::Operation(op) = apply(&mut state, start_failover(1, "east", "op")) else {
        panic!()
    };
    assert_eq!(*op, state.operations["op"]);
    for at in 11_001..11_020 {
        turn(&mut state, "op", at);
    }
    let Answer::Operation(op) = apply(&mut state, start_failover(1, "east", "op")) else {
        panic!()
    };
    assert_eq!(op.status, OperationStatus::Succeeded);
}

#[test]
fn a_second_failover_of_the_same_hub_is_refused_while_one_runs() {
    let answer = apply(&mut running(), start_failover(1, "east", "other"));
    check_refused(&answer, RefusalCode::HubNotActive, "'op' runs on it");
}

#[test]
fn a_reason_that_is_too_long_or_an_id_in_use_is_refused() {
    let mut state = active_hub();
    let mut long = start_failover(1, "east", "op");
    if let Command::StartFailover { reason, .. } = &mut long {
        *reason = "x".repeat(513);
    }
    check_refused(
        &apply(&mut state, long),
        RefusalCode::InvalidProperties,
        "512",
    );
    let used = apply(&mut state, start_failover(1, "east", "create-Hub-One"));
    check_refused(&used, RefusalCode::InvalidProperties, "in use");
}

#[test]
fn success_swaps_the_regions_and_raises_the_epoch_once() {
    let mut state = active_hub();
    let first = switch(&mut state, "f", "east", 10_000);
    assert_eq!(hub(&state), (Epoch(2), "east", HubState::Active));
    let hour = state.deployment.policy.cooldown_ms;
    switch(&mut state, "b", "west", first + hour);
    assert_eq!(hub(&state), (Epoch(3), "west", HubState::Active));
    assert!(state.operations["b"].switch().unwrap().back);
    assert_eq!(state.hub(HubId(1)).unwrap().home.as_str(), "west");
}

#[test]
fn a_one_way_pair_fails_back_to_its_own_home() {
    let mut state = active_hub();
    let hub = state.hubs.get_mut("hub-one").unwrap();
    (hub.home, hub.partner, hub.primary) = (region("east"), Some(region("west")), region("east"));
    let ended = switch(&mut state, "f", "west", 10_000);
    let hub = state.hub(HubId(1)).unwrap();
    assert_eq!(
        (hub.secondary(), hub.home.as_str()),
        (Some(&region("east")), "east")
    );
    let back = ended + state.deployment.policy.cooldown_ms;
    switch(&mut state, "b", "east", back);
    assert_eq!(state.hub(HubId(1)).unwrap().primary.as_str(), "east");
}

#[test]
fn only_the_next_step_may_begin() {
    let order = StepName::PLANNED;
    for (at, done) in order.iter().enumerate().take(order.len() - 1) {
        for step in order {
            let mut state = after(*done);
            let answer = apply(&mut state, started(step));
            if order[at + 1] == step {
                assert!(
                    matches!(answer, Answer::Operation(_)),
                    "{done:?} → {step:?}: {answer:?}"
                );
                assert_eq!(
                    apply(&mut state, started(step)),
                    answer,
                    "a repetition changes nothing"
                );
            } else {
                check_refused(&answer, RefusalCode::StepOutOfOrder, "op");
            }
        }
    }
}

#[test]
fn a_step_that_ended_keeps_what_it_recorded_first() {
    let mut state = after(StepName::Warm);
    let before = state.operations["op"].clone();
    assert_eq!(
        apply(&mut state, ended(StepName::Warm)),
        Answer::Operation(Box::new(before.clone()))
    );
    assert_eq!(state.operations["op"], before);
}

#[test]
fn a_fence_ends_only_after_its_start_was_recorded() {
    for (done, step) in [
        (StepName::Check, StepName::Warm),
        (StepName::Warm, StepName::Fence),
    ] {
        check_refused(
            &apply(&mut after(done), ended(step)),
            RefusalCode::StepOutOfOrder,
            "has not begun",
        );
    }
    let mut state = after(StepName::Fence);
    let Answer::Operation(op) = apply(&mut state, ended(StepName::CatchUp)) else {
        panic!()
    };
    assert_eq!(
        Some(op.step(StepName::CatchUp).unwrap().started),
        op.step(StepName::Fence).unwrap().ended
    );
}

#[test]
fn it_commits_only_after_the_catch_up_and_only_once() {
    for done in [StepName::Check, StepName::Warm, StepName::Fence] {
        let mut state = after(done);
        check_refused(
            &apply(&mut state, commit()),
            RefusalCode::StepOutOfOrder,
            "the next step is",
        );
        assert_eq!(hub(&state).0, Epoch(1));
    }
    let mut state = after(StepName::CatchUp);
    check_refused(
        &apply(&mut state, ended(StepName::Commit)),
        RefusalCode::StepOutOfOrder,
        "CommitFailover",
    );
    assert_eq!(apply(&mut state, commit()), Answer::Epoch(Epoch(2)));
    assert_eq!(hub(&state), (Epoch(2), "east", HubState::FailingOver));
    assert_eq!(apply(&mut state, commit()), Answer::Epoch(Epoch(2)));
    assert_eq!(hub(&state).0, Epoch(2));
}

#[test]
fn a_commit_whose_start_was_recorded_is_stopped_by_a_cancel_all_the_same() {
    let mut state = after(StepName::CatchUp);
    apply(&mut state, started(StepName::Commit));
    apply(&mut state, cancel());
    check_refused(
        &apply(&mut state, commit()),
        RefusalCode::StepOutOfOrder,
        "roll-back was asked for",
    );
    assert_eq!(hub(&state), (Epoch(1), "west", HubState::FailingOver));
}

#[test]
fn a_cancel_stops_the_next_step_and_ends_as_cancelled() {
    for done in [
        StepName::Check,
        StepName::Warm,
        StepName::Fence,
        StepName::CatchUp,
    ] {
        let mut state = after(done);
        let Answer::Operation(op) = apply(&mut state, cancel()) else {
            panic!()
        };
        assert_eq!(op.cancel.as_deref(), Some("tester"));
        assert_eq!(
            apply(&mut state, cancel()),
            Answer::Operation(op.clone()),
            "a repetition changes nothing"
        );
        let next = op.next_step().unwrap();
        check_refused(
            &apply(&mut state, started(next)),
            RefusalCode::StepOutOfOrder,
            "roll-back was asked for",
        );
        check_refused(
            &apply(&mut state, commit()),
            RefusalCode::StepOutOfOrder,
            "",
        );
        for at in 11_001..11_010 {
            turn(&mut state, "op", at);
        }
        assert_eq!(
            state.operations["op"].status,
            OperationStatus::Cancelled,
            "{done:?}"
        );
        assert_eq!(
            state.operations["op"].error.as_ref().unwrap().0,
            "Cancelled"
        );
        assert_eq!(hub(&state), (Epoch(1), "west", HubState::Active));
        assert!(matches!(apply(&mut state, cancel()), Answer::Operation(_)));
    }
}

#[test]
fn after_the_point_of_no_return_nothing_goes_back() {
    for done in [StepName::Commit, StepName::Open, StepName::Reverse] {
        let mut state = after(done);
        check_refused(
            &apply(&mut state, cancel()),
            RefusalCode::PastPointOfNoReturn,
            "cannot be cancelled",
        );
        check_refused(
            &apply(&mut state, roll_back("op")),
            RefusalCode::PastPointOfNoReturn,
            "cannot be rolled back",
        );
        check_refused(
            &apply(&mut state, fail("op")),
            RefusalCode::PastPointOfNoReturn,
            "with an error",
        );
        assert_eq!(hub(&state).0, Epoch(2));
    }
}

#[test]
fn a_roll_back_makes_the_commit_impossible_and_ends_at_the_same_epoch() {
    let mut state = after(StepName::CatchUp);
    let Answer::Operation(op) = apply(&mut state, roll_back("op")) else {
        panic!()
    };
    assert_eq!(apply(&mut state, roll_back("op")), Answer::Operation(op));
    check_refused(
        &apply(&mut state, commit()),
        RefusalCode::StepOutOfOrder,
        "rolling back",
    );
    check_refused(
        &apply(&mut state, started(StepName::Commit)),
        RefusalCode::StepOutOfOrder,
        "rolling back",
    );
    assert!(matches!(apply(&mut state, cancel()), Answer::Operation(op) if op.cancel.is_none()));
    apply(
        &mut state,
        Command::StepEnded {
            operation: "op".into(),
            step: StepName::RollBack,
            detail: record(&json!({})),
        },
    );
    let Answer::Operation(op) = apply(&mut state, fail("op")) else {
        panic!()
    };
    assert_eq!(op.status, OperationStatus::RolledBack);
    assert_eq!(op.error.unwrap().0, "Test", "the first reason is kept");
    assert_eq!(hub(&state), (Epoch(1), "west", HubState::Active));
}

#[test]
fn a_roll_back_cannot_be_begun_or_ended_as_an_ordinary_step() {
    let mut state = after(StepName::Fence);
    check_refused(
        &apply(&mut state, started(StepName::RollBack)),
        RefusalCode::StepOutOfOrder,
        "begins with RollBack",
    );
    check_refused(
        &apply(&mut state, ended(StepName::RollBack)),
        RefusalCode::StepOutOfOrder,
        "has not begun",
    );
    apply(&mut state, roll_back("op"));
    check_refused(
        &apply(&mut state, ended(StepName::CatchUp)),
        RefusalCode::StepOutOfOrder,
        "rolling back",
    );
}

#[test]
fn it_finishes_only_when_it_is_done() {
    for done in [
        StepName::Check,
        StepName::CatchUp,
        StepName::Commit,
        StepName::Open,
    ] {
        check_refused(
            &apply(&mut after(done), finish("op")),
            RefusalCode::StepOutOfOrder,
            "Next:",
        );
    }
    let mut fenced = after(StepName::Fence);
    check_refused(
        &apply(&mut fenced, fail("op")),
        RefusalCode::StepOutOfOrder,
        "roll back first",
    );
    let mut unfenced = after(StepName::Warm);
    let Answer::Operation(op) = apply(&mut unfenced, fail("op")) else {
        panic!()
    };
    assert_eq!(op.status, OperationStatus::RolledBack);
    assert_eq!(hub(&unfenced), (Epoch(1), "west", HubState::Active));
}

#[test]
fn an_operation_that_ended_takes_no_more_steps() {
    let mut state = after(StepName::Warm);
    apply(&mut state, fail("op"));
    for command in [
        started(StepName::Fence),
        ended(StepName::Fence),
        commit(),
        cancel(),
        roll_back("op"),
    ] {
        check_refused(
            &apply(&mut state, command),
            RefusalCode::OperationEnded,
            "RolledBack",
        );
    }
}

#[test]
fn commands_for_what_is_no_failover_are_refused() {
    let mut state = active_hub();
    let other = |name: &str| Command::CancelFailover {
        operation: name.into(),
    };
    check_refused(
        &apply(&mut state, other("none")),
        RefusalCode::OperationNotFound,
        "none",
    );
    check_refused(
        &apply(&mut state, other("create-Hub-One")),
        RefusalCode::StepOutOfOrder,
        "not a failover",
    );
}

#[test]
fn status_can_always_say_what_comes_next() {
    let say = |state: &State| state.operations["op"].legal_next();
    assert_eq!(say(&running()), "cancel, or wait for check");
    assert_eq!(say(&after(StepName::Fence)), "cancel, or wait for catchup");
    assert_eq!(
        say(&after(StepName::Commit)),
        "wait for open in east: past the point of no return it only goes forward"
    );
    let mut state = after(StepName::Fence);
    apply(&mut state, cancel());
    assert_eq!(say(&state), "wait: the roll-back that was asked for begins");
    apply(&mut state, roll_back("op"));
    assert_eq!(
        say(&state),
        "wait: west releases its fence and serves again"
    );
    apply(&mut state, finish("op"));
    assert_eq!(say(&state), "none: the operation has ended");
}

#[test]
fn a_catch_up_that_comes_with_the_commit_is_recorded_with_it_unless_the_sides_disagree() {
    let commit = |reached: serde_json::Value| Command::CommitFailover {
        operation: "op".into(),
        detail: json!({ "epoch": 2, "primary": "east" }),
        caught_up: Some(reached),
    };
    let mut state = after(StepName::Fence);
    let mut agreed = state.clone();
    let reached = agreed.operations["op"]
        .step(StepName::Fence)
        .unwrap()
        .detail
        .clone();
    assert_eq!(
        apply(&mut agreed, commit(reached.clone())),
        Answer::Epoch(Epoch(2))
    );
    assert!(agreed.operations["op"].has_ended(StepName::CatchUp));
    assert_eq!(apply(&mut agreed, commit(reached)), Answer::Epoch(Epoch(2)));

    let other = record(&HandoverDetail::default());
    let answer = apply(&mut state, commit(other));
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    let op = &state.operations["op"];
    assert!(op.has_ended(StepName::CatchUp) && !op.is_committed());
    let hub = state.hub(HubId(1)).unwrap();
    assert!(matches!(
        next_action(op, hub, UnixMillis(0), &Timings::default()),
        Action::RollBack { .. }
    ));
}
