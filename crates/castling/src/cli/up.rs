//! `castling up`.

use super::config_file::ConfigFile;
use super::failure::Failure;
use super::out::Out;
use super::settings::{Regions, Settings};
use super::stop::Signals;
use super::{DATA_DEFAULT, Global};
use crate::world::administrator::FirstSignIn;
use crate::world::castling_toml::LOG_DEFAULT;
use crate::world::up_file::UpFile;
use crate::world::{Ports, World, WorldConfig};
use control::model::{DeploymentLimits, FailoverPolicy};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::RegionName;
use types::regions::Catalogue;

const REGIONS_DEFAULT: [&str; 4] = ["westus2", "westcentralus", "eastus", "westus"];
const DOMAIN_DEFAULT: &str = "castling.localhost";
const MQTT_PORT: u16 = 8883;
const MANAGEMENT_PORT: u16 = 8444;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  castling up
  castling up --data ./world --failover-cooldown 0s        fail over as often as you like
  castling up --regions westus2,westcentralus --https-port 8443
  castling up --config world.conf                          lines such as `mqtt-port = 8883`

Keys, certificates and all data stay in the data folder. Stop it with Ctrl-C and start it again: nothing is lost.")]
pub struct Up {
    /// Settings as lines of `key = value`, named as the flags here (also `data`); flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub fn run(up: &Up, global: &Global, out: &Out) -> Result<(), Failure> {
    let file = match &up.config {
        Some(path) => ConfigFile::read(path).map_err(Failure::Usage)?,
        None => ConfigFile::default(),
    };
    let data = global
        .data
        .clone()
        .or(file.data)
        .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
    let settings = up.settings.clone().or(file.settings);
    log_to_stderr(settings.log.as_deref().unwrap_or(LOG_DEFAULT))?;
    raise_open_files();
    let config = world_config(data, settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(config, out))
}

async fn serve(config: WorldConfig, out: &Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let data = config.data.clone();
    let world = tokio::select! {
        started = World::start(config) => started?,
        // Nothing was promised to anyone yet.
        () = signals.received() => return Ok(()),
    };
    let announced = announce(&world.up, world.first_sign_in.as_ref(), &data, out);
    if announced.is_ok() || announced == Err(Failure::OutputClosed) {
        signals.received().await;
    }
    eprintln!("stopping");
    // Whoever waits for the file waits for a world that runs. It goes first: afterwards it may be another world's.
    let up_file = data.join("up.json");
    let removed = std::fs::remove_file(&up_file)
        .map_err(|error| Failure::Failed(format!("{}: {error}", up_file.display())));
    world.stop().await;
    announced.and(removed)
}

fn world_config(data: PathBuf, settings: Settings) -> Result<WorldConfig, Failure> {
    let catalogue = catalogue_or_builtin(settings.catalogue.as_deref())?;
    let default_policy = FailoverPolicy::default();
    let usual = DeploymentLimits::default();
    Ok(WorldConfig {
        data,
        regions: settings
            .regions
            .map_or_else(default_regions, |Regions(names)| names),
        bind: settings.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ports: Ports {
            https: settings.https_port,
            mqtt: settings.mqtt_port.unwrap_or(MQTT_PORT),
            management: settings.management_port.unwrap_or(MANAGEMENT_PORT),
            plain_mqtt: settings.plain_mqtt_port,
        },
        policy: FailoverPolicy {
            cooldown_ms: settings
                .failover_cooldown
                .unwrap_or(default_policy.cooldown_ms),
            per_day: settings.failovers_per_day.unwrap_or(default_policy.per_day),
            second_approver: settings
                .second_approver
                .unwrap_or(default_policy.second_approver),
        },
        limits: DeploymentLimits {
            hubs_per_subscription: settings
                .hubs_per_subscription
                .unwrap_or(usual.hubs_per_subscription),
            reads_per_minute: settings
                .requests_per_minute
                .unwrap_or(usual.reads_per_minute),
            writes_per_minute: settings
                .requests_per_minute
                .map_or(usual.writes_per_minute, |reads| reads.div_ceil(4)),
            // A world on one machine: so are its blob stores.
            private_containers: true,
        },
        domain: settings.domain.unwrap_or_else(|| DOMAIN_DEFAULT.to_owned()),
        catalogue: Arc::new(catalogue),
    })
}

fn default_regions() -> Vec<RegionName> {
    REGIONS_DEFAULT
        .iter()
        .map(|name| RegionName::parse(name).expect("a test parses the default regions"))
        .collect()
}

