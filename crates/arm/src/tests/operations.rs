//! What stands at the addresses of long-running operations.

use super::world::*;
use control::{Command, StepName};
use serde_json::{Value, json};

struct Addresses {
    status: String,
    location: String,
}

async fn start(world: &World) -> Addresses {
    let reply = world
        .post(
            &format!("{HUB}/failover"),
            r#"{"failoverRegion":"West Central US"}"#,
        )
        .await
        .is(202);
    assert_eq!(
        (reply.text.as_str(), reply.header("retry-after")),
        ("null", Some("1"))
    );
    Addresses {
        status: reply.header("azure-asyncoperation").unwrap().into(),
        location: reply.header("location").unwrap().into(),
    }
}

async fn check(world: &World, at: &Addresses, status: &str, location: u16) -> Value {
    let polled = world.follow(&at.status).await.is(200);
    assert_eq!(polled.json()["status"], status);
    assert_eq!(polled.header("retry-after"), Some("1"));
    world.follow(&at.location).await.is(location);
    polled.json()
}

#[tokio::test]
async fn a_creation_runs_and_succeeds() {
    let world = World::with_group().await;
    let reply = world.put(HUB, BODY).await.is(201);
    let status = reply.header("azure-asyncoperation").unwrap().to_owned();
    assert!(status.contains("api-version=2023-06-30&"), "{status}");
    let poll = world.follow(&status).await.is(200);
    assert_eq!(
        (poll.json()["status"].as_str(), poll.header("retry-after")),
        (Some("Running"), Some("1"))
    );
    world.finish_running();
    let done = world.follow(&status).await.json();
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("Succeeded"), &Value::Null)
    );
}

#[tokio::test]
async fn a_creation_that_fails_says_why() {
    let world = World::with_group().await;
    let reply = world.put(HUB, BODY).await.is(201);
    let status = reply.header("azure-asyncoperation").unwrap().to_owned();
    let error = Some(("IotHubActivationFailed".into(), "the disk is full".into()));
    world.fake.apply(Command::Finish {
        operation: world.running(),
        report: None,
        error,
    });
    let failed = world.follow(&status).await.is(200).json();
    assert_eq!(failed["status"], "Failed");
    assert_eq!(
        failed["error"],
        json!({ "code": "IotHubActivationFailed", "message": "the disk is full" })
    );
    let location = status.replace("operationStatuses", "operationResults");
    world
        .follow(&location)
        .await
        .refused(409, "IotHubActivationFailed", "disk");
}

#[tokio::test]
async fn a_failover_runs_and_succeeds() {
    let world = World::with_hub().await;
    let at = start(&world).await;
    assert_ne!(
        at.status.split('?').next(),
        at.location.split('?').next(),
        "two different paths"
    );
    check(&world, &at, "Running", 202).await;
    world.complete(&world.running());
    let done = check(&world, &at, "Succeeded", 200).await;
    assert!(done["endTime"].is_string());
    assert_eq!(world.follow(&at.location).await.text, "");
}

#[tokio::test]
async fn a_failover_that_is_rolled_back_failed_and_a_cancelled_one_is_canceled() {
    for (cancel, word) in [(false, "Failed"), (true, "Canceled")] {
        let world = World::with_hub().await;
        let at = start(&world).await;
        let id = world.running();
        world.walk(&id, StepName::Fence);
        if cancel {
            world
                .post(
                    &format!("{HUB}/providers/Castling.Failover/failovers/{id}/cancel"),
                    "",
                )
                .await
                .is(202);
        }
        world.fake.apply(Command::RollBack {
            operation: id.clone(),
            code: "PauseCeilingReached".into(),
            why: "5 s were over".into(),
        });
        check(&world, &at, "Running", 202).await;
        world.fake.apply(Command::Finish {
            operation: id,
            report: None,
            error: None,
        });
        let failed = check(&world, &at, word, 409).await;
        assert_eq!(failed["error"]["code"], "PauseCeilingReached");
        assert!(
            failed["error"]["message"]
                .as_str()
                .unwrap()
                .contains("nothing was lost")
        );
    }
}

