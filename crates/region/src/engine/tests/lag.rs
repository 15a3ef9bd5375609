//! Bounded lag, and `sync` hubs that go on without a partner that stays away.

use super::*;
use types::{PartnerAway, limits};

const BOUND: u32 = 500;

struct Bounded {
    world: World,
    settings: HubSettings,
}

impl Bounded {
    fn new(
        replication: Replication,
        partner_away: PartnerAway,
        lag_max_ms: Option<u32>,
    ) -> Bounded {
        let mut world = World::with(replication);
        let settings = HubSettings {
            partner_away,
            lag_max_ms,
            ..world.settings()
        };
        let question = world.ask(WEST, 0, put("d"));
        world.run(300);
        assert!(matches!(world.answer(question), Some(Ok(_))));
        let mut bounded = Bounded { world, settings };
        bounded.set(|_| {});
        bounded
    }

    /// Changes the hub's settings at its primary.
    fn set(&mut self, change: impl FnOnce(&mut HubSettings)) {
        change(&mut self.settings);
        let role = HubRole {
            settings: Arc::new(self.settings.clone()),
            ..self.world.role(WEST, Role::Primary, 1)
        };
        self.world.give(WEST, vec![Input::Roles(vec![role])]);
    }

    /// The control plane says that a forced failover left the partner behind, or that it is back.
    fn alone(&mut self, alone: bool) {
        let role = HubRole {
            settings: Arc::new(self.settings.clone()),
            alone,
            ..self.world.role(WEST, Role::Primary, 1)
        };
        self.world.give(WEST, vec![Input::Roles(vec![role])]);
    }

    fn write(&mut self, name: &str) -> u64 {
        self.world.ask(WEST, 0, put(name))
    }

    fn answered(&self, question: u64) -> bool {
        match self.world.answer(question) {
            None => false,
            Some(Ok(_)) => true,
            other => panic!("{other:?}"),
        }
    }

    fn unknown(&self, question: u64) -> bool {
        matches!(
            self.world.answer(question),
            Some(Err(Refusal::OutcomeUnknown(_)))
        )
    }

    fn degraded(&mut self) -> bool {
        self.world.fact(WEST, 0).degraded
    }

    fn told(&self, text: &str) -> usize {
        let alarms = &self.world.nodes[WEST].alarms;
        alarms.iter().filter(|alarm| alarm.contains(text)).count()
    }

    /// The follower is linked and asks, but nothing it confirms arrives.
    fn confirmations_are_lost(&mut self, lost: bool) {
        self.world.loses = if lost {
            |m| matches!(m, Message::Acked { .. } | Message::Follow { .. })
        } else {
            |_| false
        };
    }
}

#[test]
fn writes_wait_while_the_follower_is_beyond_the_bound_and_reads_do_not() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Wait, Some(BOUND));
    hub.confirmations_are_lost(true);
    let first = hub.write("a");
    assert!(hub.answered(first), "within the bound");
    hub.world.run(i64::from(BOUND));
    let within = hub.write("b");
    assert!(hub.answered(within), "just within");
    hub.world.run(100);
    let beyond = hub.write("c");
    let read = hub.world.ask(WEST, 0, get("c"));
    assert!(!hub.answered(beyond));
    assert!(hub.answered(read));
    hub.world.run(1000);
    assert!(!hub.answered(beyond));
    hub.confirmations_are_lost(false);
    hub.world.run(2500);
    assert!(hub.answered(beyond));
    let after = hub.write("e");
    assert!(hub.answered(after));
    hub.world.run(300);
    hub.world.assert_equal();
}

#[test]
fn a_follower_that_comes_within_the_bound_releases_also_what_it_lacks() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Wait, Some(BOUND));
    hub.confirmations_are_lost(true);
    let old = hub.write("a");
    let old_lsn = hub.world.head(WEST, 0).lsn;
    assert!(hub.answered(old));
    hub.world.run(i64::from(BOUND) + 100);
    let waits = hub.write("b");
    assert!(!hub.answered(waits));
    let acked = Message::Acked {
        at: key(0),
        lsn: old_lsn,
    };
    let from = region(EAST);
    hub.world.give(
        WEST,
        vec![Input::Message {
            from,
            message: acked,
        }],
    );
    assert!(hub.answered(waits), "the oldest that is missing is young");
}

