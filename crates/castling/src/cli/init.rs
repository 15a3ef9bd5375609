//! `castling init`: makes what the nodes of a deployment need.

use super::failure::Failure;
use super::out::Out;
use super::settings::{self, Regions};
use crate::world::castling_toml::{HTTPS_PORT, LINK_PORT, MANAGEMENT_PORT, MQTT_PORT};
use crate::world::operator::{Node, Operator, Plan, Ports};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use types::RegionName;

const DOMAIN_DEFAULT: &str = "castling.localhost";
const ADDRESS_CHARS_MAX: usize = 253;

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  castling init --regions westus2,westcentralus --witness witness --folder ./deployment
  castling init --regions westus2,westcentralus --witness witness --folder ./deployment \\
      --addresses a.example.org,b.example.org,w.example.org --domain hubs.example.org
  castling init renew --folder ./deployment             new certificates for all nodes

Then bring DIR/NODE to each node's machine and start it there: castling region --config NODE/castling.toml, or castling
witness for the witness. DIR/operator stays with the operator: castling --data DIR/operator hub list."
)]
pub struct Init {
    #[command(subcommand)]
    change: Option<Change>,
    /// Regions, in order, with commas
    #[arg(long, value_name = "NAMES", value_parser = settings::regions, required = true)]
    regions: Option<Regions>,
    /// A third vote without hubs, for two regions; its name
    #[arg(long, value_name = "NAME", value_parser = name)]
    witness: Option<RegionName>,
    /// Folder to make; must be new or empty
    #[arg(long, value_name = "DIR", required = true)]
    folder: Option<PathBuf>,
    /// Where each node is reached, regions first, with commas: names or addresses [default: 127.0.0.1, 127.0.0.2, …]
    #[arg(long, value_name = "HOSTS", value_parser = addresses)]
    addresses: Option<Addresses>,
    /// Hubs are named NAME.DOMAIN
    #[arg(long, value_name = "NAME", value_parser = settings::domain, default_value = DOMAIN_DEFAULT)]
    domain: String,
    /// Port of the links between nodes
    #[arg(long, value_name = "PORT", default_value_t = LINK_PORT)]
    link_port: u16,
    /// Port of the management API
    #[arg(long, value_name = "PORT", default_value_t = MANAGEMENT_PORT)]
    management_port: u16,
    /// Port of HTTPS for devices and services
    #[arg(long, value_name = "PORT", default_value_t = HTTPS_PORT)]
    https_port: u16,
    /// Port of MQTT over TLS
    #[arg(long, value_name = "PORT", default_value_t = MQTT_PORT)]
    mqtt_port: u16,
    /// Port of MQTT without TLS, on loopback addresses only [default: none]
    #[arg(long, value_name = "PORT")]
    plain_mqtt_port: Option<u16>,
    /// Time from the end of a failover to the next, such as 1h, 30s or 0s
    #[arg(long, value_name = "TIME", default_value = "1h")]
    failover_cooldown: String,
    /// Failovers a hub may make in 24 hours; failbacks are counted on their own
    #[arg(long, value_name = "COUNT", default_value_t = types::limits::FAILOVERS_PER_DAY)]
    failovers_per_day: u32,
    /// Have another person approve a failover before it begins
    #[arg(long)]
    second_approver: bool,
}

