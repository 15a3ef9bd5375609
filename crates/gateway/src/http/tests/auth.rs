use super::*;
use crate::http::ClientCertificate;

/// Method, path, the right it wants. The one that deletes the device comes last.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/devices", "r"),
    ("POST", "/devices", "w"),
    ("GET", "/devices/d1", "r"),
    ("PUT", "/devices/d1", "w"),
    ("GET", "/twins/d1", "s"),
    ("PATCH", "/twins/d1", "s"),
    ("PUT", "/twins/d1", "s"),
    ("GET", "/statistics/devices", "r"),
    ("GET", "/statistics/service", "r"),
    ("DELETE", "/devices/d1/commands", "s"),
    ("POST", "/devices/d1/messages/deviceBound", "s"),
    ("GET", "/messages/serviceBound/feedback", "s"),
    ("DELETE", "/messages/serviceBound/feedback/0.x", "s"),
    ("POST", "/messages/serviceBound/feedback/0.x/abandon", "s"),
    ("GET", "/messages/events/partitions", "s"),
    ("GET", "/messages/events/partitions/0", "s"),
    (
        "GET",
        "/messages/events/consumerGroups/cg1/partitions/0/offset",
        "s",
    ),
    (
        "PUT",
        "/messages/events/consumerGroups/cg1/partitions/0/offset",
        "s",
    ),
    ("POST", "/devices/d1/messages/events", "d"),
    ("GET", "/devices/d1/messages/deviceBound", "d"),
    ("DELETE", "/devices/d1/messages/deviceBound/x", "d"),
    ("POST", "/devices/d1/messages/deviceBound/x/abandon", "d"),
    ("DELETE", "/devices/d1", "w"),
];

#[tokio::test]
async fn each_route_wants_its_right_and_no_other_gives_it() {
    let client = Client::new();
    client.register("d1").await;
    let policies = [
        ("service", "s"),
        ("device", "d"),
        ("registryRead", "r"),
        ("registryReadWrite", "rw"),
        ("iothubowner", "rwsd"),
    ];
    for (method, path, right) in ROUTES {
        for (policy, rights) in policies {
            let answer = client.policy(policy, method, path).send().await;
            if rights.contains(right) {
                assert_ne!(
                    answer.status,
                    StatusCode::UNAUTHORIZED,
                    "{policy} {method} {path}: {}",
                    answer.text()
                );
            } else {
                answer.is_error(ErrorCode::IotHubUnauthorizedAccess, path);
            }
        }
    }
}

#[tokio::test]
async fn every_route_refuses_what_proves_nothing() {
    let client = Client::new();
    client.register("d1").await;
    let hub = "myhub.castling.test";
    let past = client.world.seconds() - 301;
    let tokens = [
        String::new(),
        "Bearer abc".into(),
        "SharedAccessSignature".into(),
        "SharedAccessSignature sr=x".into(),
        format!("SharedAccessSignature sr={hub}&sig=!!&se=99999999999&skn=iothubowner"),
        "SharedAccessSignature ".repeat(400),
        client.token(hub, "bm90IHRoZSBrZXkgYXQgYWxsIQ==", Some("iothubowner")),
        client.token(hub, KEY, Some("nobody")),
        sas::make(hub, KEY, Some("iothubowner"), past),
        sas::make(&format!("{hub}/devices/d1"), KEY, None, past),
    ];
    for (method, path, _) in ROUTES {
        client
            .call(method, path)
            .refused(ErrorCode::IotHubUnauthorized)
            .await;
        for token in &tokens {
            let answer = client
                .call(method, path)
                .header("authorization", token)
                .refused(ErrorCode::IotHubUnauthorized)
                .await;
            assert!(!answer.text().contains("sig="), "no token in an answer");
        }
    }
}

#[tokio::test]
async fn a_token_just_expired_is_within_the_clock_skew() {
    let client = Client::new();
    let token = sas::make(
        "myhub",
        KEY,
        Some("iothubowner"),
        client.world.seconds() - 299,
    );
    client
        .call("GET", "/devices")
        .header("authorization", &token)
        .send()
        .await
        .ok(StatusCode::OK);
}

#[tokio::test]
async fn a_device_acts_for_itself_only() {
    let client = Client::new();
    client.register("d1").await;
    client.register("d2").await;
    let send = |resource: &str, key: &str, device: &str| {
        let token = client.token(resource, key, None);
        client
            .call("POST", &format!("/devices/{device}/messages/events"))
            .header("authorization", &token)
    };
    for resource in [
        "myhub/devices/d1",
        "MYHUB.x.y/devices/d1",
        "myhub/devices",
        "myhub",
        "127.0.0.1:443/devices/d1",
    ] {
        send(resource, KEY, "d1")
            .send()
            .await
            .ok(StatusCode::NO_CONTENT);
    }
    send("myhub/devices/d1", OTHER_KEY, "d1")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    for resource in [
        "myhub/devices/d1",
        "myhub/devices/D2",
        "other/devices/d2",
        "myhub/twins/d2",
    ] {
        send(resource, KEY, "d2")
            .refused(ErrorCode::IotHubUnauthorizedAccess)
            .await;
    }
    // Whether a device exists is not for strangers.
    send("myhub/devices/none", KEY, "none")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
    // A device's key opens no service route.
    client
        .device("d1", "GET", "/devices/d1")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
}

