//! The activity log over the API.

use super::world::*;
use crate::backend::Backend;
use control::activity::lines::Reader;
use serde_json::{Value, json};

fn list(query: &str) -> String {
    format!(
        "/subscriptions/{SUB}/providers/microsoft.insights/eventtypes/management/values?api-version=2015-04-01{query}"
    )
}

async fn events(world: &World, query: &str) -> Vec<Value> {
    let reply = world.get(&list(query)).await.is(200).json();
    reply["value"].as_array().unwrap().clone()
}

fn actions(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["operationName"]["value"].as_str())
        .collect()
}

#[tokio::test]
async fn a_groups_log_is_read_as_az_asks_for_it() {
    let world = World::with_hub().await;
    let filter = "&$filter=eventTimestamp%20ge%201970-01-01T00:00:00Z%20and%20eventTimestamp%20le%202999-01-01T00:00:00Z%20and%20resourceGroupName%20eq%20'rg'";
    let found = events(&world, filter).await;
    assert_eq!(
        actions(&found),
        [
            "Castling/operation/end",
            "Microsoft.Devices/IotHubs/write",
            "Microsoft.Resources/subscriptions/resourceGroups/write"
        ]
    );
    let write = &found[1];
    assert_eq!(write["caller"], APP);
    assert_eq!(write["status"]["value"], "Started");
    assert_eq!(write["resourceGroupName"], "RG");
    assert_eq!(write["resourceType"]["value"], "Microsoft.Devices/IotHubs");
    assert_eq!(write["resourceProviderName"]["value"], "Microsoft.Devices");
    assert_eq!(write["category"]["value"], "Administrative");
    assert_eq!(
        (&write["subscriptionId"], &write["tenantId"]),
        (&json!(SUB), &json!(TENANT))
    );
    assert_eq!(found[0]["status"]["value"], "Succeeded");
    let other = events(&world, "&$filter=resourceGroupName%20eq%20'other'").await;
    assert!(other.is_empty());
}

#[tokio::test]
async fn pages_follow_each_other_and_fields_are_selected() {
    let world = World::with_hub().await;
    let all = events(&world, "").await;
    let mut seen = Vec::new();
    let mut page = world
        .get(&list("&$top=1&$select=eventDataId,status"))
        .await
        .is(200)
        .json();
    loop {
        let [one] = &page["value"].as_array().unwrap()[..] else {
            panic!("{page}")
        };
        assert_eq!(one.as_object().unwrap().len(), 2, "{one}");
        seen.push(one["eventDataId"].clone());
        let Some(next) = page["nextLink"].as_str() else {
            break;
        };
        page = world.follow(next).await.is(200).json();
    }
    let ids: Vec<Value> = all
        .iter()
        .map(|event| event["eventDataId"].clone())
        .collect();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn what_is_not_understood_is_a_clear_refusal() {
    let world = World::with_group().await;
    for (query, code, text) in [
        (
            "&$filter=color%20eq%20'x'",
            "InvalidFilterInQueryString",
            "color",
        ),
        ("&$select=secret", "InvalidSelectInQueryString", "'secret'"),
        ("&$top=many", "InvalidQueryParameter", "'$top'"),
        ("&$skiptoken=-1", "InvalidQueryParameter", "'$skiptoken'"),
    ] {
        world.get(&list(query)).await.refused(400, code, text);
    }
}

#[tokio::test]
async fn the_export_carries_the_chain_and_says_what_is_missing() {
    let world = World::with_hub().await;
    let path = "/providers/Castling.Deployment/activity?api-version=2026-11-01";
    let whole = world.get(path).await.is(200);
    assert!(
        whole
            .header("content-type")
            .unwrap()
            .starts_with("application/x-ndjson")
    );
    let mut reader = Reader::default();
    whole
        .text
        .lines()
        .for_each(|line| reader.take(line).unwrap());
    assert_eq!(reader.number, world.fake.state().activity_number());
    let later = world.get(&format!("{path}&from=2&$top=1")).await.is(200);
    assert_eq!(later.text.lines().count(), 1);
    assert!(later.text.contains("\"number\":2,"), "{}", later.text);
    let none = world.get(&format!("{path}&from=9999")).await.is(200);
    assert_eq!(none.text, "");
    {
        let mut state = world.fake.state.lock().unwrap();
        let state = std::sync::Arc::make_mut(&mut *state);
        state.activity_before = state.activity.remove(0).hash;
    }
    let cut = world.get(path).await.is(200);
    assert!(
        cut.text.starts_with("{\"gap\":{\"after\":0,\"before\":2,"),
        "{}",
        cut.text
    );
    let mut reader = Reader::default();
    cut.text.lines().for_each(|line| reader.take(line).unwrap());
    world
        .get(&format!("{path}&from=x"))
        .await
        .refused(400, "InvalidQueryParameter", "'from'");
}