/// The catalogue in a file, else the built-in one.
///
/// # Errors
/// All mistakes of the file, each with its line.
pub fn catalogue_or_builtin(path: Option<&Path>) -> Result<Catalogue, Failure> {
    path.map_or_else(|| Ok(Catalogue::builtin()), catalogue)
}

fn catalogue(path: &Path) -> Result<Catalogue, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    Catalogue::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors
            .0
            .iter()
            .map(|(line, why)| format!("{}:{line}: {why}", path.display()))
            .collect();
        Failure::Usage(lines.join("\n"))
    })
}

pub fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::Usage(format!("--log: {error}")))?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init()
        .map_err(Failure::failed)
}

/// Each connection is an open file: take as many as the system grants.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: now.maximum,
            maximum: now.maximum,
        },
    ) {
        tracing::warn!(%error, "the number of open files stays at {:?}", now.current);
    }
}

fn announce(
    up: &UpFile,
    first: Option<&FirstSignIn>,
    data: &Path,
    out: &Out,
) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(&json!({
            "managementUrl": up.management_url, "caFile": up.ca_file, "tenant": up.tenant, "subscription": up.subscription,
            "clientId": up.client_id, "domain": up.domain, "regions": up.regions, "notes": up.notes,
            "administrator": first.map(|first| json!({ "name": first.name, "password": first.password })),
        }));
    }
    out.line(format!(
        "Castling is up: {} regions, data in {}\n",
        up.regions.len(),
        data.display()
    ))?;
    let rows: Vec<_> = up
        .regions
        .iter()
        .map(|region| {
            let ports = [region.https_port, region.mqtt_port, region.management_port]
                .map(|port| port.to_string().into());
            [region.name.clone().into(), region.address.clone().into()]
                .into_iter()
                .chain(ports)
                .collect()
        })
        .collect();
    out.table(&["region", "address", "https", "mqtt", "management"], &rows)?;
    out.line("")?;
    let secret = format!(
        "{} (client secret: in {})",
        up.client_id,
        data.join("up.json").display()
    );
    out.pairs(&[
        ("Management API", up.management_url.clone()),
        ("Trust this CA", up.ca_file.clone()),
        ("Subscription", up.subscription.clone()),
        ("Tenant", up.tenant.clone()),
        ("Client id", secret),
    ])?;
    if let Some(first) = first {
        out.line("")?;
        out.pairs(&[
            ("Administrator", first.name.clone()),
            ("Password", first.password.clone()),
        ])?;
        out.line("The password is shown this once and kept nowhere.")?;
    }
    for note in &up.notes {
        out.line(format!("Note: {note}"))?;
    }
    out.line("\nTry, in another terminal:")?;
    for line in first_commands(up, data) {
        out.line(format!("  {line}"))?;
    }
    out.line("\nStop with Ctrl-C; nothing is lost.")
}

fn first_commands(up: &UpFile, data: &Path) -> Vec<String> {
    let location = up
        .regions
        .first()
        .map_or("westus2", |region| region.name.as_str());
    let mut lines = Vec::new();
    if data != Path::new(DATA_DEFAULT) {
        let path = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        lines.push(format!("export CASTLING_DATA='{}'", path.display()));
    }
    lines.push(format!("castling hub create my-hub --location {location}"));
    lines.push("castling events tail my-hub &".to_owned());
    lines.push("castling device simulate my-hub --devices 10 &".to_owned());
    lines.push("castling hub failover check my-hub".to_owned());
    lines.push("castling hub failover start my-hub".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_has_a_default() {
        let config = world_config("x".into(), Settings::default()).unwrap();
        assert_eq!(config.regions.len(), 4);
        assert!(
            config
                .regions
                .iter()
                .all(|region| config.catalogue.get(region).is_some())
        );
        assert_eq!(
            (
                config.ports.https,
                config.ports.mqtt,
                config.ports.management
            ),
            (None, 8883, 8444)
        );
        assert_eq!(config.policy, FailoverPolicy::default());
    }

    #[test]
    fn a_wrong_catalogue_is_named_with_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("regions.csv");
        std::fs::write(&path, "nonsense\n").unwrap();
        let Err(Failure::Usage(text)) = catalogue(&path) else {
            panic!("it was taken")
        };
        assert!(text.contains("regions.csv:1: "), "{text}");
    }
}
