use super::*;
use crate::testing::*;
use crate::{Answer, HubState};
use std::collections::BTreeSet;
use types::{Epoch, HubId, Lsn, limits};

/// A healthy world; a test spoils one thing in it.
struct World {
    state: State,
    to: RegionName,
    excluded: bool,
    primary: Option<RegionFacts>,
    secondary: Option<RegionFacts>,
    control: ControlFacts,
    now: i64,
}

impl World {
    fn new() -> Self {
        let state = active_hub();
        let hub = state.hub(HubId(1)).unwrap();
        let (primary, secondary) = (healthy(hub, &region("west")), healthy(hub, &region("east")));
        World {
            to: region("east"),
            excluded: false,
            primary: Some(primary),
            secondary: Some(secondary),
            control: good_control(),
            now: 10_000,
            state,
        }
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
        evaluate(
            &self.state,
            self.state.hub(HubId(1)).unwrap(),
            &self.to,
            self.excluded,
            self.primary.as_ref(),
            self.secondary.as_ref(),
            &self.control,
            UnixMillis(self.now),
        )
    }
}

fn verdict(report: &CheckReport, name: &str) -> Verdict {
    report
        .results
        .iter()
        .find(|r| r.name == name)
        .unwrap_or_else(|| panic!("no check {name}"))
        .verdict
}

fn failed_before(world: &mut World) {
    let ended = switch(&mut world.state, "past", "east", 10_000);
    let hub = world.state.hub(HubId(1)).unwrap().clone();
    world.to = region("west");
    world.primary = Some(healthy(&hub, &region("east")));
    world.secondary = Some(healthy(&hub, &region("west")));
    world.now = ended + 1;
}

type Spoil = fn(&mut World);

/// For each check something that makes it fail, in the order of the checks.
const FAILURES: [(&str, Spoil); 35] = [
    ("hub-active", |w| w.hub().state = HubState::Deleting),
    ("pair-exists", |w| w.hub().partner = None),
    ("target-is-secondary", |w| w.to = region("west")),
    ("failover-offered", |w| w.excluded = true),
    ("time-between-failovers", failed_before),
    ("daily-limit", |w| w.state.deployment.policy.per_day = 0),
    ("regions-deployed", |w| {
        w.state.deployment.regions.truncate(1)
    }),
    ("control-leader", |w| w.control.leader = None),
    ("control-majority", |w| w.control.voters_up = 1),
    ("control-copies", |w| w.two().control_applied = 0),
    ("primary-reachable", |w| w.primary = None),
    ("secondary-reachable", |w| w.secondary = None),
    ("primary-store", |w| w.one().store_healthy = false),
    ("secondary-store", |w| w.two().store_healthy = false),
    ("primary-disk", |w| {
        w.one().disk_free_bytes = limits::DISK_RESERVE_BYTES
    }),
    ("secondary-disk", |w| w.two().disk_free_bytes = 0),
    ("roles-known", |w| w.two().roles_known = false),
    ("secondary-uptime", |w| w.two().uptime_ms = 999),
    ("link-up", |w| w.one().link_up = false),
    ("link-round-trip", |w| w.one().link_rtt_us = Some(500_000)),
    ("certificates", |w| w.two().certificate_days = 0),
    ("clocks", |w| w.two().clock_offset_ms = -5_000),
    ("versions", |w| w.two().log_format = 2),
    ("engine-load", |w| {
        w.two().engine_queue = limits::ENGINE_QUEUE_MAX
    }),
    ("disk-speed", |w| w.two().fsync_ms = 1_000),
    ("secondary-gateway", |w| w.two().gateway_listening = false),
    ("session-room", |w| {
        w.two().sessions = limits::CONNECTIONS_MAX as u64
    }),
    ("primary-roles", |w| {
        w.one().partitions[1].role = Role::Secondary
    }),
    ("secondary-roles", |w| {
        w.two().partitions[1].epoch = Epoch(7)
    }),
    ("partitions-sound", |w| {
        w.two().partitions[0].corrupt = Some("checksum at 7".into())
    }),
    ("replication-lag", |w| {
        (
            w.one().partitions[0].lag_records,
            w.one().partitions[0].lag_ms,
        ) = (9, 60_000)
    }),
    ("digests", |w| {
        w.two().partitions[2].digest = Some("other".into())
    }),
    ("pause-budget", |w| w.one().fsync_ms = 1_250),
    ("secondary-returned", |w| {
        w.two().partitions[1].returning = Some("it rewinds".into())
    }),
    ("lease", |w| w.one().lease_held = false),
];

