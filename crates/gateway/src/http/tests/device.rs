use super::*;
use crate::backend::SendError;
use types::{ErrorCode, limits};
use wire::property_bag::Properties;

const EVENTS: &str = "/devices/d1/messages/events?api-version=2021-04-12";
const BATCH: &str = "application/vnd.microsoft.iothub.json";

async fn with_d1() -> Client {
    let client = Client::new();
    client.register("d1").await;
    client
}

#[tokio::test]
async fn a_message_is_stored_with_its_properties() {
    let client = with_d1().await;
    let answer = client
        .device("d1", "POST", EVENTS)
        .header("iothub-messageid", "m1")
        .header("iothub-contenttype", "application/json")
        .header("iothub-app-alert", "a=1&b")
        .header("dt-subject", "thermostat")
        .header("x-other", "not a property")
        .body("{\"t\":1}")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    assert!(answer.body.is_empty());
    let events = client.world.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].device.as_str(), "d1");
    assert_eq!(&events[0].body[..], b"{\"t\":1}");
    let properties = Properties::parse(std::str::from_utf8(&events[0].bag).unwrap()).unwrap();
    assert_eq!(properties.system("mid"), Some("m1"));
    assert_eq!(properties.system("ct"), Some("application/json"));
    assert_eq!(properties.system("sub"), Some("thermostat"));
    assert_eq!(properties.application["alert"].as_deref(), Some("a=1&b"));
    assert_eq!(properties.application.len(), 1);
}

#[tokio::test]
async fn paths_compare_without_case_and_ids_are_decoded() {
    let client = Client::new();
    client.register("a#b%").await;
    client
        .device("a#b%", "POST", "/Devices/a%23b%25/Messages/EVENTS/")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    client
        .device("a#b%", "GET", "/devices/a%23b%25/messages/deviceBound")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    client
        .device("a#b%", "GET", "/devices/a%23b%25/messages/devicebound")
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    assert_eq!(client.world.events()[0].device.as_str(), "a#b%");
}

#[tokio::test]
async fn a_batch_is_stored_whole_and_in_order() {
    let client = with_d1().await;
    let batch = r#"[{"body":"aGk="},{"body":"text","base64Encoded":false,"properties":{"iothub-app-K":"v"}},{"body":"/wA=","base64Encoded":true}]"#;
    let call = client
        .device("d1", "POST", EVENTS)
        .header("content-type", &format!("{BATCH}; charset=utf-8"));
    call.body(batch).send().await.ok(StatusCode::NO_CONTENT);
    let events = client.world.events();
    let bodies: Vec<&[u8]> = events.iter().map(|event| &event.body[..]).collect();
    assert_eq!(bodies, [b"hi", &b"text"[..], &[0xff, 0]]);
    assert_eq!(&events[1].bag[..], b"K=v");
}

#[tokio::test]
async fn a_bad_batch_stores_nothing() {
    let client = with_d1().await;
    let post = |body: String| {
        client
            .device("d1", "POST", EVENTS)
            .header("content-type", BATCH)
            .body(body)
    };
    post("[]".into()).refused(ErrorCode::NullMessage).await;
    for body in [
        "",
        "{}",
        "[{}]",
        "[{\"body\":\"aGk=\"},{\"body\":1}]",
        "[{\"body\":\"aGk=\"}",
    ] {
        post(body.into())
            .refused(ErrorCode::IotHubFormatError)
            .await;
    }
    post(r#"[{"body":"aGk="},{"body":"!"}]"#.into())
        .refused(ErrorCode::ArgumentInvalid)
        .await;
    let many = vec![r#"{"body":""}"#; limits::HTTP_BATCH_MESSAGES_MAX + 1].join(",");
    post(format!("[{many}]"))
        .refused(ErrorCode::MessageTooLarge)
        .await;
    let half = "x".repeat(limits::D2C_MESSAGE_BYTES_MAX / 2 + 1);
    let two = format!(
        r#"[{{"body":"{half}","base64Encoded":false}},{{"body":"{half}","base64Encoded":false}}]"#
    );
    post(two).refused(ErrorCode::MessageTooLarge).await;
    let deep = format!(
        "[{{\"body\":{}1{}}}]",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    post(deep).refused(ErrorCode::IotHubFormatError).await;
    assert_eq!(client.world.events().len(), 0);
}

#[tokio::test]
async fn sizes_and_property_rules_hold() {
    let client = with_d1().await;
    let post = |bytes: usize| client.device("d1", "POST", EVENTS).body(vec![b'x'; bytes]);
    post(limits::D2C_MESSAGE_BYTES_MAX)
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    post(limits::D2C_MESSAGE_BYTES_MAX + 1)
        .refused(ErrorCode::MessageTooLarge)
        .await;
    post(limits::D2C_MESSAGE_BYTES_MAX)
        .header("iothub-app-a", "1")
        .refused(ErrorCode::MessageTooLarge)
        .await;
    post(1)
        .header("iothub-messageid", &"m".repeat(129))
        .refused(ErrorCode::ArgumentInvalid)
        .await;
    post(0).send().await.ok(StatusCode::NO_CONTENT);
    client
        .device("d1", "GET", EVENTS)
        .refused(ErrorCode::MethodNotAllowed)
        .await;
    assert_eq!(client.world.events().len(), 2);
}

#[tokio::test]
async fn a_body_that_is_longer_than_it_says_or_says_nothing_is_bounded_too() {
    let client = with_d1().await;
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 100_000]));
    let stream = futures_util::stream::iter(std::iter::repeat_with(piece).take(5));
    let token = client.token("myhub/devices/d1", KEY, None);
    let request = Request::post(EVENTS)
        .header("host", "myhub.x")
        .header("authorization", token);
    let answer = client
        .send(request.body(Body::from_stream(stream)).unwrap())
        .await;
    answer.is_error(ErrorCode::MessageTooLarge, EVENTS);

    let broken =
        futures_util::stream::iter([piece(), Err(std::io::ErrorKind::ConnectionReset.into())]);
    let token = client.token("myhub/devices/d1", KEY, None);
    let request = Request::post(EVENTS)
        .header("host", "myhub.x")
        .header("authorization", token);
    let answer = client
        .send(request.body(Body::from_stream(broken)).unwrap())
        .await;
    answer.is_error(ErrorCode::ArgumentInvalid, EVENTS);
    assert_eq!(client.world.events().len(), 0);
}

