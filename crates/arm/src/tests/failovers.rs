//! Failovers as a resource of their own.

use super::world::*;
use crate::backend::Backend as _;
use control::{Command, StepName};
use serde_json::{Value, json};

const FAILOVERS: &str = "/providers/Castling.Failover/failovers";

async fn start(world: &World, to: &str) -> String {
    world
        .post(
            &format!("{HUB}/failover"),
            &json!({ "failoverRegion": to, "reason": "drill" }).to_string(),
        )
        .await
        .is(202);
    world.running()
}

#[tokio::test]
async fn the_history_is_told_newest_first_with_what_is_allowed_next() {
    let world = World::with_hub().await;
    let empty = world.get(&format!("{HUB}{FAILOVERS}")).await.is(200).json();
    assert_eq!(empty["value"], json!([]));
    let next = json!({ "to": "westcentralus", "kind": "failover", "allowed": true, "why": null, "earliest": null });
    assert_eq!(empty["next"], next);
    let first = start(&world, "westcentralus").await;
    world.complete(&first);
    let blocked = world.get(&format!("{HUB}{FAILOVERS}")).await.json();
    assert_eq!(
        (&blocked["next"]["allowed"], &blocked["next"]["kind"]),
        (&json!(false), &json!("failback"))
    );
    assert!(
        blocked["next"]["why"]
            .as_str()
            .unwrap()
            .contains(blocked["next"]["earliest"].as_str().unwrap())
    );
    world.advance(HOUR);
    let second = start(&world, "westus2").await;
    let list = world.get(&format!("{HUB}{FAILOVERS}")).await.json();
    let names: Vec<_> = list["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [second.as_str(), first.as_str()],
        "the creation of the hub is no failover"
    );
    let (back, forth) = (
        &list["value"][0]["properties"],
        &list["value"][1]["properties"],
    );
    assert_eq!(
        (&back["kind"], &back["status"], &back["epochBefore"]),
        (&json!("failback"), &json!("Running"), &json!(2))
    );
    assert_eq!(
        (&forth["kind"], &forth["status"], &forth["epochAfter"]),
        (&json!("failover"), &json!("Succeeded"), &json!(2))
    );
    assert_eq!(
        forth["steps"],
        Value::Null,
        "steps stand in the single one only"
    );
}

