use super::*;
use crate::c2d::world::{START, World, device, message};
use crate::command::LockOwner::Http;
use crate::stored;
use crate::{Command, MemoryView};
use types::{ErrorCode, UnixMillis};

const MINUTE: i64 = 60_000;

/// Sends and completes a message, which leaves one record.
fn record(world: &mut World, id: &str) {
    world.send(message(id)).unwrap();
    let token = world.lock_one(Http).lock_token;
    world.complete(&token).unwrap();
}

fn complete(world: &mut World, batch: &FeedbackBatch) -> Result<(), ErrorCode> {
    world
        .run(Command::Feedback(FeedbackCommand::Complete {
            lock_token: batch.lock_token.clone(),
        }))
        .map(drop)
}

fn abandon(world: &mut World, batch: &FeedbackBatch) -> Result<(), ErrorCode> {
    world
        .run(Command::Feedback(FeedbackCommand::Abandon {
            lock_token: batch.lock_token.clone(),
        }))
        .map(drop)
}

fn ids(batch: &FeedbackBatch) -> Vec<String> {
    let records: Vec<serde_json::Value> = serde_json::from_slice(&batch.body).unwrap();
    records
        .iter()
        .map(|record| record["originalMessageId"].as_str().unwrap().to_owned())
        .collect()
}

/// Keys of stored records.
fn stored_records(world: &World) -> usize {
    world
        .view
        .0
        .keys()
        .filter(|key| key.starts_with(b"f"))
        .count()
}

#[test]
fn a_batch_has_the_documented_shape() {
    let mut world = World::new();
    world.advance(789);
    record(&mut world, "m-1");
    let batch = world.feedback_batch().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&batch.body).unwrap();
    let generation = value[0]["deviceGenerationId"].clone();
    assert!(
        generation.as_str().is_some_and(|text| !text.is_empty()),
        "{generation}"
    );
    let expected = serde_json::json!([{
        "originalMessageId": "m-1",
        "description": "Success",
        "deviceGenerationId": generation,
        "deviceId": "d1",
        "enqueuedTimeUtc": "2023-11-14T22:13:20.789Z",
        "statusCode": "Success",
    }]);
    assert_eq!(value, expected);
}

#[test]
fn nothing_waiting_gives_no_batch_and_writes_nothing() {
    let world = World::new();
    let decision = world
        .decide(&Command::Feedback(FeedbackCommand::Lock))
        .unwrap();
    assert_eq!(decision.reply, Reply::Feedback(None));
    assert!(decision.writes.is_empty());
}

#[test]
fn a_batch_holds_a_bounded_number_of_records_in_order() {
    let mut world = World::new();
    let all: Vec<String> = (0..limits::FEEDBACK_BATCH_RECORDS_MAX + 3)
        .map(|n| format!("m{n}"))
        .collect();
    all.iter().for_each(|id| record(&mut world, id));
    let (first, second) = (
        world.feedback_batch().unwrap(),
        world.feedback_batch().unwrap(),
    );
    assert_eq!(ids(&first).len(), limits::FEEDBACK_BATCH_RECORDS_MAX);
    assert_eq!([ids(&first), ids(&second)].concat(), all);
    assert_eq!(world.feedback_batch(), None);
}

#[test]
fn completing_removes_the_records() {
    let mut world = World::new();
    record(&mut world, "a");
    let batch = world.feedback_batch().unwrap();
    record(&mut world, "b");
    assert_eq!(complete(&mut world, &batch), Ok(()));
    assert_eq!(
        complete(&mut world, &batch),
        Err(ErrorCode::DeviceMessageLockLost)
    );
    assert_eq!(stored_records(&world), 1);
    let next = world.feedback_batch().unwrap();
    assert_eq!(ids(&next), ["b"]);
    complete(&mut world, &next).unwrap();
    assert_eq!(stored_records(&world), 0);
}

#[test]
fn unknown_tokens_are_refused() {
    let mut world = World::new();
    record(&mut world, "a");
    world.feedback_batch().unwrap();
    for token in ["", "x", "00000000-0000-0000-0000-000000000001"] {
        let batch = FeedbackBatch {
            lock_token: token.into(),
            body: Default::default(),
        };
        assert_eq!(
            complete(&mut world, &batch),
            Err(ErrorCode::DeviceMessageLockLost),
            "{token}"
        );
        assert_eq!(
            abandon(&mut world, &batch),
            Err(ErrorCode::DeviceMessageLockLost),
            "{token}"
        );
    }
}

