//! The queue against a simple model, over random histories: nothing lost before its expiry, nothing delivered after its end,
//! first in first out, bounded depth, right delivery counts, and one matching feedback record per message.

use super::world::{World, device, message};
use crate::command::{C2dCommand, C2dMessage, FeedbackCommand, LockOwner};
use crate::{Command, Reply};
use proptest::prelude::*;
use std::collections::BTreeMap;
use types::{ConnectionId, ErrorCode, UnixMillis, limits};

const DELIVERIES_MAX: u16 = 3;

#[derive(Clone, Debug)]
enum Op {
    Send {
        count: usize,
        life: i64,
    },
    Lock {
        owner: LockOwner,
        max: usize,
        lock_ms: i64,
    },
    /// The token given out at this place of the history (modulo its length).
    Complete(usize),
    Reject(usize),
    Abandon(usize),
    Release(u64),
    Purge,
    Sweep(usize),
    Wait(i64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let owner = prop_oneof![
        Just(LockOwner::Http),
        (1..4u64).prop_map(|n| LockOwner::Connection(ConnectionId(n)))
    ];
    let op = prop_oneof![
        4 => (1..4usize, 1..2000i64).prop_map(|(count, life)| Op::Send { count, life }),
        1 => (20..60usize, 1..2000i64).prop_map(|(count, life)| Op::Send { count, life }),
        6 => (owner, 0..12usize, 1..600i64).prop_map(|(owner, max, lock_ms)| Op::Lock { owner, max, lock_ms }),
        4 => any::<usize>().prop_map(Op::Complete),
        2 => any::<usize>().prop_map(Op::Reject),
        3 => any::<usize>().prop_map(Op::Abandon),
        1 => (1..4u64).prop_map(Op::Release),
        1 => Just(Op::Purge),
        3 => (0..10usize).prop_map(Op::Sweep),
        5 => (1..500i64).prop_map(Op::Wait),
    ];
    proptest::collection::vec(op, 1..80)
}

/// A message as the model sees it.
#[derive(Debug)]
struct Modelled {
    expiry: i64,
    deliveries: u16,
    redelivered: bool,
    held: Option<Held>,
    /// The token that may still complete it.
    token: Option<String>,
    end: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    until: i64,
    owner: LockOwner,
}

/// Ends by itself. Which of the two is found out late, so either may be told.
const BY_ITSELF: &str = "Expired or DeliveryCountExceeded";

impl Modelled {
    /// Lets pass what happens by itself up to `now`.
    fn settle(&mut self, now: i64) {
        if self.end.is_some() {
            return;
        }
        if self.held.is_some_and(|held| held.until <= now) {
            self.back();
            self.deliveries += 1;
        }
        if self.held.is_none() && (self.expiry <= now || self.deliveries >= DELIVERIES_MAX) {
            self.end = Some(BY_ITSELF);
        }
    }

    fn back(&mut self) {
        self.held = None;
        self.redelivered = true;
    }

