//! Sending, and how a queue is stored.

use super::{MINUTE, pairs, waiting};
use crate::c2d::world::{World, device, message};
use crate::command::{Ack, C2dCommand, C2dMessage, LockOwner::Http};
use crate::{Effect, keys};
use bytes::Bytes;
use types::{ConnectionId, ErrorCode, limits};

#[test]
fn a_sent_message_arrives_as_it_was_sent() {
    let mut world = World::new();
    let expiry = world.now.plus(5 * MINUTE);
    let sent = C2dMessage {
        message_id: "m-1".into(),
        correlation_id: Some("c=1".into()),
        user_id: Some("someone".into()),
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        expiry: Some(expiry),
        ack: Ack::Positive,
        properties: vec![
            ("b".into(), "2".into()),
            ("a".into(), "ä &=".into()),
            ("b".into(), String::new()),
        ],
        body: Bytes::from_static(b"\x00\xff{}"),
    };
    assert_eq!(world.send(sent.clone()), Ok(("m-1".into(), 1)));
    world.advance(10);
    let locked = world.lock_one(Http);
    assert_eq!(locked.message, sent);
    assert_eq!(
        (locked.sequence, locked.delivery_count, locked.redelivered),
        (1, 0, false)
    );
    assert_eq!(
        (locked.enqueued, locked.expiry),
        (world.now.plus(-10), expiry)
    );
}

#[test]
fn a_message_without_id_gets_a_guid_and_without_expiry_the_hubs_default_life() {
    let mut world = World::new();
    world.settings.cloud_to_device.default_ttl_ms = 2 * MINUTE;
    let (id, _) = world.send(C2dMessage::default()).unwrap();
    let (other, _) = world.send(C2dMessage::default()).unwrap();
    assert_ne!(id, other);
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
    let locked = world.lock_one(Http);
    assert_eq!(locked.message.message_id, id);
    assert_eq!(locked.expiry, world.now.plus(2 * MINUTE));
}

#[test]
fn sending_to_an_unknown_device_is_refused() {
    assert_eq!(
        World::empty().send(message("m")),
        Err(ErrorCode::DeviceNotFound)
    );
}

#[test]
fn oversized_messages_are_refused() {
    let mut world = World::new();
    let sized = |bytes: usize| C2dMessage {
        body: vec![7; bytes].into(),
        ..C2dMessage::default()
    };
    assert!(world.send(sized(limits::C2D_MESSAGE_BYTES_MAX)).is_ok());
    assert_eq!(
        world.send(sized(limits::C2D_MESSAGE_BYTES_MAX + 1)),
        Err(ErrorCode::MessageTooLarge)
    );
    let with = |properties| C2dMessage {
        properties,
        ..C2dMessage::default()
    };
    let long = vec![(
        "k".to_owned(),
        "v".repeat(limits::C2D_PROPERTIES_BYTES_MAX - 3),
    )];
    assert!(world.send(with(long)).is_ok());
    let longer = vec![(
        "k".to_owned(),
        "v".repeat(limits::C2D_PROPERTIES_BYTES_MAX - 2),
    )];
    assert_eq!(world.send(with(longer)), Err(ErrorCode::MessageTooLarge));
    let empty = vec![(String::new(), String::new()); limits::C2D_PROPERTIES_BYTES_MAX / 2 + 1];
    assert_eq!(world.send(with(empty)), Err(ErrorCode::MessageTooLarge));
}

#[test]
fn ids_outside_the_documented_characters_are_refused() {
    let mut world = World::new();
    for good in ["A9-:.+%_#*?!(),=@;$'", &"x".repeat(128)] {
        assert!(world.send(message(good)).is_ok(), "{good}");
        assert!(
            world
                .send(C2dMessage {
                    correlation_id: Some(good.into()),
                    ..C2dMessage::default()
                })
                .is_ok(),
            "{good}"
        );
    }
    for bad in ["a b", "a/b", "é", &"x".repeat(129)] {
        assert_eq!(
            world.send(message(bad)),
            Err(ErrorCode::ArgumentInvalid),
            "{bad}"
        );
        let correlated = C2dMessage {
            correlation_id: Some(bad.into()),
            ..C2dMessage::default()
        };
        assert_eq!(
            world.send(correlated),
            Err(ErrorCode::ArgumentInvalid),
            "{bad}"
        );
    }
}