#[test]
fn an_abandoned_batch_comes_again_first() {
    let mut world = World::new();
    record(&mut world, "a");
    let batch = world.feedback_batch().unwrap();
    record(&mut world, "b");
    assert_eq!(abandon(&mut world, &batch), Ok(()));
    assert_eq!(
        abandon(&mut world, &batch),
        Err(ErrorCode::DeviceMessageLockLost)
    );
    assert_eq!(
        complete(&mut world, &batch),
        Err(ErrorCode::DeviceMessageLockLost)
    );
    assert_eq!(ids(&world.feedback_batch().unwrap()), ["a"]);
    assert_eq!(ids(&world.feedback_batch().unwrap()), ["b"]);
}

#[test]
fn a_batch_whose_lock_timed_out_comes_again_unless_it_was_completed_late() {
    for late in [false, true] {
        let mut world = World::new();
        record(&mut world, "a");
        let batch = world.feedback_batch().unwrap();
        world.advance(MINUTE - 1);
        assert_eq!(world.feedback_batch(), None);
        world.advance(1);
        assert_eq!(
            abandon(&mut world, &batch),
            Err(ErrorCode::DeviceMessageLockLost)
        );
        if late {
            assert_eq!(complete(&mut world, &batch), Ok(()));
            assert_eq!(world.feedback_batch(), None);
        } else {
            assert_eq!(ids(&world.feedback_batch().unwrap()), ["a"]);
            assert_eq!(
                complete(&mut world, &batch),
                Err(ErrorCode::DeviceMessageLockLost)
            );
        }
    }
}

#[test]
fn a_batch_delivered_too_often_is_dropped() {
    let mut world = World::new();
    world.settings.cloud_to_device.feedback.max_delivery_count = 2;
    record(&mut world, "a");
    let batch = world.feedback_batch().unwrap();
    abandon(&mut world, &batch).unwrap();
    world.feedback_batch().unwrap();
    world.advance(MINUTE);
    assert_eq!(world.feedback_batch(), None);
    assert_eq!(stored_records(&world), 0);
}

#[test]
fn expired_records_are_not_handed_out() {
    let mut world = World::new();
    world.settings.cloud_to_device.feedback.ttl_ms = 10 * MINUTE;
    (0..100).for_each(|n| record(&mut world, &format!("old{n}")));
    world.advance(5 * MINUTE);
    record(&mut world, "new");
    world.advance(5 * MINUTE);
    assert_eq!(ids(&world.feedback_batch().unwrap()), ["new"]);
    assert_eq!(stored_records(&world), 1);
}

#[test]
fn expired_records_of_a_batch_that_came_back_are_not_handed_out() {
    let mut world = World::new();
    world.settings.cloud_to_device.feedback.ttl_ms = MINUTE;
    record(&mut world, "old");
    world.advance(MINUTE / 2);
    record(&mut world, "new");
    let batch = world.feedback_batch().unwrap();
    abandon(&mut world, &batch).unwrap();
    world.advance(MINUTE / 2);
    let batch = world.feedback_batch().unwrap();
    assert_eq!(ids(&batch), ["new"]);
    abandon(&mut world, &batch).unwrap();
    world.advance(MINUTE / 2);
    assert_eq!(world.feedback_batch(), None);
    assert_eq!(stored_records(&world), 0);
}

#[test]
fn the_sweep_drops_expired_records_that_nobody_reads() {
    let mut world = World::new();
    world.settings.cloud_to_device.feedback.ttl_ms = 10 * MINUTE;
    record(&mut world, "abandoned");
    let batch = world.feedback_batch().unwrap();
    abandon(&mut world, &batch).unwrap();
    (0..5).for_each(|n| record(&mut world, &format!("waiting{n}")));
    world.advance(MINUTE);
    record(&mut world, "younger");
    assert!(world.sweep().writes.is_empty());
    world.advance(9 * MINUTE);
    world.sweep();
    assert_eq!(stored_records(&world), 1);
    assert!(world.sweep().writes.is_empty());
    assert_eq!(ids(&world.feedback_batch().unwrap()), ["younger"]);
}

