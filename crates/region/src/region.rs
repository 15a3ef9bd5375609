//! One region put together: store, engine, links, control plane, router, coordinator.

use crate::clock::Clock;
use crate::coordinator;
use crate::engine::{Engine, HubRole, Input, Message, Role};
use crate::events::EventLog;
use crate::handler::Peers;
use crate::peer::{self, Cast, Facts};
use crate::plane::{self, Plane};
use crate::router::Router;
use crate::runtime::{EngineHandle, Outside};
use bytes::Bytes;
use consensus::{Consensus, NodeId, Settings, Transport};
use control::{HubState, State};
use link::{BoxFuture, Class, LinkConfig, Links};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{FjallStore, Store};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use types::regions::Catalogue;
use types::{ConnectionId, Epoch, HubId, PartitionKey, RegionName, Sequence};

const RAFT_TIMEOUT: Duration = Duration::from_secs(3);
const FENCE_WATCH: Duration = Duration::from_secs(2);
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Everything a region needs to start.
pub struct RegionConfig {
    pub me: RegionName,
    /// All regions of the deployment; a region's place is its number in the control plane for good.
    pub nodes: Vec<RegionName>,
    /// This region's own folder.
    pub folder: PathBuf,
    pub store: store::Options,
    pub link: LinkConfig,
    pub link_listener: TcpListener,
    pub catalogue: Arc<Catalogue>,
    pub clock: Arc<dyn Clock>,
    /// First start of the whole deployment, and this is the region that founds it.
    pub found: bool,
    /// Whole days until the region's certificate ends, as of start.
    pub certificate_days: i64,
}

/// Why a region did not start.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A running region.
pub struct Region {
    pub me: RegionName,
    pub plane: Arc<Plane>,
    pub router: Arc<Router>,
    pub links: Links,
    pub store: Arc<dyn Store>,
    pub catalogue: Arc<Catalogue>,
    pub clock: Arc<dyn Clock>,
    /// Failover pauses seen by this region's coordinator: count, sum and longest, in milliseconds.
    pub pauses: Pauses,
    engine: EngineHandle,
    engine_thread: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
    tasks: parking_lot::Mutex<JoinSet<()>>,
    trusted: AtomicBool,
    /// Set by whoever runs the gateways' listeners.
    pub gateway_listening: AtomicBool,
    started: Instant,
    certificate_days: i64,
}

#[derive(Default)]
pub struct Pauses {
    pub count: AtomicU64,
    pub sum_ms: AtomicU64,
    pub last_ms: AtomicU64,
}

impl Region {
    /// Opens the store, joins links and control plane, and begins to serve once its roles are known.
    ///
    /// # Errors
    /// When the folder, the store, the links or consensus cannot be opened.
    pub async fn start(config: RegionConfig) -> Result<Arc<Region>, StartError> {
        let say = |what: &str, error: &dyn fmt::Display| {
            StartError(format!("region {}: {what}: {error}", config.me))
        };
        std::fs::create_dir_all(&config.folder).map_err(|error| say("its folder", &error))?;
        let folder = config.folder.join("data");
        let store = FjallStore::open(&folder, config.store.clone())
            .map_err(|error| say("opening the store", &error))?;
        let store: Arc<dyn Store> = Arc::new(store);

        let peers = Arc::new(Peers::default());
        let links = Links::start(config.link, config.link_listener, peers.clone())
            .await
            .map_err(|error| StartError(format!("region {}: links: {error}", config.me)))?;

        let (machine, state, changed) = plane::machine();
        let number = |region: &RegionName| {
            config
                .nodes
                .iter()
                .position(|node| node == region)
                .map_or(0, |at| at as NodeId + 1)
        };
        let all: Vec<NodeId> = (1..=config.nodes.len() as NodeId).collect();
        let settings = Settings::for_node(number(&config.me), &all, config.folder.join("control"));
        let transport = Arc::new(RaftTransport {
            links: links.clone(),
            nodes: config.nodes.clone(),
        });
        let consensus = Consensus::start(settings, transport, Box::new(machine))
            .await
            .map_err(|error| StartError(format!("region {}: control plane: {error}", config.me)))?;

        let events = Arc::new(EventLog::new(store.clone()));
        let engine = Engine::new(store.clone(), Box::new(crate::fill_random));
        let outside = EngineOutside {
            me: config.me.clone(),
            links: links.clone(),
            events: events.clone(),
            peers: peers.clone(),
        };
        let (engine, engine_thread) = EngineHandle::start(engine, config.clock.clone(), outside);
        let router = Arc::new(Router::new(
            config.me.clone(),
            engine.clone(),
            links.clone(),
            events,
        ));
        let plane = Arc::new(Plane::new(
            config.me.clone(),
            config.nodes.clone(),
            consensus,
            links.clone(),
            config.clock.clone(),
            state,
            changed,
        ));

        let region = Arc::new(Region {
            me: config.me,
            plane,
            router,
            links,
            store,
            catalogue: config.catalogue,
            clock: config.clock,
            pauses: Pauses::default(),
            engine,
            engine_thread: parking_lot::Mutex::new(Some(engine_thread)),
            tasks: parking_lot::Mutex::new(JoinSet::new()),
            trusted: AtomicBool::new(false),
            gateway_listening: AtomicBool::new(false),
            started: Instant::now(),
            certificate_days: config.certificate_days,
        });
        peers.attach(&region);
        region.links_as_they_are();
        if config.found {
            region
                .plane
                .consensus()
                .bootstrap()
                .await
                .map_err(|error| StartError(format!("founding the control plane: {error}")))?;
        }
        region.spawn(follow_roles(region.clone()));
        region.spawn(trim(region.clone()));
        region.spawn(watch_fences(region.clone()));
        region.spawn(coordinator::run(region.clone()));
        Ok(region)
    }

