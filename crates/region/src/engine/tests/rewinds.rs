//! A region whose records the other one never got comes back: nothing is lost silently, and nothing whole is copied.

use super::*;
use crate::engine::follower::stored_digest;
use proptest::prelude::*;
use store::Salvage;

/// The link breaks, `lost` happens in west, then east leads at the next epoch and west learns of it as its secondary.
fn forced(world: &mut World, epoch: u64, lost: impl FnOnce(&mut World)) {
    world.link(false);
    lost(world);
    world.lead(EAST, epoch);
}

fn salvages(world: &World, who: usize) -> Vec<Salvage> {
    world.nodes[who].store.salvages().unwrap()
}

fn returned(world: &mut World, who: usize) {
    for fact in world.facts(who) {
        assert_eq!((fact.broken, fact.returning), (None, None), "{who}");
    }
    world.assert_equal();
}

/// Everything from `after` on as it was, page by page.
fn salvaged(store: &MemoryStore, salvage: &Salvage) -> Vec<store::LogRecord> {
    let mut next = salvage.first;
    let mut all = Vec::new();
    loop {
        let page = store.read_salvage(&salvage.id, next, 300).unwrap();
        let Some(last) = page.last() else { return all };
        next = last.lsn.next();
        all.extend(page);
    }
}

fn body(reply: &Reply) -> bool {
    matches!(reply, Reply::Json { .. })
}

fn has(world: &mut World, who: usize, name: &str) -> bool {
    let question = world.ask(who, 0, get(name));
    match world.answer(question) {
        Some(Ok(Answer::Reply(reply))) => body(reply),
        Some(Err(Refusal::Reject(_))) => false,
        other => panic!("{other:?}"),
    }
}

fn delete(name: &str) -> Command {
    Command::Registry(RegistryCommand::Delete {
        device: device(name),
        if_match: IfMatch::Any,
    })
}

#[test]
fn records_only_the_lost_region_has_are_set_aside_and_it_follows_again() {
    let mut world = World::new();
    world.register(WEST, 0, "both");
    world.register(WEST, 0, "deleted-in-west");
    world.run(300);
    let common = world.head(WEST, 0);
    forced(&mut world, 2, |world| {
        world.register(WEST, 0, "only-west");
        world.reply(WEST, 0, delete("deleted-in-west"));
        world.attach(WEST, 0, "sender", 1);
        world.reply(WEST, 0, telemetry("sender", 1, 3, 10));
    });
    let lost: Vec<_> = log_of(&world.nodes[WEST].store, 0)
        .into_iter()
        .filter(|record| record.lsn > common.lsn)
        .collect();
    world.register(EAST, 0, "only-east");
    world.link(true);
    world.run(1000);
    returned(&mut world, WEST);
    let all = salvages(&world, WEST);
    assert_eq!(all.len(), 1, "partition 1 had nothing of its own");
    let salvage = &all[0];
    assert_eq!(salvage.id, format!("h7-p0-e1-{}", common.lsn.next()));
    assert_eq!((salvage.epoch, salvage.events), (Epoch(1), 3));
    assert_eq!(salvaged(&world.nodes[WEST].store, salvage), lost);
    assert_eq!(
        world.nodes[WEST].engine.stats.salvaged_records,
        lost.len() as u64
    );
    assert!(!world.nodes[WEST].was_told("taking"));
    // And back, as planned.
    world.fail_over(EAST, 2);
    for (name, there) in [
        ("both", true),
        ("deleted-in-west", true),
        ("only-west", false),
        ("only-east", true),
    ] {
        assert_eq!(has(&mut world, WEST, name), there, "{name}");
    }
    world.register(WEST, 0, "later");
    world.run(300);
    world.assert_equal();
}

#[test]
fn a_region_without_records_of_its_own_just_follows() {
    for behind in [false, true] {
        let mut world = World::bare(Replication::Async, recording());
        world.lead(WEST, 1);
        world.register(WEST, 0, "both");
        world.register(WEST, 0, "both-too");
        world.run(300);
        let last = world.head(WEST, 0).lsn;
        forced(&mut world, 2, |world| {
            if behind {
                // A disk restored from an older image.
                let older = cut_after(&world.nodes[WEST].store, Lsn(last.0 - 1));
                world.replace(WEST, older);
            }
        });
        world.register(EAST, 0, "only-east");
        world.link(true);
        world.run(3000);
        returned(&mut world, WEST);
        assert_eq!(salvages(&world, WEST), []);
        assert!(!world.nodes[WEST].was_told("set aside"));
    }
}