#[tokio::test]
async fn a_running_failover_shows_its_numbered_steps_and_the_way_out() {
    let world = World::with_hub().await;
    let id = start(&world, "westcentralus").await;
    world.walk(&id, StepName::Warm);
    let step = StepName::Fence;
    world.advance(5);
    world.fake.apply(Command::StepStarted {
        operation: id.clone(),
        step,
    });
    let body = world
        .get(&format!("{HUB}{FAILOVERS}/{id}"))
        .await
        .is(200)
        .json();
    assert_eq!(body["type"], "Castling.Failover/failovers");
    assert_eq!(body["id"], format!("{HUB}{FAILOVERS}/{id}"));
    let properties = &body["properties"];
    let steps = properties["steps"].as_array().unwrap();
    let seen: Vec<_> = steps
        .iter()
        .map(|step| {
            (
                step["number"].as_u64().unwrap(),
                step["name"].as_str().unwrap(),
                step["status"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        (1, "check", "Done"),
        (2, "warm", "Done"),
        (3, "fence", "Running"),
        (4, "catchup", "Pending"),
        (5, "commit", "Pending"),
        (6, "open", "Pending"),
        (7, "reverse", "Pending"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        (&steps[1]["ms"], &steps[1]["detail"]),
        (&json!(10), &json!({ "seen": "warm" }))
    );
    assert_eq!(
        (&properties["canCancel"], &properties["reason"]),
        (&json!(true), &json!("drill"))
    );
    assert!(
        properties["legalNext"]
            .as_str()
            .unwrap()
            .starts_with("cancel, or wait")
    );
    world
        .get(&format!("{HUB}{FAILOVERS}/{id}/report"))
        .await
        .refused(409, "FailoverRunning", "when it ends");
}

#[tokio::test]
async fn an_ended_failover_has_its_times_and_its_report() {
    let world = World::with_hub().await;
    let id = start(&world, "westcentralus").await;
    world.complete(&id);
    let body = world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json();
    let properties = &body["properties"];
    assert_eq!(
        (&properties["durationMs"], &properties["pauseMs"]),
        (&json!(770), &json!(340))
    );
    assert_eq!(
        (&properties["canCancel"], &properties["committed"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(properties["by"], APP);
    let report = world
        .get(&format!("{HUB}{FAILOVERS}/{id}/report"))
        .await
        .is(200)
        .json();
    assert_eq!(report, json!({ "format": 1, "outcome": "Succeeded" }));
    assert_eq!(properties["report"], report);
}

#[tokio::test]
async fn a_cancel_is_taken_before_the_point_of_no_return_only() {
    let world = World::with_hub().await;
    let id = start(&world, "westcentralus").await;
    let cancel = format!("{HUB}{FAILOVERS}/{id}/cancel");
    for _ in 0..2 {
        let body = world.post(&cancel, "").await.is(202).json();
        assert_eq!(
            (
                &body["properties"]["cancelledBy"],
                &body["properties"]["canCancel"]
            ),
            (&json!(APP), &json!(false))
        );
    }
    let (code, why) = ("Cancelled".to_owned(), "the operator said so".to_owned());
    world.fake.apply(Command::RollBack {
        operation: id.clone(),
        code,
        why,
    });
    let during = world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json();
    let steps = during["properties"]["steps"].as_array().unwrap();
    assert_eq!(
        (&steps[7]["name"], &steps[7]["number"]),
        (&json!("rollback"), &Value::Null)
    );
    assert_eq!(steps[0]["status"], "NotReached");
    world.fake.apply(Command::Finish {
        operation: id.clone(),
        report: None,
        error: None,
    });
    let after = world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json();
    assert_eq!(
        (
            &after["properties"]["status"],
            &after["properties"]["epochAfter"]
        ),
        (&json!("Cancelled"), &json!(1))
    );
    world
        .get(&format!("{HUB}{FAILOVERS}/{id}/report"))
        .await
        .refused(404, "ReportNotFound", &id);

    let late = start(&world, "westcentralus").await;
    world.walk(&late, StepName::Commit);
    let cancel = format!("{HUB}{FAILOVERS}/{late}/cancel");
    world
        .post(&cancel, "")
        .await
        .refused(409, "PastPointOfNoReturn", "cannot be cancelled");
}

#[tokio::test]
async fn a_failover_that_rolled_back_by_itself_cannot_be_cancelled() {
    let world = World::with_hub().await;
    let id = start(&world, "westcentralus").await;
    let error = Some(("FailoverChecksFailed".to_owned(), "leases".to_owned()));
    world.fake.apply(Command::Finish {
        operation: id.clone(),
        report: None,
        error,
    });
    let cancel = format!("{HUB}{FAILOVERS}/{id}/cancel");
    world
        .post(&cancel, "")
        .await
        .refused(409, "OperationEnded", "has ended");
    let body = world.get(&format!("{HUB}{FAILOVERS}/{id}")).await.json();
    assert_eq!(body["properties"]["status"], "RolledBack");
    assert_eq!(body["properties"]["error"]["code"], "FailoverChecksFailed");
}

#[tokio::test]
async fn only_failovers_of_this_hub_are_shown() {
    let world = World::with_hub().await;
    let state = world.fake.state();
    let creation = state.operations.keys().next().unwrap();
    for id in [creation.as_str(), "nope"] {
        for rest in ["", "/report"] {
            let path = format!("{HUB}{FAILOVERS}/{id}{rest}");
            world
                .get(&path)
                .await
                .refused(404, "OperationNotFound", "no failover");
        }
        world
            .post(&format!("{HUB}{FAILOVERS}/{id}/cancel"), "")
            .await
            .refused(404, "OperationNotFound", id);
    }
}

#[tokio::test]
async fn the_dry_run_gives_the_check_report_and_changes_nothing() {
    let world = World::with_hub().await;
    let before = world.fake.state();
    let report = world
        .post(&format!("{HUB}/providers/Castling.Failover/check"), "")
        .await
        .is(200)
        .json();
    assert_eq!(
        (
            &report["ready"],
            &report["to"],
            &report["expected_pause_ms"]
        ),
        (&json!(true), &json!("westcentralus"), &json!(80))
    );
    assert_eq!(
        report["results"][0],
        json!({ "number": 1, "name": "hub-active", "verdict": "pass", "detail": "it is" })
    );
    assert_eq!(*world.fake.state(), *before);
    let why = crate::backend::ControlUnavailable {
        why: "w".into(),
        may_have_happened: false,
    };
    *world.fake.broken.lock().unwrap() = Some(why);
    world
        .post(&format!("{HUB}/providers/Castling.Failover/check"), "")
        .await
        .is(503);
}