#[tokio::test]
async fn the_device_policy_acts_for_any_device_within_the_tokens_scope() {
    let client = Client::new();
    client.register("d1").await;
    client
        .policy("device", "POST", "/devices/d1/messages/events")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    client
        .policy("device", "POST", "/devices/none/messages/events")
        .refused(ErrorCode::DeviceNotFound)
        .await;
    let token = client.token("myhub/devices/d2", KEY, Some("device"));
    let call = client
        .call("POST", "/devices/d1/messages/events")
        .header("authorization", &token);
    call.refused(ErrorCode::IotHubUnauthorizedAccess).await;
}

#[tokio::test]
async fn a_disabled_device_is_told_so_once_it_proved_who_it_is() {
    let client = Client::new();
    client.register("d1").await;
    let disabled = device_json("d1").replace("\"enabled\"", "\"disabled\"");
    client
        .owner("PUT", "/devices/d1")
        .header("if-match", "\"*\"")
        .json(&disabled)
        .send()
        .await
        .ok(StatusCode::OK);
    client
        .device("d1", "POST", "/devices/d1/messages/events")
        .refused(ErrorCode::DeviceDisabled)
        .await;
    client
        .device("d1", "GET", "/devices/d1/messages/deviceBound")
        .refused(ErrorCode::DeviceDisabled)
        .await;
    let wrong = client.token("myhub/devices/d1", "bm90IHRoZSBrZXkgYXQgYWxsIQ==", None);
    let call = client
        .call("POST", "/devices/d1/messages/events")
        .header("authorization", &wrong);
    call.refused(ErrorCode::IotHubUnauthorized).await;
    assert_eq!(client.world.events().len(), 0);
}

#[tokio::test]
async fn a_device_with_a_certificate_needs_no_token() {
    let client = Client::new();
    // SHA-1 of the "certificate" below.
    let thumbprint = "A9993E364706816ABA3E25717850C26C9CD0D89D";
    let device = serde_json::json!({"deviceId": "x1", "authentication": {
        "type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": thumbprint}}});
    client
        .owner("PUT", "/devices/x1")
        .json(&device.to_string())
        .send()
        .await
        .ok(StatusCode::OK);
    client.register("d1").await;
    let send = |device: &str, certificate: &'static [u8]| {
        let certificate = ClientCertificate(Bytes::from_static(certificate));
        client
            .call("POST", &format!("/devices/{device}/messages/events"))
            .extension(certificate)
    };
    send("x1", b"abc").send().await.ok(StatusCode::NO_CONTENT);
    send("x1", b"abd")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
    send("d1", b"abc")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
    send("none", b"abc")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
    assert_eq!(
        client.world.events()[0].auth_method,
        hub::command::AuthMethod::Certificate
    );
    // No key of its own: a token of the device cannot be right.
    client
        .device("x1", "POST", "/devices/x1/messages/events")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
}

#[tokio::test]
async fn the_hub_is_found_by_host_then_token_then_because_there_is_only_one() {
    let two = Client::of(World::with_hubs(&["myhub", "second"]));
    let ask = |client: &Client, host: &str, resource: &str| {
        let token = client.token(resource, KEY, Some("iothubowner"));
        let mut request = Request::get("/devices")
            .header("authorization", token)
            .body(Body::empty())
            .unwrap();
        if !host.is_empty() {
            request
                .headers_mut()
                .insert("host", HeaderValue::from_str(host).unwrap());
        }
        request
    };
    for host in ["MyHub.anything.test", "myhub", "myhub.x:8443"] {
        two.send(ask(&two, host, "myhub")).await.ok(StatusCode::OK);
    }
    for host in ["127.0.0.1:10443", "localhost", "[::1]:443", ""] {
        two.send(ask(&two, host, "second.x.test"))
            .await
            .ok(StatusCode::OK);
        // Two hubs, and an address names neither.
        two.send(ask(&two, host, "127.0.0.1:10443"))
            .await
            .is_error(ErrorCode::IotHubNotFound, host);
    }
    two.send(ask(&two, "third.x", "myhub"))
        .await
        .is_error(ErrorCode::IotHubNotFound, "third");
    // The token is of another hub than the host.
    two.send(ask(&two, "second.x", "myhub"))
        .await
        .is_error(ErrorCode::IotHubUnauthorizedAccess, "second");
    let one = Client::new();
    one.send(ask(&one, "127.0.0.1:10443", "127.0.0.1:10443"))
        .await
        .ok(StatusCode::OK);
}