#[tokio::test]
async fn no_answer_of_the_hub_is_told_apart_by_what_it_means() {
    let check = |error: SendError, code: ErrorCode, retry: &'static str, says: &'static str| async move {
        let client = with_d1().await;
        client.world.fail(None, error);
        let answer = client.device("d1", "POST", EVENTS).refused(code).await;
        assert_eq!(answer.get("retry-after"), retry);
        assert!(answer.text().contains(says), "{}", answer.text());
    };
    check(
        SendError::FailingOver {
            retry_after_ms: 1500,
        },
        ErrorCode::IotHubFailingOver,
        "2",
        "Nothing was done",
    )
    .await;
    let unavailable = SendError::Unavailable {
        why: "too many requests".into(),
        retry_after_ms: 0,
    };
    check(
        unavailable,
        ErrorCode::ServiceUnavailable,
        "1",
        "too many requests",
    )
    .await;
    let unknown = SendError::OutcomeUnknown {
        why: "the link broke".into(),
    };
    check(unknown, ErrorCode::ServerError, "", "outcome is unknown").await;
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let client = with_d1().await;
    for (method, path, feature) in [
        ("POST", "/devices/d1/files", "file upload"),
        ("POST", "/devices/d1/files/notifications", "file upload"),
        ("POST", "/devices/d1/files/notifications/x", "file upload"),
        ("GET", "/devices/d1/modules", "modules"),
        ("PUT", "/devices/d1/modules/m", "modules"),
        ("PATCH", "/twins/d1/modules/m", "modules"),
        ("POST", "/twins/d1/modules/m/methods", "modules"),
        ("POST", "/twins/d1/methods", "direct methods"),
        ("POST", "/devices/query", "queries"),
        ("GET", "/configurations", "configurations"),
        (
            "POST",
            "/devices/d1/applyConfigurationContent",
            "configurations",
        ),
        ("PUT", "/jobs/v2/j", "jobs"),
        ("POST", "/jobs/create", "jobs"),
        ("GET", "/digitaltwins/d1", "digital twins"),
        ("GET", "/$iothub/websocket", "WebSockets"),
        ("GET", "/nothing/here", "no such route"),
        ("GET", "/", "no such route"),
    ] {
        let answer = client
            .owner(method, path)
            .refused(ErrorCode::FeatureNotSupported)
            .await;
        assert!(answer.text().contains(feature), "{path}: {}", answer.text());
    }
    for (method, path, allow) in [
        ("PATCH", "/devices/d1", "GET, PUT, DELETE"),
        ("PUT", "/devices", "GET, POST"),
        ("DELETE", "/twins/d1", "GET, PATCH, PUT"),
        ("POST", "/statistics/devices", "GET"),
        ("GET", "/devices/d1/commands", "DELETE"),
        ("PUT", "/devices/d1/messages/deviceBound", "GET, POST"),
    ] {
        let answer = client
            .owner(method, path)
            .refused(ErrorCode::MethodNotAllowed)
            .await;
        assert_eq!(answer.get("allow"), allow);
    }
}
