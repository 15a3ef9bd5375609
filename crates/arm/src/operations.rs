//! Long-running operations: the addresses a first answer gives, and what stands there (control-plane notes section 6).
//!
//! Two addresses: `operationStatuses` always answers 200 with the status in the body (`Azure-AsyncOperation`);
//! `operationResults` answers 202 until the end (`Location`). What an operation was about stands in the query, so that a
//! client that asks after the operation has left the history is still answered from the state of its target.

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;
use control::iso::iso8601;
use control::naming::{group_path, key};
use control::{Hub, HubState, Operation, OperationKind, OperationStatus};
use serde_json::{Value, json};
use types::RegionName;
use wire::percent;

const ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");
/// Seconds. Zero would be read as "no header", and clients then wait 30 s.
const RETRY_AFTER: &str = "1";
const READ: &str = "Microsoft.Devices/locations/operationResults/read";
const VERSION: &str = "2023-06-30";

/// Sets `Azure-AsyncOperation` alone, as a creation has it.
pub fn point_to_status(call: &Call, op: &Operation, region: &RegionName, response: &mut Response) {
    answer::set(
        response,
        ASYNC_OPERATION,
        &address(call, op, region, "operationStatuses"),
    );
    answer::set(response, header::RETRY_AFTER, RETRY_AFTER);
}

/// Sets both headers, as a delete or a failover has them.
pub fn point_to_both(call: &Call, op: &Operation, region: &RegionName, response: &mut Response) {
    point_to_status(call, op, region, response);
    answer::set(
        response,
        header::LOCATION,
        &address(call, op, region, "operationResults"),
    );
}

/// Sets `Location` alone, as the delete of a resource group has it.
pub fn point_to_group_delete(call: &Call, op: &Operation, response: &mut Response) {
    let address = format!(
        "https://{}/subscriptions/{}/operationresults/{}?{}",
        call.host,
        percent::encode(&op.subscription),
        percent::encode(&op.id),
        hints(call, op)
    );
    answer::set(response, header::LOCATION, &address);
    answer::set(response, header::RETRY_AFTER, RETRY_AFTER);
}

fn address(call: &Call, op: &Operation, region: &RegionName, form: &str) -> String {
    format!(
        "https://{}/subscriptions/{}/providers/Microsoft.Devices/locations/{region}/{form}/{}?{}&operationSource=os_ih",
        call.host,
        percent::encode(&op.subscription),
        percent::encode(&op.id),
        hints(call, op)
    )
}

fn hints(call: &Call, op: &Operation) -> String {
    let version = call.api_version().unwrap_or(VERSION);
    let target = percent::encode(&op.target);
    let (kind, to) = match &op.kind {
        OperationKind::CreateHub => ("create", String::new()),
        OperationKind::UpdateHub => ("update", String::new()),
        OperationKind::DeleteHub => ("delete", String::new()),
        OperationKind::DeleteGroup => ("deletegroup", String::new()),
        OperationKind::Failover { to, .. } | OperationKind::Forced { to, .. } => {
            ("failover", format!("&to={to}"))
        }
    };
    format!("api-version={version}&kind={kind}&target={target}{to}")
}

/// What is known of an operation that a client asks about.
enum Known<'a> {
    Operation(&'a Operation),
    /// It has left the history; its target tells how it ended.
    Ended,
}

fn find(call: &Call) -> Result<Known<'_>, Failure> {
    let subscription = &call.subscription()?.id;
    let id = call.param("operation");
    match call.state.operations.get(id) {
        Some(op) if key(&op.subscription) == key(subscription) && may_see(call, op) => {
            Ok(Known::Operation(op))
        }
        None if target_says_done(call) => Ok(Known::Ended),
        _ => Err(Failure::not_found(
            "OperationNotFound",
            format!(
                "The operation '{}' was not found. It may have ended long ago: read the resource itself.",
                shown(id)
            ),
        )),
    }
}

/// Who began an operation may follow it, and who may read what it is about.
fn may_see(call: &Call, op: &Operation) -> bool {
    let by = key(&op.by) == key(&call.by);
    let hub = call.state.hub_named(&op.target);
    let scope = match &op.kind {
        OperationKind::DeleteGroup => group_path(&op.subscription, &op.target),
        _ => hub.map_or_else(|| format!("/subscriptions/{}", op.subscription), Hub::path),
    };
    by || call.may(READ, &scope)
}

