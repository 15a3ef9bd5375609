use crate::drill::{Drill, DrillAction, DrillStatus, Sample, drill_next, report};
use crate::refusal::RefusalCode;
use crate::testing::*;
use crate::{Answer, Command, OperationStatus, State};
use serde_json::json;
use types::{HubId, UnixMillis, limits};

const START: i64 = 10_000;
const HOLD: i64 = 60_000;

fn start(id: &str) -> Command {
    Command::StartDrill {
        hub: HubId(1),
        drill: id.into(),
        reason: "twice a year".into(),
        hold_ms: HOLD,
    }
}

fn leg(drill: &Drill, leg: usize) -> Command {
    let to = [&drill.to, &drill.from][leg];
    Command::StartFailover {
        hub: drill.hub,
        to: to.clone(),
        operation: drill.leg_id(leg),
        reason: drill.reason.clone(),
        excluded: false,
        drill: Some(drill.id.clone()),
    }
}

fn end(id: &str, error: Option<(&str, &str)>) -> Command {
    Command::EndDrill {
        drill: id.into(),
        report: None,
        error: error.map(|(code, why)| (code.into(), why.into())),
    }
}

fn running() -> State {
    let mut state = active_hub();
    let answer = state.apply(&request("", START, start("d")));
    assert!(matches!(answer, Answer::Drill(_)), "{answer:?}");
    state
}

fn apply(state: &mut State, at: i64, command: Command) -> Answer {
    state.apply(&request("", at, command))
}

fn next(state: &State, at: i64) -> DrillAction {
    drill_next(state, &state.drills["d"], UnixMillis(at))
}

fn drive(state: &mut State, op: &str, from: i64) -> i64 {
    for at in from..from + 30 {
        turn(state, op, at);
        if let Some(ended) = state.operations[op].ended {
            return ended.0;
        }
    }
    panic!("{op} did not end");
}

/// Has the hub been there; gives the instant at which it was.
fn there(state: &mut State) -> i64 {
    let drill = state.drills["d"].clone();
    assert_eq!(next(state, START + 1), DrillAction::StartForward);
    let answer = apply(state, START + 1, leg(&drill, 0));
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
    assert_eq!(next(state, START + 2), DrillAction::Wait);
    drive(state, "d-there", START + 2)
}