#[test]
fn bytes_of_a_return_grow_with_the_change_not_with_the_hub() {
    let mut spent = Vec::new();
    for devices in [500, 20_000] {
        let mut world = World::new();
        for n in 0..devices {
            let state = vec![(
                Bytes::from(format!("kfill-{n:05}")),
                Some(Bytes::from(vec![b'v'; 100])),
            )];
            let partition = world.nodes[WEST]
                .engine
                .partitions
                .get_mut(&key(0))
                .unwrap();
            for (name, value) in state {
                partition.turn.put(name, value);
            }
            if n % 500 == 499 {
                let input = world.command(0, put(&format!("tick-{n}"))).1;
                world.give(WEST, vec![input]);
                world.run(100);
            }
        }
        world.run(500);
        world.assert_equal();
        forced(&mut world, 2, |world| {
            for n in 0..50 {
                world.register(WEST, 0, &format!("lost-{n}"));
            }
        });
        world.register(EAST, 0, "only-east");
        world.link(true);
        world.run(1000);
        returned(&mut world, WEST);
        let stats = &world.nodes[WEST].engine.stats;
        assert_eq!(stats.salvaged_records, 50);
        spent.push(stats.rewind_bytes);
    }
    let (small, large) = (spent[0], spent[1]);
    assert!(
        small > 0 && large < small + small / 10,
        "{small} and {large}"
    );
    assert!(large < 30_000, "20,000 entries are 2.2 MB: {large}");
}

#[test]
fn more_changed_keys_than_a_page_are_taken_back() {
    let mut world = World::new();
    world.register(WEST, 0, "both");
    world.run(300);
    forced(&mut world, 2, |world| {
        for round in 0..3 {
            for n in 0..1500 {
                let partition = world.nodes[WEST]
                    .engine
                    .partitions
                    .get_mut(&key(0))
                    .unwrap();
                let name = Bytes::from(format!("kpage-{:05}", n + round * 700));
                partition.turn.put(name, Some(Bytes::from(vec![b'v'; 50])));
            }
            world.register(WEST, 0, &format!("round-{round}"));
        }
    });
    world.link(true);
    world.run(1000);
    returned(&mut world, WEST);
    let asked = |m: &&Message| matches!(m, Message::DifferenceAsked { .. });
    assert!(world.nodes[WEST].sent.iter().filter(asked).count() >= 3);
}

#[test]
fn lost_messages_of_a_return_are_asked_for_again() {
    let kinds: [fn(&Message) -> bool; 5] = [
        |m| matches!(m, Message::Diverged { .. }),
        |m| matches!(m, Message::CrcAsked { .. }),
        |m| matches!(m, Message::Crc { .. }),
        |m| matches!(m, Message::DifferenceAsked { .. }),
        |m| matches!(m, Message::Difference { .. }),
    ];
    for loses in kinds {
        for breaks in [false, true] {
            let mut world = World::new();
            world.register(WEST, 0, "both");
            world.run(300);
            forced(&mut world, 2, |world| world.register(WEST, 0, "only-west"));
            world.link(true);
            world.loses = loses;
            world.run(500);
            assert_ne!(world.head(WEST, 0).crc, world.head(EAST, 0).crc);
            world.loses = |_| false;
            if breaks {
                world.link(false);
                world.link(true);
            }
            world.run(12_000);
            returned(&mut world, WEST);
            assert_eq!(salvages(&world, WEST).len(), 1);
        }
    }
}

/// East leads and has a change of its own; west has lost ones and is about to return, on a disk that is recorded.
fn about_to_return() -> World {
    let mut world = World::bare(Replication::Async, recording());
    world.lead(WEST, 1);
    world.run(300);
    for name in ["a", "b", "c"] {
        world.register(WEST, 0, name);
    }
    world.run(300);
    forced(&mut world, 2, |world| {
        world.register(WEST, 0, "only-west");
        world.reply(WEST, 0, delete("a"));
        world.attach(WEST, 0, "sender", 1);
        world.reply(WEST, 0, telemetry("sender", 1, 5, 100));
    });
    world.register(EAST, 0, "only-east");
    world.register(EAST, 0, "only-west");
    world
}

