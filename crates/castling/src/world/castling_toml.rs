//! `castling.toml`: the settings of one node (docs/formats/config.md).

use super::administrator::Administrator;
use crate::cli::settings;
use control::model::FailoverPolicy;
use region::lease::LeaseTimes;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use types::RegionName;

const FORMAT: u32 = 1;
pub const LOG_DEFAULT: &str =
    "info,openraft=error,openraft::core::raft_core=off,fjall=warn,lsm_tree=warn";

/// One node's settings, checked. Paths are as seen from the working directory.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: RegionName,
    pub folder: PathBuf,
    pub log: String,
    pub deployment: Deployment,
    /// The user that the first start makes.
    pub administrator: Option<Administrator>,
    pub policy: FailoverPolicy,
    pub catalogue: Option<PathBuf>,
    /// In the order of their numbers.
    pub nodes: Vec<Member>,
    pub listen: Listen,
    pub files: Files,
    pub lease_times: LeaseTimes,
    pub control_times: consensus::Times,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub name: RegionName,
    pub witness: bool,
    /// `HOST:PORT`.
    pub link: String,
}

/// What is the same in every node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    pub id: String,
    pub domain: String,
    pub tenant: String,
    pub subscription: String,
    pub client_id: String,
    pub object_id: String,
    pub secret_sha256: String,
    pub secret_salt: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub address: IpAddr,
    #[serde(default = "link_port")]
    pub link_port: u16,
    #[serde(default = "management_port")]
    pub management_port: u16,
    #[serde(default = "https_port")]
    pub https_port: u16,
    #[serde(default = "mqtt_port")]
    pub mqtt_port: u16,
    pub plain_mqtt_port: Option<u16>,
}

pub const LINK_PORT: u16 = 8445;
pub const MANAGEMENT_PORT: u16 = 8444;
pub const HTTPS_PORT: u16 = 443;
pub const MQTT_PORT: u16 = 8883;

fn link_port() -> u16 {
    LINK_PORT
}

fn management_port() -> u16 {
    MANAGEMENT_PORT
}

fn https_port() -> u16 {
    HTTPS_PORT
}

fn mqtt_port() -> u16 {
    MQTT_PORT
}

/// Keys and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    pub link_certificate: PathBuf,
    pub link_key: PathBuf,
    pub link_authorities: PathBuf,
    pub server_certificate: PathBuf,
    pub server_key: PathBuf,
    pub tickets_key: PathBuf,
    /// Made when it is missing.
    pub storage_key: PathBuf,
    /// Read by former versions; the control plane keeps what signs tokens.
    #[serde(rename = "tokens_key")]
    _tokens_key: Option<PathBuf>,
}

impl Default for Files {
    fn default() -> Self {
        let pki = |name: &str| Path::new("pki").join(name);
        Files {
            link_certificate: pki("link.pem"),
            link_key: pki("link.key"),
            link_authorities: pki("link-authorities.pem"),
            server_certificate: pki("server.pem"),
            server_key: pki("server.key"),
            tickets_key: pki("tickets.key"),
            storage_key: pki("storage.key"),
            _tokens_key: None,
        }
    }
}

