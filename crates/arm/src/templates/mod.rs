//! Deployments of ARM templates at a resource group (`az deployment group …`).

mod driver;
pub mod export;
mod expression;
mod functions;
mod jsonc;
mod plan;

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::durations;
use crate::failure::{Failure, shown};
use crate::ids;
use crate::routes::{self, Found, Handler};
use axum::http::{HeaderName, StatusCode, header};
use control::iso::iso8601;
use control::naming::group_path;
use control::templates::{TemplateCommand, TemplateDeployment, TemplateStatus, TemplateStep};
use control::{Answer, Command};
use plan::{Place, Plan, Resource};
use serde_json::{Value, json};
use types::UnixMillis;
use wire::percent;

pub const TYPE: &str = "Microsoft.Resources/deployments";
const ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");
const NAME_CHARS_MAX: usize = 64;

/// Starts a deployment: 201 with the address of its status.
pub async fn put(call: Call) -> Outcome {
    let plan = read(&call)?;
    let group = call.group()?;
    let deployment = TemplateDeployment {
        id: ids::guid()?,
        name: call.param("deployment").into(),
        subscription: group.subscription.clone(),
        group: group.name.clone(),
        correlation: call.correlation.clone(),
        by: call.by.clone(),
        status: TemplateStatus::Running,
        started: call.now,
        ended: None,
        touched: call.now,
        cancelled: false,
        parameters: plan.shown.clone(),
        outputs: Value::Null,
        error: None,
        steps: Vec::new(),
    };
    let command = Command::Template(TemplateCommand::Start {
        deployment: Box::new(deployment),
    });
    let deployment = match call.submit(command).await? {
        Answer::Template(deployment) => *deployment,
        other => return Err(unexpected(&other)),
    };
    let mut response = answer::json(StatusCode::CREATED, &body(&deployment));
    let address = format!(
        "https://{}{}/operationStatuses/{}?api-version={}",
        call.host,
        percent_path(&deployment),
        percent::encode(&deployment.id),
        call.api_version()?
    );
    answer::set(&mut response, ASYNC_OPERATION, &address);
    answer::set(&mut response, header::RETRY_AFTER, "1");
    tokio::spawn(driver::drive(call, plan, deployment));
    Ok(response)
}

/// Reads a template and says whether it would be taken; changes nothing.
pub async fn validate(call: Call) -> Outcome {
    let plan = read(&call)?;
    let group = call.group()?;
    let resources = plan.resources.iter().map(|one| json!({ "id": one.id }));
    let name = call.param("deployment");
    answer::ok(&json!({
        "id": format!("{}/providers/{TYPE}/{name}", group_path(&group.subscription, &group.name)),
        "name": name,
        "type": TYPE,
        "properties": {
            "mode": "Incremental",
            "provisioningState": "Succeeded",
            "timestamp": iso8601(call.now),
            "duration": "PT0S",
            "correlationId": call.correlation,
            "parameters": plan.shown,
            "providers": [],
            "dependencies": [],
            "validatedResources": resources.collect::<Vec<_>>(),
        },
    }))
}

/// The template in the body, if each of its resources may be written by who asks and would be taken.
fn read(call: &Call) -> Result<Plan, Failure> {
    let group = call.group()?;
    let name = call.param("deployment");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.()".contains(c);
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
        return Err(Failure::bad(
            "InvalidDeploymentName",
            format!(
                "The deployment name '{}' is invalid: 1 to {NAME_CHARS_MAX} letters, digits, and -_.() are expected.",
                shown(name)
            ),
        ));
    }
    let body = jsonc::parse(&call.body).map_err(|why| {
        Failure::bad(
            "InvalidRequestContent",
            format!("The request content was invalid and could not be read: {why}."),
        )
    })?;
    let subscription = call.subscription()?;
    let path = group_path(&group.subscription, &group.name);
    let place = Place {
        subscription: json!({
            "id": format!("/subscriptions/{}", subscription.id),
            "subscriptionId": subscription.id,
            "tenantId": call.state.deployment.tenant,
            "displayName": subscription.display_name,
        }),
        tenant: call.state.deployment.tenant.clone(),
        group: json!({
            "id": path,
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            "tags": group.tags,
            "properties": { "provisioningState": "Succeeded" },
        }),
        path,
        deployment: name.into(),
    };
    let invalid = |mistakes: Vec<String>| {
        let message = format!(
            "Deployment template validation failed: {}.",
            mistakes.join("; ")
        );
        Failure::bad("InvalidTemplate", message).details(&mistakes)
    };
    let plan = Plan::read(&body["properties"], place).map_err(invalid)?;
    plan.check_outputs().map_err(invalid)?;
    for resource in &plan.resources {
        let (part, _) = part(call, resource)?;
        if resource.kind.eq_ignore_ascii_case(crate::hub_body::TYPE) {
            let name = control::naming::hub_name(part.param("hub"))?;
            let spec = crate::hub_request::read(&part, name, &resource.body)?;
            crate::hub_request::check(&part, spec)?;
        }
    }
    Ok(plan)
}