    /// Runs a task until it ends or the region stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Tells the engine of links that came up before it was there.
    fn links_as_they_are(&self) {
        for peer in self.links.peers() {
            self.engine.tell(Input::Link {
                peer: peer.name,
                up: peer.up,
            });
        }
    }

    pub fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Its roles were read from the control plane after start: it may serve.
    pub fn ready(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    /// This region's word on itself and one hub.
    pub async fn facts(&self, hub: HubId) -> Facts {
        let asked = self.engine.ask(|reply| Input::Facts { hub, reply }).await;
        let partitions = match asked {
            Ok(Ok(crate::engine::Answer::Facts(partitions))) => partitions,
            _ => Vec::new(),
        };
        let space = self.store.space();
        let figures = self.engine.figures();
        let status = self.plane.consensus().status();
        Facts {
            region: self.me.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            now: self.clock.now(),
            uptime_ms: self.uptime_ms(),
            roles_trusted: self.ready(),
            store_trouble: match &space {
                Err(error) => Some(error.to_string()),
                Ok(_) if figures.disk_full.load(Ordering::Relaxed) > 0 => {
                    Some("the disk is full".into())
                }
                Ok(_) => None,
            },
            disk_free: space.as_ref().map_or(0, |space| space.free),
            disk_used: space.as_ref().map_or(0, |space| space.used),
            queue_depth: figures.queue_depth.load(Ordering::Relaxed),
            turn_micros_max: figures.turn_micros_max.load(Ordering::Relaxed),
            certificate_days: self.certificate_days
                - (self.started.elapsed().as_secs() / 86_400) as i64,
            sessions: self.router.sessions.open(),
            sessions_of_hub: self.router.sessions.count_of_hub(hub),
            sessions_closed: self.router.sessions.closed(),
            parked: self.router.parked_total.load(Ordering::Relaxed),
            gateway_listening: self.gateway_listening.load(Ordering::Relaxed),
            links: self
                .links
                .peers()
                .into_iter()
                .map(|peer| (peer.name.to_string(), peer.up, peer.rtt_ms))
                .collect(),
            control_leader: self.plane.leader().map(|leader| leader.to_string()),
            control_applied: status.last_applied,
            partitions,
        }
    }

    /// A hub opened here (or goes on here): everybody may send what was parked.
    pub(crate) fn announce(&self, hub: HubId, epoch: Epoch) {
        let cast = Cast::Route {
            hub,
            epoch,
            primary: self.me.clone(),
        };
        for peer in self.links.peers() {
            self.router.cast(&peer.name, Class::Control, &cast);
        }
        self.route_moved(hub, epoch, &self.me);
    }

    /// A fence whose operation no longer stands is lifted: no lost message can leave a hub closed for good.
    async fn lift_stale_fences(&self) {
        let mine = self.plane.with(|state| {
            let settled = |hub: &&control::Hub| {
                hub.primary == self.me && hub.state == HubState::Active && hub.operation.is_none()
            };
            state
                .hubs
                .values()
                .filter(settled)
                .map(|hub| (hub.id, hub.epoch))
                .collect::<Vec<_>>()
        });
        for (hub, epoch) in mine {
            let facts = self.engine.ask(|reply| Input::Facts { hub, reply }).await;
            let Ok(Ok(crate::engine::Answer::Facts(partitions))) = facts else {
                continue;
            };
            if !partitions
                .iter()
                .any(|partition| partition.fenced && partition.epoch == epoch)
            {
                continue;
            }
            tracing::warn!(region = %self.me, %hub, %epoch, "lifting a fence whose failover was rolled back");
            let lifted = self
                .engine
                .ask(|reply| Input::Unfence { hub, epoch, reply })
                .await;
            if matches!(lifted, Ok(Ok(crate::engine::Answer::Opened))) {
                self.announce(hub, epoch);
            }
        }
    }

    pub(crate) fn route_moved(&self, hub: HubId, epoch: Epoch, primary: &RegionName) {
        if self.router.routes.moved(hub, epoch, primary) {
            self.spawn(self.router.clone().restate(hub));
        }
    }

    /// Ends tasks, engine, consensus and links; what was acknowledged is on disk.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.engine.stop();
        let thread = self.engine_thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the engine's thread ended badly");
            }
        }
        self.plane.consensus().shutdown().await;
        self.links.shutdown().await;
    }
}

