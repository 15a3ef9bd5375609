//! Jobs against a blob store of one page.

use crate::tests::world::{HUB, World};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Blobs = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A blob store that wants `sig=s`; its container's address.
async fn store() -> (Blobs, String) {
    let blobs = Blobs::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(serve).with_state(blobs.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (blobs, format!("http://{address}/box?sig=s"))
}

async fn serve(
    State(blobs): State<Blobs>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    if uri.query() != Some("sig=s") {
        return (StatusCode::FORBIDDEN, Vec::new());
    }
    let mut blobs = blobs.lock().unwrap();
    match method {
        Method::PUT => {
            blobs.insert(uri.path().into(), body.to_vec());
            (StatusCode::CREATED, Vec::new())
        }
        _ => match blobs.get(uri.path()) {
            Some(blob) => (StatusCode::OK, blob.clone()),
            None => (StatusCode::NOT_FOUND, Vec::new()),
        },
    }
}

async fn ended(world: &World, started: &Value) -> Value {
    let id = started["jobId"].as_str().unwrap();
    for _ in 0..500 {
        let job = world.get(&format!("{HUB}/jobs/{id}")).await.is(200).json();
        if job["status"] != "running" {
            return job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the job does not end");
}

#[tokio::test]
async fn an_export_writes_a_device_a_line_without_keys_if_asked() {
    let world = World::with_hub().await;
    let (blobs, container) = store().await;
    for exclude in [false, true] {
        let body = json!({ "exportBlobContainerUri": container, "excludeKeys": exclude });
        let started = world
            .post(&format!("{HUB}/exportDevices"), &body.to_string())
            .await
            .is(200)
            .json();
        let job = ended(&world, &started).await;
        assert_eq!(job["status"], "completed", "{job}");
        let text = String::from_utf8(blobs.lock().unwrap()["/box/devices.txt"].clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["id"], "d1");
        assert_eq!(
            lines[0]["authentication"].get("symmetricKey").is_none(),
            exclude
        );
        assert_eq!(lines[0]["tags"], json!({ "t": 1 }));
    }
    let listed = world.get(&format!("{HUB}/jobs")).await.is(200);
    assert_eq!(listed.json()["value"].as_array().unwrap().len(), 2);
    assert!(!listed.text.contains("sig="));
}

#[tokio::test]
async fn an_import_carries_out_the_good_lines_and_writes_down_the_others() {
    let world = World::with_hub().await;
    let (blobs, container) = store().await;
    let lines = "{\"id\":\"a\",\"importMode\":\"create\"}\r\nnothing\r\n{\"id\":\"bad\"}\n{\"id\":\"a\",\"importMode\":\"delete\"}\n";
    blobs
        .lock()
        .unwrap()
        .insert("/box/devices.txt".into(), lines.into());
    let body = json!({ "inputBlobContainerUri": container, "outputBlobContainerUri": container });
    let started = world
        .post(&format!("{HUB}/importDevices"), &body.to_string())
        .await
        .is(200)
        .json();
    let job = ended(&world, &started).await;
    assert_eq!(
        (&job["status"], &job["statusMessage"]),
        (&json!("completed"), &json!("2 devices imported, 2 failed"))
    );
    let errors = String::from_utf8(blobs.lock().unwrap()["/box/importErrors.log"].clone()).unwrap();
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(errors.contains("DeviceInvalid"), "{errors}");
    let batches = world.fake.imported.lock().unwrap().clone();
    assert_eq!(batches, [vec!["a", "bad"], vec!["a"]]);
}

#[tokio::test]
async fn a_store_that_refuses_fails_the_job_with_a_reason() {
    let world = World::with_hub().await;
    let (_, container) = store().await;
    let body = json!({ "exportBlobContainerUri": container.replace("sig=s", "sig=wrong"), "excludeKeys": true });
    let started = world
        .post(&format!("{HUB}/exportDevices"), &body.to_string())
        .await
        .is(200)
        .json();
    let job = ended(&world, &started).await;
    assert_eq!(job["status"], "failed");
    let reason = job["failureReason"].as_str().unwrap();
    assert!(
        reason.contains("HTTP 403") && !reason.contains("sig"),
        "{reason}"
    );
}

#[tokio::test]
async fn mistakes_are_named_with_their_field() {
    let world = World::with_hub().await;
    let export = format!("{HUB}/exportDevices");
    for (body, text) in [
        (json!({}), "exportBlobContainerUri"),
        (
            json!({ "exportBlobContainerUri": "http://example.com/c", "excludeKeys": true }),
            "only https",
        ),
        (
            json!({ "exportBlobContainerUri": "https://x.example/c" }),
            "excludeKeys",
        ),
        (
            json!({ "exportBlobContainerUri": "https://x.example/c", "excludeKeys": true, "authenticationType": "identityBased" }),
            "authenticationType",
        ),
    ] {
        world
            .post(&export, &body.to_string())
            .await
            .refused(400, "InvalidProperties", text);
    }
    world
        .get(&format!("{HUB}/jobs/none"))
        .await
        .refused(404, "JobNotFound", "none");
}