type Act = fn(Call) -> crate::backend::BoxFuture<'static, Outcome>;

/// The request that writes a resource, if who asks may send it, and its handler: those of the resource's own PUT.
fn part(call: &Call, resource: &Resource) -> Result<(Call, Act), Failure> {
    let segments: Vec<String> = resource
        .id
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect();
    let unserved = || {
        Failure::bad(
            "InvalidTemplate",
            format!(
                "The resource type '{}' is not available in this deployment.",
                resource.kind
            ),
        )
    };
    let Found::Route(route, params) = routes::find("PUT", &segments) else {
        return Err(unserved());
    };
    let Handler::Act(act) = route.handler else {
        return Err(unserved());
    };
    let mut part = call.clone();
    part.params = params;
    part.query = vec![("api-version".into(), resource.api_version.clone())];
    part.body = resource.body.to_string().into();
    part.state = call.api.backend.state();
    part.now = call.api.backend.now();
    // Ids and conditions were meant for the deployment.
    for name in ["x-ms-client-request-id", "if-match", "if-none-match"] {
        part.headers.remove(name);
    }
    part.api_version()?;
    allowed(&part, route.permission, &resource.id)?;
    Ok((part, act))
}

/// Whether who asks may do this, and no lock is in the way.
fn allowed(call: &Call, action: &str, scope: &str) -> Result<(), Failure> {
    call.require(action, scope)?;
    if let Some(lock) = call.state.lock_against(action, scope) {
        return Err(Failure::conflict(
            "ScopeLocked",
            format!(
                "The scope '{scope}' cannot be written because '{}' is locked.",
                lock.scope
            ),
        ));
    }
    Ok(())
}

pub async fn get(call: Call) -> Outcome {
    answer::ok(&body(&find(&call).await?))
}

/// 204 or 404, both without a body.
pub fn exists(call: &Call) -> Outcome {
    let there = call.state.templates.contains_key(&key(call));
    Ok(answer::empty(match there {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }))
}

pub fn list(call: &Call) -> Outcome {
    let group = call.group()?;
    let found = call.state.templates_of(&group.subscription, &group.name);
    answer::list(found.into_iter().map(body).collect())
}

