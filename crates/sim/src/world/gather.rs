//! Gathering what regions tell of themselves. As `region::facts`.

use super::World;
use super::event::{Asker, Asking, FactsFor, Gathering, Happening, Node, Returned, Waiting, Wire};
use super::voters::NODES;
use crate::history::RegionId;
use control::checks::{CheckReport, ForcedQuestion, evaluate, evaluate_forced};
use control::facts::{ControlFacts, PartitionFacts, RegionFacts, Role, Tail};
use control::{AcceptedLoss, Hub};
use region::engine::{self, Input};
use region::peer::{Call, Facts};
use store::Store;
use types::{HubId, RegionName, UnixMillis};

/// What the facts are for.
pub enum Gathered {
    /// The coordinator goes on with this token.
    Driver { token: u64 },
    /// The operator's dry run, before it asks for `operation`.
    DryRun { operation: String },
}

/// Checks for whom: the coordinator's step names its operation, a dry run has none.
pub struct Question<'a> {
    pub hub: &'a Hub,
    pub to: &'a RegionName,
    pub asked: UnixMillis,
    /// Of the primary and of the secondary.
    pub found: &'a [Option<Facts>],
    pub operation: Option<&'a str>,
    pub forced: bool,
    pub accept: Option<&'a AcceptedLoss>,
}

impl World {
    /// Asks regions for their facts; when all have answered, or in `timeout_ms`, it goes on.
    pub(super) fn gather(
        &mut self,
        node: Node,
        hub: HubId,
        whom: &[RegionId],
        timeout_ms: i64,
        then: Gathered,
    ) {
        let Some(life) = self.life(node) else { return };
        let asked = self.wall(node);
        self.gathers += 1;
        let gather = self.gathers;
        let seat = self.seat(node).expect("it lives");
        seat.gathers.insert(
            gather,
            Gathering {
                asked,
                found: vec![None; whom.len()],
                then,
            },
        );
        self.after(timeout_ms, Happening::GatherTimedOut { node, life, gather });
        for (slot, of) in whom.iter().enumerate() {
            if *of == node {
                let to = FactsFor::Gather { gather, slot };
                self.ask(*of, Asker::Facts { to }, |reply| Input::Facts {
                    hub,
                    reply,
                });
                continue;
            }
            let call = self.new_call();
            let body = Asking::Call(Box::new(Call::Facts { hub }));
            let wire = Wire::Call {
                call,
                op: None,
                body,
            };
            if self.send(node, wire) {
                if let Some(seat) = self.seat(node) {
                    seat.calls.insert(call, Waiting::Facts { gather, slot });
                }
            } else {
                self.fact_found(node, gather, slot, None);
            }
        }
    }

    pub(super) fn facts_found(&mut self, region: RegionId, to: FactsFor, facts: Facts) {
        match to {
            FactsFor::Gather { gather, slot } => self.fact_found(region, gather, slot, Some(facts)),
            FactsFor::Remote { call, link } => {
                let body = Returned::Facts(Box::new(facts));
                self.send_back(region, link, Wire::Return { call, body });
            }
        }
    }

    pub(super) fn fact_found(
        &mut self,
        region: Node,
        gather: u64,
        slot: usize,
        facts: Option<Facts>,
    ) {
        let Some(seat) = self.seat(region) else {
            return;
        };
        let Some(gathering) = seat.gathers.get_mut(&gather) else {
            return;
        };
        gathering.found[slot].get_or_insert(facts);
        if gathering.found.iter().all(Option::is_some) {
            self.gathered(region, gather);
        }
    }

    /// All have answered, or the time is over.
    pub(super) fn gathered(&mut self, region: Node, gather: u64) {
        let Some(seat) = self.seat(region) else {
            return;
        };
        let Some(Gathering { asked, found, then }) = seat.gathers.remove(&gather) else {
            return;
        };
        let found: Vec<Option<Facts>> = found.into_iter().map(Option::flatten).collect();
        match then {
            Gathered::Driver { token } => self.driver_has_facts(region, token, asked, found),
            Gathered::DryRun { operation } => {
                self.dry_run_has_facts(region, operation, asked, found)
            }
        }
    }

