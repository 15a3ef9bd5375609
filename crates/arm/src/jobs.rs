//! Import and export of a hub's devices (control-plane notes section 8): `devices.txt` in a blob container, a device a line.

mod work;

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::Mistakes;
use crate::hub_body::{Shape, body};
use crate::ids;
use crate::outgoing::Container;
use axum::http::StatusCode;
use control::jobs::{ABANDONED, Job, JobCommand, JobKind, JobStatus};
use control::{Answer, Command, Hub};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use types::limits;
use wire::timestamp::http_date;

/// Jobs of this node.
static RUNNING: Semaphore = Semaphore::const_new(limits::JOBS_AT_ONCE_MAX);

/// What a job is to do.
pub(crate) enum Task {
    Export {
        to: Container,
        blob: String,
        exclude_keys: bool,
    },
    Import {
        from: Container,
        blob: String,
        errors_to: Container,
        errors_blob: String,
    },
}

pub fn list(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let jobs = call.state.jobs_of(hub.id);
    answer::list(jobs.into_iter().map(|job| shown_job(call, job)).collect())
}

pub fn get(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let id = call.param("job");
    let job = call.state.jobs.get(id).filter(|job| job.hub == hub.id);
    let job = job.ok_or_else(|| {
        Failure::not_found(
            "JobNotFound",
            format!("IotHub '{}' has no job '{}'.", hub.name, shown(id)),
        )
    })?;
    answer::ok(&shown_job(call, job))
}

pub async fn export(call: Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.json()?;
    let mut mistakes = Mistakes::default();
    not_available(&wanted, &mut mistakes);
    let to = container(&call, hub, &wanted, "exportBlobContainerUri", &mut mistakes);
    let exclude_keys = match &wanted["excludeKeys"] {
        Value::Bool(exclude) => *exclude,
        _ => {
            mistakes.add("excludeKeys", "true or false is expected");
            true
        }
    };
    let blob = blob(&wanted, "exportBlobName", "devices.txt", &mut mistakes);
    match (to, mistakes.0.is_empty()) {
        (Some(to), true) => {
            let task = Task::Export {
                to,
                blob,
                exclude_keys,
            };
            start(call, JobKind::Export, task).await
        }
        _ => Err(refuse(&mistakes)),
    }
}

pub async fn import(call: Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.json()?;
    let mut mistakes = Mistakes::default();
    not_available(&wanted, &mut mistakes);
    let from = container(&call, hub, &wanted, "inputBlobContainerUri", &mut mistakes);
    let errors_to = container(&call, hub, &wanted, "outputBlobContainerUri", &mut mistakes);
    let blob_in = blob(&wanted, "inputBlobName", "devices.txt", &mut mistakes);
    let errors_blob = blob(&wanted, "outputBlobName", "importErrors.log", &mut mistakes);
    match (from, errors_to, mistakes.0.is_empty()) {
        (Some(from), Some(errors_to), true) => {
            let task = Task::Import {
                from,
                blob: blob_in,
                errors_to,
                errors_blob,
            };
            start(call, JobKind::Import, task).await
        }
        _ => Err(refuse(&mistakes)),
    }
}

fn refuse(mistakes: &Mistakes) -> Failure {
    Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0)
}

fn not_available(wanted: &Value, mistakes: &mut Mistakes) {
    if wanted["authenticationType"]
        .as_str()
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("keyBased"))
    {
        mistakes.add(
            "authenticationType",
            "managed identities are not available here, only 'keyBased'",
        );
    }
    if wanted["includeConfigurations"] == true {
        mistakes.add(
            "includeConfigurations",
            "configurations are not available here",
        );
    }
}

fn container(
    call: &Call,
    hub: &Hub,
    wanted: &Value,
    name: &str,
    mistakes: &mut Mistakes,
) -> Option<Container> {
    let Some(text) = wanted[name].as_str() else {
        mistakes.add(name, "a container's address with its signature is expected");
        return None;
    };
    let inside = call.state.deployment.limits.private_containers;
    let found = Container::parse(text).map(|found| found.allowed_inside(inside));
    match found.and_then(|found| outbound(call, hub, found)) {
        Ok(container) => Some(container),
        Err(why) => {
            mistakes.add(name, why);
            None
        }
    }
}

/// The container, if the hub's own rules let it reach that host.
fn outbound(call: &Call, hub: &Hub, container: Container) -> Result<Container, String> {
    let hub = body(call, hub, &Shape::Listed);
    let properties = &hub["properties"];
    if properties["restrictOutboundNetworkAccess"] != true {
        return Ok(container);
    }
    let allowed = properties["allowedFqdnList"].as_array();
    let fits = |name: &Value| {
        name.as_str()
            .is_some_and(|name| name.eq_ignore_ascii_case(&container.host))
    };
    match allowed.into_iter().flatten().any(fits) {
        true => Ok(container),
        false => Err(format!(
            "the hub restricts its outbound network access, and '{}' is not in allowedFqdnList",
            shown(&container.host)
        )),
    }
}

fn blob(wanted: &Value, name: &str, default: &str, mistakes: &mut Mistakes) -> String {
    match &wanted[name] {
        Value::Null => default.into(),
        Value::String(text) if text.is_empty() => default.into(),
        Value::String(text)
            if text.len() <= 1024
                && !text.split('/').any(|part| part.is_empty() || part == "..") =>
        {
            text.clone()
        }
        _ => {
            mistakes.add(name, "a blob's name is expected");
            default.into()
        }
    }
}

async fn start(call: Call, kind: JobKind, task: Task) -> Outcome {
    let permit: SemaphorePermit<'static> = RUNNING.try_acquire().map_err(|_| {
        Failure::new(
            StatusCode::FORBIDDEN,
            "JobQuotaExceeded",
            format!(
                "{} jobs run on this node already.",
                limits::JOBS_AT_ONCE_MAX
            ),
        )
    })?;
    let hub = call.hub()?;
    let (hub, partitions) = (hub.id, hub.partition_count);
    let id = ids::guid()?;
    let command = Command::Job(JobCommand::Start { hub, id, kind });
    let job = match call.submit(command).await? {
        Answer::Job(job) => *job,
        other => return Err(unexpected(&other)),
    };
    let answer = answer::ok(&shown_job(&call, &job));
    tokio::spawn(async move {
        work::run(&call, &job, partitions, task).await;
        drop(permit);
    });
    answer
}

/// `JobResponse`. One whose node is lost is shown as failed, also before anything ended it.
fn shown_job(call: &Call, job: &Job) -> Value {
    let abandoned = job.is_abandoned(call.now);
    let status = match job.status {
        _ if abandoned => "failed",
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
    };
    let reason = match abandoned {
        true => Some(ABANDONED),
        false => job.failure_reason.as_deref(),
    };
    let message = match job.kind {
        JobKind::Export => format!("{} devices exported", job.devices),
        JobKind::Import => format!("{} devices imported, {} failed", job.devices, job.failed),
    };
    json!({
        "jobId": job.id,
        "startTimeUtc": http_date(job.started),
        "endTimeUtc": job.ended.map(http_date),
        "type": match job.kind { JobKind::Export => "export", JobKind::Import => "import" },
        "status": status,
        "failureReason": reason,
        "statusMessage": message,
        "parentJobId": null,
    })
}

#[cfg(test)]
mod tests;
