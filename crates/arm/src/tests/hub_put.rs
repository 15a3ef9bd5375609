//! What a PUT of a hub may say.

use super::world::*;
use crate::backend::Backend as _;
use serde_json::{Value, json};

fn wanted(change: impl FnOnce(&mut Value)) -> String {
    let mut body: Value = serde_json::from_str(BODY).unwrap();
    change(&mut body);
    body.to_string()
}

#[tokio::test]
async fn every_mistake_is_named_at_once() {
    let world = World::with_group().await;
    let body = wanted(|body| {
        body["location"] = json!("atlantis");
        body["sku"] = json!({ "name": "S9", "capacity": -1 });
        body["tags"] = json!({ "n": 5 });
        let properties = &mut body["properties"];
        properties["eventHubEndpoints"]["events"]["partitionCount"] = json!("four");
        properties["eventHubEndpoints"]["events"]["retentionTimeInDays"] = json!(8);
        properties["cloudToDevice"]["defaultTtlAsIso8601"] = json!("1 hour");
        properties["cloudToDevice"]["maxDeliveryCount"] = json!(101);
        properties["authorizationPolicies"] = json!([{ "rights": "Root" }, 5]);
        properties["castling"] =
            json!({ "replication": "maybe", "partnerAway": 1, "lagMaxSeconds": 0.05 });
        properties["enableFileUploadNotifications"] = json!("yes");
        body["identity"] = json!({ "type": "SystemAssigned" });
    });
    let reply = world.put(HUB, &body).await;
    for text in [
        "location: The provided location 'atlantis'",
        "sku.capacity: -1",
        "sku.name: 'S9'",
        "tags: the value of 'n'",
        "partitionCount: \"four\"",
        "retentionTimeInDays: 8 is not from 1 to 7",
        "defaultTtlAsIso8601: \"1 hour\"",
        "maxDeliveryCount: 101 is not from 1 to 100",
        "authorizationPolicies[0].keyName",
        "authorizationPolicies[0].rights: 'Root'",
        "authorizationPolicies[1]: an object",
        "castling.replication",
        "castling.partnerAway: it must be 'wait' or 'degrade'",
        "castling.lagMaxSeconds: 0.05 is neither 0 (no bound) nor a number of seconds from 0.1 to 3600",
        "enableFileUploadNotifications: true or false",
        "identity.type",
    ] {
        reply.refused(400, "InvalidProperties", text);
    }
    assert_eq!(
        reply.json()["error"]["details"].as_array().unwrap().len(),
        16,
        "{}",
        reply.text
    );
    assert!(world.fake.state().hubs.is_empty());
}

#[tokio::test]
async fn a_location_alone_has_its_own_code_and_names_what_runs() {
    let world = World::with_group().await;
    let code = "LocationNotAvailableForResourceType";
    let west3 = wanted(|body| body["location"] = json!("West US 3"));
    let reply = world.put(HUB, &west3).await;
    reply.refused(400, code, "'westus3' is not running here");
    reply.refused(400, code, "westus2, westcentralus");
    let unknown = wanted(|body| body["location"] = json!("atlantis"));
    world
        .put(HUB, &unknown)
        .await
        .refused(400, code, "'atlantis' is not the name of a region");
    let none = wanted(|body| drop(body.as_object_mut().unwrap().remove("location")));
    world
        .put(HUB, &none)
        .await
        .refused(400, "LocationRequired", "required");
}

#[tokio::test]
async fn the_pair_counts_only_where_it_runs() {
    let world = World::with_group().await;
    let poland = wanted(|body| body["location"] = json!("polandcentral"));
    world.put(HUB, &poland).await.is(201);
    world.finish_running();
    let body = world.get(HUB).await.json();
    assert_eq!(
        body["properties"]["locations"],
        json!([{ "location": "Poland Central", "role": "primary" }])
    );
    assert_eq!(body["properties"]["castling"]["lagRecords"], Value::Null);
}

#[tokio::test]
async fn the_least_that_the_sdks_send_is_enough() {
    let world = World::with_group().await;
    let body = r#"{"location":"westus2","sku":{"name":"s1","capacity":2}}"#;
    world.put(HUB, body).await.is(201);
    world.finish_running();
    let hub = world.get(HUB).await.json();
    assert_eq!(
        hub["sku"],
        json!({ "name": "S1", "tier": "Standard", "capacity": 2 })
    );
    assert_eq!(hub["properties"]["castling"]["storedOnly"], json!([]));
    world
        .put(
            &HUB.replace("Hub-One", "Hub-Two"),
            r#"{"location":"westus2"}"#,
        )
        .await
        .refused(400, "InvalidProperties", "sku: it is missing");
}

