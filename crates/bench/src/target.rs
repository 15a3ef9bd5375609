//! Whom to connect to, as whom.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::TlsConnector;

const TOKEN_LIFE_S: u64 = 24 * 3600;

#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// Addresses of gateways, with commas; connections take them in turn
    #[arg(long, value_delimiter = ',', required = true)]
    address: Vec<SocketAddr>,
    /// The authority to trust; without it the connection is plain
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The hub's host name
    #[arg(long)]
    pub host: String,
    /// Devices are named PREFIX-0, PREFIX-1, …
    #[arg(long, default_value = "bench")]
    prefix: String,
}

/// One connection's way: addresses, TLS, names.
#[derive(Clone)]
pub struct Way {
    addresses: Arc<[SocketAddr]>,
    /// The one that is tried next.
    at: usize,
    tls: Option<TlsConnector>,
    /// The handshake names the hub, as devices do; else the address.
    names_hub: bool,
    pub host: String,
    pub device: String,
}

impl Target {
    /// The ways of `count` devices, which begin at one gateway after the other.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn ways(&self, count: usize) -> Result<Vec<Way>, String> {
        let tls = self.ca.as_deref().map(connector).transpose()?;
        let addresses: Arc<[SocketAddr]> = self.address.clone().into();
        let way = |number: usize| Way {
            at: number % addresses.len(),
            addresses: addresses.clone(),
            tls: tls.clone(),
            names_hub: false,
            host: self.host.clone(),
            device: format!("{}-{number}", self.prefix),
        };
        Ok((0..count).map(way).collect())
    }

    /// The ways of `count` devices as they are in the field: all begin at the first gateway, each keeps its own TLS sessions.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn field_ways(&self, count: usize) -> Result<Vec<Way>, String> {
        let config = self.ca.as_deref().map(client_config).transpose()?;
        let mut ways = self.ways(count)?;
        for way in &mut ways {
            way.at = 0;
            way.names_hub = true;
            way.tls = config.clone().map(|mut own| {
                own.resumption = Resumption::in_memory_sessions(1);
                TlsConnector::from(Arc::new(own))
            });
        }
        Ok(ways)
    }
}

impl Way {
    pub fn address(&self) -> SocketAddr {
        self.addresses[self.at]
    }

    /// From now on the next gateway is tried.
    pub fn turn(&mut self) {
        self.at = (self.at + 1) % self.addresses.len();
    }

    /// What the handshake needs; `None`: there is none.
    ///
    /// # Errors
    /// When the hub's host is no name that TLS knows.
    pub fn tls(&self) -> Result<Option<(TlsConnector, ServerName<'static>)>, String> {
        let Some(connector) = &self.tls else {
            return Ok(None);
        };
        let name = if self.names_hub {
            ServerName::try_from(self.host.clone())
                .map_err(|error| format!("{}: {error}", self.host))?
        } else {
            ServerName::IpAddress(self.address().ip().into())
        };
        Ok(Some((connector.clone(), name)))
    }

    /// The CONNECT packet of this device: as SDKs send it, but for a session that ends with its connection.
    pub fn connect_packet(&self) -> Vec<u8> {
        let token = wire::sas::make(
            &format!("{}/devices/{}", self.host, self.device),
            &device_key(&self.device),
            None,
            expiry(),
        );
        let user = format!("{}/{}/?api-version=2021-04-12", self.host, self.device);
        crate::packet::connect(&self.device, &user, &token)
    }
}

/// The key that every tool of the tests gives a device of this name.
pub fn device_key(device: &str) -> String {
    let digest = ring::digest::digest(
        &ring::digest::SHA256,
        format!("castling-bench/{device}").as_bytes(),
    );
    STANDARD.encode(digest)
}

/// A time, in seconds since 1970, until which tokens of a run hold.
pub fn expiry() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    i64::try_from(now + TOKEN_LIFE_S).unwrap_or(i64::MAX)
}

/// TLS that trusts the authorities of one file.
pub fn connector(ca: &Path) -> Result<TlsConnector, String> {
    Ok(TlsConnector::from(Arc::new(client_config(ca)?)))
}

fn client_config(ca: &Path) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{}: {error}", ca.display()))?;
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", ca.display()))?;
    }
    Ok(
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_the_python_tests_make() {
        // base64(sha256("castling-bench/d"))
        assert_eq!(device_key("d").len(), 44);
        assert_ne!(device_key("d"), device_key("e"));
    }

    #[test]
    fn devices_take_the_gateways_in_turn() {
        let target = Target {
            address: vec![
                "127.0.0.1:1".parse().unwrap(),
                "127.0.0.2:1".parse().unwrap(),
            ],
            ca: None,
            host: "h.x".into(),
            prefix: "p".into(),
        };
        let mut ways = target.ways(3).unwrap();
        assert_eq!(
            ways.iter()
                .map(|way| way.address().ip().to_string())
                .collect::<Vec<_>>(),
            ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
        );
        assert_eq!(ways[2].device, "p-2");
        ways[1].turn();
        assert_eq!(ways[1].address(), ways[0].address());
        let field = target.field_ways(3).unwrap();
        assert!(field.iter().all(|way| way.address() == ways[0].address()));
    }
}