#[test]
fn a_crash_at_any_moment_of_a_return_repeats_nothing_and_loses_nothing() {
    let mut world = about_to_return();
    let before = world.nodes[WEST].store.crash_images().len();
    let lost = log_of(&world.nodes[WEST].store, 0);
    world.link(true);
    world.run(1000);
    returned(&mut world, WEST);
    let salvage = salvages(&world, WEST);
    let images: Vec<_> = world.nodes[WEST].store.crash_images().split_off(before - 1);
    assert!(images.len() > 10);
    let mut returning = 0;
    for (point, image) in images {
        world.replace(WEST, image.clone());
        world.link(false);
        world.roles(WEST, Role::Secondary, 2);
        let fact = world.fact(WEST, 0);
        assert_eq!(fact.broken, None, "{point:?}");
        assert_eq!(
            stored_digest(&image, key(0)).unwrap(),
            world.head(WEST, 0).state,
            "{point:?}"
        );
        if fact.returning.is_some() {
            returning += 1;
            assert_eq!(
                salvages(&world, WEST).len(),
                1,
                "set aside before: {point:?}"
            );
        }
        world.link(true);
        world.run(1000);
        returned(&mut world, WEST);
        assert!(!world.nodes[WEST].was_told("taking the whole"), "{point:?}");
        let again = salvages(&world, WEST);
        assert_eq!(again.len(), 1, "{point:?}");
        assert_eq!(again[0].id, salvage[0].id);
        let records = salvaged(&image, &again[0]);
        let first = records[0].lsn;
        let tail: Vec<_> = lost.iter().filter(|r| r.lsn >= first).cloned().collect();
        assert_eq!(records, tail, "{point:?}");
    }
    assert!(returning > 5);
}

#[test]
fn a_returning_region_cannot_be_made_primary_also_after_a_restart() {
    let loses: [fn(&Message) -> bool; 2] = [
        |m| matches!(m, Message::Difference { .. }),
        |m| matches!(m, Message::Records { .. }),
    ];
    for loses in loses {
        let mut world = about_to_return();
        world.link(true);
        world.loses = loses;
        world.run(500);
        for restarts in [false, true] {
            if restarts {
                world.restart(WEST);
                world.roles(WEST, Role::Secondary, 2);
            }
            let fact = world.fact(WEST, 0);
            let why = fact.returning.expect("it is returning");
            assert!(why.contains("set aside"), "{why}");
        }
        let Err(Refusal::Step(refused)) = world.open(WEST, 3) else {
            panic!("opened");
        };
        assert!(refused.contains("set aside"), "{refused}");
        assert!(world.nodes[WEST].was_told("not served"));
        assert!(matches!(
            world.refusal(WEST, 0, get("a")),
            Refusal::Unavailable(_)
        ));
        let told = world.nodes[WEST].alarms.len();
        world.run(1000);
        assert_eq!(world.nodes[WEST].alarms.len(), told, "said once");
        // Told to follow again, it comes to its end.
        world.loses = |_| false;
        world.lead(EAST, 4);
        world.run(12_000);
        returned(&mut world, WEST);
    }
}

#[test]
fn a_source_that_restarts_or_trims_in_the_middle_is_returned_to_all_the_same() {
    for trims in [false, true] {
        let mut world = about_to_return();
        world.link(true);
        world.loses = |m| matches!(m, Message::Difference { .. });
        world.run(500);
        if trims {
            world.now = world.now.plus(3 * 24 * 3_600_000);
            world.register(EAST, 0, "much-later");
            assert!(world.nodes[EAST].store.trim(world.now).unwrap() > 0);
        } else {
            world.restart(EAST);
            world.roles(EAST, Role::Primary, 2);
        }
        world.loses = |_| false;
        world.run(15_000);
        returned(&mut world, WEST);
        assert_eq!(salvages(&world, WEST).len(), 1);
    }
}

#[test]
fn without_a_common_record_only_what_is_foreign_is_set_aside_and_all_is_copied() {
    let mut world = about_to_return();
    let common = salvage_start(&mut world);
    world.now = world.now.plus(3 * 24 * 3_600_000);
    world.register(EAST, 0, "much-later");
    assert!(world.nodes[EAST].store.trim(world.now).unwrap() > 0);
    world.link(true);
    world.run(3000);
    returned(&mut world, WEST);
    let all = salvages(&world, WEST);
    let of_partition: Vec<_> = all.iter().filter(|s| s.at == key(0)).collect();
    assert_eq!(of_partition.len(), 1, "{all:?}");
    assert_eq!(of_partition[0].first, common.next());
    assert!(world.nodes[WEST].was_told("taking a copy"));
}

/// The last record that both have.
fn salvage_start(world: &mut World) -> Lsn {
    let east = log_of(&world.nodes[EAST].store, 0);
    let west = log_of(&world.nodes[WEST].store, 0);
    let same = east.iter().zip(&west).take_while(|(a, b)| a == b);
    same.last().expect("they began together").0.lsn
}

