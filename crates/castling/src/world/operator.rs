//! The operator's folder that `castling init` makes: everything that belongs to no single node, and what makes nodes' files.
//!
//! The authorities' private keys stay here; nodes get certificates only.

use super::administrator::{Administrator, FirstSignIn};
use super::castling_toml::{self, Deployment, Listen, Member, Told};
use super::deployment::{guid, private_folder, write_private};
use super::up_file::{UpFile, UpRegion, UpWitness};
use super::{certificate_names, salted};
use link::pki::{Authority, Purpose, ensure_secret};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use types::RegionName;

const FORMAT: u32 = 1;

/// `operator/deployment.json`: what was asked for, and the secret (mode 0600).
#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    pub id: String,
    pub domain: String,
    tenant: String,
    subscription: String,
    client_id: String,
    object_id: String,
    client_secret: String,
    secret_salt: String,
    pub nodes: Vec<Node>,
    ports: Ports,
    cooldown: String,
    per_day: u32,
    #[serde(default)]
    second_approver: bool,
    /// The first user; absent in folders from before there were users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    administrator: Option<Administrator>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: RegionName,
    pub witness: bool,
    /// Where clients and other nodes reach it: an address or a name.
    pub address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub link: u16,
    pub management: u16,
    pub https: u16,
    pub mqtt: u16,
    pub plain_mqtt: Option<u16>,
}

/// What `init` was asked for.
pub struct Plan {
    pub nodes: Vec<Node>,
    pub domain: String,
    pub ports: Ports,
    pub cooldown: String,
    pub per_day: u32,
    pub second_approver: bool,
}

/// An opened operator's folder.
pub struct Operator {
    folder: PathBuf,
    pub record: Record,
    clients: Authority,
    regions: Authority,
}

impl Operator {
    /// Makes the folder with fresh ids, secrets and authorities.
    ///
    /// # Errors
    /// When the folder holds something already, or cannot be written.
    pub fn make(folder: &Path, plan: Plan) -> Result<(Operator, FirstSignIn), String> {
        if folder.exists()
            && folder
                .read_dir()
                .is_ok_and(|mut found| found.next().is_some())
        {
            return Err(format!(
                "{} is not empty: a deployment is made once. `castling init renew` and `castling init node` change one",
                folder.display()
            ));
        }
        private_folder(folder)?;
        private_folder(&folder.join("operator"))?;
        let (administrator, told) = Administrator::make(&plan.domain)?;
        let record = Record {
            format: FORMAT,
            id: region::random_text(16),
            domain: plan.domain,
            tenant: guid(),
            subscription: guid(),
            client_id: guid(),
            object_id: guid(),
            client_secret: region::random_text(32),
            secret_salt: region::random_text(16),
            nodes: plan.nodes,
            ports: plan.ports,
            cooldown: plan.cooldown,
            per_day: plan.per_day,
            second_approver: plan.second_approver,
            administrator: Some(administrator),
        };
        save(folder, &record)?;
        let operator = Operator::with(folder, record)?;
        operator.write_up()?;
        Ok((operator, told))
    }