fn check_ends(action: &DrillAction, expected: &str, text: &str) {
    match action {
        DrillAction::End {
            error: Some((code, why)),
        } => {
            assert_eq!(code, expected, "{why}");
            assert!(why.contains(text), "`{text}` in: {why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_drill_goes_there_stays_comes_back_and_ends() {
    let mut state = running();
    let was_there = there(&mut state);
    assert_eq!(state.hub(HubId(1)).unwrap().primary, region("east"));
    assert_eq!(next(&state, was_there + HOLD - 1), DrillAction::Wait);
    assert_eq!(next(&state, was_there + HOLD), DrillAction::StartBack);
    let drill = state.drills["d"].clone();
    apply(&mut state, was_there + HOLD, leg(&drill, 1));
    assert_eq!(next(&state, was_there + HOLD + 1), DrillAction::Wait);
    let back = drive(&mut state, "d-back", was_there + HOLD + 1);
    assert_eq!(state.hub(HubId(1)).unwrap().primary, region("west"));
    assert_eq!(next(&state, back), DrillAction::End { error: None });
    apply(&mut state, back, end("d", None));
    let drill = &state.drills["d"];
    assert_eq!(
        (drill.status, drill.ended),
        (DrillStatus::Succeeded, Some(UnixMillis(back)))
    );
    assert_eq!(next(&state, back), DrillAction::Wait);
    assert!(state.running_drill(HubId(1)).is_none());
}

#[test]
fn its_legs_neither_wait_for_the_policy_nor_count_in_it() {
    let mut state = active_hub();
    state.deployment.policy.per_day = 1;
    // The daily number of both directions is used up, and the hour has not passed.
    let one = switch(&mut state, "one", "east", 1_000);
    state.deployment.policy.cooldown_ms = 0;
    let two = switch(&mut state, "two", "west", one + 1);
    state.deployment.policy.cooldown_ms = 3_600_000;
    assert!(two < START);
    apply(&mut state, START, start("d"));
    let was_there = there(&mut state);
    let drill = state.drills["d"].clone();
    apply(&mut state, was_there + HOLD, leg(&drill, 1));
    let back = drive(&mut state, "d-back", was_there + HOLD + 1);
    for id in ["d-there", "d-back"] {
        assert_eq!(state.operations[id].status, OperationStatus::Succeeded);
    }
    apply(&mut state, back, end("d", None));
    let mut fresh = running();
    let was_there = there(&mut fresh);
    let probe = start_failover(1, "west", "probe");
    let answer = apply(&mut fresh, was_there + 1, probe);
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
}

#[test]
fn one_drill_runs_on_a_hub_at_a_time_and_the_same_id_is_the_same_drill() {
    let mut state = running();
    check_refused(
        &apply(&mut state, START, start("other")),
        RefusalCode::DrillRunning,
        "Drill 'd' runs on IotHub 'Hub-One'",
    );
    match apply(&mut state, START + 9, start("d")) {
        Answer::Drill(drill) => assert_eq!(*drill, state.drills["d"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_drill_needs_a_pair_an_active_hub_and_good_figures() {
    let check = |command: Command, spoil: fn(&mut State), code, text: &str| {
        let mut state = active_hub();
        spoil(&mut state);
        check_refused(&apply(&mut state, START, command), code, text);
        assert!(state.drills.is_empty());
    };
    let changed = |change: fn(&mut String, &mut String, &mut i64)| {
        let mut command = start("d");
        if let Command::StartDrill {
            drill,
            reason,
            hold_ms,
            ..
        } = &mut command
        {
            change(drill, reason, hold_ms);
        }
        command
    };
    let bad = RefusalCode::InvalidProperties;
    check(
        start("d"),
        |s| s.hubs.get_mut("hub-one").unwrap().partner = None,
        RefusalCode::FailoverNoPair,
        "",
    );
    check(
        start("d"),
        |s| drop(s.apply(&request("", 9, start_failover(1, "east", "x")))),
        RefusalCode::HubNotActive,
        "'x'",
    );
    check(changed(|_, _, hold| *hold = -1), |_| {}, bad, "stays");
    check(
        changed(|_, _, hold| *hold = limits::DRILL_HOLD_MS_MAX + 1),
        |_| {},
        bad,
        "24 h",
    );
    check(changed(|id, _, _| id.clear()), |_| {}, bad, "drill id");
    check(
        changed(|id, _, _| *id = "x".repeat(limits::DRILL_ID_CHARS_MAX + 1)),
        |_| {},
        bad,
        "drill id",
    );
    check(
        changed(|_, why, _| *why = "x".repeat(limits::FAILOVER_REASON_CHARS_MAX + 1)),
        |_| {},
        bad,
        "reason",
    );
}

#[test]
fn the_ids_of_its_legs_fit() {
    let mut state = active_hub();
    let id = "x".repeat(limits::DRILL_ID_CHARS_MAX);
    apply(&mut state, START, start(&id));
    let drill = state.drills[&id].clone();
    for n in 0..2 {
        assert!(drill.leg_id(n).len() <= limits::OPERATION_ID_CHARS_MAX);
    }
    let answer = apply(&mut state, START, leg(&drill, 0));
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
}

#[test]
fn legs_keep_their_order_and_their_drill() {
    let mut state = running();
    let drill = state.drills["d"].clone();
    let mut stray = leg(&drill, 0);
    if let Command::StartFailover { drill, .. } = &mut stray {
        *drill = Some("none".into());
    }
    check_refused(
        &apply(&mut state, START, stray),
        RefusalCode::DrillNotFound,
        "none",
    );
    let excluded = |mut command: Command| {
        if let Command::StartFailover { excluded, .. } = &mut command {
            *excluded = true;
        }
        command
    };
    check_refused(
        &apply(&mut state, START, excluded(leg(&drill, 0))),
        RefusalCode::FailoverRegionExcluded,
        "",
    );
    let was_there = there(&mut state);
    apply(&mut state, was_there, leg(&drill, 1));
    let back = drive(&mut state, "d-back", was_there + 1);
    check_refused(
        &apply(&mut state, back, leg_to("east", "more")),
        RefusalCode::StepOutOfOrder,
        "there and back",
    );
    apply(&mut state, back, end("d", None));
    check_refused(
        &apply(&mut state, back, leg_to("east", "more")),
        RefusalCode::StepOutOfOrder,
        "it has ended",
    );
}

fn leg_to(to: &str, operation: &str) -> Command {
    Command::StartFailover {
        hub: HubId(1),
        to: region(to),
        operation: operation.into(),
        reason: String::new(),
        excluded: false,
        drill: Some("d".into()),
    }
}

#[test]
fn a_leg_that_goes_back_ends_the_drill_with_its_reason() {
    let mut state = running();
    let drill = state.drills["d"].clone();
    apply(&mut state, START, leg(&drill, 0));
    apply(&mut state, START, roll_back("d-there"));
    drive(&mut state, "d-there", START + 1);
    check_ends(
        &next(&state, START + 9),
        "Test",
        "the failover did not succeed",
    );
    let mut later = running();
    let was_there = there(&mut later);
    apply(&mut later, was_there, leg(&drill, 1));
    apply(&mut later, was_there, roll_back("d-back"));
    drive(&mut later, "d-back", was_there + 1);
    check_ends(
        &next(&later, was_there + 9),
        "Test",
        "the hub stays in east",
    );
    apply(&mut later, was_there + 9, end("d", Some(("Test", "why"))));
    assert_eq!(later.drills["d"].status, DrillStatus::Failed);
}

#[test]
fn a_hub_that_is_moved_or_deleted_meanwhile_ends_the_drill() {
    let mut state = running();
    let was_there = there(&mut state);
    let mut gone = state.clone();
    apply(&mut state, was_there, start_failover(1, "west", "own"));
    assert_eq!(next(&state, was_there + HOLD), DrillAction::Wait);
    drive(&mut state, "own", was_there + 1);
    check_ends(&next(&state, was_there + 9), "DrillInterrupted", "west");
    gone.hubs.clear();
    check_ends(&next(&gone, was_there), "ResourceNotFound", "deleted");
}

#[test]
fn it_does_not_end_while_a_leg_runs_nor_well_without_both() {
    let mut state = running();
    check_refused(
        &apply(&mut state, START, end("d", None)),
        RefusalCode::StepOutOfOrder,
        "there and back",
    );
    let drill = state.drills["d"].clone();
    apply(&mut state, START, leg(&drill, 0));
    check_refused(
        &apply(&mut state, START, end("d", Some(("A", "b")))),
        RefusalCode::StepOutOfOrder,
        "'d-there' runs",
    );
    check_refused(
        &apply(&mut state, START, end("none", None)),
        RefusalCode::DrillNotFound,
        "none",
    );
    drive(&mut state, "d-there", START + 1);
    apply(&mut state, START, end("d", Some(("A", "b"))));
    let ended = state.drills["d"].clone();
    match apply(&mut state, START + 99, end("d", None)) {
        Answer::Drill(again) => assert_eq!(*again, ended),
        other => panic!("{other:?}"),
    }
}

#[test]
fn drills_of_a_hub_are_bounded_and_listed_latest_first() {
    let mut state = active_hub();
    for n in 0..limits::DRILLS_KEPT_PER_HUB_MAX as i64 + 5 {
        let id = format!("d{n:03}");
        apply(&mut state, START + n, start(&id));
        apply(&mut state, START + n, end(&id, Some(("A", "b"))));
    }
    let kept = state.drills_of(HubId(1));
    assert_eq!(kept.len(), limits::DRILLS_KEPT_PER_HUB_MAX);
    assert_eq!(
        (kept[0].id.as_str(), kept[49].id.as_str()),
        ("d054", "d005")
    );
    apply(&mut state, START + 99, start("last"));
    assert!(state.drills["last"].is_running());
}

/// Acknowledging, silent for 300 ms from 200 ms on, acknowledging.
fn samples() -> Vec<Sample> {
    let sample = |n: i64| Sample {
        at: UnixMillis(START + n * 100),
        acknowledged_per_s: if (2..5).contains(&n) { 0.0 } else { 99.96 },
        lag_records: 3,
        lag_ms: n,
        connected: 10 - u64::from(n == 3),
    };
    (0..10).map(sample).collect()
}

#[test]
fn the_report_measures_and_proves() {
    let mut state = running();
    let was_there = there(&mut state);
    let drill = state.drills["d"].clone();
    apply(&mut state, was_there + HOLD, leg(&drill, 1));
    let back = drive(&mut state, "d-back", was_there + HOLD + 1);
    let drill = state.drills["d"].clone();
    let report = report(&state, &drill, &samples(), None, UnixMillis(back));
    for (field, value) in [
        ("kind", json!("drill")),
        ("hub", json!("Hub-One")),
        ("outcome", json!("Succeeded")),
        ("by", json!("tester")),
        ("reason", json!("twice a year")),
        ("from", json!("west")),
        ("to", json!("east")),
    ] {
        assert_eq!(report[field], value, "{field}");
    }
    let measured = &report["measured"];
    for (field, value) in [
        ("lostRecords", json!(0)),
        ("silentMs", json!(400)),
        ("acknowledgedPerSMax", json!(100.0)),
        ("lagMsMax", json!(9)),
        ("connectedBefore", json!(10)),
        ("connectedMin", json!(9)),
        ("connectedAfter", json!(10)),
    ] {
        assert_eq!(measured[field], value, "{field}");
    }
    assert!(measured["recoveryMs"].as_i64().unwrap() > 0);
    let invariants = report["invariants"].as_array().unwrap();
    assert_eq!(invariants.len(), 5);
    assert!(
        invariants.iter().all(|i| i["holds"] == json!(true)),
        "{invariants:?}"
    );
    assert_eq!(report["legs"][0]["operation"], "d-there");
    assert_eq!(report["legs"][1]["kind"], "failback");
    assert_eq!(report["samples"]["rows"][3], json!([300, 0.0, 3, 3, 9]));
}

#[test]
fn the_report_of_a_drill_that_failed_says_how_far_it_came() {
    let mut state = running();
    there(&mut state);
    let drill = state.drills["d"].clone();
    let error = ("Test".to_owned(), "why".to_owned());
    let at = UnixMillis(START + 99);
    let report = report(&state, &drill, &[], Some(&error), at);
    assert_eq!(report["outcome"], "Failed");
    assert_eq!(report["error"]["code"], "Test");
    assert_eq!(report["legs"][1], json!(null));
    assert_eq!(report["samples"], json!(null));
    assert_eq!(report["measured"]["silentMs"], json!(null));
    let holds: Vec<_> = report["invariants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["holds"].as_bool())
        .collect();
    assert_eq!(holds, [Some(true), Some(true), None, None, Some(false)]);
}

#[test]
fn many_samples_become_few_rows_that_keep_the_worst() {
    let many: Vec<_> = (0..5_000)
        .map(|n| Sample {
            at: UnixMillis(START + n),
            acknowledged_per_s: if n == 777 { 0.0 } else { 50.0 },
            lag_records: 0,
            lag_ms: if n == 778 { 90 } else { 1 },
            connected: 5,
        })
        .collect();
    let mut report = json!({});
    crate::drill::attach(&mut report, &many, UnixMillis(START));
    let samples = &report["samples"];
    assert_eq!(samples["taken"], json!(limits::DRILL_SAMPLES_MAX));
    let rows = samples["rows"].as_array().unwrap();
    assert!(rows.len() <= limits::DRILL_SAMPLES_KEPT_MAX);
    assert!(rows.iter().any(|row| row[1] == json!(0.0)));
    assert!(rows.iter().any(|row| row[3] == json!(90)));
    let bytes = serde_json::to_vec(&report).unwrap().len();
    assert!(bytes < limits::CONSENSUS_COMMAND_BYTES_MAX / 4, "{bytes}");
    let mut odd = many[..1].to_vec();
    odd[0].acknowledged_per_s = f64::NAN;
    crate::drill::attach(&mut report, &odd, UnixMillis(START));
    assert_eq!(report["samples"]["rows"][0][1], json!(0.0));
}
