//! Nothing is answered before it is durable, and everything is answered once.

use super::*;
use store::{InjectedFault, StoreError};

#[test]
fn answers_leave_after_the_commit_and_survive_a_restart() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    world.run(300);
    assert!(matches!(world.reply(WEST, 0, get("d")), Reply::Json { .. }));
}

#[test]
fn a_full_disk_refuses_changes_nothing_and_heals() {
    let mut world = World::new();
    let before = world.head(WEST, 0);
    world.nodes[WEST].store.inject(1, InjectedFault::DiskFull);
    assert!(matches!(
        world.refusal(WEST, 0, put("d")),
        Refusal::Unavailable(_)
    ));
    assert_eq!(world.head(WEST, 0), before);
    assert!(matches!(
        world.refusal(WEST, 0, get("d")),
        Refusal::Reject(_)
    ));
    world.register(WEST, 0, "d");
    assert!(world.nodes[WEST].was_told("disk full"));
    world.run(300);
    world.assert_equal();
}

#[test]
fn a_failed_disk_leaves_the_outcome_open_until_it_is_read_again() {
    for (fault, there) in [
        (InjectedFault::FailedApplied, true),
        (InjectedFault::FailedLost, false),
    ] {
        let mut world = World::new();
        world.nodes[WEST].store.inject(1, fault);
        assert!(matches!(
            world.refusal(WEST, 0, put("d")),
            Refusal::OutcomeUnknown(_)
        ));
        assert!(matches!(
            world.refusal(WEST, 0, get("d")),
            Refusal::Unavailable(_)
        ));
        assert!(world.nodes[WEST].engine.trouble().is_some());
        world.run(100);
        assert!(world.nodes[WEST].engine.trouble().is_none());
        let question = world.ask(WEST, 0, get("d"));
        assert_eq!(world.answer(question).unwrap().is_ok(), there, "{fault:?}");
        world.register(WEST, 0, "e");
        world.run(3000);
        world.assert_equal();
    }
}

#[test]
fn a_failed_turn_takes_back_who_is_connected() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    let open = world.session(WEST, 0, "d", 2);
    world.nodes[WEST].store.inject(1, InjectedFault::DiskFull);
    let (_, session) = world.command(0, open);
    let (_, write) = world.command(0, put("e"));
    world.give(WEST, vec![session, write]);
    let live = &world.nodes[WEST].engine.partitions[&key(0)].live;
    assert_eq!(live.connected(), 1);
    let there = live.presence(&device("d")).map(|p| p.connection);
    assert_eq!(there, Some(ConnectionId(1)));
    world.assert_all_answered();
}

#[test]
fn connections_are_known_after_the_store_was_reopened() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.nodes[WEST].store.inject(1, InjectedFault::FailedLost);
    world.ask(WEST, 0, put("e"));
    world.run(100);
    assert_eq!(world.fact(WEST, 0).devices_connected, 1);
}

#[test]
fn a_hub_that_goes_in_the_middle_of_a_turn_leaves_no_question_open() {
    let mut world = World::new();
    let (write, input) = world.command(0, put("d"));
    let fence = world.next();
    let step = Input::Fence {
        hub: HUB,
        epoch: Epoch(1),
        reply: fence,
    };
    world.give(WEST, vec![input, step, Input::Roles(vec![])]);
    world.assert_all_answered();
    assert!(matches!(
        world.answer(write),
        Some(Err(Refusal::NotPrimary { .. }))
    ));
    assert!(matches!(world.answer(fence), Some(Err(Refusal::Step(_)))));
}

#[test]
fn recovery_in_the_middle_of_a_turn_answers_what_the_turn_held() {
    let mut world = World::new();
    let (_, write) = world.command(0, put("d"));
    let fence = world.next();
    let node = &mut world.nodes[WEST].engine;
    let (mut touched, mut out) = (super::super::Touched::default(), Vec::new());
    node.take(write, START, &mut touched, &mut out);
    let step = Input::Fence {
        hub: HUB,
        epoch: Epoch(1),
        reply: fence,
    };
    node.take(step, START, &mut touched, &mut out);
    node.failed = Some("a read failed".into());
    node.take(Input::Tick, START, &mut touched, &mut out);
    node.commit(START, &mut touched, &mut out);
    for output in out {
        world.perform(WEST, output);
    }
    world.assert_all_answered();
    assert!(matches!(
        world.answer(1),
        Some(Err(Refusal::Unavailable(_)))
    ));
    assert!(matches!(world.answer(fence), Some(Err(Refusal::Step(_)))));
    assert!(matches!(
        world.refusal(WEST, 0, get("d")),
        Refusal::Reject(_)
    ));
}

