//! `castling up`: a whole small world in one process. Everything but the machine boundary is real: each region has its own data
//! folder, its own loopback address, its own listeners and links.

mod adapters;
pub mod deployment;
mod gateway_backend;
mod metrics;
mod ports;
pub mod up_file;

pub use ports::Ports;

use control::Command;
use control::model::{self, FailoverPolicy, Principal, Subscription};
use deployment::Deployment;
use link::LinkConfig;
use link::pki::{Authority, Identity, Purpose, ensure_secret};
use link::tickets::SharedTickets;
use region::clock::SystemClock;
use region::{Region, RegionConfig};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use types::RegionName;
use types::regions::Catalogue;
use up_file::{UpFile, UpRegion};

/// What `up` was asked for.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    pub data: PathBuf,
    pub regions: Vec<RegionName>,
    /// Address of the first region; the others take the ones after it.
    pub bind: IpAddr,
    pub ports: Ports,
    pub policy: FailoverPolicy,
    pub domain: String,
    pub catalogue: Arc<Catalogue>,
}

/// A running world.
pub struct World {
    pub up: UpFile,
    regions: Vec<Arc<Region>>,
    servers: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// Keeps a second process out of the folder.
    _lock: std::fs::File,
}

struct Secrets {
    clients: Authority,
    regions: Authority,
    tickets: Arc<SharedTickets>,
    tokens: Arc<arm::tokens::TokenAuthority>,
}

impl World {
    /// Starts every region and its listeners, and writes `up.json`.
    ///
    /// # Errors
    /// With a sentence for the operator.
    pub async fn start(config: WorldConfig) -> Result<World, String> {
        for region in &config.regions {
            if config.catalogue.get(region).is_none() {
                return Err(format!("region `{region}` is not in the catalogue"));
            }
        }
        deployment::private_folder(&config.data)?;
        let lock = lock(&config.data)?;
        let mut deployment =
            Deployment::load_or_make(&config.data, &config.regions, &config.domain)?;
        let secrets = secrets(&config.data)?;
        let addresses = ports::addresses(config.bind, config.regions.len())?;
        let regions = start_regions(&config, &deployment, &secrets, &addresses).await?;
        for region in &regions {
            wait_ready(region).await?;
        }
        deploy(&config, &deployment, &regions[0]).await?;
        if !deployment.founded {
            deployment.founded = true;
            deployment.save(&config.data)?;
        }
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let mut up_regions = Vec::new();
        let mut notes = Vec::new();
        for (region, address) in regions.iter().zip(&addresses) {
            let open = serve_region(
                &config,
                &secrets,
                region,
                *address,
                &mut servers,
                &stopped,
                &mut notes,
            )
            .await?;
            region.gateway_listening.store(true, Ordering::Relaxed);
            up_regions.push(open);
        }
        notes.dedup();
        let up = UpFile::new(&config, &deployment, up_regions, notes);
        up.write(&config.data)?;
        Ok(World {
            up,
            regions,
            servers,
            stop,
            _lock: lock,
        })
    }

    /// Closes listeners and regions; everything acknowledged is on disk.
    pub async fn stop(mut self) {
        // Nobody may be left to hear it: then nothing is left to stop.
        let _ = self.stop.send(true);
        while self.servers.join_next().await.is_some() {}
        for region in &self.regions {
            region.stop().await;
        }
    }
}

fn lock(folder: &Path) -> Result<std::fs::File, String> {
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
            "another castling is using {}; stop it first, or choose another folder with --data",
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
    let tokens = arm::tokens::TokenAuthority::load_or_make(&pki.join("tokens.key"))?;
    Ok(Secrets {
        clients,
        regions,
        tickets: SharedTickets::with_system_clock(&secret),
        tokens,
    })
}

async fn start_regions(
    config: &WorldConfig,
    deployment: &Deployment,
    secrets: &Secrets,
    addresses: &[IpAddr],
) -> Result<Vec<Arc<Region>>, String> {
    let mut listeners = Vec::new();
    let mut link_addresses = BTreeMap::new();
    for (region, address) in config.regions.iter().zip(addresses) {
        let listener = TcpListener::bind(SocketAddr::new(*address, 0))
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        link_addresses.insert(
            region.clone(),
            listener.local_addr().map_err(|error| error.to_string())?,
        );
        listeners.push(listener);
    }
    let roots = Arc::new(secrets.regions.roots().map_err(|error| error.to_string())?);
    let mut regions = Vec::new();
    for (at, link_listener) in listeners.into_iter().enumerate() {
        let me = config.regions[at].clone();
        let folder = config.data.join("regions").join(me.as_str());
        let pki = config.data.join("pki").join("leaves");
        let identity = secrets
            .regions
            .ensure_region(&pki, &me, SystemTime::now())
            .map_err(|error| error.to_string())?;
        let mut peers = link_addresses.clone();
        peers.remove(&me);
        let certificate_days = days_left(&identity);
        let link = LinkConfig {
            me: me.clone(),
            listen: link_addresses[&me],
            peers,
            identity,
            roots: roots.clone(),
            deployment: deployment.id.clone(),
        };
        let region = RegionConfig {
            nodes: config.regions.clone(),
            me,
            folder,
            store: store::Options::default(),
            link,
            link_listener,
            catalogue: config.catalogue.clone(),
            clock: Arc::new(SystemClock),
            found: !deployment.founded && at == 0,
            certificate_days,
        };
        regions.push(
            Region::start(region)
                .await
                .map_err(|error| error.to_string())?,
        );
    }
    Ok(regions)
}

