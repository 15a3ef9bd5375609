//! Random histories: whatever is asked, in whatever order and however often, the state stays legal and nothing is stuck.

mod invariants;
mod requests;

use crate::drill::{DrillAction, drill_next};
use crate::failover::{Timings, next_action};
use crate::model::*;
use crate::testing::*;
use crate::{Answer, Command, Request};
use invariants::{check_drills, check_hub, check_operation};
use proptest::prelude::*;
use requests::{asked, back, leg, stray};
use std::collections::{BTreeMap, BTreeSet};
use types::{Epoch, HubId, UnixMillis};

/// What the world does next. Small numbers choose among few names, so that collisions are common.
#[derive(Clone, Debug)]
enum Event {
    Ask {
        command: Asked,
        hub: u8,
        id: u8,
    },
    /// A step of the coordinator of operation `id`; what it records may be lost or come twice.
    Coordinate {
        id: u8,
        lost: bool,
        twice: bool,
    },
    /// A step of the coordinator of drills; what it asks for may be lost.
    DriveDrill {
        lost: bool,
    },
    /// The coordinator looks now and records later, after others have done so: a leader that was replaced.
    LookNow {
        id: u8,
    },
    RecordLate,
    /// A record out of nowhere.
    Stray {
        id: u8,
        step: u8,
        kind: u8,
    },
    Time {
        ms: i64,
    },
    /// The last request again, under the same id.
    Repeat,
    /// The process restarts from its snapshot.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    PutHub,
    DeleteHub,
    PutGroup,
    DeleteGroup,
    PutConsumerGroup,
    FailOver,
    Force,
    Cancel,
    Return,
    Drill,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use Asked::*;
    let asked = prop_oneof![
        4 => Just(PutHub), 1 => Just(DeleteHub), 2 => Just(PutGroup), 1 => Just(DeleteGroup),
        1 => Just(PutConsumerGroup), 6 => Just(FailOver), 3 => Just(Force), 2 => Just(Cancel), 3 => Just(Return), 2 => Just(Drill)
    ];
    let id = 0..6u8;
    let event = prop_oneof![
        10 => (asked, 0..3u8, id.clone()).prop_map(|(command, hub, id)| Event::Ask { command, hub, id }),
        26 => (id.clone(), any::<bool>(), any::<bool>()).prop_map(|(id, a, b)| Event::Coordinate { id, lost: a && b, twice: a }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Event::DriveDrill { lost: a && b }),
        2 => id.clone().prop_map(|id| Event::LookNow { id }),
        2 => Just(Event::RecordLate),
        2 => (id, 0..9u8, 0..6u8).prop_map(|(id, step, kind)| Event::Stray { id, step, kind }),
        3 => prop_oneof![-500..6_000i64, 1_000_000..90_000_000i64].prop_map(|ms| Event::Time { ms }),
        1 => Just(Event::Repeat),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(event, 0..120)
}

struct World {
    state: State,
    now: i64,
    requests: u64,
    last: Option<Request>,
    /// What a replaced leader has still to record.
    late: Option<Command>,
    /// Epoch and primary of each hub as last seen.
    seen: BTreeMap<HubId, (Epoch, String)>,
}

impl World {
    fn new() -> Self {
        World {
            state: deployed(),
            now: 10_000,
            requests: 0,
            last: None,
            late: None,
            seen: BTreeMap::new(),
        }
    }

    fn apply(&mut self, command: Command) -> Answer {
        self.requests += 1;
        let request = request(&format!("r{}", self.requests), self.now, command);
        let before = self.state.clone();
        let answer = self.state.apply(&request);
        let committed = matches!(&request.command, Command::CommitFailover { .. })
            && matches!(answer, Answer::Epoch(_));
        self.check(&before, committed);
        if matches!(answer, Answer::Refused(_)) {
            assert_eq!(before.revision, self.state.revision);
            assert_eq!(
                (&before.hubs, &before.operations, &before.drills),
                (&self.state.hubs, &self.state.operations, &self.state.drills)
            );
        }
        self.last = Some(request);
        answer
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Ask { command, hub, id } => {
                drop(self.apply(asked(&self.state, command, hub, id)))
            }
            Event::Coordinate { id, lost, twice } => self.coordinate(&self.target(id), lost, twice),
            Event::DriveDrill { lost } => self.drive_drill(lost),
            Event::LookNow { id } => self.late = self.next_record(&self.target(id)),
            Event::RecordLate => {
                if let Some(command) = self.late.take() {
                    self.apply(command);
                }
            }
            Event::Stray { id, step, kind } => {
                drop(self.apply(stray(&self.target(id), step, kind)))
            }
            Event::Time { ms } => self.now += ms,
            Event::Repeat => {
                if let Some(request) = self.last.clone() {
                    let before = self.state.clone();
                    self.state.apply(&request);
                    assert_eq!(
                        before, self.state,
                        "a request that came twice changed something"
                    );
                }
            }
            Event::Restart => {
                let restored = State::restore(&self.state.snapshot()).unwrap();
                assert_eq!(restored, self.state);
                assert_eq!(crate::activity::verify(&restored.activity), Ok(()));
                self.state = restored;
            }
        }
    }

    /// Mostly an operation that runs, else some name.
    fn target(&self, id: u8) -> String {
        let running: Vec<_> = self.state.running_operations().collect();
        match running.get(usize::from(id) % running.len().max(1)) {
            Some(op) => op.id.clone(),
            None => format!("op-{id}"),
        }
    }

