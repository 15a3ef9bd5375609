use super::world::PARTITIONS;
use super::*;
use crate::backend::SendError;
use types::{DeviceId, PartitionId, limits, partition_of};

#[tokio::test]
async fn a_device_is_created_read_replaced_and_deleted() {
    let client = Client::new();
    let created = client
        .owner("PUT", "/devices/d1?api-version=2021-04-12")
        .json(&device_json("d1"))
        .send()
        .await;
    let created = created.ok(StatusCode::OK);
    assert_eq!(created.json()["deviceId"], "d1");
    let etag = created.lock();
    let read = client
        .owner("GET", "/Devices/d1/")
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(read.lock(), etag);
    assert_eq!(
        read.json()["authentication"]["symmetricKey"]["primaryKey"],
        KEY
    );

    client
        .owner("PUT", "/devices/d1")
        .json(&device_json("d1"))
        .refused(ErrorCode::DeviceAlreadyExists)
        .await;
    let put = |etag: &str| {
        client
            .owner("PUT", "/devices/d1")
            .header("if-match", etag)
            .json(&device_json("d1"))
    };
    put("\"c3RhbGU=\"")
        .refused(ErrorCode::PreconditionFailed)
        .await;
    let replaced = put(&format!("\"{etag}\"")).send().await.ok(StatusCode::OK);
    assert_ne!(replaced.lock(), etag);
    put(&format!("\"{etag}\""))
        .refused(ErrorCode::PreconditionFailed)
        .await;
    put("\"*\"").send().await.ok(StatusCode::OK);
    put("*").send().await.ok(StatusCode::OK);

    let delete = |etag: &str| {
        client
            .owner("DELETE", "/devices/d1")
            .header("if-match", etag)
    };
    delete("\"c3RhbGU=\"")
        .refused(ErrorCode::PreconditionFailed)
        .await;
    assert!(
        delete("\"*\"")
            .send()
            .await
            .ok(StatusCode::NO_CONTENT)
            .body
            .is_empty()
    );
    client
        .owner("DELETE", "/devices/d1")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    client
        .owner("GET", "/devices/d1")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    put("\"*\"").refused(ErrorCode::DeviceNotFound).await;
}

#[tokio::test]
async fn ids_may_hold_every_documented_character() {
    let client = Client::new();
    for id in ["a#b%c$d", "a?b=c", "x+y;z", "query", "a:b,c(d)!@*'_."] {
        client.register(id).await;
        let path = format!("/devices/{}", wire::percent::encode(id));
        let read = client.owner("GET", &path).send().await.ok(StatusCode::OK);
        assert_eq!(read.json()["deviceId"], id);
    }
}

#[tokio::test]
async fn bad_names_and_bodies_are_refused() {
    let client = Client::new();
    for path in [
        "/devices/a%20b",
        "/devices/a%2Fb",
        "/devices/%C3%BC",
        "/devices/%00",
        &format!("/devices/{}", "x".repeat(129)),
    ] {
        client
            .owner("GET", path)
            .refused(ErrorCode::ArgumentInvalid)
            .await;
    }
    client
        .owner("GET", "/devices/%zz")
        .refused(ErrorCode::ArgumentInvalid)
        .await;
    for body in [
        "",
        "{",
        "[]",
        "1",
        "{\"deviceId\":\"d1\"",
        "{\"deviceId\":\"other\"}",
        "{\"deviceId\":\"d1\",\"status\":7}",
    ] {
        let answer = client.owner("PUT", "/devices/d1").json(body).send().await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            answer.text()
        );
    }
    let deep = format!(
        "{{\"deviceId\":\"d1\",\"x\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    client
        .owner("PUT", "/devices/d1")
        .json(&deep)
        .refused(ErrorCode::IotHubFormatError)
        .await;
    let large = vec![b' '; limits::HTTP_BODY_BYTES_MAX + 1];
    client
        .owner("PUT", "/devices/d1")
        .body(large)
        .refused(ErrorCode::MessageTooLarge)
        .await;
    client
        .owner("GET", "/devices/d1")
        .refused(ErrorCode::DeviceNotFound)
        .await;
}

#[tokio::test]
async fn a_list_is_paged_over_all_partitions_without_gap_or_double() {
    let client = Client::new();
    let none = client
        .owner("GET", "/devices")
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(
        (none.text().as_str(), none.get("x-ms-continuation")),
        ("[]", "")
    );
    let mut all: Vec<String> = (0..25).map(|n| format!("d{n}")).collect();
    for id in &all {
        client.register(id).await;
    }
    for top in [1, 3, 25, 1000] {
        let (mut found, mut continuation, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let mut call = client.owner("GET", &format!("/devices/?top={top}"));
            if !continuation.is_empty() {
                call = call.header("x-ms-continuation", &continuation);
            }
            let page = call.send().await.ok(StatusCode::OK);
            let page_ids: Vec<_> = page
                .json()
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d["deviceId"].as_str().unwrap().to_owned())
                .collect();
            assert!(page_ids.len() <= top);
            found.extend(page_ids);
            pages += 1;
            continuation = page.get("x-ms-continuation").to_owned();
            if continuation.is_empty() {
                break;
            }
        }
        assert!(pages >= 25 / top);
        found.sort();
        all.sort();
        assert_eq!(found, all, "top {top}");
    }
}