impl Files {
    /// Every file that must be there, with the name of its setting.
    pub fn all(&self) -> [(&'static str, &Path); 6] {
        [
            ("link_certificate", &self.link_certificate),
            ("link_key", &self.link_key),
            ("link_authorities", &self.link_authorities),
            ("server_certificate", &self.server_certificate),
            ("server_key", &self.server_key),
            ("tickets_key", &self.tickets_key),
        ]
    }

    fn under(self, folder: &Path) -> Files {
        Files {
            link_certificate: folder.join(self.link_certificate),
            link_key: folder.join(self.link_key),
            link_authorities: folder.join(self.link_authorities),
            server_certificate: folder.join(self.server_certificate),
            server_key: folder.join(self.server_key),
            tickets_key: folder.join(self.tickets_key),
            storage_key: folder.join(self.storage_key),
            _tokens_key: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    node: String,
    #[serde(default = "state_folder")]
    folder: PathBuf,
    log: Option<String>,
    deployment: Deployment,
    administrator: Option<Administrator>,
    #[serde(default)]
    failover: Failover,
    nodes: Vec<FileNode>,
    listen: Listen,
    #[serde(default)]
    certificates: Files,
    #[serde(default)]
    timings: Timings,
}

fn state_folder() -> PathBuf {
    "state".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    name: String,
    role: Role,
    link: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Region,
    Witness,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Failover {
    cooldown: Option<String>,
    per_day: Option<u32>,
    second_approver: bool,
    catalogue: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Timings {
    lease_ms: u64,
    lease_renew_ms: u64,
    heartbeat_ms: u64,
    election_ms: u64,
    election_step_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        let (lease, control) = (LeaseTimes::default(), consensus::Times::default());
        Timings {
            lease_ms: lease.lease_ms,
            lease_renew_ms: lease.renew_ms,
            heartbeat_ms: control.heartbeat_ms,
            election_ms: control.election_ms,
            election_step_ms: control.election_step_ms,
        }
    }
}

impl Settings {
    /// Reads a node's file.
    ///
    /// # Errors
    /// What is wrong, with the file's name and, as far as it can be told, the line.
    pub fn read(path: &Path) -> Result<Settings, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Settings::parse(&text, folder).map_err(|why| format!("{name}: {why}"))
    }

    /// `folder`: what relative paths are relative to.
    fn parse(text: &str, folder: &Path) -> Result<Settings, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!(
                "format {} is not known to this version, which knows {FORMAT}",
                file.format
            ));
        }
        let nodes = members(file.nodes)?;
        let node = name_of("node", &file.node)?;
        if !nodes.iter().any(|member| member.name == node) {
            return Err(format!("node: `{node}` is not among the [[nodes]]"));
        }
        let lease_times = LeaseTimes {
            lease_ms: file.timings.lease_ms,
            renew_ms: file.timings.lease_renew_ms,
        };
        let control_times = consensus::Times {
            heartbeat_ms: file.timings.heartbeat_ms,
            election_ms: file.timings.election_ms,
            election_step_ms: file.timings.election_step_ms,
        };
        let mistake =
            control_times.mistake(nodes.len(), lease_times.lease_ms, lease_times.renew_ms);
        if let Some(mistake) = mistake {
            return Err(format!("timings: {mistake}"));
        }
        let log = file.log.unwrap_or_else(|| LOG_DEFAULT.to_owned());
        let log = settings::log_filter(&log).map_err(|why| format!("log: {why}"))?;
        settings::domain(&file.deployment.domain)
            .map_err(|why| format!("deployment.domain: {why}"))?;
        Ok(Settings {
            node,
            folder: folder.join(file.folder),
            log,
            policy: policy(&file.failover)?,
            catalogue: file.failover.catalogue.map(|path| folder.join(path)),
            deployment: file.deployment,
            administrator: file.administrator,
            nodes,
            listen: file.listen,
            files: file.certificates.under(folder),
            lease_times,
            control_times,
        })
    }

    pub fn is_witness(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|member| member.name == self.node && member.witness)
    }

    pub fn names(&self) -> Vec<RegionName> {
        self.nodes
            .iter()
            .map(|member| member.name.clone())
            .collect()
    }

    pub fn witnesses(&self) -> Vec<RegionName> {
        self.only(true)
    }

    pub fn regions(&self) -> Vec<RegionName> {
        self.only(false)
    }

    fn only(&self, witness: bool) -> Vec<RegionName> {
        let some = self.nodes.iter().filter(|node| node.witness == witness);
        some.map(|node| node.name.clone()).collect()
    }

    /// Where the other nodes' links are.
    pub fn peers(&self) -> BTreeMap<RegionName, String> {
        let others = self.nodes.iter().filter(|member| member.name != self.node);
        others
            .map(|member| (member.name.clone(), member.link.clone()))
            .collect()
    }
}