    /// Opens a folder that `init` made.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Operator, String> {
        let path = folder.join("operator").join("deployment.json");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            format!(
                "{}: {error}; --folder names the folder that `castling init` made",
                path.display()
            )
        })?;
        let record: Record =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if record.format != FORMAT {
            return Err(format!(
                "{}: format {} is not known to this version",
                path.display(),
                record.format
            ));
        }
        Operator::with(folder, record)
    }

    fn with(folder: &Path, record: Record) -> Result<Operator, String> {
        let now = SystemTime::now();
        let authority = |name: &str, purpose| {
            let path = folder.join("operator").join("pki").join(name);
            Authority::load_or_make(&path, purpose, now).map_err(|error| error.to_string())
        };
        Ok(Operator {
            folder: folder.to_owned(),
            clients: authority("clients", Purpose::Clients)?,
            regions: authority("regions", Purpose::Regions)?,
            record,
        })
    }

    fn pki(&self) -> PathBuf {
        self.folder.join("operator").join("pki")
    }

    /// The folder of a node.
    pub fn node_folder(&self, node: &Node) -> PathBuf {
        self.folder.join(node.name.as_str())
    }

    /// The node of a name.
    ///
    /// # Errors
    /// Names those there are.
    pub fn node(&self, name: &RegionName) -> Result<Node, String> {
        let found = self.record.nodes.iter().find(|node| node.name == *name);
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = self
                .record
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .collect();
            format!(
                "`{name}` is no node of this deployment: {}",
                names.join(", ")
            )
        })
    }

    /// Another address for a node, as its files and those of the operator are written from now on.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn moved(&mut self, name: &RegionName, address: String) -> Result<(), String> {
        for node in &mut self.record.nodes {
            if node.name == *name {
                node.address.clone_from(&address);
            }
        }
        save(&self.folder, &self.record)?;
        self.write_up()
    }

    /// Writes a node's whole folder: settings, keys, certificates.
    ///
    /// # Errors
    /// When something cannot be made or written.
    pub fn write_node(&self, node: &Node) -> Result<(), String> {
        let folder = self.node_folder(node);
        private_folder(&folder)?;
        self.write_certificates(node)?;
        // Each node its own: a node's disk is of no use with another node's key.
        ensure_secret(&folder.join("pki").join("storage.key"))
            .map_err(|error| error.to_string())?;
        if !node.witness {
            self.write_shared(&folder.join("pki"))?;
        }
        let settings = self.settings(node);
        write_private(&folder.join("castling.toml"), settings.as_bytes())
    }

    /// What regions share; a witness does without, it may stand with somebody else.
    fn write_shared(&self, pki: &Path) -> Result<(), String> {
        let secret = |name: &str, bytes: &[u8]| write_private(&pki.join(name), bytes);
        let tickets =
            ensure_secret(&self.pki().join("tickets.key")).map_err(|error| error.to_string())?;
        secret("tickets.key", &tickets)
    }

    /// Issues a node's certificates anew, also when the former ones would do.
    ///
    /// # Errors
    /// When something cannot be made or written.
    pub fn write_certificates(&self, node: &Node) -> Result<(), String> {
        let pki = self.node_folder(node).join("pki");
        private_folder(&pki)?;
        for stale in ["link.pem", "link.key", "server.pem", "server.key"] {
            let path = pki.join(stale);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()));
                }
                _ => {}
            }
        }
        let now = SystemTime::now();
        let say = |error: link::pki::PkiError| error.to_string();
        let names = certificate_names(&node.name, &self.record.domain, &node.address);
        self.clients
            .ensure_server(&pki, "server", &names, now)
            .map_err(say)?;
        self.regions
            .ensure_region_as(&pki, "link", &node.name, now)
            .map_err(say)?;
        let authorities = self.regions.certificate_pem();
        write_private(&pki.join("link-authorities.pem"), authorities.as_bytes())
    }

    fn settings(&self, node: &Node) -> String {
        let record = &self.record;
        let nodes: Vec<Member> = record
            .nodes
            .iter()
            .map(|node| Member {
                name: node.name.clone(),
                witness: node.witness,
                link: at_port(&node.address, record.ports.link),
            })
            .collect();
        let deployment = Deployment {
            id: record.id.clone(),
            domain: record.domain.clone(),
            tenant: record.tenant.clone(),
            subscription: record.subscription.clone(),
            client_id: record.client_id.clone(),
            object_id: record.object_id.clone(),
            secret_sha256: salted(&record.secret_salt, &record.client_secret),
            secret_salt: record.secret_salt.clone(),
        };
        let ports = record.ports;
        castling_toml::render(&Told {
            node: &node.name,
            nodes: &nodes,
            deployment: &deployment,
            listen: &Listen {
                address: bound_to(&node.address),
                link_port: ports.link,
                management_port: ports.management,
                https_port: ports.https,
                mqtt_port: ports.mqtt,
                plain_mqtt_port: ports.plain_mqtt,
            },
            cooldown: &record.cooldown,
            per_day: record.per_day,
            second_approver: record.second_approver,
            administrator: record.administrator.as_ref(),
        })
    }

    /// `operator/up.json` and the authority beside it: how the command line finds the deployment.
    fn write_up(&self) -> Result<(), String> {
        let operator = self.folder.join("operator");
        write_private(
            &operator.join("ca.pem"),
            self.clients.certificate_pem().as_bytes(),
        )?;
        let record = &self.record;
        let ports = record.ports;
        let regions: Vec<UpRegion> = record
            .nodes
            .iter()
            .filter(|node| !node.witness)
            .map(|node| UpRegion {
                name: node.name.to_string(),
                address: node.address.clone(),
                https_port: ports.https,
                mqtt_port: ports.mqtt,
                amqp_port: None,
                management_port: ports.management,
                plain_mqtt_port: ports.plain_mqtt,
            })
            .collect();
        let witnesses = record.nodes.iter().filter(|node| node.witness);
        let witnesses = witnesses.map(|node| UpWitness {
            name: node.name.to_string(),
            address: node.address.clone(),
            management_port: ports.management,
        });
        let first = regions.first().ok_or("there is no region")?;
        let up = UpFile {
            format: 1,
            pid: 0,
            // Beside the file, so that the folder may be moved.
            ca_file: "ca.pem".into(),
            management_url: format!("https://{}", at_port(&first.address, ports.management)),
            portal_url: None,
            subscription: record.subscription.clone(),
            tenant: record.tenant.clone(),
            client_id: record.client_id.clone(),
            client_secret: record.client_secret.clone(),
            domain: record.domain.clone(),
            witnesses: witnesses.collect(),
            regions,
            notes: Vec::new(),
        };
        up.write(&operator)
    }
}

fn save(folder: &Path, record: &Record) -> Result<(), String> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| error.to_string())?;
    write_private(&folder.join("operator").join("deployment.json"), &text)
}

/// `HOST:PORT`, with brackets around an IPv6 address.
fn at_port(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

/// What a node that is reached at `address` binds: loopback as it is, else all of the machine's addresses, for an address
/// that others see need not be one that the machine has.
fn bound_to(address: &str) -> IpAddr {
    match address.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => address,
        Ok(IpAddr::V6(_)) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}
