//! Helpers of this crate's tests: a small deployment, its requests, and a coordinator in one call.

mod forced;

pub use forced::*;

use crate::checks::{CheckReport, ControlFacts, PartitionFacts, RegionFacts, Role, evaluate};
use crate::command::HubSpec;
use crate::details::*;
use crate::divergence::Position;
use crate::failover::{Action, Timings, next_action};
use crate::model::*;
use crate::report::{ReportFacts, report};
use crate::{Answer, Command, RefusalCode, Request};
use std::collections::BTreeMap;
use types::{Epoch, HubId, Lsn, PartitionId, Policy, RegionName, Rights, Sequence, UnixMillis};

pub const SUB: &str = "sub-1";
/// 32 bytes.
pub const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

pub fn region(name: &str) -> RegionName {
    RegionName::parse(name).unwrap()
}

pub fn request(id: &str, now: i64, command: Command) -> Request {
    Request {
        now: UnixMillis(now),
        by: "tester".into(),
        id: id.into(),
        command,
        origin: Default::default(),
    }
}

pub fn deploy() -> Command {
    let principal = Principal {
        client_id: "app".into(),
        object_id: "object".into(),
        secret_sha256: "hash".into(),
        salt: "salt".into(),
    };
    Command::Deploy {
        deployment: Deployment {
            tenant: "tenant".into(),
            domain: "hubs.localhost".into(),
            regions: vec![region("west"), region("east")],
            policy: FailoverPolicy::default(),
            principals: vec![principal],
            administrator: None,
            limits: Default::default(),
        },
        subscriptions: vec![Subscription {
            id: SUB.into(),
            display_name: "one".into(),
        }],
    }
}

pub fn put_group(name: &str) -> Command {
    Command::PutGroup {
        subscription: SUB.into(),
        name: name.into(),
        location: region("west"),
        tags: BTreeMap::new(),
    }
}

pub fn policy(name: &str, key: &str) -> Policy {
    let rights = Rights {
        device_connect: true,
        ..Rights::default()
    };
    Policy {
        name: name.into(),
        primary_key: key.into(),
        secondary_key: KEY.into(),
        rights,
    }
}

pub fn spec(name: &str) -> HubSpec {
    HubSpec {
        subscription: SUB.into(),
        group: "group".into(),
        name: name.parse().unwrap(),
        location: region("west"),
        partner: Some(region("east")),
        sku_name: "S1".into(),
        sku_capacity: 1,
        tags: BTreeMap::new(),
        partition_count: None,
        retention_days: None,
        replication: None,
        partner_away: None,
        lag_max_ms: None,
        cloud_to_device: None,
        policies: None,
        default_policies: vec![policy("iothubowner", KEY)],
        stored_properties: serde_json::json!({}),
        if_match: None,
    }
}

/// The operation's id is `create-NAME`.
pub fn put(spec: HubSpec) -> Command {
    Command::PutHub {
        operation: format!("create-{}", spec.name),
        spec: Box::new(spec),
    }
}

pub fn put_hub(name: &str) -> Command {
    put(spec(name))
}

pub fn finish(operation: &str) -> Command {
    Command::Finish {
        operation: operation.into(),
        report: None,
        error: None,
    }
}

pub fn fail(operation: &str) -> Command {
    Command::Finish {
        operation: operation.into(),
        report: None,
        error: Some(("Test".into(), "a test".into())),
    }
}

pub fn roll_back(operation: &str) -> Command {
    Command::RollBack {
        operation: operation.into(),
        code: "Test".into(),
        why: "a test".into(),
    }
}

pub fn start_failover(hub: u32, to: &str, operation: &str) -> Command {
    Command::StartFailover {
        hub: HubId(hub),
        to: region(to),
        operation: operation.into(),
        reason: "drill".into(),
        excluded: false,
        drill: None,
    }
}

