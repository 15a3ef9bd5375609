//! Effects reach the connection they are for, at its own gateway.

use super::*;
use hub::command::{C2dCommand, C2dMessage};
use hub::decision::{CloseReason, PresenceChange};

fn send(name: &str, expiry: Option<UnixMillis>) -> Command {
    Command::C2d(C2dCommand::Send {
        device: device(name),
        message: C2dMessage {
            expiry,
            ..C2dMessage::default()
        },
    })
}

fn restate(name: &str, connection: u64, gateway: usize, since: UnixMillis) -> Command {
    Command::Session(SessionCommand::Restate {
        device: device(name),
        connection: ConnectionId(connection),
        gateway: region(gateway),
        since,
        c2d: false,
        desired_seen: None,
    })
}

fn closes(world: &World, who: usize) -> Vec<(RegionName, u64, CloseReason)> {
    let effects = world.nodes[who].effects.iter();
    effects
        .filter_map(|(gateway, to, effect)| match effect {
            Effect::Close {
                connection, why, ..
            } => {
                assert_eq!(to, connection);
                Some((gateway.clone(), connection.0, *why))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_take_over_closes_the_old_connection_at_its_own_gateway() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.reply(WEST, 0, restate("d", 1, EAST, START));
    let open = world.session(WEST, 0, "d", 2);
    world.reply(WEST, 0, open);
    assert_eq!(
        closes(&world, WEST),
        [(region(EAST), 1, CloseReason::TakenOver)]
    );
    world.reply(WEST, 0, send("d", None));
    let last = world.nodes[WEST].effects.last().unwrap();
    assert_eq!((&last.0, last.1), (&region(WEST), ConnectionId(2)));
}

#[test]
fn a_connection_that_is_turned_away_is_closed_at_its_own_gateway() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.reply(WEST, 0, restate("d", 2, WEST, START.plus(10)));
    world.reply(WEST, 0, restate("d", 1, EAST, START));
    assert_eq!(
        closes(&world, WEST),
        [(region(EAST), 1, CloseReason::TakenOver)]
    );
    world.nodes[WEST].effects.clear();
    world.reply(WEST, 0, restate("gone", 3, EAST, START));
    assert_eq!(
        closes(&world, WEST),
        [(region(EAST), 3, CloseReason::Deleted)]
    );
}

#[test]
fn a_deleted_devices_connection_is_closed() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    let delete = RegistryCommand::Delete {
        device: device("d"),
        if_match: IfMatch::Any,
    };
    world.reply(WEST, 0, Command::Registry(delete));
    assert_eq!(
        closes(&world, WEST),
        [(region(WEST), 1, CloseReason::Deleted)]
    );
    assert_eq!(world.fact(WEST, 0).devices_connected, 0);
    let refusal = world.refusal(WEST, 0, telemetry("d", 1, 1, 10));
    assert!(matches!(refusal, Refusal::Reject(_)));
}

#[test]
fn a_secondary_knows_where_devices_are_when_it_takes_over() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.run(300);
    let change = PresenceChange::Connected {
        device: device("d"),
        connection: ConnectionId(1),
        gateway: region(WEST),
        since: START,
    };
    world.give(EAST, vec![Input::Presence { at: key(0), change }]);
    world.fail_over(WEST, 1);
    world.reply(EAST, 0, send("d", None));
    assert!(matches!(
        &world.nodes[EAST].effects[..],
        [(gateway, ConnectionId(1), Effect::C2dWaiting { .. })] if *gateway == region(WEST)
    ));
}

#[test]
fn a_lock_that_ran_out_makes_the_message_wait_again() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.reply(WEST, 0, send("d", None));
    let lock = C2dCommand::Lock {
        device: device("d"),
        max: 1,
        owner: hub::command::LockOwner::Http,
        lock_ms: 60_000,
    };
    world.reply(WEST, 0, Command::C2d(lock));
    world.nodes[WEST].effects.clear();
    world.now = world.now.plus(61_000);
    world.run(1100);
    assert!(matches!(
        world.nodes[WEST].effects[..],
        [(_, ConnectionId(1), Effect::C2dWaiting { .. })]
    ));
    world.run(5000);
    assert_eq!(world.nodes[WEST].effects.len(), 1, "told once");
    world.assert_equal();
}

#[test]
fn the_count_of_connected_devices_is_in_the_statistics() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.register(WEST, 0, "e");
    let asked = Command::Registry(RegistryCommand::Statistics);
    let reply = world.reply(WEST, 0, asked);
    assert!(matches!(
        reply,
        Reply::Statistics {
            total: 2,
            connected: 1,
            ..
        }
    ));
}