    /// This region's word on itself. As `Region::facts`.
    pub(super) fn facts_of(
        &self,
        region: RegionId,
        partitions: Vec<engine::PartitionFacts>,
    ) -> Facts {
        let place = &self.regions[region];
        let Some(process) = &place.process else {
            return Facts::default();
        };
        let space = place.store.space().unwrap_or_default();
        let up = self.link.known[region].is_some();
        let rtt = up.then_some((self.link.delay_ms * 2 + self.link.jitter_ms) as f64);
        let leader = self.voters.leader.map(|leader| self.name_of(leader));
        Facts {
            region: place.name.to_string(),
            version: "simulated".into(),
            now: place.clock.at(self.now),
            uptime_ms: (self.now - place.started) as u64,
            began: place.began,
            roles_trusted: process.seat.trusted,
            lease_left_ms: process.lease_until.saturating_sub(self.monotonic(region)),
            store_trouble: process
                .engine
                .stats
                .disk_full
                .then(|| "the disk is full".into()),
            disk_free: space.free,
            disk_used: space.used,
            queue_depth: process.inbox.len() as u64,
            turn_micros_max: 1000,
            certificate_days: 300,
            sessions: 0,
            sessions_of_hub: 0,
            sessions_closed: 0,
            parked: process.parked,
            gateway_listening: true,
            links: vec![(self.regions[1 - region].name.to_string(), up, rtt)],
            control_leader: leader.map(|leader| leader.to_string()),
            control_applied: process.seat.view_index,
            partitions,
        }
    }

    /// The checks of a failover from the facts of primary and secondary. As `region::facts::evaluate`.
    pub(super) fn evaluate(&self, node: Node, asked: &Question<'_>) -> Option<CheckReport> {
        let seat = self.seat_of(node)?;
        let Question { hub, to, .. } = *asked;
        let now = self.wall(node);
        let middle = asked.asked.plus(now.since(asked.asked) / 2);
        let other = if *to == hub.primary {
            hub.secondary().unwrap_or(to)
        } else {
            to
        };
        let of = |n: usize, other| {
            let facts = asked.found.get(n)?.as_ref()?;
            of_region(facts, other, middle)
        };
        let (primary, secondary) = (of(0, other), of(1, &hub.primary));
        let control = ControlFacts {
            leader: self
                .voters
                .leader
                .map(|leader| self.name_of(leader).to_string()),
            voters: NODES as u32,
            voters_up: self.counts_on(node) as u32,
            applied: seat.view_index,
            operation: asked.operation.map(str::to_owned),
        };
        // The control plane's time, where it is later: its own rules are judged by it.
        let now = now.max(seat.view.time);
        if asked.forced {
            return Some(evaluate_forced(&ForcedQuestion {
                state: &seat.view,
                hub,
                to,
                primary: primary.as_ref(),
                secondary: secondary.as_ref(),
                words: &self.words_of(node),
                accept: asked.accept,
                control: &control,
                now,
            }));
        }
        Some(evaluate(
            &seat.view,
            hub,
            to,
            false,
            primary.as_ref(),
            secondary.as_ref(),
            &control,
            now,
        ))
    }
}

fn of_region(facts: &Facts, other: &RegionName, middle: UnixMillis) -> Option<RegionFacts> {
    let link = facts.links.iter().find(|(name, ..)| name == other.as_str());
    Some(RegionFacts {
        region: RegionName::parse(&facts.region).ok()?,
        version: facts.version.clone(),
        log_format: 1,
        uptime_ms: facts.uptime_ms as i64,
        roles_known: facts.roles_trusted,
        lease_held: facts.lease_left_ms > 0,
        lease_left_ms: facts.lease_left_ms,
        control_applied: facts.control_applied,
        store_healthy: facts.store_trouble.is_none(),
        store_detail: facts.store_trouble.clone().unwrap_or_default(),
        disk_free_bytes: facts.disk_free,
        fsync_ms: (facts.turn_micros_max / 1000) as u32,
        engine_queue: facts.queue_depth as usize,
        gateway_listening: facts.gateway_listening,
        sessions: facts.sessions,
        link_up: link.is_some_and(|(_, up, _)| *up),
        link_rtt_us: link.and_then(|(_, _, rtt)| rtt.map(|ms| (ms * 1000.0) as u64)),
        certificate_days: facts.certificate_days,
        clock_offset_ms: facts.now.since(middle),
        partitions: facts.partitions.iter().map(of_partition).collect(),
    })
}

fn of_partition(facts: &engine::PartitionFacts) -> PartitionFacts {
    PartitionFacts {
        partition: facts.partition,
        role: if facts.primary {
            Role::Primary
        } else {
            Role::Secondary
        },
        epoch: facts.epoch,
        lsn: facts.lsn,
        digest: Some(facts.state.clone()),
        follower_lsn: facts.follower_connected.then_some(facts.confirmed),
        lag_records: facts.lag_records,
        lag_ms: facts.lag_ms,
        fenced: facts.fenced,
        corrupt: facts.broken.clone(),
        time: facts.time,
        word: (facts.word.as_ref()).map(|(word, age)| (region::facts::of_word(word), *age)),
        tail: facts.primary.then(|| of_tail(&facts.tail)),
        returning: facts.returning.clone(),
    }
}

fn of_tail(tail: &engine::Tail) -> Tail {
    Tail {
        after: tail.after,
        records: tail.records,
        bytes: tail.bytes,
        oldest: tail.oldest,
        devices: tail.devices,
        devices_cut: tail.devices_cut,
        kinds: tail.kinds.clone(),
    }
}
