//! Resource groups (control-plane notes section 5).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::{Mistakes, tags};
use crate::operations;
use axum::http::StatusCode;
use control::naming::{group_name, group_path};
use control::{Answer, Command, ResourceGroup};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use types::RegionName;

const READ: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";

/// The groups in which the caller may read something.
pub fn list(call: &Call) -> Outcome {
    let subscription = call.subscription()?.id.to_lowercase();
    let reach = call.reach(READ);
    let groups = call.state.groups.get(&subscription);
    answer::list(
        groups
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|group| reach.touches(&group_path(&group.subscription, &group.name)))
            .map(body)
            .collect(),
    )
}

pub fn get(call: &Call) -> Outcome {
    answer::ok(&body(call.group()?))
}

/// 204 or 404, both without a body.
pub fn exists(call: &Call) -> Outcome {
    Ok(answer::empty(match call.group() {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::NOT_FOUND,
    }))
}

fn body(group: &ResourceGroup) -> Value {
    let state = match group.deleting {
        Some(_) => "Deleting",
        None => "Succeeded",
    };
    json!({
        "id": group_path(&group.subscription, &group.name),
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": group.location,
        "tags": group.tags,
        "properties": { "provisioningState": state },
    })
}

pub async fn put(call: Call) -> Outcome {
    group_name(call.param("group"))?;
    let wanted = call.json()?;
    let location = wanted["location"]
        .as_str()
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| {
            Failure::bad(
                "LocationRequired",
                "The location property is required for this definition.",
            )
        })?;
    let tags = read_tags(&wanted)?;
    let location = RegionName::parse(location).map_err(|_| not_available(&call, location))?;
    let known = call
        .state
        .group(call.param("subscription"), call.param("group"));
    if known.is_none() && !call.state.deployment.regions.contains(&location) {
        call.subscription()?;
        return Err(not_available(&call, location.as_str()));
    }
    write(&call, location, tags).await
}

/// Replaces the tags; nothing else of a group can change.
pub async fn patch(call: Call) -> Outcome {
    let wanted = call.json()?;
    let group = call.group()?;
    let tags = match wanted.get("tags") {
        None => group.tags.clone(),
        Some(_) => read_tags(&wanted)?,
    };
    write(&call, group.location.clone(), tags).await
}

async fn write(call: &Call, location: RegionName, tags: BTreeMap<String, String>) -> Outcome {
    let command = Command::PutGroup {
        subscription: call.param("subscription").into(),
        name: call.param("group").into(),
        location,
        tags,
    };
    match call.submit(command).await? {
        Answer::Group { group, created } => {
            let status = if created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok(answer::json(status, &body(&group)))
        }
        other => Err(unexpected(&other)),
    }
}

fn read_tags(body: &Value) -> Result<BTreeMap<String, String>, Failure> {
    let mut mistakes = Mistakes::default();
    let tags = tags(body, &mut mistakes);
    match mistakes.0.is_empty() {
        true => Ok(tags),
        false => Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0)),
    }
}

fn not_available(call: &Call, location: &str) -> Failure {
    Failure::bad(
        "LocationNotAvailableForResourceGroup",
        format!(
            "The provided location '{}' is not available for resource group. {}",
            shown(location),
            crate::locations::why_not_running(call, location)
        ),
    )
}

/// 202 with the address to ask; 200 if there is nothing to delete.
pub async fn delete(call: Call) -> Outcome {
    let (subscription, name) = (call.param("subscription"), call.param("group"));
    let what = format!(
        "delete group {}/{}",
        subscription.to_lowercase(),
        name.to_lowercase()
    );
    let command = Command::DeleteGroup {
        subscription: subscription.into(),
        name: name.into(),
        operation: call.operation_id(&what, false)?,
    };
    match call.submit(command).await? {
        Answer::Absent => Ok(answer::empty(StatusCode::OK)),
        Answer::Operation(op) => {
            let mut response = answer::empty(StatusCode::ACCEPTED);
            operations::point_to_group_delete(&call, &op, &mut response);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}