/// Keeps engine and routes in step with the control plane.
async fn follow_roles(region: Arc<Region>) {
    let mut changed = region.plane.watch();
    let mut first = true;
    loop {
        if first && let Err(why) = region.plane.barrier().await {
            tracing::debug!(region = %region.me, %why, "waiting for the control plane");
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        changed.mark_unchanged();
        let (roles, moved) = region.plane.with(|state| {
            (
                roles_of(state, &region.me),
                region.router.routes.update(state),
            )
        });
        region.engine.tell(Input::Roles(roles));
        if first {
            region.engine.tell(Input::DropUnknown);
            region.trusted.store(true, Ordering::Release);
            first = false;
            tracing::info!(region = %region.me, "serving");
        }
        for hub in moved {
            region.spawn(region.router.clone().restate(hub));
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// This region's part in every hub it holds.
fn roles_of(state: &State, me: &RegionName) -> Vec<HubRole> {
    let mine = state
        .hubs
        .values()
        .filter(|hub| hub.state != HubState::Deleting);
    mine.filter_map(|hub| {
        let role = if hub.primary == *me {
            Role::Primary
        } else if hub.secondary() == Some(me) {
            Role::Secondary
        } else {
            return None;
        };
        let peer = if role == Role::Primary {
            hub.secondary().cloned()
        } else {
            Some(hub.primary.clone())
        };
        Some(peer::role(Arc::new(hub.settings()), role, hub.epoch, peer))
    })
    .collect()
}

async fn watch_fences(region: Arc<Region>) {
    loop {
        tokio::time::sleep(FENCE_WATCH).await;
        if region.ready() && region.plane.barrier().await.is_ok() {
            region.lift_stale_fences().await;
        }
    }
}

/// Drops log segments that retention has passed.
async fn trim(region: Arc<Region>) {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        let (store, now) = (region.store.clone(), region.clock.now());
        match tokio::task::spawn_blocking(move || store.trim(now)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(segments)) => {
                tracing::info!(region = %region.me, segments, "retention dropped log segments")
            }
            Ok(Err(error)) => tracing::warn!(region = %region.me, %error, "retention"),
            Err(error) => tracing::error!(region = %region.me, %error, "retention"),
        }
    }
}

struct RaftTransport {
    links: Links,
    nodes: Vec<RegionName>,
}

impl Transport for RaftTransport {
    fn call(&self, to: NodeId, body: Bytes) -> consensus::BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let region = usize::try_from(to)
                .ok()
                .and_then(|n| n.checked_sub(1))
                .and_then(|n| self.nodes.get(n));
            let region = region.ok_or_else(|| format!("no region has number {to}"))?;
            let mut framed = Vec::with_capacity(body.len() + 1);
            framed.push(peer::RAFT);
            framed.extend_from_slice(&body);
            let answer = self
                .links
                .call(region, Class::Control, framed.into(), RAFT_TIMEOUT)
                .await
                .map_err(|error| error.to_string())?;
            match answer.first() {
                Some(&crate::handler::RAFT_OK) => Ok(answer.slice(1..)),
                _ => Err(String::from_utf8_lossy(answer.get(1..).unwrap_or_default()).into_owned()),
            }
        })
    }
}

/// Performs the engine's outputs.
struct EngineOutside {
    me: RegionName,
    links: Links,
    events: Arc<EventLog>,
    peers: Arc<Peers>,
}

impl Outside for EngineOutside {
    fn effect(
        &self,
        gateway: RegionName,
        hub: HubId,
        connection: ConnectionId,
        effect: hub::Effect,
    ) {
        if gateway == self.me {
            self.peers.deliver(connection, effect);
            return;
        }
        let cast = Cast::Effect {
            hub,
            connection,
            effect,
        };
        if let Err(error) =
            self.links
                .cast(&gateway, Class::Client, peer::encode(peer::CAST, &cast))
        {
            // The gateway states its sessions again when the link is back, and gets what it missed then.
            tracing::debug!(%gateway, %error, "an effect was not sent");
        }
    }

    fn send(&self, to: &RegionName, message: Message) -> bool {
        let class = if message.is_bulk() {
            Class::Bulk
        } else {
            Class::Control
        };
        self.links
            .cast(to, class, peer::encode(peer::CAST, &Cast::Engine(message)))
            .is_ok()
    }

    fn visible(&self, at: PartitionKey, next: Sequence, epoch: Option<Epoch>) {
        self.events.advance(at, next, epoch);
    }

    fn alarm(&self, at: Option<PartitionKey>, text: &str) {
        match at {
            Some(at) => tracing::warn!(region = %self.me, partition = %at, "{text}"),
            None => tracing::warn!(region = %self.me, "{text}"),
        }
    }
}

/// Future type of a handler's call.
pub type CallFuture<'a> = BoxFuture<'a, Bytes>;