#[test]
fn events_beyond_the_bound_are_read_at_once() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Wait, Some(BOUND));
    let open = hub.world.session(WEST, 0, "d", 1);
    hub.world.reply(WEST, 0, open);
    hub.world.run(300);
    hub.confirmations_are_lost(true);
    hub.world.reply(WEST, 0, telemetry("d", 1, 1, 10));
    hub.world.run(i64::from(BOUND) + 100);
    let question = hub.world.ask(WEST, 0, telemetry("d", 1, 2, 10));
    assert!(!hub.answered(question));
    assert_eq!(hub.world.nodes[WEST].visible[&key(0)].0, Sequence(3));
    hub.world.ask(WEST, 0, telemetry("d", 1, 1, 10));
    assert_eq!(hub.world.nodes[WEST].visible[&key(0)].0, Sequence(4));
    hub.confirmations_are_lost(false);
    hub.world.run(2500);
    assert!(hub.answered(question));
    assert_eq!(hub.world.nodes[WEST].visible[&key(0)].0, Sequence(4));
}

#[test]
fn a_bound_without_its_partner_holds_until_the_outcome_is_unknown() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Wait, Some(BOUND));
    hub.world.link(false);
    hub.write("a");
    hub.world.run(i64::from(BOUND) + 100);
    let waits = hub.write("b");
    hub.world.run(limits::PARK_MS_MAX as i64 - 200);
    assert!(!hub.answered(waits));
    hub.world.run(400);
    assert!(hub.unknown(waits));
    assert!(!hub.degraded());
    let partition = &hub.world.nodes[WEST].engine.partitions[&key(0)];
    assert_eq!(partition.held, 0);
}

#[test]
fn a_bound_whose_hub_may_degrade_goes_on_without_its_partner_and_says_so_once() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Degrade, Some(BOUND));
    hub.world.link(false);
    hub.write("a");
    hub.world.run(i64::from(BOUND) - 100);
    assert!(!hub.degraded());
    hub.world.run(300);
    assert!(hub.degraded());
    for n in 0..30 {
        let question = hub.write(&format!("b{n}"));
        assert!(hub.answered(question));
        hub.world.run(100);
    }
    assert_eq!(hub.told("degraded"), 1);
    hub.world.link(true);
    hub.world.run(500);
    assert!(!hub.degraded());
    assert_eq!(hub.told("in step again"), 1);
}

#[test]
fn a_partner_that_is_there_but_slow_degrades_no_bound() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Degrade, Some(BOUND));
    hub.world.loses = |m| matches!(m, Message::Acked { .. } | Message::Records { .. });
    hub.write("a");
    hub.world.run(i64::from(BOUND) + 100);
    let waits = hub.write("b");
    hub.world.run(500);
    assert!(!hub.answered(waits));
    assert!(!hub.degraded());
}

#[test]
fn a_bound_that_is_lifted_gives_out_what_waits() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Wait, Some(BOUND));
    hub.world.link(false);
    hub.write("a");
    hub.world.run(i64::from(BOUND) + 100);
    let waits = hub.write("b");
    assert!(!hub.answered(waits));
    hub.set(|settings| settings.lag_max_ms = None);
    assert!(hub.answered(waits));
}

#[test]
fn a_restarted_primary_does_not_forget_how_far_its_partner_is_behind() {
    let mut hub = Bounded::new(Replication::Async, PartnerAway::Wait, Some(BOUND));
    hub.world.link(false);
    hub.write("a");
    hub.world.restart(WEST);
    hub.set(|_| {});
    hub.world.run(2500);
    let waits = hub.write("b");
    assert!(!hub.answered(waits), "nobody knows what the partner has");
    hub.world.link(true);
    hub.world.run(500);
    assert!(hub.answered(waits));
}

#[test]
fn a_sync_hub_that_may_degrade_waits_first_and_then_goes_on() {
    let mut hub = Bounded::new(Replication::Sync, PartnerAway::Degrade, None);
    hub.world.link(false);
    let first = hub.write("a");
    hub.world.run(limits::SYNC_DEGRADE_MS - 100);
    assert!(!hub.answered(first));
    assert!(!hub.degraded());
    hub.world.run(200);
    assert!(hub.answered(first));
    assert!(hub.degraded());
    let second = hub.write("b");
    assert!(hub.answered(second), "like an async hub");
    assert_eq!(hub.world.fact(WEST, 0).tail.records, 2, "counted as loss");
    hub.world.run(5000);
    assert_eq!(hub.told("degraded"), 1);
}

#[test]
fn a_degraded_hub_waits_again_once_its_partner_has_everything() {
    let mut hub = Bounded::new(Replication::Sync, PartnerAway::Degrade, None);
    hub.world.link(false);
    hub.write("a");
    hub.world.run(limits::SYNC_DEGRADE_MS + 100);
    assert!(hub.degraded());
    hub.world.link(true);
    hub.world.run(500);
    assert!(!hub.degraded());
    assert_eq!(hub.told("in step again"), 1);
    let question = hub.write("b");
    assert!(!hub.answered(question), "waits for the partner's word");
    hub.world.deliver();
    assert!(hub.answered(question));
    hub.world.assert_equal();
}