#[derive(clap::Subcommand)]
enum Change {
    /// Issue new certificates for all nodes; running nodes take changed files by themselves
    Renew {
        /// Folder that init made
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
    /// Make one node's folder anew, with its name and number: for a machine that is replaced
    Node {
        name: String,
        /// Folder that init made
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// Where it is reached from now on [default: as before]
        #[arg(long, value_name = "HOST", value_parser = address)]
        address: Option<String>,
    },
}

#[derive(Clone, Debug)]
struct Addresses(Vec<String>);

pub fn run(init: &Init, out: &Out) -> Result<(), Failure> {
    match &init.change {
        Some(Change::Renew { folder }) => renew(folder, out),
        Some(Change::Node {
            name,
            folder,
            address,
        }) => replace(name, folder, address.clone(), out),
        None => make(init, out),
    }
}

fn make(init: &Init, out: &Out) -> Result<(), Failure> {
    let folder = init.folder.as_deref().unwrap_or(Path::new("."));
    let plan = plan(init)?;
    let nodes = plan.nodes.clone();
    let (operator, first) = Operator::make(folder, plan)?;
    for node in &nodes {
        operator.write_node(node)?;
    }
    if out.is_json() {
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        return out.json(&serde_json::json!({
            "folder": folder.display().to_string(),
            "nodes": names,
            "operator": folder.join("operator").display().to_string(),
            "administrator": { "name": first.name, "password": first.password },
        }));
    }
    out.line(format!(
        "Made a deployment of {} nodes in {}. Start each on its machine, in any order:\n",
        nodes.len(),
        folder.display()
    ))?;
    for node in &nodes {
        let verb = if node.witness { "witness" } else { "region" };
        let file = operator.node_folder(node).join("castling.toml");
        out.line(format!("  castling {verb} --config {}", file.display()))?;
    }
    out.line(format!(
        "\nThe first start needs all of them. Then, as the operator:\n\n  export CASTLING_DATA='{}'\n  castling status\n",
        absolute(&folder.join("operator")).display()
    ))?;
    out.line(format!(
        "Administrator: {}\nPassword:      {}\nThe password is shown this once and kept nowhere.\n",
        first.name, first.password
    ))?;
    let note = "Note: two regions alone lose their control plane with either of them; add --witness NAME, a third vote elsewhere.";
    if nodes.len() == 2 {
        out.line(note)?;
    }
    out.line(format!(
        "Keep {} to yourself: it holds the authorities' private keys and the client secret.",
        folder.join("operator").display()
    ))
}

fn renew(folder: &Path, out: &Out) -> Result<(), Failure> {
    let operator = Operator::open(folder)?;
    for node in &operator.record.nodes {
        operator.write_certificates(node)?;
    }
    out.line(format!(
        "New certificates are in {}/NODE/pki: bring each node its own. A running node takes them within a minute, or at once on SIGHUP.",
        folder.display()
    ))
}

fn replace(name: &str, folder: &Path, address: Option<String>, out: &Out) -> Result<(), Failure> {
    let name = self::name(name).map_err(Failure::Usage)?;
    let mut operator = Operator::open(folder)?;
    let node = operator.node(&name)?;
    let path = operator.node_folder(&node);
    if path.join("castling.toml").exists() {
        return Err(Failure::Usage(format!(
            "{} exists; move it away first",
            path.join("castling.toml").display()
        )));
    }
    if let Some(address) = &address {
        operator.moved(&name, address.clone())?;
    }
    let node = operator.node(&name)?;
    operator.write_node(&node)?;
    out.line(format!("Made {} anew.", path.display()))?;
    match address {
        Some(address) => out.line(format!(
            "It is reached at {address} from now on: write this into `link` of {name} in the castling.toml of every other node, and restart them one after the other."
        )),
        None => Ok(()),
    }
}

fn plan(init: &Init) -> Result<Plan, Failure> {
    settings::duration_ms(&init.failover_cooldown)
        .map_err(|why| Failure::Usage(format!("--failover-cooldown: {why}")))?;
    let Regions(regions) = init.regions.clone().unwrap_or(Regions(Vec::new()));
    crate::world::in_catalogue(&regions, &types::regions::Catalogue::builtin())
        .map_err(Failure::Usage)?;
    if init
        .witness
        .as_ref()
        .is_some_and(|name| regions.contains(name))
    {
        return Err(Failure::Usage(
            "--witness: a region has this name; choose another".into(),
        ));
    }
    let names: Vec<(RegionName, bool)> = regions
        .into_iter()
        .map(|name| (name, false))
        .chain(init.witness.clone().map(|name| (name, true)))
        .collect();
    let addresses = match &init.addresses {
        Some(Addresses(given)) if given.len() == names.len() => given.clone(),
        Some(Addresses(given)) => {
            return Err(Failure::Usage(format!(
                "--addresses: {} for {} nodes",
                given.len(),
                names.len()
            )));
        }
        None => (1..=names.len() as u8)
            .map(|last| Ipv4Addr::new(127, 0, 0, last).to_string())
            .collect(),
    };
    let ports = Ports {
        link: init.link_port,
        management: init.management_port,
        https: init.https_port,
        mqtt: init.mqtt_port,
        plain_mqtt: init.plain_mqtt_port,
    };
    check(ports)?;
    Ok(Plan {
        nodes: names
            .into_iter()
            .zip(addresses)
            .map(|((name, witness), address)| Node {
                name,
                witness,
                address,
            })
            .collect(),
        domain: init.domain.clone(),
        ports,
        cooldown: init.failover_cooldown.clone(),
        per_day: init.failovers_per_day,
        second_approver: init.second_approver,
    })
}

fn check(ports: Ports) -> Result<(), Failure> {
    let mut all = vec![ports.link, ports.management, ports.https, ports.mqtt];
    all.extend(ports.plain_mqtt);
    if all.contains(&0) {
        return Err(Failure::Usage(
            "ports must not be 0: the nodes must find each other".into(),
        ));
    }
    all.sort_unstable();
    if all.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Failure::Usage("two ports are the same".into()));
    }
    Ok(())
}

fn name(text: &str) -> Result<RegionName, String> {
    RegionName::parse(text).map_err(|error| format!("`{text}`: {error}"))
}

fn addresses(text: &str) -> Result<Addresses, String> {
    text.split(',')
        .map(|one| address(one.trim()))
        .collect::<Result<_, _>>()
        .map(Addresses)
}

/// An IP address or a name, without a port.
fn address(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return match address.is_unspecified() {
            true => Err(format!("`{text}`: others cannot reach a node there")),
            false => Ok(address.to_string()),
        };
    }
    let named = settings::domain(text).map_err(|_| {
        format!("`{text}` is neither an address nor a name (ports have options of their own)")
    })?;
    match named.len() <= ADDRESS_CHARS_MAX {
        true => Ok(named),
        false => Err(format!("`{text}` is too long")),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_or_addresses_without_ports() {
        for good in ["127.0.0.1", "::1", "a.example.org", "a"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["", "a:1", "0.0.0.0", "::", "a b", "[::1]"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_differ_and_are_told() {
        let ports = Ports {
            link: 1,
            management: 2,
            https: 3,
            mqtt: 4,
            plain_mqtt: None,
        };
        assert!(check(ports).is_ok());
        assert!(check(Ports { mqtt: 0, ..ports }).is_err());
        assert!(
            check(Ports {
                plain_mqtt: Some(3),
                ..ports
            })
            .is_err()
        );
    }
}
