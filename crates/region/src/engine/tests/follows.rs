//! Following: lost messages are asked for again, foreign or damaged records stop the follower.

use super::*;
use types::limits;

fn records(m: &Message) -> bool {
    matches!(m, Message::Records { .. })
}

fn records_from(world: &World, first: u64) -> Vec<Bytes> {
    log_of(&world.nodes[WEST].store, 0)
        .into_iter()
        .filter(|record| record.lsn.0 >= first)
        .map(|record| record.bytes)
        .collect()
}

fn ship(world: &mut World, records: Vec<Bytes>) {
    let message = Message::Records {
        at: key(0),
        records,
    };
    let from = region(WEST);
    world.give(EAST, vec![Input::Message { from, message }]);
}

#[test]
fn lost_messages_of_any_kind_are_asked_for_again() {
    let kinds: [fn(&Message) -> bool; 3] = [
        records,
        |m| matches!(m, Message::Acked { .. }),
        |m| matches!(m, Message::Follow { .. }),
    ];
    for loses in kinds {
        let mut world = World::new();
        world.loses = loses;
        world.register(WEST, 0, "d");
        world.run(1000);
        world.loses = |_| false;
        world.run(4500);
        world.assert_equal();
        let fact = world.fact(WEST, 0);
        assert_eq!((fact.lag_records, fact.lag_ms), (0, 0));
    }
}

#[test]
fn what_could_not_be_queued_is_asked_for_again() {
    let mut world = World::new();
    world.up = false;
    world.register(WEST, 0, "d");
    assert!(!world.fact(WEST, 0).follower_connected);
    world.up = true;
    world.run(2500);
    world.assert_equal();
}

#[test]
fn a_gap_is_asked_for_and_old_records_are_passed_over() {
    let mut world = World::new();
    world.register(WEST, 0, "a");
    world.run(300);
    let old = records_from(&world, 1);
    let head = world.head(EAST, 0);
    ship(&mut world, old);
    assert_eq!(world.head(EAST, 0), head);
    world.loses = records;
    world.register(WEST, 0, "b");
    world.register(WEST, 0, "c");
    world.loses = |_| false;
    let gap = records_from(&world, head.lsn.0 + 2);
    ship(&mut world, gap);
    assert_eq!(world.head(EAST, 0), head);
    world.run(200);
    world.assert_equal();
}

#[test]
fn another_history_stops_the_follower_and_nothing_is_overwritten() {
    let mut world = World::new();
    world.register(WEST, 0, "a");
    world.run(300);
    let head = world.head(EAST, 0);
    let foreign = replication::Record {
        epoch: head.epoch,
        lsn: head.lsn.next(),
        previous_crc: head.crc ^ 1,
        time: world.now,
        first_sequence: head.next_sequence,
        event_count: 0,
        body: replication::Body::Resume,
    };
    ship(&mut world, vec![foreign.encode()]);
    assert_eq!(world.head(EAST, 0), head);
    assert!(world.fact(EAST, 0).broken.is_some());
    assert!(world.nodes[EAST].was_told("history differs"));
    world.register(WEST, 0, "b");
    world.run(3000);
    assert_eq!(world.head(EAST, 0), head);
}

#[test]
fn a_flipped_byte_stops_the_follower_after_the_good_records_before_it() {
    let mut world = World::new();
    world.loses = records;
    world.register(WEST, 0, "a");
    world.register(WEST, 0, "b");
    let head = world.head(EAST, 0);
    let mut shipped = records_from(&world, head.lsn.0 + 1);
    let mut bytes = shipped[1].to_vec();
    bytes[60] ^= 1;
    shipped[1] = bytes.into();
    ship(&mut world, shipped);
    assert_eq!(world.head(EAST, 0).lsn, head.lsn.next());
    assert!(world.fact(EAST, 0).broken.is_some());
    assert_eq!(world.stored_digest(EAST, 0), world.head(EAST, 0).state);
}

