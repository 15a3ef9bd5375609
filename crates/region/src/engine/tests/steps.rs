//! The steps of a planned failover: fence, catch up, open, and the way back.

use super::*;
use store::InjectedFault;

#[test]
fn commands_before_the_fence_are_acknowledged_and_those_after_it_refused() {
    let mut world = World::new();
    let (before, first) = world.command(0, put("d"));
    let (after, second) = world.command(0, put("e"));
    let fence = world.next();
    let step = Input::Fence {
        hub: HUB,
        epoch: Epoch(1),
        reply: fence,
    };
    world.give(WEST, vec![first, step, second]);
    assert!(matches!(world.answer(before), Some(Ok(_))));
    assert!(matches!(world.answer(fence), Some(Ok(Answer::Fenced(_)))));
    assert_eq!(world.answer(after), Some(&Err(Refusal::FailingOver)));
}

#[test]
fn a_fence_is_durable_and_repeats_its_answer() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    let handovers = world.fence(WEST, 1).unwrap();
    assert_eq!(world.fence(WEST, 1).unwrap(), handovers);
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    assert_eq!(world.refusal(WEST, 0, put("e")), Refusal::FailingOver);
    assert_eq!(world.fence(WEST, 1).unwrap(), handovers);
    world.run(5000);
    assert_eq!(world.refusal(WEST, 0, put("e")), Refusal::FailingOver);
}

#[test]
fn a_fence_is_for_the_epoch_this_region_leads() {
    let mut world = World::new();
    for (who, epoch) in [(WEST, 0), (WEST, 2), (EAST, 1)] {
        assert!(matches!(world.fence(who, epoch), Err(Refusal::Step(_))));
    }
    world.register(WEST, 0, "d");
}

#[test]
fn a_fence_that_is_not_durable_does_not_hold() {
    let mut world = World::new();
    world.nodes[WEST].store.inject(1, InjectedFault::DiskFull);
    assert!(matches!(world.fence(WEST, 1), Err(Refusal::Step(_))));
    world.register(WEST, 0, "d");
    world.fence(WEST, 1).unwrap();
}

#[test]
fn a_lifted_fence_goes_on_at_the_same_epoch_and_the_follower_takes_it() {
    let mut world = World::new();
    world.fence(WEST, 1).unwrap();
    let question = world.step(WEST, |reply| Input::Unfence {
        hub: HUB,
        epoch: Epoch(1),
        reply,
    });
    assert!(matches!(
        world.answer(question),
        Some(Ok(Answer::Opened(_)))
    ));
    world.register(WEST, 0, "d");
    world.run(300);
    assert_eq!(world.head(EAST, 0).epoch, Epoch(1));
    world.assert_equal();
    world.fail_over(WEST, 1);
    world.register(EAST, 0, "e");
}

#[test]
fn catching_up_waits_for_the_last_record_and_compares_digests() {
    let mut world = World::new();
    world.link(false);
    world.register(WEST, 0, "d");
    let handovers = world.fence(WEST, 1).unwrap();
    let question = world.catch_up(EAST, handovers.clone());
    assert_eq!(world.answer(question), None);
    world.link(true);
    world.run(300);
    assert_eq!(
        world.answer(question),
        Some(&Ok(Answer::CaughtUp(handovers)))
    );
}

#[test]
fn catching_up_is_refused_when_digests_or_partitions_differ() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    let handovers = world.fence(WEST, 1).unwrap();
    world.run(300);
    let mut check = |change: fn(&mut Vec<Handover>)| {
        let mut other = handovers.clone();
        change(&mut other);
        let question = world.catch_up(EAST, other);
        assert!(matches!(
            world.answer(question),
            Some(Err(Refusal::Step(_)))
        ));
    };
    check(|h| h[0].state = "0".repeat(32));
    check(|h| h[1].chain ^= 1);
    check(|h| h[1].crc ^= 1);
    check(|h| h[0].next_sequence.0 += 1);
    check(|h| drop(h.pop()));
    check(|h| h[1] = h[0].clone());
    check(Vec::clear);
}

#[test]
fn catching_up_is_refused_when_the_primary_went_on_or_a_partition_is_stopped() {
    let mut world = World::new();
    let handovers = world.fence(WEST, 1).unwrap();
    world.step(WEST, |reply| Input::Unfence {
        hub: HUB,
        epoch: Epoch(1),
        reply,
    });
    world.run(300);
    let question = world.catch_up(EAST, handovers.clone());
    assert!(matches!(
        world.answer(question),
        Some(Err(Refusal::Step(_)))
    ));
    let engine = &mut world.nodes[EAST].engine;
    engine.partitions.get_mut(&key(0)).unwrap().broken = Some("wrong bytes".into());
    let question = world.catch_up(EAST, handovers);
    assert!(
        matches!(world.answer(question), Some(Err(Refusal::Step(why))) if why.contains("wrong bytes"))
    );
}

#[test]
fn nobody_waits_for_a_handover_longer_than_a_failover_may_last() {
    let mut world = World::new();
    world.link(false);
    world.register(WEST, 0, "d");
    let handovers = world.fence(WEST, 1).unwrap();
    let question = world.catch_up(EAST, handovers);
    world.run(4000);
    assert_eq!(world.answer(question), None);
    world.run(1500);
    assert!(matches!(
        world.answer(question),
        Some(Err(Refusal::Step(_)))
    ));
}