#[test]
fn a_second_divergence_leaves_a_second_salvage() {
    let mut world = about_to_return();
    world.link(true);
    world.run(1000);
    returned(&mut world, WEST);
    // East leads at 2; west is forced to lead at 3 while east writes on.
    world.link(false);
    world.register(EAST, 0, "only-east-again");
    world.lead(WEST, 3);
    world.register(WEST, 0, "only-west-again");
    world.link(true);
    world.run(1000);
    returned(&mut world, EAST);
    // And once more the other way, also within the epoch that west began.
    forced(&mut world, 4, |world| world.register(WEST, 0, "third"));
    world.link(true);
    world.run(1000);
    returned(&mut world, WEST);
    assert_eq!(salvages(&world, EAST).len(), 1);
    let ids: Vec<_> = salvages(&world, WEST).iter().map(|s| s.epoch).collect();
    assert_eq!(ids, [Epoch(1), Epoch(3)]);
}

#[test]
fn a_loser_whose_own_records_are_of_several_epochs_gives_them_all_up() {
    let mut world = World::new();
    world.register(WEST, 0, "both");
    world.run(300);
    let common = world.head(WEST, 0).lsn;
    world.link(false);
    // West opens again at 2 and at 3 alone, east is made the primary at 4.
    for epoch in [2, 3] {
        world.roles(WEST, Role::Primary, epoch);
        world.register(WEST, 0, &format!("west-{epoch}"));
    }
    world.lead(EAST, 4);
    world.register(EAST, 0, "only-east");
    world.link(true);
    world.run(1000);
    returned(&mut world, WEST);
    let all = salvages(&world, WEST);
    let salvage = all.iter().find(|s| s.at == key(0)).unwrap();
    assert_eq!((salvage.first, salvage.epoch), (common.next(), Epoch(3)));
    assert_eq!(salvage.records, 4);
}

#[test]
fn content_that_is_not_the_sources_at_the_end_is_copied_whole_and_the_salvage_stays() {
    let mut world = about_to_return();
    world.link(true);
    world.loses = |m| matches!(m, Message::Records { .. });
    world.run(500);
    // A disk that changes what was taken back.
    let head = world.head(WEST, 0);
    assert!(head.rewind.is_some());
    let store = world.nodes[WEST].store.clone();
    let wrong = (
        Bytes::from_static(b"kwrong"),
        Some(Bytes::from_static(b"x")),
    );
    let mut sum = replication::StateDigest(head.state);
    sum.change(&wrong.0, None, wrong.1.as_deref());
    let head = replication::Head {
        state: sum.0,
        ..head
    };
    let commit = store::PartitionCommit {
        state: vec![wrong],
        head: Some(head.encode().into()),
        ..store::PartitionCommit::default()
    };
    store.commit(vec![(key(0), commit)]).unwrap();
    world.restart(WEST);
    world.roles(WEST, Role::Secondary, 2);
    world.loses = |_| false;
    world.run(12_000);
    assert!(world.nodes[WEST].was_told("taking the whole partition anew"));
    returned(&mut world, WEST);
    assert_eq!(salvages(&world, WEST).len(), 1);
}

#[test]
fn a_full_disk_delays_a_return_and_nothing_else() {
    for nth in 1..4 {
        let mut world = about_to_return();
        world.nodes[WEST]
            .store
            .inject(nth, store::InjectedFault::DiskFull);
        world.link(true);
        world.run(8000);
        returned(&mut world, WEST);
        assert_eq!(salvages(&world, WEST).len(), 1);
    }
    let mut world = about_to_return();
    world.nodes[WEST].store.set_capacity(0);
    world.link(true);
    world.run(8000);
    let said = world.nodes[WEST].alarms.iter();
    assert_eq!(said.filter(|text| text.contains("giving way")).count(), 1);
    world.nodes[WEST].store.set_capacity(u64::MAX);
    world.run(5000);
    returned(&mut world, WEST);
}

#[test]
fn a_store_that_fails_during_a_return_is_reopened_and_it_goes_on() {
    for fault in [
        store::InjectedFault::FailedApplied,
        store::InjectedFault::FailedLost,
    ] {
        for nth in 1..5 {
            let mut world = about_to_return();
            world.nodes[WEST].store.inject(nth, fault);
            world.link(true);
            world.run(15_000);
            returned(&mut world, WEST);
            assert_eq!(salvages(&world, WEST).len(), 1);
        }
    }
}

#[test]
fn what_was_set_aside_goes_with_its_hub() {
    for restarts in [false, true] {
        let mut world = about_to_return();
        world.link(true);
        world.run(1000);
        assert_eq!(salvages(&world, WEST).len(), 1);
        if restarts {
            world.restart(WEST);
        }
        world.give(WEST, vec![Input::Roles(vec![]), Input::DropUnknown]);
        assert_eq!(salvages(&world, WEST), []);
    }
}

