//! Helpers for forced failovers.

use super::*;
use crate::checks::{ForcedQuestion, evaluate_forced};
use crate::divergence::LostRange;
use crate::facts::{Tail, Word};
use crate::loss::{AcceptedLoss, LossEstimate, Words};

/// Much, but not everything.
pub const SOME: AcceptedLoss = AcceptedLoss {
    span_ms: Some(60_000),
    records: None,
    all: false,
};

pub const ALL: AcceptedLoss = AcceptedLoss {
    span_ms: None,
    records: None,
    all: true,
};

pub fn start_forced(hub: u32, to: &str, operation: &str, accept: AcceptedLoss) -> Command {
    Command::StartForcedFailover {
        hub: HubId(hub),
        to: region(to),
        operation: operation.into(),
        reason: "the other one burns".into(),
        excluded: false,
        accept,
        shown: LossEstimate::default(),
    }
}

/// A primary's word: at record 10 + `ahead`, `ahead` seconds later than what [`healthy`] has.
pub fn word(epoch: Epoch, ahead: u64) -> Word {
    let time = UnixMillis(9_000 + 1_000 * ahead as i64);
    Word {
        epoch,
        lsn: Lsn(10 + ahead),
        next_sequence: Sequence(7 + ahead),
        time,
        tail: Tail {
            after: Lsn(10),
            records: ahead,
            bytes: 100 * ahead,
            oldest: (ahead > 0).then_some(UnixMillis(9_500)),
            devices: ahead.min(1),
            devices_cut: false,
            kinds: [("telemetry".to_owned(), ahead), ("t".to_owned(), 1)].into(),
        },
    }
}

/// As [`healthy`], with the primary's words heard 400 ms ago: `ahead` records more in partition 0.
pub fn bereft(hub: &Hub, name: &RegionName, ahead: u64) -> RegionFacts {
    let mut facts = healthy(hub, name);
    for p in &mut facts.partitions {
        p.role = Role::Secondary;
        p.follower_lsn = None;
        let ahead = if p.partition.0 == 0 { ahead } else { 0 };
        p.word = Some((word(hub.epoch, ahead), 400));
    }
    facts
}

/// The checks of a forced failover with nothing to hear of the primary.
pub fn forced_checks(state: &State, op: &Operation, at: i64) -> CheckReport {
    let hub = state.hub(op.hub.unwrap()).unwrap();
    let switch = op.switch().unwrap();
    let control = ControlFacts {
        operation: Some(op.id.clone()),
        ..good_control()
    };
    evaluate_forced(&ForcedQuestion {
        state,
        hub,
        to: switch.to,
        primary: None,
        secondary: Some(&bereft(hub, switch.to, 3)),
        words: &Words::new(),
        accept: None,
        control: &control,
        now: UnixMillis(at),
    })
}

pub fn lost_range(partition: u16, records: u64) -> LostRange {
    LostRange {
        partition: PartitionId(partition),
        from: Lsn(11),
        to: Lsn(10 + records),
        records,
        events: records / 2,
        bytes: 100 * records,
        first_time: (records > 0).then_some(UnixMillis(9_500)),
        last_time: (records > 0).then_some(UnixMillis(9_500 + 10 * records as i64)),
    }
}

pub fn returned(operation: &str, region_name: &str, partitions: Vec<LostRange>) -> Command {
    Command::Returned {
        hub: HubId(1),
        operation: operation.into(),
        region: region(region_name),
        partitions,
    }
}

/// Forces hub 1 over to `to`, which works; gives the instant at which it ended.
pub fn force(state: &mut State, id: &str, to: &str, at: i64) -> i64 {
    let before: Epoch = state.hub(HubId(1)).unwrap().epoch;
    let answer = state.apply(&request("", at, start_forced(1, to, id, ALL)));
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
