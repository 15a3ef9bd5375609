//! What commands about plans, template deployments and jobs do to what: operators' requests and ends only.

use super::subjects::{Subject, path};
use crate::jobs::{JobCommand, JobKind};
use crate::model::State;
use crate::naming::group_path;
use crate::plans::PlanCommand;
use crate::templates::TemplateCommand;

const END: &str = "Castling/operation/end";

pub(super) fn plan(state: &State, command: &PlanCommand) -> Option<Subject> {
    let at = |subscription: &str, id: &str| {
        format!("/subscriptions/{subscription}/providers/Castling.Failover/plans/{id}")
    };
    match command {
        PlanCommand::Start {
            id, subscription, ..
        } => Some(Subject::new(
            "Castling.Failover/plans/write",
            at(subscription, id),
        )),
        PlanCommand::Cancel { id } => {
            let subscription = state.plans.get(id).map_or("", |plan| &plan.subscription);
            Some(Subject::new(
                "Castling.Failover/plans/cancel/action",
                at(subscription, id),
            ))
        }
        PlanCommand::Refused { .. } | PlanCommand::End { .. } => None,
    }
}

pub(super) fn template(state: &State, command: &TemplateCommand) -> Option<Subject> {
    let path = |subscription: &str, group: &str, name: &str| {
        let group = group_path(subscription, group);
        format!("{group}/providers/Microsoft.Resources/deployments/{name}")
    };
    let known = |key: &str| {
        let found = state.templates.get(key)?;
        Some(path(&found.subscription, &found.group, &found.name))
    };
    Some(match command {
        TemplateCommand::Start { deployment } => Subject::new(
            "Microsoft.Resources/deployments/write",
            path(
                &deployment.subscription,
                &deployment.group,
                &deployment.name,
            ),
        ),
        TemplateCommand::Cancel { key } => {
            Subject::new("Microsoft.Resources/deployments/cancel/action", known(key)?)
        }
        TemplateCommand::Delete { key } => {
            Subject::new("Microsoft.Resources/deployments/delete", known(key)?)
        }
        TemplateCommand::End { key, .. } => Subject::new(END, known(key)?).by_system(),
        TemplateCommand::Step { .. } => return None,
    })
}

pub(super) fn job(state: &State, command: &JobCommand) -> Option<Subject> {
    Some(match command {
        JobCommand::Start { hub, kind, .. } => Subject::new(
            match kind {
                JobKind::Export => "Microsoft.Devices/IotHubs/exportDevices/action",
                JobKind::Import => "Microsoft.Devices/IotHubs/importDevices/action",
            },
            path(state, *hub),
        ),
        JobCommand::End { id, .. } => {
            let job = state.jobs.get(id)?;
            let path = format!("{}/jobs/{id}", path(state, job.hub));
            Subject::new(END, path).by_system()
        }
        JobCommand::Progress { .. } => return None,
    })
}