/// True if the target of an operation that is not in the history any more is as it would have left it, and who asks may
/// read it. Who began the operation is not known any more.
fn target_says_done(call: &Call) -> bool {
    let (Some(kind), Some(target)) = (call.query("kind"), call.query("target")) else {
        return false;
    };
    let subscription = call.param("subscription");
    let hub = call
        .state
        .hub_named(target)
        .filter(|hub| key(&hub.subscription) == key(subscription));
    let scope = match (kind, hub) {
        ("deletegroup", _) | (_, None) => format!("/subscriptions/{subscription}"),
        (_, Some(hub)) => hub.path(),
    };
    if !call.may(READ, &scope) {
        return false;
    }
    match kind {
        "create" | "update" => hub.is_some_and(|hub| hub.state != HubState::Activating),
        "delete" => hub.is_none(),
        "deletegroup" => call.state.group(subscription, target).is_none(),
        "failover" => hub.is_some_and(|hub| Some(hub.primary.as_str()) == call.query("to")),
        _ => false,
    }
}

/// The asynchronous form: 200 with the status in the body, whatever it is.
pub fn status(call: &Call) -> Outcome {
    let body = match find(call)? {
        Known::Operation(op) => status_body(op),
        Known::Ended => json!({ "name": call.param("operation"), "status": "Succeeded" }),
    };
    let mut response = answer::json(StatusCode::OK, &body);
    answer::set(&mut response, header::RETRY_AFTER, RETRY_AFTER);
    Ok(response)
}

fn status_body(op: &Operation) -> Value {
    let mut body = json!({
        "name": op.id,
        "status": status_word(op.status),
        "startTime": iso8601(op.started),
    });
    if let Some(ended) = op.ended {
        body["endTime"] = iso8601(ended).into();
    }
    if is_failure(op.status) {
        let (code, message) = error(op);
        body["error"] = json!({ "code": code, "message": message });
    }
    body
}

/// The words that clients know; every other word would mean "go on".
fn status_word(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "Running",
        OperationStatus::Succeeded => "Succeeded",
        OperationStatus::Cancelled => "Canceled",
        OperationStatus::RolledBack | OperationStatus::Failed => "Failed",
    }
}

fn is_failure(status: OperationStatus) -> bool {
    !matches!(
        status,
        OperationStatus::Running | OperationStatus::Succeeded
    )
}

/// Why an operation did not succeed, with a code in any case.
fn error(op: &Operation) -> (String, String) {
    let (code, message) = op.error.clone().unwrap_or_else(|| {
        (
            "OperationFailed".into(),
            "The operation ended without success.".into(),
        )
    });
    let message = match op.status {
        OperationStatus::RolledBack => format!(
            "The failover was rolled back; the hub serves where it served before and nothing was lost. {message}"
        ),
        OperationStatus::Cancelled => format!(
            "The failover was cancelled; the hub serves where it served before and nothing was lost. {message}"
        ),
        _ => message,
    };
    (code, message)
}

/// The location form: 202 while it runs, 200 without a body at the end, an error if it did not succeed. With `asyncinfo` in
/// the query, as the real service marks its other form, it is that other form.
pub fn result(call: &Call) -> Outcome {
    if call.query("asyncinfo").is_some() {
        return status(call);
    }
    let mut response = match find(call)? {
        Known::Operation(op) if op.is_running() => {
            let mut response = answer::empty(StatusCode::ACCEPTED);
            let path = format!("https://{}{}", call.host, own_path(call, op));
            answer::set(&mut response, header::LOCATION, &path);
            response
        }
        Known::Operation(op) if is_failure(op.status) => {
            let (code, message) = error(op);
            return Err(Failure::new(StatusCode::CONFLICT, code, message));
        }
        _ => answer::empty(StatusCode::OK),
    };
    answer::set(&mut response, header::RETRY_AFTER, RETRY_AFTER);
    Ok(response)
}

/// The address that was asked, to be asked again.
fn own_path(call: &Call, op: &Operation) -> String {
    let subscription = percent::encode(&op.subscription);
    let id = percent::encode(&op.id);
    let hints = hints(call, op);
    match call.param("region") {
        "" => format!("/subscriptions/{subscription}/operationresults/{id}?{hints}"),
        region => format!(
            "/subscriptions/{subscription}/providers/Microsoft.Devices/locations/{}/operationResults/{id}?{hints}&operationSource=os_ih",
            percent::encode(region)
        ),
    }
}
