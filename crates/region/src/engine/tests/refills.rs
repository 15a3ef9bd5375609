//! A primary that starts asks its partner first, and takes back what it lost.

use super::*;
use store::InjectedFault;

/// A hub with some records in both regions; west's disk can be put back to an earlier moment.
fn world() -> World {
    let mut world = World::bare(Replication::Async, recording());
    world.lead(WEST, 1);
    world.run(300);
    for n in 0..5 {
        world.register(WEST, 0, &format!("d{n}"));
    }
    world.run(300);
    world.assert_equal();
    world
}

/// West starts anew from the disk as it was after `last` of partition 0.
fn restore(world: &mut World, last: u64) {
    let image = cut_after(&world.nodes[WEST].store, Lsn(last));
    world.replace(WEST, image);
}

#[test]
fn what_the_partner_has_is_taken_back_before_the_hub_is_served() {
    let mut world = world();
    let end = world.head(EAST, 0);
    restore(&mut world, 3);
    world.loses = |m| matches!(m, Message::Records { .. });
    world.roles(WEST, Role::Primary, 1);
    world.run(300);
    let want = Refusal::Unavailable("refilling from east".into());
    assert_eq!(world.refusal(WEST, 0, get("d4")), want);
    let fact = world.fact(WEST, 0);
    assert_eq!((fact.open, fact.following.as_str()), (false, "refilling"));
    assert!(matches!(world.fence(WEST, 1), Err(Refusal::Step(_))));
    world.loses = |_| false;
    world.run(2500);
    assert_eq!(world.head(WEST, 0), end);
    assert!(matches!(
        world.reply(WEST, 0, get("d4")),
        Reply::Json { .. }
    ));
    world.register(WEST, 0, "e");
    world.run(2500);
    world.assert_equal();
    assert_eq!(world.nodes[WEST].engine.hubs[&HUB].devices, 6);
}

#[test]
fn a_disk_that_was_replaced_is_filled_again() {
    let mut world = world();
    world.replace(WEST, MemoryStore::default());
    world.roles(WEST, Role::Primary, 1);
    world.run(500);
    assert!(matches!(
        world.reply(WEST, 0, get("d0")),
        Reply::Json { .. }
    ));
    world.register(WEST, 0, "e");
    world.run(2500);
    world.assert_equal();
}

#[test]
fn a_replaced_disk_takes_a_copy_when_the_partners_log_is_trimmed() {
    let mut world = World::bare(
        Replication::Async,
        MemoryOptions {
            segment_bytes_max: 1000,
            ..recording()
        },
    );
    world.lead(WEST, 1);
    world.run(300);
    for n in 0..5 {
        world.register(WEST, 0, &format!("d{n}"));
    }
    world.now = world.now.plus(2 * 24 * 3_600_000);
    world.register(WEST, 0, "new");
    world.run(2500);
    assert!(world.nodes[EAST].store.trim(world.now).unwrap() > 0);
    let image = cut_after(&world.nodes[WEST].store, Lsn(3));
    world.replace(WEST, MemoryStore::default());
    world.roles(WEST, Role::Primary, 1);
    world.run(1000);
    assert!(world.nodes[WEST].was_told("the copy is complete"));
    world.register(WEST, 0, "e");
    world.run(2500);
    world.assert_equal();
    // With records of its own there is no way to tell whether they are the partner's: nothing is overwritten.
    world.replace(WEST, image);
    world.roles(WEST, Role::Primary, 1);
    world.run(1000);
    assert_eq!(world.head(WEST, 0).lsn, Lsn(3));
    assert!(world.nodes[WEST].was_told("no longer in its log"));
}

#[test]
fn equal_or_shorter_partners_let_the_primary_serve_after_one_question() {
    let mut world = world();
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    world.run(100);
    assert!(matches!(
        world.reply(WEST, 0, get("d4")),
        Reply::Json { .. }
    ));
    world.loses = |m| matches!(m, Message::Records { .. });
    world.register(WEST, 0, "only-here");
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    world.run(100);
    world.register(WEST, 0, "e");
    assert!(!world.nodes[WEST].was_told("taking them back"));
}

#[test]
fn another_history_at_the_partner_stops_the_partition() {
    let mut world = world();
    world.link(false);
    restore(&mut world, 4);
    world.roles(WEST, Role::Primary, 1);
    world.run(2500);
    assert!(world.nodes[WEST].was_told("could not be asked"));
    // It went on without the partner's records, and both have another record 5 now.
    world.register(WEST, 0, "other");
    let ours = world.head(WEST, 0);
    world.restart(WEST);
    world.link(true);
    world.roles(WEST, Role::Primary, 1);
    world.run(500);
    assert!(world.nodes[WEST].was_told("differs"));
    assert!(matches!(
        world.refusal(WEST, 0, get("d0")),
        Refusal::Unavailable(_)
    ));
    assert_eq!(world.head(WEST, 0), ours, "nothing is overwritten");
    assert_eq!(world.stored_digest(WEST, 0), ours.state);
    world.register(WEST, 1, "served");
}

