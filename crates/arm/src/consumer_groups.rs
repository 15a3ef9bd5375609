//! Consumer groups of a hub's event endpoint.

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use axum::http::StatusCode;
use control::model::ConsumerGroup;
use control::{Answer, Command, Hub, etag_text};
use serde_json::{Value, json};
use wire::timestamp::http_date;

pub fn list(call: &Call) -> Outcome {
    let hub = endpoint(call)?;
    answer::list(
        hub.consumer_groups
            .iter()
            .map(|group| body(hub, group))
            .collect(),
    )
}

pub fn get(call: &Call) -> Outcome {
    let hub = endpoint(call)?;
    let name = call.param("name");
    let group = named(hub, name).ok_or_else(|| absent(hub, name))?;
    answer::ok(&body(hub, group))
}

/// Makes a group; one that is there stays as it is.
pub async fn put(call: Call) -> Outcome {
    let hub = endpoint(&call)?;
    let name = call.param("name");
    let wanted = call.json_or_empty()?;
    let inner = &wanted["properties"]["name"];
    if !inner.is_null()
        && !inner
            .as_str()
            .is_some_and(|inner| inner.eq_ignore_ascii_case(name))
    {
        let message = format!(
            "The name in the body, {}, differs from the one in the path, '{}'.",
            shown(&inner.to_string()),
            shown(name)
        );
        return Err(Failure::bad("ConsumerGroupInvalid", message));
    }
    let command = Command::PutConsumerGroup {
        hub: hub.id,
        name: name.into(),
    };
    match call.submit(command).await? {
        Answer::Done => {
            let state = call.api.backend.state();
            let made = state
                .hub(hub.id)
                .and_then(|hub| Some((hub, named(hub, name)?)));
            let (hub, group) = made.ok_or_else(|| absent(hub, name))?;
            answer::ok(&body(hub, group))
        }
        other => Err(unexpected(&other)),
    }
}

/// 200, also if there is nothing to delete: a delete may be repeated.
pub async fn delete(call: Call) -> Outcome {
    let hub = endpoint(&call)?;
    let command = Command::DeleteConsumerGroup {
        hub: hub.id,
        name: call.param("name").into(),
    };
    match call.submit(command).await? {
        Answer::Done | Answer::Absent => Ok(answer::empty(StatusCode::OK)),
        other => Err(unexpected(&other)),
    }
}

/// The hub, if its one endpoint is named.
fn endpoint(call: &Call) -> Result<&Hub, Failure> {
    let hub = call.hub()?;
    let endpoint = call.param("endpoint");
    if endpoint.eq_ignore_ascii_case("events") {
        return Ok(hub);
    }
    Err(Failure::not_found(
        "ResourceNotFound",
        format!(
            "IotHub '{}' has no event endpoint '{}'; its only one is 'events'.",
            hub.name,
            shown(endpoint)
        ),
    ))
}

fn named<'a>(hub: &'a Hub, name: &str) -> Option<&'a ConsumerGroup> {
    hub.consumer_groups
        .iter()
        .find(|group| group.name.eq_ignore_ascii_case(name))
}

fn absent(hub: &Hub, name: &str) -> Failure {
    Failure::not_found(
        "ResourceNotFound",
        format!(
            "IotHub '{}' has no consumer group '{}'.",
            hub.name,
            shown(name)
        ),
    )
}

fn body(hub: &Hub, group: &ConsumerGroup) -> Value {
    json!({
        "id": format!("{}/eventHubEndpoints/events/ConsumerGroups/{}", hub.path(), group.name),
        "name": group.name,
        "type": "Microsoft.Devices/IotHubs/EventHubEndpoints/ConsumerGroups",
        "etag": etag_text(hub.etag),
        "properties": { "name": group.name, "created": http_date(group.created) },
    })
}