/// 204, also if there is none; one that runs is refused. What it made stays.
pub async fn delete(call: Call) -> Outcome {
    call.group()?;
    let command = TemplateCommand::Delete { key: key(&call) };
    match call.submit(Command::Template(command)).await? {
        Answer::Done | Answer::Absent => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// No further resource is begun: 204.
pub async fn cancel(call: Call) -> Outcome {
    find(&call).await?;
    let command = TemplateCommand::Cancel { key: key(&call) };
    match call.submit(Command::Template(command)).await? {
        Answer::Template(_) => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// The asynchronous form: 200 with the status in the body.
pub async fn status(call: Call) -> Outcome {
    let found = find(&call).await?;
    let wanted = call.param("operation");
    if found.id != wanted {
        return Err(Failure::not_found(
            "DeploymentOperationNotFound",
            format!(
                "The deployment '{}' is not '{}' any more: it was deployed again since.",
                found.name,
                shown(wanted)
            ),
        ));
    }
    let mut body = json!({ "status": found.status.name() });
    if let Some((code, message)) = &found.error {
        body["error"] = error(&found, code, message);
    }
    let mut response = answer::json(StatusCode::OK, &body);
    answer::set(&mut response, header::RETRY_AFTER, "1");
    Ok(response)
}

pub async fn operations(call: Call) -> Outcome {
    let found = find(&call).await?;
    answer::list(
        found
            .steps
            .iter()
            .map(|step| operation(&found, step))
            .collect(),
    )
}

pub async fn get_operation(call: Call) -> Outcome {
    let found = find(&call).await?;
    let wanted = call.param("operation");
    let step = found
        .steps
        .iter()
        .find(|step| step.id == wanted)
        .ok_or_else(|| {
            Failure::not_found(
                "DeploymentOperationNotFound",
                format!(
                    "The deployment '{}' has no operation '{}'.",
                    found.name,
                    shown(wanted)
                ),
            )
        })?;
    answer::ok(&operation(&found, step))
}

fn key(call: &Call) -> String {
    control::templates::template_key(
        call.param("subscription"),
        call.param("group"),
        call.param("deployment"),
    )
}

/// The deployment in the path. One whose driver is lost is ended first.
async fn find(call: &Call) -> Result<TemplateDeployment, Failure> {
    call.group()?;
    let key = key(call);
    let found = call.state.templates.get(&key).ok_or_else(|| {
        Failure::not_found(
            "DeploymentNotFound",
            format!(
                "Deployment '{}' could not be found.",
                shown(call.param("deployment"))
            ),
        )
    })?;
    if !found.is_abandoned(call.now) {
        return Ok(found.clone());
    }
    let why = "The node that carried the deployment out is gone. What it had done until then stays done; deploy again.";
    let command = Command::Template(TemplateCommand::End {
        key: key.clone(),
        id: found.id.clone(),
        outputs: Value::Null,
        error: Some(("DeploymentAbandoned".into(), why.into())),
    });
    let by = crate::backend::By {
        name: format!("castling:{}", call.api.backend.region()),
        ..Default::default()
    };
    let ended = call.api.backend.submit(by, command).await;
    match ended {
        Ok(Answer::Template(ended)) => Ok(*ended),
        // Somebody else ended it, or nobody can now: as it is known here.
        _ => Ok(call
            .api
            .backend
            .state()
            .templates
            .get(&key)
            .unwrap_or(found)
            .clone()),
    }
}

fn path(deployment: &TemplateDeployment) -> String {
    let group = group_path(&deployment.subscription, &deployment.group);
    format!("{group}/providers/{TYPE}/{}", deployment.name)
}

fn percent_path(deployment: &TemplateDeployment) -> String {
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/{TYPE}/{}",
        percent::encode(&deployment.subscription),
        percent::encode(&deployment.group),
        percent::encode(&deployment.name)
    )
}

fn took(started: UnixMillis, ended: Option<UnixMillis>, touched: UnixMillis) -> String {
    durations::format(ended.unwrap_or(touched).since(started).max(0))
}

fn error(deployment: &TemplateDeployment, code: &str, message: &str) -> Value {
    let failed = deployment
        .steps
        .iter()
        .filter_map(|step| step.error.as_ref());
    let details = failed.map(|(code, message)| json!({ "code": code, "message": message }));
    json!({ "code": code, "message": message, "details": details.collect::<Vec<_>>() })
}

fn body(deployment: &TemplateDeployment) -> Value {
    let written = deployment
        .steps
        .iter()
        .filter(|step| step.status == TemplateStatus::Succeeded)
        .map(|step| json!({ "id": step.resource }));
    let mut properties = json!({
        "mode": "Incremental",
        "provisioningState": deployment.status.name(),
        "timestamp": iso8601(deployment.ended.unwrap_or(deployment.touched)),
        "duration": took(deployment.started, deployment.ended, deployment.touched),
        "correlationId": deployment.correlation,
        "parameters": deployment.parameters,
        "providers": [],
        "dependencies": [],
        "outputResources": written.collect::<Vec<_>>(),
    });
    if !deployment.outputs.is_null() {
        properties["outputs"] = deployment.outputs.clone();
    }
    if let Some((code, message)) = &deployment.error {
        properties["error"] = error(deployment, code, message);
    }
    json!({
        "id": path(deployment),
        "name": deployment.name,
        "type": TYPE,
        "properties": properties,
    })
}

fn operation(deployment: &TemplateDeployment, step: &TemplateStep) -> Value {
    let code = StatusCode::from_u16(step.http).ok();
    let reason = code
        .and_then(|code| code.canonical_reason())
        .unwrap_or("Accepted");
    let mut properties = json!({
        "provisioningOperation": "Create",
        "provisioningState": step.status.name(),
        "timestamp": iso8601(step.ended.unwrap_or(step.started)),
        "duration": took(step.started, step.ended, deployment.touched),
        "trackingId": step.id,
        "statusCode": reason.replace(' ', ""),
        "targetResource": { "id": step.resource, "resourceType": step.kind, "resourceName": step.name },
    });
    if let Some((code, message)) = &step.error {
        properties["statusMessage"] =
            json!({ "status": "Failed", "error": { "code": code, "message": message } });
    }
    json!({
        "id": format!("{}/operations/{}", path(deployment), step.id),
        "operationId": step.id,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests;
