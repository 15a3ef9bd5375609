//! One member of the cluster.

use crate::command::{Command, RaftNode};
use crate::disk::Disk;
use crate::error::{ConsensusError, WriteError};
use crate::log_store::LogStore;
use crate::machine_store::{MachineStore, State};
use crate::message::{self, Request, Response};
use crate::network::Network;
use crate::seal::StorageKey;
use crate::settings::Settings;
use crate::standing::{Shown, Standing};
use crate::status::Status;
use crate::{Machine, NodeId, Transport};
use bytes::Bytes;
use openraft::EmptyNode;
use openraft::error::{
    ChangeMembershipError, CheckIsLeaderError, ClientWriteError, ForwardToLeader, InitializeError,
    RaftError,
};
use openraft::raft::AppendEntriesResponse;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use types::limits;

const WRITE_TIMEOUT: Duration = Duration::from_millis(limits::CONSENSUS_WRITE_TIMEOUT_MS);
const BARRIER_TIMEOUT: Duration = Duration::from_millis(limits::CONSENSUS_BARRIER_TIMEOUT_MS);
/// How long a new voter may take to catch up before it is given a vote.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long closing may take before it is left to itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a leader looks whether a configured member is missing.
const MEMBERS_PERIOD: Duration = Duration::from_secs(1);

/// A running member; clones are the same member.
#[derive(Clone)]
pub struct Consensus(Arc<Inner>);

struct Inner {
    settings: Settings,
    raft: RaftNode,
    state: Arc<RwLock<State>>,
    standing: Arc<Standing>,
    status: watch::Receiver<Status>,
    writes: Semaphore,
    /// Taken by `shutdown`, so that the folder closes.
    open: Mutex<Option<Open>>,
}

struct Open {
    disk: Disk,
    closed: oneshot::Receiver<()>,
}

/// A committed and applied command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub index: u64,
    /// What the machine answered.
    pub answer: Bytes,
}

impl Consensus {
    /// Opens the folder, restores `machine` and joins the others. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConsensusError`] when settings contradict themselves or the folder cannot be used.
    pub async fn start(
        settings: Settings,
        transport: Arc<dyn Transport>,
        machine: Box<dyn Machine>,
    ) -> Result<Consensus, ConsensusError> {
        settings.check()?;
        let (folder, key) = (settings.folder.clone(), settings.storage_key.clone());
        let loaded = tokio::task::spawn_blocking(move || load(&folder, key, machine)).await;
        let (disk, closed, store, standing, last) =
            loaded.map_err(|e| ConsensusError::Storage(e.to_string()))??;
        let config = Arc::new(settings.config(standing.may_campaign(last))?);
        let (log, state) = (LogStore(disk.clone()), store.state());
        let network = Network(transport.clone());
        let raft = RaftNode::new(settings.me, config, network, log, store)
            .await
            .map_err(|e| ConsensusError::Raft(e.to_string()))?;
        let (tell, status) = watch::channel(Status::of(&raft.metrics().borrow()));
        let standing = Arc::new(standing);
        tokio::spawn(watch_metrics(
            raft.clone(),
            standing.clone(),
            disk.clone(),
            tell,
        ));
        tokio::spawn(keep_members(raft.clone(), settings.clone(), transport));
        Ok(Consensus(Arc::new(Inner {
            settings,
            raft,
            state,
            standing,
            status,
            writes: Semaphore::new(limits::CONSENSUS_WRITES_MAX),
            open: Mutex::new(Some(Open { disk, closed })),
        })))
    }

