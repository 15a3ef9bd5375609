//! A second person's word on failovers, where the deployment asks for one.

use super::command::AccessAnswer;
use super::model::{Approval, ApprovalStanding};
use crate::apply::Call;
use crate::command::Answer;
use crate::failovers::Asked;
use crate::iso::iso8601;
use crate::model::State;
use crate::naming::shown;
use crate::refusal::{Refusal, RefusalCode};
use ring::digest;
use types::{HubId, RegionName, limits};

impl State {
    /// Lets a failover pass if another person approved it, and uses that approval up; else asks for one and refuses. Called
    /// last: whatever else stands in the way of the failover is told first.
    pub(crate) fn approved(
        &mut self,
        call: Call<'_>,
        asked: Asked<'_>,
        forced: bool,
    ) -> Result<(), Refusal> {
        if !self.deployment.policy.second_approver {
            return Ok(());
        }
        let approvals = &mut self.access.approvals;
        approvals.retain(|_, known| known.expires > call.at);
        let id = approval_id(asked.hub, asked.to, forced, call.by);
        let full = approvals.len() >= limits::APPROVALS_MAX;
        match approvals.get_mut(&id) {
            Some(known) => match &known.standing {
                ApprovalStanding::Approved { .. } => {
                    known.standing = ApprovalStanding::Used {
                        operation: asked.operation.into(),
                    };
                    return Ok(());
                }
                ApprovalStanding::Pending => return Err(required(known)),
                ApprovalStanding::Denied { by, .. } => {
                    let message = format!(
                        "'{by}' denied this failover (approval '{id}'); it can be asked for again after {}.",
                        iso8601(known.expires)
                    );
                    return Err(Refusal::until(
                        RefusalCode::ApprovalRequired,
                        message,
                        known.expires,
                    ));
                }
                ApprovalStanding::Used { .. } => {}
            },
            None if full => {
                let message = format!(
                    "{} failovers wait for approval already, the most there may be.",
                    limits::APPROVALS_MAX
                );
                return Err(Refusal::new(RefusalCode::QuotaExceeded, message));
            }
            None => {}
        }
        let approval = Approval {
            id: id.clone(),
            hub: asked.hub,
            to: asked.to.clone(),
            forced,
            reason: asked.reason.into(),
            asked: call.at,
            asked_by: call.by.into(),
            expires: call.at.plus(limits::APPROVAL_MS),
            standing: ApprovalStanding::Pending,
        };
        let refusal = required(&approval);
        self.changed();
        self.access.approvals.insert(id, approval);
        Err(refusal)
    }

    pub(super) fn decide(
        &mut self,
        call: Call<'_>,
        id: &str,
        approve: bool,
    ) -> Result<Answer, Refusal> {
        let found = self.access.approvals.get_mut(id);
        let Some(known) = found.filter(|known| known.expires > call.at) else {
            return Err(Refusal::new(
                RefusalCode::ApprovalNotFound,
                format!(
                    "There is no request '{}' that waits for approval, or it has expired.",
                    shown(id)
                ),
            ));
        };
        let invalid = |why: String| Err(Refusal::new(RefusalCode::ApprovalInvalid, why));
        if known.asked_by.eq_ignore_ascii_case(call.by) {
            return invalid(format!(
                "'{}' asked for this failover: another person must decide.",
                known.asked_by
            ));
        }
        let (by, at) = (call.by.to_owned(), call.at);
        match &known.standing {
            ApprovalStanding::Pending => {}
            ApprovalStanding::Approved { by: before, .. } if approve && *before == by => {
                return Ok(answer(known.clone()));
            }
            ApprovalStanding::Denied { by: before, .. } if !approve && *before == by => {
                return Ok(answer(known.clone()));
            }
            other => return invalid(format!("It was decided already: {}.", standing(other))),
        }
        known.standing = match approve {
            true => ApprovalStanding::Approved { by, at },
            false => ApprovalStanding::Denied { by, at },
        };
        known.expires = at.plus(limits::APPROVAL_MS);
        let decided = known.clone();
        self.changed();
        Ok(answer(decided))
    }
}

fn required(approval: &Approval) -> Refusal {
    Refusal::new(
        RefusalCode::ApprovalRequired,
        format!(
            "A second person must approve this failover first. It waits for that as approval '{}' until {}; when it is \
             approved, send the same request again.",
            approval.id,
            iso8601(approval.expires)
        ),
    )
}

fn standing(standing: &ApprovalStanding) -> String {
    match standing {
        ApprovalStanding::Pending => "it waits".into(),
        ApprovalStanding::Approved { by, at } => format!("approved by '{by}' at {}", iso8601(*at)),
        ApprovalStanding::Denied { by, at } => format!("denied by '{by}' at {}", iso8601(*at)),
        ApprovalStanding::Used { operation } => format!("used by operation '{operation}'"),
    }
}

/// The same request by the same person has the same approval.
pub fn approval_id(hub: HubId, to: &RegionName, forced: bool, by: &str) -> String {
    let by = by.to_ascii_lowercase();
    let text = format!("approval\n{hub}\n{to}\n{forced}\n{by}");
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    crate::naming::hex(&hash.as_ref()[..16])
}

fn answer(approval: Approval) -> Answer {
    Answer::Access(AccessAnswer::Approval(Box::new(approval)))
}
