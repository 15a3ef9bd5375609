//! Without a lease: nothing is acknowledged, devices are sent elsewhere, and they come back at a rate.

use super::client::*;
use super::edge::{connector, server_config, server_name};
use crate::backend::Standing;
use crate::mqtt::Admission;
use crate::mqtt::end::{End, Refusal};
use rmqtt_codec::v3::Packet;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use tokio::net::TcpStream;
use types::limits;

const ISOLATED: Standing = Standing::NoLease {
    since_ms: limits::LEASE_GRACE_MS,
};

/// Sends one message and changes the world between the hub's taking it and its answer.
async fn answered_after(server: &Server, change: impl FnOnce()) -> Client<TcpStream> {
    let mut client = server.client(connect("d1")).await;
    server.backend.open.send_replace(false);
    client.send(telemetry(1, "x")).await;
    while server.backend.open.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    change();
    server.backend.open.send_replace(true);
    client
}

#[tokio::test]
async fn an_acknowledgement_does_not_outlive_the_lease_it_was_given_under() {
    let server = server().await;
    // As after a long stop: the lease lapsed and is held again before the connection gets to run.
    let lapse = || {
        server.backend.term.fetch_add(1, SeqCst);
    };
    let mut client = answered_after(&server, lapse).await;
    client.closed().await;
    assert_eq!(
        server.backend.bodies(),
        ["x"],
        "it was done, and is not acknowledged"
    );
    server
        .counted(|metrics| metrics.closed(End::LeaseLost) == 1)
        .await;
}

#[tokio::test]
async fn an_acknowledgement_within_the_lease_is_written() {
    let server = server().await;
    let mut client = answered_after(&server, || {}).await;
    client.expect(Packet::PublishAck { packet_id: id(1) }).await;
}

#[tokio::test]
async fn an_isolated_region_closes_its_devices_and_refuses_new_ones_for_now() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    *server.backend.standing.lock() = ISOLATED;
    client.closed().await;
    server
        .counted(|metrics| metrics.closed(End::Isolated) == 1)
        .await;
    // CONNACK 3, or the end of the connection before it: both make an SDK come again.
    let mut late = server.dial().await;
    late.send(connect("d2").into()).await;
    match late.next().await {
        Some(Packet::ConnectAck(ack)) => assert_eq!(u8::from(ack.return_code), 3),
        other => assert_eq!(other, None),
    }
    *server.backend.standing.lock() = Standing::Serving;
    server.client(connect("d1")).await.ping().await;
}

#[tokio::test]
async fn a_region_that_is_drained_refuses_new_devices_and_closes_the_others_in_their_turn() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    *server.backend.standing.lock() = Standing::Draining { rate_per_s: 0 };
    client.ping().await;
    *server.backend.standing.lock() = Standing::Draining { rate_per_s: 100 };
    client.closed().await;
    let mut late = server.dial().await;
    assert_eq!(late.connect(connect("d2")).await, (3, false));
    assert_eq!(server.metrics.refused(Refusal::ServerUnavailable), 1);
    assert_eq!(server.metrics.closed(End::Drained), 1);
}

#[tokio::test]
async fn a_hiccup_of_the_lease_leaves_connections_alone() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    *server.backend.standing.lock() = Standing::NoLease {
        since_ms: limits::LEASE_GRACE_MS - 1,
    };
    client.ping().await;
    server.client(connect("d2")).await.ping().await;
}

#[tokio::test]
async fn beyond_its_rate_a_listener_makes_connections_wait_and_then_closes_them() {
    let patient = Admission {
        per_second: 20,
        burst: 1,
        wait_ms: 50,
    };
    let server = server_that_admits(None, patient).await;
    let mut first = server.client(connect("d1")).await;
    // One place in line; the one after it finds none.
    let mut second = server.dial().await;
    server
        .counted(|metrics| metrics.accepted.load(Relaxed) == 2)
        .await;
    let mut third = server.dial().await;
    third.closed().await;
    assert_eq!(second.connect(connect("d2")).await, (0, false));
    first.ping().await;
    let figures = [
        &server.metrics.accepted,
        &server.metrics.admitted,
        &server.metrics.admission_delayed,
        &server.metrics.admission_refused,
        &server.metrics.admission_waiting,
    ];
    assert_eq!(figures.map(|figure| figure.load(Relaxed)), [3, 2, 1, 1, 0]);
}

#[tokio::test]
async fn resumed_handshakes_are_counted() {
    let (config, certificate) = server_config();
    let server = server_with(Some(config)).await;
    let connector = connector(certificate, &rustls::version::TLS13);
    for _ in 0..2 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let stream = connector.connect(server_name(), stream).await.unwrap();
        let mut client = Client::new(stream);
        assert_eq!(client.connect(connect("d1")).await.0, 0);
        client.ping().await;
    }
    assert_eq!(server.metrics.handshakes_resumed.load(Relaxed), 1);
}