#[test]
fn a_healthy_pair_passes_every_check() {
    let report = World::new().report();
    let not_passed: Vec<_> = report
        .results
        .iter()
        .filter(|r| r.verdict != Verdict::Pass)
        .collect();
    assert!(report.ready && not_passed.is_empty(), "{not_passed:?}");
    assert!(report.results.len() >= 20);
    assert_eq!(
        (
            report.expected_loss_records,
            report.earliest,
            report.refusal()
        ),
        (0, None, None)
    );
}

#[test]
fn every_check_can_fail_and_stops_the_failover() {
    for (name, spoil) in FAILURES {
        let mut world = World::new();
        if name == "control-copies" {
            world.control.applied = 300;
            world.one().control_applied = 300;
        }
        spoil(&mut world);
        let report = world.report();
        assert_eq!(verdict(&report, name), Verdict::Fail, "{name}");
        assert!(!report.ready, "{name}");
        let refusal = report.refusal().unwrap();
        assert!(refusal.message.contains(name), "{}", refusal.message);
    }
}

#[test]
fn each_check_has_its_failure_its_number_and_a_kebab_case_name() {
    let report = World::new().report();
    let names: Vec<_> = report.results.iter().map(|r| r.name.as_str()).collect();
    let failures: Vec<_> = FAILURES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, failures);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for (at, result) in report.results.iter().enumerate() {
        assert_eq!(usize::from(result.number), at + 1);
        assert!(
            result
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-'),
            "{}",
            result.name
        );
    }
}

#[test]
fn each_way_in_which_roles_can_be_wrong_fails() {
    let cases: [(&str, Spoil); 7] = [
        ("primary-roles", |w| drop(w.one().partitions.pop())),
        ("primary-roles", |w| w.one().partitions[0].fenced = true),
        ("primary-roles", |w| w.one().partitions[0].epoch = Epoch(0)),
        ("secondary-roles", |w| {
            w.two().partitions[0].role = Role::None
        }),
        ("secondary-roles", |w| w.two().partitions[0].fenced = true),
        ("secondary-roles", |w| {
            w.one().partitions[0].follower_lsn = None
        }),
        ("secondary-roles", |w| {
            w.one().partitions[0].follower_lsn = Some(Lsn(11))
        }),
    ];
    for (name, spoil) in cases {
        let mut world = World::new();
        spoil(&mut world);
        assert_eq!(verdict(&world.report(), name), Verdict::Fail, "{name}");
    }
}

#[test]
fn warnings_do_not_stop_a_failover() {
    let cases: [(&str, Spoil); 11] = [
        ("control-majority", |w| w.control.voters_up = 2),
        ("control-copies", |w| w.two().control_applied = 80),
        ("primary-disk", |w| w.one().disk_free_bytes = 512 << 20),
        ("secondary-uptime", |w| w.two().uptime_ms = 5_000),
        ("link-round-trip", |w| w.one().link_rtt_us = None),
        ("certificates", |w| w.one().certificate_days = 13),
        ("clocks", |w| w.one().clock_offset_ms = 600),
        ("versions", |w| w.two().version = "2".into()),
        ("session-room", |w| {
            w.one().sessions = limits::CONNECTIONS_MAX as u64
        }),
        ("replication-lag", |w| {
            (
                w.one().partitions[0].lag_records,
                w.one().partitions[0].lag_ms,
            ) = (9, 500)
        }),
        ("digests", |w| w.two().partitions[0].digest = None),
    ];
    for (name, spoil) in cases {
        let mut world = World::new();
        spoil(&mut world);
        let report = world.report();
        assert_eq!(verdict(&report, name), Verdict::Warn, "{name}");
        assert!(report.ready, "{name}: {}", report.why_not());
    }
}

