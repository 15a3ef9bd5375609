//! The forced failover: its dry run, its start, and each way it is refused.

use super::world::*;
use crate::backend::{Backend as _, ControlUnavailable};
use control::details::{LeaseDetail, OpenDetail, record};
use control::{
    AcceptedLoss, Answer, Command, LossEstimate, LostRange, OperationKind, Position, StepName,
};
use serde_json::{Value, json};
use types::{Lsn, PartitionId, Sequence, UnixMillis};

const FAILOVERS: &str = "/providers/Castling.Failover/failovers";
const CHECK: &str = "/providers/Castling.Failover/check";

/// A hub whose primary is lost, with twelve records that only it has.
async fn lost() -> World {
    let world = World::with_hub().await;
    *world.fake.loss.lock().unwrap() = Some(estimate(12));
    world
}

fn estimate(records: u64) -> LossEstimate {
    LossEstimate {
        at: UnixMillis(START),
        records,
        bytes: 4_096,
        events: records,
        devices: 3,
        kinds: [("telemetry".to_owned(), records)].into(),
        span_ms: 850,
        age_ms: 400,
        worst_ms: 1_250,
        ..LossEstimate::default()
    }
}

async fn force(world: &World, body: &Value) -> Reply {
    world
        .post(&format!("{HUB}{FAILOVERS}"), &body.to_string())
        .await
}

fn wanted() -> Value {
    json!({ "to": "westcentralus", "forced": true, "acceptLoss": { "span": "PT1S" }, "reason": "fire" })
}

/// Brings a forced failover to its end: the new primary opened after record 70.
fn complete(world: &World, id: &str) {
    for step in StepName::FORCED {
        let operation = id.to_owned();
        let started = Command::StepStarted {
            operation: operation.clone(),
            step,
        };
        assert!(
            !matches!(world.fake.apply(started), Answer::Refused(_)),
            "{step:?}"
        );
        world.advance(100);
        let detail = match step {
            StepName::Lease => record(&LeaseDetail {
                waited_ms: 5_100,
                confirmed: false,
            }),
            StepName::Open => record(&OpenDetail {
                opened: vec![Position {
                    partition: PartitionId(0),
                    lsn: Lsn(70),
                    next_sequence: Sequence(50),
                }],
                ..OpenDetail::default()
            }),
            _ => Value::Null,
        };
        let ended = match step {
            StepName::Commit => Command::CommitFailover {
                operation,
                detail,
                caught_up: None,
            },
            _ => Command::StepEnded {
                operation,
                step,
                detail,
            },
        };
        assert!(
            !matches!(world.fake.apply(ended), Answer::Refused(_)),
            "{step:?}"
        );
    }
    let report =
        Some(json!({ "format": 1, "kind": "failover", "planned": false, "outcome": "Succeeded" }));
    let finish = Command::Finish {
        operation: id.into(),
        report,
        error: None,
    };
    assert!(matches!(world.fake.apply(finish), Answer::Operation(_)));
}

