//! `up.json`: how everything else finds a running world.

use super::WorldConfig;
use super::deployment::{Deployment, write_private};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Written when a world is up, mode 0600 because of the secret in it.
#[derive(Clone, Serialize, Deserialize)]
pub struct UpFile {
    pub format: u32,
    /// 0: the nodes have processes of their own.
    pub pid: u32,
    /// PEM of the authority that clients must trust.
    pub ca_file: String,
    pub management_url: String,
    /// `null`: this version has no portal.
    pub portal_url: Option<String>,
    pub subscription: String,
    pub tenant: String,
    pub client_id: String,
    pub client_secret: String,
    /// Hubs are named `NAME.{domain}`.
    pub domain: String,
    pub regions: Vec<UpRegion>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<UpWitness>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct UpRegion {
    pub name: String,
    pub address: String,
    pub https_port: u16,
    pub mqtt_port: u16,
    /// `null`: this version has no AMQP.
    pub amqp_port: Option<u16>,
    pub management_port: u16,
    #[serde(default)]
    pub plain_mqtt_port: Option<u16>,
}

/// A voter without hubs.
#[derive(Clone, Serialize, Deserialize)]
pub struct UpWitness {
    pub name: String,
    pub address: String,
    pub management_port: u16,
}

impl UpFile {
    pub fn new(
        config: &WorldConfig,
        deployment: &Deployment,
        regions: Vec<UpRegion>,
        notes: Vec<String>,
    ) -> UpFile {
        let ca_file = config.data.join("pki").join("clients").join("ca.pem");
        let ca_file = std::path::absolute(&ca_file).unwrap_or(ca_file);
        let first = &regions[0];
        let host = if first.address == "127.0.0.1" {
            "localhost".to_owned()
        } else {
            first.address.clone()
        };
        UpFile {
            format: 1,
            pid: std::process::id(),
            ca_file: ca_file.display().to_string(),
            management_url: format!("https://{host}:{}", first.management_port),
            portal_url: None,
            subscription: deployment.subscription.clone(),
            tenant: deployment.tenant.clone(),
            client_id: deployment.client_id.clone(),
            client_secret: deployment.client_secret.clone(),
            domain: config.domain.clone(),
            regions,
            witnesses: Vec::new(),
            notes,
        }
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, data: &Path) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        write_private(&data.join("up.json"), &text)
    }

    /// Reads the file of a world.
    ///
    /// # Errors
    /// With what to do about it.
    pub fn read(data: &Path) -> Result<UpFile, String> {
        let path = data.join("up.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("no running world found at {} ({error}); start one with `castling up`, or name its folder with --data or CASTLING_DATA", data.display()))?;
        let mut up: UpFile =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        // Beside this file, if it is not absolute: a deployment's operator may move the folder.
        up.ca_file = data.join(&up.ca_file).display().to_string();
        Ok(up)
    }
}