#[tokio::test]
async fn an_update_keeps_keys_and_what_is_fixed_and_returns_the_rest_as_given() {
    let world = World::with_hub().await;
    let keys = world.post(&format!("{HUB}/listkeys"), "").await.text;
    // As the CLI sends back what it read.
    let mut body = world.get(HUB).await.json();
    body["properties"]["comments"] = json!("hello");
    body["properties"]["disableLocalAuth"] = json!(true);
    body["properties"]["cloudToDevice"]["defaultTtlAsIso8601"] = json!("PT32H");
    let reply = world.put(HUB, &body.to_string()).await.is(200);
    assert_eq!(
        reply.header("azure-asyncoperation"),
        None,
        "an update is done at once"
    );
    let after = reply.json();
    assert_eq!(after["properties"]["provisioningState"], "Succeeded");
    assert_eq!(after["properties"]["comments"], "hello");
    assert_eq!(after["properties"]["disableLocalAuth"], true);
    assert_eq!(
        after["properties"]["cloudToDevice"]["defaultTtlAsIso8601"],
        "P1DT8H"
    );
    assert_eq!(after["properties"]["hostName"], "Hub-One.hubs.localhost");
    assert_eq!(
        after["properties"]["castling"]["storedOnly"],
        json!(["storageEndpoints", "messagingEndpoints"]),
        "what is obeyed is not only stored"
    );
    assert_eq!(world.post(&format!("{HUB}/listkeys"), "").await.text, keys);
}

#[tokio::test]
async fn what_is_fixed_at_creation_is_refused_with_the_form_mistakes() {
    let world = World::with_hub().await;
    let body = wanted(|body| {
        body["location"] = json!("eastus");
        body["properties"]["eventHubEndpoints"]["events"]["partitionCount"] = json!(8);
        body["properties"]["features"] = json!(5);
    });
    let reply = world.put(HUB, &body).await;
    for text in [
        "location: it cannot be changed",
        "fixed at creation",
        "features: a text",
    ] {
        reply.refused(400, "InvalidProperties", text);
    }
}

#[tokio::test]
async fn a_missing_key_is_made_and_a_given_one_is_kept() {
    let world = World::with_hub().await;
    let given = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let body = wanted(|body| {
        body["properties"]["authorizationPolicies"] = json!([
            { "keyName": "mine", "primaryKey": null, "secondaryKey": given, "rights": "ServiceConnect,DeviceConnect" },
        ]);
    });
    world.put(HUB, &body).await.is(200);
    let keys = world.post(&format!("{HUB}/listkeys"), "").await.json();
    let key = &keys["value"][0];
    assert_eq!(keys["value"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&key["secondaryKey"], &key["rights"]),
        (&json!(given), &json!("ServiceConnect, DeviceConnect"))
    );
    assert_eq!(key["primaryKey"].as_str().unwrap().len(), 44);
    let bad = wanted(|body| {
        body["properties"]["authorizationPolicies"] = json!([{ "keyName": "x", "primaryKey": "topsecretbutshort", "rights": "DeviceConnect" }]);
    });
    let reply = world.put(HUB, &bad).await;
    reply.refused(400, "InvalidProperties", "primaryKey must be the base64");
    assert!(!reply.text.contains("topsecret"));
}

#[tokio::test]
async fn replication_is_set_and_shown() {
    let world = World::with_hub().await;
    let sync = wanted(|body| {
        body["properties"]["castling"] = json!({ "replication": "sync", "epoch": 99 })
    });
    let after = world.put(HUB, &sync).await.is(200).json();
    assert_eq!(after["properties"]["castling"]["replication"], "sync");
    assert_eq!(
        after["properties"]["castling"]["epoch"], 1,
        "the epoch is not the client's"
    );
    let kept = world.put(HUB, BODY).await.is(200).json();
    assert_eq!(kept["properties"]["castling"]["replication"], "sync");
}

#[tokio::test]
async fn bodies_are_read_whatever_their_content_type_and_bounded() {
    let world = World::with_group().await;
    for body in ["", "{", "[]", "\"x\"", "nonsense"] {
        world
            .put(HUB, body)
            .await
            .refused(400, "InvalidRequestContent", "");
    }
    let large = wanted(|body| body["properties"]["comments"] = json!("x".repeat(1 << 20)));
    world
        .put(HUB, &large)
        .await
        .refused(413, "RequestEntityTooLarge", "1048576");
    let fat = wanted(|body| body["properties"]["comments"] = json!("x".repeat(70_000)));
    world
        .put(HUB, &fat)
        .await
        .refused(400, "InvalidProperties", "exceed 65536");
    world
        .call(
            "PUT",
            HUB,
            &format!("\u{feff}{BODY}"),
            &[("content-type", "text/plain")],
        )
        .await
        .is(201);
}

