//! Who may reach a hub at all: addresses, kinds of tokens, tokens of the deployment.

use super::*;
use crate::http::ClientAddress;
use types::{AddressBlock, AddressRule, HubAccess, NetworkRules};

fn from(address: &str) -> ClientAddress {
    ClientAddress(address.parse().unwrap())
}

fn block(text: &str) -> AddressBlock {
    AddressBlock::parse(text).unwrap()
}

#[tokio::test]
async fn addresses_that_the_hub_refuses_get_401_and_no_word_of_the_rule() {
    let client = Client::new();
    let rule = |text: &str, accept| AddressRule {
        block: block(text),
        accept,
    };
    client.world.set_access(&HubAccess {
        filters: vec![
            rule("192.0.2.7", true),
            rule("192.0.2.0/24", false),
            rule("2001:db8::/32", false),
        ],
        ..HubAccess::default()
    });
    for (address, lets_in) in [
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("198.51.100.1", true),
        ("2001:db8::1", false),
        ("2001:db9::1", true),
    ] {
        let call = client.owner("GET", "/devices").extension(from(address));
        if lets_in {
            call.send().await.ok(StatusCode::OK);
        } else {
            let answer = call.refused(ErrorCode::IotHubUnauthorizedAccess).await;
            assert!(!answer.text().contains("192.0.2"), "{}", answer.text());
        }
    }
    client
        .owner("GET", "/devices")
        .refused(ErrorCode::IotHubUnauthorizedAccess)
        .await;
}

#[tokio::test]
async fn network_rules_count_for_events_only_if_they_say_so() {
    let client = Client::new();
    let rules = |events_too| HubAccess {
        network: Some(NetworkRules {
            allow_by_default: false,
            events_too,
            allowed: vec![block("192.0.2.0/24")],
        }),
        ..HubAccess::default()
    };
    let get = async |path: &str, address: &str| {
        let call = client.owner("GET", path).extension(from(address));
        call.send().await.status
    };
    const EVENTS: &str = "/messages/events/partitions";
    client.world.set_access(&rules(false));
    assert_eq!(get("/devices", "192.0.2.1").await, StatusCode::OK);
    assert_eq!(
        get("/devices", "198.51.100.1").await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(EVENTS, "198.51.100.1").await, StatusCode::OK);
    client.world.set_access(&rules(true));
    assert_eq!(get(EVENTS, "198.51.100.1").await, StatusCode::UNAUTHORIZED);
    assert_eq!(get(EVENTS, "192.0.2.1").await, StatusCode::OK);
}

#[tokio::test]
async fn kinds_of_tokens_that_the_hub_does_not_accept_are_named() {
    let client = Client::new();
    client.register("d1").await;
    let device = || {
        let token = client.token("myhub.castling.test/devices/d1", KEY, None);
        let call = client.call("POST", "/devices/d1/messages/events");
        call.header("authorization", &token).body("x")
    };
    client.world.set_access(&HubAccess {
        policy_tokens: false,
        ..HubAccess::default()
    });
    let answer = client
        .owner("GET", "/devices")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
    assert!(answer.text().contains("disableLocalAuth"));
    client
        .call("GET", "/devices")
        .header(
            "authorization",
            "Bearer may:Microsoft.Devices/IotHubs/devices/read",
        )
        .send()
        .await
        .ok(StatusCode::OK);
    device().send().await.ok(StatusCode::NO_CONTENT);
    client.world.set_access(&HubAccess {
        device_tokens: false,
        ..HubAccess::default()
    });
    let answer = device().refused(ErrorCode::IotHubUnauthorized).await;
    assert!(answer.text().contains("disableDeviceSAS"));
}

#[tokio::test]
async fn each_service_route_wants_its_action_of_a_bearer_token() {
    let client = Client::new();
    client.register("d1").await;
    const HUB: &str = "Microsoft.Devices/IotHubs";
    for (method, path, actions) in [
        ("GET", "/devices", "devices/read"),
        ("GET", "/devices/d1", "devices/read"),
        ("PUT", "/devices/d1", "devices/write"),
        ("DELETE", "/devices/none", "devices/delete"),
        ("POST", "/devices", "devices/write,devices/delete"),
        ("GET", "/Twins/d1", "twins/read"),
        ("PATCH", "/twins/d1", "twins/write"),
        ("PUT", "/twins/d1", "twins/write"),
        ("GET", "/statistics/devices", "statistics/read"),
        ("GET", "/statistics/service", "statistics/read"),
        (
            "POST",
            "/devices/d1/messages/deviceBound",
            "cloudToDeviceMessages/send/action",
        ),
        (
            "DELETE",
            "/devices/d1/commands",
            "cloudToDeviceMessages/queue/purge/action",
        ),
        (
            "GET",
            "/messages/serviceBound/feedback",
            "cloudToDeviceMessages/feedback/action",
        ),
        (
            "DELETE",
            "/messages/serviceBound/feedback/0.x",
            "cloudToDeviceMessages/feedback/action",
        ),
        ("GET", "/messages/events/partitions", "messages/events/read"),
        (
            "GET",
            "/messages/events/partitions/0",
            "messages/events/read",
        ),
        (
            "GET",
            "/messages/events/consumerGroups/cg1/partitions/0/offset",
            "messages/events/read",
        ),
        (
            "PUT",
            "/messages/events/consumerGroups/cg1/partitions/0/offset",
            "messages/events/positions/write",
        ),
    ] {
        let actions: Vec<String> = actions
            .split(',')
            .map(|action| format!("{HUB}/{action}"))
            .collect();
        let send = async |token: String| {
            let call = client.call(method, path);
            call.header("authorization", &token).send().await
        };
        let answer = send(format!("bearer may:{}", actions.join(","))).await;
        assert_ne!(
            answer.status,
            StatusCode::UNAUTHORIZED,
            "{method} {path}: {}",
            answer.text()
        );
        for missing in &actions {
            let others: Vec<_> = actions
                .iter()
                .filter(|one| *one != missing)
                .cloned()
                .collect();
            let answer = send(format!("Bearer may:{}", others.join(","))).await;
            answer.is_error(ErrorCode::IotHubUnauthorizedAccess, path);
            assert!(
                answer.text().contains(missing.as_str()),
                "{}",
                answer.text()
            );
        }
        send("Bearer abc".into())
            .await
            .is_error(ErrorCode::IotHubUnauthorized, path);
    }
}

#[tokio::test]
async fn devices_have_no_bearer_tokens() {
    let client = Client::new();
    client.register("d1").await;
    client
        .call("POST", "/devices/d1/messages/events")
        .header("authorization", "Bearer may:everything")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
}
