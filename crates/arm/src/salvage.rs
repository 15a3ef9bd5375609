//! What a returned region had and the hub had not: listed, shown, replayed, discarded (docs/formats/failovers-api.md).

use crate::answer::{self, Outcome};
use crate::backend::{Salvage, SalvageError, SalvagePage, SalvagedChange, SalvagedEvent};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use axum::http::StatusCode;
use control::command::Noted;
use control::iso::iso8601;
use control::{Answer, Command, Hub};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use types::limits;

const TYPE: &str = "Castling.Failover/salvage";

/// The segments of a hub, oldest first. A region that does not answer may keep more: it is named.
pub async fn list(call: Call) -> Outcome {
    let hub = call.hub()?;
    let most = Duration::from_millis(limits::MANAGEMENT_SALVAGE_MS_MAX);
    let asked = call.api.backend.salvages(hub.id);
    let mut salvages = tokio::time::timeout(most, asked)
        .await
        .map_err(|_| late("The regions did not name their segments in time."))?;
    let order = |salvage: &Salvage| (salvage.made, salvage.id.clone());
    salvages.found.sort_by_key(order);
    let items: Vec<Value> = salvages.found.iter().map(|one| body(hub, one)).collect();
    answer::ok(&json!({ "value": items, "silent": salvages.silent }))
}

/// One segment with a page of what is in it; `?from=` goes on where the page before ended.
pub async fn get(call: Call) -> Outcome {
    let (hub, id) = (call.hub()?, call.param("salvage"));
    let from = call.query("from").map(str::to_owned);
    let most = Duration::from_millis(limits::MANAGEMENT_SALVAGE_MS_MAX);
    let asked = call.api.backend.salvage(hub.id, id.to_owned(), from);
    let page = tokio::time::timeout(most, asked)
        .await
        .map_err(|_| late("The segment was not read in time."))?
        .map_err(|error| failure(hub, id, error))?;
    let mut body = body(hub, &page.salvage);
    body["properties"]["page"] = content(&page);
    answer::ok(&body)
}

/// Appends the segment's events to the hub, as late ones. Repeating it appends nothing twice.
pub async fn replay(call: Call) -> Outcome {
    let (hub, id) = (call.hub()?, call.param("salvage"));
    note(&call, hub, id, Noted::SalvageReplay).await?;
    let done = call.api.backend.replay(hub.id, id.to_owned()).await;
    let done = done.map_err(|error| failure(hub, id, error))?;
    answer::ok(&json!({ "appended": done.appended, "skipped": done.skipped }))
}

/// Deletes a segment for good; `confirm`, in the body or the query, must repeat its id.
pub async fn discard(call: Call) -> Outcome {
    let (hub, id) = (call.hub()?, call.param("salvage"));
    let wanted = call.json_or_empty()?;
    let given = match &wanted["confirm"] {
        Value::String(text) => Some(text.as_str()),
        Value::Null => call.query("confirm"),
        _ => None,
    };
    if given != Some(id) {
        return Err(Failure::bad(
            "ConfirmationRequired",
            format!(
                "What is discarded is lost for good: repeat the id as 'confirm', here '{}'.",
                shown(id)
            ),
        ));
    }
    note(&call, hub, id, Noted::SalvageDiscard).await?;
    let done = call.api.backend.discard(hub.id, id.to_owned()).await;
    done.map_err(|error| failure(hub, id, error))?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Writes down who does it, before it is done.
async fn note(call: &Call, hub: &Hub, id: &str, what: Noted) -> Result<(), Failure> {
    let command = Command::Note {
        hub: hub.id,
        what,
        id: id.to_owned(),
    };
    match call.submit(command).await? {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn body(hub: &Hub, salvage: &Salvage) -> Value {
    json!({
        "id": format!("{}/providers/{TYPE}/{}", hub.path(), salvage.id),
        "name": salvage.id,
        "type": TYPE,
        "properties": {
            "region": salvage.region,
            "partition": salvage.partition,
            "epoch": salvage.epoch,
            "first": salvage.first,
            "last": salvage.last,
            "records": salvage.records,
            "events": salvage.events,
            "bytes": salvage.bytes,
            "firstTime": iso8601(salvage.first_time),
            "lastTime": iso8601(salvage.last_time),
            "made": iso8601(salvage.made),
        },
    })
}

/// Changes with their counts by kind; those whose present value is another one are conflicts.
fn content(page: &SalvagePage) -> Value {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for change in &page.changes {
        *counts.entry(&change.kind).or_default() += 1;
    }
    if !page.events.is_empty() {
        counts.insert("telemetry", page.events.len() as u64);
    }
    json!({
        "counts": counts,
        "changes": page.changes.iter().map(change).collect::<Vec<_>>(),
        "events": page.events.iter().map(event).collect::<Vec<_>>(),
        "next": page.next,
    })
}

fn change(change: &SalvagedChange) -> Value {
    json!({
        "kind": change.kind,
        "device": change.device,
        "what": change.what,
        "lost": change.lost,
        "present": change.present,
        "conflict": change.lost != change.present,
    })
}

fn event(event: &SalvagedEvent) -> Value {
    json!({
        "sequenceNumber": event.sequence,
        "device": event.device,
        "enqueuedTime": iso8601(event.enqueued),
        "bytes": event.bytes,
    })
}

fn late(what: &str) -> Failure {
    Failure::unavailable(format!("{what} Nothing has been changed."))
}

fn failure(hub: &Hub, id: &str, error: SalvageError) -> Failure {
    match error {
        SalvageError::NotFound => Failure::not_found(
            "SalvageNotFound",
            format!(
                "No region of IotHub '{}' keeps a segment '{}'.",
                hub.name,
                shown(id)
            ),
        ),
        SalvageError::Unavailable(why) => {
            Failure::unavailable(format!("{why}. Nothing has been done."))
        }
        SalvageError::OutcomeUnknown(why) => Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "OutcomeUnknown",
            format!("{why}. It may have been done; repeating it does nothing twice."),
        ),
        SalvageError::Refused(why) => Failure::conflict("SalvageRefused", why),
    }
}
