//! Deployments of ARM templates: what was asked for, how each resource went. The API node that took the request drives it; one
//! that is not heard of for long is ended by whoever looks at it.

use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::naming::{clip, key};
use crate::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{UnixMillis, limits};

/// Characters of a message that is kept.
const MESSAGE_CHARS_MAX: usize = 2_048;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemplateStatus {
    Running,
    Succeeded,
    Failed,
    Canceled,
}

impl TemplateStatus {
    pub fn name(self) -> &'static str {
        match self {
            TemplateStatus::Running => "Running",
            TemplateStatus::Succeeded => "Succeeded",
            TemplateStatus::Failed => "Failed",
            TemplateStatus::Canceled => "Canceled",
        }
    }
}

/// One deployment. Secure parameters and keys are not in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateDeployment {
    pub id: String,
    pub name: String,
    pub subscription: String,
    pub group: String,
    pub correlation: String,
    pub by: String,
    pub status: TemplateStatus,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
    /// When its driver was heard of last.
    pub touched: UnixMillis,
    /// A client asked for its end; the driver begins no further resource.
    pub cancelled: bool,
    /// `{name: {type, value?}}`; secure ones without their value.
    pub parameters: Value,
    pub outputs: Value,
    /// (code, message).
    pub error: Option<(String, String)>,
    pub steps: Vec<TemplateStep>,
}

/// One resource of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateStep {
    pub id: String,
    /// Path of the resource.
    pub resource: String,
    pub kind: String,
    pub name: String,
    pub status: TemplateStatus,
    /// HTTP status of its PUT; 0 while it is awaited.
    pub http: u16,
    pub error: Option<(String, String)>,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TemplateCommand {
    /// → [`Answer::Template`]. Replaces an ended deployment of the same name.
    Start {
        deployment: Box<TemplateDeployment>,
    },
    /// Adds a step, or replaces the one of its id; `None` only says that the driver lives. → [`Answer::Template`]
    Step {
        key: String,
        id: String,
        step: Option<TemplateStep>,
    },
    Cancel {
        key: String,
    },
    /// Ends the deployment of this id; one that has ended stays as it is.
    End {
        key: String,
        id: String,
        outputs: Value,
        error: Option<(String, String)>,
    },
    /// → [`Answer::Done`] or [`Answer::Absent`]
    Delete {
        key: String,
    },
}

impl TemplateDeployment {
    /// Under which it is kept.
    pub fn key(&self) -> String {
        template_key(&self.subscription, &self.group, &self.name)
    }

    pub fn is_running(&self) -> bool {
        self.status == TemplateStatus::Running
    }

    /// Nobody has driven it for so long that nobody will.
    pub fn is_abandoned(&self, now: UnixMillis) -> bool {
        self.is_running() && now.since(self.touched) > limits::TEMPLATE_SILENCE_MS
    }
}

/// Under which a deployment is kept.
pub fn template_key(subscription: &str, group: &str, name: &str) -> String {
    format!("{}/{}/{}", key(subscription), key(group), key(name))
}

