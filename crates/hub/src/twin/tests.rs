//! The rules of data-plane notes sections 3.4, 5.3 and 10.3, one claim each.

use crate::command::{IfMatch, TwinCommand};
use crate::decision::PresenceChange;
use crate::testing::{Partition, etag, id, json_of, presence};
use crate::{Command, Decision, Effect, Refused, Reply, keys};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use types::ErrorCode;

fn patch(partition: &mut Partition, body: Value, if_match: IfMatch) -> Result<Decision, ErrorCode> {
    partition.twin(TwinCommand::Patch {
        device: id("d1"),
        body: body.to_string().into(),
        if_match,
    })
}

fn replace(
    partition: &mut Partition,
    body: Value,
    if_match: IfMatch,
) -> Result<Decision, ErrorCode> {
    partition.twin(TwinCommand::Replace {
        device: id("d1"),
        body: body.to_string().into(),
        if_match,
    })
}

fn report(partition: &mut Partition, body: &str, base: Option<u64>) -> Result<u64, ErrorCode> {
    let command = TwinCommand::PatchReported {
        device: id("d1"),
        body: body.to_owned().into(),
        base,
    };
    match partition.twin(command)?.reply {
        Reply::ReportedVersion(version) => Ok(version),
        other => panic!("{other:?}"),
    }
}

fn desired(content: Value) -> Value {
    json!({"properties": {"desired": content}})
}

fn device_view(partition: &mut Partition) -> Value {
    json_of(
        &partition
            .twin(TwinCommand::DeviceGet { device: id("d1") })
            .unwrap(),
    )
}

/// (version, etag, desired version, reported version)
fn versions(partition: &mut Partition) -> (u64, String, u64, u64) {
    let twin = partition.twin_of("d1");
    let number = |pointer: &str| twin.pointer(pointer).and_then(Value::as_u64).unwrap();
    let etag = twin["etag"].as_str().unwrap().to_owned();
    (
        number("/version"),
        etag,
        number("/properties/desired/$version"),
        number("/properties/reported/$version"),
    )
}

