//! Telemetry up, cloud-to-device messages down.

use super::client::*;
use super::fake::device;
use crate::backend::{CallError, SendError};
use hub::command::Message;
use rmqtt_codec::v3::{Packet, QoS};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use types::{ErrorCode, Reject, limits};

const DEVICEBOUND: &str = "devices/d1/messages/devicebound/#";

fn puback(n: u16) -> Packet {
    Packet::PublishAck { packet_id: id(n) }
}

#[tokio::test]
async fn telemetry_is_acknowledged_only_after_the_hub_answered_and_the_socket_stays_open_while_it_is_parked()
 {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    server.backend.open.send_replace(false);
    client
        .send_all([telemetry(1, "a"), telemetry(2, "b")])
        .await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.next()).await;
    assert!(
        early.is_err(),
        "acknowledged before it was durable: {early:?}"
    );
    server.backend.open.send_replace(true);
    client.expect(puback(1)).await;
    client.expect(puback(2)).await;
    assert_eq!(server.backend.bodies(), ["a", "b"]);
}

#[tokio::test]
async fn one_read_becomes_one_command_and_order_is_kept_around_other_packets() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client
        .send_all((1..=16).map(|n| telemetry(n, &n.to_string())))
        .await;
    for n in 1..=16 {
        client.expect(puback(n)).await;
    }
    assert!(
        server.metrics.telemetry_batches.load(Relaxed) <= 2,
        "loopback delivers one write as one read"
    );
    client
        .send_all([
            telemetry(1, "x"),
            publish("devices/d1/messages/events/", 0, "y"),
            Packet::PingRequest,
            telemetry(2, "z"),
        ])
        .await;
    for expected in [Packet::PingResponse, puback(1), puback(2)] {
        // PINGRESP and PUBACK are independent of each other.
        let got = client.next().await.unwrap();
        assert!(
            matches!(got, Packet::PingResponse | Packet::PublishAck { .. }),
            "{got:?} for {expected:?}"
        );
    }
    assert_eq!(server.backend.bodies()[16..], ["x", "y", "z"]);
}

#[tokio::test]
async fn bags_reach_the_hub_as_sent_with_retain_and_dup_told() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    let topic = "devices/d1/messages/events/%24.mid=1&alert=true/";
    let Packet::Publish(mut flagged) = publish(topic, 7, "b") else {
        unreachable!()
    };
    (flagged.dup, flagged.retain) = (true, true);
    client
        .send_all([publish(topic, 6, "a"), Packet::Publish(flagged)])
        .await;
    client.expect(puback(6)).await;
    client.expect(puback(7)).await;
    let bags: Vec<_> = server
        .backend
        .state
        .lock()
        .telemetry
        .iter()
        .map(|(_, message)| message.bag.clone())
        .collect();
    assert_eq!(
        bags,
        [
            "%24.mid=1&alert=true",
            "%24.mid=1&alert=true&mqtt-retain=true&mqtt-dup=true"
        ]
    );
}

#[tokio::test]
async fn an_unknown_outcome_or_a_refusal_closes_without_acknowledging() {
    let server = server().await;
    for failure in [
        CallError::Send(SendError::OutcomeUnknown { why: "cut".into() }),
        CallError::Send(SendError::FailingOver { retry_after_ms: 1 }),
        CallError::Reject(Reject::new(
            ErrorCode::IotHubQuotaExceeded,
            "enough for today",
        )),
    ] {
        server.backend.state.lock().failure = None;
        let mut client = server.client(connect("d1")).await;
        server.backend.state.lock().failure = Some(failure);
        client.send(telemetry(1, "a")).await;
        client.closed().await;
    }
    assert_eq!(server.metrics.pubacks.load(Relaxed), 0);
}

#[tokio::test]
async fn what_is_not_the_devices_own_closes_the_connection() {
    let server = server().await;
    let mut flagged = telemetry(0, "x");
    if let Packet::Publish(publish) = &mut flagged {
        publish.dup = true;
    }
    let qos2 = {
        let Packet::Publish(mut publish) = telemetry(5, "x") else {
            unreachable!()
        };
        publish.qos = QoS::ExactlyOnce;
        Packet::Publish(publish)
    };
    let large = "x".repeat(limits::D2C_MESSAGE_BYTES_MAX + 1);
    for bad in [
        publish("devices/d2/messages/events/", 1, "x"),
        publish("devices/d1/modules/m/messages/events/", 1, "x"),
        publish("devices/d1/messages/events/%zz", 1, "x"),
        publish("devices/d1/messages/events/#", 1, "x"),
        publish("somewhere/else", 0, "x"),
        publish("$iothub/twin/GET/", 1, "x"),
        telemetry(1, &large),
        flagged,
        qos2,
        subscribe(1, "#", QoS::AtMostOnce),
        subscribe(1, "a/#/b", QoS::AtMostOnce),
        Packet::PublishReceived { packet_id: id(1) },
        Packet::PingResponse,
        connect("d1").into(),
    ] {
        let mut client = server.client(connect("d1")).await;
        // The end may come before everything is written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, &bytes(bad)).await;
        client.closed().await;
    }
    assert!(server.backend.bodies().is_empty());
}