/// Regions west and east, a subscription, the group `Group`.
pub fn deployed() -> State {
    let mut state = State::default();
    assert_eq!(state.apply(&request("deploy", 1, deploy())), Answer::Done);
    assert!(matches!(
        state.apply(&request("group", 1, put_group("Group"))),
        Answer::Group { .. }
    ));
    state
}

/// As [`deployed`], with the Active hub `Hub-One` (number 1).
pub fn active_hub() -> State {
    let mut state = deployed();
    state.apply(&request("hub", 2, put_hub("Hub-One")));
    state.apply(&request("active", 3, finish("create-Hub-One")));
    assert_eq!(state.hub_named("hub-one").unwrap().state, HubState::Active);
    state
}

pub fn check_refused(answer: &Answer, code: RefusalCode, text: &str) {
    match answer {
        Answer::Refused(refusal) => {
            assert_eq!(refusal.code, code, "{refusal}");
            assert!(
                refusal.message.contains(text),
                "`{text}` in: {}",
                refusal.message
            );
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Facts of a healthy region.
pub fn healthy(hub: &Hub, name: &RegionName) -> RegionFacts {
    let primary = hub.primary == *name;
    let partition = |n| PartitionFacts {
        partition: PartitionId(n),
        role: if primary {
            Role::Primary
        } else {
            Role::Secondary
        },
        epoch: hub.epoch,
        lsn: Lsn(10),
        digest: Some("d1".into()),
        follower_lsn: primary.then_some(Lsn(10)),
        lag_records: 0,
        lag_ms: 0,
        fenced: false,
        corrupt: None,
        time: UnixMillis(9_000),
        word: None,
        tail: None,
        returning: None,
    };
    RegionFacts {
        region: name.clone(),
        version: "1.0.0".into(),
        log_format: 1,
        uptime_ms: 3_600_000,
        roles_known: true,
        lease_held: true,
        lease_left_ms: 4_500,
        control_applied: 100,
        store_healthy: true,
        store_detail: String::new(),
        disk_free_bytes: 100 << 30,
        fsync_ms: 2,
        engine_queue: 0,
        gateway_listening: true,
        sessions: 5,
        link_up: true,
        link_rtt_us: Some(20_000),
        certificate_days: 300,
        clock_offset_ms: 3,
        partitions: (0..hub.partition_count).map(partition).collect(),
    }
}

pub fn good_control() -> ControlFacts {
    ControlFacts {
        leader: Some("west".into()),
        voters: 3,
        voters_up: 3,
        applied: 100,
        operation: None,
    }
}

/// The checks of a healthy pair of regions.
pub fn good_checks(state: &State, op: &Operation, at: i64) -> CheckReport {
    if op.is_forced() {
        return forced_checks(state, op, at);
    }
    let hub = state.hub(op.hub.unwrap()).unwrap();
    let switch = op.switch().unwrap();
    let control = ControlFacts {
        operation: Some(op.id.clone()),
        ..good_control()
    };
    let (one, two) = (healthy(hub, switch.from), healthy(hub, switch.to));
    evaluate(
        state,
        hub,
        switch.to,
        false,
        Some(&one),
        Some(&two),
        &control,
        UnixMillis(at),
    )
}

pub fn opened(hub: &Hub) -> Vec<Position> {
    let position = |n| Position {
        partition: PartitionId(n),
        lsn: Lsn(10),
        next_sequence: Sequence(7),
    };
    (0..hub.partition_count).map(position).collect()
}

pub fn handover(hub: &Hub) -> HandoverDetail {
    let end = |n| Handover {
        partition: PartitionId(n),
        end: Lsn(10),
        digest: "d1".into(),
    };
    HandoverDetail {
        partitions: (0..hub.partition_count).map(end).collect(),
    }
}

/// What a coordinator records after it performed an action on healthy regions; `None`: nothing to do.
pub fn performed(state: &State, id: &str, action: &Action, at: i64) -> Option<Command> {
    let op = &state.operations[id];
    let hub = state.hub(op.hub.unwrap()).unwrap();
    let operation = id.to_owned();
    let ended = |step, detail| {
        Some(Command::StepEnded {
            operation: id.to_owned(),
            step,
            detail,
        })
    };
    match action {
        Action::GatherFacts => ended(StepName::Check, record(&good_checks(state, op, at))),
        Action::Warm => ended(
            StepName::Warm,
            record(&WarmDetail {
                lag_records: 3,
                lag_ms: 20,
            }),
        ),
        Action::Fence => ended(StepName::Fence, record(&handover(hub))),
        Action::CatchUp => ended(StepName::CatchUp, record(&handover(hub))),
        Action::Open => ended(
            StepName::Open,
            record(&OpenDetail {
                sockets_before: Some(5),
                sockets_kept: Some(5),
                requests_parked: 1,
                opened: opened(hub),
            }),
        ),
        Action::AwaitLease => ended(
            StepName::Lease,
            record(&LeaseDetail {
                waited_ms: 5_100,
                confirmed: false,
            }),
        ),
        Action::Reverse => ended(
            StepName::Reverse,
            record(&ReverseDetail {
                partitions_following: hub.partition_count,
            }),
        ),
        Action::Unfence => ended(
            StepName::RollBack,
            record(&UnfenceDetail {
                partitions_released: hub.partition_count,
            }),
        ),
        Action::Commit => {
            let switch = op.switch().unwrap();
            let detail = CommitDetail {
                epoch: switch.epoch.next(),
                primary: switch.to.clone(),
            };
            Some(Command::CommitFailover {
                operation,
                detail: record(&detail),
                caught_up: None,
            })
        }
        Action::RollBack { code, why } => Some(Command::RollBack {
            operation,
            code: code.clone(),
            why: why.clone(),
        }),
        Action::Finish { error } => {
            let facts = ReportFacts {
                at: UnixMillis(at),
                devices: Some(12),
            };
            Some(Command::Finish {
                operation,
                report: Some(report(op, hub, &facts)),
                error: error.clone(),
            })
        }
        Action::Wait { .. } => None,
    }
}

/// One turn of a coordinator that sees and reaches everything.
pub fn turn(state: &mut State, id: &str, at: i64) -> Action {
    let op = &state.operations[id];
    let Some(hub) = state.hub(op.hub.unwrap()) else {
        return Action::Wait {
            why: "no hub".into(),
        };
    };
    let action = next_action(op, hub, UnixMillis(at).max(state.time), &Timings::default());
    if action.needs_start(op) {
        let step = action.step().unwrap();
        state.apply(&request(
            "",
            at,
            Command::StepStarted {
                operation: id.into(),
                step,
            },
        ));
    }
    if let Some(command) = performed(state, id, &action, at) {
        state.apply(&request("", at, command));
    }
    action
}

/// Drives a running failover until `step` has ended.
pub fn advance(state: &mut State, id: &str, from: i64, step: StepName) {
    for at in from..from + 20 {
        if state.operations[id].has_ended(step) {
            return;
        }
        turn(state, id, at);
    }
    panic!("{:?} did not end: {:?}", step, state.operations[id]);
}

/// Fails hub 1 over to `to`, all well; gives the instant at which it ended.
pub fn switch(state: &mut State, id: &str, to: &str, at: i64) -> i64 {
    let before: Epoch = state.hub(HubId(1)).unwrap().epoch;
    let answer = state.apply(&request("", at, start_failover(1, to, id)));
    assert!(matches!(answer, Answer::Operation(_)), "{answer:?}");
    for n in 1..20 {
        turn(state, id, at + n);
        if let Some(ended) = state.operations[id].ended {
            assert_eq!(state.operations[id].status, OperationStatus::Succeeded);
            assert_eq!(state.hub(HubId(1)).unwrap().epoch, before.next());
            return ended.0;
        }
    }
    panic!("no end: {:?}", state.operations[id]);
}
