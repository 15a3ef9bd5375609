//! What a returned region had alone, over the API.

use super::world::*;
use crate::backend::{
    Backend as _, Salvage, SalvageError, SalvagePage, SalvagedChange, SalvagedEvent,
};
use serde_json::{Value, json};
use types::{Epoch, Lsn, PartitionId, Sequence, UnixMillis};

const SALVAGE: &str = "/providers/Castling.Failover/salvage";

fn change(kind: &str, lost: Value, present: Value) -> SalvagedChange {
    let some = |value: Value| Some(value).filter(|value| !value.is_null());
    SalvagedChange {
        kind: kind.into(),
        device: Some("dev-1".into()),
        what: "reported properties".into(),
        lost: some(lost),
        present: some(present),
    }
}

fn segment(id: &str, made: i64) -> SalvagePage {
    SalvagePage {
        salvage: Salvage {
            id: id.into(),
            region: region("westus2"),
            partition: PartitionId(3),
            epoch: Epoch(1),
            first: Lsn(71),
            last: Lsn(80),
            records: 10,
            events: 8,
            bytes: 900,
            first_time: UnixMillis(START),
            last_time: UnixMillis(START + 700),
            made: UnixMillis(made),
        },
        changes: vec![
            change("twin", json!({ "a": 1 }), json!({ "a": 2 })),
            change("registry", json!({ "status": "enabled" }), Value::Null),
            change("c2d", json!({ "id": "m" }), json!({ "id": "m" })),
        ],
        events: vec![SalvagedEvent {
            sequence: Sequence(50),
            device: "dev-1".into(),
            enqueued: UnixMillis(START),
            bytes: 20,
        }],
        next: None,
    }
}

async fn world() -> World {
    let world = World::with_hub().await;
    *world.fake.segments.lock().unwrap() =
        vec![(segment("s2", START + 9), 0), (segment("s1", START + 1), 0)];
    world
}

#[tokio::test]
async fn segments_are_listed_oldest_first_and_silent_regions_are_named() {
    let world = world().await;
    *world.fake.silent.lock().unwrap() = vec![region("westcentralus")];
    let list = world.get(&format!("{HUB}{SALVAGE}")).await.is(200).json();
    let names: Vec<_> = list["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["s1", "s2"]);
    assert_eq!(list["silent"], json!(["westcentralus"]));
    let one = &list["value"][0];
    assert_eq!(one["id"], format!("{HUB}{SALVAGE}/s1"));
    assert_eq!(
        one["properties"],
        json!({
            "region": "westus2", "partition": 3, "epoch": 1, "first": 71, "last": 80, "records": 10, "events": 8, "bytes": 900,
            "firstTime": "2026-11-23T03:04:05.678Z", "lastTime": "2026-11-23T03:04:06.378Z", "made": "2026-11-23T03:04:05.679Z",
        })
    );
}

#[tokio::test]
async fn what_was_lost_stands_beside_what_is_there_page_by_page() {
    let world = world().await;
    let path = format!("{HUB}{SALVAGE}/s1");
    let first = world.get(&path).await.is(200).json()["properties"]["page"].clone();
    assert_eq!(
        first["counts"],
        json!({ "registry": 1, "telemetry": 1, "twin": 1 })
    );
    let twin = json!({ "kind": "twin", "device": "dev-1", "what": "reported properties", "lost": { "a": 1 }, "present": { "a": 2 }, "conflict": true });
    assert_eq!(first["changes"][0], twin);
    assert_eq!(
        (
            &first["changes"][1]["present"],
            &first["changes"][1]["conflict"]
        ),
        (&Value::Null, &json!(true))
    );
    assert_eq!(first["events"][0]["sequenceNumber"], 50);
    let next = first["next"].as_str().unwrap();
    let rest = world
        .get(&format!("{path}?from={next}&api-version=2023-06-30"))
        .await
        .is(200)
        .json();
    let rest = &rest["properties"]["page"];
    assert_eq!(
        (&rest["changes"][0]["kind"], &rest["changes"][0]["conflict"]),
        (&json!("c2d"), &json!(false))
    );
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn a_replay_appends_once_and_is_written_down() {
    let world = world().await;
    let path = format!("{HUB}{SALVAGE}/s1/replay");
    let done = world.post(&path, "").await.is(200).json();
    assert_eq!(done, json!({ "appended": 8, "skipped": 0 }));
    let again = world.post(&path, "").await.is(200).json();
    assert_eq!(again, json!({ "appended": 0, "skipped": 8 }));
    let state = world.fake.state();
    let noted = state
        .activity
        .iter()
        .filter(|one| one.action == "Castling.Failover/salvage/replay/action");
    let noted: Vec<_> = noted.collect();
    assert_eq!(noted.len(), 2);
    assert!(
        noted[0].by == APP && noted[0].resource.ends_with("/salvage/s1"),
        "{noted:?}"
    );
}

#[tokio::test]
async fn a_discard_must_repeat_the_id() {
    let world = world().await;
    let path = format!("{HUB}{SALVAGE}/s1");
    for body in ["", r#"{"confirm":"s2"}"#, r#"{"confirm":true}"#] {
        world
            .call("DELETE", &path, body, &[])
            .await
            .refused(400, "ConfirmationRequired", "'s1'");
    }
    assert_eq!(world.fake.segments.lock().unwrap().len(), 2);
    assert!(
        world
            .fake
            .state()
            .activity
            .iter()
            .all(|one| one.action != "Castling.Failover/salvage/delete")
    );
    world
        .call("DELETE", &path, r#"{"confirm":"s1"}"#, &[])
        .await
        .is(204);
    world
        .delete(&format!(
            "{HUB}{SALVAGE}/s2?confirm=s2&api-version=2023-06-30"
        ))
        .await
        .is(204);
    assert!(world.fake.segments.lock().unwrap().is_empty());
    let noted = world
        .fake
        .state()
        .activity
        .iter()
        .filter(|one| one.action == "Castling.Failover/salvage/delete")
        .count();
    assert_eq!(noted, 2);
}

#[tokio::test]
async fn each_failure_says_whether_something_was_done() {
    let world = world().await;
    let path = format!("{HUB}{SALVAGE}/nope");
    world
        .get(&path)
        .await
        .refused(404, "SalvageNotFound", "'nope'");
    world
        .post(&format!("{path}/replay"), "")
        .await
        .refused(404, "SalvageNotFound", "Hub-One");
    let path = format!("{HUB}{SALVAGE}/s1");
    let with = async |error: SalvageError| {
        *world.fake.salvage_error.lock().unwrap() = Some(error);
        world.post(&format!("{path}/replay"), "").await
    };
    let reply = with(SalvageError::Unavailable("westus2 does not answer".into()))
        .await
        .is(503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(reply.message().contains("Nothing has been done"));
    with(SalvageError::OutcomeUnknown("the link broke".into()))
        .await
        .refused(500, "OutcomeUnknown", "may have been done");
    with(SalvageError::Refused("no device".into()))
        .await
        .refused(409, "SalvageRefused", "no device");
}