    /// Founds the cluster with the initial voters if this member has an empty log; does nothing otherwise.
    ///
    /// # Errors
    /// [`ConsensusError`] when this member is not among the initial voters, or has stopped.
    pub async fn bootstrap(&self) -> Result<(), ConsensusError> {
        let voters: BTreeSet<NodeId> = self.0.settings.initial_voters().iter().copied().collect();
        match self.0.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(ConsensusError::Settings(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(ConsensusError::Raft(error.to_string())),
        }
    }

    /// Commits a command through this member, which must be the leader, and applies it.
    ///
    /// # Errors
    /// [`WriteError::Unavailable`] leaves open whether it happened; the others mean that nothing was done.
    pub async fn write(&self, command: Bytes) -> Result<Written, WriteError> {
        let bytes_max = limits::CONSENSUS_COMMAND_BYTES_MAX;
        if command.len() > bytes_max {
            return Err(WriteError::TooLarge {
                bytes: command.len(),
                bytes_max,
            });
        }
        let write = async {
            let _place = self
                .0
                .writes
                .acquire()
                .await
                .map_err(|e| WriteError::Unavailable(e.to_string()))?;
            let written = self
                .0
                .raft
                .client_write(Command(command))
                .await
                .map_err(write_error)?;
            Ok(Written {
                index: written.log_id.index,
                answer: written.data.0.into(),
            })
        };
        within(WRITE_TIMEOUT, "the write was not committed in time", write).await
    }

    /// Answers a peer's message.
    ///
    /// # Errors
    /// When the bytes are no message, or this member may not answer it.
    pub async fn receive(&self, body: Bytes) -> Result<Bytes, String> {
        let raft = &self.0.raft;
        let response = match message::decode(&body)? {
            Request::Append(request) => {
                let shown = Shown::by(&request);
                let result = raft.append_entries(request).await;
                if matches!(result, Ok(AppendEntriesResponse::Success)) && shown.is_everything() {
                    self.caught_up().await?;
                }
                Response::Append(result)
            }
            Request::Vote(request) if !self.0.standing.may_vote(&request) => {
                return Err("this member has not caught up yet and gives no votes".into());
            }
            Request::Vote(request) => Response::Vote(raft.vote(request).await),
            Request::Snapshot(request) => Response::Snapshot(raft.install_snapshot(request).await),
        };
        Ok(message::encode(&response))
    }

    async fn caught_up(&self) -> Result<(), String> {
        let disk = self.0.open.lock().as_ref().map(|open| open.disk.clone());
        match disk {
            Some(disk) => {
                self.0.standing.set_caught_up(disk).await?;
                // Not left to the next change of metrics: a quiet cluster may have none before its leader is gone.
                self.0.raft.runtime_config().elect(true);
                Ok(())
            }
            None => Err("this member is shutting down".into()),
        }
    }

    /// Confirms with a majority that this member leads and that its machine has applied all that was committed before;
    /// gives that index. A read made afterwards is linearizable.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] on others; [`WriteError::Unavailable`] when no majority answers in time.
    pub async fn barrier(&self) -> Result<u64, WriteError> {
        let confirm = async {
            match self.0.raft.ensure_linearizable().await {
                Ok(id) => Ok(id.map_or(0, |id| id.index)),
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                    Err(not_leader(&to))
                }
                Err(other) => Err(WriteError::Unavailable(other.to_string())),
            }
        };
        within(
            BARRIER_TIMEOUT,
            "no majority confirmed the leader in time",
            confirm,
        )
        .await
    }

    /// True while this member has no log: it was never part of a cluster, or lost its folder.
    pub fn is_empty(&self) -> bool {
        self.0.raft.metrics().borrow().last_log_index.is_none()
    }

    pub fn status(&self) -> Status {
        Status::of(&self.0.raft.metrics().borrow())
    }

    /// Tells every change of [`Consensus::status`]; the sender is gone once the member has stopped.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.status.clone()
    }

    /// Waits until the machine has applied `index`; false when time ran out or the member stopped.
    pub async fn wait_applied(&self, index: u64, within: Duration) -> bool {
        self.0
            .raft
            .wait(Some(within))
            .applied_index_at_least(Some(index), "wait_applied")
            .await
            .is_ok()
    }

    /// Reads the machine as far as it has applied. Commands wait meanwhile: keep it short.
    pub fn read<R>(&self, f: impl FnOnce(&dyn Machine) -> R) -> R {
        f(self.0.state.read().machine.as_ref())
    }

    /// Makes `voters` the voters, through the leader. New ones first catch up; former ones that are
    /// still configured go on without a vote.
    ///
    /// # Errors
    /// [`WriteError`]; the change may be half done after [`WriteError::Unavailable`]: asking again completes it.
    pub async fn set_voters(&self, voters: Vec<NodeId>) -> Result<(), WriteError> {
        let wanted: BTreeSet<NodeId> = voters.into_iter().collect();
        if wanted.is_empty() || wanted.len() > limits::VOTERS_MAX {
            return Err(WriteError::Members(format!(
                "there must be 1 to {} voters",
                limits::VOTERS_MAX
            )));
        }
        let status = self.status();
        let change = async {
            for node in wanted.iter().filter(|node| !status.voters.contains(node)) {
                self.0
                    .raft
                    .add_learner(*node, EmptyNode::default(), true)
                    .await
                    .map_err(write_error)?;
            }
            self.0
                .raft
                .change_membership(wanted.clone(), false)
                .await
                .map_err(write_error)?;
            Ok(())
        };
        within(
            CATCH_UP_TIMEOUT,
            "the voters were not changed in time",
            change,
        )
        .await
    }

    /// Stops the member and closes its folder. Other calls then fail.
    pub async fn shutdown(&self) {
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "stopping consensus");
        }
        let open = self.0.open.lock().take();
        if let Some(Open { disk, closed }) = open {
            drop(disk);
            // The sender is dropped with the folder, unused: an error is what is waited for.
            if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
                tracing::warn!("the consensus folder is still in use after shutdown");
            }
        }
    }
}

type Loaded = (
    Disk,
    oneshot::Receiver<()>,
    MachineStore,
    Standing,
    Option<u64>,
);

