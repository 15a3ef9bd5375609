//! The rules of data-plane notes section 5.4, one claim each.

use crate::command::{BulkEntry, RegistryCommand};
use crate::testing::{Partition, id};
use crate::{Command, Effect, keys};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use types::ErrorCode;

fn check_bulk(partition: &mut Partition, device: &str, body: Value, expected: Option<ErrorCode>) {
    let (decision, errors) = partition.bulk(&[(device, &body.to_string())]);
    assert_eq!(errors.first().map(|error| error.code), expected, "{body}");
    assert!(
        expected.is_none() || decision.writes.is_empty(),
        "{body}: a failed entry changes nothing"
    );
}

#[test]
fn import_modes_do_what_they_say_whatever_their_case() {
    use ErrorCode::{
        ArgumentInvalid, ArgumentNull, DeviceAlreadyExists, DeviceNotFound, PreconditionFailed,
    };
    let partition = &mut Partition::with(&["old"]);
    let cases = [
        ("old", "create", json!({}), Some(DeviceAlreadyExists)),
        ("n1", "Create", json!({}), None),
        ("n2", "createOrUpdate", json!({}), None),
        ("old", "CreateOrUpdate", json!({}), None),
        (
            "n3",
            "createOrUpdateIfMatchETag",
            json!({"eTag": "x"}),
            None,
        ),
        (
            "old",
            "createOrUpdateIfMatchETag",
            json!({"eTag": "x"}),
            Some(PreconditionFailed),
        ),
        ("gone", "update", json!({}), Some(DeviceNotFound)),
        ("old", "Update", json!({}), None),
        (
            "old",
            "UpdateIfMatchETag",
            json!({"eTag": "x"}),
            Some(PreconditionFailed),
        ),
        ("old", "updateifmatchetag", json!({"eTag": "\"*\""}), None),
        ("old", "updateIfMatchETag", json!({}), Some(ArgumentNull)),
        (
            "gone",
            "updateTwin",
            json!({"tags": {}}),
            Some(DeviceNotFound),
        ),
        ("old", "updateTwin", json!({"tags": {"a": 1}}), None),
        (
            "old",
            "updateTwinIfMatchETag",
            json!({"twinETag": "AAAAAAAAAAI=", "tags": {"b": 1}}),
            None,
        ),
        (
            "old",
            "updateTwinIfMatchETag",
            json!({"twinETag": "AAAAAAAAAAI=", "tags": {"c": 1}}),
            Some(PreconditionFailed),
        ),
        (
            "old",
            "deleteIfMatchETag",
            json!({"eTag": "x"}),
            Some(PreconditionFailed),
        ),
        ("old", "delete", json!({}), None),
        ("old", "Delete", json!({}), Some(DeviceNotFound)),
        ("n1", "destroy", json!({}), Some(ArgumentInvalid)),
        ("n1", "", json!({}), Some(ArgumentInvalid)),
    ];
    for (device, mode, mut body, expected) in cases {
        body["id"] = json!(device);
        body["importMode"] = json!(mode);
        check_bulk(partition, device, body, expected);
    }
}

#[test]
fn an_entry_without_mode_creates_or_updates() {
    let partition = &mut Partition::new();
    check_bulk(partition, "d1", json!({"id": "d1"}), None);
    check_bulk(
        partition,
        "d1",
        json!({"id": "d1", "status": "disabled"}),
        None,
    );
    assert_eq!(partition.get("d1").unwrap()["status"], "disabled");
}

#[test]
fn conditional_entries_accept_the_present_etag() {
    let mut partition = Partition::with(&["d1"]);
    for mode in [
        "updateIfMatchETag",
        "createOrUpdateIfMatchETag",
        "deleteIfMatchETag",
    ] {
        let etag = partition.get("d1").unwrap()["etag"].clone();
        check_bulk(
            &mut partition,
            "d1",
            json!({"importMode": mode, "eTag": etag}),
            None,
        );
    }
    assert_eq!(partition.get("d1"), Err(ErrorCode::DeviceNotFound));
}

