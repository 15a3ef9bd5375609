use crate::checks::*;
use crate::loss::{AcceptedLoss, Words};
use crate::testing::*;
use crate::{HubState, State};
use types::{HubId, RegionName, UnixMillis, limits};

/// A dead primary and a secondary that lacks three records; a test changes one thing.
struct World {
    state: State,
    to: RegionName,
    primary: Option<RegionFacts>,
    secondary: Option<RegionFacts>,
    words: Words,
    accept: Option<AcceptedLoss>,
    control: ControlFacts,
}

impl World {
    fn new() -> Self {
        let state = active_hub();
        let hub = state.hub(HubId(1)).unwrap();
        World {
            to: region("east"),
            primary: None,
            secondary: Some(bereft(hub, &region("east"), 3)),
            words: Words::new(),
            accept: Some(ALL),
            control: good_control(),
            state,
        }
    }

    /// With a primary that is as well as can be.
    fn healthy() -> Self {
        let mut world = World::new();
        let hub = world.state.hub(HubId(1)).unwrap();
        world.primary = Some(healthy(hub, &region("west")));
        world
    }

    fn hub(&mut self) -> &mut Hub {
        self.state.hubs.get_mut("hub-one").unwrap()
    }

    fn one(&mut self) -> &mut RegionFacts {
        self.primary.as_mut().unwrap()
    }

    fn two(&mut self) -> &mut RegionFacts {
        self.secondary.as_mut().unwrap()
    }

    fn report(&self) -> CheckReport {
        evaluate_forced(&ForcedQuestion {
            state: &self.state,
            hub: self.state.hub(HubId(1)).unwrap(),
            to: &self.to,
            primary: self.primary.as_ref(),
            secondary: self.secondary.as_ref(),
            words: &self.words,
            accept: self.accept.as_ref(),
            control: &self.control,
            now: UnixMillis(20_000),
        })
    }
}

fn found<'a>(report: &'a CheckReport, name: &str) -> &'a CheckResult {
    report
        .results
        .iter()
        .find(|r| r.name == name)
        .unwrap_or_else(|| panic!("no check {name}"))
}

type Spoil = fn(&mut World);

/// For each check that can fail something that makes it fail, and the refusal's code.
const FAILURES: [(&str, RefusalCode, Spoil); 15] = [
    ("hub-operable", RefusalCode::FailoverChecksFailed, |w| {
        w.hub().state = HubState::Deleting
    }),
    ("pair-exists", RefusalCode::FailoverChecksFailed, |w| {
        w.hub().partner = None
    }),
    (
        "target-is-secondary",
        RefusalCode::FailoverChecksFailed,
        |w| w.to = region("west"),
    ),
    ("target-deployed", RefusalCode::FailoverChecksFailed, |w| {
        w.state.deployment.regions.truncate(1)
    }),
    ("control-leader", RefusalCode::FailoverChecksFailed, |w| {
        w.control.leader = None
    }),
    ("control-majority", RefusalCode::FailoverChecksFailed, |w| {
        w.control.voters_up = 1
    }),
    ("primary-lost", RefusalCode::PrimaryIsHealthy, |w| {
        *w = World::healthy()
    }),
    ("secondary-reachable", RefusalCode::SecondaryNotReady, |w| {
        w.secondary = None
    }),
    ("secondary-store", RefusalCode::SecondaryNotReady, |w| {
        w.two().store_healthy = false
    }),
    ("secondary-disk", RefusalCode::SecondaryNotReady, |w| {
        w.two().disk_free_bytes = limits::DISK_RESERVE_BYTES
    }),
    ("secondary-lease", RefusalCode::SecondaryNotReady, |w| {
        w.two().lease_held = false
    }),
    ("secondary-returned", RefusalCode::SecondaryNotReady, |w| {
        w.two().partitions[1].returning = Some("it takes a copy".into())
    }),
    ("secondary-roles", RefusalCode::SecondaryNotReady, |w| {
        drop(w.two().partitions.pop())
    }),
    ("secondary-sound", RefusalCode::SecondaryNotReady, |w| {
        w.two().partitions[0].corrupt = Some("checksum at 7".into())
    }),
    ("loss-accepted", RefusalCode::LossExceedsAccepted, |w| {
        w.accept = Some(AcceptedLoss::default())
    }),
];

#[test]
fn a_dead_primary_and_a_good_secondary_are_ready() {
    let report = World::new().report();
    let not_passed: Vec<_> = report
        .results
        .iter()
        .filter(|r| r.verdict != Verdict::Pass)
        .collect();
    assert!(report.ready && not_passed.is_empty(), "{not_passed:?}");
    assert!(report.forced && report.refusal().is_none());
    let loss = report.loss.unwrap();
    assert_eq!((loss.records, report.expected_loss_records), (3, 3));
    assert!(report.expected_pause_ms.unwrap() >= crate::failover::lease_wait_ms());
    for (at, result) in report.results.iter().enumerate() {
        assert_eq!(usize::from(result.number), at + 1);
    }
}