#[test]
fn a_handover_whose_digests_are_not_the_followers_stops_it() {
    let mut world = World::new();
    world.run(300);
    let head = world.head(EAST, 0);
    let body = replication::Body::Handover {
        state: replication::StateDigest(head.state ^ 1),
        chain: head.chain,
    };
    let record = replication::Record {
        epoch: head.epoch,
        lsn: head.lsn.next(),
        previous_crc: head.crc,
        time: world.now,
        first_sequence: head.next_sequence,
        event_count: 0,
        body,
    };
    ship(&mut world, vec![record.encode()]);
    assert!(world.nodes[EAST].was_told("digests"));
    assert_eq!(world.head(EAST, 0), head);
}

#[test]
fn a_follower_that_is_ahead_is_refused_and_stops() {
    let mut world = World::new();
    world.run(300);
    let message = Message::Follow {
        at: key(0),
        epoch: types::Epoch(1),
        lsn: Lsn(99),
        crc: 0,
    };
    let from = region(EAST);
    world.give(WEST, vec![Input::Message { from, message }]);
    world.deliver();
    assert!(world.nodes[EAST].was_told("refuses to be followed"));
    assert!(world.fact(EAST, 0).broken.is_some());
    world.register(WEST, 0, "d");
}

#[test]
fn nobody_but_the_primary_stops_or_empties_a_partition() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    let head = world.head(EAST, 0);
    let refused = Message::Refused {
        at: key(0),
        why: "no".into(),
    };
    let copy = Message::Bootstrap {
        at: key(0),
        id: 1,
        head: head.encode().into(),
    };
    for (who, from) in [
        (WEST, region(EAST)),
        (EAST, RegionName::parse("north").unwrap()),
    ] {
        for message in [refused.clone(), copy.clone()] {
            let from = from.clone();
            world.give(who, vec![Input::Message { from, message }]);
        }
    }
    // Nor does the primary without having been asked.
    let from = region(WEST);
    world.give(
        EAST,
        vec![Input::Message {
            from,
            message: copy,
        }],
    );
    world.register(WEST, 0, "e");
    world.run(300);
    world.assert_equal();
}

#[test]
fn a_failed_commit_at_the_follower_is_asked_for_again() {
    let mut world = World::new();
    world.register(WEST, 0, "a");
    world.nodes[EAST]
        .store
        .inject(1, store::InjectedFault::DiskFull);
    world.deliver();
    assert!(world.nodes[EAST].was_told("disk full"));
    world.run(300);
    world.assert_equal();
}

#[test]
fn shipping_stops_at_the_window_and_goes_on_with_confirmations() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.run(300);
    world.loses = |m| matches!(m, Message::Acked { .. });
    world.nodes[WEST].sent.clear();
    for _ in 0..100 {
        world.reply(WEST, 0, telemetry("d", 1, 1, 200_000));
    }
    let shipped = |world: &World| -> usize {
        let pages = world.nodes[WEST].sent.iter().filter_map(|m| match m {
            Message::Records { records, .. } => Some(records),
            _ => None,
        });
        pages.flatten().map(Bytes::len).sum()
    };
    world.deliver();
    let most = limits::SHIP_WINDOW_BYTES_MAX + limits::SHIP_PAGE_BYTES_MAX;
    assert!(shipped(&world) <= most, "{}", shipped(&world));
    assert!(shipped(&world) >= limits::SHIP_WINDOW_BYTES_MAX);
    assert!(world.nodes[WEST].engine.partitions[&key(0)].tail_bytes() <= 4 * 1024 * 1024);
    world.loses = |_| false;
    world.run(3000);
    world.assert_equal();
}

#[test]
fn a_follower_that_lost_what_it_confirmed_shows_its_lag() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.register(WEST, 0, name);
    }
    world.run(300);
    assert_eq!(world.fact(WEST, 0).lag_records, 0);
    world.replace(EAST, MemoryStore::default());
    world.loses = |m| matches!(m, Message::Records { .. });
    world.roles(EAST, Role::Secondary, 1);
    world.run(300);
    assert!(world.fact(WEST, 0).lag_records > 0);
    world.loses = |_| false;
    world.run(3000);
    world.assert_equal();
}
