use super::*;
use types::limits;

const QUEUE: &str = "/devices/d1/messages/deviceBound";

async fn with_d1() -> Client {
    let client = Client::new();
    client.register("d1").await;
    client
}

fn send<'a>(client: &'a Client, id: &str) -> Call<'a> {
    client
        .policy("service", "POST", QUEUE)
        .header("iothub-messageid", id)
        .body(format!("body of {id}"))
}

async fn take(client: &Client) -> Answer {
    client.device("d1", "GET", QUEUE).send().await
}

fn settle<'a>(client: &'a Client, method: &str, lock: &str, rest: &str) -> Call<'a> {
    client.device(
        "d1",
        method,
        &format!("{QUEUE}/{}{rest}", wire::percent::encode(lock)),
    )
}

#[tokio::test]
async fn a_message_reaches_the_device_with_all_it_was_sent_with() {
    let client = with_d1().await;
    let sent = send(&client, "m1")
        .header("iothub-correlationid", "c1")
        .header("iothub-userid", "u1")
        .header("iothub-contenttype", "application/json")
        .header("iothub-contentencoding", "utf-8")
        .header("iothub-ack", "Full")
        .header("iothub-expiry", "2026-11-23T05:00:00Z")
        .header("iothub-app-color", "red")
        .send()
        .await
        .ok(StatusCode::CREATED);
    assert_eq!(sent.json()["messageId"], "m1");
    let sequence = sent.json()["sequenceNumber"].as_u64().unwrap();

    let got = take(&client).await.ok(StatusCode::OK);
    assert_eq!(got.text(), "body of m1");
    for (name, value) in [
        ("iothub-messageid", "m1"),
        ("iothub-correlationid", "c1"),
        ("iothub-userid", "u1"),
        ("iothub-contenttype", "application/json"),
        ("iothub-contentencoding", "utf-8"),
        ("iothub-ack", "full"),
        ("iothub-expiry", "2026-11-23T05:00:00.000Z"),
        ("iothub-to", "/devices/d1/messages/deviceBound"),
        ("iothub-app-color", "red"),
        ("iothub-sequencenumber", &sequence.to_string()),
    ] {
        assert_eq!(got.get(name), value, "{name}");
    }
    assert!(
        got.headers.contains_key("iothub-enqueuedtime")
            && got.headers.contains_key("iothub-deliverycount")
    );
    // Locked: nothing else waits.
    take(&client).await.ok(StatusCode::NO_CONTENT);
    settle(&client, "DELETE", &got.lock(), "?api-version=2021-04-12")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    settle(&client, "DELETE", &got.lock(), "")
        .refused(ErrorCode::DeviceMessageLockLost)
        .await;
}

#[tokio::test]
async fn abandoned_messages_come_back_and_rejected_ones_do_not() {
    let client = with_d1().await;
    send(&client, "m1").send().await.ok(StatusCode::CREATED);
    let first = take(&client).await.ok(StatusCode::OK);
    settle(&client, "POST", &first.lock(), "/abandon")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    settle(&client, "POST", &first.lock(), "/abandon")
        .refused(ErrorCode::DeviceMessageLockLost)
        .await;
    let again = take(&client).await.ok(StatusCode::OK);
    assert_eq!(again.get("iothub-messageid"), "m1");
    assert_ne!(again.lock(), first.lock());
    settle(
        &client,
        "DELETE",
        &again.lock(),
        "?reject&api-version=2021-04-12",
    )
    .send()
    .await
    .ok(StatusCode::NO_CONTENT);
    take(&client).await.ok(StatusCode::NO_CONTENT);
    for (method, rest) in [("DELETE", ""), ("DELETE", "?reject"), ("POST", "/abandon")] {
        settle(&client, method, "nonsense/%00", rest)
            .refused(ErrorCode::DeviceMessageLockLost)
            .await;
    }
}