impl State {
    /// Deployments of a group, the latest first.
    pub fn templates_of(&self, subscription: &str, group: &str) -> Vec<&TemplateDeployment> {
        let prefix = template_key(subscription, group, "");
        let mut found: Vec<_> = self
            .templates
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, deployment)| deployment)
            .collect();
        found.sort_by(|a, b| (b.started, &b.name).cmp(&(a.started, &a.name)));
        found
    }

    pub(crate) fn template_command(
        &mut self,
        call: Call<'_>,
        command: &TemplateCommand,
    ) -> Result<Answer, Refusal> {
        match command {
            TemplateCommand::Start { deployment } => self.start_template(call, deployment),
            TemplateCommand::Step { key, id, step } => {
                let found = self.running_template(key, Some(id))?;
                found.touched = call.at;
                if let Some(step) = step {
                    let mut step = step.clone();
                    step.error = step.error.map(short);
                    let known = found.steps.iter().position(|known| known.id == step.id);
                    match known {
                        Some(at) => found.steps[at] = step,
                        None if found.steps.len() < limits::TEMPLATE_RESOURCES_MAX => {
                            found.steps.push(step)
                        }
                        None => return Err(invalid("it has too many resources")),
                    }
                }
                let answer = Answer::Template(Box::new(found.clone()));
                self.changed();
                Ok(answer)
            }
            TemplateCommand::Cancel { key } => {
                let found = self.running_template(key, None)?;
                found.cancelled = true;
                let answer = Answer::Template(Box::new(found.clone()));
                self.changed();
                Ok(answer)
            }
            TemplateCommand::End {
                key,
                id,
                outputs,
                error,
            } => {
                let found = self.running_template(key, Some(id))?;
                found.status = match error {
                    None => TemplateStatus::Succeeded,
                    Some((code, _)) if code == "DeploymentCanceled" => TemplateStatus::Canceled,
                    Some(_) => TemplateStatus::Failed,
                };
                found.ended = Some(call.at);
                found.touched = call.at;
                found.outputs = outputs.clone();
                found.error = error.clone().map(short);
                for step in found.steps.iter_mut().filter(|step| step.ended.is_none()) {
                    step.status = found.status;
                    step.ended = Some(call.at);
                }
                let answer = Answer::Template(Box::new(found.clone()));
                self.changed();
                Ok(answer)
            }
            TemplateCommand::Delete { key } => match self.templates.get(key) {
                None => Ok(Answer::Absent),
                Some(found) if found.is_running() => Err(Refusal::new(
                    RefusalCode::DeploymentActive,
                    format!(
                        "The deployment '{}' is running; cancel it first.",
                        found.name
                    ),
                )),
                Some(_) => {
                    self.templates.remove(key);
                    self.changed();
                    Ok(Answer::Done)
                }
            },
        }
    }

    fn start_template(
        &mut self,
        call: Call<'_>,
        asked: &TemplateDeployment,
    ) -> Result<Answer, Refusal> {
        let group = self
            .group(&asked.subscription, &asked.group)
            .ok_or_else(|| {
                Refusal::new(
                    RefusalCode::ResourceGroupNotFound,
                    format!("Resource group '{}' could not be found.", asked.group),
                )
            })?;
        if group.deleting.is_some() {
            return Err(Refusal::new(
                RefusalCode::ResourceGroupDeleting,
                format!("Resource group '{}' is being deleted.", asked.group),
            ));
        }
        if let Some(known) = self.templates.get(&asked.key()) {
            if known.id == asked.id {
                return Ok(Answer::Template(Box::new(known.clone())));
            }
            if known.is_running() && !known.is_abandoned(call.at) {
                return Err(Refusal::new(
                    RefusalCode::DeploymentActive,
                    format!(
                        "The deployment with name '{}' cannot be started because one of that name is running.",
                        asked.name
                    ),
                ));
            }
        }
        if asked.parameters.to_string().len() > limits::TEMPLATE_VALUES_BYTES_MAX {
            return Err(invalid("its parameters are too large"));
        }
        let mut deployment = asked.clone();
        deployment.status = TemplateStatus::Running;
        deployment.started = call.at;
        deployment.touched = call.at;
        deployment.ended = None;
        deployment.by = call.by.into();
        let answer = Answer::Template(Box::new(deployment.clone()));
        self.templates.insert(deployment.key(), deployment);
        self.forget_templates(call.at);
        self.changed();
        Ok(answer)
    }

    /// Drops what belongs to groups that are gone, then the oldest of what has ended; what nobody drives has ended too.
    fn forget_templates(&mut self, now: UnixMillis) {
        let runs = |deployment: &TemplateDeployment| {
            deployment.is_running() && !deployment.is_abandoned(now)
        };
        let mut templates = std::mem::take(&mut self.templates);
        templates.retain(|_, deployment| {
            runs(deployment)
                || self
                    .group(&deployment.subscription, &deployment.group)
                    .is_some()
        });
        while templates.len() > limits::TEMPLATES_KEPT_MAX {
            let oldest = templates
                .iter()
                .filter(|(_, deployment)| !runs(deployment))
                .min_by_key(|(key, deployment)| {
                    let ended = deployment.ended.unwrap_or(deployment.touched);
                    (ended, (*key).clone())
                })
                .map(|(key, _)| key.clone());
            match oldest {
                Some(oldest) => drop(templates.remove(&oldest)),
                None => break,
            }
        }
        self.templates = templates;
    }

    fn running_template(
        &mut self,
        key: &str,
        id: Option<&str>,
    ) -> Result<&mut TemplateDeployment, Refusal> {
        let found = self.templates.get_mut(key).ok_or_else(|| {
            Refusal::new(RefusalCode::DeploymentNotFound, "The deployment is gone.")
        })?;
        if !found.is_running() || id.is_some_and(|id| id != found.id) {
            return Err(Refusal::new(
                RefusalCode::DeploymentEnded,
                format!("The deployment '{}' has ended.", found.name),
            ));
        }
        Ok(found)
    }
}