fn load(
    folder: &std::path::Path,
    key: Option<StorageKey>,
    machine: Box<dyn Machine>,
) -> Result<Loaded, ConsensusError> {
    let (disk, closed) = Disk::open(folder, key)?;
    let store = MachineStore::load(disk.clone(), machine)?;
    let standing = Standing::load(&disk)?;
    let last = disk.last_log_id()?.map(|id| id.index);
    Ok((disk, closed, store, standing, last))
}

/// Passes changes of status on, and keeps the right to campaign in line with standing; ends with the member.
async fn watch_metrics(
    raft: RaftNode,
    standing: Arc<Standing>,
    disk: Disk,
    tell: watch::Sender<Status>,
) {
    let mut metrics = raft.metrics();
    let mut disk = Some(disk);
    loop {
        let (status, last, committed_term) = {
            let now = metrics.borrow_and_update();
            (
                Status::of(&now),
                now.last_log_index,
                now.last_applied.map(|id| id.leader_id.term),
            )
        };
        if !standing.is_caught_up() {
            // Who leads and has committed in its own term holds everything there is.
            let leads = status.is_leader && committed_term == Some(status.term);
            if let (true, Some(disk)) = (leads, disk.clone())
                && let Err(error) = standing.set_caught_up(disk).await
            {
                tracing::error!(%error, "noting that consensus has caught up");
            }
            raft.runtime_config().elect(standing.may_campaign(last));
        }
        if standing.is_caught_up() && disk.take().is_some() {
            raft.runtime_config().elect(true);
        }
        let stopped = status.failed.is_some();
        tell.send_if_modified(|former| {
            let changed = *former != status;
            *former = status;
            changed
        });
        if stopped || metrics.changed().await.is_err() {
            return;
        }
    }
}

/// While this member leads: makes configured members that nobody knows learners, and learners that should vote voters. Ends
/// with the member.
async fn keep_members(raft: RaftNode, settings: Settings, transport: Arc<dyn Transport>) {
    let mut period = tokio::time::interval(MEMBERS_PERIOD);
    loop {
        period.tick().await;
        let status = Status::of(&raft.metrics().borrow());
        if status.failed.is_some() {
            return;
        }
        if !status.is_leader {
            continue;
        }
        if settings.restore_votes {
            restore_votes(&raft, &settings, &status, transport.as_ref()).await;
        }
        let unknown = settings
            .voters
            .iter()
            .find(|node| !status.voters.contains(node) && !status.learners.contains(node));
        if let Some(node) = unknown {
            // A change under way or a lost leadership refuses this; the next turn tries again.
            let added = timeout(
                WRITE_TIMEOUT,
                raft.add_learner(*node, EmptyNode::default(), false),
            )
            .await;
            if let Ok(Err(error)) = added {
                tracing::debug!(node, %error, "adding a learner");
            }
        }
    }
}

/// Gives initial voters that follow without a vote theirs back, as they are after [`crate::rebuild_from_survivor`]. Those that
/// have caught up and can be reached get it together, and never an even number of voters while more are to come: each
/// voter more would be one more that must not fail.
async fn restore_votes(
    raft: &RaftNode,
    settings: &Settings,
    status: &Status,
    transport: &dyn Transport,
) {
    let missing: Vec<NodeId> = settings
        .initial_voters()
        .iter()
        .copied()
        .filter(|node| !status.voters.contains(node))
        .collect();
    let mut back: Vec<NodeId> = {
        let metrics = raft.metrics();
        let now = metrics.borrow();
        let shared = |node: &NodeId| -> Option<u64> {
            now.replication.as_ref()?.get(node)?.map(|id| id.index)
        };
        missing
            .iter()
            .copied()
            .filter(|node| shared(node) >= now.last_log_index && transport.reachable(*node))
            .collect()
    };
    let even = (status.voters.len() + back.len()).is_multiple_of(2);
    if back.len() < missing.len() && even {
        back.pop();
    }
    if back.is_empty() {
        return;
    }
    let voters: BTreeSet<NodeId> = status.voters.iter().chain(&back).copied().collect();
    tracing::warn!(?voters, "the control plane gives votes back");
    let changed = timeout(WRITE_TIMEOUT, raft.change_membership(voters, true)).await;
    if let Ok(Err(error)) = changed {
        tracing::warn!(%error, "giving votes back");
    }
}

async fn within<T>(
    time: Duration,
    why: &str,
    work: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    timeout(time, work)
        .await
        .unwrap_or_else(|_| Err(WriteError::Unavailable(why.into())))
}

fn write_error(error: RaftError<NodeId, ClientWriteError<NodeId, EmptyNode>>) -> WriteError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => not_leader(&to),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => members(&error),
        RaftError::Fatal(error) => WriteError::Unavailable(error.to_string()),
    }
}

fn members(error: &ChangeMembershipError<NodeId>) -> WriteError {
    WriteError::Members(error.to_string())
}

fn not_leader(to: &ForwardToLeader<NodeId, EmptyNode>) -> WriteError {
    WriteError::NotLeader {
        leader: to.leader_id,
    }
}
