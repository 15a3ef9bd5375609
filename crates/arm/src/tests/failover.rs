//! The failover in Azure's words, and each way it is refused.

use super::world::*;
use crate::backend::Backend as _;
use control::{Command, StepName};
use serde_json::{Value, json};

async fn failover(world: &World, to: &str) -> Reply {
    world
        .post(
            &format!("{HUB}/failover"),
            &json!({ "failoverRegion": to }).to_string(),
        )
        .await
}

async fn completed(world: &World, to: &str) {
    failover(world, to).await.is(202);
    world.complete(&world.running());
}

fn earliest(reply: &Reply) -> String {
    let info = &reply.json()["error"]["additionalInfo"][0];
    assert_eq!(info["type"], "FailoverPolicy", "{}", reply.text);
    info["info"]["earliest"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_roles_swap_and_all_else_stays() {
    let world = World::with_hub().await;
    let before = world.get(HUB).await.json();
    failover(&world, "West Central US").await.is(202);
    let during = world.get(HUB).await.is(200).json();
    assert_eq!(during["properties"]["state"], "FailingOver");
    assert_eq!(during["properties"]["provisioningState"], "FailingOver");
    assert_eq!(
        during["properties"]["hostName"],
        before["properties"]["hostName"]
    );
    world.complete(&world.running());
    let after = world.get(HUB).await.json();
    assert_eq!(
        after["properties"]["locations"],
        json!([{ "location": "West Central US", "role": "primary" }, { "location": "West US 2", "role": "secondary" }])
    );
    for same in ["id", "name", "location", "tags", "sku", "resourcegroup"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_ne!(after["etag"], before["etag"]);
    assert_eq!(after["properties"]["castling"]["epoch"], 2);
    assert_eq!(
        after["properties"]["eventHubEndpoints"],
        before["properties"]["eventHubEndpoints"]
    );
}

#[tokio::test]
async fn the_region_is_taken_by_its_display_name_or_its_short_name() {
    for name in [
        "West Central US",
        "westcentralus",
        "WestCentralUS",
        " west central us ",
    ] {
        let world = World::with_hub().await;
        failover(&world, name).await.is(202);
    }
}

#[tokio::test]
async fn a_reason_is_kept() {
    let world = World::with_hub().await;
    let body = r#"{"failoverRegion":"westcentralus","reason":"drill"}"#;
    world.post(&format!("{HUB}/failover"), body).await.is(202);
    assert_eq!(
        world.fake.state().operations[&world.running()].reason,
        "drill"
    );
    let body = r#"{"failoverRegion":"westcentralus","reason":5}"#;
    world
        .post(&format!("{HUB}/failover"), body)
        .await
        .refused(400, "InvalidProperties", "reason");
}

#[tokio::test]
async fn a_repeat_gives_the_operation_that_runs() {
    let world = World::with_hub().await;
    let first = failover(&world, "westcentralus").await.is(202);
    let again = failover(&world, "westcentralus").await.is(202);
    assert_eq!(first.header("location"), again.header("location"));
    failover(&world, "westus2")
        .await
        .refused(400, "FailoverRegionMismatch", "westcentralus");
}

#[tokio::test]
async fn a_repeat_under_its_request_id_finds_the_failover_that_ended_meanwhile() {
    let world = World::with_hub().await;
    let id = [("x-ms-client-request-id", "same")];
    let body = r#"{"failoverRegion":"westcentralus"}"#;
    let path = format!("{HUB}/failover");
    let first = world.call("POST", &path, body, &id).await.is(202);
    world.complete(&world.running());
    let again = world.call("POST", &path, body, &id).await.is(202);
    assert_eq!(first.header("location"), again.header("location"));
    world.advance(HOUR);
    let later = world.call("POST", &path, body, &id).await;
    later.refused(400, "FailoverRegionMismatch", "westus2");
}

#[tokio::test]
async fn another_region_than_the_secondary_is_refused() {
    let world = World::with_hub().await;
    let code = "FailoverRegionMismatch";
    failover(&world, "eastus").await.refused(
        400,
        code,
        "secondary region 'westcentralus', not to 'eastus'",
    );
    failover(&world, "westus2")
        .await
        .refused(400, code, "secondary");
    failover(&world, "no_such")
        .await
        .refused(400, code, "'no_such' is not the name of a region");
    for body in [
        "",
        "{}",
        r#"{"failoverRegion":null}"#,
        r#"{"failoverRegion":""}"#,
    ] {
        world.post(&format!("{HUB}/failover"), body).await.refused(
            400,
            code,
            "'failoverRegion' is missing",
        );
    }
    world
        .post(&format!("{HUB}/failover"), r#"{"failoverRegion":5}"#)
        .await
        .refused(400, code, "must be a text");
    world
        .post(&format!("{HUB}/failover"), "{")
        .await
        .refused(400, "InvalidRequestContent", "");
}

#[tokio::test]
async fn a_hub_without_a_pair_cannot_fail_over() {
    let world = World::with_group().await;
    world
        .put(HUB, &BODY.replace("westus2", "polandcentral"))
        .await
        .is(201);
    world.finish_running();
    failover(&world, "westus2")
        .await
        .refused(400, "FailoverNoPair", "no paired region");
    world.post(&format!("{HUB}/failover"), "{}").await.refused(
        400,
        "FailoverNoPair",
        "no paired region",
    );
}

#[tokio::test]
async fn homes_without_manual_failover_are_excluded() {
    let world = World::with_group().await;
    world
        .put(HUB, &BODY.replace("westus2", "eastus"))
        .await
        .is(201);
    world.finish_running();
    let reply = failover(&world, "westus").await;
    reply.refused(400, "FailoverRegionExcluded", "not offered");
    assert_eq!(reply.json()["error"]["additionalInfo"], Value::Null);
}

#[tokio::test]
async fn a_hub_in_transition_answers_at_once() {
    let world = World::with_group().await;
    world.put(HUB, BODY).await.is(201);
    let text =
        "is not currently in Active state. Try the request again after it is in Active state";
    failover(&world, "westcentralus")
        .await
        .refused(409, "409002", text);
    world.finish_running();
    failover(&world, "westcentralus").await.is(202);
    world.put(HUB, BODY).await.refused(409, "409002", text);
    world.delete(HUB).await.refused(409, "409002", text);
    let group = format!("{HUB}/eventHubEndpoints/events/ConsumerGroups/c");
    world.put(&group, "").await.refused(409, "409002", text);
    world
        .call("PATCH", HUB, r#"{"tags":{}}"#, &[])
        .await
        .refused(409, "409002", text);
    world.get(HUB).await.is(200);
}

#[tokio::test]
async fn one_hour_lies_between_two_and_the_earliest_time_is_named() {
    let world = World::with_hub().await;
    completed(&world, "westcentralus").await;
    let reply = failover(&world, "westus2").await;
    reply.refused(400, "FailoverTooSoon", "at the earliest");
    let named = earliest(&reply);
    assert!(reply.message().contains(&named), "{}", reply.text);
    world.advance(HOUR - 1);
    failover(&world, "westus2")
        .await
        .refused(400, "FailoverTooSoon", &named);
    world.advance(1);
    failover(&world, "westus2").await.is(202);
}

#[tokio::test]
async fn two_of_each_kind_are_allowed_in_a_day() {
    let world = World::with_hub().await;
    for to in ["westcentralus", "westus2", "westcentralus", "westus2"] {
        completed(&world, to).await;
        world.advance(HOUR);
    }
    let reply = failover(&world, "westcentralus").await;
    reply.refused(400, "FailoverDailyLimit", "at the earliest");
    assert!(reply.message().contains(&earliest(&reply)));
    world.advance(24 * HOUR);
    failover(&world, "westcentralus").await.is(202);
}

#[tokio::test]
async fn unknown_hubs_and_groups_are_not_found() {
    let world = World::with_hub().await;
    let body = r#"{"failoverRegion":"westcentralus"}"#;
    let hub = HUB.replace("Hub-One", "nope");
    world
        .post(&format!("{hub}/failover"), body)
        .await
        .refused(404, "ResourceNotFound", "nope");
    let group = HUB.replace("/RG/", "/none/");
    world
        .post(&format!("{group}/failover"), body)
        .await
        .refused(404, "ResourceGroupNotFound", "none");
}

#[tokio::test]
async fn a_start_that_another_region_has_won_is_answered_with_its_operation() {
    let world = World::with_hub().await;
    // This region's copy does not have it yet.
    let before = world.fake.state();
    failover(&world, "westcentralus").await.is(202);
    let id = world.running();
    let call = crate::call::Call {
        api: world.api.clone(),
        state: before,
        now: types::UnixMillis(START),
        host: HOST.into(),
        params: vec![
            ("subscription", SUB.into()),
            ("group", "RG".into()),
            ("hub", "Hub-One".into()),
        ],
        query: Vec::new(),
        headers: Default::default(),
        body: r#"{"failoverRegion":"westcentralus"}"#.into(),
        by: APP.into(),
        caller: Default::default(),
        address: None,
        correlation: String::new(),
    };
    let response = crate::failover::start(call).await.unwrap();
    assert!(
        response.headers()["location"]
            .to_str()
            .unwrap()
            .contains(&id)
    );
}

#[tokio::test]
async fn without_a_leader_a_failover_is_repeatable_and_without_an_answer_it_is_unknown() {
    let world = World::with_hub().await;
    let broken = |may| {
        *world.fake.broken.lock().unwrap() = Some(crate::backend::ControlUnavailable {
            why: "w".into(),
            may_have_happened: may,
        });
    };
    broken(false);
    assert_eq!(
        failover(&world, "westcentralus")
            .await
            .is(503)
            .header("retry-after"),
        Some("1")
    );
    broken(true);
    failover(&world, "westcentralus")
        .await
        .refused(500, "OutcomeUnknown", "unknown");
}

#[tokio::test]
async fn a_committed_failover_shows_the_new_primary_before_it_ends() {
    let world = World::with_hub().await;
    failover(&world, "westcentralus").await.is(202);
    let id = world.running();
    world.walk(&id, StepName::Commit);
    let hub = world.get(HUB).await.json();
    assert_eq!(
        hub["properties"]["locations"][0]["location"],
        "West Central US"
    );
    assert_eq!(hub["properties"]["state"], "FailingOver");
    let refused = world.fake.apply(Command::RollBack {
        operation: id,
        code: "x".into(),
        why: "y".into(),
    });
    assert!(matches!(refused, control::Answer::Refused(_)));
}
