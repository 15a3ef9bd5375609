//! The phases of a run.

use super::clients::{Client, Kind, device_id};
use super::event::Happening;
use super::{Phase, World};
use crate::history::{Asked, Entry, EventId};
use std::collections::VecDeque;

const LOOK_EVERY_MS: i64 = 100;
/// Clients go on for so long after everything was healed.
const CALM_MS: i64 = 3000;
/// Longer than any lock: what was forgotten is free again.
const LOCKS_END_MS: i64 = 3500;
/// From healing to the last questions, at most: what takes longer is stuck. The longest wait that is allowed is the warm step's.
const SETTLE_MS_MAX: i64 = 100_000;
const AUDIT_MS_MAX: i64 = 30_000;
/// Counters of the last questions' own telemetry.
const AUDIT_COUNTER: u32 = 1_000_000;

impl World {
    /// The devices are registered: the clients begin, and so do the troubles.
    pub(super) fn founded(&mut self) {
        self.enter(Phase::Storm);
        self.storm_until += self.now;
        for client in 0..self.clients.len() {
            let late = self.rng.range(0, 200);
            self.after(late, Happening::Client { client });
        }
        if self.script.is_some() {
            return self.begin_script();
        }
        let first = self.rng.range(500, 3000);
        self.after(first, Happening::Operator);
        self.next_trouble();
        for (late, trouble) in std::mem::take(&mut self.disasters) {
            self.after(late, Happening::Trouble(trouble));
        }
    }

    fn next_trouble(&mut self) {
        let Some((least, most)) = self.trouble_ms else {
            return;
        };
        let mut at = self.now;
        while at < self.storm_until {
            at += self.rng.range(least, most);
            let trouble = self.mix.draw(&mut self.rng);
            self.at(at, Happening::Trouble(trouble));
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_since = self.now;
    }

    pub(super) fn look_at_phase(&mut self) {
        self.after(LOOK_EVERY_MS, Happening::Phase);
        let since = self.now - self.phase_since;
        match self.phase {
            // Half a minute is ample on a world without troubles; later the checkers say what is missing.
            Phase::Founding if since > 30_000 => self.enter(Phase::Over),
            Phase::Storm if self.now >= self.storm_until => {
                self.heal();
                self.healed = self.now;
                self.record(Entry::Healed);
                self.enter(Phase::Calm);
            }
            Phase::Calm if since >= CALM_MS => {
                self.clients
                    .iter_mut()
                    .for_each(|client| client.retired = true);
                self.enter(Phase::Draining);
            }
            Phase::Draining => self.look_at_draining(since),
            Phase::Audit => {
                let done = self.clients.iter().all(|client| match &client.kind {
                    Kind::Auditor { questions, .. } => questions.is_empty() && !client.busy,
                    _ => true,
                });
                if (done && self.in_step() && self.all_back()) || since > AUDIT_MS_MAX {
                    self.faulty_disk();
                    self.enter(Phase::Over);
                }
            }
            Phase::Founding | Phase::Storm | Phase::Calm | Phase::Over => {}
        }
    }

    fn look_at_draining(&mut self, since: i64) {
        let waits = self.ops.values().any(|open| !open.given_up);
        let quiet = !waits && self.plane.state.running_operations().next().is_none();
        // Locks end by the clocks of the regions, and a region may still live in the time of the other.
        let locks_end = LOCKS_END_MS + 2 * self.clock_error_ms;
        let unlocked = since.min(self.now - self.last_answer) >= locks_end;
        let settled = quiet && unlocked && self.in_step() && self.all_back();
        if settled || since > SETTLE_MS_MAX {
            self.record(Entry::Audit);
            self.enter(Phase::Audit);
            self.audit();
        }
    }

    /// No forced failover waits for its old primary.
    fn all_back(&self) -> bool {
        let hub = self.plane.state.hub(super::HUB);
        hub.is_some_and(|hub| hub.away().is_none())
    }

    /// The last questions: what every client was told must be there.
    fn audit(&mut self) {
        let mut questions = VecDeque::new();
        let mut consumers = Vec::new();
        for client in &self.clients {
            match &client.kind {
                Kind::TwinDevice { device, .. } => {
                    questions.push_back(Asked::GetTwin { device: *device })
                }
                Kind::Registrar { device, .. } => {
                    questions.push_back(Asked::GetIdentity { device: *device })
                }
                Kind::MessageDevice { device, .. } => {
                    questions.push_back(Asked::LockMessages { device: *device })
                }
                Kind::Consumer { consumer, at, .. } => consumers.push((*consumer, *at)),
                _ => {}
            }
        }
        questions.extend(
            consumers
                .into_iter()
                .map(|(consumer, at)| Asked::GetOffset { consumer, at }),
        );
        // One event per partition shows that it takes writes again.
        for at in &self.partitions {
            let known = |device: &&u32| {
                types::partition_of(&device_id(**device), self.partitions.len() as u16)
                    == at.partition
            };
            if let Some(device) = self.generations.keys().find(known) {
                questions.push_back(Asked::Telemetry(EventId {
                    device: *device,
                    counter: AUDIT_COUNTER,
                    attempt: 0,
                }));
            }
        }
        let gateway = self.rng.below(2) as usize;
        let rng = self.rng.fork();
        self.clients.push(Client {
            gateway,
            rng,
            busy: false,
            pause_ms: (0, 5),
            kind: Kind::Auditor {
                questions,
                done: false,
            },
            retired: false,
        });
        let client = self.clients.len() - 1;
        self.after(0, Happening::Client { client });
    }
}
