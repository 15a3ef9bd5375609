//! This region's copy of the control plane, and the way of a request to its leader.

use crate::clock::Clock;
use crate::peer::{self, Call, Return, Submitted};
use bytes::Bytes;
use consensus::{Consensus, Machine, NodeId, WriteError};
use control::{Answer, Command, Request, State};
use link::{Class, Links};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use types::RegionName;

/// How long a request looks for a leader.
const SUBMIT_FOR: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);

/// The state machine as consensus drives it; shared with this region's readers.
pub struct SharedMachine {
    state: Arc<RwLock<State>>,
    changed: watch::Sender<u64>,
}

impl Machine for SharedMachine {
    fn apply(&mut self, command: &[u8]) -> Vec<u8> {
        let answer = match serde_json::from_slice::<Request>(command) {
            Ok(request) => self.state.write().apply(&request),
            // Only requests that this code wrote are proposed: one that cannot be read was written by a newer version.
            Err(error) => Answer::Refused(control::Refusal::new(
                control::RefusalCode::InvalidProperties,
                format!("this version cannot read the request: {error}"),
            )),
        };
        self.changed.send_modify(|n| *n += 1);
        serde_json::to_vec(&answer).expect("answers have no shape JSON cannot write")
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.read().snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let state = State::restore(snapshot).map_err(|error| error.to_string())?;
        *self.state.write() = state;
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneUnavailable {
    pub why: String,
    pub may_have_happened: bool,
}

/// The control plane as one region sees it.
pub struct Plane {
    me: RegionName,
    /// Voters by number; the number of a region is its place here, from 1.
    nodes: Vec<RegionName>,
    consensus: Consensus,
    links: Links,
    clock: Arc<dyn Clock>,
    state: Arc<RwLock<State>>,
    changed: watch::Receiver<u64>,
    cached: Mutex<Option<Arc<State>>>,
}

/// The machine and its readers' side, made before consensus starts.
pub fn machine() -> (SharedMachine, Arc<RwLock<State>>, watch::Receiver<u64>) {
    let state = Arc::new(RwLock::new(State::default()));
    let (changed, watch) = watch::channel(0);
    (
        SharedMachine {
            state: state.clone(),
            changed,
        },
        state,
        watch,
    )
}

impl Plane {
    pub fn new(
        me: RegionName,
        nodes: Vec<RegionName>,
        consensus: Consensus,
        links: Links,
        clock: Arc<dyn Clock>,
        state: Arc<RwLock<State>>,
        changed: watch::Receiver<u64>,
    ) -> Self {
        Plane {
            me,
            nodes,
            consensus,
            links,
            clock,
            state,
            changed,
            cached: Mutex::new(None),
        }
    }

    /// Reads the state in place.
    pub fn with<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.state.read())
    }

