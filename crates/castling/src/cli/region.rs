//! `castling region` and `castling witness`: one node in this process.

use super::Context;
use super::failure::Failure;
use super::management::Management;
use super::out::Out;
use super::stop::Signals;
use super::up;
use crate::world::administrator::Administrator;
use crate::world::castling_toml::Settings;
use crate::world::node::{Node, NodeConfig, Part, Wanted};
use crate::world::up_file::UpRegion;
use crate::world::{self, Ports, deployment, node_files};
use control::model::{self, Principal, Subscription};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use types::RegionName;
use ureq::http::Method;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const DEPLOY_AGAIN: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[command(after_help = "Example:
  castling region --config westus2/castling.toml

`castling init` makes the file and what it names. SIGHUP takes changed certificates at once; SIGTERM and Ctrl-C stop the node
in order. Nothing is lost by killing it either.")]
pub struct OneNode {
    /// The node's settings
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// A region as a process, or what an operator does to one.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RegionCommand {
    #[command(subcommand)]
    pub change: Option<Change>,
    /// The region's settings
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
pub enum Change {
    /// Have a region hand its devices over, before it is stopped
    #[command(after_help = "Example:
  castling region drain westus2 --rate 100     100 connections a second are asked to come again elsewhere
  castling region drain westus2 --stop         it keeps its devices and takes new ones again")]
    Drain {
        /// The region
        region: String,
        /// Connections it closes in a second
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        rate: u32,
        /// Keep devices and take new ones again
        #[arg(long, conflicts_with = "rate")]
        stop: bool,
    },
}

impl RegionCommand {
    /// The node to run.
    pub fn node(&self) -> OneNode {
        OneNode {
            config: self.config.clone().unwrap_or_default(),
        }
    }
}

/// Tells a deployment's regions something.
pub fn change(change: &Change, context: &Context) -> Result<(), Failure> {
    let Change::Drain { region, rate, stop } = change;
    let name = RegionName::parse(region)
        .map_err(|error| Failure::Usage(format!("`{region}`: {error}")))?;
    let rate = (!stop).then_some(*rate);
    let answer = Management::new(&context.network).call(
        Method::POST,
        &format!("/castling/regions/{name}/drain"),
        Some(&json!({ "ratePerSecond": rate })),
    )?;
    context.out.show(&answer.json()?, |out| match rate {
        Some(rate) => out.line(format!(
            "{name} asks {rate} connections a second to come again, and takes no new ones. `castling status` shows how many are left."
        )),
        None => out.line(format!("{name} keeps its devices and takes new ones again.")),
    })
}

/// Runs a node until it is told to stop. `witness`: the command was for a witness.
pub fn run(given: &OneNode, witness: bool, out: &Out) -> Result<(), Failure> {
    let settings = Settings::read(&given.config).map_err(Failure::Usage)?;
    if settings.is_witness() != witness {
        let verb = if witness { "region" } else { "witness" };
        return Err(Failure::Usage(format!(
            "{}: {} is a {verb}; start it with `castling {verb}`",
            given.config.display(),
            settings.node
        )));
    }
    up::log_to_stderr(&settings.log)?;
    up::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(settings, out))
}

async fn serve(settings: Settings, out: &Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    deployment::private_folder(&settings.folder)?;
    let lock = world::lock(&settings.folder)?;
    let mut node = Node::start(config(&settings).await?).await?;
    let fresh = watch::Sender::new(0_u64);
    tokio::spawn(node_files::keep_fresh(
        settings.files.clone(),
        node.part.clone(),
        node.shown.clone(),
        fresh.subscribe(),
    ));
    let part = node.part.clone();
    let mut outcome = tokio::select! {
        opened = open(&mut node, &settings, out) => opened,
        why = control_stopped(&part) => Err(why),
        () = signals.stop_or_hang_up(&fresh) => {
            eprintln!("stopping");
            node.stop().await;
            return Ok(());
        }
    };
    if outcome.is_ok() || outcome == Err(Failure::OutputClosed) {
        tokio::select! {
            () = signals.stop_or_hang_up(&fresh) => {}
            why = control_stopped(&part) => outcome = Err(why),
        }
    }
    eprintln!("stopping");
    node.stop().await;
    drop(lock);
    outcome
}

/// Waits until the control plane's member has stopped for good, because its disk failed or is full. Without it the node can
/// neither vote nor renew its lease: it ends with the reason, and whoever runs it starts it again.
async fn control_stopped(part: &Part) -> Failure {
    loop {
        if let Some(why) = part.plane().consensus().status().failed {
            return Failure::Failed(format!(
                "the control plane's store cannot be written any more, so {} ends; start it again once its disk works and has room: {why}",
                part.me()
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the node is ready, and lets clients in.
async fn open(node: &mut Node, settings: &Settings, out: &Out) -> Result<(), Failure> {
    let mut said = String::new();
    while !node.ready() {
        let why = node.part.waiting();
        if why != said {
            eprintln!("{}: {why}", settings.node);
            said = why;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    while let Err(why) = node.tell_recovered().await {
        eprintln!("{}: {why}", settings.node);
        tokio::time::sleep(DEPLOY_AGAIN).await;
    }
    if !settings.is_witness() {
        while let Err(why) = node.deploy().await {
            eprintln!("{}: {why}", settings.node);
            tokio::time::sleep(DEPLOY_AGAIN).await;
        }
    }
    let mut notes = Vec::new();
    let opened = node.serve(&mut notes).await?;
    node.tell_reached(&reached(settings));
    if out.is_json() {
        return out.json(&json!({
            "node": settings.node.as_str(), "ready": true, "listening": opened, "notes": notes,
        }));
    }
    for note in &notes {
        out.line(format!("Note: {note}"))?;
    }
    match opened {
        Some(region) => out.line(format!(
            "{} is ready at {}: HTTPS {}, MQTT {}, management {}",
            region.name,
            region.address,
            region.https_port,
            region.mqtt_port,
            region.management_port
        )),
        None => out.line(format!("{} is ready", settings.node)),
    }
}

/// Where regions are, as the operator laid them down: at the hosts of their links, with the same ports everywhere.
fn reached(settings: &Settings) -> Vec<UpRegion> {
    let listen = &settings.listen;
    let regions = settings.nodes.iter().filter(|node| !node.witness);
    regions
        .map(|node| {
            let host = node.link.rsplit_once(':').map_or("", |(host, _)| host);
            UpRegion {
                name: node.name.to_string(),
                address: host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
                https_port: listen.https_port,
                mqtt_port: listen.mqtt_port,
                amqp_port: None,
                management_port: listen.management_port,
                plain_mqtt_port: listen.plain_mqtt_port,
            }
        })
        .collect()
}

async fn config(settings: &Settings) -> Result<NodeConfig, Failure> {
    node_files::all_there(settings)?;
    let catalogue = up::catalogue_or_builtin(settings.catalogue.as_deref())?;
    world::in_catalogue(&settings.regions(), &catalogue).map_err(Failure::Usage)?;
    let tickets = node_files::shared(settings)?;
    let listen = &settings.listen;
    let at = (listen.address, listen.link_port);
    let link_listener = TcpListener::bind(at).await.map_err(|error| {
        Failure::Failed(format!(
            "{}:{}: {error} (listen.link_port in castling.toml)",
            at.0, at.1
        ))
    })?;
    Ok(NodeConfig {
        me: settings.node.clone(),
        nodes: settings.names(),
        witnesses: settings.witnesses(),
        folder: settings.folder.clone(),
        deployment: settings.deployment.id.clone(),
        peers: settings.peers(),
        link_listener,
        address: listen.address,
        ports: Ports {
            https: Some(listen.https_port),
            mqtt: listen.mqtt_port,
            management: listen.management_port,
            plain_mqtt: listen.plain_mqtt_port,
        },
        certificates: node_files::certificates(&settings.files)?,
        tickets,
        storage_key: node_files::storage(settings)?,
        wanted: wanted(settings),
        catalogue: Arc::new(catalogue),
        lease_times: settings.lease_times,
        control_times: settings.control_times,
    })
}

fn wanted(settings: &Settings) -> Wanted {
    let told = &settings.deployment;
    let principal = Principal {
        client_id: told.client_id.clone(),
        object_id: told.object_id.clone(),
        secret_sha256: told.secret_sha256.clone(),
        salt: told.secret_salt.clone(),
    };
    Wanted {
        deployment: model::Deployment {
            tenant: told.tenant.clone(),
            domain: told.domain.clone(),
            regions: settings.regions(),
            policy: settings.policy,
            principals: vec![principal],
            administrator: settings.administrator.as_ref().map(Administrator::told),
            limits: Default::default(),
        },
        subscription: Subscription {
            id: told.subscription.clone(),
            display_name: "Castling".into(),
        },
    }
}

/// The settings of a node that does not run, with its folder kept from being used meanwhile.
///
/// # Errors
/// When it runs, or the settings cannot be read.
pub fn stopped(config: &Path) -> Result<(Settings, std::fs::File), Failure> {
    let settings = Settings::read(config).map_err(Failure::Usage)?;
    if !settings.folder.exists() {
        return Err(Failure::Failed(format!(
            "{} does not exist: this node never ran, or was wiped",
            settings.folder.display()
        )));
    }
    let lock = world::lock(&settings.folder)?;
    Ok((settings, lock))
}