#[test]
fn nobody_but_the_source_drives_a_return_and_only_when_asked() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    let head = world.head(EAST, 0);
    let theirs = replication::Head {
        epoch: Epoch(9),
        opened: Lsn(1),
        ..head
    };
    let diverged = Message::Diverged {
        at: key(0),
        head: theirs.encode().into(),
        kept: Lsn(0),
    };
    let difference = Message::Difference {
        at: key(0),
        id: 1,
        head: theirs.encode().into(),
        entries: vec![(Bytes::from_static(b"k"), None)],
    };
    for (who, from) in [
        (EAST, region(WEST)),
        (WEST, region(EAST)),
        (EAST, RegionName::parse("north").unwrap()),
    ] {
        for message in [diverged.clone(), difference.clone()] {
            let from = from.clone();
            world.give(who, vec![Input::Message { from, message }]);
        }
    }
    assert_eq!(world.head(EAST, 0), head);
    assert_eq!(world.fact(EAST, 0).returning, None);
    world.assert_equal();
}

#[derive(Clone, Debug)]
enum Deed {
    Register(u8),
    Delete(u8),
    Send(u8),
    Run(u16),
}

fn deeds(most: usize) -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        3 => (0u8..12).prop_map(Deed::Register),
        2 => (0u8..12).prop_map(Deed::Delete),
        2 => (1u8..5).prop_map(Deed::Send),
        1 => (0u16..4).prop_map(|tenths| Deed::Run(tenths * 100)),
    ];
    proptest::collection::vec(deed, 0..most)
}

fn perform(world: &mut World, who: usize, deeds: &[Deed]) {
    for deed in deeds {
        let command = match deed {
            Deed::Register(n) => put(&format!("d{n}")),
            Deed::Delete(n) => delete(&format!("d{n}")),
            Deed::Send(count) => telemetry("sender", 1, usize::from(*count), 20),
            Deed::Run(millis) => {
                world.run(i64::from(*millis));
                continue;
            }
        };
        // Refused is fine: a device may not be there.
        world.ask(who, 0, command);
    }
}

proptest! {
    /// Random changes, a forced switch with random tails on both sides, crashes of either region at random moments.
    #[test]
    fn any_divergence_ends_in_equal_regions_with_every_lost_record_set_aside(
        common in deeds(20), lost in deeds(20), new in deeds(20), during in deeds(6),
        crashes in proptest::collection::vec((any::<bool>(), 0usize..12), 0..5),
        trims in proptest::bool::weighted(0.15),
    ) {
        let mut world = World::new();
        world.attach(WEST, 0, "sender", 1);
        perform(&mut world, WEST, &common);
        let mut own = Vec::new();
        let mut shared = Lsn(0);
        forced(&mut world, 2, |world| {
            shared = world.head(EAST, 0).lsn;
            perform(world, WEST, &lost);
            own = log_of(&world.nodes[WEST].store, 0);
        });
        own.retain(|record| record.lsn > shared);
        perform(&mut world, EAST, &new);
        if trims {
            world.now = world.now.plus(3 * 24 * 3_600_000);
            world.register(EAST, 0, "late");
            world.nodes[EAST].store.trim(world.now).unwrap();
        }
        world.link(true);
        for (source, steps) in crashes {
            for _ in 0..steps {
                for who in [WEST, EAST] {
                    world.give(who, vec![Input::Tick]);
                    if let Some(message) = world.nodes[who].inbox.pop_front() {
                        let from = region(1 - who);
                        world.give(who, vec![Input::Message { from, message }]);
                    }
                }
            }
            perform(&mut world, EAST, &during);
            let (who, role) = if source { (EAST, Role::Primary) } else { (WEST, Role::Secondary) };
            world.restart(who);
            world.roles(who, role, 2);
            world.run(if source { 2500 } else { 0 });
        }
        world.run(25_000);
        for fact in world.facts(WEST) {
            prop_assert_eq!((fact.broken, fact.returning), (None, None));
        }
        world.assert_equal();
        let anew = world.nodes[WEST].was_told("taking");
        prop_assert!(trims || !anew, "{:?}", world.nodes[WEST].alarms);
        let all = salvages(&world, WEST);
        let kept: Vec<_> = all.iter().filter(|s| s.at == key(0))
            .flat_map(|s| salvaged(&world.nodes[WEST].store, s)).collect();
        prop_assert_eq!(kept, own);
    }
}