fn days_left(identity: &Identity) -> i64 {
    let until = identity
        .not_after()
        .ok()
        .and_then(|end| end.duration_since(SystemTime::now()).ok());
    until.map_or(0, |left| (left.as_secs() / 86_400) as i64)
}

async fn wait_ready(region: &Arc<Region>) -> Result<(), String> {
    for _ in 0..600 {
        if region.ready() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!(
        "region {} did not find a leader of the control plane within 30 s",
        region.me
    ))
}

/// Tells the control plane who runs here, under which policy, and who may sign in.
async fn deploy(
    config: &WorldConfig,
    deployment: &Deployment,
    region: &Arc<Region>,
) -> Result<(), String> {
    let principal = Principal {
        client_id: deployment.client_id.clone(),
        object_id: deployment.object_id.clone(),
        secret_sha256: salted(&deployment.secret_salt, &deployment.client_secret),
        salt: deployment.secret_salt.clone(),
    };
    let wanted = model::Deployment {
        tenant: deployment.tenant.clone(),
        domain: config.domain.clone(),
        regions: config.regions.clone(),
        policy: config.policy,
        principals: vec![principal],
    };
    let subscription = Subscription {
        id: deployment.subscription.clone(),
        display_name: "Castling".into(),
    };
    let command = Command::Deploy {
        deployment: wanted,
        subscriptions: vec![subscription],
    };
    match region.plane.submit("castling:up", command).await {
        Ok(control::Answer::Refused(refusal)) => Err(format!(
            "the control plane refuses this deployment: {refusal}"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the control plane does not answer: {}", error.why)),
    }
}

fn salted(salt: &str, secret: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{salt}{secret}").as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Opens one region's listeners for devices, services and operators.
async fn serve_region(
    config: &WorldConfig,
    secrets: &Secrets,
    region: &Arc<Region>,
    address: IpAddr,
    servers: &mut JoinSet<()>,
    stopped: &watch::Receiver<bool>,
    notes: &mut Vec<String>,
) -> Result<UpRegion, String> {
    let names = certificate_names(config, region, address);
    let pki = config.data.join("pki").join("leaves");
    let stem = format!("{}-server", region.me);
    let identity = secrets
        .clients
        .ensure_server(&pki, &stem, &names, SystemTime::now())
        .map_err(|error| error.to_string())?;
    let tls = |alpn: &[&[u8]]| {
        link::tls::server_config(&identity, secrets.tickets.clone(), alpn, None)
            .map_err(|error| error.to_string())
    };
    let (mqtt_tls, http_tls) = (tls(&[])?, tls(link::tls::ALPN_HTTP)?);

    let backend = Arc::new(gateway_backend::GatewayBackend::new(region.clone()));
    let mqtt_metrics = Arc::new(gateway::mqtt::Metrics::default());
    let http_metrics = Arc::new(gateway::http::Metrics::default());
    let opened = ports::open(address, &config.ports, notes).await?;

    servers.spawn(gateway::mqtt::serve(
        opened.mqtt,
        Some(mqtt_tls),
        backend.clone(),
        mqtt_metrics.clone(),
        stopped.clone(),
    ));
    if let Some(plain) = opened.plain_mqtt {
        servers.spawn(gateway::mqtt::serve(
            plain,
            None,
            backend.clone(),
            mqtt_metrics.clone(),
            stopped.clone(),
        ));
    }
    let health = metrics::router(region.clone(), mqtt_metrics, http_metrics.clone());
    let http =
        gateway::http::with_extra(gateway::http::router(backend, http_metrics), health.clone());
    servers.spawn(gateway::http::serve(
        opened.https,
        http_tls.clone(),
        http,
        stopped.clone(),
    ));
    let management = arm::router(
        Arc::new(adapters::ArmBackend::new(region.clone())),
        secrets.tokens.clone(),
    );
    servers.spawn(gateway::http::serve(
        opened.management,
        http_tls,
        management.merge(health),
        stopped.clone(),
    ));
    Ok(UpRegion {
        name: region.me.to_string(),
        address: address.to_string(),
        https_port: opened.https_port,
        mqtt_port: opened.mqtt_port,
        amqp_port: None,
        management_port: opened.management_port,
        plain_mqtt_port: opened.plain_mqtt_port,
    })
}

fn certificate_names(config: &WorldConfig, region: &Region, address: IpAddr) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        config.domain.clone(),
        format!("*.{}", config.domain),
        format!("{}.region.{}", region.me, config.domain),
        "127.0.0.1".into(),
        "::1".into(),
    ];
    let own = address.to_string();
    if !names.contains(&own) && !address.is_unspecified() {
        names.push(own);
    }
    names
}
