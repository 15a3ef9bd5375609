//! What a job does. Nobody waits for it: what it comes to stands in its record.

use super::Task;
use crate::backend::{BoxFuture, DeviceEntry};
use crate::call::Call;
use crate::outgoing;
use control::jobs::{Job, JobCommand};
use control::{Answer, Command};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use types::{DeviceId, HubId, PartitionId, limits};

const ASK_AGAIN: Duration = Duration::from_millis(500);
const ASK_FOR: Duration = Duration::from_millis(limits::JOB_SILENCE_MS as u64);

#[derive(Default)]
struct Count {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Count {
    fn now(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }
}

pub(super) async fn run(call: &Call, job: &Job, partitions: u16, task: Task) {
    let count = Arc::new(Count::default());
    let mut work = perform(call.clone(), job.hub, partitions, task, count.clone());
    let failure = loop {
        let beat = tokio::time::sleep(Duration::from_millis(limits::JOB_BEAT_MS));
        tokio::select! {
            done = &mut work => break done.err(),
            () = beat => {
                let (devices, failed) = count.now();
                let id = job.id.clone();
                // The next beat makes good for one that did not get through; a refusal means that the job was ended.
                let told = call.submit(Command::Job(JobCommand::Progress { id, devices, failed })).await;
                if told.is_err_and(|failure| failure.code == "JobNotFound") {
                    return;
                }
            }
        }
    };
    let (devices, failed) = count.now();
    let end = JobCommand::End {
        id: job.id.clone(),
        devices,
        failed,
        failure,
    };
    record(call, end).await;
}

fn perform(
    call: Call,
    hub: HubId,
    partitions: u16,
    task: Task,
    count: Arc<Count>,
) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(async move {
        match task {
            Task::Export {
                to,
                blob,
                exclude_keys,
            } => {
                let text = export(&call, hub, partitions, exclude_keys, &count).await?;
                outgoing::put(to, blob, text).await
            }
            Task::Import {
                from,
                blob,
                errors_to,
                errors_blob,
            } => {
                let text = outgoing::get(from, blob).await?;
                let errors = import(&call, hub, &text, &count).await;
                match errors.is_empty() {
                    true => Ok(()),
                    false => outgoing::put(errors_to, errors_blob, errors).await,
                }
            }
        }
    })
}

async fn record(call: &Call, command: JobCommand) {
    let until = Instant::now() + ASK_FOR;
    loop {
        let sent = call
            .api
            .backend
            .submit(call.who(), Command::Job(command.clone()));
        match sent.await {
            Ok(Answer::Refused(refusal)) => {
                return tracing::warn!(%refusal, "the end of a job was refused");
            }
            Ok(_) => return,
            Err(error) if Instant::now() >= until => {
                return tracing::warn!(why = %error.why, "the end of a job could not be recorded");
            }
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// A device a line, in the public service's format.
async fn export(
    call: &Call,
    hub: HubId,
    partitions: u16,
    exclude_keys: bool,
    count: &Count,
) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    for number in 0..partitions {
        let mut after: Option<DeviceId> = None;
        loop {
            let page = call
                .api
                .backend
                .devices(hub, PartitionId(number), after)
                .await?;
            let Some((last, _, _)) = page.last() else {
                break;
            };
            after = Some(last.clone());
            for (_, identity, twin) in &page {
                line(&mut text, identity, twin, exclude_keys);
                count.done.fetch_add(1, Ordering::Relaxed);
            }
            if text.len() > limits::JOB_BLOB_BYTES_MAX {
                return Err(format!(
                    "The devices need more than {} bytes.",
                    limits::JOB_BLOB_BYTES_MAX
                ));
            }
        }
    }
    Ok(text)
}

fn line(text: &mut Vec<u8>, identity: &Value, twin: &Value, exclude_keys: bool) {
    let mut authentication = identity["authentication"].clone();
    if exclude_keys && let Some(fields) = authentication.as_object_mut() {
        fields.remove("symmetricKey");
    }
    let line = json!({
        "id": identity["deviceId"],
        "eTag": identity["etag"],
        "status": identity["status"],
        "statusReason": identity["statusReason"],
        "authentication": authentication,
        "twinETag": twin["etag"],
        "tags": twin.get("tags").cloned().unwrap_or_else(|| json!({})),
        "properties": twin.get("properties").cloned().unwrap_or_else(|| json!({})),
    });
    text.extend_from_slice(line.to_string().as_bytes());
    text.extend_from_slice(b"\r\n");
}

/// Carries out each line; what could not be done, a line each.
async fn import(call: &Call, hub: HubId, text: &[u8], count: &Count) -> Vec<u8> {
    let mut errors = Errors::default();
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    while !rest.is_empty() {
        let batch = batch(&mut rest, &mut errors);
        count.failed.store(errors.number, Ordering::Relaxed);
        if batch.is_empty() {
            continue;
        }
        let names: Vec<DeviceId> = batch.iter().map(|entry| entry.device.clone()).collect();
        match call.api.backend.import_devices(hub, batch).await {
            Ok(failed) => {
                let done = names.len().saturating_sub(failed.len()) as u64;
                count.done.fetch_add(done, Ordering::Relaxed);
                for one in failed {
                    errors.note(one.device.as_str(), &one.code, &one.message);
                }
            }
            Err(why) => {
                for name in names {
                    errors.note(name.as_str(), "OutcomeUnknown", &why);
                }
            }
        }
        count.failed.store(errors.number, Ordering::Relaxed);
    }
    errors.text
}

/// What could not be done.
#[derive(Default)]
struct Errors {
    text: Vec<u8>,
    number: u64,
}

impl Errors {
    fn note(&mut self, device: &str, code: &str, why: &str) {
        self.number += 1;
        let line = json!({ "id": device, "errorCode": code, "errorStatus": why });
        // What does not fit is counted all the same.
        if self.text.len() < limits::JOB_BLOB_BYTES_MAX {
            self.text.extend_from_slice(line.to_string().as_bytes());
            self.text.extend_from_slice(b"\r\n");
        }
    }
}

/// Takes the next lines, at most one of each device: a bulk names a device once.
fn batch(rest: &mut &[u8], errors: &mut Errors) -> Vec<DeviceEntry> {
    let mut batch: Vec<DeviceEntry> = Vec::new();
    while batch.len() < limits::BULK_DEVICES_MAX && !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (*rest, &[][..]),
        };
        let line = line.trim_ascii();
        if !line.is_empty() {
            match entry(line) {
                // It goes into the next bulk, after the line before it.
                Ok(entry) if batch.iter().any(|known| known.device == entry.device) => break,
                Ok(entry) => batch.push(entry),
                Err((device, why)) => errors.note(&device, "DeserializationError", &why),
            }
        }
        *rest = after;
    }
    batch
}

fn entry(line: &[u8]) -> Result<DeviceEntry, (String, String)> {
    let mut body: Value =
        serde_json::from_slice(line).map_err(|error| (String::new(), error.to_string()))?;
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let device = DeviceId::parse(&id).map_err(|error| (id.clone(), error.to_string()))?;
    // The service's own notes about a twin come back with an export; they are not written.
    for part in ["desired", "reported"] {
        if let Some(fields) = body["properties"][part].as_object_mut() {
            fields.remove("$metadata");
            fields.remove("$version");
        }
    }
    if let Some(fields) = body.as_object_mut() {
        for name in ["tags", "properties", "statusReason"] {
            if fields.get(name).is_some_and(Value::is_null) {
                fields.remove(name);
            }
        }
    }
    Ok(DeviceEntry {
        device,
        body: body.to_string().into(),
    })
}