#[test]
fn opening_twice_is_opening_once_and_older_or_foreign_roles_open_nothing() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    world.fail_over(WEST, 1);
    let head = world.head(EAST, 0);
    assert!(matches!(world.open(EAST, 2), Ok(Answer::Opened(_))));
    assert_eq!(world.head(EAST, 0), head);
    assert!(matches!(world.open(EAST, 1), Err(Refusal::Step(_))));
    let role = world.role(EAST, Role::Secondary, 3);
    let question = world.step(EAST, |reply| Input::Open { role, reply });
    assert!(matches!(
        world.answer(question),
        Some(Err(Refusal::Step(_)))
    ));
    world.register(EAST, 0, "e");
}

#[test]
fn an_open_that_is_not_durable_is_refused_and_done_later() {
    let mut world = World::new();
    let handovers = world.fence(WEST, 1).unwrap();
    world.catch_up(EAST, handovers);
    world.run(100);
    world.nodes[EAST].store.inject(1, InjectedFault::DiskFull);
    assert!(matches!(world.open(EAST, 2), Err(Refusal::Step(_))));
    assert_eq!(
        world.nodes[EAST].visible[&key(0)].1,
        None,
        "readers wait for it"
    );
    assert!(matches!(
        world.refusal(EAST, 0, put("d")),
        Refusal::NotPrimary { .. }
    ));
    world.run(100);
    assert!(matches!(world.open(EAST, 2), Ok(Answer::Opened(_))));
    assert_eq!(world.nodes[EAST].visible[&key(0)].1, Some(Epoch(2)));
    world.register(EAST, 0, "d");
}

#[test]
fn an_open_after_a_handover_asks_nobody() {
    let mut world = World::new();
    let handovers = world.fence(WEST, 1).unwrap();
    let question = world.catch_up(EAST, handovers);
    world.deliver();
    assert!(matches!(world.answer(question), Some(Ok(_))));
    world.link(false);
    assert!(matches!(world.open(EAST, 2), Ok(Answer::Opened(_))));
    world.register(EAST, 0, "d");
}

#[test]
fn the_old_primary_follows_from_its_handover_without_a_copy_there_and_back() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    world.fail_over(WEST, 1);
    world.register(EAST, 0, "e");
    world.run(300);
    world.assert_equal();
    assert!(world.fact(EAST, 0).follower_connected);
    world.fail_over(EAST, 2);
    world.register(WEST, 0, "f");
    world.run(300);
    world.assert_equal();
    let copied = |m: &Message| matches!(m, Message::Bootstrap { .. });
    assert!(!world.nodes.iter().any(|node| node.sent.iter().any(copied)));
    assert_eq!(world.head(WEST, 0).epoch, Epoch(3));
}

#[test]
fn roles_that_change_in_a_turn_take_its_fence_back() {
    let mut world = World::new();
    let (write, input) = world.command(0, put("d"));
    let fence = world.next();
    let step = Input::Fence {
        hub: HUB,
        epoch: Epoch(1),
        reply: fence,
    };
    let role = world.role(WEST, Role::Secondary, 2);
    let before = world.head(WEST, 0);
    world.give(WEST, vec![input, step, Input::Roles(vec![role])]);
    assert_eq!(
        world.answer(write),
        Some(&Err(Refusal::NotPrimary { epoch: Epoch(2) }))
    );
    assert!(matches!(world.answer(fence), Some(Err(Refusal::Step(_)))));
    assert_eq!(world.head(WEST, 0), before);
}

fn opened(outcome: Outcome) -> Vec<Handover> {
    match outcome {
        Ok(Answer::Opened(opened)) => opened,
        other => panic!("not opened: {other:?}"),
    }
}

/// The same positions, as they are known once the partition is open.
fn without_digests(handovers: &[Handover]) -> Vec<Handover> {
    let positions = handovers.iter().map(|handover| Handover {
        chain: 0,
        state: String::new(),
        ..handover.clone()
    });
    positions.collect()
}

#[test]
fn an_open_says_where_each_partition_stood_and_says_so_again() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.reply(WEST, 0, telemetry("d", 1, 3, 10));
    let handovers = world.fence(WEST, 1).unwrap();
    world.catch_up(EAST, handovers.clone());
    world.deliver();
    let first = opened(world.open(EAST, 2));
    assert_eq!(first, handovers);
    assert_eq!(first[0].next_sequence, Sequence(3));

    world.attach(EAST, 0, "e", 2);
    for _ in 0..9 {
        world.reply(EAST, 0, telemetry("e", 2, 1, 10));
    }
    let again = opened(world.open(EAST, 2));
    assert_eq!(again, without_digests(&handovers));
    world.restart(EAST);
    assert_eq!(opened_after_restart(&mut world), again);
}

fn opened_after_restart(world: &mut World) -> Vec<Handover> {
    world.lead(EAST, 2);
    world.run(3000);
    opened(world.open(EAST, 2))
}

#[test]
fn an_open_that_roles_came_before_says_the_same() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    let heads: Vec<_> = (0..PARTITIONS).map(|n| world.head(EAST, n)).collect();
    let reply = world.next();
    let role = world.role(EAST, Role::Primary, 2);
    let open = Input::Open {
        role: role.clone(),
        reply,
    };
    world.give(EAST, vec![Input::Roles(vec![role]), open]);
    let opened = opened(world.answer(reply).unwrap().clone());
    let places = opened.iter().map(|h| (h.lsn, h.crc, h.next_sequence));
    let want = heads.iter().map(|h| (h.lsn, h.crc, h.next_sequence));
    assert!(places.eq(want), "{opened:?}");
}

#[test]
fn a_new_hub_opens_at_the_beginning() {
    let mut world = World::bare(Replication::Async, MemoryOptions::default());
    let opened = opened(world.open(WEST, 1));
    assert_eq!(opened.len(), usize::from(PARTITIONS));
    assert!(opened.iter().all(|h| h.lsn == Lsn(0) && h.crc == 0));
}
