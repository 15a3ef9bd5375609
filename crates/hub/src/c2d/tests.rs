//! The rules of data-plane notes section 10.1, one claim each.

use super::world::{World, connection, device, message};
use crate::command::{Ack, C2dCommand, C2dMessage, IfMatch, LockOwner::Http, RegistryCommand};
use crate::decision::PresenceChange;
use crate::{Command, Effect, Reply, WriteSet, keys};
use bytes::Bytes;
use types::{ConnectionId, ErrorCode, limits};

const MINUTE: i64 = 60_000;

fn waiting(world: &World) -> u32 {
    super::waiting(&world.view, &device("d1")).unwrap()
}

fn sequences(messages: &[crate::command::LockedMessage]) -> Vec<u64> {
    messages.iter().map(|locked| locked.sequence).collect()
}

fn pairs(records: &[(&str, &str)]) -> Vec<(String, String)> {
    records
        .iter()
        .map(|(id, status)| (id.to_string(), status.to_string()))
        .collect()
}

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

#[test]
fn messages_come_in_the_order_they_were_sent() {
    let mut world = World::new();
    for id in ["a", "b", "c", "d"] {
        world.send(message(id)).unwrap();
    }
    assert_eq!(sequences(&world.lock(2, Http)), [1, 2]);
    assert_eq!(sequences(&world.lock(9, Http)), [3, 4]);
    assert_eq!(world.lock(9, Http), []);
}

#[test]
fn locking_nothing_writes_nothing() {
    let mut world = World::new();
    let lock = || C2dCommand::Lock {
        device: device("d1"),
        max: 5,
        owner: Http,
        lock_ms: MINUTE,
    };
    assert!(world.c2d(lock()).unwrap().writes.is_empty());
    world.send(message("m")).unwrap();
    world.lock_one(Http);
    assert!(world.c2d(lock()).unwrap().writes.is_empty());
    assert!(
        world
            .c2d(C2dCommand::Lock {
                device: device("nobody"),
                max: 5,
                owner: Http,
                lock_ms: MINUTE
            })
            .unwrap()
            .writes
            .is_empty()
    );
}

#[test]
fn a_lock_time_outside_the_bounds_is_refused() {
    let mut world = World::new();
    for lock_ms in [i64::MIN, -1, 0, limits::C2D_LOCK_MS_MAX + 1, i64::MAX] {
        let lock = C2dCommand::Lock {
            device: device("d1"),
            max: 5,
            owner: Http,
            lock_ms,
        };
        assert_eq!(
            world.c2d(lock).err(),
            Some(ErrorCode::ArgumentInvalid),
            "{lock_ms}"
        );
    }
}

#[test]
fn a_completed_message_is_gone() {
    let mut world = World::new();
    world.send(message("m")).unwrap();
    let locked = world.lock_one(Http);
    world.complete(&locked.lock_token).unwrap();
    assert_eq!(waiting(&world), 0);
    assert_eq!(
        world.complete(&locked.lock_token),
        Err(ErrorCode::DeviceMessageLockLost)
    );
    assert_eq!(world.feedback(), pairs(&[("m", "Success")]));
    assert_eq!(
        world.send(message("n")),
        Ok(("n".into(), 2)),
        "sequence numbers go on"
    );
}

#[test]
fn unknown_lock_tokens_are_refused() {
    let mut world = World::new();
    world.send(message("m")).unwrap();
    let good = world.lock_one(Http).lock_token;
    for bad in [
        "",
        "x",
        "00000000-0000-0000-0000-000000000001",
        &good.replace('-', ""),
        &format!("{good} "),
    ] {
        assert_eq!(
            world.complete(bad),
            Err(ErrorCode::DeviceMessageLockLost),
            "{bad}"
        );
        assert_eq!(
            world.reject(bad),
            Err(ErrorCode::DeviceMessageLockLost),
            "{bad}"
        );
        assert_eq!(
            world.abandon(bad),
            Err(ErrorCode::DeviceMessageLockLost),
            "{bad}"
        );
    }
    assert_eq!(world.complete(&good), Ok(()));
}

#[test]
fn an_abandoned_message_returns_to_the_head_of_the_queue() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    world.send(message("b")).unwrap();
    let first = world.lock_one(Http);
    world.abandon(&first.lock_token).unwrap();
    let again = world.lock_one(Http);
    assert_eq!(
        (again.sequence, again.delivery_count, again.redelivered),
        (1, 1, true)
    );
    for stale in [World::complete, World::reject, World::abandon] {
        assert_eq!(
            stale(&mut world, &first.lock_token),
            Err(ErrorCode::DeviceMessageLockLost)
        );
    }
    assert_eq!(world.complete(&again.lock_token), Ok(()));
}

