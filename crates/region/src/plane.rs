//! This region's copy of the control plane, and the way of a request to its leader.

use crate::clock::{Clock, monotonic_ms};
use crate::engine::SourceWord;
use crate::peer::{self, Call, Return, Submitted};
use crate::relay;
use bytes::Bytes;
use consensus::{Consensus, Machine, NodeId, WriteError};
use control::{Answer, Command, Origin, Request, State};
use link::Links;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use types::{PartitionKey, RegionName};

/// How long a request looks for a leader.
const SUBMIT_FOR: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A renewal that takes longer is tried again: the leader may have changed.
const RENEW_TIMEOUT: Duration = Duration::from_millis(1500);
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
    /// Those that hold no hubs and drive no operations.
    witnesses: BTreeSet<RegionName>,
    consensus: Consensus,
    links: Links,
    clock: Arc<dyn Clock>,
    state: Arc<RwLock<State>>,
    changed: watch::Receiver<u64>,
    /// The term in which this member leads, and since when that is seen, on the monotonic clock.
    leads: Mutex<Option<(u64, u64)>>,
    /// When each region asked this member last for a renewal.
    renewals: Mutex<BTreeMap<RegionName, u64>>,
    cached: Mutex<Option<Arc<State>>>,
    /// What this node waits for before it takes part, or before its lease goes on.
    waiting: Mutex<Option<String>>,
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
            leads: Mutex::new(None),
            renewals: Mutex::default(),
            cached: Mutex::new(None),
            witnesses: BTreeSet::new(),
            waiting: Mutex::new(None),
        }
    }

    /// Names the nodes that hold no hubs.
    pub fn with_witnesses(mut self, witnesses: BTreeSet<RegionName>) -> Self {
        self.witnesses = witnesses;
        self
    }

    pub fn me(&self) -> &RegionName {
        &self.me
    }

    /// All nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[RegionName] {
        &self.nodes
    }

    pub fn witnesses(&self) -> &BTreeSet<RegionName> {
        &self.witnesses
    }

    /// What this node waits for, in a sentence; `None`: nothing.
    pub fn waiting(&self) -> Option<String> {
        self.waiting.lock().clone()
    }

    pub(crate) fn wait_for(&self, what: Option<String>) {
        let mut waiting = self.waiting.lock();
        if *waiting != what {
            if let Some(what) = &what {
                tracing::info!(node = %self.me, "{what}");
            }
            *waiting = what;
        }
    }

    /// Whether this region may drive operations that nobody moves: a witness leads, and it is heard here. The first region may
    /// have lost its link to the witness without this one knowing.
    pub fn may_drive(&self) -> bool {
        self.leader().is_some_and(|leader| {
            self.witnesses.contains(&leader)
                && self.links.up(&leader)
                && !self.witnesses.contains(&self.me)
        })
    }

    /// Whether this region drives operations now: as the leader, or for a witness that leads, as the first region that has
    /// a link to it. Two may think so for a moment: steps are recorded, and the record decides.
    pub fn drives(&self) -> bool {
        self.leads_since();
        match self.leader() {
            Some(leader) if leader == self.me => !self.witnesses.contains(&leader),
            Some(leader) if self.witnesses.contains(&leader) => {
                let mut regions = self
                    .nodes
                    .iter()
                    .filter(|node| !self.witnesses.contains(*node));
                let first = regions.find(|region| self.links.up(region));
                self.links.up(&leader) && first == Some(&self.me)
            }
            _ => false,
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
            // A refusal changes nothing but the activity log.
            Some(copy)
                if copy.revision == state.revision
                    && copy.activity_number() == state.activity_number() =>
            {
                copy.clone()
            }
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
        self.submit_from(by, Origin::default(), command).await
    }

    /// As [`Plane::submit`], with where the request came from.
    ///
    /// # Errors
    /// As there.
    pub async fn submit_from(
        &self,
        by: &str,
        origin: Origin,
        command: Command,
    ) -> Result<Answer, PlaneUnavailable> {
        let id = crate::random_text(16);
        let request = Request {
            now: self.clock.now(),
            by: by.into(),
            id,
            command,
            origin,
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
        match relay::call(&self.links, &leader, body, CALL_TIMEOUT).await {
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
        self.passed(Call::Barrier, CALL_TIMEOUT).await
    }

    /// Notes that this member leads, as soon as that is seen: from then on no other leader's barrier can succeed.
    fn leads_since(&self) -> Option<u64> {
        let status = self.consensus.status();
        let mut leads = self.leads.lock();
        match (status.is_leader, *leads) {
            (false, _) => *leads = None,
            (true, Some((term, _))) if term == status.term => {}
            (true, _) => *leads = Some((status.term, monotonic_ms())),
        }
        leads.map(|(_, since)| since)
    }

    /// Notes that a region asks for a renewal; before its barrier is begun.
    pub(crate) fn renewal_asked(&self, region: &RegionName) {
        let mut asked = self.renewals.lock();
        asked.insert(region.clone(), monotonic_ms());
    }

    /// Since when a region surely was not granted a renewal, on the monotonic clock; `None`: this member does not lead, so it
    /// cannot know.
    pub(crate) fn not_renewed_since(&self, region: &RegionName) -> Option<u64> {
        let leads = self.leads_since()?;
        let asked = self.renewals.lock().get(region).copied().unwrap_or(0);
        Some(leads.max(asked))
    }

    /// Renews this region's lease: a barrier that takes the region's words along.
    ///
    /// # Errors
    /// When no leader can be asked now.
    pub async fn renew(&self, words: Vec<(PartitionKey, SourceWord)>) -> Result<(), String> {
        if self.leads_since().is_some() {
            self.renewal_asked(&self.me);
        }
        let region = self.me.clone();
        self.passed(Call::Renew { region, words }, RENEW_TIMEOUT)
            .await
    }

    /// The leader's read barrier: the index of what was committed before it, once a majority said that it still leads.
    ///
    /// # Errors
    /// When this member does not lead, or hears no majority in time.
    pub async fn leaders_barrier(&self) -> Result<u64, String> {
        let barrier = self.consensus.barrier().await;
        barrier.map_err(|error| error.to_string())
    }

    async fn passed(&self, ask: Call, within: Duration) -> Result<(), String> {
        let index = if self.is_leader() {
            self.leaders_barrier().await?
        } else {
            let leader = self.leader().ok_or("no leader is known")?;
            let body = peer::encode(peer::CALL, &ask);
            let bytes = relay::call(&self.links, &leader, body, within)
                .await
                .map_err(|error| error.to_string())?;
            match peer::decode::<Return>(&bytes)? {
                Return::Barrier(index) => index?,
                Return::Malformed(why) => return Err(format!("{leader}: {why}")),
                other => return Err(format!("unexpected answer {other:?}")),
            }
        };
        if self.consensus.wait_applied(index, within).await {
            Ok(())
        } else {
            Err("the copy lags".into())
        }
    }
}
