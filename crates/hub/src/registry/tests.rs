//! The rules of data-plane notes sections 5.2–5.4 and 10.5, one claim each.

mod bulk;

use crate::command::{IfMatch, RegistryCommand, SessionCommand, TwinCommand};
use crate::decision::{CloseReason, PresenceChange};
use crate::testing::{Partition, etag, id, presence};
use crate::{Command, Effect, Refused, Reply, keys};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use types::{ErrorCode, limits};

const NEVER: &str = "0001-01-01T00:00:00Z";

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer} of {value}"))
}

fn primary_key(device: &Value) -> &str {
    text(device, "/authentication/symmetricKey/primaryKey")
}

#[test]
fn a_new_device_has_the_documented_shape() {
    let mut partition = Partition::new();
    let made = partition
        .put("d1", r#"{"deviceId":"d1"}"#, IfMatch::Absent)
        .unwrap();
    for pointer in [
        "/authentication/symmetricKey/primaryKey",
        "/authentication/symmetricKey/secondaryKey",
    ] {
        assert_eq!(STANDARD.decode(text(&made, pointer)).unwrap().len(), 32);
    }
    let digits = String::from_utf8(STANDARD.decode(text(&made, "/etag")).unwrap()).unwrap();
    assert!(digits.bytes().all(|b| b.is_ascii_digit()), "{digits}");
    let generation = text(&made, "/generationId");
    assert_eq!(
        (generation.len(), generation.parse::<u64>().is_ok()),
        (18, true),
        "{generation}"
    );
    let expected = json!({
        "deviceId": "d1", "generationId": generation, "etag": made["etag"], "connectionState": "Disconnected",
        "status": "enabled", "statusReason": null, "connectionStateUpdatedTime": NEVER, "statusUpdatedTime": NEVER,
        "lastActivityTime": NEVER, "cloudToDeviceMessageCount": 0, "capabilities": {"iotEdge": false},
        "authentication": {
            "type": "sas", "symmetricKey": made["authentication"]["symmetricKey"],
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        },
        "deviceScope": null, "parentScopes": [],
    });
    assert_eq!(made, expected);
    assert_eq!(partition.get("d1").unwrap(), made);
}

#[test]
fn the_reply_carries_the_etag_of_its_body() {
    let mut partition = Partition::with(&["d1"]);
    let reply = partition
        .registry(RegistryCommand::Get { device: id("d1") })
        .unwrap()
        .reply;
    let Reply::Json { body, etag } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(text(&serde_json::from_slice(&body).unwrap(), "/etag"), etag);
}

#[test]
fn connection_activity_and_waiting_messages_are_joined_in() {
    let mut partition = Partition::with(&["d1"]);
    partition
        .present
        .insert(id("d1"), presence(7, 1_700_000_001_000));
    partition
        .activity
        .insert(id("d1"), types::UnixMillis(1_700_000_002_000));
    partition.send_c2d("d1");
    partition.send_c2d("d1");
    let device = partition.get("d1").unwrap();
    assert_eq!(device["connectionState"], "Connected");
    assert_eq!(
        device["connectionStateUpdatedTime"],
        "2023-11-14T22:13:21.000Z"
    );
    assert_eq!(device["lastActivityTime"], "2023-11-14T22:13:22.000Z");
    assert_eq!(device["cloudToDeviceMessageCount"], 2);
}

#[test]
fn put_without_if_match_only_creates_and_with_it_only_updates() {
    let mut partition = Partition::new();
    assert_eq!(
        partition.put("d1", "{}", IfMatch::Any),
        Err(ErrorCode::DeviceNotFound)
    );
    assert_eq!(
        partition.put("d1", "{}", etag("x")),
        Err(ErrorCode::DeviceNotFound)
    );
    let made = partition.put("d1", "{}", IfMatch::Absent).unwrap();
    assert_eq!(
        partition.put("d1", "{}", IfMatch::Absent),
        Err(ErrorCode::DeviceAlreadyExists)
    );
    assert_eq!(
        partition.put("d1", "{}", etag("stale")),
        Err(ErrorCode::PreconditionFailed)
    );
    let updated = partition
        .put("d1", "{}", etag(text(&made, "/etag")))
        .unwrap();
    assert_ne!(updated["etag"], made["etag"]);
    assert_eq!(updated["generationId"], made["generationId"]);
    assert_eq!(
        partition.put("d1", "{}", etag(text(&made, "/etag"))),
        Err(ErrorCode::PreconditionFailed)
    );
    assert!(partition.put("d1", "{}", IfMatch::Any).is_ok());
}

#[test]
fn an_update_keeps_keys_and_status_that_it_does_not_name() {
    let mut partition = Partition::new();
    let made = partition
        .put("d1", r#"{"status":"disabled"}"#, IfMatch::Absent)
        .unwrap();
    for body in [
        "{}",
        r#"{"authentication":{"type":"sas"}}"#,
        r#"{"authentication":{"symmetricKey":{"primaryKey":""}}}"#,
    ] {
        let updated = partition.put("d1", body, IfMatch::Any).unwrap();
        assert_eq!(updated["authentication"], made["authentication"], "{body}");
        assert_eq!(updated["status"], "disabled", "{body}");
    }
    let key = STANDARD.encode([7; 16]);
    let body = json!({"authentication": {"symmetricKey": {"primaryKey": key}}}).to_string();
    let updated = partition.put("d1", &body, IfMatch::Any).unwrap();
    assert_eq!(primary_key(&updated), key);
    let secondary = "/authentication/symmetricKey/secondaryKey";
    assert_eq!(text(&updated, secondary), text(&made, secondary));
}

#[test]
fn supplied_keys_must_be_base64_of_16_to_64_bytes() {
    let mut partition = Partition::new();
    let with = |key: &str| {
        json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": key}}}).to_string()
    };
    for bad in [
        STANDARD.encode([1; 15]),
        STANDARD.encode([1; 65]),
        "not base64!".into(),
        "AAAA=".into(),
    ] {
        assert_eq!(
            partition.put("d1", &with(&bad), IfMatch::Absent),
            Err(ErrorCode::ArgumentInvalid),
            "{bad}"
        );
    }
    for (number, length) in [16, 64].into_iter().enumerate() {
        let key = STANDARD.encode(vec![1; length]);
        let made = partition
            .put(&format!("d{number}"), &with(&key), IfMatch::Absent)
            .unwrap();
        assert_eq!(primary_key(&made), key);
    }
}

#[test]
fn thumbprints_are_40_or_64_hex_digits_and_shown_in_upper_case_without_separators() {
    let mut partition = Partition::new();
    let sha1 = "ab".repeat(20);
    let colons = vec!["Cd"; 32].join(":");
    let body = json!({"authentication": {"x509Thumbprint": {"primaryThumbprint": sha1, "secondaryThumbprint": colons}}});
    let made = partition
        .put("d1", &body.to_string(), IfMatch::Absent)
        .unwrap();
    assert_eq!(made["authentication"]["type"], "selfSigned");
    assert_eq!(
        text(&made, "/authentication/x509Thumbprint/primaryThumbprint"),
        "AB".repeat(20)
    );
    assert_eq!(
        text(&made, "/authentication/x509Thumbprint/secondaryThumbprint"),
        "CD".repeat(32)
    );
    assert_eq!(
        made["authentication"]["symmetricKey"]["primaryKey"],
        Value::Null
    );
    for bad in ["", "ab", &"ab".repeat(21), &"xy".repeat(20)] {
        let body = json!({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": bad}}});
        assert_eq!(
            partition.put("d2", &body.to_string(), IfMatch::Absent),
            Err(ErrorCode::ArgumentInvalid),
            "{bad}"
        );
    }
}

#[test]
fn types_without_secrets_are_kept_and_changing_back_to_sas_makes_new_keys() {
    let mut partition = Partition::new();
    for kind in ["certificateAuthority", "none"] {
        let body = json!({"authentication": {"type": kind}}).to_string();
        let made = partition.put(kind, &body, IfMatch::Absent).unwrap();
        assert_eq!(made["authentication"]["type"], kind);
        let updated = partition
            .put(kind, r#"{"authentication":{"type":"SAS"}}"#, IfMatch::Any)
            .unwrap();
        assert_eq!(STANDARD.decode(primary_key(&updated)).unwrap().len(), 32);
    }
}

#[test]
fn bodies_that_are_wrong_are_refused_and_unknown_members_ignored() {
    let mut partition = Partition::with(&["old"]);
    let long = "r".repeat(limits::STATUS_REASON_CHARS_MAX + 1);
    for bad in [
        "",
        "[]",
        "null",
        "{",
        "{}{}",
        "\"d1\"",
        r#"{"deviceId":"d2"}"#,
        r#"{"deviceId":1}"#,
        r#"{"status":"on"}"#,
        r#"{"status":true}"#,
        r#"{"statusReason":{}}"#,
        r#"{"authentication":"sas"}"#,
        r#"{"authentication":[]}"#,
        r#"{"authentication":{"type":"password"}}"#,
        r#"{"authentication":{"symmetricKey":[]}}"#,
        r#"{"authentication":{"symmetricKey":{"primaryKey":1}}}"#,
        r#"{"authentication":{"type":"selfSigned"}}"#,
        r#"{"capabilities":{"iotEdge":true}}"#,
        r#"{"capabilities":{"iotEdge":"yes"}}"#,
        r#"{"capabilities":[]}"#,
        r#"{"deviceScope":"ms-azure-iot-edge://e-1"}"#,
        r#"{"parentScopes":["ms-azure-iot-edge://e-1"]}"#,
        &json!({ "statusReason": long }).to_string(),
    ] {
        assert_eq!(
            partition.put("d1", bad, IfMatch::Absent),
            Err(ErrorCode::ArgumentInvalid),
            "{bad}"
        );
        assert_eq!(
            partition.put("old", bad, IfMatch::Any),
            Err(ErrorCode::ArgumentInvalid),
            "{bad}"
        );
    }
    let body = json!({
        "deviceId": "d1", "etag": "x", "generationId": "y", "connectionState": "Connected", "future": [1], "status": null,
        "capabilities": {"iotEdge": false}, "authentication": null, "statusReason": "r".repeat(128), "deviceScope": "",
        "parentScopes": [],
    });
    let made = partition
        .put("d1", &body.to_string(), IfMatch::Absent)
        .unwrap();
    assert_eq!(
        (text(&made, "/status"), text(&made, "/connectionState")),
        ("enabled", "Disconnected")
    );
}

#[test]
fn deep_json_in_ignored_members_does_no_harm() {
    let mut partition = Partition::new();
    let deep = format!(
        "{{\"future\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(partition.put("d1", &deep, IfMatch::Absent).is_ok());
}

#[test]
fn status_time_moves_when_the_status_changes_and_only_then() {
    let mut partition = Partition::with(&["d1"]);
    partition.advance(1000);
    let updated = partition
        .put("d1", r#"{"statusReason":"just so"}"#, IfMatch::Any)
        .unwrap();
    assert_eq!(
        (
            text(&updated, "/statusUpdatedTime"),
            text(&updated, "/statusReason")
        ),
        (NEVER, "just so")
    );
    let updated = partition
        .put("d1", r#"{"status":"Disabled"}"#, IfMatch::Any)
        .unwrap();
    assert_eq!(updated["statusUpdatedTime"], "2023-11-14T22:13:21.000Z");
    assert_eq!(
        (text(&updated, "/status"), &updated["statusReason"]),
        ("disabled", &Value::Null)
    );
    partition.advance(1000);
    let updated = partition
        .put("d1", r#"{"status":"disabled"}"#, IfMatch::Any)
        .unwrap();
    assert_eq!(updated["statusUpdatedTime"], "2023-11-14T22:13:21.000Z");
}

#[test]
fn deletion_obeys_etags_and_names_a_missing_device() {
    let mut partition = Partition::with(&["d1", "d2", "d3"]);
    let stored = partition.get("d1").unwrap();
    assert_eq!(
        partition.delete("d1", etag("stale")).unwrap_err(),
        ErrorCode::PreconditionFailed
    );
    assert_eq!(
        partition
            .delete("d1", etag(text(&stored, "/etag")))
            .unwrap()
            .devices_delta,
        -1
    );
    assert_eq!(
        partition.delete("d1", IfMatch::Any).unwrap_err(),
        ErrorCode::DeviceNotFound
    );
    assert!(partition.delete("d2", IfMatch::Any).is_ok());
    assert!(partition.delete("d3", IfMatch::Absent).is_ok());
    assert_eq!(partition.get("d1"), Err(ErrorCode::DeviceNotFound));
}

#[test]
fn deletion_leaves_nothing_of_the_device() {
    let mut partition = Partition::with(&["d1", "d2"]);
    for device in ["d1", "d2"] {
        partition.send_c2d(device);
        partition
            .twin(TwinCommand::PatchReported {
                device: id(device),
                body: r#"{"a":1}"#.into(),
                base: None,
            })
            .unwrap();
        let filters = vec![("$iothub/twin/res/#".to_owned(), 1)];
        partition
            .session(SessionCommand::Subscribe {
                device: id(device),
                filters,
            })
            .unwrap();
    }
    let of_other = partition.letters_of("d2");
    assert!(
        ["d", "t", "m", "q", "c"]
            .iter()
            .all(|letter| of_other.contains(letter)),
        "{of_other}"
    );
    partition.delete("d1", IfMatch::Any).unwrap();
    assert_eq!(partition.letters_of("d1"), "");
    assert_eq!(partition.letters_of("d2"), of_other);
}

#[test]
fn a_device_made_again_is_another_generation_with_a_new_twin() {
    let mut partition = Partition::with(&["d1"]);
    let first = partition.get("d1").unwrap();
    partition
        .twin(TwinCommand::PatchReported {
            device: id("d1"),
            body: r#"{"a":1}"#.into(),
            base: None,
        })
        .unwrap();
    partition.delete("d1", IfMatch::Any).unwrap();
    let second = partition.put("d1", "{}", IfMatch::Absent).unwrap();
    assert_ne!(first["generationId"], second["generationId"]);
    assert_ne!(primary_key(&first), primary_key(&second));
    assert_eq!(partition.twin_of("d1")["version"], 2);
}

fn check_closes(change: impl FnOnce(&mut Partition) -> crate::Decision, why: Option<CloseReason>) {
    let mut partition = Partition::with(&["d1"]);
    partition.present.insert(id("d1"), presence(7, 1));
    let decision = change(&mut partition);
    let close = |why| Effect::Close {
        device: id("d1"),
        connection: types::ConnectionId(7),
        why,
    };
    assert_eq!(
        decision.effects,
        why.map(close).into_iter().collect::<Vec<_>>()
    );
    let dropped = why.map(|_| PresenceChange::Dropped { device: id("d1") });
    assert_eq!(decision.presence, dropped.into_iter().collect::<Vec<_>>());
    assert_eq!(partition.present.contains_key(&id("d1")), why.is_none());
}

fn put_raw(partition: &mut Partition, body: String) -> crate::Decision {
    let put = RegistryCommand::Put {
        device: id("d1"),
        body: body.into(),
        if_match: IfMatch::Any,
    };
    partition.registry(put).unwrap()
}

#[test]
fn a_connection_is_closed_when_its_identity_goes_is_disabled_or_gets_other_keys() {
    check_closes(
        |partition| partition.delete("d1", IfMatch::Any).unwrap(),
        Some(CloseReason::Deleted),
    );
    check_closes(
        |partition| put_raw(partition, r#"{"status":"disabled"}"#.into()),
        Some(CloseReason::Disabled),
    );
    let key = STANDARD.encode([7; 32]);
    let keys = json!({"authentication": {"symmetricKey": {"secondaryKey": key}}}).to_string();
    check_closes(
        |partition| put_raw(partition, keys),
        Some(CloseReason::KeysChanged),
    );
    check_closes(
        |partition| put_raw(partition, r#"{"statusReason":"same keys"}"#.into()),
        None,
    );
    let bulk =
        |partition: &mut Partition| partition.bulk(&[("d1", r#"{"importMode":"delete"}"#)]).0;
    check_closes(bulk, Some(CloseReason::Deleted));
}

#[test]
fn the_reply_to_disabling_a_connected_device_shows_it_disconnected() {
    let mut partition = Partition::with(&["d1"]);
    partition.present.insert(id("d1"), presence(7, 1));
    let updated = partition
        .put("d1", r#"{"status":"disabled"}"#, IfMatch::Any)
        .unwrap();
    assert_eq!(updated["connectionState"], "Disconnected");
}

#[test]
fn the_hubs_device_limit_is_kept_also_within_a_bulk() {
    let mut partition = Partition::with(&["d1"]);
    partition.devices_in_hub = limits::DEVICES_PER_HUB_MAX - 1;
    let (decision, errors) = partition.bulk(&[("a", "{}"), ("b", "{}"), ("d1", "{}")]);
    assert_eq!(decision.devices_delta, 1);
    assert_eq!(
        errors
            .iter()
            .map(|e| (e.device.as_str(), e.code))
            .collect::<Vec<_>>(),
        [("b", ErrorCode::TooManyDevices)]
    );
    assert_eq!(
        partition.put("c", "{}", IfMatch::Absent),
        Err(ErrorCode::TooManyDevices)
    );
    assert!(partition.put("d1", "{}", IfMatch::Any).is_ok());
    let (_, errors) = partition.bulk(&[("a", r#"{"importMode":"delete"}"#), ("c", "{}")]);
    assert_eq!(errors, []);
}

#[test]
fn listing_goes_in_id_order_page_by_page() {
    let mut partition = Partition::with(&["b", "a", "a-1", "c", "aa"]);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let reply = partition
            .registry(RegistryCommand::List {
                after: after.clone(),
                top: 2,
            })
            .unwrap()
            .reply;
        let Reply::JsonList(page) = reply else {
            panic!("{reply:?}")
        };
        assert!(page.len() <= 2);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (device, json) in page {
            assert_eq!(
                serde_json::from_slice::<Value>(&json).unwrap(),
                partition.get(device.as_str()).unwrap()
            );
            seen.push(device.to_string());
        }
    }
    assert_eq!(seen, ["a", "a-1", "aa", "b", "c"]);
}

#[test]
fn statistics_count_enabled_and_disabled_devices() {
    let mut partition = Partition::with(&["a", "b", "c"]);
    partition
        .put("a", r#"{"status":"disabled"}"#, IfMatch::Any)
        .unwrap();
    let reply = partition
        .registry(RegistryCommand::Statistics)
        .unwrap()
        .reply;
    assert_eq!(
        reply,
        Reply::Statistics {
            total: 3,
            enabled: 2,
            disabled: 1,
            connected: 0
        }
    );
}

#[test]
fn an_identity_of_an_unknown_version_is_an_error_and_no_answer() {
    let mut partition = Partition::with(&["d1"]);
    partition.view.0.insert(
        keys::device(&id("d1")).into(),
        Bytes::from_static(b"\x07{}"),
    );
    let refused = partition.decide(&Command::Registry(RegistryCommand::Get {
        device: id("d1"),
    }));
    assert!(
        matches!(&refused, Err(Refused::View(error)) if error.0.contains("version 7")),
        "{refused:?}"
    );
}

proptest! {
    #[test]
    fn random_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut partition = Partition::with(&["d1"]);
        let body = Bytes::from(body);
        let put = RegistryCommand::Put { device: id("d1"), body: body.clone(), if_match: IfMatch::Any };
        let _ = partition.registry(put);
        let bulk = RegistryCommand::Bulk { entries: vec![crate::command::BulkEntry { device: id("d2"), body }] };
        prop_assert!(partition.registry(bulk).is_ok());
    }

    #[test]
    fn random_documents_never_panic(
        member in "deviceId|status|statusReason|authentication|capabilities|tags|properties|importMode|eTag|deviceScope",
        value in "null|true|1|-1e9|\"x\"|\\[\\]|\\{\\}|\\{\"type\":(1|\"sas\"|null)\\}|\\{\"desired\":[1-9\\[\\]{}]{0,4}\\}",
    ) {
        let mut partition = Partition::with(&["d1"]);
        let body = format!("{{\"{member}\":{value}}}");
        let _ = partition.put("d1", &body, IfMatch::Any);
        partition.bulk(&[("d1", &body), ("d2", &body)]);
    }
}
