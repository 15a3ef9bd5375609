//! Twin requests and desired-property notifications.

use super::client::*;
use crate::backend::{CallError, SendError};
use crate::mqtt::end::End;
use rmqtt_codec::v3::{Packet, QoS};
use types::{ErrorCode, Reject, limits};

const RESPONSES: &str = "$iothub/twin/res/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
const GET: &str = "$iothub/twin/GET/?$rid=0a-B";
const PATCH: &str = "$iothub/twin/PATCH/properties/reported/?$rid=7";

fn puback(n: u16) -> Packet {
    Packet::PublishAck { packet_id: id(n) }
}

#[tokio::test]
async fn requests_are_acknowledged_and_answered_on_their_topic() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client.subscribe(RESPONSES, QoS::AtMostOnce).await;
    client.send(publish(GET, 1, " ")).await;
    client.expect(puback(1)).await;
    assert_eq!(
        client.published().await,
        (
            "$iothub/twin/res/200/?$rid=0a-B".into(),
            "{\"desired\":{}}".into(),
            0,
            false
        )
    );
    client.send(publish(PATCH, 2, "{\"a\":1}")).await;
    client.expect(puback(2)).await;
    assert_eq!(
        client.published().await,
        (
            "$iothub/twin/res/204/?$rid=7&$version=1".into(),
            String::new(),
            0,
            false
        )
    );
}

#[tokio::test]
async fn refusals_carry_status_and_error_code() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client.subscribe(RESPONSES, QoS::AtLeastOnce).await;
    client.send(publish(PATCH, 1, "{")).await;
    client.expect(puback(1)).await;
    refusal(&mut client, 400, 400_004).await;
    let unavailable = SendError::Unavailable {
        why: "full".into(),
        retry_after_ms: 1,
    };
    for (failure, status, code) in [
        (CallError::Send(unavailable), 503, 503_001),
        (
            CallError::Send(SendError::FailingOver { retry_after_ms: 1 }),
            404,
            404_012,
        ),
        (
            CallError::Reject(Reject::new(ErrorCode::PreconditionFailed, "no")),
            412,
            412_001,
        ),
        (
            CallError::Reject(Reject::new(ErrorCode::ThrottlingException, "slow down")),
            429,
            429_001,
        ),
    ] {
        server.backend.state.lock().failure = Some(failure);
        client.send(publish(PATCH, 0, "{}")).await;
        refusal(&mut client, status, code).await;
    }
    let unknown = CallError::Send(SendError::OutcomeUnknown { why: "cut".into() });
    server.backend.state.lock().failure = Some(unknown);
    client.send(publish(PATCH, 1, "{}")).await;
    client.closed().await;
}

async fn refusal(client: &mut Client<tokio::net::TcpStream>, status: u16, code: u32) {
    let (topic, body, ..) = client.published().await;
    assert_eq!(topic, format!("$iothub/twin/res/{status}/?$rid=7"));
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["errorCode"], code);
    assert_eq!(body["trackingId"].as_str().map(str::len), Some(32));
    assert_eq!(
        body["timestampUtc"].as_str().map(|text| &text[..4]),
        Some("2023")
    );
}

#[tokio::test]
async fn desired_changes_arrive_in_order_and_old_ones_not_at_all() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    server.backend.desired("d1", 1);
    client.ping().await;
    server
        .backend
        .state
        .lock()
        .devices
        .get_mut(&super::fake::device("d1"))
        .unwrap()
        .desired_version = 4;
    client.subscribe(DESIRED, QoS::AtLeastOnce).await;
    for version in [3, 4, 5, 7, 6, 7, 8] {
        server.backend.desired("d1", version);
    }
    for version in [5, 7, 8] {
        let (topic, body, packet_id, _) = client.published().await;
        assert_eq!(
            topic,
            format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
        );
        assert_eq!(body, format!("{{\"$version\":{version}}}"));
        assert_eq!(packet_id, 0, "notifications are QoS 0 whatever was granted");
    }
    let session = server.backend.state.lock().sessions[0].session.clone();
    assert_eq!(session.interests(), (false, Some(8)));
}

#[tokio::test]
async fn a_session_that_cannot_keep_up_is_closed() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client.subscribe(DESIRED, QoS::AtLeastOnce).await;
    // Parked: nothing is taken out of the mailbox.
    server.backend.open.send_replace(false);
    client.send(telemetry(1, "parked")).await;
    server.until_reading_stops().await;
    for version in 1..=limits::SESSION_NOTIFICATIONS_MAX as u64 + 1 {
        server.backend.desired("d1", version);
    }
    client.closed().await;
    assert_eq!(server.metrics.closed(End::Overrun), 1);
    assert!(server.backend.bodies().is_empty());
}

impl Server {
    /// Waits until the gateway took a publish from the socket.
    async fn until_reading_stops(&self) {
        while self
            .metrics
            .telemetry_batches
            .load(std::sync::atomic::Ordering::Relaxed)
            == 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}
