//! Drives a plan while this region leads the control plane: starts so many failovers at a time, until all have ended.

use crate::region::Region;
use control::plans::{Plan, PlanAction, PlanCommand};
use control::{Answer, Command, Origin};
use std::sync::Arc;
use std::time::Duration;
use types::{HubId, RegionName};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Goes on with one plan until it has ended, or this region no longer leads.
pub(crate) async fn drive(region: Arc<Region>, id: String, deputy: bool) {
    while region.plane.drives() || deputy && region.plane.may_drive() {
        let found = region.plane.with(|state| {
            let plan = state.plans.get(&id).filter(|plan| plan.is_running())?;
            Some((plan.clone(), plan.next(state)))
        });
        let Some((plan, action)) = found else { return };
        match action {
            PlanAction::Start(hubs) => {
                let started = hubs
                    .into_iter()
                    .map(|(hub, to)| start(&region, &plan, hub, to));
                futures_util::future::join_all(started).await;
            }
            PlanAction::End => {
                let end = Command::Plan(PlanCommand::End {
                    id: plan.id.clone(),
                });
                submit(&region, &system(&region), end).await;
            }
            PlanAction::Wait => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// In the name of who made the plan: the same rules, the same records as one by one.
async fn start(region: &Region, plan: &Plan, hub: HubId, to: RegionName) {
    let home = region
        .plane
        .with(|state| state.hub(hub).map(|hub| hub.home.clone()));
    let excluded = home
        .and_then(|home| region.catalogue.get(&home))
        .is_some_and(|home| !home.manual_failover);
    let command = Command::StartFailover {
        hub,
        to,
        operation: plan.operation_of(hub),
        reason: plan.reason.clone(),
        excluded,
        drill: None,
    };
    if let Some(Answer::Refused(refusal)) = submit(region, &plan.by, command).await {
        let refused = Command::Plan(PlanCommand::Refused {
            id: plan.id.clone(),
            hub,
            code: format!("{:?}", refusal.code),
            why: refusal.message,
        });
        submit(region, &system(region), refused).await;
    }
}

fn system(region: &Region) -> String {
    format!("castling:{}", region.me)
}

async fn submit(region: &Region, by: &str, command: Command) -> Option<Answer> {
    match region
        .plane
        .submit_from(by, Origin::default(), command)
        .await
    {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::warn!(why = %error.why, "the control plane did not answer for a plan");
            None
        }
    }
}
