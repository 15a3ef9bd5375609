use super::*;

async fn with_d1() -> Client {
    let client = Client::new();
    client.register("d1").await;
    client
}

#[tokio::test]
async fn a_twin_is_read_merged_and_replaced() {
    let client = with_d1().await;
    let fresh = client
        .policy("service", "GET", "/twins/d1?api-version=2021-04-12")
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(fresh.json()["deviceId"], "d1");
    let etag = fresh.lock();
    assert_eq!(fresh.json()["etag"], etag.as_str());

    let patch = r#"{"tags":{"floor":1,"room":"a"},"properties":{"desired":{"t":20}}}"#;
    let patched = client
        .owner("PATCH", "/twins/d1")
        .json(patch)
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(patched.json()["properties"]["desired"]["t"], 20);
    assert_ne!(patched.lock(), etag);
    let merged = client
        .owner("PATCH", "/twins/d1")
        .json(r#"{"tags":{"room":null}}"#)
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(merged.json()["tags"], serde_json::json!({"floor": 1}));
    let put = client
        .owner("PUT", "/twins/d1")
        .header("if-match", "\"*\"")
        .json(r#"{"tags":{"x":1}}"#);
    let replaced = put.send().await.ok(StatusCode::OK);
    assert_eq!(replaced.json()["tags"], serde_json::json!({"x": 1}));
    assert_eq!(replaced.json()["properties"]["desired"]["t"], 20);
}

#[tokio::test]
async fn stale_etags_unknown_devices_and_bad_bodies_are_refused() {
    let client = with_d1().await;
    let patch = |etag: &str| {
        client
            .owner("PATCH", "/twins/d1")
            .header("if-match", etag)
            .json("{\"tags\":{}}")
    };
    patch("\"AAAAAAAAAMg=\"")
        .refused(ErrorCode::PreconditionFailed)
        .await;
    let etag = client.owner("GET", "/twins/d1").send().await.lock();
    patch(&format!("\"{etag}\""))
        .send()
        .await
        .ok(StatusCode::OK);
    let none = client
        .owner("GET", "/twins/none")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    let message: Value = serde_json::from_str(none.json()["Message"].as_str().unwrap()).unwrap();
    assert_eq!(message["errorCode"], 404001);
    client
        .owner("PATCH", "/twins/none")
        .json("{}")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    for body in [
        "",
        "{",
        "[]",
        "{\"tags\":1}",
        "{\"tags\":{\"a b\":1}}",
        "{\"tags\":{\"$x\":1}}",
    ] {
        let answer = client.owner("PATCH", "/twins/d1").json(body).send().await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            answer.text()
        );
    }
    let deep = format!(
        "{{\"tags\":{}1{}}}",
        "{\"a\":".repeat(5_000),
        "}".repeat(5_000)
    );
    client
        .owner("PATCH", "/twins/d1")
        .json(&deep)
        .refused(ErrorCode::IotHubFormatError)
        .await;
}