#[test]
fn a_partition_with_wrong_bytes_stops_alone() {
    let mut world = World::new();
    let (first, write) = world.command(0, put("d"));
    let (second, other) = world.command(1, put("e"));
    let engine = &mut world.nodes[WEST].engine;
    let (mut touched, mut out) = (super::super::Touched::default(), Vec::new());
    engine.take(write, START, &mut touched, &mut out);
    engine.take(other, START, &mut touched, &mut out);
    let corrupt = StoreError::Corrupt {
        partition: key(0),
        at: Lsn(1),
        why: "a flipped byte".into(),
    };
    engine
        .partitions
        .get_mut(&key(0))
        .unwrap()
        .turn
        .fail(corrupt);
    engine.commit(START, &mut touched, &mut out);
    for output in out {
        world.perform(WEST, output);
    }
    assert!(matches!(
        world.answer(first),
        Some(Err(Refusal::Unavailable(_)))
    ));
    assert!(matches!(world.answer(second), Some(Ok(_))));
    assert!(matches!(
        world.refusal(WEST, 0, get("d")),
        Refusal::Unavailable(_)
    ));
    assert!(matches!(world.fence(WEST, 1), Err(Refusal::Step(_))));
    assert_eq!(world.nodes[WEST].visible[&key(0)].1, None);
    world.register(WEST, 1, "f");
    assert_eq!(world.nodes[WEST].engine.hubs[&HUB].devices, 2);
}

#[test]
fn a_partition_that_is_damaged_on_disk_does_not_stop_its_region() {
    let mut world = World::new();
    world.register(WEST, 1, "e");
    // A head nobody can read.
    let commit = store::PartitionCommit {
        head: Some(Bytes::from_static(b"\xff")),
        ..store::PartitionCommit::default()
    };
    let store = world.nodes[WEST].store.clone();
    store.commit(vec![(key(0), commit)]).unwrap();
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    world.run(300);
    assert!(matches!(
        world.refusal(WEST, 0, get("d")),
        Refusal::Unavailable(_)
    ));
    assert!(matches!(world.reply(WEST, 1, get("e")), Reply::Json { .. }));
}

#[test]
fn a_turn_with_more_than_a_page_becomes_several_records() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    let before = world.head(WEST, 0);
    let mut inputs = Vec::new();
    for _ in 0..30 {
        inputs.push(world.command(0, telemetry("d", 1, 1, 100_000)).1);
    }
    world.give(WEST, inputs);
    let after = world.head(WEST, 0);
    assert_eq!(after.next_sequence.0 - before.next_sequence.0, 30);
    assert!(after.lsn.0 >= before.lsn.0 + 3, "{after:?}");
    for record in log_of(&world.nodes[WEST].store, 0) {
        assert!(record.bytes.len() < types::limits::SHIP_PAGE_BYTES_MAX + 300_000);
    }
    world.run(300);
    world.assert_equal();
    world.assert_all_answered();
}

#[test]
fn time_never_runs_backwards_in_a_partition() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.now = START.plus(60_000);
    world.reply(WEST, 0, telemetry("d", 1, 1, 10));
    world.now = START;
    world.reply(WEST, 0, telemetry("d", 1, 1, 10));
    world.run(300);
    world.fail_over(WEST, 1);
    world.now = START.plus(1000);
    world.register(EAST, 0, "later");
    let times: Vec<i64> = log_of(&world.nodes[EAST].store, 0)
        .iter()
        .map(|record| record.time.0)
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times.last(), Some(&(START.0 + 60_000)));
}

#[test]
fn devices_are_counted_over_partitions_also_within_a_turn() {
    let mut world = World::new();
    let inputs = (0..PARTITIONS)
        .map(|n| world.command(n, put(&format!("d{n}"))).1)
        .collect();
    world.give(WEST, inputs);
    assert_eq!(world.nodes[WEST].engine.hubs[&HUB].devices, 2);
    world.nodes[WEST].store.inject(1, InjectedFault::DiskFull);
    world.ask(WEST, 0, put("no"));
    assert_eq!(world.nodes[WEST].engine.hubs[&HUB].devices, 2);
    world.run(300);
    world.fail_over(WEST, 1);
    assert_eq!(world.nodes[EAST].engine.hubs[&HUB].devices, 2);
    let delete = RegistryCommand::Delete {
        device: device("d1"),
        if_match: IfMatch::Any,
    };
    world.reply(EAST, 1, Command::Registry(delete));
    assert_eq!(world.nodes[EAST].engine.hubs[&HUB].devices, 1);
}

#[test]
fn a_device_count_at_its_limit_holds_within_a_turn() {
    let mut world = World::new();
    let engine = &mut world.nodes[WEST].engine;
    engine.hubs.get_mut(&HUB).unwrap().devices = types::limits::DEVICES_PER_HUB_MAX - 1;
    let (first, a) = world.command(0, put("a"));
    let (second, b) = world.command(1, put("b"));
    world.give(WEST, vec![a, b]);
    assert!(matches!(world.answer(first), Some(Ok(_))));
    assert!(matches!(
        world.answer(second),
        Some(Err(Refusal::Reject(_)))
    ));
}