fn short((code, message): (String, String)) -> (String, String) {
    (code, clip(&message, MESSAGE_CHARS_MAX))
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(
        RefusalCode::DeploymentInvalid,
        format!("The deployment cannot be kept: {why}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::testing::*;

    fn deployment(id: &str) -> TemplateDeployment {
        TemplateDeployment {
            id: id.into(),
            name: "One".into(),
            subscription: SUB.into(),
            group: "Group".into(),
            correlation: String::new(),
            by: String::new(),
            status: TemplateStatus::Running,
            started: UnixMillis(0),
            ended: None,
            touched: UnixMillis(0),
            cancelled: false,
            parameters: Value::Null,
            outputs: Value::Null,
            error: None,
            steps: Vec::new(),
        }
    }

    fn start(state: &mut State, id: &str, at: i64) -> Answer {
        let deployment = Box::new(deployment(id));
        let command = Command::Template(TemplateCommand::Start { deployment });
        state.apply(&request("", at, command))
    }

    fn end(state: &mut State, id: &str, at: i64, error: Option<(&str, &str)>) -> Answer {
        let command = Command::Template(TemplateCommand::End {
            key: deployment(id).key(),
            id: id.into(),
            outputs: Value::Null,
            error: error.map(|(code, why)| (code.into(), why.into())),
        });
        state.apply(&request("", at, command))
    }

    #[test]
    fn one_deployment_of_a_name_runs_at_a_time_unless_its_driver_is_lost() {
        let mut state = deployed();
        assert!(matches!(start(&mut state, "a", 1), Answer::Template(_)));
        let second = start(&mut state, "b", 2);
        assert!(matches!(second, Answer::Refused(r) if r.code == RefusalCode::DeploymentActive));
        let later = 2 + limits::TEMPLATE_SILENCE_MS;
        assert!(matches!(start(&mut state, "b", later), Answer::Template(_)));
        let late = end(&mut state, "a", later, None);
        assert!(matches!(late, Answer::Refused(r) if r.code == RefusalCode::DeploymentEnded));
    }

    #[test]
    fn an_end_with_an_error_is_a_failure_and_stays_one() {
        let mut state = deployed();
        start(&mut state, "a", 1);
        let ended = end(&mut state, "a", 5, Some(("Bad", "why")));
        assert!(
            matches!(&ended, Answer::Template(d) if d.status == TemplateStatus::Failed && d.ended == Some(UnixMillis(5)))
        );
        assert!(matches!(end(&mut state, "a", 6, None), Answer::Refused(_)));
    }

    #[test]
    fn deployments_that_nobody_drives_give_way_as_ended_ones_do() {
        let mut state = deployed();
        let named = |n: usize| TemplateDeployment {
            name: format!("D{n}"),
            ..deployment(&format!("d{n}"))
        };
        let start = |state: &mut State, n: usize, at: i64| {
            let deployment = Box::new(named(n));
            let command = Command::Template(TemplateCommand::Start { deployment });
            let answer = state.apply(&request("", at, command));
            assert!(matches!(answer, Answer::Template(_)), "{answer:?}");
        };
        let max = limits::TEMPLATES_KEPT_MAX;
        for n in 0..max {
            start(&mut state, n, 1 + n as i64);
        }
        let later = 2 + max as i64 + limits::TEMPLATE_SILENCE_MS;
        for n in 0..3 {
            start(&mut state, max + n, later);
        }
        assert_eq!(state.templates.len(), max);
        for n in 0..3 {
            assert!(!state.templates.contains_key(&named(n).key()), "{n}");
            assert!(state.templates.contains_key(&named(max + n).key()), "{n}");
        }
        assert!(state.templates.contains_key(&named(3).key()));
    }

    #[test]
    fn a_running_deployment_is_not_deleted() {
        let mut state = deployed();
        start(&mut state, "a", 1);
        let delete = || {
            Command::Template(TemplateCommand::Delete {
                key: deployment("a").key(),
            })
        };
        assert!(matches!(
            state.apply(&request("", 2, delete())),
            Answer::Refused(_)
        ));
        end(&mut state, "a", 3, None);
        assert_eq!(state.apply(&request("", 4, delete())), Answer::Done);
        assert_eq!(state.apply(&request("", 5, delete())), Answer::Absent);
    }
}
