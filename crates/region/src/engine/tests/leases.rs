//! Nothing is acknowledged, told or shown without a lease, nor by a primary that is suspended.

use super::*;

const LAPSED: &str = "the region's lease lapsed before this could be acknowledged";
const SUSPENDED: &str = "a forced failover began before this could be acknowledged";

impl World {
    fn suspend(&mut self, suspended: bool) -> Input<u64> {
        let role = HubRole {
            suspended,
            ..self.role(WEST, Role::Primary, 1)
        };
        Input::Roles(vec![role])
    }

    /// Takes inputs in a turn that ends only after `between` happened to the region.
    fn turn_cut(&mut self, inputs: Vec<Input<u64>>, between: impl FnOnce(&Node)) {
        let (mut touched, mut out) = (super::super::Touched::default(), Vec::new());
        let (engine, now) = (&mut self.nodes[WEST].engine, self.now);
        for input in inputs {
            engine.take(input, now, &mut touched, &mut out);
        }
        between(&self.nodes[WEST]);
        let engine = &mut self.nodes[WEST].engine;
        engine.commit(now, &mut touched, &mut out);
        engine.ship_all(&mut out);
        for output in out {
            self.perform(WEST, output);
        }
    }

    fn shown(&self) -> (Sequence, Option<Epoch>) {
        self.nodes[WEST].visible[&key(0)]
    }

    fn unknown(&self, question: u64, why: &str) {
        match self.answer(question) {
            Some(Err(Refusal::OutcomeUnknown(told))) => assert_eq!(told, why),
            other => panic!("not unknown: {other:?}"),
        }
    }

    fn send_c2d(&mut self) -> Input<u64> {
        let send = hub::command::C2dCommand::Send {
            device: device("d"),
            message: hub::command::C2dMessage::default(),
        };
        self.command(0, Command::C2d(send)).1
    }
}

fn lapse(node: &Node) {
    node.monotonic.store(LEASE, Ordering::Relaxed);
}

#[test]
fn a_region_that_never_had_a_lease_acknowledges_nothing() {
    let mut world = World::new();
    let store = world.nodes[WEST].store.reopen();
    world.nodes[WEST] = Node::new(store);
    let role = HubRole {
        peer: None,
        ..world.role(WEST, Role::Primary, 1)
    };
    world.give(WEST, vec![Input::Roles(vec![role])]);
    assert_eq!(world.refusal(WEST, 0, put("d")), Refusal::NoLease);
    assert_eq!(world.refusal(WEST, 0, get("d")), Refusal::NoLease);
    assert_eq!(world.shown().1, None);
    assert_eq!(world.nodes[WEST].engine.lease_left_ms(), 0);
    world.grant(WEST, 1);
    world.register(WEST, 0, "d");
    assert_eq!(world.shown().1, Some(Epoch(1)));
}

#[test]
fn a_lapsed_lease_refuses_hides_and_comes_back_with_the_next_grant() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.reply(WEST, 0, telemetry("d", 1, 3, 10));
    assert_eq!(world.shown(), (Sequence(3), Some(Epoch(1))));
    world.clock(WEST, LEASE - 1);
    world.reply(WEST, 0, get("d"));
    assert_eq!(world.nodes[WEST].engine.lease_left_ms(), 1);
    world.clock(WEST, LEASE);
    assert_eq!(world.refusal(WEST, 0, get("d")), Refusal::NoLease);
    assert_eq!(world.shown(), (Sequence(3), None));
    world.grant(WEST, LEASE);
    assert_eq!(world.refusal(WEST, 0, get("d")), Refusal::NoLease);
    world.grant(WEST, LEASE + 1);
    assert_eq!(world.shown(), (Sequence(3), Some(Epoch(1))));
    world.reply(WEST, 0, telemetry("d", 1, 1, 10));
    assert_eq!(world.shown(), (Sequence(4), Some(Epoch(1))));
}

#[test]
fn a_tick_notices_the_lapse() {
    let mut world = World::new();
    world.clock(WEST, LEASE);
    world.give(WEST, vec![Input::Tick]);
    assert_eq!(world.shown().1, None);
}

