//! Jobs that export or import a hub's devices. The node that took the request does the work; a job whose node is not heard of
//! for long is ended by whoever looks at it.

use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::naming::clip;
use crate::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use types::{HubId, UnixMillis, limits};

const REASON_CHARS_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    Export,
    Import,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobStatus {
    Running,
    Completed,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub hub: HubId,
    pub kind: JobKind,
    pub status: JobStatus,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
    /// When its node was heard of last.
    pub touched: UnixMillis,
    /// Devices done so far.
    pub devices: u64,
    /// Devices that could not be imported.
    pub failed: u64,
    pub failure_reason: Option<String>,
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobCommand {
    /// → [`Answer::Job`]. One job of a hub runs at a time.
    Start {
        hub: HubId,
        id: String,
        kind: JobKind,
    },
    /// How far it is. → [`Answer::Job`]
    Progress {
        id: String,
        devices: u64,
        failed: u64,
    },
    /// Ends it; `failure`: why it failed. → [`Answer::Job`]
    End {
        id: String,
        devices: u64,
        failed: u64,
        failure: Option<String>,
    },
}

impl Job {
    pub fn is_running(&self) -> bool {
        self.status == JobStatus::Running
    }

    /// Its node has not been heard of for so long that it will not end it.
    pub fn is_abandoned(&self, now: UnixMillis) -> bool {
        self.is_running() && now.since(self.touched) > limits::JOB_SILENCE_MS
    }
}

impl State {
    /// Jobs of a hub, the latest first.
    pub fn jobs_of(&self, hub: HubId) -> Vec<&Job> {
        let mut found: Vec<_> = self.jobs.values().filter(|job| job.hub == hub).collect();
        found.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
        found
    }

    pub(crate) fn job_command(
        &mut self,
        call: Call<'_>,
        command: &JobCommand,
    ) -> Result<Answer, Refusal> {
        match command {
            JobCommand::Start { hub, id, kind } => self.start_job(call, *hub, id, *kind),
            JobCommand::Progress {
                id,
                devices,
                failed,
            } => {
                let job = self.running_job(id)?;
                job.touched = call.at;
                job.devices = *devices;
                job.failed = *failed;
                let answer = Answer::Job(Box::new(job.clone()));
                self.changed();
                Ok(answer)
            }
            JobCommand::End {
                id,
                devices,
                failed,
                failure,
            } => {
                let job = self.running_job(id)?;
                end(job, call.at, failure.as_deref());
                job.devices = *devices;
                job.failed = *failed;
                let answer = Answer::Job(Box::new(job.clone()));
                self.changed();
                Ok(answer)
            }
        }
    }

    fn start_job(
        &mut self,
        call: Call<'_>,
        hub: HubId,
        id: &str,
        kind: JobKind,
    ) -> Result<Answer, Refusal> {
        self.hub_or_refuse(hub)?;
        if let Some(known) = self.jobs.get(id) {
            return Ok(Answer::Job(Box::new(known.clone())));
        }
        for job in self.jobs.values_mut().filter(|job| job.hub == hub) {
            if job.is_abandoned(call.at) {
                end(job, call.at, Some(ABANDONED));
            }
        }
        if let Some(running) = self.jobs_of(hub).into_iter().find(|job| job.is_running()) {
            return Err(Refusal::new(
                RefusalCode::JobRunning,
                format!(
                    "The job '{}' of this IotHub is running; one import or export runs at a time.",
                    running.id
                ),
            ));
        }
        let job = Job {
            id: id.into(),
            hub,
            kind,
            status: JobStatus::Running,
            started: call.at,
            ended: None,
            touched: call.at,
            devices: 0,
            failed: 0,
            failure_reason: None,
            by: call.by.into(),
        };
        self.jobs.insert(id.into(), job.clone());
        self.forget_jobs(hub);
        self.changed();
        Ok(Answer::Job(Box::new(job)))
    }

    fn forget_jobs(&mut self, hub: HubId) {
        let gone: Vec<String> = self
            .jobs
            .values()
            .filter(|job| self.hub(job.hub).is_none())
            .map(|job| job.id.clone())
            .collect();
        let old = self.jobs_of(hub);
        let old = old.iter().skip(limits::JOBS_KEPT_PER_HUB_MAX);
        let surplus: Vec<String> = old.map(|job| job.id.clone()).collect();
        for id in gone.into_iter().chain(surplus) {
            self.jobs.remove(&id);
        }
    }

    fn running_job(&mut self, id: &str) -> Result<&mut Job, Refusal> {
        let job = self.jobs.get_mut(id).filter(|job| job.is_running());
        job.ok_or_else(|| {
            Refusal::new(
                RefusalCode::JobNotFound,
                format!("There is no running job '{id}'."),
            )
        })
    }
}

/// Why a job ended that nobody ended.
pub const ABANDONED: &str =
    "The node that ran the job is gone. What it had done until then stays done.";

fn end(job: &mut Job, at: UnixMillis, failure: Option<&str>) {
    job.status = match failure {
        None => JobStatus::Completed,
        Some(_) => JobStatus::Failed,
    };
    job.failure_reason = failure.map(|why| clip(why, REASON_CHARS_MAX));
    job.ended = Some(at);
    job.touched = at;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::testing::*;

    fn start(state: &mut State, id: &str, at: i64) -> Answer {
        let command = Command::Job(JobCommand::Start {
            hub: HubId(1),
            id: id.into(),
            kind: JobKind::Export,
        });
        state.apply(&request("", at, command))
    }

    #[test]
    fn one_job_of_a_hub_runs_at_a_time() {
        let mut state = active_hub();
        let at = state.time.0 + 1;
        assert!(matches!(start(&mut state, "a", at), Answer::Job(_)));
        let second = start(&mut state, "b", at);
        assert!(matches!(second, Answer::Refused(r) if r.code == RefusalCode::JobRunning));
        assert!(matches!(start(&mut state, "a", at), Answer::Job(job) if job.id == "a"));
    }

    #[test]
    fn a_job_whose_node_is_lost_fails_with_a_reason_and_makes_room() {
        let mut state = active_hub();
        let at = state.time.0 + 1;
        start(&mut state, "a", at);
        let later = at + limits::JOB_SILENCE_MS + 1;
        assert!(matches!(start(&mut state, "b", later), Answer::Job(_)));
        let lost = &state.jobs["a"];
        assert_eq!(lost.status, JobStatus::Failed);
        assert_eq!(lost.failure_reason.as_deref(), Some(ABANDONED));
    }

    #[test]
    fn an_ended_job_is_not_ended_again() {
        let mut state = active_hub();
        let at = state.time.0 + 1;
        start(&mut state, "a", at);
        let end = || {
            Command::Job(JobCommand::End {
                id: "a".into(),
                devices: 3,
                failed: 0,
                failure: None,
            })
        };
        let ended = state.apply(&request("", at, end()));
        assert!(matches!(ended, Answer::Job(job) if job.status == JobStatus::Completed));
        let again = state.apply(&request("", at, end()));
        assert!(matches!(again, Answer::Refused(r) if r.code == RefusalCode::JobNotFound));
    }
}