    /// The state as of now, shared; copied at most once per change.
    pub fn state(&self) -> Arc<State> {
        let mut cached = self.cached.lock();
        let state = self.state.read();
        match &*cached {
            Some(copy) if copy.revision == state.revision => copy.clone(),
            _ => {
                let copy = Arc::new(state.clone());
                *cached = Some(copy.clone());
                copy
            }
        }
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    pub fn is_leader(&self) -> bool {
        self.consensus.status().is_leader
    }

    /// The leader's region, if one is known.
    pub fn leader(&self) -> Option<RegionName> {
        self.consensus
            .status()
            .leader
            .and_then(|node| self.region_of(node))
    }

    pub fn region_of(&self, node: NodeId) -> Option<RegionName> {
        self.nodes
            .get(usize::try_from(node).ok()?.checked_sub(1)?)
            .cloned()
    }

    /// Proposes a command and waits until this region's copy has it.
    ///
    /// # Errors
    /// When no leader answers in time; the request may have happened if it was handed over.
    pub async fn submit(&self, by: &str, command: Command) -> Result<Answer, PlaneUnavailable> {
        let id = crate::random_text(16);
        let request = Request {
            now: self.clock.now(),
            by: by.into(),
            id,
            command,
        };
        let bytes = Bytes::from(
            serde_json::to_vec(&request).expect("requests have no shape JSON cannot write"),
        );
        let deadline = Instant::now() + SUBMIT_FOR;
        let mut may_have_happened = false;
        loop {
            let (why, leader) = match self.submit_once(&bytes).await {
                Submitted::Done { index, answer } => return self.applied(index, &answer).await,
                Submitted::NotLeader { leader } => ("no leader is known".to_owned(), leader),
                Submitted::Unavailable {
                    why,
                    may_have_happened: sent,
                } => {
                    may_have_happened |= sent;
                    (why, None)
                }
            };
            if Instant::now() >= deadline {
                return Err(PlaneUnavailable {
                    why,
                    may_have_happened,
                });
            }
            if leader.is_none() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn applied(&self, index: u64, answer: &[u8]) -> Result<Answer, PlaneUnavailable> {
        let unavailable = |why: String| PlaneUnavailable {
            why,
            may_have_happened: true,
        };
        if !self.consensus.wait_applied(index, CALL_TIMEOUT).await {
            return Err(unavailable(
                "this region's copy of the control plane lags".into(),
            ));
        }
        serde_json::from_slice(answer)
            .map_err(|error| unavailable(format!("the leader's answer: {error}")))
    }

    async fn submit_once(&self, request: &Bytes) -> Submitted {
        let status = self.consensus.status();
        if status.is_leader {
            return self.submit_here(request.clone()).await;
        }
        let Some(leader) = status
            .leader
            .and_then(|node| self.region_of(node))
            .filter(|region| *region != self.me)
        else {
            return Submitted::NotLeader { leader: None };
        };
        let body = peer::encode(
            peer::CALL,
            &Call::Submit {
                request: request.clone(),
            },
        );
        match self
            .links
            .call(&leader, Class::Control, body, CALL_TIMEOUT)
            .await
        {
            Ok(bytes) => match peer::decode::<Return>(&bytes) {
                Ok(Return::Submitted(submitted)) => submitted,
                Ok(other) => Submitted::Unavailable {
                    why: format!("unexpected answer {other:?}"),
                    may_have_happened: true,
                },
                Err(why) => Submitted::Unavailable {
                    why,
                    may_have_happened: true,
                },
            },
            Err(link::LinkError::NotSent(why)) => Submitted::Unavailable {
                why,
                may_have_happened: false,
            },
            Err(link::LinkError::OutcomeUnknown(why)) => Submitted::Unavailable {
                why,
                may_have_happened: true,
            },
        }
    }

    /// Takes a request as the leader.
    pub async fn submit_here(&self, request: Bytes) -> Submitted {
        match self.consensus.write(request).await {
            Ok(written) => Submitted::Done {
                index: written.index,
                answer: written.answer,
            },
            Err(WriteError::NotLeader { leader }) => Submitted::NotLeader { leader },
            Err(error) => Submitted::Unavailable {
                why: error.to_string(),
                may_have_happened: true,
            },
        }
    }

    /// Waits until this region's copy is at least as new as everything committed before the call.
    ///
    /// # Errors
    /// When no leader can be asked now.
    pub async fn barrier(&self) -> Result<(), String> {
        let index = if self.is_leader() {
            self.consensus
                .barrier()
                .await
                .map_err(|error| error.to_string())?
        } else {
            let leader = self.leader().ok_or("no leader is known")?;
            let body = peer::encode(peer::CALL, &Call::Barrier);
            let bytes = self
                .links
                .call(&leader, Class::Control, body, CALL_TIMEOUT)
                .await
                .map_err(|error| error.to_string())?;
            match peer::decode::<Return>(&bytes)? {
                Return::Barrier(index) => index?,
                other => return Err(format!("unexpected answer {other:?}")),
            }
        };
        if self.consensus.wait_applied(index, CALL_TIMEOUT).await {
            Ok(())
        } else {
            Err("the copy lags".into())
        }
    }
}