#[test]
fn an_older_grant_shortens_nothing() {
    let mut world = World::new();
    world.grant(WEST, 1);
    world.clock(WEST, LEASE - 1);
    world.register(WEST, 0, "d");
}

#[test]
fn no_reply_leaves_when_the_lease_lapsed_before_the_release() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    let (write, sends) = world.command(0, telemetry("d", 1, 2, 10));
    let (read, gets) = world.command(0, get("d"));
    let (reject, misses) = world.command(0, get("nobody"));
    let c2d = world.send_c2d();
    let told = world.nodes[WEST].effects.len();
    world.turn_cut(vec![sends, gets, misses, c2d], lapse);
    world.unknown(write, LAPSED);
    assert_eq!(world.answer(read), Some(&Err(Refusal::NoLease)));
    assert_eq!(world.answer(reject), Some(&Err(Refusal::NoLease)));
    world.assert_all_answered();
    assert_eq!(world.nodes[WEST].effects.len(), told);
    assert_eq!(world.shown(), (Sequence(0), None));
    world.run(300);
    world.assert_equal();
    assert_eq!(world.nodes[WEST].effects.len(), told);

    world.grant(WEST, LEASE * 2);
    assert_eq!(world.shown(), (Sequence(2), Some(Epoch(1))));
    let effects = &world.nodes[WEST].effects[told..];
    assert!(
        matches!(effects, [(_, ConnectionId(1), Effect::C2dWaiting { .. })]),
        "what is there is told late, but told: {effects:?}"
    );
}

#[test]
fn an_open_in_a_turn_whose_lease_lapses_shows_nothing() {
    let mut world = World::new();
    let role = world.role(WEST, Role::Primary, 3);
    let reply = world.next();
    world.turn_cut(vec![Input::Open { role, reply }], lapse);
    assert!(matches!(world.answer(reply), Some(Ok(Answer::Opened(_)))));
    assert_eq!(world.shown().1, None);
    assert_eq!(world.refusal(WEST, 0, get("d")), Refusal::NoLease);
    world.grant(WEST, LEASE * 2);
    assert_eq!(world.shown().1, Some(Epoch(3)));
}

#[test]
fn a_partners_word_releases_nothing_without_a_lease() {
    let mut world = World::with(Replication::Sync);
    let question = world.ask(WEST, 0, put("d"));
    let read = world.ask(WEST, 0, get("d"));
    lapse(&world.nodes[WEST]);
    world.deliver();
    world.unknown(question, LAPSED);
    assert_eq!(world.answer(read), Some(&Err(Refusal::NoLease)));
}

#[test]
fn a_sync_hub_shows_again_only_what_its_partner_has() {
    let mut world = World::with(Replication::Sync);
    let registered = world.ask(WEST, 0, put("d"));
    world.run(300);
    assert!(matches!(world.answer(registered), Some(Ok(_))));
    let before = world.shown();
    world.link(false);
    let origin = telemetry("d", 1, 2, 10);
    world.ask(WEST, 0, origin);
    world.clock(WEST, LEASE);
    world.give(WEST, vec![Input::Tick]);
    world.grant(WEST, LEASE * 2);
    assert_eq!(world.shown(), before);
    world.link(true);
    world.run(500);
    let next = world.head(WEST, 0).next_sequence;
    assert_eq!(world.shown(), (next, Some(Epoch(1))));
    world.assert_all_answered();
}

#[test]
fn shipping_and_following_need_no_lease() {
    let mut world = World::new();
    world.link(false);
    world.register(WEST, 0, "d");
    for who in [WEST, EAST] {
        world.clock(who, LEASE);
    }
    world.link(true);
    world.run(500);
    world.assert_equal();
}

