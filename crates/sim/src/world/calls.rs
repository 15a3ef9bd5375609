//! Calls between the regions: asked, answered, broken off, timed out. As `region::handler` and `link`.

use super::World;
use super::event::{
    AfterBarrier, Announce, Asker, Asking, CallId, FactsFor, Happening, Node, Returned, Waiting,
    Wire,
};
use crate::history::{OpId, RegionId};
use region::engine::{Answer, Input, Refusal};
use region::peer::Call;
use std::sync::Arc;

impl World {
    pub(super) fn new_call(&mut self) -> CallId {
        self.call_ids += 1;
        self.call_ids
    }

    /// Another member asks.
    pub(super) fn called(
        &mut self,
        region: RegionId,
        link: u64,
        call: CallId,
        op: Option<OpId>,
        body: Asking,
    ) {
        match body {
            Asking::Read { at, from } => {
                let page = self.read_events(region, at, from);
                let body = Returned::Events(page);
                self.send_back(region, link, Wire::Return { call, body });
            }
            Asking::Call(body) => match *body {
                Call::Command { at, command } => {
                    let asker = Asker::Remote {
                        call,
                        link,
                        op,
                        announce: None,
                    };
                    self.command_arrives(region, asker, at, Arc::new(command));
                }
                Call::Facts { hub } => {
                    let to = FactsFor::Remote { call, link };
                    self.ask(region, Asker::Facts { to }, |reply| Input::Facts {
                        hub,
                        reply,
                    });
                }
                step => {
                    let asker = Asker::Remote {
                        call,
                        link,
                        op: None,
                        announce: opens(&step),
                    };
                    self.step_arrives(region, asker, step);
                }
            },
        }
    }

    /// A failover step is asked of this region, by whichever coordinator.
    pub(super) fn step_arrives(&mut self, region: RegionId, asker: Asker, call: Call) {
        match call {
            Call::Fence {
                hub,
                epoch,
                operation,
            } => {
                self.barrier(
                    region,
                    super::plane::BARRIER_MS_MAX,
                    AfterBarrier::Fence {
                        asker,
                        hub,
                        epoch,
                        operation,
                    },
                );
            }
            Call::Unfence {
                hub,
                epoch,
                operation,
            } => self.barrier(
                region,
                super::plane::BARRIER_MS_MAX,
                AfterBarrier::Unfence {
                    asker,
                    hub,
                    epoch,
                    operation,
                },
            ),
            Call::CatchUp { hub, handovers } => {
                self.ask(region, asker, |reply| Input::CatchUp {
                    hub,
                    handovers,
                    reply,
                });
            }
            Call::Open { role, .. } => self.ask(region, asker, |reply| Input::Open { role, reply }),
            // Not sent in the simulated world: what belongs to consensus, reads of events and salvage have ways of their own there.
            _ => {}
        }
    }

    /// Asks a region for a failover step; the driver goes on with the answer, or without one after `timeout_ms`.
    pub(super) fn call_step(
        &mut self,
        node: Node,
        of: RegionId,
        call: Call,
        token: u64,
        timeout_ms: i64,
    ) {
        let id = self.new_call();
        let Some(life) = self.life(node) else { return };
        let local = of == node;
        let waiting = Waiting::Step { token, local };
        self.seat(node).expect("it lives").calls.insert(id, waiting);
        let late = Happening::CallTimedOut {
            node,
            life,
            call: id,
        };
        self.after(timeout_ms, late);
        if local {
            let announce = opens(&call);
            self.step_arrives(of, Asker::Step { call: id, announce }, call);
            return;
        }
        let body = Asking::Call(Box::new(call));
        let wire = Wire::Call {
            call: id,
            op: None,
            body,
        };
        if !self.send(node, wire) {
            self.call_failed(node, id, "not sent");
        }
    }

    pub(super) fn returned(&mut self, region: Node, call: CallId, body: Returned) {
        let Some(seat) = self.seat(region) else {
            return;
        };
        let Some(waiting) = seat.calls.remove(&call) else {
            return;
        };
        match (waiting, body) {
            (Waiting::Gateway(op), Returned::Engine(result)) => {
                self.engine_answered_request(region, op, result)
            }
            (Waiting::Gateway(op), Returned::Events(result)) => {
                self.events_answered_request(region, op, result)
            }
            (Waiting::Step { token, .. }, Returned::Engine(result)) => {
                self.driver_has_answer(region, token, plain(result))
            }
            (Waiting::Facts { gather, slot }, Returned::Facts(facts)) => {
                self.fact_found(region, gather, slot, Some(*facts))
            }
            // An answer of another kind than was asked for cannot come: both sides are this file.
            _ => {}
        }
    }

    pub(super) fn call_failed(&mut self, region: Node, call: CallId, why: &str) {
        let Some(seat) = self.seat(region) else {
            return;
        };
        match seat.calls.remove(&call) {
            Some(Waiting::Gateway(op)) => self.link_failed_request(region, op),
            Some(Waiting::Step { token, .. }) => {
                self.driver_has_answer(region, token, Err(why.to_owned()))
            }
            Some(Waiting::Facts { gather, slot }) => self.fact_found(region, gather, slot, None),
            None => {}
        }
    }

    /// The link broke: whatever was asked over it may or may not have been done.
    pub(super) fn calls_broken(&mut self, region: RegionId) {
        let Some(seat) = self.seat(region) else {
            return;
        };
        let remote = |waiting: &Waiting| !matches!(waiting, Waiting::Step { local: true, .. });
        let broken: Vec<CallId> = seat
            .calls
            .iter()
            .filter(|(_, w)| remote(w))
            .map(|(id, _)| *id)
            .collect();
        for call in broken {
            self.call_failed(region, call, "the link broke");
        }
    }
}

/// What is announced to both regions when the step succeeds.
fn opens(call: &Call) -> Option<Announce> {
    let (hub, epoch, forced) = match call {
        Call::Open { role, forced } => (role.settings.id, role.epoch, *forced),
        Call::Unfence { hub, epoch, .. } => (*hub, *epoch, false),
        _ => return None,
    };
    Some(Announce { hub, epoch, forced })
}

fn plain(result: Result<Answer, Refusal>) -> Result<Answer, String> {
    result.map_err(|refusal| match refusal {
        Refusal::Step(why) => why,
        other => format!("{other:?}"),
    })
}
