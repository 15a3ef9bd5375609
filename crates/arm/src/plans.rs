//! Plans: planned failovers of many hubs of a subscription, so many at a time (docs/formats/failovers-api.md).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::{Mistakes, reason};
use crate::locations::region_named;
use axum::http::StatusCode;
use control::iso::iso8601;
use control::naming::hub_path;
use control::plans::{Plan, PlanCommand, PlanItem};
use control::{Answer, Command, Hub, OperationStatus};
use serde_json::{Value, json};
use types::limits;

const TYPE: &str = "Castling.Failover/plans";
const FAIL_OVER: &str = "Microsoft.Devices/IotHubs/failover/action";

/// Starts a plan: 202. `{"hubs": ["name", …]}` or `{"from": "region"}` (every hub whose primary it is), `parallel`, `reason`.
pub async fn start(call: Call) -> Outcome {
    let subscription = call.subscription()?.id.clone();
    let wanted = call.json()?;
    let mut mistakes = Mistakes::default();
    let hubs = hubs(&call, &subscription, &wanted, &mut mistakes);
    let parallel = match &wanted["parallel"] {
        Value::Null => limits::PLAN_PARALLEL_DEFAULT,
        value => value
            .as_u64()
            .and_then(|parallel| u16::try_from(parallel).ok())
            .unwrap_or_else(|| {
                mistakes.add("parallel", "a whole number is expected");
                limits::PLAN_PARALLEL_DEFAULT
            }),
    };
    let reason = reason(&wanted, &mut mistakes);
    if !mistakes.0.is_empty() {
        return Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0));
    }
    for hub in &hubs {
        call.require(FAIL_OVER, &path(hub))?;
    }
    let command = Command::Plan(PlanCommand::Start {
        id: call.operation_id("plan", true)?,
        subscription,
        hubs: hubs.iter().map(|hub| hub.id).collect(),
        parallel,
        reason,
    });
    match call.submit(command).await? {
        Answer::Plan(plan) => Ok(answer::json(
            StatusCode::ACCEPTED,
            &body(&call, &plan, true),
        )),
        other => Err(unexpected(&other)),
    }
}

fn path(hub: &Hub) -> String {
    hub_path(&hub.subscription, &hub.resource_group, hub.name.as_str())
}

fn hubs<'a>(
    call: &'a Call,
    subscription: &str,
    wanted: &Value,
    mistakes: &mut Mistakes,
) -> Vec<&'a Hub> {
    let all = || call.state.hubs_of_subscription(subscription);
    match (&wanted["hubs"], &wanted["from"]) {
        (Value::Array(names), Value::Null) => {
            let mut found = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let name = name.as_str().unwrap_or_default();
                match all().find(|hub| hub.name.as_str().eq_ignore_ascii_case(name)) {
                    Some(hub) => found.push(hub),
                    None => mistakes.add(
                        &format!("hubs[{at}]"),
                        format!("there is no IotHub '{}' in this subscription", shown(name)),
                    ),
                }
            }
            found
        }
        (Value::Null, Value::String(region)) => match region_named(call, region) {
            Some(region) => all()
                .filter(|hub| hub.primary == region && hub.partner.is_some())
                .collect(),
            None => {
                mistakes.add("from", format!("'{}' is no region", shown(region)));
                Vec::new()
            }
        },
        _ => {
            mistakes.add(
                "hubs",
                "either 'hubs' (names) or 'from' (a region) is expected",
            );
            Vec::new()
        }
    }
}

/// The subscription's plans, the latest first.
pub fn list(call: &Call) -> Outcome {
    let subscription = &call.subscription()?.id;
    let mut plans: Vec<&Plan> = call
        .state
        .plans
        .values()
        .filter(|plan| plan.subscription.eq_ignore_ascii_case(subscription))
        .collect();
    plans.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    answer::list(
        plans
            .into_iter()
            .map(|plan| body(call, plan, false))
            .collect(),
    )
}

/// One plan with what became of each hub.
pub fn get(call: &Call) -> Outcome {
    answer::ok(&body(call, find(call)?, true))
}

/// No further failover begins; those that run go on: 202.
pub async fn cancel(call: Call) -> Outcome {
    let id = find(&call)?.id.clone();
    match call
        .submit(Command::Plan(PlanCommand::Cancel { id }))
        .await?
    {
        Answer::Plan(plan) => Ok(answer::json(
            StatusCode::ACCEPTED,
            &body(&call, &plan, true),
        )),
        other => Err(unexpected(&other)),
    }
}

fn find(call: &Call) -> Result<&Plan, Failure> {
    let subscription = &call.subscription()?.id;
    let id = call.param("plan");
    let found = call.state.plans.get(id);
    found
        .filter(|plan| plan.subscription.eq_ignore_ascii_case(subscription))
        .ok_or_else(|| {
            Failure::not_found("PlanNotFound", format!("There is no plan '{}'.", shown(id)))
        })
}

fn body(call: &Call, plan: &Plan, whole: bool) -> Value {
    let items: Vec<Value> = plan
        .items
        .iter()
        .map(|item| one(call, plan, item))
        .collect();
    let count = |status: &str| items.iter().filter(|item| item["status"] == status).count();
    let pauses: Vec<i64> = items
        .iter()
        .filter_map(|item| item["pauseMs"].as_i64())
        .collect();
    let mut properties = json!({
        "status": match (plan.is_running(), plan.cancelled) {
            (true, _) => "Running",
            (false, true) => "Canceled",
            (false, false) if count("Succeeded") == items.len() => "Succeeded",
            _ => "Failed",
        },
        "by": plan.by,
        "reason": plan.reason,
        "parallel": plan.parallel,
        "started": iso8601(plan.started),
        "ended": plan.ended.map(iso8601),
        "hubsTotal": items.len(),
        "hubsSucceeded": count("Succeeded"),
        "hubsFailed": count("Failed") + count("Refused"),
        "hubsRunning": count("Running"),
        "pauseMsMax": pauses.iter().max(),
    });
    if whole {
        properties["hubs"] = Value::Array(items);
    }
    json!({
        "id": format!("/subscriptions/{}/providers/{TYPE}/{}", plan.subscription, plan.id),
        "name": plan.id,
        "type": TYPE,
        "properties": properties,
    })
}

fn one(call: &Call, plan: &Plan, item: &PlanItem) -> Value {
    let op = plan.failover(&call.state, item);
    let status = match (op.map(|op| op.status), &item.refused) {
        (Some(OperationStatus::Running), _) => "Running",
        (Some(OperationStatus::Succeeded), _) => "Succeeded",
        (Some(_), _) => "Failed",
        (None, Some(_)) => "Refused",
        (None, None) if plan.cancelled || !plan.is_running() => "NotStarted",
        (None, None) => "Waiting",
    };
    let error = op
        .and_then(|op| op.error.as_ref())
        .or(item.refused.as_ref());
    json!({
        "hub": item.name,
        "from": item.from,
        "to": item.to,
        "status": status,
        "failover": op.map(|op| &op.id),
        "pauseMs": op.and_then(|op| op.report.as_ref()).map(|report| report["pauseMs"].clone()),
        "error": error.map(|(code, message)| json!({ "code": code, "message": message })),
    })
}