#[test]
fn abandoning_nudges_the_connected_device() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    world.connect("d1", 1);
    let lock_token = world.lock_one(connection(1)).lock_token;
    let decision = world
        .c2d(C2dCommand::Abandon {
            device: device("d1"),
            lock_token,
        })
        .unwrap();
    assert_eq!(
        decision.effects,
        [Effect::C2dWaiting {
            device: device("d1")
        }]
    );
}

#[test]
fn an_abandoned_token_is_worth_nothing() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    let token = world.lock_one(Http).lock_token;
    world.abandon(&token).unwrap();
    assert_eq!(
        world.complete(&token),
        Err(ErrorCode::DeviceMessageLockLost)
    );
}

#[test]
fn a_rejected_message_is_gone() {
    let mut world = World::new();
    world.send(message("m")).unwrap();
    let token = world.lock_one(Http).lock_token;
    world.reject(&token).unwrap();
    assert_eq!(
        (waiting(&world), world.feedback()),
        (0, pairs(&[("m", "Rejected")]))
    );
}

#[test]
fn a_lock_that_times_out_gives_the_message_back_and_counts() {
    let mut world = World::new();
    world.send(message("m")).unwrap();
    let first = world.lock_one(Http);
    world.advance(MINUTE - 1);
    assert_eq!(world.lock(1, Http), []);
    world.advance(1);
    let again = world.lock_one(Http);
    assert_eq!((again.delivery_count, again.redelivered), (1, true));
    assert_eq!(
        world.complete(&first.lock_token),
        Err(ErrorCode::DeviceMessageLockLost),
        "somebody else has it"
    );
}

#[test]
fn a_late_completion_is_good_while_nobody_else_got_the_message() {
    for swept in [false, true] {
        let mut world = World::new();
        world.send(message("m")).unwrap();
        let token = world.lock_one(Http).lock_token;
        world.advance(MINUTE);
        if swept {
            world.sweep();
        }
        assert_eq!(world.reject(&token), Err(ErrorCode::DeviceMessageLockLost));
        assert_eq!(world.abandon(&token), Err(ErrorCode::DeviceMessageLockLost));
        assert_eq!(world.complete(&token), Ok(()));
        assert_eq!(world.feedback(), pairs(&[("m", "Success")]));
    }
}

#[test]
fn a_message_delivered_too_often_is_dead_lettered() {
    let mut world = World::new();
    world.settings.cloud_to_device.max_delivery_count = 3;
    world.send(message("m")).unwrap();
    for deliveries in 0..2 {
        let locked = world.lock_one(Http);
        assert_eq!(locked.delivery_count, deliveries);
        world.abandon(&locked.lock_token).unwrap();
    }
    world.lock_one(Http);
    world.advance(MINUTE);
    assert_eq!(world.lock(1, Http), []);
    assert_eq!(
        (waiting(&world), world.feedback()),
        (0, pairs(&[("m", "DeliveryCountExceeded")]))
    );
}

#[test]
fn the_last_abandon_dead_letters_at_once() {
    let mut world = World::new();
    world.settings.cloud_to_device.max_delivery_count = 1;
    world.send(message("m")).unwrap();
    let token = world.lock_one(Http).lock_token;
    world.abandon(&token).unwrap();
    assert_eq!(
        (waiting(&world), world.feedback()),
        (0, pairs(&[("m", "DeliveryCountExceeded")]))
    );
}

#[test]
fn a_newer_connection_takes_locks_over_at_once_without_counting() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    world.send(message("b")).unwrap();
    let first = world.lock_one(connection(1));
    let taken = world.lock(5, connection(2));
    assert_eq!(sequences(&taken), [1, 2]);
    assert_eq!((taken[0].delivery_count, taken[0].redelivered), (0, true));
    assert_eq!((taken[1].delivery_count, taken[1].redelivered), (0, false));
    assert_eq!(
        world.complete(&first.lock_token),
        Err(ErrorCode::DeviceMessageLockLost)
    );
    assert_eq!(world.lock(5, connection(2)), [], "its own locks stay");
}

#[test]
fn a_replaced_connection_gets_nothing() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    world.connect("d1", 2);
    assert_eq!(world.lock(5, connection(1)), []);
    assert_eq!(world.lock(5, connection(2)).len(), 1);
}

