use super::world::*;
use crate::backend::Backend as _;
use control::{Command, HubState, etag_text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_hub_is_accepted_activates_and_is_told_whole() {
    let world = World::with_group().await;
    let reply = world.put(HUB, BODY).await.is(201);
    assert!(
        reply
            .header("azure-asyncoperation")
            .unwrap()
            .contains("/operationStatuses/")
    );
    assert_eq!(
        (reply.header("location"), reply.header("retry-after")),
        (None, Some("1"))
    );
    let body = reply.json();
    assert_eq!(body["properties"]["provisioningState"], "Accepted");
    for absent in ["state", "locations", "hostName"] {
        assert_eq!(body["properties"][absent], Value::Null, "{absent}");
    }
    assert_eq!(body["etag"], Value::Null);
    assert_eq!(
        body["properties"]["messagingEndpoints"]["fileNotifications"]["lockDurationAsIso8601"],
        "PT5S"
    );
    let activating = world.get(HUB).await.is(200).json();
    assert_eq!(activating["properties"]["provisioningState"], "Activating");
    assert_eq!(activating["properties"]["state"], "Activating");
    assert_eq!(activating["properties"]["hostName"], Value::Null);
    world.finish_running();
    let active = world.get(HUB).await.is(200).json();
    assert_eq!(active["properties"]["hostName"], "Hub-One.hubs.localhost");
    assert_ne!(
        active["etag"], activating["etag"],
        "the etag changes at each transition"
    );
}

/// What a client reads of a hub, whole: changed only knowingly.
#[tokio::test]
async fn the_body_of_a_hub_is_as_it_was() {
    let world = World::with_hub().await;
    let golden = json!({
        "id": HUB,
        "name": "Hub-One",
        "type": "Microsoft.Devices/IotHubs",
        "location": "westus2",
        "tags": { "k": "v" },
        "subscriptionid": SUB,
        "resourcegroup": "RG",
        "etag": etag_text(world.fake.state().hub_named("hub-one").unwrap().etag),
        "properties": {
            "locations": [
                { "location": "West US 2", "role": "primary" },
                { "location": "West Central US", "role": "secondary" },
            ],
            "state": "Active",
            "provisioningState": "Succeeded",
            "ipFilterRules": [],
            "hostName": "Hub-One.hubs.localhost",
            "eventHubEndpoints": { "events": {
                "retentionTimeInDays": 1,
                "partitionCount": 4,
                "partitionIds": ["0", "1", "2", "3"],
                "path": "hub-one",
                "endpoint": "sb://Hub-One.hubs.localhost/",
            } },
            "routing": {
                "endpoints": {
                    "serviceBusQueues": [], "serviceBusTopics": [], "eventHubs": [], "storageContainers": [],
                    "cosmosDBSqlContainers": [],
                },
                "routes": [],
                "fallbackRoute": {
                    "name": "$fallback", "source": "DeviceMessages", "condition": "true", "endpointNames": ["events"],
                    "isEnabled": true,
                },
            },
            "storageEndpoints": { "$default": { "sasTtlAsIso8601": "PT1H", "connectionString": "", "containerName": "" } },
            "messagingEndpoints": { "fileNotifications": {
                "lockDurationAsIso8601": "PT5S", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10,
            } },
            "enableFileUploadNotifications": false,
            "cloudToDevice": {
                "maxDeliveryCount": 10,
                "defaultTtlAsIso8601": "PT1H",
                "feedback": { "lockDurationAsIso8601": "PT5S", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10 },
            },
            "features": "None",
            "allowedFqdnList": [],
            "castling": {
                "epoch": 1,
                "replication": "async",
                "partnerAway": "wait",
                "lagMaxSeconds": 0,
                "storedOnly": ["storageEndpoints", "messagingEndpoints"],
                "lagRecords": 7,
                "lagMs": 12,
                "lag": [
                    { "partition": 0, "records": 7, "ms": 12 },
                    { "partition": 1, "records": 0, "ms": 0 },
                ],
                "partnerConnected": true,
                "degraded": false,
                "lease": { "held": true, "leftMs": 4700 },
                "oldPrimary": null,
            },
        },
        "sku": { "name": "S1", "tier": "Standard", "capacity": 1 },
        "identity": { "type": "None" },
        "systemData": { "createdAt": "2026-11-23T03:04:05.678Z" },
    });
    let found = world.get(HUB).await.is(200);
    assert_eq!(found.json(), golden, "{}", found.text);
    assert_eq!(
        found.text,
        golden.to_string(),
        "the order of the fields too"
    );
}

#[tokio::test]
async fn lists_have_every_hub_without_live_figures() {
    let world = World::with_hub().await;
    let paths = [
        format!("/subscriptions/{SUB}/providers/Microsoft.Devices/IotHubs"),
        format!("/subscriptions/{SUB}/resourceGroups/rg/providers/microsoft.devices//iothubs/"),
    ];
    for path in paths {
        let list = world.get(&path).await.is(200).json();
        assert_eq!(list["value"][0]["resourcegroup"], "RG");
        assert_eq!(
            list["value"][0]["properties"]["castling"]["lagRecords"],
            Value::Null
        );
        assert_eq!(list["value"].as_array().unwrap().len(), 1);
    }
    world
        .get(&format!(
            "/subscriptions/{SUB}/resourceGroups/none/providers/Microsoft.Devices/IotHubs"
        ))
        .await
        .refused(404, "ResourceGroupNotFound", "none");
}

#[tokio::test]
async fn an_unknown_hub_is_named_with_its_group() {
    let world = World::with_hub().await;
    let reply = world.get(&HUB.replace("Hub-One", "other")).await;
    reply.refused(
        404,
        "ResourceNotFound",
        "'Microsoft.Devices/IotHubs/other' under resource group 'RG' was not found",
    );
    let elsewhere = HUB.replace("/RG/", "/RG2/");
    world
        .get(&elsewhere)
        .await
        .refused(404, "ResourceGroupNotFound", "RG2");
    world
        .put(
            &format!("/subscriptions/{SUB}/resourceGroups/RG2"),
            r#"{"location":"westus2"}"#,
        )
        .await
        .is(201);
    world
        .get(&elsewhere)
        .await
        .refused(404, "ResourceNotFound", "under resource group 'RG2'");
    world.delete(&elsewhere).await.is(204);
    world.get(HUB).await.is(200);
}

#[tokio::test]
async fn a_silent_primary_does_not_keep_a_hub_from_being_read() {
    let world = World::with_hub().await;
    *world.fake.figures.lock().unwrap() = None;
    let body = world.get(HUB).await.is(200).json();
    assert_eq!(body["properties"]["castling"]["lagMs"], Value::Null);
}

#[tokio::test]
async fn keys_are_told_by_listkeys_only() {
    let world = World::with_hub().await;
    let keys = world
        .post(&format!("{HUB}/listkeys"), "")
        .await
        .is(200)
        .json();
    let names: Vec<_> = keys["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["keyName"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "iothubowner",
            "service",
            "device",
            "registryRead",
            "registryReadWrite"
        ]
    );
    let primary = keys["value"][0]["primaryKey"].as_str().unwrap();
    let one = world
        .post(&format!("{HUB}/iothubkeys/IOTHUBOWNER/listkeys"), "")
        .await
        .is(200)
        .json();
    assert_eq!(one, keys["value"][0]);
    assert_eq!(
        one["rights"],
        "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect"
    );
    assert!(!world.get(HUB).await.text.contains(primary));
    assert!(!world.put(HUB, BODY).await.is(200).text.contains(primary));
    world
        .post(&format!("{HUB}/IotHubKeys/none/listkeys"), "")
        .await
        .refused(404, "ResourceNotFound", "'none'");
}

