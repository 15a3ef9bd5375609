//! Devices of a hub in bulk, for imports and exports.

use arm::backend::{DeviceEntry, DeviceError};
use futures_util::future::join_all;
use hub::command::{BulkEntry, RegistryCommand, TwinCommand};
use hub::{Command, Reply};
use region::Region;
use region::router::CallError;
use serde_json::Value;
use std::collections::BTreeMap;
use types::{DeviceId, ErrorCode, HubId, PartitionId, PartitionKey, limits};

type Device = (DeviceId, Value, Value);

/// The next devices of a partition, each with identity and twin. One that is deleted meanwhile is left out.
pub async fn page(
    region: &Region,
    at: PartitionKey,
    mut after: Option<DeviceId>,
) -> Result<Vec<Device>, String> {
    loop {
        let list = RegistryCommand::List {
            after,
            top: limits::BULK_DEVICES_MAX,
        };
        let found = match region.router.call(at, Command::Registry(list)).await {
            Ok(Reply::JsonList(found)) => found,
            other => return Err(unexpected(other)),
        };
        let Some((last, _)) = found.last() else {
            return Ok(Vec::new());
        };
        after = Some(last.clone());
        let devices = join_all(
            found
                .into_iter()
                .map(|(id, body)| one(region, at, id, body)),
        );
        let mut page = Vec::new();
        for device in devices.await {
            page.extend(device?);
        }
        // An empty page would say that there are no more.
        if !page.is_empty() {
            return Ok(page);
        }
    }
}

async fn one(
    region: &Region,
    at: PartitionKey,
    id: DeviceId,
    body: bytes::Bytes,
) -> Result<Option<Device>, String> {
    let get = TwinCommand::Get { device: id.clone() };
    let twin = match region.router.call(at, Command::Twin(get)).await {
        Ok(Reply::Json { body, .. }) => body,
        Err(CallError::Reject(reject)) if reject.code == ErrorCode::DeviceNotFound => {
            return Ok(None);
        }
        other => return Err(unexpected(other)),
    };
    let json = |text: &[u8]| serde_json::from_slice(text).map_err(|error| error.to_string());
    Ok(Some((id, json(&body)?, json(&twin)?)))
}

/// Carries out each change at its partition; what could not be done.
pub async fn change(
    region: &Region,
    hub: HubId,
    entries: Vec<DeviceEntry>,
) -> Result<Vec<DeviceError>, String> {
    let route = region.router.by_id(hub).ok_or("the hub is gone")?;
    let partitions = route.settings.partition_count;
    let mut split: BTreeMap<PartitionId, Vec<BulkEntry>> = BTreeMap::new();
    for entry in entries {
        let partition = types::partition_of(&entry.device, partitions);
        split.entry(partition).or_default().push(BulkEntry {
            device: entry.device,
            body: entry.body,
        });
    }
    let asked = split.into_iter().map(|(partition, entries)| {
        let names: Vec<DeviceId> = entries.iter().map(|entry| entry.device.clone()).collect();
        let bulk = Command::Registry(RegistryCommand::Bulk { entries });
        let answer = region.router.call(PartitionKey { hub, partition }, bulk);
        async move { (names, answer.await) }
    });
    let mut failed = Vec::new();
    for (names, answer) in join_all(asked).await {
        match answer {
            Ok(Reply::Bulk { errors }) => {
                failed.extend(errors.into_iter().map(|error| DeviceError {
                    device: error.device,
                    code: error.code.name().into(),
                    message: error.message,
                }))
            }
            other => {
                let (code, why) = match &other {
                    Err(CallError::OutcomeUnknown { why }) => ("OutcomeUnknown", why.clone()),
                    Err(CallError::Reject(reject)) => (reject.code.name(), reject.message.clone()),
                    _ => ("ServiceUnavailable", unexpected(other)),
                };
                failed.extend(names.into_iter().map(|device| DeviceError {
                    device,
                    code: code.into(),
                    message: why.clone(),
                }));
            }
        }
    }
    Ok(failed)
}

fn unexpected(answer: Result<Reply, CallError>) -> String {
    match answer {
        Err(CallError::Reject(reject)) => format!("{}: {}", reject.code.name(), reject.message),
        Err(CallError::FailingOver { .. }) => "the hub was failing over for too long".into(),
        Err(CallError::Unavailable { why, .. } | CallError::OutcomeUnknown { why }) => why,
        Ok(_) => "the hub gave an answer that does not fit".into(),
    }
}