#[test]
fn every_check_that_can_fail_stops_it_under_its_code() {
    for (name, code, spoil) in FAILURES {
        let mut world = World::new();
        spoil(&mut world);
        let report = world.report();
        assert_eq!(found(&report, name).verdict, Verdict::Fail, "{name}");
        let refusal = report.refusal().unwrap();
        assert_eq!(refusal.code, code, "{name}: {refusal}");
        assert!(refusal.message.contains(name));
    }
    let never_fail = ["secondary-gateway", "loss-known"];
    let all = World::new().report().results.len();
    assert_eq!(all, FAILURES.len() + never_fail.len());
}

#[test]
fn a_primary_that_answers_is_given_up_only_if_a_planned_failover_could_not_do() {
    let ill: [(&str, Spoil); 9] = [
        ("its store is not healthy", |w| {
            w.one().store_healthy = false
        }),
        ("it holds no lease", |w| w.one().lease_held = false),
        ("has stopped", |w| {
            w.one().partitions[3].corrupt = Some("checksum".into())
        }),
        ("is not open", |w| drop(w.one().partitions.pop())),
        ("does not serve epoch 1", |w| {
            w.one().partitions[0].role = Role::Secondary
        }),
        ("does not serve epoch 1", |w| {
            w.one().partitions[0].epoch = types::Epoch(9)
        }),
        ("nobody follows its partition 2", |w| {
            w.one().partitions[2].follower_lsn = None
        }),
        ("is 5.0 s behind", |w| {
            w.one().partitions[2].lag_ms = limits::FAILOVER_PAUSE_CEILING_MS
        }),
        ("as mars", |w| w.one().region = region("mars")),
    ];
    for (text, spoil) in ill {
        let mut world = World::healthy();
        spoil(&mut world);
        let report = world.report();
        let check = found(&report, "primary-lost");
        assert_eq!(check.verdict, Verdict::Pass, "{text}");
        assert!(check.detail.contains(text), "{text} in {}", check.detail);
    }
    let mut slow = World::healthy();
    slow.one().partitions[0].lag_ms = limits::FAILOVER_PAUSE_CEILING_MS - 1;
    slow.one().fsync_ms = 5_000;
    let report = slow.report();
    let check = found(&report, "primary-lost");
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(check.detail.contains("use a planned failover"));
}

#[test]
fn the_operation_that_asks_may_run_and_its_bound_is_the_recorded_one() {
    let mut world = World::new();
    let bound = AcceptedLoss {
        records: Some(2),
        ..AcceptedLoss::default()
    };
    let mut start = start_forced(1, "east", "op", bound);
    if let crate::Command::StartForcedFailover { shown, .. } = &mut start {
        shown.records = 1;
    }
    world.state.apply(&request("", 20_000, start));
    world.accept = None;
    assert_eq!(
        found(&world.report(), "hub-operable").verdict,
        Verdict::Fail
    );
    world.control.operation = Some("op".into());
    let report = world.report();
    assert_eq!(found(&report, "hub-operable").verdict, Verdict::Pass);
    let check = found(&report, "loss-accepted");
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(check.detail.contains("more than the accepted 2 records"));
}

#[test]
fn without_a_bound_a_dry_run_shows_the_loss_and_judges_nothing() {
    let mut world = World::new();
    world.accept = None;
    let report = world.report();
    assert_eq!(found(&report, "loss-accepted").verdict, Verdict::Skip);
    assert!(report.ready);
    let known = &found(&report, "loss-known").detail;
    assert!(
        known.contains("3 records") && known.contains("400 ms old"),
        "{known}"
    );
}

#[test]
fn a_loss_that_cannot_be_told_warns_and_only_all_accepts_it() {
    let mut world = World::new();
    world.two().partitions[2].word = None;
    let report = world.report();
    assert_eq!(found(&report, "loss-known").verdict, Verdict::Warn);
    assert!(report.ready);
    world.accept = Some(AcceptedLoss {
        records: Some(1_000),
        ..AcceptedLoss::default()
    });
    let report = world.report();
    let check = found(&report, "loss-accepted");
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(check.detail.contains("partition 2"), "{}", check.detail);
}

#[test]
fn words_that_came_with_the_lease_count_when_they_are_later() {
    let mut world = World::new();
    let epoch = world.hub().epoch;
    let at = types::PartitionId(1);
    world.words.insert(at, (word(epoch, 5), 100));
    assert_eq!(world.report().loss.unwrap().records, 3 + 5);
    let mut ill = World::healthy();
    ill.one().store_healthy = false;
    for p in &mut ill.one().partitions {
        p.lsn = types::Lsn(12);
        p.tail = Some(crate::facts::Tail::default());
    }
    assert_eq!(ill.report().loss.unwrap().records, 3 + 2 * 3);
}

#[test]
fn a_secondary_that_was_itself_lost_is_not_ready() {
    let mut world = World::new();
    force(&mut world.state, "past", "east", 10_000);
    let hub = world.state.hub(HubId(1)).unwrap().clone();
    world.to = region("west");
    world.secondary = Some(bereft(&hub, &region("west"), 0));
    world.accept = Some(crate::testing::SOME);
    let report = world.report();
    let check = found(&report, "secondary-returned");
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(check.detail.contains("'past'"), "{}", check.detail);
    world.accept = Some(ALL);
    let report = world.report();
    assert_eq!(found(&report, "secondary-returned").verdict, Verdict::Warn);
}