#[tokio::test]
async fn the_forced_dry_run_tells_the_loss_and_changes_nothing() {
    let world = lost().await;
    let before = world.fake.state();
    let path = format!("{HUB}{CHECK}");
    let report = world.post(&path, r#"{"forced":true}"#).await.is(200).json();
    assert_eq!(
        (&report["ready"], &report["forced"], &report["refusal"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert_eq!(report["loss"]["records"], 12);
    assert_eq!(report["loss"]["kinds"], json!({ "telemetry": 12 }));
    let body = r#"{"forced":true,"acceptLoss":{"records":5}}"#;
    let report = world.post(&path, body).await.is(200).json();
    assert_eq!(
        (&report["ready"], &report["refusal"]),
        (&json!(false), &json!("LossExceedsAccepted"))
    );
    let planned = world
        .post(&path, r#"{"forced":false}"#)
        .await
        .is(200)
        .json();
    assert_eq!(
        (&planned["forced"], &planned["loss"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(*world.fake.state(), *before);
}

#[tokio::test]
async fn a_check_that_makes_no_sense_is_refused() {
    let world = lost().await;
    for (body, text) in [
        (r#"{"forced":"yes"}"#, "forced: true or false"),
        (
            r#"{"acceptLoss":{"all":true}}"#,
            "a planned failover loses nothing",
        ),
        (
            r#"{"forced":true,"acceptLoss":"all"}"#,
            "acceptLoss: an object",
        ),
        (r#"{"forced":true,"acceptLoss":{}}"#, "either bounds"),
        (
            r#"{"forced":true,"acceptLoss":{"all":true,"records":1}}"#,
            "either bounds",
        ),
        (
            r#"{"forced":true,"acceptLoss":{"span":"2s"}}"#,
            "is not an ISO 8601 duration",
        ),
        (
            r#"{"forced":true,"acceptLoss":{"records":-1}}"#,
            "is not a whole number",
        ),
        (
            r#"{"forced":true,"acceptLoss":{"seconds":1}}"#,
            "acceptLoss.seconds",
        ),
    ] {
        let reply = world.post(&format!("{HUB}{CHECK}"), body).await;
        reply.refused(400, "InvalidProperties", text);
    }
}

#[tokio::test]
async fn it_starts_with_the_loss_that_was_shown_and_accepted() {
    let world = lost().await;
    let mut body = wanted();
    body["shown"] = json!(estimate(11));
    let reply = force(&world, &body).await.is(202);
    assert!(reply.header("azure-asyncoperation").is_some() && reply.header("location").is_some());
    let id = world.running();
    let begun = reply.json();
    assert_eq!(begun["name"], id);
    let properties = &begun["properties"];
    assert_eq!(
        (&properties["forced"], &properties["status"]),
        (&json!(true), &json!("Running"))
    );
    assert_eq!(properties["lossAccepted"]["span"], "PT1S");
    assert_eq!(properties["lossShown"]["records"], 11);
    assert_eq!(properties["lost"], Value::Null);
    let names: Vec<_> = properties["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].clone())
        .collect();
    assert_eq!(names, ["check", "lease", "commit", "open"]);
    let state = world.fake.state();
    let OperationKind::Forced { accept, shown, .. } = &state.operations[&id].kind else {
        panic!("it is a forced one")
    };
    assert_eq!(
        *accept,
        AcceptedLoss {
            span_ms: Some(1_000),
            ..AcceptedLoss::default()
        }
    );
    assert_eq!(
        (shown.records, state.operations[&id].reason.as_str()),
        (11, "fire")
    );
}

#[tokio::test]
async fn what_was_not_shown_is_what_the_check_found() {
    let world = lost().await;
    force(
        &world,
        &json!({ "forced": true, "acceptLoss": { "all": true } }),
    )
    .await
    .is(202);
    let state = world.fake.state();
    let OperationKind::Forced { shown, .. } = &state.operations[&world.running()].kind else {
        panic!("it is a forced one")
    };
    assert_eq!(shown.records, 12);
}

#[tokio::test]
async fn a_repeat_gives_the_one_that_runs_and_later_the_one_that_ended() {
    let world = lost().await;
    let id = [("x-ms-client-request-id", "same")];
    let path = format!("{HUB}{FAILOVERS}");
    let body = wanted().to_string();
    let first = world.call("POST", &path, &body, &id).await.is(202).json();
    let again = force(&world, &wanted()).await.is(202).json();
    assert_eq!(first["name"], again["name"]);
    complete(&world, first["name"].as_str().unwrap());
    let late = world.call("POST", &path, &body, &id).await;
    late.refused(400, "FailoverRegionMismatch", "secondary region 'westus2'");
    let mut back = json!({ "to": "westus2", "forced": true, "acceptLoss": { "span": "PT1H" } });
    force(&world, &back)
        .await
        .refused(409, "SecondaryNotReady", "has not returned");
    back["acceptLoss"] = json!({ "all": true });
    force(&world, &back).await.is(202);
}

#[tokio::test]
async fn each_refusal_has_its_code_and_nothing_begins() {
    let world = lost().await;
    let mut little = wanted();
    little["acceptLoss"] = json!({ "span": "PT0.5S" });
    force(&world, &little)
        .await
        .refused(409, "LossExceedsAccepted", "more than the accepted");
    *world.fake.primary_is_well.lock().unwrap() = true;
    force(&world, &wanted())
        .await
        .refused(409, "PrimaryIsHealthy", "primary-lost");
    *world.fake.primary_is_well.lock().unwrap() = false;
    *world.fake.loss.lock().unwrap() = None;
    force(&world, &wanted())
        .await
        .refused(409, "SecondaryNotReady", "secondary-reachable");
    assert_eq!(world.fake.state().running_operations().count(), 0);
}

#[tokio::test]
async fn mistakes_are_named_at_once() {
    let world = lost().await;
    let body = json!({ "to": "westcentralus", "acceptLoss": { "span": 2 }, "shown": { "records": "x" }, "reason": 1 });
    let reply = force(&world, &body).await;
    for text in [
        "forced: it must be true",
        "acceptLoss.span",
        "shown: it is no estimate",
        "reason: a text",
    ] {
        reply.refused(400, "InvalidProperties", text);
    }
    let missing = json!({ "to": "westcentralus", "forced": true });
    force(&world, &missing)
        .await
        .refused(400, "InvalidProperties", "acceptLoss: it is missing");
    for to in [
        json!("westus2"),
        json!("eastus"),
        json!("atlantis"),
        json!(7),
    ] {
        let mut body = wanted();
        body["to"] = to;
        let reply = force(&world, &body).await;
        reply.refused(
            400,
            "FailoverRegionMismatch",
            "secondary region 'westcentralus'",
        );
    }
    world.post(&format!("{HUB}{FAILOVERS}"), "").await.refused(
        400,
        "InvalidRequestContent",
        "empty",
    );
}

#[tokio::test]
async fn a_planned_one_must_be_cancelled_first_and_azures_verb_stays_planned() {
    let world = lost().await;
    let planned = json!({ "failoverRegion": "westcentralus", "forced": true }).to_string();
    world
        .post(&format!("{HUB}/failover"), &planned)
        .await
        .is(202);
    let id = world.running();
    assert!(!world.fake.state().operations[&id].is_forced());
    force(&world, &wanted())
        .await
        .refused(409, "409002", "cancel it first");
}

#[tokio::test]
async fn azures_verb_does_not_take_a_forced_one_for_its_own() {
    let world = lost().await;
    force(&world, &wanted()).await.is(202);
    let planned = json!({ "failoverRegion": "westcentralus" }).to_string();
    world
        .post(&format!("{HUB}/failover"), &planned)
        .await
        .refused(409, "409002", "not currently in Active state");
}

#[tokio::test]
async fn a_silent_control_plane_is_no_refusal() {
    let world = lost().await;
    *world.fake.broken.lock().unwrap() = Some(ControlUnavailable {
        why: "w".into(),
        may_have_happened: false,
    });
    assert_eq!(
        force(&world, &wanted()).await.is(503).header("retry-after"),
        Some("1")
    );
}

#[tokio::test]
async fn the_hub_and_the_failover_say_whether_the_old_primary_is_back_and_what_was_lost() {
    let world = lost().await;
    let id = force(&world, &wanted()).await.is(202).json()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let waits =
        world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json()["properties"]["waitsFor"].clone();
    assert_eq!(waits, "what westcentralus knows");
    complete(&world, &id);
    let away = world.get(HUB).await.json()["properties"]["castling"]["oldPrimary"].clone();
    assert_eq!(
        (&away["region"], &away["returned"], &away["failover"]),
        (&json!("westus2"), &json!(false), &json!(id))
    );
    let ended = world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json();
    assert_eq!(
        (&ended["properties"]["status"], &ended["properties"]["lost"]),
        (&json!("Succeeded"), &Value::Null)
    );
    assert_eq!(ended["properties"]["waitsFor"], Value::Null);
    let hub = world.fake.state().hub_named("hub-one").unwrap().id;
    let range = LostRange {
        partition: PartitionId(0),
        from: Lsn(71),
        to: Lsn(80),
        records: 10,
        events: 8,
        bytes: 999,
        first_time: Some(UnixMillis(START)),
        last_time: Some(UnixMillis(START + 700)),
    };
    let back = Command::Returned {
        hub,
        operation: id.clone(),
        region: region("westus2"),
        partitions: vec![range],
    };
    assert_eq!(world.fake.apply(back), Answer::Done);
    let returned =
        world.get(HUB).await.json()["properties"]["castling"]["oldPrimary"]["returned"].clone();
    assert_eq!(returned, true);
    let lost =
        world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json()["properties"]["lost"].clone();
    assert_eq!(
        (&lost["records"], &lost["events"], &lost["spanMs"]),
        (&json!(10), &json!(8), &json!(700))
    );
    assert_eq!(lost["partitions"][0]["to"], 80);
}

#[tokio::test]
async fn a_report_is_a_page_for_those_who_ask_for_one() {
    let world = lost().await;
    let id = force(&world, &wanted()).await.is(202).json()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    complete(&world, &id);
    let path = format!("{HUB}{FAILOVERS}/{id}/report");
    let page = world
        .call("GET", &path, "", &[("accept", "text/html")])
        .await
        .is(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text.starts_with("<!DOCTYPE html>"), "{}", page.text);
    let json = world
        .call("GET", &path, "", &[("accept", "*/*")])
        .await
        .is(200);
    assert_eq!(json.json()["planned"], false);
}

#[tokio::test(start_paused = true)]
async fn an_election_is_waited_for_but_not_for_ever() {
    let world = lost().await;
    *world.fake.leaderless.lock().unwrap() = 5;
    force(&world, &wanted()).await.is(202);
    let world = lost().await;
    *world.fake.leaderless.lock().unwrap() = u32::MAX;
    force(&world, &wanted()).await.refused(
        409,
        "FailoverChecksFailed",
        "control-leader: nobody leads",
    );
}
