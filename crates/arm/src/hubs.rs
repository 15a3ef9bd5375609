//! IoT hubs: read, made, changed, deleted.

use crate::answer::{self, Outcome};
use crate::backend::HubFigures;
use crate::call::{Call, unexpected};
use crate::failure::Failure;
use crate::fields::{self, Mistakes};
use crate::hub_body::{Shape, body};
use crate::hub_request;
use crate::operations;
use axum::http::StatusCode;
use control::command::HubSpec;
use control::naming::hub_name;
use control::{Answer, Command, Hub};
use serde_json::Value;
use std::time::Duration;
use types::{HubId, limits};

pub const READ: &str = "Microsoft.Devices/IotHubs/read";

/// Attempts of a PATCH without If-Match whose hub changes under it.
const PATCH_ATTEMPTS: usize = 3;

pub fn of_subscription(call: &Call) -> Outcome {
    list(
        call,
        call.state.hubs_of_subscription(&call.subscription()?.id),
    )
}

pub fn of_group(call: &Call) -> Outcome {
    let group = call.group()?;
    list(
        call,
        call.state.hubs_of_group(&group.subscription, &group.name),
    )
}

fn list<'a>(call: &Call, hubs: impl Iterator<Item = &'a Hub>) -> Outcome {
    let reach = call.reach(READ);
    let seen = hubs.filter(|hub| reach.covers(&hub.path()));
    answer::list(seen.map(|hub| body(call, hub, &Shape::Listed)).collect())
}

/// One hub, with how far its secondary is behind if its primary says so in time.
pub async fn get(call: Call) -> Outcome {
    let hub = call.hub()?;
    let live = match hub.partner {
        Some(_) => figures(&call, hub.id).await,
        None => None,
    };
    answer::ok(&body(&call, hub, &Shape::One(live)))
}

/// Live figures of a hub; `None` when its primary does not give them in time.
pub async fn figures(call: &Call, hub: HubId) -> Option<HubFigures> {
    let most = Duration::from_millis(limits::MANAGEMENT_FIGURES_MS_MAX);
    let asked = call.api.backend.figures(hub);
    tokio::time::timeout(most, asked).await.ok().flatten()
}

/// Creates a hub (201, with an operation that activates it) or updates it (200, done).
pub async fn put(call: Call) -> Outcome {
    let name = hub_name(call.param("hub"))?;
    let wanted = call.json()?;
    if call.header("if-none-match") == Some("*") && call.hub_if_there().is_some() {
        let message =
            format!("IotHub '{name}' exists already, and If-None-Match asks for a new one.");
        return Err(Failure::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            message,
        ));
    }
    let what = format!("put hub {}", name.key());
    let spec = hub_request::read(&call, name, &wanted)?;
    let (hub, operation, created) = write(&call, &what, spec).await?;
    if !created {
        return answer::ok(&body(&call, &hub, &Shape::Listed));
    }
    let mut response = answer::json(StatusCode::CREATED, &body(&call, &hub, &Shape::Accepted));
    if let Some(operation) = operation {
        operations::point_to_status(&call, &operation, &hub.home, &mut response);
    }
    Ok(response)
}

async fn write(
    call: &Call,
    what: &str,
    spec: HubSpec,
) -> Result<(Box<Hub>, Option<Box<control::Operation>>, bool), Failure> {
    let command = Command::PutHub {
        operation: call.operation_id(what, false)?,
        spec: Box::new(spec),
    };
    match call.submit(command).await? {
        Answer::Hub {
            hub,
            operation,
            created,
        } => Ok((hub, operation, created)),
        other => Err(unexpected(&other)),
    }
}

/// Replaces the tags; nothing else of a hub can be changed this way.
pub async fn patch(call: Call) -> Outcome {
    let wanted = call.json()?;
    call.hub()?;
    let mut mistakes = Mistakes::default();
    let tags = fields::tags(&wanted, &mut mistakes);
    let others = wanted
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.as_str() != "tags");
    for (name, _) in others {
        mistakes.0.push(format!(
            "{}: only tags can be changed by PATCH",
            crate::failure::shown(name)
        ));
    }
    if !mistakes.0.is_empty() {
        return Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0));
    }
    let given = call.header("if-match").map(str::to_owned);
    let mut attempts = PATCH_ATTEMPTS;
    loop {
        attempts -= 1;
        let state = call.api.backend.state();
        let (subscription, group) = (call.param("subscription"), call.param("group"));
        let hub = crate::call::hub_of(&state, subscription, group, call.param("hub"));
        let Some(hub) = hub else {
            return Err(call.hub().err().unwrap_or_else(|| {
                Failure::not_found("ResourceNotFound", "The IotHub was deleted meanwhile.")
            }));
        };
        let mut spec = as_it_is(hub);
        if wanted.get("tags").is_some_and(|tags| !tags.is_null()) {
            spec.tags.clone_from(&tags);
        }
        // Guards what PATCH does not name against a change that happens meanwhile.
        spec.if_match = Some(
            given
                .clone()
                .unwrap_or_else(|| control::etag_text(hub.etag)),
        );
        match write(&call, "patch hub", spec).await {
            Ok((hub, _, _)) => return answer::ok(&body(&call, &hub, &Shape::Listed)),
            Err(failure)
                if failure.code == "PreconditionFailed" && given.is_none() && attempts > 0 => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// A spec that changes nothing.
fn as_it_is(hub: &Hub) -> HubSpec {
    HubSpec {
        subscription: hub.subscription.clone(),
        group: hub.resource_group.clone(),
        name: hub.name.clone(),
        location: hub.home.clone(),
        partner: hub.partner.clone(),
        sku_name: hub.sku.name.clone(),
        sku_capacity: hub.sku.capacity,
        tags: hub.tags.clone(),
        partition_count: None,
        retention_days: None,
        replication: None,
        partner_away: None,
        lag_max_ms: None,
        cloud_to_device: None,
        policies: None,
        default_policies: Vec::new(),
        stored_properties: match &hub.stored_properties {
            Value::Null => Value::Object(serde_json::Map::new()),
            stored => stored.clone(),
        },
        if_match: None,
    }
}

/// 202 with both addresses to ask; 204 if there is nothing to delete.
pub async fn delete(call: Call) -> Outcome {
    let name = call.param("hub").to_owned();
    let home = call.hub_if_there().map(|hub| hub.home.clone());
    if let (Some(wanted), Some(hub)) = (call.header("if-match"), call.hub_if_there())
        && !control::naming::etag_matches(wanted, hub.etag)
    {
        let message = format!(
            "IotHub '{}' was changed since it was read: its etag is another one.",
            hub.name
        );
        return Err(Failure::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            message,
        ));
    }
    let command = Command::DeleteHub {
        subscription: call.param("subscription").into(),
        group: call.param("group").into(),
        name: name.clone(),
        operation: call
            .operation_id(&format!("delete hub {}", name.to_ascii_lowercase()), false)?,
    };
    match call.submit(command).await? {
        Answer::Absent => Ok(answer::empty(StatusCode::NO_CONTENT)),
        Answer::Operation(operation) => {
            let home = home.unwrap_or_else(|| call.api.backend.region().clone());
            let mut response = answer::null(StatusCode::ACCEPTED);
            operations::point_to_both(&call, &operation, &home, &mut response);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}