#[tokio::test]
async fn both_marks_of_the_asynchronous_form_are_understood() {
    let world = World::with_hub().await;
    let at = start(&world).await;
    for mark in ["&asyncinfo", "&asyncinfo=undefined"] {
        let reply = world
            .follow(&format!("{}{mark}", at.location))
            .await
            .is(200);
        assert_eq!(reply.json()["status"], "Running");
    }
    let lower = at.location.replace("operationResults", "operationresults");
    world.follow(&lower).await.is(202);
}

#[tokio::test]
async fn an_operation_that_left_the_history_is_answered_from_its_target() {
    let world = World::with_hub().await;
    let at = start(&world).await;
    world.complete(&world.running());
    let forget = || {
        let mut state = world.fake.state.lock().unwrap();
        std::sync::Arc::make_mut(&mut *state).operations.clear();
    };
    forget();
    check(&world, &at, "Succeeded", 200).await;
    let deleted = world.delete(HUB).await.is(202);
    let location = deleted.header("location").unwrap().to_owned();
    world.finish_running();
    forget();
    world.follow(&location).await.is(200);
    // The hub is gone: nobody can tell any more how the failover ended.
    world
        .follow(&at.status)
        .await
        .refused(404, "OperationNotFound", "read the resource");
}

#[tokio::test]
async fn an_operation_is_told_in_its_subscription_only() {
    let world = World::with_hub().await;
    let at = start(&world).await;
    {
        let mut state = world.fake.state.lock().unwrap();
        let state = std::sync::Arc::make_mut(&mut *state);
        let other = control::model::Subscription {
            id: "other".into(),
            display_name: "o".into(),
        };
        state.subscriptions.insert("other".into(), other);
    }
    let elsewhere = at.status.replace(SUB, "other");
    world
        .follow(&elsewhere)
        .await
        .refused(404, "OperationNotFound", "");
    let unknown = format!(
        "/subscriptions/{SUB}/providers/Microsoft.Devices/locations/westus2/operationResults/none"
    );
    world
        .get(&unknown)
        .await
        .refused(404, "OperationNotFound", "'none'");
}

#[tokio::test]
async fn poll_addresses_carry_the_authority_of_the_host_header() {
    let world = World::with_group().await;
    let reply = world.call("PUT", HUB, BODY, &[]).await.is(201);
    assert!(
        reply
            .header("azure-asyncoperation")
            .unwrap()
            .starts_with("https://localhost:8443/subscriptions/")
    );
    let bad = axum::http::Request::builder()
        .uri("/metadata/endpoints")
        .header("host", "a\"b/c");
    world
        .send(bad.body(axum::body::Body::empty()).unwrap())
        .await
        .refused(400, "InvalidHostHeader", "Host");
}

#[tokio::test]
async fn an_operation_that_left_the_history_is_told_to_those_who_may_read_its_target() {
    const READER: &str = control::access::roles::READER;
    let subscription = format!("/subscriptions/{SUB}");
    let group = |name: &str| format!("{subscription}/resourceGroups/{name}");
    for (scope, hub_is_there, status) in [
        (group("RG"), true, 200),
        (group("Other"), true, 404),
        (subscription.clone(), true, 200),
        (group("RG"), false, 404),
        (subscription.clone(), false, 200),
    ] {
        let world = World::with_hub().await;
        world
            .put(&group("Other"), r#"{"location":"westus2"}"#)
            .await
            .is(201);
        let address = match hub_is_there {
            true => start(&world).await.status,
            false => {
                let deleted = world.delete(HUB).await.is(202);
                deleted.header("azure-asyncoperation").unwrap().to_owned()
            }
        };
        match hub_is_there {
            true => world.complete(&world.running()),
            false => world.finish_running(),
        }
        {
            let mut state = world.fake.state.lock().unwrap();
            let state = std::sync::Arc::make_mut(&mut *state);
            state.operations.clear();
            for known in state.access.assignments.values_mut() {
                known.scope = scope.clone();
                known.role = READER.into();
            }
        }
        let reply = world.follow(&address).await;
        match status {
            404 => reply.refused(404, "OperationNotFound", ""),
            _ => assert_eq!(reply.is(status).json()["status"], "Succeeded"),
        }
    }
}