/// A degraded hub whose partner is back and asks: it has all but the last record, given here, which left alone.
fn closing_up() -> (Bounded, Lsn) {
    let mut hub = Bounded::new(Replication::Sync, PartnerAway::Degrade, None);
    hub.world.link(false);
    hub.write("a");
    hub.world.run(limits::SYNC_DEGRADE_MS + 100);
    let alone = hub.write("b");
    assert!(hub.answered(alone));
    let last = hub.world.head(WEST, 0).lsn;
    let before = Lsn(last.0 - 1);
    let page = hub.world.nodes[WEST].store.read_log(key(0), before, 1);
    let message = Message::Follow {
        at: key(0),
        epoch: Epoch(1),
        lsn: before,
        crc: replication::record::crc_of(&page.unwrap()[0].bytes),
    };
    hub.world.up = true;
    hub.world.loses = |_| true;
    let (peer, from) = (region(EAST), region(EAST));
    let link = Input::Link { peer, up: true };
    let follow = Input::Message { from, message };
    hub.world.give(WEST, vec![link, follow]);
    (hub, last)
}

#[test]
fn a_hub_that_closes_up_is_degraded_until_what_left_alone_is_there() {
    let (mut hub, last) = closing_up();
    assert!(hub.degraded());
    let waits = hub.write("c");
    assert!(!hub.answered(waits), "new answers wait again");
    let message = Message::Acked {
        at: key(0),
        lsn: last,
    };
    let from = region(EAST);
    hub.world.give(WEST, vec![Input::Message { from, message }]);
    assert!(!hub.degraded());
    assert_eq!(hub.told("in step again"), 1);
    assert!(!hub.answered(waits));
}

#[test]
fn a_partner_that_leaves_again_while_the_hub_closes_up_is_not_waited_for() {
    let (mut hub, _) = closing_up();
    let waits = hub.write("c");
    hub.world.run(limits::SYNC_DEGRADE_MS - 100);
    assert!(!hub.answered(waits));
    hub.world.run(200);
    assert!(hub.answered(waits));
    assert!(hub.degraded());
    assert_eq!((hub.told("degraded"), hub.told("in step")), (1, 0));
}

#[test]
fn a_sync_hub_that_must_wait_never_degrades() {
    let mut hub = Bounded::new(Replication::Sync, PartnerAway::Wait, Some(BOUND));
    hub.world.link(false);
    let waits = hub.write("a");
    hub.world.run(limits::PARK_MS_MAX as i64 - 200);
    assert!(!hub.answered(waits));
    assert!(!hub.degraded());
    hub.set(|settings| settings.partner_away = PartnerAway::Degrade);
    assert!(hub.answered(waits), "the owner changed their mind");
}

#[test]
fn a_degraded_hub_that_lost_its_lease_acknowledges_nothing() {
    let mut hub = Bounded::new(Replication::Sync, PartnerAway::Degrade, None);
    hub.world.link(false);
    let waits = hub.write("a");
    hub.world.clock(WEST, LEASE);
    hub.world.run(limits::SYNC_DEGRADE_MS + 100);
    assert!(hub.unknown(waits));
}

#[test]
fn nobody_waits_for_a_region_that_a_forced_failover_left_behind() {
    for (replication, bound) in [(Replication::Sync, None), (Replication::Async, Some(BOUND))] {
        let mut hub = Bounded::new(replication, PartnerAway::Wait, bound);
        hub.world.link(false);
        hub.alone(true);
        for n in 0..10 {
            let question = hub.write(&format!("a{n}"));
            assert!(hub.answered(question), "{replication:?}");
            hub.world.run(100);
        }
        assert!(hub.degraded());
        hub.world.link(true);
        hub.world.run(500);
        assert!(hub.degraded(), "until the control plane says it is back");
        hub.alone(false);
        hub.world.run(300);
        assert!(!hub.degraded());
        hub.world.link(false);
        let question = hub.write("b");
        hub.world.run(i64::from(BOUND) + 100);
        let second = hub.write("c");
        assert!(!hub.answered(second), "waits again");
        assert_eq!(hub.answered(question), bound.is_some());
    }
}

#[test]
fn a_hub_that_opens_alone_answers_at_once() {
    let mut world = World::bare(Replication::Sync, MemoryOptions::default());
    world.link(false);
    let role = HubRole {
        alone: true,
        ..world.role(WEST, Role::Primary, 1)
    };
    let question = world.step(WEST, |reply| Input::Open { role, reply });
    assert!(matches!(world.answer(question), Some(Ok(_))));
    world.register(WEST, 0, "d");
}
