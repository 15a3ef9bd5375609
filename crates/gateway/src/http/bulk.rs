//! Bulk changes of the registry: `POST /devices` (data-plane notes section 5.4).

use super::answer::json;
use super::auth::Right;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::future::join_all;
use hub::command::{BulkEntry, RegistryCommand};
use hub::{Command, Reply};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use types::{DeviceId, ErrorCode, PartitionId, limits};

/// What the edge needs to know of an entry; the hub reads the rest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    id: Option<String>,
    module_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    is_successful: bool,
    errors: Vec<EntryError>,
    warnings: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryError {
    device_id: String,
    module_id: Option<String>,
    error_code: &'static str,
    error_status: String,
}

impl EntryError {
    fn new(device: &str, failure: &Failure) -> EntryError {
        EntryError {
            device_id: device.to_owned(),
            module_id: None,
            error_code: failure.code.name(),
            error_status: failure.message.clone(),
        }
    }
}

/// Carries out each entry on its own; the answer names those that failed.
///
/// Entries of one partition stand or fall with its reachability: when a partition cannot be asked, its entries are reported
/// with that error. When none can, the request fails as a whole.
pub(super) async fn change(call: Call) -> Answer {
    call.authorize(Right::RegistryWrite)?;
    let body = call.json().await?;
    let mut errors = Vec::new();
    let split = split(&call, &body, &mut errors)?;
    let asked = split.len();
    let answers = join_all(split.into_iter().map(|(partition, entries)| {
        let devices: Vec<DeviceId> = entries.iter().map(|entry| entry.device.clone()).collect();
        let answer = call.ask(
            partition,
            Command::Registry(RegistryCommand::Bulk { entries }),
        );
        async move { (devices, answer.await) }
    }));
    let mut unreachable = Vec::new();
    for (devices, answer) in answers.await {
        match answer {
            Ok(Reply::Bulk { errors: found }) => {
                errors.extend(found.into_iter().map(|error| EntryError {
                    device_id: error.device.to_string(),
                    module_id: None,
                    error_code: error.code.name(),
                    error_status: error.message,
                }))
            }
            Ok(_) => return Err(Failure::unexpected_reply()),
            Err(failure) => {
                errors.extend(
                    devices
                        .iter()
                        .map(|device| EntryError::new(device.as_str(), &failure)),
                );
                unreachable.push(failure);
            }
        }
    }
    match unreachable.pop() {
        Some(failure) if unreachable.len() + 1 == asked => Err(failure),
        _ => outcome(errors),
    }
}

fn outcome(errors: Vec<EntryError>) -> Answer {
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    };
    let outcome = Outcome {
        is_successful: errors.is_empty(),
        errors,
        warnings: [],
    };
    let mut response = json(status, Body::from(super::answer::to_json(&outcome)));
    if !outcome.is_successful {
        let code = wire::error_body::header_value(ErrorCode::BulkRegistryOperationFailure);
        response.headers_mut().insert(
            wire::error_body::HEADER,
            axum::http::HeaderValue::from_static(code),
        );
    }
    Ok(response)
}

/// Entries by partition; those that cannot be sent to any go into `errors`.
fn split(
    call: &Call,
    body: &[u8],
    errors: &mut Vec<EntryError>,
) -> Result<BTreeMap<PartitionId, Vec<BulkEntry>>, Failure> {
    let entries: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    if entries.is_empty() || entries.len() > limits::BULK_DEVICES_MAX {
        let text = format!(
            "A bulk request has 1 to {} entries.",
            limits::BULK_DEVICES_MAX
        );
        return Err(Failure::new(ErrorCode::ArgumentInvalid, text));
    }
    let mut seen = BTreeSet::new();
    let mut by_partition: BTreeMap<PartitionId, Vec<BulkEntry>> = BTreeMap::new();
    for entry in entries {
        let names: Names = serde_json::from_str(entry.get()).map_err(|error| not_json(&error))?;
        let id = names.id.unwrap_or_default();
        if !seen.insert((id.clone(), names.module_id.clone())) {
            let text = format!("The id {id:?} stands more than once in the request.");
            return Err(Failure::new(ErrorCode::DeviceDefinedMultipleTimes, text));
        }
        match (DeviceId::parse(&id), names.module_id) {
            (_, Some(module)) => errors.push(EntryError {
                module_id: Some(module),
                ..EntryError::new(&id, &Failure::unsupported("modules"))
            }),
            (Ok(device), None) => {
                let body = Bytes::copy_from_slice(entry.get().as_bytes());
                by_partition
                    .entry(call.partition_of(&device))
                    .or_default()
                    .push(BulkEntry { device, body });
            }
            (Err(error), None) => errors.push(EntryError::new(&id, &error.into())),
        }
    }
    Ok(by_partition)
}

fn not_json(error: &serde_json::Error) -> Failure {
    Failure::new(
        ErrorCode::IotHubFormatError,
        format!("The body is not a JSON array of entries: {error}."),
    )
}