#[tokio::test]
async fn the_device_chooses_its_lock_time_within_bounds() {
    let client = with_d1().await;
    send(&client, "m1").send().await.ok(StatusCode::CREATED);
    for seconds in ["4", "301", "x", ""] {
        let call = client.device(
            "d1",
            "GET",
            &format!("{QUEUE}?iothub-messagelocktimeout={seconds}"),
        );
        call.refused(ErrorCode::ArgumentInvalid).await;
    }
    let call = client.device("d1", "GET", &format!("{QUEUE}?iothub-messagelocktimeout=5"));
    let got = call.send().await.ok(StatusCode::OK);
    client.world.advance(5_001);
    settle(&client, "POST", &got.lock(), "/abandon")
        .refused(ErrorCode::DeviceMessageLockLost)
        .await;
    let again = take(&client).await.ok(StatusCode::OK);
    assert_eq!(again.get("iothub-messageid"), "m1");
    settle(&client, "DELETE", &got.lock(), "")
        .refused(ErrorCode::DeviceMessageLockLost)
        .await;
    settle(&client, "DELETE", &again.lock(), "")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn bad_messages_are_refused() {
    let client = with_d1().await;
    let check = |name: &'static str, value: String, code| {
        let call = send(&client, "m1").header(name, &value);
        async move { call.refused(code).await }
    };
    check(
        "iothub-messageid",
        "m".repeat(129),
        ErrorCode::ArgumentInvalid,
    )
    .await;
    check("iothub-ack", "maybe".into(), ErrorCode::ArgumentInvalid).await;
    check(
        "iothub-expiry",
        "tomorrow".into(),
        ErrorCode::ArgumentInvalid,
    )
    .await;
    check(
        "iothub-expiry",
        "2027-11-23T05:00:00Z".into(),
        ErrorCode::InvalidMessageExpiryTime,
    )
    .await;
    let large = vec![b'x'; limits::C2D_MESSAGE_BYTES_MAX + 1];
    send(&client, "m1")
        .body(large)
        .refused(ErrorCode::MessageTooLarge)
        .await;
    let call = client.owner("POST", "/devices/none/messages/deviceBound");
    call.refused(ErrorCode::DeviceNotFound).await;
    take(&client).await.ok(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_queue_is_bounded_and_can_be_purged() {
    let client = with_d1().await;
    for n in 0..limits::C2D_QUEUE_DEPTH_MAX {
        send(&client, &format!("m{n}"))
            .send()
            .await
            .ok(StatusCode::CREATED);
    }
    send(&client, "too-many")
        .refused(ErrorCode::DeviceMaximumQueueDepthExceeded)
        .await;
    let purged = client
        .owner("DELETE", "/devices/d1/commands")
        .send()
        .await
        .ok(StatusCode::OK);
    let expected = serde_json::json!({"totalMessagesPurged": limits::C2D_QUEUE_DEPTH_MAX, "deviceId": "d1", "moduleId": null});
    assert_eq!(purged.json(), expected);
    client
        .owner("DELETE", "/devices/none/commands")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    take(&client).await.ok(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn feedback_of_every_partition_is_received_once() {
    let client = Client::new();
    let devices: Vec<String> = (0..12).map(|n| format!("d{n}")).collect();
    for device in &devices {
        client.register(device).await;
        let queue = format!("/devices/{device}/messages/deviceBound");
        client
            .owner("POST", &queue)
            .header("iothub-ack", "positive")
            .send()
            .await
            .ok(StatusCode::CREATED);
        let got = client
            .device(device, "GET", &queue)
            .send()
            .await
            .ok(StatusCode::OK);
        let path = format!("{queue}/{}", wire::percent::encode(&got.lock()));
        client
            .device(device, "DELETE", &path)
            .send()
            .await
            .ok(StatusCode::NO_CONTENT);
    }
    let mut seen = Vec::new();
    loop {
        let batch = client
            .owner("GET", "/messages/serviceBound/feedback")
            .send()
            .await;
        if batch.status == StatusCode::NO_CONTENT {
            break;
        }
        let batch = batch.ok(StatusCode::OK);
        seen.extend(
            batch
                .json()
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["deviceId"].as_str().unwrap().to_owned()),
        );
        let path = format!(
            "/messages/servicebound/feedback/{}",
            wire::percent::encode(&batch.lock())
        );
        client
            .owner("DELETE", &path)
            .send()
            .await
            .ok(StatusCode::NO_CONTENT);
        client
            .owner("DELETE", &path)
            .refused(ErrorCode::DeviceMessageLockLost)
            .await;
    }
    seen.sort();
    let mut expected = devices.clone();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn abandoned_feedback_is_received_again() {
    let client = with_d1().await;
    send(&client, "m1")
        .header("iothub-ack", "negative")
        .send()
        .await
        .ok(StatusCode::CREATED);
    let got = take(&client).await.ok(StatusCode::OK);
    settle(&client, "DELETE", &got.lock(), "?reject")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    let batch = client
        .owner("GET", "/messages/serviceBound/feedback")
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(batch.json()[0]["originalMessageId"], "m1");
    client
        .owner("GET", "/messages/serviceBound/feedback")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    let path = format!(
        "/messages/serviceBound/feedback/{}/abandon",
        wire::percent::encode(&batch.lock())
    );
    client
        .owner("POST", &path)
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    client
        .owner("GET", "/messages/serviceBound/feedback")
        .send()
        .await
        .ok(StatusCode::OK);
    for lock in ["x", "9.x", "0.", "-1.x", "0.x"] {
        let path = format!("/messages/serviceBound/feedback/{lock}");
        client
            .owner("DELETE", &path)
            .refused(ErrorCode::DeviceMessageLockLost)
            .await;
    }
}
