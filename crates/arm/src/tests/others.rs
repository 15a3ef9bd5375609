//! Metadata, subscriptions, providers, resources, and what is not served.

use super::world::*;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

async fn open(world: &World, path: &str) -> Reply {
    world
        .send(
            Request::builder()
                .uri(path)
                .header("host", HOST)
                .body(Body::empty())
                .unwrap(),
        )
        .await
}

#[tokio::test]
async fn metadata_has_the_form_of_its_version() {
    let world = World::new();
    let one = open(&world, "//metadata/endpoints?api-version=2022-09-01")
        .await
        .is(200)
        .json();
    assert_eq!(
        one["authentication"]["loginEndpoint"],
        "https://localhost:8443/adfs"
    );
    assert_eq!(
        one["authentication"]["audiences"][0],
        "https://localhost:8443/"
    );
    assert_eq!(one["resourceManager"], "https://localhost:8443");
    assert_eq!(one["suffixes"], json!({}));
    assert!(!one["microsoftGraphResourceId"].as_str().unwrap().is_empty());
    let array = open(&world, "/metadata/endpoints?api-version=2019-05-01")
        .await
        .is(200)
        .json();
    assert_eq!(array, json!([one]));
    let flat = open(&world, "/metadata/endpoints?api-version=1.0")
        .await
        .is(200)
        .json();
    assert!(flat["galleryEndpoint"].is_string());
}

