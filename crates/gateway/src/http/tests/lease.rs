//! Without a lease: reads from what is stored, marked; nothing else.

use super::*;
use crate::backend::Standing;
use crate::http::serve_plain;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use types::limits;

const MARK: &str = "castling-not-current";

async fn isolated() -> Client {
    let client = Client::new();
    client.register("d1").await;
    *client.world.standing.lock() = Standing::NoLease {
        since_ms: limits::LEASE_GRACE_MS,
    };
    client
}

#[tokio::test]
async fn an_isolated_region_answers_reads_of_services_and_marks_them() {
    let client = isolated().await;
    for path in [
        "/devices/d1",
        "/devices",
        "/twins/d1",
        "/statistics/devices",
        "/statistics/service",
    ] {
        let answer = client.owner("GET", path).send().await.ok(StatusCode::OK);
        assert_eq!(answer.get(MARK), "lease-lapsed", "{path}");
    }
    client
        .owner("GET", "/devices/none")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    *client.world.standing.lock() = Standing::Serving;
    let answer = client.owner("GET", "/devices/d1").send().await;
    assert_eq!(answer.ok(StatusCode::OK).get(MARK), "");
}

#[tokio::test]
async fn an_isolated_region_refuses_everything_else_with_a_code_of_its_own() {
    let client = isolated().await;
    let calls = [
        client.owner("PUT", "/devices/d2").json(&device_json("d2")),
        client.owner("DELETE", "/devices/d1"),
        client.owner("PATCH", "/twins/d1").json("{}"),
        client.owner("POST", "/devices/d1/messages/deviceBound"),
        client.owner("GET", "/messages/events/partitions/0"),
        client.owner("GET", "/messages/serviceBound/feedback"),
        client.device("d1", "POST", "/devices/d1/messages/events"),
        client.device("d1", "GET", "/devices/d1/messages/deviceBound"),
    ];
    for call in calls {
        let answer = call.refused(ErrorCode::RegionIsolated).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.get("retry-after"), "2");
    }
    assert!(client.world.events().is_empty());
}

#[tokio::test]
async fn a_hiccup_of_the_lease_and_a_drain_change_nothing_here() {
    let client = Client::new();
    let hiccup = Standing::NoLease {
        since_ms: limits::LEASE_GRACE_MS - 1,
    };
    for standing in [hiccup, Standing::Draining { rate_per_s: 1 }] {
        *client.world.standing.lock() = standing;
        client.register("d1").await;
        client
            .owner("DELETE", "/devices/d1")
            .header("if-match", "*")
            .send()
            .await
            .ok(StatusCode::NO_CONTENT);
        let answer = client.owner("GET", "/devices").send().await;
        assert_eq!(answer.ok(StatusCode::OK).get(MARK), "", "{standing:?}");
    }
}

#[tokio::test]
async fn a_lease_that_lapses_before_the_answer_leaves_the_outcome_open() {
    let client = Client::new();
    client.register("d1").await;
    client.world.lapses.store(true, Relaxed);
    let put = client.owner("PUT", "/devices/d2").json(&device_json("d2"));
    let answer = put.refused(ErrorCode::ServerError).await;
    assert!(answer.text().contains("may have been carried out"));
    client
        .owner("GET", "/devices/d1")
        .refused(ErrorCode::RegionIsolated)
        .await;
    client.world.lapses.store(false, Relaxed);
    client
        .owner("GET", "/devices/d2")
        .send()
        .await
        .ok(StatusCode::OK);
}

/// Sends a request on an open connection and reads its answer's head.
async fn exchange(stream: &mut TcpStream, client: &Client, method: &str, body: &str) -> String {
    let token = client.token("myhub.castling.test", KEY, Some("iothubowner"));
    let request = format!(
        "{method} /devices/d1 HTTP/1.1\r\nHost: myhub.castling.test\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_answer_that_has_left_binds_its_connection_no_more() {
    let client = Client::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve_plain(listener, client.router.clone(), stopped));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let put = exchange(&mut stream, &client, "PUT", &device_json("d1")).await;
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    client.world.term.fetch_add(1, Relaxed);
    let get = exchange(&mut stream, &client, "GET", "").await;
    assert!(get.starts_with("HTTP/1.1 200"), "{get}");
    drop(stream);
    stop.send(true).unwrap();
    task.await.unwrap();
}