#[tokio::test]
async fn a_delete_answers_null_with_both_headers_and_ends() {
    let world = World::with_hub().await;
    let reply = world.delete(HUB).await.is(202);
    assert_eq!(
        (reply.text.as_str(), reply.header("retry-after")),
        ("null", Some("1"))
    );
    let status = reply.header("azure-asyncoperation").unwrap().to_owned();
    let location = reply.header("location").unwrap().to_owned();
    assert_eq!(
        world.follow(&status).await.is(200).json()["status"],
        "Running"
    );
    world.follow(&location).await.is(202);
    assert_eq!(
        world.get(HUB).await.json()["properties"]["provisioningState"],
        "Deleting"
    );
    assert_eq!(
        world
            .delete(HUB)
            .await
            .is(202)
            .header("location")
            .map(str::to_owned),
        Some(location.clone())
    );
    world.finish_running();
    assert_eq!(world.follow(&status).await.json()["status"], "Succeeded");
    world.follow(&location).await.is(200);
    world.get(HUB).await.is(404);
    world.delete(HUB).await.is(204);
}

#[tokio::test]
async fn patch_replaces_the_tags_and_nothing_else() {
    let world = World::with_hub().await;
    let before = world.get(HUB).await.json();
    let after = world
        .call("PATCH", HUB, r#"{"tags":{"new":"tag"}}"#, &[])
        .await
        .is(200)
        .json();
    assert_eq!(after["tags"], json!({"new": "tag"}));
    assert_eq!(
        after["properties"]["messagingEndpoints"],
        before["properties"]["messagingEndpoints"]
    );
    assert_ne!(after["etag"], before["etag"]);
    let reply = world
        .call("PATCH", HUB, r#"{"tags":{},"properties":{}}"#, &[])
        .await;
    reply.refused(400, "InvalidProperties", "properties: only tags");
    let old = before["etag"].as_str().unwrap();
    let reply = world
        .call("PATCH", HUB, r#"{"tags":{}}"#, &[("if-match", old)])
        .await;
    reply.refused(412, "PreconditionFailed", "etag");
}

#[tokio::test]
async fn an_etag_guards_updates_and_deletes() {
    let world = World::with_hub().await;
    let etag = world.get(HUB).await.json()["etag"]
        .as_str()
        .unwrap()
        .to_owned();
    let changed = BODY.replace(r#""k":"v""#, r#""k":"w""#);
    world
        .call("PUT", HUB, &changed, &[("if-match", &etag)])
        .await
        .is(200);
    world
        .call("PUT", HUB, BODY, &[("if-match", &etag)])
        .await
        .refused(412, "PreconditionFailed", "etag");
    world
        .call("DELETE", HUB, "", &[("if-match", &etag)])
        .await
        .refused(412, "PreconditionFailed", "etag");
    world
        .call("PUT", HUB, BODY, &[("if-match", "*")])
        .await
        .is(200);
    world
        .call("PUT", HUB, BODY, &[("if-none-match", "*")])
        .await
        .refused(412, "PreconditionFailed", "exists");
    let absent = HUB.replace("Hub-One", "Hub-Two");
    world
        .call("PUT", &absent, BODY, &[("if-match", "*")])
        .await
        .refused(412, "PreconditionFailed", "does not exist");
    world
        .call("DELETE", HUB, "", &[("if-match", "*")])
        .await
        .is(202);
}

#[tokio::test]
async fn a_creation_that_is_repeated_under_its_request_id_is_the_same_creation() {
    let world = World::with_group().await;
    let id = [("x-ms-client-request-id", "7f0c-1")];
    let first = world.call("PUT", HUB, BODY, &id).await.is(201);
    let again = world.call("PUT", HUB, BODY, &id).await.is(201);
    assert_eq!(
        first.header("azure-asyncoperation"),
        again.header("azure-asyncoperation")
    );
    world
        .put(HUB, BODY)
        .await
        .refused(409, "409002", "is not currently in Active state");
    world.finish_running();
    world.call("PUT", HUB, BODY, &id).await.is(200);
    // Some clients always send the same id.
    for _ in 0..2 {
        world.call("DELETE", HUB, "", &id).await.is(202);
        world.finish_running();
        world.call("PUT", HUB, BODY, &id).await.is(201);
        world.finish_running();
    }
}

#[tokio::test]
async fn a_name_that_is_taken_elsewhere_is_not_available() {
    let world = World::with_hub().await;
    world
        .put(
            &format!("/subscriptions/{SUB}/resourceGroups/RG2"),
            r#"{"location":"westus2"}"#,
        )
        .await
        .is(201);
    let elsewhere = HUB.replace("/RG/", "/RG2/").replace("Hub-One", "HUB-one");
    world.put(&elsewhere, BODY).await.refused(
        409,
        "409004",
        "IotHub name 'HUB-one' is not available",
    );
    let bad = HUB.replace("Hub-One", "-x-");
    world
        .put(&bad, BODY)
        .await
        .refused(400, "HubNameInvalid", "hyphen");
    world
        .put(&HUB.replace("/RG/", "/none/"), BODY)
        .await
        .refused(404, "ResourceGroupNotFound", "none");
}

#[tokio::test]
async fn without_a_leader_writes_say_whether_they_may_have_happened_and_reads_go_on() {
    let world = World::with_hub().await;
    let broken = |may_have_happened| {
        *world.fake.broken.lock().unwrap() = Some(crate::backend::ControlUnavailable {
            why: "no quorum".into(),
            may_have_happened,
        });
    };
    broken(false);
    let reply = world.delete(HUB).await.is(503);
    assert_eq!(
        (reply.code().as_str(), reply.header("retry-after")),
        ("ServiceUnavailable", Some("1"))
    );
    broken(true);
    world
        .delete(HUB)
        .await
        .refused(500, "OutcomeUnknown", "the outcome is unknown");
    world.get(HUB).await.is(200);
    world
        .get(&format!("/subscriptions/{SUB}/resourceGroups"))
        .await
        .is(200);
    assert_eq!(
        world
            .fake
            .state
            .lock()
            .unwrap()
            .hub_named("hub-one")
            .unwrap()
            .state,
        HubState::Active
    );
}

#[tokio::test]
async fn figures_skus_and_usages_are_told() {
    let world = World::with_hub().await;
    let stats = world
        .get(&format!("{HUB}/IotHubStats"))
        .await
        .is(200)
        .json();
    assert_eq!(
        stats,
        json!({ "totalDeviceCount": 5, "enabledDeviceCount": 4, "disabledDeviceCount": 1 })
    );
    let quotas = world
        .get(&format!("{HUB}/quotaMetrics"))
        .await
        .is(200)
        .json();
    assert_eq!(
        quotas["value"][1],
        json!({ "name": "TotalDeviceCount", "currentValue": 5, "maxValue": 1_000_000 })
    );
    let skus = world.get(&format!("{HUB}/skus")).await.is(200).json();
    let names: Vec<_> = skus["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sku| sku["sku"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["B1", "B2", "B3", "S1", "S2", "S3"]);
    let usages = world
        .get(&format!(
            "/subscriptions/{SUB}/providers/Microsoft.Devices/usages"
        ))
        .await
        .is(200)
        .json();
    assert_eq!(usages["value"][1]["currentValue"], 1);
    assert_eq!(usages["value"][0]["limit"], 1);
    *world.fake.figures.lock().unwrap() = None;
    assert_eq!(
        world
            .get(&format!("{HUB}/IotHubStats"))
            .await
            .is(503)
            .header("retry-after"),
        Some("1")
    );
}

#[tokio::test]
async fn consumer_groups_come_and_go() {
    let world = World::with_hub().await;
    let groups = format!("{HUB}/eventHubEndpoints/events/ConsumerGroups");
    let one = format!("{groups}/cg1");
    let made = world
        .put(&one, r#"{"properties":{"name":"cg1"}}"#)
        .await
        .is(200)
        .json();
    assert_eq!(made["id"], one);
    assert_eq!(
        made["properties"]["created"],
        "Mon, 23 Nov 2026 03:04:05 GMT"
    );
    world.put(&one, "").await.is(200);
    let list = world.get(&groups).await.is(200).json();
    let names: Vec<_> = list["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["$Default", "cg1"]);
    world.get(&format!("{groups}/%24default")).await.is(200);
    world.delete(&one).await.is(200);
    world.delete(&one).await.is(200);
    world
        .get(&one)
        .await
        .refused(404, "ResourceNotFound", "cg1");
    world.delete(&format!("{groups}/$Default")).await.refused(
        400,
        "ConsumerGroupInvalid",
        "cannot be deleted",
    );
    world.put(&format!("{groups}/a%20b"), "").await.refused(
        400,
        "ConsumerGroupInvalid",
        "only letters",
    );
    world
        .put(&one, r#"{"properties":{"name":"x"}}"#)
        .await
        .refused(400, "ConsumerGroupInvalid", "differs");
    world
        .get(&groups.replace("events", "other"))
        .await
        .refused(404, "ResourceNotFound", "'other'");
}

#[tokio::test]
async fn names_are_checked_with_the_services_quirks() {
    let world = World::with_hub().await;
    let path = format!("/subscriptions/{SUB}/providers/Microsoft.Devices/checkNameAvailability");
    let check = async |name: &str| {
        world
            .post(&path, &json!({ "name": name }).to_string())
            .await
            .is(200)
            .json()
    };
    assert_eq!(
        check("hub-two").await,
        json!({ "nameAvailable": true, "reason": "Invalid", "message": null })
    );
    let taken = json!({ "nameAvailable": false, "reason": "AlreadyExists", "message": "IotHub name 'HUB-ONE' is not available" });
    assert_eq!(check("HUB-ONE").await, taken);
    let bad = check("-").await;
    assert_eq!(
        (&bad["nameAvailable"], &bad["reason"]),
        (&json!(false), &json!("Invalid"))
    );
    world.fake.apply(Command::DeleteHub {
        subscription: SUB.into(),
        group: "rg".into(),
        name: "hub-one".into(),
        operation: "d".into(),
    });
    assert_eq!(
        check("hub-one").await["nameAvailable"],
        false,
        "a hub being deleted still has its name"
    );
    world
        .post(&path, "{}")
        .await
        .refused(400, "InvalidRequestContent", "name");
}