#[tokio::test]
async fn foreign_filters_are_refused_one_by_one() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    let filters = [
        "devices/d2/messages/devicebound/#",
        "$iothub/methods/POST/#",
        "some/topic",
    ];
    let topic_filters = filters
        .iter()
        .map(|filter| ((*filter).into(), QoS::AtLeastOnce))
        .collect();
    client
        .send(Packet::Subscribe {
            packet_id: id(3),
            topic_filters,
        })
        .await;
    use rmqtt_codec::v3::SubscribeReturnCode::{Failure, Success};
    client
        .expect(Packet::SubscribeAck {
            packet_id: id(3),
            status: vec![Failure, Success(QoS::AtLeastOnce), Failure],
        })
        .await;
    client
        .send(Packet::Unsubscribe {
            packet_id: id(4),
            topic_filters: vec!["$iothub/methods/POST/#".into()],
        })
        .await;
    client
        .expect(Packet::UnsubscribeAck { packet_id: id(4) })
        .await;
    assert!(
        server.backend.state.lock().devices[&device("d1")]
            .subscriptions
            .is_empty()
    );
}

#[tokio::test]
async fn packets_may_come_in_any_pieces() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    let body = "y".repeat(200_000);
    let all: Vec<u8> = [telemetry(1, "a"), telemetry(2, &body), telemetry(3, "c")]
        .into_iter()
        .flat_map(bytes)
        .collect();
    for piece in all[..40].chunks(1).chain(all[40..].chunks(30_000)) {
        client.write(piece).await;
        tokio::task::yield_now().await;
    }
    for n in 1..=3 {
        client.expect(puback(n)).await;
    }
    assert_eq!(
        server.backend.bodies(),
        ["a".to_owned(), body, "c".to_owned()]
    );
}

#[tokio::test]
async fn an_announced_size_beyond_the_limit_closes_at_once() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client.write(b"\x32\xff\xff\xff\x7f").await;
    client.closed().await;
    let mut stranger = server.dial().await;
    // 64 KiB + 1 is too much for a CONNECT.
    stranger.write(b"\x10\x81\x80\x04").await;
    stranger.closed().await;
}

#[tokio::test]
async fn messages_are_in_flight_until_acknowledged_and_no_more_than_the_window() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client.subscribe(DEVICEBOUND, QoS::AtLeastOnce).await;
    let window = limits::MQTT_C2D_IN_FLIGHT_MAX;
    for n in 0..window + 2 {
        server.backend.queue("d1", &format!("t{n}"), n == 0);
    }
    let mut ids = Vec::new();
    for n in 0..window {
        let (topic, body, packet_id, dup) = client.published().await;
        assert_eq!(
            topic,
            format!(
                "devices/d1/messages/devicebound/%24.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound&%24.mid=id-t{n}"
            )
        );
        assert_eq!((body, dup), (format!("t{n}"), n == 0));
        assert!(packet_id > 0 && !ids.contains(&packet_id));
        ids.push(packet_id);
    }
    client.ping().await;
    client.send(puback(ids[0])).await;
    assert_eq!(client.published().await.1, format!("t{window}"));
    assert_eq!(server.backend.state.lock().completed, ["t0"]);
    client.send_all([puback(ids[1]), puback(ids[1])]).await;
    assert_eq!(client.published().await.1, format!("t{}", window + 1));
    client.ping().await;
    assert_eq!(
        server.backend.state.lock().completed,
        ["t0", "t1"],
        "a second PUBACK completes nothing"
    );
}

#[tokio::test]
async fn at_qos_0_a_message_is_completed_as_soon_as_it_is_written() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    server.backend.queue("d1", "waiting", false);
    client.subscribe(DEVICEBOUND, QoS::AtMostOnce).await;
    assert_eq!(client.published().await.2, 0);
    server.until(|state| state.completed == ["waiting"]).await;
}

#[tokio::test]
async fn a_will_becomes_telemetry_unless_the_client_took_leave() {
    let server = server().await;
    let will = |body| with_will(connect("d1"), "devices/d1/messages/events/a=b", body, true);
    let mut polite = server.client(will("polite")).await;
    polite.send(Packet::Disconnect).await;
    polite.closed().await;
    server.until(|state| state.closed.len() == 1).await;
    drop(server.client(will("gone")).await);
    server.until(|state| state.closed.len() == 2).await;
    let mut rude = server.client(will("rude")).await;
    rude.write(b"\xf0\x00").await;
    rude.closed().await;
    server.until(|state| state.closed.len() == 3).await;

    assert_eq!(server.backend.bodies(), ["gone", "rude"]);
    let (connection, Message { bag, .. }) = server.backend.state.lock().telemetry[0].clone();
    assert_eq!(bag, "a=b&iothub-MessageType=Will&mqtt-retain=true");
    assert!(connection.is_some());
}

#[tokio::test]
async fn a_will_for_someone_elses_topic_is_not_accepted() {
    let server = server().await;
    let mut client = server.dial().await;
    client
        .send(with_will(connect("d1"), "devices/d2/messages/events/", "x", false).into())
        .await;
    client.closed().await;
}