fn told(decision: &Decision) -> Vec<(u64, Value)> {
    let told = decision.effects.iter().map(|effect| match effect {
        Effect::DesiredChanged { version, body, .. } => {
            (*version, serde_json::from_slice(body).unwrap())
        }
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn a_registered_device_has_the_documented_new_twin() {
    let mut partition = Partition::with(&["d1"]);
    let created = "2023-11-14T22:13:20.000Z";
    partition.advance(5000);
    let twin = partition.twin_of("d1");
    let expected = json!({
        "deviceId": "d1", "etag": "AAAAAAAAAAE=", "deviceEtag": partition.get("d1").unwrap()["etag"],
        "status": "enabled", "statusReason": null, "statusUpdateTime": "0001-01-01T00:00:00Z",
        "connectionState": "Disconnected", "lastActivityTime": "0001-01-01T00:00:00Z", "cloudToDeviceMessageCount": 0,
        "authenticationType": "sas", "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        "modelId": "", "version": 2, "tags": {},
        "properties": {
            "desired": {"$metadata": {"$lastUpdated": created, "$lastUpdatedVersion": 1}, "$version": 1},
            "reported": {"$metadata": {"$lastUpdated": created}, "$version": 1},
        },
        "capabilities": {"iotEdge": false}, "deviceScope": null, "parentScopes": [],
    });
    assert_eq!(twin, expected);
    assert_eq!(partition.letters_of("d1"), "d", "reading stores nothing");
    assert_eq!(
        device_view(&mut partition),
        json!({"desired": {"$version": 1}, "reported": {"$version": 1}})
    );
}

#[test]
fn the_state_of_the_identity_is_joined_in() {
    let mut partition = Partition::with(&["d1"]);
    partition.advance(1000);
    partition
        .put(
            "d1",
            r#"{"status":"disabled","statusReason":"lost"}"#,
            IfMatch::Any,
        )
        .unwrap();
    partition.send_c2d("d1");
    partition.present.insert(id("d1"), presence(1, 1));
    let twin = partition.twin_of("d1");
    assert_eq!(
        (&twin["status"], &twin["statusReason"]),
        (&json!("disabled"), &json!("lost"))
    );
    assert_eq!(twin["statusUpdateTime"], "2023-11-14T22:13:21.000Z");
    assert_eq!(
        (&twin["connectionState"], &twin["cloudToDeviceMessageCount"]),
        (&json!("Connected"), &json!(1))
    );
}

#[test]
fn each_kind_of_change_moves_its_own_versions() {
    let mut partition = Partition::with(&["d1"]);
    patch(&mut partition, json!({"tags": {"a": 1}}), IfMatch::Absent).unwrap();
    assert_eq!(versions(&mut partition), (3, "AAAAAAAAAAI=".into(), 1, 1));
    patch(&mut partition, desired(json!({"a": 1})), IfMatch::Absent).unwrap();
    assert_eq!(versions(&mut partition), (4, "AAAAAAAAAAM=".into(), 2, 1));
    assert_eq!(report(&mut partition, r#"{"a":1}"#, None), Ok(2));
    assert_eq!(versions(&mut partition), (5, "AAAAAAAAAAM=".into(), 2, 2));
    let both = json!({"tags": {"b": 1}, "properties": {"desired": {"b": 1}}});
    patch(&mut partition, both.clone(), IfMatch::Absent).unwrap();
    assert_eq!(versions(&mut partition), (6, "AAAAAAAAAAQ=".into(), 3, 2));
    replace(&mut partition, both, IfMatch::Absent).unwrap();
    assert_eq!(versions(&mut partition), (7, "AAAAAAAAAAU=".into(), 4, 2));
}

#[test]
fn an_empty_patch_moves_the_version_and_no_section_at_all_moves_nothing() {
    let mut partition = Partition::with(&["d1"]);
    assert_eq!(report(&mut partition, "{}", None), Ok(2));
    let decision = patch(&mut partition, desired(json!({})), IfMatch::Absent).unwrap();
    assert_eq!(told(&decision), [(2, json!({"$version": 2}))]);
    let before = versions(&mut partition);
    for nothing in [
        json!({}),
        json!({"tags": null, "properties": null}),
        json!({"properties": {"reported": {"a": 1}}}),
    ] {
        for change in [patch, replace] {
            let decision = change(&mut partition, nothing.clone(), IfMatch::Any).unwrap();
            assert!(
                decision.writes.is_empty() && decision.effects.is_empty(),
                "{nothing}"
            );
        }
    }
    assert_eq!(versions(&mut partition), before);
}

#[test]
fn patch_merges_and_tells_the_device_the_patch_with_its_nulls() {
    let mut partition = Partition::with(&["d1"]);
    patch(
        &mut partition,
        desired(json!({"a": {"b": 1, "c": [1, 2]}})),
        IfMatch::Absent,
    )
    .unwrap();
    let body = json!({"a": {"b": null, "c": [3]}, "$version": 99, "$metadata": {}});
    let decision = patch(&mut partition, desired(body), IfMatch::Absent).unwrap();
    assert_eq!(
        told(&decision),
        [(3, json!({"a": {"b": null, "c": [3]}, "$version": 3}))]
    );
    assert_eq!(
        device_view(&mut partition)["desired"],
        json!({"a": {"c": [3]}, "$version": 3})
    );
    let decision = patch(&mut partition, json!({"tags": {"x": 1}}), IfMatch::Absent).unwrap();
    assert_eq!(told(&decision), [], "tags are no business of the device");
}

#[test]
fn put_replaces_the_sections_it_names_and_tells_the_device_the_new_content() {
    let mut partition = Partition::with(&["d1"]);
    let body = json!({"tags": {"t": 1}, "properties": {"desired": {"a": 1, "b": 2}}});
    patch(&mut partition, body, IfMatch::Absent).unwrap();
    let decision = replace(
        &mut partition,
        desired(json!({"b": 3, "gone": null})),
        IfMatch::Absent,
    )
    .unwrap();
    assert_eq!(told(&decision), [(3, json!({"b": 3, "$version": 3}))]);
    let twin = json_of(&decision);
    assert_eq!(twin["tags"], json!({"t": 1}));
    assert_eq!(
        device_view(&mut partition)["desired"],
        json!({"b": 3, "$version": 3})
    );
    let twin =
        json_of(&replace(&mut partition, json!({"tags": {"u": 2}}), IfMatch::Absent).unwrap());
    assert_eq!(
        (&twin["tags"], &twin["properties"]["desired"]["b"]),
        (&json!({"u": 2}), &json!(3))
    );
}

#[test]
fn a_twin_that_was_read_can_be_sent_back() {
    let mut partition = Partition::with(&["d1"]);
    patch(
        &mut partition,
        desired(json!({"a": {"b": 1}})),
        IfMatch::Absent,
    )
    .unwrap();
    report(&mut partition, r#"{"r":1}"#, None).unwrap();
    let twin = partition.twin_of("d1");
    let sent_back = json_of(
        &replace(
            &mut partition,
            twin.clone(),
            etag(twin["etag"].as_str().unwrap()),
        )
        .unwrap(),
    );
    assert_eq!(sent_back["properties"]["desired"]["a"], json!({"b": 1}));
    assert_eq!(
        sent_back["properties"]["reported"],
        twin["properties"]["reported"]
    );
}

#[test]
fn changes_obey_etags_and_base_versions() {
    let mut partition = Partition::with(&["d1"]);
    for change in [patch, replace] {
        let current = versions(&mut partition).1;
        assert_eq!(
            change(&mut partition, json!({}), etag("stale")).unwrap_err(),
            ErrorCode::PreconditionFailed
        );
        let body = json!({"tags": {"a": 1}});
        assert!(change(&mut partition, body.clone(), etag(&current)).is_ok());
        assert_eq!(
            change(&mut partition, body.clone(), etag(&current)).unwrap_err(),
            ErrorCode::PreconditionFailed
        );
        assert!(change(&mut partition, body, IfMatch::Any).is_ok());
    }
    assert_eq!(
        report(&mut partition, "{}", Some(2)),
        Err(ErrorCode::PreconditionFailed)
    );
    assert_eq!(report(&mut partition, "{}", Some(1)), Ok(2));
    assert_eq!(
        report(&mut partition, "{}", Some(1)),
        Err(ErrorCode::PreconditionFailed)
    );
}

#[test]
fn metadata_mirrors_the_content_and_names_when_and_at_which_version() {
    let mut partition = Partition::with(&["d1"]);
    patch(
        &mut partition,
        desired(json!({"a": {"x": 1, "y": 2}, "b": 1})),
        IfMatch::Absent,
    )
    .unwrap();
    partition.advance(60_000);
    let twin = json_of(
        &patch(
            &mut partition,
            desired(json!({"a": {"x": null}})),
            IfMatch::Absent,
        )
        .unwrap(),
    );
    let (old, new) = ("2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z");
    let stamp =
        |at: &str, version: u64| json!({"$lastUpdated": at, "$lastUpdatedVersion": version});
    let mut expected = stamp(new, 3);
    expected["a"] = stamp(new, 3);
    expected["a"]["y"] = stamp(old, 2);
    expected["b"] = stamp(old, 2);
    assert_eq!(twin["properties"]["desired"]["$metadata"], expected);
}

#[test]
fn reported_patches_touch_nothing_else() {
    let mut partition = Partition::with(&["d1"]);
    patch(
        &mut partition,
        json!({"tags": {"a": 1}, "properties": {"desired": {"b": 2}}}),
        IfMatch::Absent,
    )
    .unwrap();
    let before = partition.twin_of("d1");
    let body =
        r#"{"tags":{"a":9},"properties":{"desired":{"b":9}},"$version":7,"$metadata":{"x":1}}"#;
    assert_eq!(report(&mut partition, body, None), Ok(2));
    let after = partition.twin_of("d1");
    assert_eq!(
        (&after["tags"], &after["etag"]),
        (&before["tags"], &before["etag"])
    );
    assert_eq!(
        after["properties"]["desired"],
        before["properties"]["desired"]
    );
    let expected = json!({"tags": {"a": 9}, "properties": {"desired": {"b": 9}}, "$version": 2});
    assert_eq!(device_view(&mut partition)["reported"], expected);
}

#[test]
fn what_a_device_does_counts_as_its_activity() {
    let mut partition = Partition::with(&["d1"]);
    let command = TwinCommand::PatchReported {
        device: id("d1"),
        body: "{}".into(),
        base: None,
    };
    let decision = partition.twin(command).unwrap();
    assert_eq!(
        decision.presence,
        [PresenceChange::Activity {
            device: id("d1"),
            at: partition.now
        }]
    );
}

#[test]
fn bodies_of_a_wrong_shape_are_refused_and_change_nothing() {
    let mut partition = Partition::with(&["d1"]);
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    for bad in [
        "",
        " ",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{",
        "{\"a\":}",
        "{\"a.b\":1}",
        "{\"$x\":1}",
        "{\"a\":9223372036854775807}",
        "{\"a\":99999999999999999999}",
        "{\"a\":1e999}",
        "{\"a\":\"\\ud800\"}",
        &deep,
    ] {
        assert_eq!(
            report(&mut partition, bad, None),
            Err(ErrorCode::ArgumentInvalid),
            "{:.60}",
            bad
        );
    }
    for bad in [
        json!([]),
        json!({"tags": 1}),
        json!({"tags": []}),
        json!({"properties": []}),
        json!({"properties": 1}),
        desired(json!([])),
        desired(json!("x")),
        desired(json!({"a b": 1})),
        json!({"tags": {"": 1}}),
    ] {
        for change in [patch, replace] {
            assert_eq!(
                change(&mut partition, bad.clone(), IfMatch::Absent).unwrap_err(),
                ErrorCode::ArgumentInvalid,
                "{bad}"
            );
        }
    }
    assert_eq!(partition.letters_of("d1"), "d");
}

#[test]
fn a_section_too_large_is_refused_also_when_it_grows_by_patches() {
    let mut partition = Partition::with(&["d1"]);
    let mut last = Ok(1);
    for number in 0..20 {
        last = report(
            &mut partition,
            &json!({ format!("{number:04}"): "x".repeat(4000) }).to_string(),
            None,
        );
    }
    assert_eq!(last, Err(ErrorCode::MessageTooLarge));
    assert_eq!(
        versions(&mut partition).3,
        1 + 8,
        "eight times 4004 bytes fit into 32 KiB"
    );
    assert_eq!(report(&mut partition, r#"{"0000":null}"#, None), Ok(10));
    let tags =
        json!({"tags": {"a": "x".repeat(4000), "b": "x".repeat(4000), "c": "x".repeat(200)}});
    assert_eq!(
        patch(&mut partition, tags, IfMatch::Absent).unwrap_err(),
        ErrorCode::MessageTooLarge
    );
}

#[test]
fn a_missing_device_has_no_twin_and_a_disabled_one_may_not_use_its_own() {
    let mut partition = Partition::new();
    assert_eq!(
        patch(&mut partition, json!({}), IfMatch::Any).unwrap_err(),
        ErrorCode::DeviceNotFound
    );
    assert_eq!(
        report(&mut partition, "{}", None),
        Err(ErrorCode::DeviceNotFound)
    );
    partition
        .put("d1", r#"{"status":"disabled"}"#, IfMatch::Absent)
        .unwrap();
    assert_eq!(
        report(&mut partition, "{}", None),
        Err(ErrorCode::DeviceDisabled)
    );
    let get = partition.twin(TwinCommand::DeviceGet { device: id("d1") });
    assert_eq!(get.unwrap_err(), ErrorCode::DeviceDisabled);
    assert!(patch(&mut partition, desired(json!({"a": 1})), IfMatch::Absent).is_ok());
}

#[test]
fn numbers_survive_any_number_of_later_patches() {
    let mut partition = Partition::with(&["d1"]);
    report(
        &mut partition,
        r#"{"a":0.1,"b":122.416294033786585,"c":-4503599627370496,"d":1.7976931348623157e308}"#,
        None,
    )
    .unwrap();
    let before = device_view(&mut partition)["reported"].clone();
    for number in 0..20 {
        report(&mut partition, &json!({ "n": number }).to_string(), None).unwrap();
    }
    let after = device_view(&mut partition)["reported"].clone();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(after[name], before[name]);
    }
}

#[test]
fn a_twin_that_cannot_be_read_is_an_error_and_no_answer() {
    let mut partition = Partition::with(&["d1"]);
    partition
        .view
        .0
        .insert(keys::twin(&id("d1")).into(), Bytes::from_static(b"\x02{}"));
    let refused = partition.decide(&Command::Twin(TwinCommand::Get { device: id("d1") }));
    assert!(
        matches!(&refused, Err(Refused::View(error)) if error.0.contains("version 2")),
        "{refused:?}"
    );
}

fn any_section() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        proptest::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| json!(map))
    });
    proptest::collection::btree_map("[a-c]", value, 0..3).prop_map(|map| json!(map))
}

proptest! {
    #[test]
    fn versions_only_grow_and_devices_can_follow_desired_changes(
        changes in proptest::collection::vec((0u8..4, any_section(), any::<bool>()), 1..12)
    ) {
        let mut partition = Partition::with(&["d1"]);
        // A device that applies what it is told, as SDKs do.
        let mut followed = device_view(&mut partition)["desired"].clone();
        let mut before = versions(&mut partition);
        for (kind, content, whole) in changes {
            partition.advance(1);
            let change = if whole { replace } else { patch };
            let decision = match kind {
                0 => { report(&mut partition, &content.to_string(), None).unwrap(); None }
                1 => Some(change(&mut partition, json!({"tags": content}), IfMatch::Absent).unwrap()),
                2 => Some(change(&mut partition, desired(content), IfMatch::Absent).unwrap()),
                _ => { report(&mut partition, "[1]", None).unwrap_err(); None }
            };
            for (version, body) in decision.iter().flat_map(told) {
                prop_assert_eq!(body["$version"].as_u64(), Some(version));
                if whole { followed = body } else { merge(&mut followed, &body) }
            }
            prop_assert_eq!(&device_view(&mut partition)["desired"], &followed);
            let after = versions(&mut partition);
            let moved = u64::from(kind < 3);
            prop_assert_eq!(after.0, before.0 + moved);
            prop_assert_eq!((after.2 - before.2, after.3 - before.3), (u64::from(kind == 2), u64::from(kind == 0)));
            prop_assert_eq!(after.1 != before.1, kind == 1 || kind == 2);
            before = after;
        }
    }

    #[test]
    fn random_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut partition = Partition::with(&["d1"]);
        let (device, body) = (id("d1"), Bytes::from(body));
        let _ = partition.twin(TwinCommand::PatchReported { device: device.clone(), body: body.clone(), base: None });
        let _ = partition.twin(TwinCommand::Patch { device: device.clone(), body: body.clone(), if_match: IfMatch::Absent });
        let _ = partition.twin(TwinCommand::Replace { device, body, if_match: IfMatch::Absent });
    }

    #[test]
    fn json_like_bodies_never_panic(body in "\\{(\"(tags|properties|desired|a|\\$version)\":[\\[\\]{}:,\"a0-9.e+-]{0,20},?){0,3}\\}") {
        let mut partition = Partition::with(&["d1"]);
        let _ = report(&mut partition, &body, None);
        let command = TwinCommand::Patch { device: id("d1"), body: body.into(), if_match: IfMatch::Absent };
        let _ = partition.twin(command);
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
