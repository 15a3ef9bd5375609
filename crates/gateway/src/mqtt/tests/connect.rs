//! Who gets in, and with which CONNACK.

use super::client::*;
use super::fake::{Fake, KEY, NOW_S, OTHER_KEY, device};
use crate::backend::{CallError, SendError};
use crate::mqtt::Admission;
use crate::mqtt::end::Refusal;
use hub::Effect;
use hub::decision::CloseReason;
use rmqtt_codec::v3::{Connect, QoS};
use types::{AddressBlock, AddressRule, ErrorCode, HubAccess, Reject};
use wire::sas;

async fn check(server: &Server, connect: Connect, code: u8) {
    let what = format!("{:?} {:?}", connect.client_id, connect.username);
    assert_eq!(server.dial().await.connect(connect).await.0, code, "{what}");
}

fn signed(resource: &str, key: &str, policy: Option<&str>, expiry: i64) -> Connect {
    connect_with("d1", &sas::make(resource, key, policy, expiry))
}

#[tokio::test]
async fn either_key_of_the_device_and_a_policy_for_devices_open_a_session() {
    let server = server().await;
    let soon = NOW_S + 60;
    for good in [
        signed("myhub.example/devices/d1", KEY, None, soon),
        signed("MYHUB.example:8883/devices/d1", OTHER_KEY, None, soon),
        signed("myhub.example", KEY, Some("device"), soon),
        signed("myhub.example/devices", OTHER_KEY, Some("device"), soon),
        // Within the five minutes that clocks may differ.
        signed("myhub.example/devices/d1", KEY, None, NOW_S - 200),
    ] {
        check(&server, good, 0).await;
    }
}

#[tokio::test]
async fn a_positively_refused_identity_is_code_5() {
    let server = server().await;
    let soon = NOW_S + 60;
    for bad in [
        signed("myhub.example/devices/d1", "bm90IHRoZSBrZXk=", None, soon),
        signed("myhub.example/devices/d1", KEY, None, NOW_S - 301),
        signed("myhub.example/devices/d2", KEY, None, soon),
        signed("other.example/devices/d1", KEY, None, soon),
        signed("myhub.example", KEY, Some("service"), soon),
        signed("myhub.example", KEY, Some("nobody"), soon),
        connect("unknown"),
        connect("disabled"),
        Connect {
            password: None,
            ..connect("d1")
        },
        Connect {
            client_id: "d1/m1".into(),
            username: Some("myhub.example/d1/m1/?api-version=2021-04-12".into()),
            ..connect("d1")
        },
    ] {
        check(&server, bad, 5).await;
    }
    assert_eq!(server.metrics.refused(Refusal::NotAuthorized), 10);
}

#[tokio::test]
async fn who_comes_from_where_the_hub_lets_nobody_in_is_code_5() {
    let rule = |block: &str, accept| AddressRule {
        block: AddressBlock::parse(block).unwrap(),
        accept,
    };
    for (filters, code) in [
        (vec![rule("127.0.0.0/8", false)], 5),
        (vec![rule("127.0.0.1", true), rule("0.0.0.0/0", false)], 0),
        (vec![rule("192.0.2.0/24", false)], 0),
    ] {
        let access = HubAccess {
            filters,
            ..HubAccess::default()
        };
        let server = server_of(Fake::with(access), None, Admission::default()).await;
        check(&server, connect("d1"), code).await;
    }
    let closed = HubAccess {
        public_network: false,
        ..HubAccess::default()
    };
    let server = server_of(Fake::with(closed), None, Admission::default()).await;
    check(&server, connect("d1"), 5).await;
}

#[tokio::test]
async fn kinds_of_tokens_that_the_hub_does_not_accept_are_code_5() {
    let soon = NOW_S + 60;
    let device = || signed("myhub.example/devices/d1", KEY, None, soon);
    let policy = || signed("myhub.example", KEY, Some("device"), soon);
    let no_device = HubAccess {
        device_tokens: false,
        ..HubAccess::default()
    };
    let server = server_of(Fake::with(no_device), None, Admission::default()).await;
    check(&server, device(), 5).await;
    check(&server, policy(), 0).await;
    let no_policy = HubAccess {
        policy_tokens: false,
        ..HubAccess::default()
    };
    let server = server_of(Fake::with(no_policy), None, Admission::default()).await;
    check(&server, policy(), 5).await;
    check(&server, device(), 0).await;
}

#[tokio::test]
async fn malformed_logins_have_their_own_codes() {
    let server = server().await;
    check(
        &server,
        Connect {
            client_id: "d2".into(),
            ..connect("d1")
        },
        2,
    )
    .await;
    check(
        &server,
        Connect {
            client_id: "a b".into(),
            username: Some("h/a b/".into()),
            ..connect("d1")
        },
        2,
    )
    .await;
    check(
        &server,
        Connect {
            username: Some("myhub.example".into()),
            ..connect("d1")
        },
        4,
    )
    .await;
    check(&server, connect_with("d1", "not a token"), 4).await;
    check(
        &server,
        Connect {
            username: None,
            password: None,
            ..connect("d1")
        },
        4,
    )
    .await;
}

