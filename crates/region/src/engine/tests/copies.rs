//! A follower that is new, or too far behind, takes a copy.

use super::*;

const DAY: i64 = 24 * 3_600_000;

/// West's log is trimmed before east is there; state and some telemetry are kept.
fn trimmed() -> World {
    let options = MemoryOptions {
        segment_bytes_max: 20_000,
        record_steps: true,
        ..MemoryOptions::default()
    };
    let mut world = World::bare(Replication::Async, options);
    world.link(false);
    world.lead(WEST, 1);
    for n in 0..50 {
        world.register(WEST, 0, &format!("old-{n}"));
    }
    world.attach(WEST, 0, "d", 1);
    world.reply(WEST, 0, telemetry("d", 1, 1, 5000));
    world.now = world.now.plus(2 * DAY);
    for _ in 0..20 {
        world.reply(WEST, 0, telemetry("d", 1, 1, 5000));
    }
    world.register(WEST, 0, "new");
    assert!(world.nodes[WEST].store.trim(world.now).unwrap() > 0);
    let bounds = world.nodes[WEST].store.log_bounds(key(0)).unwrap().unwrap();
    assert!(bounds.first_lsn > Lsn(1));
    world
}

#[test]
fn a_new_follower_takes_state_and_kept_telemetry_and_then_follows() {
    let mut world = trimmed();
    world.link(true);
    world.run(500);
    assert!(world.nodes[EAST].was_told("the copy is complete"));
    world.assert_equal();
    let kept = |who: usize| log_of(&world.nodes[who].store, 0);
    assert_eq!(kept(EAST), kept(WEST));
    world.register(WEST, 0, "later");
    world.run(500);
    world.assert_equal();
    world.fail_over(WEST, 1);
    assert!(matches!(
        world.reply(EAST, 0, get("old-7")),
        Reply::Json { .. }
    ));
    world.register(EAST, 0, "last");
    world.run(500);
    world.assert_equal();
}

#[test]
fn the_primary_goes_on_writing_while_it_is_copied() {
    let mut world = trimmed();
    world.link(true);
    for n in 0..40 {
        world.register(WEST, 0, &format!("during-{n}"));
        for who in [WEST, EAST] {
            world.give(who, vec![Input::Tick]);
            if let Some(message) = world.nodes[who].inbox.pop_front() {
                let from = region(1 - who);
                world.give(who, vec![Input::Message { from, message }]);
            }
        }
    }
    world.run(5000);
    world.assert_equal();
    assert!(!world.nodes[EAST].was_told("again"));
}

#[test]
fn a_copy_that_was_cut_off_anywhere_begins_anew() {
    let mut world = trimmed();
    world.link(true);
    world.run(500);
    world.assert_equal();
    let images = world.nodes[EAST].store.crash_images();
    assert!(images.len() > 6);
    for (point, image) in images {
        world.replace(EAST, image);
        world.roles(EAST, Role::Secondary, 1);
        world.run(500);
        assert_eq!(world.fact(EAST, 0).broken, None, "{point:?}");
        world.assert_equal();
    }
}

#[test]
fn lost_pages_and_a_broken_link_begin_the_copy_anew() {
    let lost: [fn(&Message) -> bool; 4] = [
        |m| matches!(m, Message::StateNext { .. }),
        |m| matches!(m, Message::StatePage { .. }),
        |m| matches!(m, Message::LogNext { .. }),
        |m| matches!(m, Message::LogPage { .. }),
    ];
    for loses in lost {
        let mut world = trimmed();
        world.link(true);
        world.loses = loses;
        world.run(500);
        world.loses = |_| false;
        world.run(11_000);
        world.assert_equal();
    }
    let mut world = trimmed();
    world.link(true);
    world.loses = |m| matches!(m, Message::LogPage { .. });
    world.run(500);
    world.loses = |_| false;
    world.link(false);
    world.link(true);
    world.run(500);
    world.assert_equal();
}

#[test]
fn a_copy_whose_content_is_not_its_heads_is_not_used() {
    let mut world = trimmed();
    world.link(true);
    world.loses = |m| matches!(m, Message::StatePage { .. });
    world.run(200);
    world.loses = |_| false;
    // Some other page than the one that was lost.
    let id = world.nodes[EAST].sent.iter().rev().find_map(|m| match m {
        Message::StateNext { at, id, .. } if *at == key(0) => Some(*id),
        _ => None,
    });
    let message = Message::StatePage {
        at: key(0),
        id: id.unwrap(),
        entries: vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))],
    };
    let from = region(WEST);
    world.give(EAST, vec![Input::Message { from, message }]);
    world.run(1000);
    assert!(world.nodes[EAST].was_told("its digest is wrong"));
    world.run(11_000);
    world.assert_equal();
}

#[test]
fn a_region_with_half_a_copy_does_not_lead() {
    let mut world = trimmed();
    world.link(true);
    world.loses = |m| matches!(m, Message::LogPage { .. });
    world.run(500);
    world.link(false);
    // As if the link's end had not been heard: the copy is still under way.
    world.loses = |_| false;
    world.link(true);
    world.loses = |m| matches!(m, Message::LogPage { .. });
    world.run(200);
    assert_eq!(world.fact(EAST, 0).following, "copying");
    assert!(matches!(world.open(EAST, 2), Err(Refusal::Step(_))));
    assert!(world.nodes[EAST].was_told("its copy is not complete"));
    assert!(matches!(
        world.refusal(EAST, 0, get("d")),
        Refusal::Unavailable(_)
    ));
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_copy_begins_it_anew() {
    for nth in 1..5 {
        let mut world = trimmed();
        world.nodes[EAST]
            .store
            .inject(nth, store::InjectedFault::DiskFull);
        world.link(true);
        world.run(3000);
        world.assert_equal();
    }
}

#[test]
fn copies_end_with_the_primarys_role() {
    let mut world = trimmed();
    world.link(true);
    world.loses = |m| matches!(m, Message::StatePage { .. });
    world.run(200);
    assert!(!world.nodes[WEST].engine.copies.is_empty());
    world.roles(WEST, Role::Secondary, 2);
    assert!(world.nodes[WEST].engine.copies.is_empty());
}

#[test]
fn an_offered_copy_never_replaces_newer_records() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    world.loses = |_| true;
    world.run(3000);
    world.loses = |_| false;
    assert_eq!(world.fact(EAST, 0).following, "asked");
    let older = replication::Head::default();
    let message = Message::Bootstrap {
        at: key(0),
        id: 9,
        head: older.encode().into(),
    };
    let head = world.head(EAST, 0);
    let from = region(WEST);
    world.give(EAST, vec![Input::Message { from, message }]);
    assert_eq!(world.head(EAST, 0), head);
    assert_eq!(world.stored_digest(EAST, 0), head.state);
}
