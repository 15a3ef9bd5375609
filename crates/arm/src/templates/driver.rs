//! Carries a deployment out: its resources one after the other, each through the handler of its own PUT.

use super::{Plan, Resource, part};
use crate::answer::Outcome;
use crate::call::{Call, hub_of};
use crate::hub_body::{Shape, body};
use control::naming::key;
use control::templates::{TemplateCommand, TemplateDeployment, TemplateStatus, TemplateStep};
use control::{Answer, Command, HubState, State};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use types::limits;

const LOOK: Duration = Duration::from_millis(200);
/// A control plane without a leader is asked again so often.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longer, and somebody else may have ended the deployment.
const ASK_FOR: Duration = Duration::from_millis(limits::TEMPLATE_SILENCE_MS as u64 / 2);

type Error = (String, String);

/// Nobody waits for this task: everything it comes to stands in the deployment's record.
pub(super) async fn drive(call: Call, plan: Plan, deployment: TemplateDeployment) {
    let driver = Driver {
        key: deployment.key(),
        id: deployment.id,
        call,
    };
    let error = driver.all(&plan).await.err();
    let outputs = match &error {
        None => plan.outputs(&|wanted| driver.resource(wanted)),
        Some(_) => Ok(Value::Null),
    };
    let (outputs, error) = match (outputs, error) {
        (Ok(outputs), error) => (outputs, error),
        (Err(why), _) => (
            Value::Null,
            Some(("DeploymentOutputEvaluationFailed".to_owned(), why)),
        ),
    };
    let end = TemplateCommand::End {
        key: driver.key.clone(),
        id: driver.id.clone(),
        outputs,
        error,
    };
    if let Err((code, why)) = driver.record(end).await {
        tracing::warn!(deployment = %driver.key, %code, %why, "the end of a deployment could not be recorded");
    }
}

struct Driver {
    call: Call,
    key: String,
    id: String,
}

impl Driver {
    async fn all(&self, plan: &Plan) -> Result<(), Error> {
        for (number, resource) in plan.resources.iter().enumerate() {
            self.one(number, resource).await?;
        }
        Ok(())
    }

    async fn one(&self, number: usize, resource: &Resource) -> Result<(), Error> {
        let backend = &self.call.api.backend;
        let mut step = TemplateStep {
            id: format!("{:016X}", number + 1),
            resource: resource.id.clone(),
            kind: resource.kind.clone(),
            name: resource.name.clone(),
            status: TemplateStatus::Running,
            http: 0,
            error: None,
            started: backend.now(),
            ended: None,
        };
        self.record(self.step(Some(step.clone()))).await?;
        let done = match self.write(resource).await {
            Ok(status) => {
                step.http = status;
                self.settled(resource).await
            }
            Err((status, error)) => {
                step.http = status;
                Err(error)
            }
        };
        step.ended = Some(backend.now());
        step.status = match &done {
            Ok(()) => TemplateStatus::Succeeded,
            Err(_) => TemplateStatus::Failed,
        };
        step.error = done.as_ref().err().cloned();
        self.record(self.step(Some(step))).await?;
        done.map_err(|(code, why)| match code.as_str() {
            "DeploymentCanceled" => (code, why),
            _ => (
                "DeploymentFailed".to_owned(),
                format!(
                    "At least one resource deployment operation failed. Please list deployment operations for details. {}: {code}: {why}",
                    resource.id
                ),
            ),
        })
    }

    /// The resource's own PUT; its HTTP status.
    async fn write(&self, resource: &Resource) -> Result<u16, (u16, Error)> {
        let outcome: Outcome = match part(&self.call, resource) {
            Ok((call, act)) => act(call).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(response) => Ok(response.status().as_u16()),
            Err(failure) => Err((
                failure.status.as_u16(),
                (failure.code.into_owned(), failure.message),
            )),
        }
    }

    /// Waits until a hub that was just made serves.
    async fn settled(&self, resource: &Resource) -> Result<(), Error> {
        if !resource.kind.eq_ignore_ascii_case(crate::hub_body::TYPE) {
            return Ok(());
        }
        let until = Instant::now() + Duration::from_millis(limits::TEMPLATE_RESOURCE_MS_MAX);
        let mut beat = Instant::now() + Duration::from_millis(limits::TEMPLATE_BEAT_MS);
        loop {
            let state = self.call.api.backend.state();
            match self.hub_state(&state, resource) {
                Some(HubState::Activating) => {}
                Some(HubState::Active | HubState::FailingOver) => return Ok(()),
                Some(HubState::Deleting) | None => {
                    return Err((
                        "ResourceNotFound".into(),
                        "The IotHub was deleted meanwhile.".into(),
                    ));
                }
            }
            if Instant::now() >= until {
                return Err((
                    "ResourceDeploymentTimeout".into(),
                    "The IotHub did not become active in time; it may still do so.".into(),
                ));
            }
            if Instant::now() >= beat {
                self.record(self.step(None)).await?;
                beat = Instant::now() + Duration::from_millis(limits::TEMPLATE_BEAT_MS);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn hub_state(&self, state: &State, resource: &Resource) -> Option<HubState> {
        let (subscription, group) = (self.call.param("subscription"), self.call.param("group"));
        hub_of(state, subscription, group, &resource.name).map(|hub| hub.state)
    }

    /// A hub's body by its path or its name, without keys.
    fn resource(&self, wanted: &str) -> Option<Value> {
        let state = self.call.api.backend.state();
        let name = wanted.rsplit('/').next().unwrap_or_default();
        let (subscription, group) = (self.call.param("subscription"), self.call.param("group"));
        let hub = hub_of(&state, subscription, group, name)?;
        let meant = !wanted.contains('/') || key(wanted) == key(&hub.path());
        meant.then(|| body(&self.call, hub, &Shape::Listed))
    }

    fn step(&self, step: Option<TemplateStep>) -> TemplateCommand {
        TemplateCommand::Step {
            key: self.key.clone(),
            id: self.id.clone(),
            step,
        }
    }

    /// Records; fails once the deployment was cancelled or ended by others, or the control plane is away for long.
    async fn record(&self, command: TemplateCommand) -> Result<(), Error> {
        let ends = matches!(command, TemplateCommand::End { .. });
        let until = Instant::now() + ASK_FOR;
        loop {
            let sent = self
                .call
                .api
                .backend
                .submit(self.call.who(), Command::Template(command.clone()));
            match sent.await {
                Ok(Answer::Template(now)) if now.cancelled && !ends => {
                    return Err((
                        "DeploymentCanceled".into(),
                        "The deployment was cancelled.".into(),
                    ));
                }
                Ok(Answer::Refused(refusal)) => {
                    return Err((format!("{:?}", refusal.code), refusal.message));
                }
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => {
                    return Err(("ServiceUnavailable".into(), error.why));
                }
                // Recording twice changes nothing.
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }
}