#[test]
fn the_sweep_leaves_a_locked_batch_to_its_reader() {
    let mut world = World::new();
    world.settings.cloud_to_device.feedback.ttl_ms = MINUTE / 2;
    record(&mut world, "a");
    let batch = world.feedback_batch().unwrap();
    world.advance(MINUTE / 2);
    assert!(world.sweep().writes.is_empty());
    assert_eq!(complete(&mut world, &batch), Ok(()));
}

#[test]
fn the_number_of_locked_batches_is_bounded() {
    let mut world = World::new();
    for number in 0..=limits::FEEDBACK_BATCHES_LOCKED_MAX {
        record(&mut world, &format!("m{number}"));
        assert_eq!(
            world.feedback_batch().is_some(),
            number < limits::FEEDBACK_BATCHES_LOCKED_MAX,
            "{number}"
        );
    }
}

#[test]
fn the_oldest_record_gives_way_when_the_queue_is_full() {
    let mut world = World::new();
    let full = limits::FEEDBACK_QUEUE_DEPTH_MAX as u64;
    ["a", "b", "c"].iter().for_each(|id| record(&mut world, id));
    // As if all records up to here still waited.
    let mut queue = Queue::load(&world.view).unwrap();
    queue.next = full + 1;
    world
        .view
        .0
        .insert(keys::FEEDBACK_QUEUE.into(), stored::encode(&queue).into());
    record(&mut world, "d");
    assert_eq!(
        world
            .feedback()
            .iter()
            .map(|(id, _)| id.as_str())
            .collect::<Vec<_>>(),
        ["b", "c", "d"]
    );
}

#[test]
fn a_full_queue_takes_the_oldest_out_of_its_batch_too() {
    let batch = |first, last| Batch {
        first,
        last,
        expiry: UnixMillis(START),
        deliveries: 0,
        lock: None,
    };
    let mut queue = Queue {
        next: 10,
        taken: 4,
        batches: vec![batch(1, 2), batch(3, 3)],
    };
    let mut writes = WriteSet::default();
    queue.drop_oldest(&mut writes);
    assert_eq!(queue.batches, [batch(2, 2), batch(3, 3)]);
    queue.drop_oldest(&mut writes);
    queue.drop_oldest(&mut writes);
    assert_eq!((queue.batches.len(), queue.first()), (0, 4));
    queue.drop_oldest(&mut writes);
    assert_eq!(queue.first(), 5);
    let removed: Vec<_> = writes.state.into_iter().map(|(key, _)| key).collect();
    assert_eq!(removed, (1..5).map(keys::feedback).collect::<Vec<_>>());
}

/// Written by format version 1; must open for ever.
#[test]
fn version_1_values_open_for_ever() {
    let queue = concat!(
        "\x01",
        r#"{"next":9,"taken":7,"batches":[{"first":2,"last":3,"expiry":1700003600000,"deliveries":1},"#,
        r#"{"first":5,"last":6,"expiry":1700003600000,"deliveries":0,"lock":{"nonce":7,"until":1700000060000}}]}"#,
    );
    let record = concat!(
        "\x01",
        r#"{"messageId":"m-1","device":"d1","generation":"638","outcome":"DeliveryCountExceeded","#,
        r#""at":1700000000000,"expiry":1700003600000}"#,
    );
    let mut view = MemoryView::default();
    view.0.insert(keys::FEEDBACK_QUEUE.into(), queue.into());
    view.0.insert(keys::feedback(2).into(), record.into());
    let decoded = Queue::load(&view).unwrap();
    assert_eq!(
        (decoded.next, decoded.taken, decoded.batches.len()),
        (9, 7, 2)
    );
    assert_eq!(stored::encode(&decoded), queue.as_bytes());
    let records = read_records(&view, 1, 9, 10).unwrap();
    let expected = StoredRecord {
        message_id: "m-1".into(),
        device: device("d1"),
        generation: "638".into(),
        outcome: Outcome::DeliveryCountExceeded,
        at: UnixMillis(START),
        expiry: UnixMillis(START + 3_600_000),
    };
    assert_eq!(stored::encode(&expected), record.as_bytes());
    assert_eq!(records, [(2, expected)]);
}
