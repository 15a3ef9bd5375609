//! Locks and what their holder does with them.

use super::{MINUTE, pairs, sequences, waiting};
use crate::c2d::world::{World, connection, device, message};
use crate::command::{C2dCommand, C2dMessage, LockOwner::Http};
use crate::decision::PresenceChange;
use crate::{Effect, WriteSet};
use types::{ConnectionId, ErrorCode, limits};

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
        crate::c2d::release(&world.view, &device("d1"), ConnectionId(9), &mut writes),
        Ok(false)
    );
    assert!(writes.is_empty());
    assert_eq!(
        crate::c2d::release(&world.view, &device("d1"), ConnectionId(1), &mut writes),
        Ok(true)
    );
    world.view.apply(&writes);
    assert_eq!(world.reject(&token), Err(ErrorCode::DeviceMessageLockLost));
    let again = world.lock_one(Http);
    assert_eq!((again.delivery_count, again.redelivered), (0, true));
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
