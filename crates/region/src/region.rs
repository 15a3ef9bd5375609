//! One region put together: store, engine, links, control plane, router, coordinator.

use crate::clock::Clock;
use crate::coordinator;
use crate::engine::{Engine, HubRole, Input, Message, Role, SourceWord};
use crate::events::EventLog;
use crate::handler::Peers;
use crate::joined::Joined;
use crate::lease::{self, Lease, LeaseTimes};
use crate::membership::{self, Members};
use crate::peer::{self, Cast, Facts};
use crate::plane::Plane;
use crate::router::Router;
use crate::runtime::{EngineHandle, Outside};
use crate::words::Words;
use bytes::Bytes;
use control::{HubState, State};
use link::{BoxFuture, Class, LinkConfig, Links};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{FjallStore, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use types::regions::Catalogue;
use types::{ConnectionId, Epoch, HubId, PartitionId, PartitionKey, RegionName, Sequence};

const FENCE_WATCH: Duration = Duration::from_secs(2);
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Everything a region needs to start.
pub struct RegionConfig {
    pub me: RegionName,
    /// All regions of the deployment; a region's place is its number in the control plane for good.
    pub nodes: Vec<RegionName>,
    /// Those among them that hold no hubs.
    pub witnesses: Vec<RegionName>,
    /// This region's own folder.
    pub folder: PathBuf,
    pub store: store::Options,
    pub link: LinkConfig,
    pub link_listener: TcpListener,
    pub catalogue: Arc<Catalogue>,
    pub clock: Arc<dyn Clock>,
    /// Whole days until the region's certificate ends, as of start.
    pub certificate_days: i64,
    pub times: LeaseTimes,
    pub control_times: consensus::Times,
    /// Seals what the control plane stores here.
    pub storage_key: Option<consensus::StorageKey>,
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
    pub lease: Arc<Lease>,
    pub times: LeaseTimes,
    /// What this region's engine said of what only it has.
    pub(crate) words: Arc<Words>,
    /// What other regions said of that with their renewals, while this one led the control plane.
    pub(crate) heard: Words,
    /// One lock per hub: see [`Region::fences_of`].
    fences: parking_lot::Mutex<HashMap<HubId, Arc<tokio::sync::Mutex<()>>>>,
    /// Revision of the control plane's state of which the engine was told; held while it is told.
    told: parking_lot::Mutex<Option<u64>>,
    joined: parking_lot::Mutex<Joined>,
    /// Its store held partitions when it was opened.
    pub(crate) held_data: bool,
    /// What the operations that this region drives wait for, by their ids.
    waits: parking_lot::Mutex<BTreeMap<String, String>>,
    engine: EngineHandle,
    engine_thread: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
    tasks: parking_lot::Mutex<JoinSet<()>>,
    trusted: AtomicBool,
    /// Set by whoever runs the gateways' listeners.
    pub gateway_listening: AtomicBool,
    /// Device connections are handed over at this rate per second, and new ones refused.
    draining: watch::Sender<Option<u32>>,
    started: Instant,
    /// As of the start.
    certificate_days: AtomicI64,
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
        let stored = store
            .partitions()
            .map_err(|error| say("reading the store", &error))?;
        let held_data = !stored.is_empty();
        let joined =
            Joined::load(&config.folder, held_data).map_err(|error| say("its folder", &error))?;

        let peers = Arc::new(Peers::default());
        let links = Links::start(config.link, config.link_listener, peers.clone())
            .await
            .map_err(|error| StartError(format!("region {}: links: {error}", config.me)))?;

        let members = Members {
            me: config.me.clone(),
            nodes: config.nodes,
            witnesses: config.witnesses.into_iter().collect(),
            folder: config.folder.join("control"),
            times: config.control_times,
            storage_key: config.storage_key,
        };
        let plane = membership::join(members, links.clone(), config.clock.clone())
            .await
            .map_err(|error| StartError(format!("region {}: control plane: {error}", config.me)))?;
        let plane = Arc::new(plane);

        let events = Arc::new(EventLog::new(store.clone()));
        let engine = Engine::new(
            store.clone(),
            Box::new(crate::fill_random),
            crate::clock::monotonic(),
        );
        let words = Arc::new(Words::default());
        let outside = EngineOutside {
            words: words.clone(),
            me: config.me.clone(),
            links: links.clone(),
            events: events.clone(),
            peers: peers.clone(),
        };
        let (engine, engine_thread) = EngineHandle::start(engine, config.clock.clone(), outside);
        let lease = Arc::new(Lease::default());
        let router = Arc::new(Router::new(
            config.me.clone(),
            engine.clone(),
            links.clone(),
            events,
            lease.clone(),
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
            lease,
            times: config.times,
            words,
            heard: Words::default(),
            fences: parking_lot::Mutex::default(),
            told: parking_lot::Mutex::new(None),
            joined: parking_lot::Mutex::new(joined),
            held_data,
            waits: parking_lot::Mutex::default(),
            engine,
            engine_thread: parking_lot::Mutex::new(Some(engine_thread)),
            tasks: parking_lot::Mutex::new(JoinSet::new()),
            trusted: AtomicBool::new(false),
            gateway_listening: AtomicBool::new(false),
            draining: watch::Sender::new(None),
            started: Instant::now(),
            certificate_days: AtomicI64::new(config.certificate_days),
        });
        peers.attach(&region);
        region.links_as_they_are();
        region.spawn(membership::found(
            region.plane.clone(),
            region.links.clone(),
            held_data,
        ));
        region.spawn(lease::keep(region.clone()));
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

    /// Whole days until this region's certificate ends.
    pub fn certificate_days(&self) -> i64 {
        self.certificate_days.load(Ordering::Relaxed) - self.days_up()
    }

    /// The region's certificate was renewed: it ends in so many days.
    pub fn certificate_renewed(&self, days: i64) {
        self.certificate_days
            .store(days + self.days_up(), Ordering::Relaxed);
    }

    fn days_up(&self) -> i64 {
        (self.started.elapsed().as_secs() / 86_400) as i64
    }

    /// What an operation waits for that this region drives.
    pub fn waits_for(&self, operation: &str) -> Option<String> {
        self.waits.lock().get(operation).cloned()
    }

    /// Notes what an operation waits for; `None`: nothing any more.
    pub(crate) fn note_wait(&self, operation: &str, what: Option<&str>) {
        let mut waits = self.waits.lock();
        match what {
            Some(what) => waits.insert(operation.to_owned(), what.to_owned()),
            None => waits.remove(operation),
        };
    }

    /// Hubs of which this region is the primary though their data here is lost with its folder.
    pub fn lost_hubs(&self) -> Vec<HubId> {
        let joined = self.joined.lock();
        self.plane.with(|state| {
            let mine = state.hubs.values().filter(|hub| hub.primary == self.me);
            mine.filter(|hub| joined.lost(hub.id, hub.epoch))
                .map(|hub| hub.id)
                .collect()
        })
    }

    pub fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Tells the engine the roles of this region's copy of the control plane, unless it was told those already. Tellings
    /// are in order: none is of an older copy than one before.
    pub(crate) fn tell_roles(&self) {
        let mut told = self.told.lock();
        let mut joined = self.joined.lock();
        let noted = self
            .plane
            .with(|state| joined.note(state, &self.me, self.clock.now()));
        if let Err(why) = noted {
            tracing::error!(region = %self.me, %why, "this region takes no part in any hub");
            return;
        }
        let roles = self.plane.with(|state| {
            (*told != Some(state.revision))
                .then(|| (state.revision, roles_of(state, &self.me, &joined)))
        });
        let Some((revision, roles)) = roles else {
            return;
        };
        self.engine.tell(Input::Roles(roles));
        if told.is_none() {
            self.engine.tell(Input::DropUnknown);
        }
        *told = Some(revision);
    }

    /// The first lease was granted, and with it the roles were read: it may serve.
    pub(crate) fn trust(&self) {
        if !self.trusted.swap(true, Ordering::AcqRel) {
            tracing::info!(region = %self.me, "serving");
        }
    }

    /// What other regions said of a hub with their renewals, each word with its age in milliseconds; this region's own words,
    /// too, which have no age.
    pub fn words_heard(&self, hub: HubId) -> Vec<(PartitionId, SourceWord, i64)> {
        let mut all = self.heard.of_hub(hub);
        for (partition, (word, _)) in self.words.of_hub(hub) {
            let newer = all
                .get(&partition)
                .is_none_or(|(known, _)| (known.epoch, known.lsn) <= (word.epoch, word.lsn));
            if newer {
                all.insert(partition, (word, 0));
            }
        }
        all.into_iter()
            .map(|(partition, (word, age))| (partition, word, age))
            .collect()
    }

    /// It may acknowledge now.
    pub fn holds_lease(&self) -> bool {
        self.lease.held()
    }

    /// The rate per second at which this region's gateways hand their devices over; `None`: they keep them.
    pub fn draining(&self) -> watch::Receiver<Option<u32>> {
        self.draining.subscribe()
    }

    /// Begins, changes or ends the handing over of devices.
    pub fn drain(&self, rate: Option<u32>) {
        self.draining.send_if_modified(|known| {
            let news = *known != rate;
            *known = rate;
            news
        });
    }

    /// For how long it has been without a lease, if it ever had one.
    pub fn isolated_ms(&self) -> Option<u64> {
        self.lease.lapsed_ms()
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
            began: self.joined.lock().began(),
            roles_trusted: self.ready(),
            lease_left_ms: self.lease.left_ms(),
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
            certificate_days: self.certificate_days(),
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
    pub(crate) fn announce(&self, hub: HubId, epoch: Epoch, forced: bool) {
        let cast = Cast::Route {
            hub,
            epoch,
            primary: self.me.clone(),
            forced,
        };
        for peer in self.links.peers() {
            self.router.cast(&peer.name, Class::Control, &cast);
        }
        self.route_moved(hub, epoch, &self.me, forced);
    }

    /// Held while a fence of the hub is set or lifted, so that none is lifted that was set meanwhile.
    pub(crate) fn fences_of(&self, hub: HubId) -> Arc<tokio::sync::Mutex<()>> {
        self.fences.lock().entry(hub).or_default().clone()
    }

    /// Whether a fence of this hub may be lifted for `operation` (empty: for none): nothing else runs on the hub, and this does
    /// not go forward.
    pub(crate) fn may_lift(&self, hub: HubId, operation: &str) -> bool {
        self.plane.with(|state| {
            let running = state.hub(hub).and_then(|hub| hub.operation.as_ref());
            match running {
                None => true,
                Some(id) if id != operation => false,
                Some(id) => state
                    .operations
                    .get(id)
                    .is_none_or(|op| op.is_rolling_back() || !op.is_running()),
            }
        })
    }

    /// Lifts a fence, if one stands at this epoch and nothing runs that could have set it. The caller holds [`Self::fences_of`]
    /// and has asked the control plane since.
    pub(crate) async fn lift_fence(&self, hub: HubId, epoch: Epoch, operation: &str) {
        if !self.may_lift(hub, operation) {
            return;
        }
        tracing::warn!(region = %self.me, %hub, %epoch, "lifting a fence whose failover was rolled back");
        let lifted = self
            .engine
            .ask(|reply| Input::Unfence { hub, epoch, reply })
            .await;
        if matches!(lifted, Ok(Ok(crate::engine::Answer::Opened(_)))) {
            self.announce(hub, epoch, false);
        }
    }

    /// A fence whose operation no longer stands is lifted: no lost message can leave a hub closed for good.
    async fn lift_stale_fences(&self) {
        let settled = |hub: &control::Hub| {
            hub.primary == self.me && hub.state == HubState::Active && hub.operation.is_none()
        };
        let mine: Vec<HubId> = self.plane.with(|state| {
            self.fences
                .lock()
                .retain(|hub, _| state.hub(*hub).is_some());
            let mine = state.hubs.values().filter(|hub| settled(hub));
            mine.map(|hub| hub.id).collect()
        });
        for hub in mine {
            let facts = self.engine.ask(|reply| Input::Facts { hub, reply }).await;
            let Ok(Ok(crate::engine::Answer::Facts(partitions))) = facts else {
                continue;
            };
            let Some(fenced) = partitions.iter().find(|partition| partition.fenced) else {
                continue;
            };
            let one_by_one = self.fences_of(hub);
            let _one = one_by_one.lock().await;
            if self.plane.barrier().await.is_err() {
                return;
            }
            let still = self.plane.with(|state| {
                let hub = state.hub(hub);
                hub.is_some_and(|hub| settled(hub) && hub.epoch == fenced.epoch)
            });
            if still {
                self.lift_fence(hub, fenced.epoch, "").await;
            }
        }
    }

    pub(crate) fn route_moved(&self, hub: HubId, epoch: Epoch, primary: &RegionName, forced: bool) {
        if self.router.routes.moved(hub, epoch, primary, forced) {
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

/// Keeps engine and routes in step with the control plane. Roles of a copy that is behind harm nobody: without a lease
/// nothing is acknowledged, and the lease comes with a copy that is not.
async fn follow_roles(region: Arc<Region>) {
    let mut changed = region.plane.watch();
    loop {
        changed.mark_unchanged();
        if region.ready() {
            region.tell_roles();
        }
        let moved = region
            .plane
            .with(|state| region.router.routes.update(state));
        for hub in moved {
            region.spawn(region.router.clone().restate(hub));
        }
        region.plane.with(|state| {
            region.heard.keep(|hub| state.hub(hub).is_some());
            region.words.keep(|hub| state.hub(hub).is_some());
        });
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// This region's part in every hub it holds.
fn roles_of(state: &State, me: &RegionName, joined: &Joined) -> Vec<HubRole> {
    let mine = state
        .hubs
        .values()
        .filter(|hub| hub.state != HubState::Deleting)
        .filter(|hub| hub.primary != *me || !joined.lost(hub.id, hub.epoch));
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
        let suspended = role == Role::Primary && control::failover::suspended(state, hub);
        Some(HubRole {
            settings: Arc::new(hub.settings()),
            role,
            epoch: hub.epoch,
            peer,
            suspended,
            alone: role == Role::Primary
                && (hub.away().is_some() || control::failover::opens_alone(state, hub)),
        })
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

/// Performs the engine's outputs.
struct EngineOutside {
    words: Arc<Words>,
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
        let word = matches!(message, Message::Word { .. });
        if let Message::Word { at, word } = &message {
            self.words.heard(*at, word.clone());
        }
        let class = if message.is_bulk() {
            Class::Bulk
        } else {
            Class::Control
        };
        self.links
            .cast(to, class, peer::encode(peer::CAST, &Cast::Engine(message)))
            .is_ok()
            // A word that is not sent breaks no stream: the next one says all of it again.
            || word
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