#[tokio::test]
async fn bad_list_parameters_are_refused() {
    let client = Client::new();
    for top in ["0", "1001", "-1", "x", ""] {
        client
            .owner("GET", &format!("/devices?top={top}"))
            .refused(ErrorCode::ArgumentInvalid)
            .await;
    }
    for continuation in ["x", "!!", "MA", "OSBk", "MCBhIGI"] {
        let call = client
            .owner("GET", "/devices")
            .header("x-ms-continuation", continuation);
        call.refused(ErrorCode::ArgumentInvalid).await;
    }
}

fn bulk(ids: &[&str], mode: &str) -> String {
    let entries: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({"id": id, "importMode": mode}))
        .collect();
    serde_json::to_string(&entries).unwrap()
}

#[tokio::test]
async fn a_bulk_changes_every_partition_and_names_what_failed() {
    let client = Client::new();
    let ids: Vec<String> = (0..100).map(|n| format!("d{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let done = client
        .owner("POST", "/devices")
        .json(&bulk(&ids, "create"))
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(
        done.json(),
        serde_json::json!({"isSuccessful": true, "errors": [], "warnings": []})
    );
    let figures = client
        .owner("GET", "/statistics/devices")
        .send()
        .await
        .ok(StatusCode::OK);
    let expected = serde_json::json!({"totalDeviceCount": 100, "enabledDeviceCount": 100, "disabledDeviceCount": 0});
    assert_eq!(figures.json(), expected);
    let service = client
        .owner("GET", "/statistics/service")
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(
        service.json(),
        serde_json::json!({"connectedDeviceCount": 0})
    );

    let some = client
        .owner("POST", "/devices")
        .json(&bulk(&["d1", "new", "a b", ""], "Create"))
        .send()
        .await;
    let some = some.ok(StatusCode::BAD_REQUEST).json();
    assert_eq!(some["isSuccessful"], false);
    let mut failed: Vec<_> = some["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["deviceId"].as_str().unwrap(),
                e["errorCode"].as_str().unwrap(),
            )
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(
        failed,
        [
            ("", "ArgumentInvalid"),
            ("a b", "ArgumentInvalid"),
            ("d1", "DeviceAlreadyExists")
        ]
    );
    client
        .owner("GET", "/devices/new")
        .send()
        .await
        .ok(StatusCode::OK);

    let delete = client
        .owner("POST", "/devices")
        .json(&bulk(&ids, "delete"))
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(delete.json()["isSuccessful"], true);
}

#[tokio::test]
async fn a_bulk_that_is_wrong_as_a_whole_changes_nothing() {
    let client = Client::new();
    let many: Vec<String> = (0..101).map(|n| format!("d{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let post = |body: &str| client.owner("POST", "/devices").json(body);
    post(&bulk(&many, "create"))
        .refused(ErrorCode::ArgumentInvalid)
        .await;
    post("[]").refused(ErrorCode::ArgumentInvalid).await;
    post(&bulk(&["d1", "d2", "d1"], "create"))
        .refused(ErrorCode::DeviceDefinedMultipleTimes)
        .await;
    for body in ["", "{}", "[1]", "[{\"id\":\"d1\"}", "[{\"id\":1}]"] {
        post(body).refused(ErrorCode::IotHubFormatError).await;
    }
    let module = post(r#"[{"id":"d1","moduleId":"m","importMode":"create"}]"#)
        .send()
        .await
        .ok(StatusCode::BAD_REQUEST);
    assert_eq!(
        module.json()["errors"][0]["errorCode"],
        "FeatureNotSupported"
    );
    let figures = client.owner("GET", "/statistics/devices").send().await;
    assert_eq!(figures.json()["totalDeviceCount"], 0);
}

#[tokio::test]
async fn a_bulk_says_which_entries_an_unreachable_partition_would_have_had() {
    let client = Client::new();
    let id_in = |partition| {
        (0..)
            .map(|n| format!("d{n}"))
            .find(|id| {
                partition_of(&DeviceId::parse(id).unwrap(), PARTITIONS) == PartitionId(partition)
            })
            .unwrap()
    };
    let (reached, lost) = (id_in(0), id_in(1));
    client.world.fail(
        Some(PartitionId(1)),
        SendError::OutcomeUnknown {
            why: "link broke".into(),
        },
    );
    let body = bulk(&[&reached, &lost], "create");
    let partly = client
        .owner("POST", "/devices")
        .json(&body)
        .send()
        .await
        .ok(StatusCode::BAD_REQUEST)
        .json();
    assert_eq!(partly["errors"].as_array().unwrap().len(), 1);
    assert_eq!(partly["errors"][0]["deviceId"], lost.as_str());
    assert_eq!(partly["errors"][0]["errorCode"], "ServerError");
    client
        .owner("GET", &format!("/devices/{reached}"))
        .send()
        .await
        .ok(StatusCode::OK);
    client
        .owner("POST", "/devices")
        .json(&bulk(&[&lost], "create"))
        .refused(ErrorCode::ServerError)
        .await;
}
