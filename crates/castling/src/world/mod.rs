//! Running nodes: `castling up` puts a whole small world into one process, `castling region` and `castling witness` run one node
//! each. Everything but the machine boundary is the same: each node has its own folder, address, listeners and links.

mod activity_file;
mod adapters;
pub mod administrator;
pub mod castling_toml;
pub mod deployment;
mod devices;
mod drain;
mod gateway_backend;
mod listeners;
mod metrics;
pub mod node;
pub mod node_files;
pub mod operator;
mod ports;
mod signing;
pub mod status;
pub mod storage_key;
pub mod up_file;

pub use ports::Ports;

use administrator::{Administrator, FirstSignIn};
use control::model::{self, DeploymentLimits, FailoverPolicy, Principal, Subscription};
use deployment::Deployment;
use link::pki::{Authority, Purpose, ensure_secret};
use link::tickets::SharedTickets;
use node::{Certificates, Node, NodeConfig, Wanted};
use region::lease::LeaseTimes;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use types::RegionName;
use types::regions::Catalogue;
use up_file::UpFile;

/// What `up` was asked for.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    pub data: PathBuf,
    pub regions: Vec<RegionName>,
    /// Address of the first region; the others take the ones after it.
    pub bind: IpAddr,
    pub ports: Ports,
    pub policy: FailoverPolicy,
    pub limits: DeploymentLimits,
    pub domain: String,
    pub catalogue: Arc<Catalogue>,
}

/// A running world.
pub struct World {
    pub up: UpFile,
    /// The first user, if this start made it.
    pub first_sign_in: Option<FirstSignIn>,
    nodes: Vec<Node>,
    /// Keeps a second process out of the folder.
    _lock: std::fs::File,
}

struct Secrets {
    clients: Authority,
    regions: Authority,
    tickets: Arc<SharedTickets>,
    storage: consensus::StorageKey,
}

impl World {
    /// Starts every region and its listeners, and writes `up.json`.
    ///
    /// # Errors
    /// With a sentence for the operator.
    pub async fn start(config: WorldConfig) -> Result<World, String> {
        in_catalogue(&config.regions, &config.catalogue)?;
        deployment::private_folder(&config.data)?;
        let lock = lock(&config.data)?;
        let mut deployment =
            Deployment::load_or_make(&config.data, &config.regions, &config.domain)?;
        let first_sign_in = first_user(&mut deployment, &config).await?;
        let secrets = secrets(&config.data)?;
        let addresses = ports::addresses(config.bind, config.regions.len())?;
        let mut nodes = start_nodes(&config, &deployment, &secrets, &addresses).await?;
        for node in &nodes {
            wait_until(node, || node.ready()).await?;
        }
        if let Some(first) = nodes.first() {
            first.deploy().await?;
        }
        for node in &nodes {
            wait_until(node, || node.part.manages()).await?;
        }
        if !deployment.founded {
            deployment.founded = true;
            deployment.save(&config.data)?;
        }
        let mut up_regions = Vec::new();
        let mut notes = Vec::new();
        for node in &mut nodes {
            up_regions.extend(node.serve(&mut notes).await?);
        }
        for node in &nodes {
            node.tell_reached(&up_regions);
        }
        notes.dedup();
        let up = UpFile::new(&config, &deployment, up_regions, notes);
        up.write(&config.data)?;
        Ok(World {
            up,
            first_sign_in,
            nodes,
            _lock: lock,
        })
    }

    /// Closes listeners and regions; everything acknowledged is on disk.
    pub async fn stop(self) {
        let mut stopping = tokio::task::JoinSet::new();
        for node in self.nodes {
            stopping.spawn(node.stop());
        }
        while stopping.join_next().await.is_some() {}
    }
}

/// # Errors
/// Names the first region that the catalogue does not have.
pub fn in_catalogue(regions: &[RegionName], catalogue: &Catalogue) -> Result<(), String> {
    match regions
        .iter()
        .find(|region| catalogue.get(region).is_none())
    {
        Some(region) => Err(format!("region `{region}` is not in the catalogue")),
        None => Ok(()),
    }
}

/// Keeps a second process out of a folder, as long as the file is held.
///
/// # Errors
/// When another process has it.
pub fn lock(folder: &Path) -> Result<std::fs::File, String> {
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(format!(
            "another castling is using {}; stop it first, or choose another folder",
            folder.display()
        )),
    }
}

fn secrets(folder: &Path) -> Result<Secrets, String> {
    let now = SystemTime::now();
    let pki = folder.join("pki");
    let clients = Authority::load_or_make(&pki.join("clients"), Purpose::Clients, now)
        .map_err(|error| error.to_string())?;
    let regions = Authority::load_or_make(&pki.join("regions"), Purpose::Regions, now)
        .map_err(|error| error.to_string())?;
    let secret = ensure_secret(&pki.join("tickets.key")).map_err(|error| error.to_string())?;
    let storage = storage_key::load_or_make(&pki.join("storage.key"))?;
    Ok(Secrets {
        clients,
        regions,
        tickets: SharedTickets::with_system_clock(&secret),
        storage,
    })
}

