//! Drills over the API; the coordinator is played by the test.

use super::world::*;
use crate::backend::Backend as _;
use control::{Answer, Command};
use serde_json::{Value, json};

const DRILLS: &str = "/providers/Castling.Failover/drills";

async fn start(world: &World, body: &str) -> Value {
    world
        .post(&format!("{HUB}{DRILLS}"), body)
        .await
        .is(202)
        .json()
}

/// Starts a leg as the coordinator does.
fn leg(world: &World, drill: &str, number: usize) -> String {
    let state = world.fake.state();
    let drill = &state.drills[drill];
    let id = drill.leg_id(number);
    let command = Command::StartFailover {
        hub: drill.hub,
        to: [&drill.to, &drill.from][number].clone(),
        operation: id.clone(),
        reason: String::new(),
        excluded: false,
        drill: Some(drill.id.clone()),
    };
    assert!(matches!(world.fake.apply(command), Answer::Operation(_)));
    id
}

#[tokio::test]
async fn a_drill_goes_there_and_back_and_leaves_a_report() {
    let world = World::with_hub().await;
    let begun = start(&world, r#"{"holdSeconds":1.5,"reason":"quarter"}"#).await;
    let id = begun["name"].as_str().unwrap().to_owned();
    let properties = &begun["properties"];
    assert_eq!(
        (&properties["status"], &properties["holdSeconds"]),
        (&json!("Running"), &json!(1.5))
    );
    assert_eq!(
        (&properties["by"], &properties["reason"]),
        (&json!(APP), &json!("quarter"))
    );
    assert_eq!(
        properties["waitsFor"],
        "the failover to westcentralus to begin"
    );
    let path = format!("{HUB}{DRILLS}/{id}");
    let there = leg(&world, &id, 0);
    let during = world.get(&path).await.is(200).json();
    let waits = during["properties"]["waitsFor"].as_str().unwrap();
    assert!(
        waits.starts_with(&format!("failover {there} (step check)")),
        "{waits}"
    );
    assert_eq!(during["properties"]["legs"][0]["status"], "Running");
    world
        .get(&format!("{path}/report"))
        .await
        .refused(409, "DrillRunning", "when it ends");
    world.complete(&there);
    let holding = world.get(&path).await.json();
    assert!(
        holding["properties"]["waitsFor"]
            .as_str()
            .unwrap()
            .starts_with("the hold to end at 2026-")
    );
    world.advance(1_500);
    let back = leg(&world, &id, 1);
    world.complete(&back);
    world.fake.apply(Command::EndDrill {
        drill: id.clone(),
        report: Some(json!({ "format": 1, "kind": "drill", "outcome": "Succeeded" })),
        error: None,
    });
    let ended = world.get(&path).await.json();
    let properties = &ended["properties"];
    assert_eq!(
        (&properties["status"], &properties["waitsFor"]),
        (&json!("Succeeded"), &Value::Null)
    );
    assert_eq!(
        (
            &properties["legs"][0]["pauseMs"],
            &properties["legs"][1]["status"]
        ),
        (&json!(340), &json!("Succeeded"))
    );
    let report = world.get(&format!("{path}/report")).await.is(200).json();
    assert_eq!(report["kind"], "drill");
    assert_eq!(properties["report"], report);
    let page = world
        .call(
            "GET",
            &format!("{path}/report"),
            "",
            &[("accept", "text/html")],
        )
        .await;
    assert!(page.is(200).text.contains("<html"));
    let failover = world
        .get(&format!(
            "{HUB}/providers/Castling.Failover/failovers/{back}"
        ))
        .await
        .json();
    assert_eq!(
        (
            &failover["properties"]["drill"],
            &failover["properties"]["forced"]
        ),
        (&json!(id), &json!(false))
    );
}

#[tokio::test]
async fn a_repeat_gives_the_drill_that_runs() {
    let world = World::with_hub().await;
    let first = start(&world, "").await;
    assert_eq!(first["properties"]["holdSeconds"], 30.0);
    let again = start(&world, r#"{"holdSeconds":0}"#).await;
    assert_eq!(first["name"], again["name"]);
    let list = world.get(&format!("{HUB}{DRILLS}")).await.is(200).json();
    assert_eq!(list["value"].as_array().unwrap().len(), 1);
    assert_eq!(list["value"][0]["properties"]["report"], Value::Null);
}

#[tokio::test]
async fn a_repeat_under_its_request_id_finds_the_drill_that_ended_meanwhile() {
    let world = World::with_hub().await;
    let id = [("x-ms-client-request-id", "same")];
    let path = format!("{HUB}{DRILLS}");
    let first = world.call("POST", &path, "", &id).await.is(202).json();
    let error = Some(("Test".to_owned(), "it could not begin".to_owned()));
    world.fake.apply(Command::EndDrill {
        drill: first["name"].as_str().unwrap().into(),
        report: None,
        error,
    });
    let again = world.call("POST", &path, "", &id).await.is(202).json();
    assert_eq!(
        (&again["name"], &again["properties"]["status"]),
        (&first["name"], &json!("Failed"))
    );
    assert_eq!(again["properties"]["error"]["code"], "Test");
    world
        .get(&format!(
            "{path}/{}/report",
            first["name"].as_str().unwrap()
        ))
        .await
        .refused(404, "ReportNotFound", "without a report");
    world.advance(HOUR);
    let later = world.call("POST", &path, "", &id).await.is(202).json();
    assert_ne!(later["name"], first["name"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let world = World::with_hub().await;
    let path = format!("{HUB}{DRILLS}");
    for (body, text) in [
        (
            r#"{"holdSeconds":-1}"#,
            "holdSeconds: -1 is not a number of seconds",
        ),
        (r#"{"holdSeconds":"1m"}"#, "holdSeconds"),
        (r#"{"holdSeconds":86401}"#, "from 0 to 86400"),
        (r#"{"reason":[]}"#, "reason: a text"),
    ] {
        world
            .post(&path, body)
            .await
            .refused(400, "InvalidProperties", text);
    }
    for rest in ["", "/report"] {
        world
            .get(&format!("{path}/nope{rest}"))
            .await
            .refused(404, "DrillNotFound", "'nope'");
    }
    let failover = json!({ "failoverRegion": "westcentralus" }).to_string();
    world
        .post(&format!("{HUB}/failover"), &failover)
        .await
        .is(202);
    world.post(&path, "").await.refused(409, "409002", "Active");
}
