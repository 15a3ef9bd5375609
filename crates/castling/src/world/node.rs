//! One node of a deployment: a region with its gateways and management API, or a witness. `castling up` runs several in one
//! process, `castling region` and `castling witness` one each.

use super::listeners::{self, Gateways};
use super::ports::Ports;
use super::status;
use super::up_file::UpRegion;
use super::{activity_file, adapters, deployment, drain, metrics, signing};
use arm::backend::RegionAddress;
use arm::tokens::TokenAuthority;
use axum::middleware;
use control::Command;
use control::model::{self, Subscription};
use link::LinkConfig;
use link::pki::Identity;
use link::tickets::SharedTickets;
use link::tls::Shown;
use region::clock::SystemClock;
use region::lease::LeaseTimes;
use region::{Plane, Region, RegionConfig, Witness, WitnessConfig};
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use types::RegionName;
use types::regions::Catalogue;

/// In a node's folder: it was made the only voter by `castling recover`, and the control plane was not told yet.
pub const RECOVERED: &str = "recovered.json";

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Recovered {
    pub term: u64,
    /// The other nodes.
    pub lost: Vec<String>,
}

/// Everything a node needs to start.
pub struct NodeConfig {
    pub me: RegionName,
    /// All nodes of the deployment, in the order of their numbers: never reordered.
    pub nodes: Vec<RegionName>,
    /// Those among them that hold no hubs.
    pub witnesses: Vec<RegionName>,
    /// The node's own folder.
    pub folder: PathBuf,
    /// Keeps two deployments apart on their links.
    pub deployment: String,
    /// Where the other nodes' links are, `HOST:PORT`.
    pub peers: BTreeMap<RegionName, String>,
    pub link_listener: TcpListener,
    pub address: IpAddr,
    pub ports: Ports,
    pub certificates: Certificates,
    pub tickets: Arc<SharedTickets>,
    /// Seals what the control plane stores in the folder.
    pub storage_key: consensus::StorageKey,
    pub wanted: Wanted,
    pub catalogue: Arc<Catalogue>,
    pub lease_times: LeaseTimes,
    pub control_times: consensus::Times,
}

/// What a node proves itself with; renewed while it runs.
#[derive(Clone)]
pub struct Certificates {
    pub link: Identity,
    /// The authorities whose nodes it links with.
    pub authorities: Arc<RootCertStore>,
    pub server: Identity,
}

/// What the control plane is told of the deployment.
#[derive(Clone)]
pub struct Wanted {
    pub deployment: model::Deployment,
    pub subscription: Subscription,
}

/// What a node is.
#[derive(Clone)]
pub enum Part {
    Region(Arc<Region>),
    Witness(Arc<Witness>),
}

impl Part {
    pub fn me(&self) -> &RegionName {
        match self {
            Part::Region(region) => &region.me,
            Part::Witness(witness) => &witness.me,
        }
    }

    pub fn plane(&self) -> &Arc<Plane> {
        match self {
            Part::Region(region) => &region.plane,
            Part::Witness(witness) => &witness.plane,
        }
    }

    pub fn links(&self) -> &link::Links {
        match self {
            Part::Region(region) => &region.links,
            Part::Witness(witness) => &witness.links,
        }
    }

    /// A region may serve; a witness follows a leader.
    pub fn ready(&self) -> bool {
        match self {
            Part::Region(region) => region.ready(),
            Part::Witness(witness) => witness.ready(),
        }
    }

    /// Ready, and a region holds its lease and has its listeners open.
    pub fn serves(&self) -> bool {
        match self {
            Part::Region(region) => {
                let open = region.gateway_listening.load(Ordering::Relaxed);
                region.ready() && region.holds_lease() && open
            }
            Part::Witness(witness) => witness.ready(),
        }
    }

    /// Ready, and the control plane knows its deployment and has a key that signs tokens: operators may sign in.
    pub fn manages(&self) -> bool {
        let deployed = |state: &control::State| {
            !state.deployment.tenant.is_empty() && !state.directory.keys.is_empty()
        };
        self.ready() && self.plane().with(deployed)
    }

    /// What it waits for before it serves.
    pub fn waiting(&self) -> String {
        let usual = match self.ready() {
            true if !self.manages() => "waiting for a key that signs tokens",
            true => "opening its listeners",
            false => "waiting for the control plane to have a leader",
        };
        self.plane().waiting().unwrap_or_else(|| usual.into())
    }
}

