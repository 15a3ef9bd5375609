//! `sync` hubs: nothing is answered, told or visible before the partner has it on disk.

use super::*;
use types::limits;

fn sync() -> World {
    let mut world = World::with(Replication::Sync);
    world.attach_sync("d", 1);
    world
}

impl World {
    fn attach_sync(&mut self, name: &str, connection: u64) {
        let question = self.ask(WEST, 0, put(name));
        self.run(300);
        assert!(matches!(self.answer(question), Some(Ok(_))));
        let open = {
            let device = device(name);
            let asked = Command::Session(SessionCommand::Identity { device });
            let question = self.ask(WEST, 0, asked);
            self.deliver();
            let Some(Ok(Answer::Reply(Reply::Identity(identity)))) = self.answer(question) else {
                panic!("no identity");
            };
            Command::Session(SessionCommand::Open {
                device: types::DeviceId::parse(name).unwrap(),
                generation: identity.generation.clone(),
                connection: ConnectionId(connection),
                gateway: region(WEST),
                since: self.now,
                clean: false,
            })
        };
        self.ask(WEST, 0, open);
        self.run(300);
    }
}

#[test]
fn replies_and_visibility_wait_for_the_partners_word() {
    let mut world = sync();
    let before = world.nodes[WEST].visible[&key(0)];
    let question = world.ask(WEST, 0, telemetry("d", 1, 3, 10));
    assert_eq!(world.answer(question), None);
    assert_eq!(world.nodes[WEST].visible[&key(0)], before);
    world.deliver();
    assert!(matches!(world.answer(question), Some(Ok(_))));
    assert_eq!(world.nodes[WEST].visible[&key(0)].0.0, before.0.0 + 3);
}

#[test]
fn reads_and_rejections_wait_behind_what_they_saw() {
    let mut world = sync();
    let write = world.ask(WEST, 0, put("e"));
    let read = world.ask(WEST, 0, get("e"));
    let reject = world.ask(WEST, 0, get("nobody"));
    for question in [write, read, reject] {
        assert_eq!(world.answer(question), None);
    }
    world.deliver();
    world.assert_all_answered();
}

#[test]
fn effects_wait_for_the_partners_word() {
    let mut world = sync();
    world.link(false);
    let send = hub::command::C2dCommand::Send {
        device: device("d"),
        message: hub::command::C2dMessage::default(),
    };
    world.ask(WEST, 0, Command::C2d(send));
    assert!(world.nodes[WEST].effects.is_empty());
    world.link(true);
    world.run(300);
    assert!(matches!(
        world.nodes[WEST].effects[..],
        [(_, ConnectionId(1), Effect::C2dWaiting { .. })]
    ));
}

#[test]
fn without_the_partner_the_outcome_is_unknown_after_the_limit() {
    let mut world = sync();
    world.link(false);
    let question = world.ask(WEST, 0, telemetry("d", 1, 1, 10));
    world.run(limits::PARK_MS_MAX as i64 - 200);
    assert_eq!(world.answer(question), None);
    let before = world.nodes[WEST].visible[&key(0)].0;
    world.run(400);
    assert!(matches!(
        world.answer(question),
        Some(Err(Refusal::OutcomeUnknown(_)))
    ));
    assert_eq!(world.nodes[WEST].visible[&key(0)].0, before);
    world.link(true);
    world.run(500);
    assert_eq!(world.nodes[WEST].visible[&key(0)].0.0, before.0 + 1);
}

#[test]
fn memory_does_not_grow_while_the_partner_is_away() {
    let mut world = sync();
    world.link(false);
    for _ in 0..300 {
        world.ask(WEST, 0, telemetry("d", 1, 1, 10));
        world.run(100);
    }
    let partition = &world.nodes[WEST].engine.partitions[&key(0)];
    assert!(partition.waiting.len() < 200, "{}", partition.waiting.len());
    assert!(partition.held < 200);
    assert_eq!(partition.tail_bytes(), 0);
    world.link(true);
    world.run(500);
    let partition = &world.nodes[WEST].engine.partitions[&key(0)];
    assert_eq!((partition.waiting.len(), partition.held), (0, 0));
    world.assert_all_answered();
    world.assert_equal();
}

#[test]
fn a_partition_that_holds_too_many_answers_takes_no_more() {
    let mut world = sync();
    world.link(false);
    world.nodes[WEST]
        .engine
        .partitions
        .get_mut(&key(0))
        .unwrap()
        .held = limits::SYNC_WAITING_MAX;
    assert!(matches!(
        world.refusal(WEST, 0, get("d")),
        Refusal::Unavailable(_)
    ));
}

#[test]
fn a_fence_and_the_partners_catching_up_release_what_waits() {
    let mut world = sync();
    let question = world.ask(WEST, 0, telemetry("d", 1, 1, 10));
    let handovers = world.fence(WEST, 1).unwrap();
    assert_eq!(world.answer(question), None);
    let step = world.catch_up(EAST, handovers);
    world.deliver();
    assert!(matches!(world.answer(step), Some(Ok(_))));
    assert!(matches!(world.answer(question), Some(Ok(_))));
}

#[test]
fn a_hub_that_becomes_async_gives_out_what_waits() {
    let mut world = sync();
    world.link(false);
    let question = world.ask(WEST, 0, telemetry("d", 1, 1, 10));
    world.replication = Replication::Async;
    world.roles(WEST, Role::Primary, 1);
    assert!(matches!(world.answer(question), Some(Ok(_))));
    let next = world.head(WEST, 0).next_sequence;
    assert_eq!(world.nodes[WEST].visible[&key(0)].0, next);
}

#[test]
fn what_waits_when_the_hub_moves_has_an_unknown_outcome() {
    let mut world = sync();
    world.link(false);
    let question = world.ask(WEST, 0, telemetry("d", 1, 1, 10));
    world.roles(WEST, Role::Secondary, 2);
    assert!(matches!(
        world.answer(question),
        Some(Err(Refusal::OutcomeUnknown(_)))
    ));
}