#[tokio::test]
async fn trouble_on_our_side_is_code_3_and_never_5() {
    let server = server().await;
    let unknown_hub = Connect {
        username: Some("otherhub.example/d1/?api-version=2021-04-12".into()),
        password: Some(sas::make("otherhub.example/devices/d1", KEY, None, NOW_S + 60).into()),
        ..connect("d1")
    };
    check(&server, unknown_hub, 3).await;
    for failure in [
        CallError::Send(SendError::FailingOver { retry_after_ms: 1 }),
        CallError::Send(SendError::Unavailable {
            why: "full".into(),
            retry_after_ms: 1,
        }),
        CallError::Send(SendError::OutcomeUnknown { why: "cut".into() }),
        CallError::Reject(Reject::new(
            ErrorCode::IotHubUnauthorized,
            "the identity changed",
        )),
    ] {
        server.backend.state.lock().failure = Some(failure);
        check(&server, connect("d1"), 3).await;
    }
}

#[tokio::test]
async fn a_client_that_names_no_hub_finds_the_one_its_token_names_or_the_only_one() {
    let server = server().await;
    let by = |host: &str, sr: &str| Connect {
        username: Some(format!("{host}/d1/?api-version=2021-04-12").into()),
        password: Some(sas::make(sr, KEY, None, NOW_S + 60).into()),
        ..connect("d1")
    };
    check(&server, by("127.0.0.1", "myhub.example/devices/d1"), 0).await;
    check(&server, by("127.0.0.1:8883", "127.0.0.1/devices/d1"), 0).await;
    check(&server, by("localhost", "localhost/devices/d1"), 0).await;
    check(
        &server,
        by("gateway.example", "myhub.example/devices/d1"),
        0,
    )
    .await;
}

#[tokio::test]
async fn other_protocol_versions_are_code_1() {
    let server = server().await;
    for connect in [
        &b"\x10\x0e\0\x06MQIsdp\x03\0\0\x3c\0\0"[..],
        b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0",
    ] {
        let mut client = server.dial().await;
        client.write(connect).await;
        if connect[3] == 6 {
            // Clean session is not set and the client id is empty: refused for that.
            client.expect(refused(Refusal::ClientId)).await;
        } else {
            client.expect(refused(Refusal::ProtocolVersion)).await;
        }
        client.closed().await;
    }
}

fn refused(refusal: Refusal) -> rmqtt_codec::v3::Packet {
    let return_code = (refusal as u8).try_into().unwrap();
    rmqtt_codec::v3::Packet::ConnectAck(rmqtt_codec::v3::ConnectAck {
        return_code,
        session_present: false,
    })
}

#[tokio::test]
async fn a_newer_connection_takes_over() {
    let server = server().await;
    let mut first = server.client(connect("d1")).await;
    let mut second = server.client(connect("d1")).await;
    first.closed().await;
    second.ping().await;
    server.until(|state| state.sessions.len() == 1).await;
    assert!(
        server.backend.state.lock().closed.is_empty(),
        "the hub knows already that the first is gone"
    );
}

#[tokio::test]
async fn a_take_over_before_the_session_is_open_is_not_missed() {
    let server = server().await;
    server.backend.state.lock().contested = true;
    let mut client = server.dial().await;
    client.send(connect("d1").into()).await;
    // Accepted or not, it does not live on.
    while client.next().await.is_some() {}
    server.until(|state| state.sessions.is_empty()).await;
}

#[tokio::test]
async fn the_hub_may_close_a_session() {
    let server = server().await;
    for why in [
        CloseReason::Deleted,
        CloseReason::Disabled,
        CloseReason::KeysChanged,
    ] {
        let mut client = server.client(connect("d1")).await;
        let connection = server
            .backend
            .state
            .lock()
            .sessions
            .last()
            .unwrap()
            .connection;
        server.backend.deliver("d1", |device| Effect::Close {
            device,
            connection,
            why,
        });
        client.closed().await;
    }
}

#[tokio::test]
async fn subscriptions_outlive_the_connection_and_the_gateway_unless_the_session_is_clean() {
    let server = server().await;
    let mut client = server.client(connect("d1")).await;
    client
        .subscribe("$iothub/twin/res/#", QoS::AtLeastOnce)
        .await;
    client
        .subscribe("devices/d1/messages/devicebound/#", QoS::ExactlyOnce)
        .await;
    drop(client);
    server.until(|state| state.closed.len() == 1).await;

    let mut again = server.dial().await;
    assert_eq!(again.connect(connect("d1")).await, (0, true));
    again
        .send(publish("$iothub/twin/GET/?$rid=1", 0, " "))
        .await;
    assert_eq!(again.published().await.0, "$iothub/twin/res/200/?$rid=1");
    server.backend.queue("d1", "t1", false);
    assert_eq!(again.published().await.1, "t1");

    let mut clean = server.dial().await;
    assert_eq!(
        clean
            .connect(Connect {
                clean_session: true,
                ..connect("d1")
            })
            .await,
        (0, false)
    );
    assert!(
        server.backend.state.lock().devices[&device("d1")]
            .subscriptions
            .is_empty()
    );
    clean
        .send(publish("$iothub/twin/GET/?$rid=2", 0, " "))
        .await;
    clean.ping().await;
}