#[test]
fn a_sweep_waits_for_the_lease() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    let c2d = world.send_c2d();
    world.give(WEST, vec![c2d]);
    world.clock(WEST, LEASE);
    world.run(200);
    let before = world.head(WEST, 0);
    world.now = world.now.plus(14 * 24 * 3_600_000);
    world.run(1100);
    assert_eq!(world.head(WEST, 0), before);
    world.grant(WEST, LEASE * 2);
    world.run(1100);
    assert!(world.head(WEST, 0).lsn > before.lsn, "expired now");
}

#[test]
fn a_suspended_primary_serves_nothing_and_comes_back_when_that_is_taken_back() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    let before = world.head(WEST, 0);
    let suspend = world.suspend(true);
    world.give(WEST, vec![suspend]);
    assert_eq!(world.refusal(WEST, 0, get("d")), Refusal::FailingOver);
    assert_eq!(world.shown().1, None);
    assert!(!world.fact(WEST, 0).open);
    world.run(1100);
    assert_eq!(world.head(WEST, 0), before, "nothing durable");
    let resume = world.suspend(false);
    world.give(WEST, vec![resume]);
    world.register(WEST, 0, "e");
    assert_eq!(world.shown().1, Some(Epoch(1)));
    world.run(300);
    world.assert_equal();
}

#[test]
fn what_a_turn_holds_when_its_hub_is_suspended_is_not_acknowledged_by_a_later_lease() {
    let mut world = World::new();
    let (question, write) = world.command(0, put("d"));
    let suspend = world.suspend(true);
    let lease = Input::Lease { until: LEASE * 2 };
    world.give(WEST, vec![write, suspend, lease]);
    world.unknown(question, SUSPENDED);
}

#[test]
fn a_suspended_primary_that_restarts_stays_so_and_can_be_fenced() {
    let mut world = World::new();
    world.restart(WEST);
    let suspend = world.suspend(true);
    world.give(WEST, vec![suspend]);
    world.run(500);
    assert_eq!(world.refusal(WEST, 0, get("d")), Refusal::FailingOver);
    assert_eq!(world.shown().1, None);
    world.fence(WEST, 1).unwrap();
}

#[test]
fn old_reads_are_answered_without_a_lease_and_by_the_secondary() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(300);
    for who in [WEST, EAST] {
        world.clock(who, LEASE);
        let command = Arc::new(get("d"));
        let question = world.step(who, |reply| Input::StaleRead {
            at: key(0),
            command,
            reply,
        });
        assert!(
            matches!(
                world.answer(question),
                Some(Ok(Answer::Reply(Reply::Json { .. })))
            ),
            "{:?}",
            world.answer(question)
        );
    }
}

#[test]
fn an_old_read_changes_nothing_and_sees_nothing_that_is_not_durable() {
    let mut world = World::new();
    let before = world.head(EAST, 0);
    for command in [put("e"), telemetry("e", 1, 1, 1)] {
        let command = Arc::new(command);
        let question = world.step(EAST, |reply| Input::StaleRead {
            at: key(0),
            command,
            reply,
        });
        assert!(matches!(
            world.answer(question),
            Some(Err(Refusal::Unavailable(_)))
        ));
    }
    assert_eq!(world.head(EAST, 0), before);
    let (_, write) = world.command(0, put("e"));
    let question = world.next();
    let read = Input::StaleRead {
        at: key(0),
        command: Arc::new(get("e")),
        reply: question,
    };
    world.give(WEST, vec![write, read]);
    assert!(matches!(
        world.answer(question),
        Some(Err(Refusal::Reject(_)))
    ));
}

#[test]
fn a_grant_shows_nothing_of_a_partition_whose_open_is_not_durable() {
    let mut world = World::new();
    world.clock(WEST, LEASE);
    world.give(WEST, vec![Input::Tick]);
    world.nodes[WEST]
        .store
        .inject(1, store::InjectedFault::DiskFull);
    let role = world.role(WEST, Role::Primary, 3);
    let lease = Input::Lease { until: LEASE * 2 };
    world.give(WEST, vec![Input::Roles(vec![role]), lease]);
    assert_eq!(world.shown().1, None);
    world.give(WEST, vec![Input::Tick]);
    assert_eq!(world.shown().1, Some(Epoch(3)));
}
