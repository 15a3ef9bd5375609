//! Random histories: whatever is asked, in whatever order and however often, the state stays legal and nothing is stuck.

use crate::details::record;
use crate::failover::{Action, Timings, next_action};
use crate::model::*;
use crate::testing::*;
use crate::{Answer, Command, Request};
use proptest::prelude::*;
use serde_json::json;
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
    Cancel,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use Asked::*;
    let asked = prop_oneof![
        4 => Just(PutHub), 1 => Just(DeleteHub), 2 => Just(PutGroup), 1 => Just(DeleteGroup),
        1 => Just(PutConsumerGroup), 6 => Just(FailOver), 2 => Just(Cancel)
    ];
    let id = 0..6u8;
    let event = prop_oneof![
        6 => (asked, 0..3u8, id.clone()).prop_map(|(command, hub, id)| Event::Ask { command, hub, id }),
        20 => (id.clone(), any::<bool>(), any::<bool>()).prop_map(|(id, a, b)| Event::Coordinate { id, lost: a && b, twice: a }),
        2 => id.clone().prop_map(|id| Event::LookNow { id }),
        2 => Just(Event::RecordLate),
        2 => (id, 0..8u8, 0..6u8).prop_map(|(id, step, kind)| Event::Stray { id, step, kind }),
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
                (&before.hubs, &before.operations),
                (&self.state.hubs, &self.state.operations)
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
    }

    /// I8: however it stands, coordinators that work bring every operation to an end.
    fn drive_to_the_end(&mut self) {
        for _ in 0..400 {
            let running: Vec<_> = self
                .state
                .running_operations()
                .map(|op| op.id.clone())
                .collect();
            if running.is_empty() {
                return;
            }
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

fn check_hub(state: &State, key: &str, hub: &Hub) {
    assert_eq!(*key, hub.name.key());
    assert!(hub.primary == hub.home || Some(&hub.primary) == hub.partner.as_ref());
    assert!(
        state
            .group(&hub.subscription, &hub.resource_group)
            .is_some(),
        "a hub without a group"
    );
    let running: Vec<_> = state
        .running_operations()
        .filter(|op| op.hub == Some(hub.id))
        .collect();
    assert!(
        running.len() <= 1,
        "two operations run on one hub: {running:?}"
    );
    assert_eq!(hub.operation.as_ref(), running.first().map(|op| &op.id));
    let expected = match running.first().map(|op| &op.kind) {
        Some(OperationKind::CreateHub) => HubState::Activating,
        Some(OperationKind::DeleteHub) => HubState::Deleting,
        Some(OperationKind::Failover { .. }) => HubState::FailingOver,
        Some(other) => panic!("{other:?} runs on a hub"),
        None if hub.state == HubState::Deleting => HubState::Deleting,
        None => HubState::Active,
    };
    assert_eq!(hub.state, expected);
}

fn check_operation(state: &State, op: &Operation) {
    assert_eq!(op.is_running(), op.ended.is_none());
    assert!(!op.legal_next().is_empty());
    assert_eq!(op.legal_next().starts_with("none"), !op.is_running());
    let names: BTreeSet<_> = op.steps.iter().map(|step| step.name).collect();
    assert_eq!(names.len(), op.steps.len(), "a step stands twice");
    assert!(
        !(op.is_committed() && op.is_rolling_back()),
        "committed and rolled back"
    );
    let planned: Vec<_> = op
        .steps
        .iter()
        .map(|s| s.name)
        .filter(|name| *name != StepName::RollBack)
        .collect();
    assert_eq!(
        planned,
        StepName::PLANNED[..planned.len()],
        "steps are out of order"
    );
    for pair in op.steps.windows(2) {
        let skipped = pair[1].name == StepName::RollBack;
        assert!(
            skipped || pair[0].ended.is_some_and(|ended| ended <= pair[1].started),
            "{pair:?}"
        );
    }
    match op.status {
        OperationStatus::Succeeded if op.switch().is_some() => {
            assert!(op.has_ended(StepName::Reverse))
        }
        OperationStatus::RolledBack | OperationStatus::Cancelled => {
            assert!(!op.is_committed() && op.error.is_some())
        }
        OperationStatus::Running if op.switch().is_some() => {
            let hub = state
                .hub(op.hub.unwrap())
                .expect("a hub that fails over is there");
            let action = next_action(op, hub, state.time, &Timings::default());
            assert!(
                !matches!(action, Action::Wait { .. }),
                "a running failover has nothing to do: {op:?}"
            );
        }
        _ => {}
    }
}

fn asked(state: &State, command: Asked, hub: u8, id: u8) -> Command {
    let name = ["Hub-One", "hub-two", "HUB-ONE"][usize::from(hub)];
    let operation = format!("op-{id}");
    let number = state.hub_named(name).map_or(HubId(99), |hub| hub.id);
    match command {
        Asked::PutHub => {
            let mut spec = spec(name);
            spec.tags = [("n".to_owned(), id.to_string())].into();
            spec.partner = (id != 3).then(|| region("east"));
            Command::PutHub {
                operation,
                spec: Box::new(spec),
            }
        }
        Asked::DeleteHub => {
            let (subscription, group) = (SUB.into(), "group".into());
            Command::DeleteHub {
                subscription,
                group,
                name: name.into(),
                operation,
            }
        }
        Asked::PutGroup => put_group("Group"),
        Asked::DeleteGroup => Command::DeleteGroup {
            subscription: SUB.into(),
            name: "group".into(),
            operation,
        },
        Asked::PutConsumerGroup => Command::PutConsumerGroup {
            hub: number,
            name: format!("cg{id}"),
        },
        Asked::FailOver => start_failover(
            number.0,
            if id.is_multiple_of(2) { "east" } else { "west" },
            &operation,
        ),
        Asked::Cancel => {
            let running = state.running_operations().find(|op| op.switch().is_some());
            Command::CancelFailover {
                operation: running.map_or(operation, |op| op.id.clone()),
            }
        }
    }
}

fn stray(id: &str, step: u8, kind: u8) -> Command {
    let operation = id.to_owned();
    let steps = [StepName::PLANNED.as_slice(), &[StepName::RollBack]].concat();
    let step = steps[usize::from(step) % steps.len()];
    match kind {
        0 => Command::StepStarted { operation, step },
        1 => Command::StepEnded {
            operation,
            step,
            detail: record(&json!({ "stray": true })),
        },
        2 => Command::CommitFailover {
            operation,
            detail: json!(null),
        },
        3 => roll_back(id),
        4 => finish(id),
        _ => fail(id),
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
fn histories_do_reach_successes_roll_backs_and_cancels() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::new();
    for _ in 0..300 {
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
            *reached.entry(format!("{:?}", op.status)).or_insert(0) += 1;
        }
    }
    for status in ["Succeeded", "RolledBack", "Cancelled", "Running"] {
        assert!(reached.get(status).is_some_and(|n| *n >= 5), "{reached:?}");
    }
}