#[tokio::test]
async fn subscriptions_tenants_and_locations_are_listed() {
    let world = World::new();
    let list = world.get("/subscriptions").await.is(200).json();
    let one = world
        .get(&format!("/subscriptions/{}", SUB.to_uppercase()))
        .await
        .is(200)
        .json();
    assert_eq!(list["value"], json!([one]));
    assert_eq!(
        (&one["state"], &one["tenantId"], &one["subscriptionId"]),
        (&json!("Enabled"), &json!(TENANT), &json!(SUB))
    );
    world
        .get("/subscriptions/none")
        .await
        .refused(404, "SubscriptionNotFound", "none");
    assert_eq!(
        world.get("/tenants").await.json()["value"][0]["tenantId"],
        TENANT
    );
    let locations = world
        .get(&format!("/subscriptions/{SUB}/locations"))
        .await
        .is(200)
        .json();
    let of = |name: &str| {
        let all = locations["value"].as_array().unwrap();
        all.iter()
            .find(|location| location["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(locations["value"].as_array().unwrap().len(), 69);
    assert_eq!(of("westus2")["displayName"], "West US 2");
    assert_eq!(
        of("westus2")["metadata"]["pairedRegion"][0]["name"],
        "westcentralus"
    );
    assert_eq!(of("westus2")["castling"]["note"], "running here");
    assert_eq!(
        of("westus3")["castling"],
        json!({ "running": false, "note": "not running here", "manualFailover": true })
    );
}

#[tokio::test]
async fn providers_are_registered_and_list_their_operations() {
    let world = World::new();
    let list = world
        .get(&format!("/subscriptions/{SUB}/providers"))
        .await
        .is(200)
        .json();
    assert_eq!(list["value"].as_array().unwrap().len(), 3);
    let path = format!("/subscriptions/{SUB}/providers/microsoft.devices");
    let one = world.get(&path).await.is(200).json();
    assert_eq!(
        (&one["registrationState"], &one["namespace"]),
        (&json!("Registered"), &json!("Microsoft.Devices"))
    );
    assert!(
        one["resourceTypes"][0]["apiVersions"]
            .as_array()
            .unwrap()
            .contains(&json!("2023-06-30"))
    );
    assert_eq!(
        world
            .post(&format!("{path}/register"), "")
            .await
            .is(200)
            .json(),
        one
    );
    world
        .get(&format!("/subscriptions/{SUB}/providers/Microsoft.Compute"))
        .await
        .refused(404, "InvalidResourceNamespace", "Compute");
    let operations = world
        .get("/providers/Microsoft.Devices/operations")
        .await
        .is(200)
        .json();
    let names: Vec<_> = operations["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|op| op["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"Microsoft.Devices/IotHubs/failover/action") && names.is_sorted());
}

#[tokio::test]
async fn resources_are_listed_and_filtered() {
    let world = World::with_hub().await;
    let names = async |path: String| -> Vec<Value> {
        let list = world.get(&path).await.is(200).json();
        list["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].clone())
            .collect()
    };
    assert_eq!(
        names(format!("/subscriptions/{SUB}/resourceGroups/rg/resources")).await,
        [json!("Hub-One")]
    );
    let filtered = |filter: &str| {
        format!("/subscriptions/{SUB}/resources?api-version=2024-11-01&$filter={filter}")
    };
    assert_eq!(names(filtered("")).await.len(), 1);
    assert_eq!(names(filtered("resourceGroup%20eq%20'RG'")).await.len(), 1);
    assert_eq!(
        names(filtered("resourceGroup%20eq%20'other'")).await.len(),
        0
    );
    let both = "resourceType+eq+'microsoft.devices/iothubs'+and+name+eq+'hub-one'";
    assert_eq!(names(filtered(both)).await.len(), 1);
    for bad in [
        "tagName%20eq%20'a'",
        "name%20ne%20'x'",
        "nonsense",
        "name%20eq%20x",
    ] {
        world.get(&filtered(bad)).await.refused(
            400,
            "InvalidFilterInQueryString",
            "not understood",
        );
    }
}

#[tokio::test]
async fn an_api_version_is_asked_for_and_any_date_is_taken() {
    let world = World::new();
    for path in [
        "/subscriptions?",
        "/subscriptions?api-version=",
        "/subscriptions?other=1",
    ] {
        world
            .get(path)
            .await
            .refused(400, "MissingApiVersionParameter", "api-version");
    }
    for bad in ["latest", "2023-6-30", "2023-06-30-beta", "20230630xx"] {
        let path = format!("/subscriptions?api-version={bad}");
        world
            .get(&path)
            .await
            .refused(400, "InvalidApiVersionParameter", bad);
    }
    for good in ["2014-04-01", "2099-12-31-preview"] {
        world
            .get(&format!("/subscriptions?API-Version={good}"))
            .await
            .is(200);
    }
}

#[tokio::test]
async fn what_is_not_served_is_named() {
    let world = World::with_hub().await;
    let missing = [
        (
            "POST",
            format!(
                "/subscriptions/{SUB}/resourceGroups/RG/providers/Microsoft.Resources/deployments/d/whatIf"
            ),
            "Deployments_WhatIf",
        ),
        ("GET", format!("{HUB}/somethingNew"), "somethingNew"),
        (
            "GET",
            format!("/subscriptions/{SUB}/providers/Microsoft.Devices/provisioningServices"),
            "provisioningServices",
        ),
        (
            "GET",
            format!("{HUB}/providers/microsoft.insights/metrics"),
            "metrics",
        ),
    ];
    for (method, path, name) in missing {
        world
            .call(method, &path, "", &[])
            .await
            .refused(501, "NotImplemented", name);
    }
    world
        .get("/nothing")
        .await
        .refused(404, "InvalidResourceType", "/nothing");
    let reply = world.delete("/subscriptions").await;
    reply.refused(405, "MethodNotAllowed", "GET");
    assert_eq!(reply.header("allow"), Some("GET"));
    world
        .get("/subscriptions/%zz")
        .await
        .refused(400, "InvalidRequestUri", "malformed");
}

#[tokio::test]
async fn ids_of_a_request_come_back() {
    let world = World::new();
    let headers = [
        ("x-ms-correlation-request-id", "corr-1"),
        ("x-ms-client-request-id", "client-1"),
        ("x-ms-return-client-request-id", "true"),
    ];
    let reply = world
        .call("GET", "/subscriptions", "", &headers)
        .await
        .is(200);
    assert_eq!(reply.header("x-ms-correlation-request-id"), Some("corr-1"));
    assert_eq!(reply.header("x-ms-client-request-id"), Some("client-1"));
    assert_eq!(reply.header("x-ms-request-id").unwrap().len(), 36);
    let strange = world
        .call(
            "GET",
            "/subscriptions",
            "",
            &[("x-ms-correlation-request-id", "a<b>")],
        )
        .await;
    assert_eq!(
        strange.header("x-ms-correlation-request-id"),
        strange.header("x-ms-request-id")
    );
}

/// As the binary puts it together, over a socket.
#[tokio::test]
async fn other_routes_can_be_merged_into_the_router() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new();
    let extra = axum::Router::new().route("/healthz", axum::routing::get(|| async { "fine" }));
    let router = crate::router(world.fake.clone(), world.api.tokens.clone()).merge(extra);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/healthz").await.ends_with("fine"));
    assert!(
        get("/metadata/endpoints?api-version=2022-09-01")
            .await
            .contains(&format!("https://{address}/adfs"))
    );
    assert!(get("/subscriptions").await.starts_with("HTTP/1.1 401"));
    server.abort();
}