#[test]
fn a_region_that_does_not_answer_skips_its_checks_and_fails_its_own() {
    let mut world = World::new();
    world.secondary = None;
    let report = world.report();
    assert_eq!(
        report.failed().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["secondary-reachable"]
    );
    assert_eq!(verdict(&report, "secondary-disk"), Verdict::Skip);
    assert_eq!((report.expected_pause_ms, report.lag_ms), (None, Some(0)));
}

#[test]
fn a_region_that_answers_for_another_is_not_the_one_asked() {
    let mut world = World::new();
    world.two().region = region("west");
    assert_eq!(
        verdict(&world.report(), "secondary-reachable"),
        Verdict::Fail
    );
}

#[test]
fn digests_are_compared_only_at_the_same_record() {
    let mut world = World::new();
    let p = &mut world.two().partitions[0];
    (p.lsn, p.digest) = (Lsn(9), Some("earlier".into()));
    assert_eq!(verdict(&world.report(), "digests"), Verdict::Pass);
}

#[test]
fn the_policy_names_the_earliest_time() {
    let mut world = World::new();
    failed_before(&mut world);
    let report = world.report();
    assert_eq!(
        report.earliest,
        Some(UnixMillis(world.now - 1 + limits::FAILOVER_COOLDOWN_MS))
    );
    assert_eq!(report.refusal().unwrap().earliest, report.earliest);
}

#[test]
fn the_dry_run_and_the_first_step_agree() {
    let spoils = FAILURES
        .iter()
        .map(|(_, spoil)| *spoil)
        .chain([(|_| ()) as Spoil]);
    for (at, spoil) in spoils.enumerate() {
        let mut world = World::new();
        spoil(&mut world);
        let dry = world.report();
        let answer = world.state.apply(&request(
            "",
            world.now,
            start_failover(1, world.to.as_str(), "op"),
        ));
        if matches!(answer, Answer::Refused(_)) || world.excluded {
            assert!(!dry.ready, "{at}");
            continue;
        }
        world.control.operation = Some("op".into());
        let real = world.report();
        let verdicts = |r: &CheckReport| r.results.iter().map(|c| c.verdict).collect::<Vec<_>>();
        assert_eq!(
            (dry.ready, verdicts(&dry)),
            (real.ready, verdicts(&real)),
            "{at}"
        );
        world.control.operation = None;
        assert!(
            !world.report().ready,
            "a dry run beside a running failover says no"
        );
    }
}

#[test]
fn the_expected_pause_follows_the_round_trip_until_there_is_a_measurement() {
    let mut world = World::new();
    let near = world.report().expected_pause_ms.unwrap();
    world.one().link_rtt_us = Some(100_000);
    let far = world.report().expected_pause_ms.unwrap();
    assert_eq!(far - near, 6 * 80);
    failed_before(&mut world);
    assert_eq!(
        world.report().expected_pause_ms,
        world.state.operations["past"].pause_ms()
    );
}

#[test]
fn a_report_survives_json() {
    let mut world = World::new();
    world.primary = None;
    let report = world.report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<CheckReport>(&text).unwrap(), report);
    assert!(text.contains(r#""verdict":"fail""#));
    let facts = world.secondary.unwrap();
    assert_eq!(
        serde_json::from_str::<RegionFacts>(&serde_json::to_string(&facts).unwrap()).unwrap(),
        facts
    );
}

#[test]
fn figures_at_their_extremes_do_not_overflow() {
    let mut world = World::new();
    for facts in [&mut world.primary, &mut world.secondary] {
        let facts = facts.as_mut().unwrap();
        (facts.link_rtt_us, facts.fsync_ms, facts.sessions) = (Some(u64::MAX), u32::MAX, u64::MAX);
        (facts.clock_offset_ms, facts.uptime_ms) = (i64::MIN, i64::MIN);
        for p in &mut facts.partitions {
            (p.lag_ms, p.lag_records) = (i64::MAX, u64::MAX);
        }
    }
    assert!(!world.report().ready);
}