    /// What the coordinator would record next for an operation of any kind.
    fn next_record(&self, id: &str) -> Option<Command> {
        let op = self.state.operations.get(id).filter(|op| op.is_running())?;
        if op.switch().is_none() {
            return Some(finish(id));
        }
        let hub = self.state.hub(op.hub?)?;
        let action = next_action(
            op,
            hub,
            UnixMillis(self.now).max(self.state.time),
            &Timings::default(),
        );
        if action.needs_start(op) {
            return Some(Command::StepStarted {
                operation: id.into(),
                step: action.step()?,
            });
        }
        performed(&self.state, id, &action, self.now)
    }

    fn coordinate(&mut self, id: &str, lost: bool, twice: bool) {
        let Some(command) = self.next_record(id) else {
            return;
        };
        if lost {
            return;
        }
        self.now += 1;
        self.apply(command.clone());
        if twice {
            self.apply(command);
        }
    }

    /// What a coordinator does for the drill that runs: what is refused ends it.
    fn drive_drill(&mut self, lost: bool) {
        let Some(drill) = self.state.running_drills().next().cloned() else {
            return;
        };
        let now = UnixMillis(self.now).max(self.state.time);
        let end = |error| Command::EndDrill {
            drill: drill.id.clone(),
            report: None,
            error,
        };
        let command = match drill_next(&self.state, &drill, now) {
            DrillAction::StartForward => leg(&drill, 0),
            DrillAction::StartBack => leg(&drill, 1),
            DrillAction::End { error } => end(error),
            DrillAction::Wait => return,
        };
        if lost {
            return;
        }
        if let Answer::Refused(refusal) = self.apply(command) {
            self.apply(end(Some((format!("{:?}", refusal.code), refusal.message))));
        }
    }

    /// The invariants of hubs and operations.
    fn check(&mut self, before: &State, committed: bool) {
        let state = &self.state;
        assert!(state.time >= before.time && state.revision >= before.revision);
        let numbers: BTreeSet<_> = state.hubs.values().map(|hub| hub.id).collect();
        assert_eq!(numbers.len(), state.hubs.len());
        for (key, hub) in &state.hubs {
            check_hub(state, key, hub);
            let seen = (hub.epoch, hub.primary.to_string());
            match self.seen.insert(hub.id, seen.clone()) {
                None => assert_eq!(hub.epoch, Epoch(1)),
                Some(old) if old == seen => {}
                Some(old) => {
                    assert!(committed, "epoch or primary changed without a commit");
                    assert_eq!(old.0.next(), hub.epoch);
                    assert_ne!(old.1, hub.primary.to_string());
                }
            }
        }
        for op in state.operations.values() {
            check_operation(state, op);
        }
        check_drills(state);
    }

    /// A region that was lost may return at any time; then nobody is away.
    fn bring_all_back(&mut self) {
        let away: Vec<_> = self
            .state
            .hubs
            .values()
            .filter_map(|hub| Some(back(hub.id, hub.away()?)))
            .collect();
        for command in away {
            assert_eq!(self.apply(command), Answer::Done);
        }
    }

    /// I8: however it stands, coordinators that work bring every operation to an end.
    fn drive_to_the_end(&mut self) {
        for _ in 0..400 {
            let running: Vec<_> = self
                .state
                .running_operations()
                .map(|op| op.id.clone())
                .collect();
            if running.is_empty() && self.state.running_drills().next().is_none() {
                return;
            }
            self.now += 50;
            self.drive_drill(false);
            for id in running {
                self.coordinate(&id, false, false);
            }
        }
        panic!(
            "stuck: {:#?}",
            self.state.running_operations().collect::<Vec<_>>()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_reaches_an_illegal_state_or_an_operation_without_end(history in events()) {
        let mut world = World::new();
        for event in history {
            world.event(event);
        }
        world.drive_to_the_end();
        prop_assert!(world.state.hubs.values().all(|hub| hub.operation.is_none()));
        world.bring_all_back();
        prop_assert!(world.state.hubs.values().all(|hub| hub.away().is_none()));
    }

    #[test]
    fn voters_that_apply_the_same_requests_agree(history in events()) {
        let (mut one, mut two) = (World::new(), World::new());
        for event in history {
            one.event(event.clone());
            two.event(event);
        }
        prop_assert_eq!(one.state.snapshot(), two.state.snapshot());
    }
}

#[test]
fn histories_do_reach_every_end_of_each_kind() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::new();
    for _ in 0..500 {
        let mut world = World::new();
        for event in events().new_tree(&mut runner).unwrap().current() {
            world.event(event);
        }
        for op in world
            .state
            .operations
            .values()
            .filter(|op| op.switch().is_some())
        {
            let forced = if op.is_forced() { "forced " } else { "" };
            *reached
                .entry(format!("{forced}{:?}", op.status))
                .or_insert(0) += 1;
        }
        let drills = |state: &State, reached: &mut BTreeMap<String, i32>| {
            for drill in state.drills.values() {
                *reached
                    .entry(format!("drill {:?}", drill.status))
                    .or_insert(0) += 1;
            }
        };
        drills(&world.state, &mut reached);
        world.drive_to_the_end();
        drills(&world.state, &mut reached);
    }
    for status in [
        "Succeeded",
        "RolledBack",
        "Cancelled",
        "Running",
        "forced Succeeded",
        "forced RolledBack",
        "forced Cancelled",
        "forced Running",
        "drill Succeeded",
        "drill Failed",
        "drill Running",
    ] {
        assert!(reached.get(status).is_some_and(|n| *n >= 5), "{reached:?}");
    }
}