#[test]
fn an_entrys_failure_does_not_stop_the_others() {
    let mut partition = Partition::with(&["old"]);
    let (decision, errors) = partition.bulk(&[
        ("a", r#"{"importMode":"create"}"#),
        ("old", r#"{"importMode":"create"}"#),
        ("b", "nonsense"),
        ("c", r#"{"id":"other"}"#),
        ("e", r#"{"id":"e","moduleId":"m"}"#),
        ("d", r#"{"importMode":"create","status":"disabled"}"#),
    ]);
    let failed: Vec<_> = errors
        .iter()
        .map(|error| (error.device.as_str(), error.code))
        .collect();
    use ErrorCode::{ArgumentInvalid, DeviceAlreadyExists};
    assert_eq!(
        failed,
        [
            ("old", DeviceAlreadyExists),
            ("b", ArgumentInvalid),
            ("c", ArgumentInvalid),
            ("e", ArgumentInvalid)
        ]
    );
    assert_eq!(decision.devices_delta, 2);
    let statistics = decision
        .writes
        .state
        .iter()
        .filter(|(key, _)| key == keys::STATISTICS);
    assert_eq!(statistics.count(), 1);
}

#[test]
fn a_device_named_twice_fails_and_stays_as_it_is() {
    let mut partition = Partition::with(&["d1"]);
    let before = partition.get("d1");
    let (_, errors) = partition.bulk(&[
        ("d1", r#"{"importMode":"delete"}"#),
        ("d2", "{}"),
        ("d1", "{}"),
    ]);
    assert_eq!(errors.len(), 2);
    assert!(
        errors
            .iter()
            .all(|e| e.code == ErrorCode::DeviceDefinedMultipleTimes && e.device == id("d1")),
        "{errors:?}"
    );
    assert_eq!(partition.get("d1"), before);
    assert!(partition.get("d2").is_ok());
}

#[test]
fn deleting_several_devices_at_once_leaves_nothing_of_any() {
    let mut partition = Partition::with(&["d1", "d2", "d3"]);
    for device in ["d1", "d2", "d2", "d3"] {
        partition.send_c2d(device);
    }
    let (decision, errors) = partition.bulk(&[
        ("d1", r#"{"importMode":"delete"}"#),
        ("d2", r#"{"importMode":"delete"}"#),
    ]);
    assert_eq!((errors, decision.devices_delta), (Vec::new(), -2));
    assert_eq!(
        (partition.letters_of("d1"), partition.letters_of("d2")),
        (String::new(), String::new())
    );
    assert_eq!(partition.get("d3").unwrap()["cloudToDeviceMessageCount"], 1);
}

#[test]
fn more_than_100_entries_are_refused_as_a_whole() {
    let mut partition = Partition::new();
    let bulk = |count: usize| RegistryCommand::Bulk {
        entries: (0..count)
            .map(|n| BulkEntry {
                device: id(&format!("d{n}")),
                body: "{}".into(),
            })
            .collect(),
    };
    assert_eq!(
        partition.registry(bulk(101)).unwrap_err(),
        ErrorCode::ArgumentInvalid
    );
    assert_eq!(partition.registry(bulk(100)).unwrap().devices_delta, 100);
}

#[test]
fn bulk_twins_are_initial_merged_or_replaced() {
    let mut partition = Partition::new();
    let body = json!({
        "importMode": "create", "tags": {"a": 1, "b": 2}, "properties": {"desired": {"x": 1, "y": 2}, "reported": {"no": 1}},
    });
    check_bulk(&mut partition, "d1", body, None);
    let twin = partition.twin_of("d1");
    assert_eq!(
        (&twin["version"], &twin["etag"], &twin["tags"]),
        (&json!(2), &json!("AAAAAAAAAAE="), &json!({"a": 1, "b": 2}))
    );
    assert_eq!(twin["properties"]["desired"]["$version"], 1);
    assert_eq!(twin["properties"]["reported"]["no"], Value::Null);

    let body = json!({"importMode": "updateTwin", "tags": {"a": null}, "properties": {"desired": {"x": 3}}});
    let (decision, errors) = partition.bulk(&[("d1", &body.to_string())]);
    assert_eq!(errors, []);
    let told = Effect::DesiredChanged {
        device: id("d1"),
        version: 2,
        body: r#"{"$version":2,"x":3}"#.into(),
    };
    assert_eq!(decision.effects, [told]);
    assert_eq!(partition.twin_of("d1")["tags"], json!({"b": 2}));

    check_bulk(
        &mut partition,
        "d1",
        json!({"importMode": "update", "tags": {"c": 3}}),
        None,
    );
    let twin = partition.twin_of("d1");
    assert_eq!(
        (&twin["tags"], &twin["properties"]["desired"]["y"]),
        (&json!({"c": 3}), &json!(2))
    );
    check_bulk(
        &mut partition,
        "d1",
        json!({"tags": {"bad.name": 1}}),
        Some(ErrorCode::ArgumentInvalid),
    );
    check_bulk(
        &mut partition,
        "d2",
        json!({"tags": {"t": "x".repeat(4000), "u": "x".repeat(4000), "v": "x".repeat(4000)}}),
        Some(ErrorCode::MessageTooLarge),
    );
    assert_eq!(partition.get("d2"), Err(ErrorCode::DeviceNotFound));
}

proptest! {
    /// Any sequence of bulks keeps the counters right (checked after each command by the partition).
    #[test]
    fn counters_survive_any_sequence_of_bulks(
        bulks in proptest::collection::vec(proptest::collection::vec((0u8..6, 0usize..6, any::<bool>()), 1..6), 1..8)
    ) {
        let mut partition = Partition::new();
        for bulk in bulks {
            let entries: Vec<(String, String)> = bulk.iter().map(|(device, mode, enabled)| {
                let mode = ["create", "createOrUpdate", "update", "delete", "updateTwin", "deleteIfMatchETag"][*mode];
                let status = if *enabled { "enabled" } else { "disabled" };
                (format!("d{device}"), json!({"importMode": mode, "status": status, "eTag": "*"}).to_string())
            }).collect();
            let entries: Vec<(&str, &str)> = entries.iter().map(|(device, body)| (device.as_str(), body.as_str())).collect();
            partition.bulk(&entries);
        }
    }
}

/// Speed of the pure part. Run by hand: `cargo test --release -p castling-hub -- --ignored --nocapture creates_per_second`.
#[test]
#[ignore = "a measurement, meaningful in release builds only"]
fn creates_per_second() {
    let partition = Partition::new();
    let bulks: Vec<Command> = (0..2000).map(|bulk| {
        let entry = |n| {
            let device = format!("device-{bulk:05}-{n:02}");
            let body = json!({"id": device, "importMode": "create", "status": "enabled", "authentication": {"type": "sas",
                "symmetricKey": {"primaryKey": STANDARD.encode([1; 32]), "secondaryKey": STANDARD.encode([2; 32])}}});
            BulkEntry { device: id(&device), body: body.to_string().into() }
        };
        Command::Registry(RegistryCommand::Bulk { entries: (0..100).map(entry).collect() })
    }).collect();
    let mut view = partition.view.clone();
    let mut durations: Vec<_> = bulks
        .iter()
        .map(|bulk| {
            let start = std::time::Instant::now();
            view.apply(&partition.decide(bulk).unwrap().writes);
            start.elapsed()
        })
        .collect();
    durations.sort();
    // The median bulk: other processes of the machine disturb few of them.
    let per_second = 100.0 / durations[durations.len() / 2].as_secs_f64();
    println!("{per_second:.0} creates per second");
    assert!(per_second > 50_000.0);
}
