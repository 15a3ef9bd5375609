//! Ends without the device's doing: expiry, dead letters, sweeps, purges; and the feedback about them.

use super::{MINUTE, pairs, sequences, waiting};
use crate::c2d::world::{World, connection, device, message};
use crate::command::{Ack, C2dCommand, C2dMessage, IfMatch, LockOwner::Http, RegistryCommand};
use crate::{Command, Effect, Reply, WriteSet, keys};
use bytes::Bytes;
use types::ErrorCode;

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
        crate::c2d::clear(&world.view, &device("d1"), &mut WriteSet::default()),
        Ok(0)
    );
}