async fn start_nodes(
    config: &WorldConfig,
    deployment: &Deployment,
    secrets: &Secrets,
    addresses: &[IpAddr],
) -> Result<Vec<Node>, String> {
    let mut listeners = Vec::new();
    let mut links = BTreeMap::new();
    for (region, address) in config.regions.iter().zip(addresses) {
        let listener = TcpListener::bind(SocketAddr::new(*address, 0))
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        links.insert(region.clone(), bound.to_string());
        listeners.push((region.clone(), *address, listener));
    }
    let mut nodes = Vec::new();
    for (me, address, link_listener) in listeners {
        let mut peers = links.clone();
        peers.remove(&me);
        let node = NodeConfig {
            folder: config.data.join("regions").join(me.as_str()),
            nodes: config.regions.clone(),
            witnesses: Vec::new(),
            deployment: deployment.id.clone(),
            peers,
            link_listener,
            address,
            ports: config.ports.clone(),
            certificates: certificates(config, secrets, &me, address)?,
            tickets: secrets.tickets.clone(),
            storage_key: secrets.storage.clone(),
            wanted: wanted(config, deployment),
            catalogue: config.catalogue.clone(),
            lease_times: LeaseTimes::default(),
            control_times: consensus::Times::default(),
            me,
        };
        nodes.push(Node::start(node).await?);
    }
    Ok(nodes)
}

fn certificates(
    config: &WorldConfig,
    secrets: &Secrets,
    region: &RegionName,
    address: IpAddr,
) -> Result<Certificates, String> {
    let now = SystemTime::now();
    let leaves = config.data.join("pki").join("leaves");
    let say = |error: link::pki::PkiError| error.to_string();
    let names = certificate_names(region, &config.domain, &address.to_string());
    let link = secrets.regions.ensure_region(&leaves, region, now);
    let stem = format!("{region}-server");
    let server = secrets.clients.ensure_server(&leaves, &stem, &names, now);
    Ok(Certificates {
        link: link.map_err(say)?,
        authorities: Arc::new(secrets.regions.roots().map_err(say)?),
        server: server.map_err(say)?,
    })
}

fn wanted(config: &WorldConfig, deployment: &Deployment) -> Wanted {
    let principal = Principal {
        client_id: deployment.client_id.clone(),
        object_id: deployment.object_id.clone(),
        secret_sha256: salted(&deployment.secret_salt, &deployment.client_secret),
        salt: deployment.secret_salt.clone(),
    };
    Wanted {
        deployment: model::Deployment {
            tenant: deployment.tenant.clone(),
            domain: config.domain.clone(),
            regions: config.regions.clone(),
            policy: config.policy,
            principals: vec![principal],
            administrator: deployment.administrator.as_ref().map(Administrator::told),
            limits: config.limits,
        },
        subscription: Subscription {
            id: deployment.subscription.clone(),
            display_name: "Castling".into(),
        },
    }
}

/// Makes the first user where none was made yet. Its hash is kept before anything else: a start that is cut short must not make
/// another one, whose password nobody could tell from the first one's.
async fn first_user(
    deployment: &mut Deployment,
    config: &WorldConfig,
) -> Result<Option<FirstSignIn>, String> {
    if deployment.administrator.is_some() {
        return Ok(None);
    }
    let domain = config.domain.clone();
    let made = tokio::task::spawn_blocking(move || Administrator::make(&domain)).await;
    let (administrator, told) = made.map_err(|error| error.to_string())??;
    deployment.administrator = Some(administrator);
    deployment.save(&config.data)?;
    Ok(Some(told))
}

async fn wait_until(node: &Node, there: impl Fn() -> bool) -> Result<(), String> {
    for _ in 0..600 {
        if there() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!(
        "region {} is not ready after 30 s: {}",
        node.part.me(),
        node.part.waiting()
    ))
}

/// SHA-256 of salt and secret, as hex: what is kept of a secret.
pub fn salted(salt: &str, secret: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{salt}{secret}").as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The names that a node's server certificate is for; `address` is how clients reach it, an address or a name.
pub fn certificate_names(node: &RegionName, domain: &str, address: &str) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        domain.to_owned(),
        format!("*.{domain}"),
        format!("{node}.region.{domain}"),
        "127.0.0.1".into(),
        "::1".into(),
    ];
    let unspecified = address
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified());
    if !unspecified && !names.iter().any(|name| name == address) {
        names.push(address.to_owned());
    }
    names
}