#[tokio::test]
async fn what_a_hub_promises_across_its_regions_is_set_kept_and_taken_back() {
    let world = World::with_hub().await;
    let put = async |castling: Value| {
        let body = wanted(|body| body["properties"]["castling"] = castling);
        world.put(HUB, &body).await.is(200);
        let own = world.get(HUB).await.json()["properties"]["castling"].clone();
        (
            own["replication"].clone(),
            own["partnerAway"].clone(),
            own["lagMaxSeconds"].clone(),
        )
    };
    let all = json!({ "replication": "sync", "partnerAway": "Degrade", "lagMaxSeconds": 2.5 });
    assert_eq!(
        put(all).await,
        (json!("sync"), json!("degrade"), json!(2.5))
    );
    assert_eq!(
        world.fake.state().hub_named("hub-one").unwrap().lag_max_ms,
        Some(2_500)
    );
    // What is not named stays.
    assert_eq!(
        put(json!({})).await,
        (json!("sync"), json!("degrade"), json!(2.5))
    );
    let back = json!({ "replication": "async", "partnerAway": "wait", "lagMaxSeconds": 0 });
    assert_eq!(put(back).await, (json!("async"), json!("wait"), json!(0)));
    assert_eq!(
        world.fake.state().hub_named("hub-one").unwrap().lag_max_ms,
        None
    );
    assert_eq!(put(json!({ "lagMaxSeconds": 3600 })).await.2, json!(3600));
    for bad in [
        json!(-1),
        json!(0.09),
        json!(3600.001),
        json!("2s"),
        json!(1e300),
        json!(true),
    ] {
        let body = wanted(|body| body["properties"]["castling"] = json!({ "lagMaxSeconds": bad }));
        world
            .put(HUB, &body)
            .await
            .refused(400, "InvalidProperties", "castling.lagMaxSeconds");
    }
}

#[tokio::test]
async fn who_may_reach_a_hub_is_read_returned_and_obeyed() {
    let world = World::with_hub().await;
    let access = json!({
        "ipFilterRules": [{ "filterName": "office", "action": "Reject", "ipMask": "192.0.2.0/24" }],
        "networkRuleSets": { "defaultAction": "Deny", "applyToBuiltInEventHubEndpoint": false,
            "ipRules": [{ "filterName": "all", "action": "Allow", "ipMask": "0.0.0.0/0" }] },
        "publicNetworkAccess": "Enabled",
        "minTlsVersion": "1.2",
        "disableDeviceSAS": true,
    });
    let body = wanted(|body| {
        for (name, value) in access.as_object().unwrap() {
            body["properties"][name] = value.clone();
        }
    });
    world.put(HUB, &body).await.is(200);
    let shown = world.get(HUB).await.is(200).json();
    for (name, value) in access.as_object().unwrap() {
        assert_eq!(&shown["properties"][name], value, "{name}");
    }
    let settings = world.fake.state().hub_named("hub-one").unwrap().settings();
    assert!(!settings.access.device_tokens && settings.access.network.is_some());
    assert_eq!(settings.access.filters.len(), 1);
}

#[tokio::test]
async fn what_the_hub_has_not_is_refused_with_its_path() {
    let world = World::with_hub().await;
    let body = wanted(|body| {
        let properties = &mut body["properties"];
        properties["storageEndpoints"]["$default"]["connectionString"] =
            json!("AccountKey=topsecret");
        properties["enableFileUploadNotifications"] = json!(true);
        properties["minTlsVersion"] = json!("1.0");
        properties["encryption"] = json!({ "keySource": "Microsoft.KeyVault" });
        properties["deviceStreams"] = json!({ "streamingEndpoints": ["x"] });
    });
    let reply = world.put(HUB, &body).await;
    for text in [
        "storageEndpoints.$default.connectionString: file upload",
        "enableFileUploadNotifications: file upload",
        "minTlsVersion: '1.0'",
        "encryption: ",
        "deviceStreams: ",
    ] {
        reply.refused(400, "InvalidProperties", text);
    }
    assert!(!reply.text.contains("topsecret"));
}