fn policy(file: &Failover) -> Result<FailoverPolicy, String> {
    let usual = FailoverPolicy::default();
    let cooldown_ms = match &file.cooldown {
        Some(text) => {
            settings::duration_ms(text).map_err(|why| format!("failover.cooldown: {why}"))?
        }
        None => usual.cooldown_ms,
    };
    Ok(FailoverPolicy {
        cooldown_ms,
        per_day: file.per_day.unwrap_or(usual.per_day),
        second_approver: file.second_approver,
    })
}

fn name_of(setting: &str, text: &str) -> Result<RegionName, String> {
    RegionName::parse(text).map_err(|error| format!("{setting}: `{text}`: {error}"))
}

fn members(nodes: Vec<FileNode>) -> Result<Vec<Member>, String> {
    let mut members: Vec<Member> = Vec::new();
    for node in nodes {
        let name = name_of("nodes.name", &node.name)?;
        if members.iter().any(|known| known.name == name) {
            return Err(format!("nodes: `{name}` stands twice"));
        }
        let port = node
            .link
            .rsplit_once(':')
            .map(|(host, port)| (!host.is_empty(), port.parse::<u16>()));
        if !matches!(port, Some((true, Ok(1..)))) {
            return Err(format!(
                "nodes.link of {name}: `{}` is not HOST:PORT",
                node.link
            ));
        }
        members.push(Member {
            name,
            witness: node.role == Role::Witness,
            link: node.link,
        });
    }
    if members.iter().all(|member| member.witness) {
        return Err("nodes: there is no region among them".into());
    }
    Ok(members)
}

/// What [`render`] writes a file from.
pub struct Told<'a> {
    pub node: &'a RegionName,
    pub nodes: &'a [Member],
    pub deployment: &'a Deployment,
    pub listen: &'a Listen,
    pub cooldown: &'a str,
    pub per_day: u32,
    pub second_approver: bool,
    pub administrator: Option<&'a Administrator>,
}