/// A running node.
pub struct Node {
    pub part: Part,
    pub shown: Arc<Shown>,
    management: Management,
    reached: adapters::Reached,
    config: Kept,
    servers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// What of the configuration is needed later.
struct Kept {
    folder: PathBuf,
    address: IpAddr,
    ports: Ports,
    tickets: Arc<SharedTickets>,
    wanted: Wanted,
}

struct Management {
    port: u16,
    figures: Arc<metrics::Gateway>,
}

impl Node {
    /// Opens the node's folder, joins the others and serves health and status; clients are served by [`Node::serve`].
    ///
    /// # Errors
    /// With a sentence for the operator.
    pub async fn start(config: NodeConfig) -> Result<Node, String> {
        let shown = Shown::new(&config.certificates.server).map_err(|error| error.to_string())?;
        let (listener, port) = listeners::management(config.address, &config.ports).await?;
        let kept = Kept {
            folder: config.folder.clone(),
            address: config.address,
            ports: config.ports.clone(),
            tickets: config.tickets.clone(),
            wanted: config.wanted.clone(),
        };
        deployment::private_folder(&config.folder)?;
        let activity = activity_file::ActivityFile::open(&config.folder)?;
        let part = part(config).await?;
        let mut node = Node {
            part,
            shown,
            management: Management {
                port,
                figures: Arc::default(),
            },
            reached: adapters::Reached::default(),
            config: kept,
            servers: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        let (plane, stop) = (node.part.plane().clone(), node.stop.subscribe());
        node.servers
            .spawn(activity_file::keep(activity, plane, stop));
        node.serve_management(listener)?;
        Ok(node)
    }

    fn serve_management(&mut self, listener: TcpListener) -> Result<(), String> {
        let tls = listeners::tls(&self.shown, &self.config.tickets, link::tls::ALPN_HTTP)?;
        let health = metrics::router(self.part.clone(), self.management.figures.clone())
            .merge(status::router(self.part.clone()));
        let router = match &self.part {
            Part::Witness(_) => health,
            Part::Region(region) => {
                let tokens = TokenAuthority::new();
                let clock = region.clock.clone();
                let mut stopped = self.stop.subscribe();
                let keys = signing::keep_key(region.plane.clone(), move || clock.now());
                self.servers.spawn(async move {
                    tokio::select! {
                        () = keys => {}
                        // The sender is gone only with the node.
                        _ = stopped.wait_for(|stop| *stop) => {}
                    }
                });
                let backend = Arc::new(adapters::ArmBackend::new(
                    region.clone(),
                    self.reached.clone(),
                ));
                let api = arm::router(backend, tokens.clone());
                listeners::when_ready(self.part.clone(), api)
                    .merge(drain::router(region.clone(), tokens))
                    .merge(health)
                    .layer(middleware::map_request(listeners::with_address))
            }
        };
        let stopped = self.stop.subscribe();
        self.servers
            .spawn(gateway::http::serve(listener, tls, router, stopped));
        Ok(())
    }

    /// Tells the control plane who runs here, under which policy, and who may sign in, unless it knows.
    ///
    /// # Errors
    /// When the control plane refuses it or does not answer.
    pub async fn deploy(&self) -> Result<(), String> {
        let Wanted {
            mut deployment,
            subscription,
        } = self.config.wanted.clone();
        let plane = self.part.plane();
        // Only the first start makes a user: one that was deleted stays so.
        if plane.with(|state| !state.directory.keys.is_empty()) {
            deployment.administrator = None;
        }
        let known = plane.with(|state| {
            let now = &state.deployment;
            let principals = deployment.principals.iter();
            (&now.domain, &now.regions, now.policy, now.limits)
                == (
                    &deployment.domain,
                    &deployment.regions,
                    deployment.policy,
                    deployment.limits,
                )
                && principals
                    .map(|wanted| &wanted.client_id)
                    .all(|id| now.principals.iter().any(|known| known.client_id == *id))
                && state.subscription(&subscription.id).is_some()
                && !state.directory.is_empty()
                && deployment.administrator.is_none()
        });
        if known {
            return Ok(());
        }
        let command = Command::Deploy {
            deployment,
            subscriptions: vec![subscription],
        };
        let by = format!("castling:{}", self.part.me());
        match plane.submit(&by, command).await {
            Ok(control::Answer::Refused(refusal)) => Err(format!(
                "the control plane refuses this deployment: {refusal}"
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the control plane does not answer: {}", error.why)),
        }
    }

    /// Tells the control plane, for its activity log, that this node was made its only voter, if it was.
    ///
    /// # Errors
    /// When the control plane does not answer, or the note cannot be read or removed.
    pub async fn tell_recovered(&self) -> Result<(), String> {
        let path = self.config.folder.join(RECOVERED);
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&error)),
        };
        let note: Recovered = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        let command = Command::Recovered {
            node: self.part.me().clone(),
            term: note.term,
        };
        let told = self.part.plane().submit("castling:recover", command).await;
        told.map_err(|error| format!("the control plane does not answer: {}", error.why))?;
        tracing::warn!(node = %self.part.me(), term = note.term, lost = ?note.lost, "this node was made the only voter of the control plane");
        std::fs::remove_file(&path).map_err(|error| failed(&error))
    }