#[test]
fn https_and_mqtt_do_not_take_each_others_locks() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    world.send(message("b")).unwrap();
    assert_eq!(sequences(&world.lock(1, Http)), [1]);
    assert_eq!(sequences(&world.lock(5, connection(1))), [2]);
    assert_eq!(world.lock(5, Http), []);
}

#[test]
fn a_closed_connections_locks_can_be_released_without_counting() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    let token = world.lock_one(connection(1)).lock_token;
    let mut writes = WriteSet::default();
    assert_eq!(
        super::release(&world.view, &device("d1"), ConnectionId(9), &mut writes),
        Ok(false)
    );
    assert!(writes.is_empty());
    assert_eq!(
        super::release(&world.view, &device("d1"), ConnectionId(1), &mut writes),
        Ok(true)
    );
    world.view.apply(&writes);
    assert_eq!(world.reject(&token), Err(ErrorCode::DeviceMessageLockLost));
    let again = world.lock_one(Http);
    assert_eq!((again.delivery_count, again.redelivered), (0, true));
}

#[test]
fn an_expired_message_is_never_delivered() {
    let mut world = World::new();
    world
        .send(C2dMessage {
            expiry: Some(world.now.plus(MINUTE)),
            ..message("old")
        })
        .unwrap();
    world.send(message("new")).unwrap();
    world.advance(MINUTE);
    assert_eq!(sequences(&world.lock(5, Http)), [2]);
    assert_eq!(world.feedback(), pairs(&[("old", "Expired")]));
}

#[test]
fn a_locked_message_that_expired_is_not_redelivered() {
    for owner in [Http, connection(2)] {
        let mut world = World::new();
        world
            .send(C2dMessage {
                expiry: Some(world.now.plus(1000)),
                ..message("m")
            })
            .unwrap();
        world.lock_one(connection(1));
        // A takeover comes while the lock holds, HTTPS waits until it timed out.
        world.advance(if owner == Http { MINUTE } else { 1000 });
        assert_eq!(world.lock(5, owner), []);
        assert_eq!(world.feedback(), pairs(&[("m", "Expired")]));
    }
}

#[test]
fn the_holder_of_a_lock_may_complete_after_the_expiry() {
    let mut world = World::new();
    world
        .send(C2dMessage {
            expiry: Some(world.now.plus(1000)),
            ..message("m")
        })
        .unwrap();
    let token = world.lock_one(Http).lock_token;
    world.advance(2000);
    world.sweep();
    assert_eq!(world.complete(&token), Ok(()));
    assert_eq!(world.feedback(), pairs(&[("m", "Success")]));
}

#[test]
fn feedback_comes_as_the_sender_asked() {
    for (ack, on_success, on_failure) in [
        (Ack::None, 0, 0),
        (Ack::Positive, 1, 0),
        (Ack::Negative, 0, 1),
        (Ack::Full, 1, 1),
    ] {
        let mut world = World::new();
        world
            .send(C2dMessage {
                ack,
                ..message("m")
            })
            .unwrap();
        let token = world.lock_one(Http).lock_token;
        world.complete(&token).unwrap();
        assert_eq!(world.feedback().len(), on_success, "{ack:?}");
        world
            .send(C2dMessage {
                ack,
                ..message("m")
            })
            .unwrap();
        let token = world.lock_one(Http).lock_token;
        world.reject(&token).unwrap();
        assert_eq!(world.feedback().len(), on_failure, "{ack:?}");
    }
}

#[test]
fn the_sweep_expires_and_unlocks_what_is_due_and_nudges() {
    let mut world = World::new();
    world
        .send(C2dMessage {
            expiry: Some(world.now.plus(MINUTE)),
            ..message("old")
        })
        .unwrap();
    world.connect("d1", 1);
    assert_eq!(world.sweep().effects, []);
    world.send(message("locked")).unwrap();
    let tokens = world.lock(5, connection(1));
    assert_eq!(tokens.len(), 2);
    world.advance(MINUTE);
    let decision = world.sweep();
    assert_eq!(
        decision.effects,
        [Effect::C2dWaiting {
            device: device("d1")
        }]
    );
    assert_eq!(waiting(&world), 1);
    assert_eq!(world.feedback(), pairs(&[("old", "Expired")]));
    assert_eq!(world.lock_one(connection(1)).delivery_count, 1);
}