/// The text of a node's file, every setting with what it means.
pub fn render(told: &Told<'_>) -> String {
    let deployment = told.deployment;
    let nodes: String = told
        .nodes
        .iter()
        .map(|member| {
            let role = if member.witness { "witness" } else { "region" };
            format!(
                "\n[[nodes]]\nname = \"{}\"\nrole = \"{role}\"\nlink = \"{}\"\n",
                member.name, member.link
            )
        })
        .collect();
    let listen = listen(told);
    let shared = if told.is_witness() { "" } else { SHARED };
    let usual = Timings::default();
    format!(
        r#"# castling.toml: the settings of one node. docs/formats/config.md explains the file, docs/operations.md how to run it.
# Paths are relative to this file. A setting behind `#` shows its default.
format = 1

# Which of the nodes below this one is.
node = "{node}"
# Everything this node stores. Removing it wipes the node: it comes back and is filled by the others.
folder = "state"
# What to log to standard error.
# log = "{LOG_DEFAULT}"

# The same in every node.
[deployment]
# Keeps two deployments apart on their links.
id = "{id}"
# Hubs are named NAME.{domain}: DNS must lead these names to the regions.
domain = "{domain}"
tenant = "{tenant}"
subscription = "{subscription}"
# Who may sign in to the management API. Of the secret there is only a salted SHA-256 here.
client_id = "{client_id}"
object_id = "{object_id}"
secret_sha256 = "{secret_sha256}"
secret_salt = "{secret_salt}"
{administrator}
# The same in every region.
[failover]
# Time from the end of a planned failover to the next, and how many a hub may make in 24 hours.
cooldown = "{cooldown}"
per_day = {per_day}
# A failover that one person asks for begins only once another one has approved it.
second_approver = {second_approver}
# Regions and their pairs, as a CSV file; without it a built-in list.
# catalogue = "regions.csv"

# All nodes. Their order gives them their numbers: never reorder or remove them; `link` may change. `link` is where the
# others reach a node's link port; names are looked up at each attempt.
{nodes}
[listen]
{listen}
# Keys and certificates; changed files are taken within a minute, or at once on SIGHUP.
[certificates]
# link_certificate = "pki/link.pem"
# link_key = "pki/link.key"
# Authorities whose nodes are accepted on links; several while an authority is replaced.
# link_authorities = "pki/link-authorities.pem"
# server_certificate = "pki/server.pem"
# server_key = "pki/server.key"
# Seals what the control plane stores in `folder`; made at the first start, or given in CASTLING_STORAGE_KEY.
# storage_key = "pki/storage.key"
{shared}
# The same in every node. They are checked against each other: a new leader must be found within the lease.
[timings]
# A region acknowledges for so long after its last renewal; a forced failover waits so long.
# lease_ms = {lease_ms}
# lease_renew_ms = {lease_renew_ms}
# How often the leader is heard. Must exceed the longest round trip between nodes plus a disk flush.
# heartbeat_ms = {heartbeat_ms}
# A node elects after a silence of about twice this, plus twice the step for each node before it.
# election_ms = {election_ms}
# election_step_ms = {election_step_ms}
"#,
        node = told.node,
        id = deployment.id,
        domain = deployment.domain,
        tenant = deployment.tenant,
        subscription = deployment.subscription,
        client_id = deployment.client_id,
        object_id = deployment.object_id,
        secret_sha256 = deployment.secret_sha256,
        secret_salt = deployment.secret_salt,
        cooldown = told.cooldown,
        per_day = told.per_day,
        second_approver = told.second_approver,
        administrator = administrator(told),
        lease_ms = usual.lease_ms,
        lease_renew_ms = usual.lease_renew_ms,
        heartbeat_ms = usual.heartbeat_ms,
        election_ms = usual.election_ms,
        election_step_ms = usual.election_step_ms,
    )
}

const SHARED: &str =
    "# The same in every region: TLS sessions of one are good in all. Read at start only.
# tickets_key = \"pki/tickets.key\"
";

/// Empty for a witness, which nobody signs in to.
fn administrator(told: &Told<'_>) -> String {
    let Some(first) = told.administrator.filter(|_| !told.is_witness()) else {
        return String::new();
    };
    format!(
        "\n# The first user, Owner of everything, that the first start makes. Nothing here counts afterwards.\n[administrator]\nobject_id = \"{}\"\nname = \"{}\"\n# Argon2id: the password itself was printed once by `castling init`.\npassword_hash = \"{}\"\n",
        first.object_id, first.name, first.password_hash.0
    )
}

impl Told<'_> {
    fn is_witness(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|member| member.witness && member.name == *self.node)
    }
}

fn listen(told: &Told<'_>) -> String {
    let listen = told.listen;
    let mut text = format!(
        "# Address that all listeners of this node are bound to; 0.0.0.0: all of the machine's.\naddress = \"{}\"\n# The other nodes' links.\nlink_port = {}\n# Management API, /healthz, /readyz, /metrics and /castling/status, over TLS.\nmanagement_port = {}\n",
        listen.address, listen.link_port, listen.management_port
    );
    if !told.is_witness() {
        text += &format!(
            "# HTTPS and MQTT over TLS, for devices and services.\nhttps_port = {}\nmqtt_port = {}\n",
            listen.https_port, listen.mqtt_port
        );
        text += "# MQTT without TLS, on loopback addresses only.\n";
        match listen.plain_mqtt_port {
            Some(port) => text += &format!("plain_mqtt_port = {port}\n"),
            None => text += "# plain_mqtt_port = 1883\n",
        }
    }
    text
}

#[cfg(test)]
mod tests;
