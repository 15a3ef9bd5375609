//! Failovers that wait for a second person's word, where the deployment asks for one.

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use control::access::{AccessAnswer, AccessCommand, Approval, ApprovalStanding};
use control::iso::iso8601;
use control::{Answer, Command, Hub};
use serde_json::{Value, json};

const TYPE: &str = "Castling.Failover/approvals";

/// Those of a hub that have not expired, the latest first.
pub fn list(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let mut found: Vec<&Approval> = known(call, hub).collect();
    found.sort_by(|one, other| {
        other
            .asked
            .cmp(&one.asked)
            .then_with(|| one.id.cmp(&other.id))
    });
    answer::list(found.into_iter().map(|one| body(hub, one)).collect())
}

pub fn get(call: &Call) -> Outcome {
    let hub = call.hub()?;
    answer::ok(&body(hub, find(call, hub)?))
}

/// Approves or denies. Who asked cannot.
pub async fn decide(call: Call, approve: bool) -> Outcome {
    let hub = call.hub()?;
    let approval = find(&call, hub)?.id.clone();
    let command = AccessCommand::Decide { approval, approve };
    match call.submit(Command::Access(command)).await? {
        Answer::Access(AccessAnswer::Approval(approval)) => answer::ok(&body(hub, &approval)),
        other => Err(unexpected(&other)),
    }
}

fn known<'a>(call: &'a Call, hub: &'a Hub) -> impl Iterator<Item = &'a Approval> {
    let all = call.state.access.approvals.values();
    all.filter(|one| one.hub == hub.id && call.now < one.expires)
}

fn find<'a>(call: &'a Call, hub: &'a Hub) -> Result<&'a Approval, Failure> {
    let id = call.param("approval");
    let found = known(call, hub).find(|one| one.id.eq_ignore_ascii_case(id));
    found.ok_or_else(|| {
        Failure::not_found(
            "ApprovalNotFound",
            format!(
                "There is no request '{}' for a failover of this hub that waits for approval, or it has expired.",
                shown(id)
            ),
        )
    })
}

fn body(hub: &Hub, approval: &Approval) -> Value {
    let mut properties = json!({
        "failoverRegion": approval.to,
        "forced": approval.forced,
        "reason": approval.reason,
        "requestedBy": approval.asked_by,
        "requestedAt": iso8601(approval.asked),
        "expires": iso8601(approval.expires),
    });
    let status = match &approval.standing {
        ApprovalStanding::Pending => "Pending",
        ApprovalStanding::Approved { by, at } => {
            properties["decidedBy"] = by.as_str().into();
            properties["decidedAt"] = iso8601(*at).into();
            "Approved"
        }
        ApprovalStanding::Denied { by, at } => {
            properties["decidedBy"] = by.as_str().into();
            properties["decidedAt"] = iso8601(*at).into();
            "Denied"
        }
        ApprovalStanding::Used { operation } => {
            properties["operation"] = operation.as_str().into();
            "Used"
        }
    };
    properties["status"] = status.into();
    json!({
        "id": format!("{}/providers/{TYPE}/{}", hub.path(), approval.id),
        "name": approval.id,
        "type": TYPE,
        "properties": properties,
    })
}