#[test]
fn the_sweep_writes_nothing_when_nothing_is_due() {
    let mut world = World::new();
    assert!(world.sweep().writes.is_empty());
    world.send(message("m")).unwrap();
    assert!(world.sweep().writes.is_empty());
    world.lock_one(Http);
    world.advance(MINUTE - 1);
    assert!(world.sweep().writes.is_empty());
}

#[test]
fn the_sweep_handles_at_most_what_it_may_earliest_first() {
    let mut world = World::new();
    for minutes in [3, 1, 2] {
        world
            .send(C2dMessage {
                expiry: Some(world.now.plus(minutes * MINUTE)),
                ..message(&format!("m{minutes}"))
            })
            .unwrap();
    }
    world.advance(10 * MINUTE);
    world.c2d(C2dCommand::Sweep { max: 2 }).unwrap();
    assert_eq!(waiting(&world), 1);
    world.c2d(C2dCommand::Sweep { max: 0 }).unwrap();
    assert_eq!(waiting(&world), 1);
    world.sweep();
    // Within one sweep the records come in queue order.
    assert_eq!(
        world.feedback(),
        pairs(&[("m1", "Expired"), ("m2", "Expired"), ("m3", "Expired")])
    );
}

#[test]
fn the_sweep_removes_index_entries_without_a_message() {
    let mut world = World::new();
    let stray = Bytes::from(keys::due(world.now.plus(-5), &device("d1"), 7));
    world.view.0.insert(stray.clone(), Bytes::from_static(&[1]));
    world.sweep();
    assert!(!world.view.0.contains_key(&stray));
}

#[test]
fn a_purge_empties_the_queue() {
    let mut world = World::new();
    world
        .send(C2dMessage {
            expiry: Some(world.now.plus(1)),
            ..message("old")
        })
        .unwrap();
    world.send(message("a")).unwrap();
    world.send(message("b")).unwrap();
    world.advance(1);
    let token = world.lock_one(Http).lock_token;
    let decision = world
        .c2d(C2dCommand::Purge {
            device: device("d1"),
        })
        .unwrap();
    assert_eq!(decision.reply, Reply::Purged { count: 2 });
    assert_eq!(waiting(&world), 0);
    assert_eq!(
        world.complete(&token),
        Err(ErrorCode::DeviceMessageLockLost)
    );
    assert_eq!(
        world.feedback(),
        pairs(&[("old", "Expired"), ("a", "Purged"), ("b", "Purged")])
    );
    let again = world
        .c2d(C2dCommand::Purge {
            device: device("d1"),
        })
        .unwrap();
    assert_eq!(
        (again.reply, again.writes.is_empty()),
        (Reply::Purged { count: 0 }, true)
    );
    assert_eq!(
        world
            .c2d(C2dCommand::Purge {
                device: device("nobody")
            })
            .err(),
        Some(ErrorCode::DeviceNotFound)
    );
}

#[test]
fn deleting_a_device_drops_its_queue_without_feedback() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    world.send(message("b")).unwrap();
    world.lock_one(Http);
    world
        .run(Command::Registry(RegistryCommand::Delete {
            device: device("d1"),
            if_match: IfMatch::Any,
        }))
        .unwrap();
    let left: Vec<_> = world
        .view
        .0
        .keys()
        .filter(|key| b"qcx".contains(&key[0]))
        .collect();
    assert_eq!(left, Vec::<&Bytes>::new());
    assert_eq!(world.feedback(), []);
    assert_eq!(
        super::clear(&world.view, &device("d1"), &mut WriteSet::default()),
        Ok(0)
    );
}

#[test]
fn taking_and_settling_messages_counts_as_activity() {
    let mut world = World::new();
    world.send(message("a")).unwrap();
    let lock = C2dCommand::Lock {
        device: device("d1"),
        max: 1,
        owner: Http,
        lock_ms: MINUTE,
    };
    let active = [PresenceChange::Activity {
        device: device("d1"),
        at: world.now,
    }];
    assert_eq!(world.c2d(lock.clone()).unwrap().presence, active);
    assert_eq!(world.c2d(lock).unwrap().presence, []);
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
    let queue = super::Queue::load(&world.view, &device("d1")).unwrap();
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
            super::waiting(&world.view, &device("d1")).is_err(),
            "{damaged:?}"
        );
    }
}

fn sequences_of(queue: &super::Queue) -> Vec<u64> {
    queue.messages.iter().map(|entry| entry.sequence).collect()
}