    fn is_alive(&self) -> bool {
        self.end.is_none()
    }
}

struct Model {
    world: World,
    messages: BTreeMap<u64, Modelled>,
    tokens: Vec<(u64, String)>,
}

impl Model {
    fn new() -> Model {
        let mut world = World::new();
        world.settings.cloud_to_device.max_delivery_count = DELIVERIES_MAX;
        Model {
            world,
            messages: BTreeMap::new(),
            tokens: Vec::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        let now = self.world.now.0;
        self.messages
            .values_mut()
            .for_each(|message| message.settle(now));
        match op {
            Op::Send { count, life } => (0..*count).for_each(|_| self.send(*life)),
            Op::Lock {
                owner,
                max,
                lock_ms,
            } => self.lock(*owner, *max, *lock_ms),
            Op::Complete(at) => self.complete(*at),
            Op::Reject(at) => {
                self.give_up(*at, World::reject, |message| message.end = Some("Rejected"))
            }
            Op::Abandon(at) => self.give_up(*at, World::abandon, |message| {
                message.back();
                message.deliveries += 1;
                message.token = None;
                message.settle(now);
            }),
            Op::Release(number) => self.release(ConnectionId(*number)),
            Op::Purge => {
                self.world
                    .c2d(C2dCommand::Purge {
                        device: device("d1"),
                    })
                    .unwrap();
                self.messages
                    .values_mut()
                    .filter(|m| m.is_alive())
                    .for_each(|m| m.end = Some("Purged"));
            }
            Op::Sweep(max) => drop(self.world.c2d(C2dCommand::Sweep { max: *max }).unwrap()),
            Op::Wait(millis) => self.world.advance(*millis),
        }
        self.world.check_indexes();
    }

    fn send(&mut self, life: i64) {
        let alive = self.messages.values().filter(|m| m.is_alive()).count();
        let expiry = self.world.now.plus(life);
        let id = format!("m{}", self.messages.len() + 1);
        let message = C2dMessage {
            expiry: Some(expiry),
            ..message(&id)
        };
        let answer = self.world.run_unchecked(Command::C2d(C2dCommand::Send {
            device: device("d1"),
            message,
        }));
        if alive >= limits::C2D_QUEUE_DEPTH_MAX {
            assert_eq!(
                answer.err(),
                Some(ErrorCode::DeviceMaximumQueueDepthExceeded)
            );
            return;
        }
        let Ok(Reply::C2dQueued { sequence, .. }) = answer.map(|decision| decision.reply) else {
            panic!("there is room")
        };
        let fresh = Modelled {
            expiry: expiry.0,
            deliveries: 0,
            redelivered: false,
            held: None,
            token: None,
            end: None,
        };
        assert!(self.messages.keys().all(|former| *former < sequence));
        self.messages.insert(sequence, fresh);
    }

    fn lock(&mut self, owner: LockOwner, max: usize, lock_ms: i64) {
        let now = self.world.now;
        if matches!(owner, LockOwner::Connection(_)) {
            let other = |held: Held| held.owner != owner && held.owner != LockOwner::Http;
            for message in self
                .messages
                .values_mut()
                .filter(|m| m.is_alive() && m.held.is_some_and(other))
            {
                message.back();
                message.settle(now.0);
            }
        }
        let command = C2dCommand::Lock {
            device: device("d1"),
            max,
            owner,
            lock_ms,
        };
        let Reply::C2dMessages(given) = self.world.c2d(command).unwrap().reply else {
            panic!("a lock gives messages")
        };
        let free = self
            .messages
            .iter_mut()
            .filter(|(_, m)| m.is_alive() && m.held.is_none());
        let mut expected: Vec<_> = free.take(max).collect();
        assert_eq!(
            given.iter().map(|g| g.sequence).collect::<Vec<_>>(),
            expected.iter().map(|(s, _)| **s).collect::<Vec<_>>()
        );
        for (given, (sequence, modelled)) in given.into_iter().zip(&mut expected) {
            assert!(given.expiry > now, "delivered after its expiry");
            assert_eq!(
                (given.delivery_count, given.redelivered),
                (modelled.deliveries, modelled.redelivered)
            );
            assert_eq!(given.message.message_id, format!("m{sequence}"));
            assert!(
                self.tokens
                    .iter()
                    .all(|(_, former)| *former != given.lock_token),
                "a token was given twice"
            );
            modelled.held = Some(Held {
                until: now.plus(lock_ms).0,
                owner,
            });
            modelled.token = Some(given.lock_token.clone());
            self.tokens.push((given.sequence, given.lock_token));
        }
    }

    fn complete(&mut self, at: usize) {
        let Some((sequence, token)) = self.pick(at) else {
            return;
        };
        let answer = self.world.complete(&token);
        let modelled = self.messages.get_mut(&sequence).expect("it was sent");
        let is_last = modelled.token.as_ref() == Some(&token);
        if modelled.is_alive() && is_last {
            assert_eq!(answer, Ok(()));
        } else if !(is_last && modelled.end == Some(BY_ITSELF)) {
            assert_eq!(answer, Err(ErrorCode::DeviceMessageLockLost));
        }
        // A message that ended by itself may still be completed until that is noticed.
        if answer.is_ok() {
            (modelled.end, modelled.held) = (Some("Success"), None);
        }
    }

    fn give_up(
        &mut self,
        at: usize,
        call: fn(&mut World, &str) -> Result<(), ErrorCode>,
        then: impl Fn(&mut Modelled),
    ) {
        let Some((sequence, token)) = self.pick(at) else {
            return;
        };
        let answer = call(&mut self.world, &token);
        let modelled = self.messages.get_mut(&sequence).expect("it was sent");
        if modelled.is_alive() && modelled.held.is_some() && modelled.token.as_ref() == Some(&token)
        {
            assert_eq!(answer, Ok(()));
            then(modelled);
        } else {
            assert_eq!(answer, Err(ErrorCode::DeviceMessageLockLost));
        }
    }

    fn pick(&self, at: usize) -> Option<(u64, String)> {
        self.tokens.get(at.checked_rem(self.tokens.len())?).cloned()
    }

    fn release(&mut self, connection: ConnectionId) {
        // Time-outs are noticed first, so that both sides count them alike.
        self.world.c2d(C2dCommand::Sweep { max: 1000 }).unwrap();
        let mut writes = crate::WriteSet::default();
        super::release(&self.world.view, &device("d1"), connection, &mut writes).unwrap();
        self.world.view.apply(&writes);
        let held = |held: Held| held.owner == LockOwner::Connection(connection);
        self.messages
            .values_mut()
            .filter(|m| m.is_alive() && m.held.is_some_and(held))
            .for_each(|m| m.back());
    }

    /// Everything that is alive is still there, everything else has left, and each end was told once.
    fn check_end(mut self) {
        self.world.c2d(C2dCommand::Sweep { max: 1000 }).unwrap();
        let now = self.world.now.0;
        self.messages
            .values_mut()
            .for_each(|message| message.settle(now));
        let queue = super::Queue::load(&self.world.view, &device("d1")).unwrap();
        let alive: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, m)| m.is_alive())
            .map(|(s, _)| *s)
            .collect();
        assert_eq!(
            queue
                .messages
                .iter()
                .map(|entry| entry.sequence)
                .collect::<Vec<_>>(),
            alive
        );
        assert!(
            self.world
                .c2d(C2dCommand::Sweep { max: 1000 })
                .unwrap()
                .writes
                .is_empty()
        );

