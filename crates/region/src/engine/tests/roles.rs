//! Roles: who serves, what goes with a hub, what a late word does.

use super::*;

#[test]
fn roles_of_a_lower_epoch_change_nothing() {
    let mut world = World::new();
    world.run(300);
    world.fail_over(WEST, 1);
    world.register(EAST, 0, "d");
    world.lead(WEST, 1);
    world.register(EAST, 0, "e");
    let want = Refusal::NotPrimary { epoch: Epoch(2) };
    assert_eq!(world.refusal(WEST, 0, get("d")), want);
}

#[test]
fn a_deleted_hubs_data_goes_with_it() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.run(300);
    for who in [WEST, EAST] {
        world.give(who, vec![Input::Roles(vec![])]);
        let store = &world.nodes[who].store;
        assert!(store.partitions().unwrap().is_empty());
        assert!(log_of(store, 0).is_empty());
        assert_eq!(world.nodes[who].visible[&key(0)], (Sequence(0), None));
        assert!(world.facts(who).is_empty());
    }
    let want = Refusal::NotPrimary { epoch: Epoch(0) };
    assert_eq!(world.refusal(WEST, 0, get("d")), want);
}

#[test]
fn data_of_unknown_hubs_goes_only_when_told() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.restart(WEST);
    world.give(WEST, vec![Input::Roles(vec![])]);
    assert!(!world.nodes[WEST].store.partitions().unwrap().is_empty());
    world.give(WEST, vec![Input::DropUnknown]);
    assert!(world.nodes[WEST].store.partitions().unwrap().is_empty());
}

#[test]
fn dropping_the_unknown_keeps_the_known() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.give(WEST, vec![Input::DropUnknown]);
    assert!(matches!(world.reply(WEST, 0, get("d")), Reply::Json { .. }));
}

#[test]
fn a_log_of_a_later_epoch_than_the_control_planes_is_not_served() {
    let mut world = World::new();
    world.run(300);
    world.fail_over(WEST, 1);
    world.run(300);
    world.restart(WEST);
    let role = HubRole {
        peer: None,
        ..world.role(WEST, Role::Primary, 1)
    };
    world.give(WEST, vec![Input::Roles(vec![role])]);
    world.run(1000);
    assert_eq!(world.serving(WEST, 0), Serving::No);
    let told = |node: &Node| {
        let said = node
            .alarms
            .iter()
            .filter(|a| a.contains("control plane says"));
        said.count()
    };
    assert_eq!(
        told(&world.nodes[WEST]),
        usize::from(PARTITIONS),
        "said once"
    );
}

#[test]
fn a_hub_without_a_pair_is_served_at_once() {
    let mut world = World::bare(Replication::Sync, MemoryOptions::default());
    world.restart(WEST);
    let role = HubRole {
        peer: None,
        ..world.role(WEST, Role::Primary, 1)
    };
    world.give(WEST, vec![Input::Roles(vec![role])]);
    world.register(WEST, 0, "d");
}

#[test]
fn a_secondary_remembers_no_tail_and_no_commit_times() {
    let mut world = World::new();
    for n in 0..10 {
        world.register(WEST, 0, &format!("d{n}"));
    }
    world.run(300);
    let follower = &world.nodes[EAST].engine.partitions[&key(0)];
    assert_eq!(follower.tail_bytes(), 0);
    let leader = &world.nodes[WEST].engine.partitions[&key(0)];
    assert!(leader.tail_bytes() > 0);
}

#[test]
fn unknown_partitions_are_refused() {
    let mut world = World::new();
    let refusal = world.refusal(WEST, PARTITIONS, get("d"));
    assert!(matches!(refusal, Refusal::Unavailable(_)));
}