#[test]
fn a_partner_that_cannot_be_asked_delays_the_start_two_seconds() {
    let mut world = world();
    world.link(false);
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    world.run(1900);
    assert!(matches!(
        world.refusal(WEST, 0, get("d0")),
        Refusal::NotPrimary { .. }
    ));
    world.run(200);
    assert!(matches!(
        world.reply(WEST, 0, get("d0")),
        Reply::Json { .. }
    ));
    assert!(world.nodes[WEST].was_told("could not be asked"));
}

#[test]
fn a_link_that_comes_up_in_time_is_used() {
    let mut world = world();
    let end = world.head(EAST, 0);
    world.link(false);
    restore(&mut world, 3);
    world.roles(WEST, Role::Primary, 1);
    world.run(1500);
    world.link(true);
    world.run(300);
    assert_eq!(world.head(WEST, 0), end);
    world.register(WEST, 0, "e");
}

#[test]
fn lost_questions_and_answers_are_repeated() {
    let lost: [fn(&Message) -> bool; 3] = [
        |m| matches!(m, Message::PositionAsked { .. }),
        |m| matches!(m, Message::Position { .. }),
        |m| matches!(m, Message::Refill { .. }),
    ];
    for loses in lost {
        let mut world = world();
        let end = world.head(EAST, 0);
        restore(&mut world, 3);
        world.loses = loses;
        world.roles(WEST, Role::Primary, 1);
        world.run(1000);
        world.loses = |_| false;
        world.run(2500);
        assert_eq!(world.head(WEST, 0), end);
        world.register(WEST, 0, "e");
    }
}

#[test]
fn a_hub_made_while_the_region_runs_is_served_at_once() {
    let mut world = World::bare(Replication::Async, MemoryOptions::default());
    world.link(false);
    world.lead(WEST, 1);
    world.register(WEST, 0, "d");
}

#[test]
fn a_lost_fence_is_found_again_at_the_partner() {
    let mut world = world();
    let before = world.head(WEST, 0).lsn.0;
    world.fence(WEST, 1).unwrap();
    world.run(300);
    restore(&mut world, before);
    world.roles(WEST, Role::Primary, 1);
    world.run(500);
    assert_eq!(world.refusal(WEST, 0, put("e")), Refusal::FailingOver);
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    assert_eq!(world.refusal(WEST, 0, put("e")), Refusal::FailingOver);
}

#[test]
fn records_given_up_by_a_forced_failover_do_not_come_back() {
    let mut world = world();
    world.loses = |m| matches!(m, Message::Records { .. });
    world.register(WEST, 0, "given-up-1");
    world.register(WEST, 0, "given-up-2");
    world.register(WEST, 0, "given-up-3");
    // Forced: east leads from what it has, and west learns it later.
    world.roles(EAST, Role::Primary, 2);
    world.loses = |_| false;
    let ours = world.head(EAST, 0);
    world.roles(WEST, Role::Secondary, 2);
    world.restart(EAST);
    world.roles(EAST, Role::Primary, 2);
    world.run(500);
    assert_eq!(world.head(EAST, 0), ours);
    world.register(EAST, 0, "e");
    assert!(matches!(
        world.refusal(EAST, 0, get("given-up-1")),
        Refusal::Reject(_)
    ));
}

#[test]
fn a_store_that_fails_in_the_middle_of_refilling_goes_on_after_it_was_reopened() {
    let mut world = world();
    let end = world.head(EAST, 0);
    restore(&mut world, 3);
    world.nodes[WEST].store.inject(1, InjectedFault::FailedLost);
    world.roles(WEST, Role::Primary, 1);
    world.run(1000);
    assert_eq!(world.head(WEST, 0), end);
    world.register(WEST, 0, "e");
    world.run(2500);
    world.assert_equal();
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_refilling_does_not_open_early() {
    let mut world = world();
    let end = world.head(EAST, 0);
    restore(&mut world, 3);
    world.nodes[WEST].store.inject(1, InjectedFault::DiskFull);
    world.roles(WEST, Role::Primary, 1);
    world.run(1000);
    assert_eq!(world.head(WEST, 0), end);
    world.register(WEST, 0, "e");
}

#[test]
fn a_region_told_to_follow_while_it_refills_follows() {
    let mut world = world();
    restore(&mut world, 3);
    world.loses = |m| matches!(m, Message::Records { .. });
    world.roles(WEST, Role::Primary, 1);
    world.run(300);
    world.loses = |_| false;
    world.lead(EAST, 2);
    world.register(EAST, 0, "e");
    world.run(2500);
    world.assert_equal();
}
