//! Nothing that a client sends makes the server fail: no panic, no 5xx.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

fn segment() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "devices",
        "twins",
        "messages",
        "events",
        "deviceBound",
        "d1",
        "query",
        "commands",
        "modules",
        "files",
        "methods",
        "statistics",
        "service",
        "serviceBound",
        "feedback",
        "abandon",
        "partitions",
        "0",
        "consumerGroups",
        "cg1",
        "offset",
        "jobs",
        "configurations",
        "$iothub",
        "0.lock",
        "lock",
        "%00",
        "%zz",
        "%2F",
        "..",
        "",
        "%F0%9F%98%80",
    ];
    prop_oneof![4 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => "[a-zA-Z0-9%.:$_-]{0,12}"]
}

fn path() -> impl Strategy<Value = String> {
    let query = prop_oneof![
        3 => Just(String::new()),
        1 => "[?](top|from|max|wait|consumerGroup|reject|iothub-messagelocktimeout)=[a-z0-9%:.&=-]{0,12}",
    ];
    (prop::collection::vec(segment(), 0..8), query)
        .prop_map(|(segments, query)| format!("/{}{query}", segments.join("/")))
}

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    const NAMES: &[&str] = &[
        "if-match",
        "content-type",
        "x-ms-continuation",
        "iothub-messageid",
        "iothub-expiry",
        "iothub-ack",
        "iothub-app-a",
        "iothub-app-$.cdid",
        "dt-subject",
        "content-length",
        "host",
        "authorization",
    ];
    let values = prop_oneof![
        Just(b"application/vnd.microsoft.iothub.json".to_vec()),
        Just(b"\"*\"".to_vec()),
        "[ -~]{0,20}".prop_map(String::into_bytes),
        prop::collection::vec(128u8..=255, 0..6),
    ];
    (prop::sample::select(NAMES), values)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    const TEXTS: &[&str] = &[
        "{}",
        "[]",
        "null",
        "[{\"id\":\"d1\"}]",
        "[{\"body\":\"aGk=\"}]",
        "{\"deviceId\":\"d1\"}",
        "{\"next\":1}",
        "{\"tags\":{\"a\":null}}",
        "{\"tags\":{\"a\":",
        "{\"properties\":{\"desired\":{\"$version\":9}}}",
        "\"\\ud800\"",
    ];
    prop_oneof![
        3 => prop::sample::select(TEXTS).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

fn method() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW",
        ][..],
    )
}

static CLIENT: LazyLock<(tokio::runtime::Runtime, Client)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = Client::new();
    runtime.block_on(client.register("d1"));
    (runtime, client)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_request_makes_the_server_fail(
        method in method(), path in path(), headers in prop::collection::vec(header(), 0..3), body in body(), as_device in any::<bool>(),
    ) {
        let (runtime, client) = &*CLIENT;
        let Ok(uri) = path.parse::<axum::http::Uri>() else { return Ok(()) };
        let mut call = if as_device { client.device("d1", method, "/") } else { client.owner(method, "/") };
        *call.request.uri_mut() = uri;
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                call.request.headers_mut().insert(name, value);
            }
        }
        let answer = runtime.block_on(call.body(body).send());
        prop_assert!(answer.status.as_u16() < 500, "{} {} {}: {}", method, path, answer.status, answer.text());
        prop_assert_eq!(answer.status.as_u16() >= 400 && answer.headers.get("iothub-errorcode").is_none(), false);
    }
}