    /// Opens a region's listeners for devices and services. A witness has none.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn serve(&mut self, notes: &mut Vec<String>) -> Result<Option<UpRegion>, String> {
        let Part::Region(region) = &self.part else {
            return Ok(None);
        };
        let gateways = Gateways {
            region: region.clone(),
            shown: self.shown.clone(),
            tickets: self.config.tickets.clone(),
            figures: self.management.figures.clone(),
            health: metrics::router(self.part.clone(), self.management.figures.clone()),
        };
        let stopped = self.stop.subscribe();
        let opened = gateways
            .open(
                self.config.address,
                &self.config.ports,
                &mut self.servers,
                &stopped,
                notes,
            )
            .await?;
        region.gateway_listening.store(true, Ordering::Relaxed);
        Ok(Some(UpRegion {
            name: region.me.to_string(),
            address: self.config.address.to_string(),
            https_port: opened.https,
            mqtt_port: opened.mqtt,
            amqp_port: None,
            management_port: self.management.port,
            plain_mqtt_port: opened.plain_mqtt,
        }))
    }

    pub fn ready(&self) -> bool {
        self.part.ready()
    }

    /// What the management API says of where regions are reached; the first word counts.
    pub fn tell_reached(&self, regions: &[UpRegion]) {
        let known = regions.iter().filter_map(|region| {
            Some(RegionAddress {
                name: RegionName::parse(&region.name).ok()?,
                address: region.address.clone(),
                https_port: region.https_port,
                mqtt_port: region.mqtt_port,
                plain_mqtt_port: region.plain_mqtt_port,
                management_port: region.management_port,
            })
        });
        if self.reached.set(known.collect()).is_err() {
            tracing::debug!("where regions are reached was told before");
        }
    }

    /// Closes listeners, then the node; everything acknowledged is on disk.
    pub async fn stop(mut self) {
        // Nobody may be left to hear it: then nothing is left to stop.
        let _ = self.stop.send(true);
        while self.servers.join_next().await.is_some() {}
        match &self.part {
            Part::Region(region) => region.stop().await,
            Part::Witness(witness) => witness.stop().await,
        }
    }
}

/// Takes new certificates, for connections made from now on.
///
/// # Errors
/// When one of them cannot be used; what could be used is.
pub fn renew(part: &Part, shown: &Shown, new: &Certificates) -> Result<(), String> {
    let server = shown.replace(&new.server);
    part.links()
        .renew(&new.link, new.authorities.clone())
        .map_err(|error| error.to_string())?;
    if let Part::Region(region) = part {
        region.certificate_renewed(days_left(new));
    }
    server.map_err(|error| error.to_string())
}

/// Whole days until the first of a node's certificates ends.
pub fn days_left(certificates: &Certificates) -> i64 {
    let days = |identity: &Identity| {
        let end = identity.not_after().ok()?;
        let left = end.duration_since(SystemTime::now()).ok()?;
        Some((left.as_secs() / 86_400) as i64)
    };
    let both = [&certificates.link, &certificates.server];
    both.into_iter()
        .map(|identity| days(identity).unwrap_or(0))
        .min()
        .unwrap_or(0)
}

async fn part(config: NodeConfig) -> Result<Part, String> {
    let listen = config
        .link_listener
        .local_addr()
        .map_err(|error| error.to_string())?;
    let certificate_days = days_left(&config.certificates);
    let link = LinkConfig {
        me: config.me.clone(),
        listen,
        peers: config.peers,
        identity: config.certificates.link,
        roots: config.certificates.authorities,
        deployment: config.deployment,
        speaks: region::speaks(),
    };
    if config.witnesses.contains(&config.me) {
        let witness = WitnessConfig {
            me: config.me,
            nodes: config.nodes,
            witnesses: config.witnesses,
            folder: config.folder,
            link,
            link_listener: config.link_listener,
            clock: Arc::new(SystemClock),
            times: config.control_times,
            storage_key: Some(config.storage_key),
        };
        let started = Witness::start(witness).await;
        return started
            .map(Part::Witness)
            .map_err(|error| error.to_string());
    }
    let region = RegionConfig {
        me: config.me,
        nodes: config.nodes,
        witnesses: config.witnesses,
        folder: config.folder,
        store: store::Options::default(),
        link,
        link_listener: config.link_listener,
        catalogue: config.catalogue,
        clock: Arc::new(SystemClock),
        certificate_days,
        times: config.lease_times,
        control_times: config.control_times,
        storage_key: Some(config.storage_key),
    };
    let started = Region::start(region).await;
    started.map(Part::Region).map_err(|error| error.to_string())
}