        let told: Vec<(String, String)> = self.world.feedback();
        let told_by_id: BTreeMap<_, _> = told.iter().cloned().collect();
        assert_eq!(told_by_id.len(), told.len(), "feedback came twice");
        let ended = self
            .messages
            .iter()
            .filter_map(|(sequence, m)| m.end.map(|end| (format!("m{sequence}"), end)));
        for (id, end) in ended {
            let status = told_by_id
                .get(&id)
                .unwrap_or_else(|| panic!("no feedback for {id}"));
            assert!(
                end == status || (end == BY_ITSELF && BY_ITSELF.split(" or ").any(|s| s == status)),
                "{id}: {end} {status}"
            );
        }
        assert_eq!(told.len(), self.messages.len() - alive.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_histories_agree_with_the_model(ops in ops()) {
        let mut model = Model::new();
        for op in &ops {
            model.step(op);
        }
        model.check_end();
    }
}

#[test]
fn feedback_outlives_many_histories_in_one_queue() {
    let mut world = World::new();
    for _ in 0..100 {
        world
            .send(C2dMessage {
                expiry: Some(UnixMillis(world.now.0 + 1)),
                ..message("m")
            })
            .unwrap();
        world.advance(1);
        world.sweep();
    }
    let batch = world.feedback_batch().unwrap();
    world
        .run(Command::Feedback(FeedbackCommand::Abandon {
            lock_token: batch.lock_token,
        }))
        .unwrap();
    assert_eq!(world.feedback().len(), 100);
}
