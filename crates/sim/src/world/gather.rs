//! Gathering what regions tell of themselves. As `region::facts`.

use super::World;
use super::event::{Asker, Asking, FactsFor, Gathering, Happening, Returned, Waiting, Wire};
use crate::history::RegionId;
use control::Hub;
use control::checks::{CheckReport, evaluate};
use control::facts::{ControlFacts, PartitionFacts, RegionFacts, Role};
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

impl World {
    /// Asks regions for their facts; when all have answered, or in `timeout_ms`, it goes on.
    pub(super) fn gather(
        &mut self,
        region: RegionId,
        hub: HubId,
        whom: &[RegionId],
        timeout_ms: i64,
        then: Gathered,
    ) {
        let life = self.regions[region].life;
        let asked = self.regions[region].clock.at(self.now);
        self.gathers += 1;
        let gather = self.gathers;
        let Some(process) = self.process(region) else {
            return;
        };
        process.gathers.insert(
            gather,
            Gathering {
                asked,
                found: vec![None; whom.len()],
                then,
            },
        );
        self.after(
            timeout_ms,
            Happening::GatherTimedOut {
                region,
                life,
                gather,
            },
        );
        for (slot, of) in whom.iter().enumerate() {
            if *of == region {
                let to = FactsFor::Gather { gather, slot };
                self.ask(region, Asker::Facts { to }, |reply| Input::Facts {
                    hub,
                    reply,
                });
                continue;
            }
            let call = self.new_call();
            let body = Asking::Call(Box::new(Call::Facts { hub }));
            if self.send(
                region,
                Wire::Call {
                    call,
                    op: None,
                    body,
                },
            ) {
                if let Some(process) = self.process(region) {
                    process.calls.insert(call, Waiting::Facts { gather, slot });
                }
            } else {
                self.fact_found(region, gather, slot, None);
            }
        }
    }

    pub(super) fn facts_found(&mut self, region: RegionId, to: FactsFor, facts: Facts) {
        match to {
            FactsFor::Gather { gather, slot } => self.fact_found(region, gather, slot, Some(facts)),
            FactsFor::Remote { call, link } => {
                if self.link.known[region] == Some(link) {
                    self.send(
                        region,
                        Wire::Return {
                            call,
                            body: Returned::Facts(Box::new(facts)),
                        },
                    );
                }
            }
        }
    }

    pub(super) fn fact_found(
        &mut self,
        region: RegionId,
        gather: u64,
        slot: usize,
        facts: Option<Facts>,
    ) {
        let Some(process) = self.process(region) else {
            return;
        };
        let Some(gathering) = process.gathers.get_mut(&gather) else {
            return;
        };
        gathering.found[slot].get_or_insert(facts);
        if gathering.found.iter().all(Option::is_some) {
            self.gathered(region, gather);
        }
    }

    /// All have answered, or the time is over.
    pub(super) fn gathered(&mut self, region: RegionId, gather: u64) {
        let Some(process) = self.process(region) else {
            return;
        };
        let Some(Gathering { asked, found, then }) = process.gathers.remove(&gather) else {
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
        Facts {
            region: place.name.to_string(),
            version: "simulated".into(),
            now: place.clock.at(self.now),
            uptime_ms: (self.now - place.started) as u64,
            roles_trusted: process.trusted,
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
            control_leader: self
                .plane
                .leader
                .map(|leader| self.regions[leader].name.to_string()),
            control_applied: process.view_index,
            partitions,
        }
    }

    /// The checks of a failover to `to` from the facts of primary and secondary. As `region::facts::evaluate`.
    pub(super) fn evaluate(
        &self,
        region: RegionId,
        (hub, to): (&Hub, &RegionName),
        asked: UnixMillis,
        found: &[Option<Facts>],
        operation: Option<&str>,
    ) -> Option<CheckReport> {
        let process = self.regions[region].process.as_ref()?;
        let now = self.regions[region].clock.at(self.now);
        let middle = asked.plus(now.since(asked) / 2);
        let other = if *to == hub.primary {
            hub.secondary().unwrap_or(to)
        } else {
            to
        };
        let primary = found
            .first()?
            .as_ref()
            .and_then(|facts| of_region(facts, other, middle));
        let secondary = found
            .get(1)?
            .as_ref()
            .and_then(|facts| of_region(facts, &hub.primary, middle));
        let link_up = self.link.known[region].is_some();
        let control = ControlFacts {
            leader: self
                .plane
                .leader
                .map(|leader| self.regions[leader].name.to_string()),
            voters: 3,
            voters_up: 2 + u32::from(link_up),
            applied: process.view_index,
            operation: operation.map(str::to_owned),
        };
        // The control plane's time, where it is later: its own rules are judged by it.
        let now = now.max(process.view.time);
        Some(evaluate(
            &process.view,
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
        lease_held: facts.roles_trusted,
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
    }
}