#[test]
fn an_expiry_in_the_past_or_beyond_two_days_is_refused() {
    let mut world = World::new();
    for (ahead, answer) in [
        (1, None),
        (limits::C2D_TTL_MAX_MS, None),
        (0, Some(ErrorCode::InvalidMessageExpiryTime)),
        (-1, Some(ErrorCode::InvalidMessageExpiryTime)),
        (i64::MIN, Some(ErrorCode::InvalidMessageExpiryTime)),
        (
            limits::C2D_TTL_MAX_MS + 1,
            Some(ErrorCode::InvalidMessageExpiryTime),
        ),
        (i64::MAX, Some(ErrorCode::InvalidMessageExpiryTime)),
    ] {
        let sent = C2dMessage {
            expiry: Some(world.now.plus(ahead)),
            ..C2dMessage::default()
        };
        assert_eq!(world.send(sent).err(), answer, "{ahead}");
    }
}

#[test]
fn fifty_messages_fit_locked_ones_counted_and_expired_ones_not() {
    let mut world = World::new();
    let brief = C2dMessage {
        expiry: Some(world.now.plus(MINUTE)),
        ..message("brief")
    };
    world.send(brief).unwrap();
    for number in 1..limits::C2D_QUEUE_DEPTH_MAX {
        world.send(message(&format!("m{number}"))).unwrap();
    }
    assert_eq!(
        world.send(message("over")),
        Err(ErrorCode::DeviceMaximumQueueDepthExceeded)
    );
    world.lock(10, Http);
    assert_eq!(
        world.send(message("over")),
        Err(ErrorCode::DeviceMaximumQueueDepthExceeded)
    );
    world.advance(MINUTE);
    assert_eq!(world.send(message("fits")), Ok(("fits".into(), 51)));
    assert_eq!(world.feedback(), pairs(&[("brief", "Expired")]));
    assert_eq!(waiting(&world), 50);
}

#[test]
fn sending_nudges_a_connected_device_only() {
    let mut world = World::new();
    let send = || C2dCommand::Send {
        device: device("d1"),
        message: message("m"),
    };
    assert_eq!(world.c2d(send()).unwrap().effects, []);
    world.connect("d1", 1);
    assert_eq!(
        world.c2d(send()).unwrap().effects,
        [Effect::C2dWaiting {
            device: device("d1")
        }]
    );
}

/// Written by format version 1; must open for ever.
#[test]
fn a_version_1_queue_opens_for_ever() {
    let fixture = concat!(
        "\x01",
        r#"{"next":9,"messages":["#,
        r#"{"sequence":3,"expiry":1700003600000,"ack":"None","deliveries":0,"redelivered":false},"#,
        r#"{"sequence":5,"expiry":1700003600001,"ack":"Full","deliveries":2,"redelivered":true,"nonce":18446744073709551615,"#,
        r#""lock":{"until":1700000060000,"connection":77}},"#,
        r#"{"sequence":8,"expiry":1700003600002,"ack":"Negative","deliveries":0,"redelivered":false,"nonce":4,"lock":{"until":1700000060000}}]}"#,
    );
    let mut world = World::empty();
    world
        .view
        .0
        .insert(keys::c2d_queue(&device("d1")).into(), fixture.into());
    let queue = crate::c2d::Queue::load(&world.view, &device("d1")).unwrap();
    assert_eq!((queue.next, sequences_of(&queue)), (9, vec![3, 5, 8]));
    assert_eq!(
        queue.messages[1].lock.unwrap().connection,
        Some(ConnectionId(77))
    );
    assert_eq!(crate::stored::encode(&queue), fixture.as_bytes());
    for damaged in ["", "\x02{}", "\x01", "\x01{\"next\":1}"] {
        world
            .view
            .0
            .insert(keys::c2d_queue(&device("d1")).into(), damaged.into());
        assert!(
            crate::c2d::waiting(&world.view, &device("d1")).is_err(),
            "{damaged:?}"
        );
    }
}

fn sequences_of(queue: &crate::c2d::Queue) -> Vec<u64> {
    queue.messages.iter().map(|entry| entry.sequence).collect()
}
