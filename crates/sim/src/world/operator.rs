//! The operator: looks with a dry run, starts failovers, sometimes cancels them.

use super::World;
use super::event::{Happening, Submitter};
use super::gather::Gathered;
use crate::fault::Fault;
use crate::history::{Entry, RegionId};
use control::checks::CheckReport;
use control::{Answer, Command, RefusalCode};
use region::peer::Facts;
use serde_json::Value;
use types::UnixMillis;

/// Something that happened so long before a dry run may still be felt in it.
const LINGERS_MS: i64 = 6000;
const CHECK_TIMEOUT_MS: i64 = 2000;

/// A dry run, until the real checks are there.
pub struct DryRun {
    pub ready: bool,
    pub why: String,
    /// When it began.
    pub began: i64,
    /// The policy lets it pass later: its verdict changes with time alone.
    pub too_soon: bool,
}

impl World {
    /// Begins with a dry run, if no failover runs.
    pub(super) fn operate(&mut self) {
        if self.phase != super::Phase::Storm {
            return;
        }
        let next = self.rng.range(self.operator_ms.0, self.operator_ms.1);
        self.after(next, Happening::Operator);
        let able: Vec<RegionId> = (0..2)
            .filter(|r| self.regions[*r].process.as_ref().is_some_and(|p| p.trusted))
            .collect();
        if able.is_empty() {
            return;
        }
        let region = *self.rng.pick(&able);
        let process = self.regions[region].process.as_ref().expect("it is able");
        let Some(hub) = process
            .view
            .hub(super::HUB)
            .filter(|hub| hub.operation.is_none())
        else {
            return;
        };
        let Some(secondary) = hub.secondary() else {
            return;
        };
        let (primary, secondary, hub) = (
            self.region_id(&hub.primary),
            self.region_id(secondary),
            hub.id,
        );
        self.operations += 1;
        let operation = format!("f{}", self.operations);
        let began = self.now;
        self.dry_runs.insert(
            operation.clone(),
            DryRun {
                ready: false,
                why: String::new(),
                began,
                too_soon: false,
            },
        );
        self.gather(
            region,
            hub,
            &[primary, secondary],
            CHECK_TIMEOUT_MS,
            Gathered::DryRun { operation },
        );
    }

    pub(super) fn dry_run_has_facts(
        &mut self,
        region: RegionId,
        operation: String,
        asked: UnixMillis,
        found: Vec<Option<Facts>>,
    ) {
        let Some(process) = self.process(region) else {
            return;
        };
        let view = process.view.clone();
        let Some(hub) = view.hub(super::HUB) else {
            return;
        };
        let Some(to) = hub.secondary().cloned() else {
            return;
        };
        let Some(report) = self.evaluate(region, (hub, &to), asked, &found, None) else {
            return;
        };
        let lies = self.fault == Some(Fault::DryRunLies);
        if let Some(dry_run) = self.dry_runs.get_mut(&operation) {
            dry_run.ready = report.ready != lies;
            dry_run.why = report.why_not();
            dry_run.too_soon = report.earliest.is_some();
        }
        let command = Command::StartFailover {
            hub: hub.id,
            to,
            operation: operation.clone(),
            reason: "simulated".into(),
            excluded: false,
        };
        let life = self.regions[region].life;
        self.submit(
            Submitter::Operator {
                region,
                life,
                operation,
            },
            command,
        );
    }

    pub(super) fn failover_asked(&mut self, operation: &str, answer: Option<Answer>) {
        match answer {
            // Another failover began meanwhile: that is a change.
            Some(Answer::Refused(refusal)) if refusal.code == RefusalCode::HubNotActive => {
                drop(self.dry_runs.remove(operation))
            }
            Some(Answer::Refused(refusal)) => {
                self.compare_dry_run(operation, false, refusal.message)
            }
            Some(_) if self.rng.chance(self.cancel_percent) => {
                let late = self.rng.range(0, 1500);
                self.after(
                    late,
                    Happening::Cancel {
                        operation: operation.to_owned(),
                    },
                );
            }
            _ => {}
        }
    }

    pub(super) fn cancel(&mut self, operation: String) {
        let Some(region) = (0..2).find(|r| self.regions[*r].process.is_some()) else {
            return;
        };
        let life = self.regions[region].life;
        self.submit(
            Submitter::Nobody { region, life },
            Command::CancelFailover { operation },
        );
    }

    /// The check step of the real failover has ended.
    pub(super) fn real_checks(&mut self, operation: &str, detail: &Value) {
        if let Ok(report) = serde_json::from_value::<CheckReport>(detail.clone()) {
            self.compare_dry_run(operation, report.ready, report.why_not());
        }
    }

    fn compare_dry_run(&mut self, operation: &str, real: bool, why_not: String) {
        let Some(dry_run) = self.dry_runs.remove(operation) else {
            return;
        };
        let changed = dry_run.too_soon || self.last_disturbed >= dry_run.began - LINGERS_MS;
        let why = format!("dry run: '{}'; real: '{why_not}'", dry_run.why);
        self.record(Entry::DryRun {
            operation: operation.to_owned(),
            ready: dry_run.ready,
            real,
            changed,
            why,
        });
    }
}
