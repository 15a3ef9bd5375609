//! TLS settings of gateways and of links: rustls on ring.

use crate::pki::{Identity, PkiError};
use parking_lot::RwLock;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// ALPN of the HTTPS endpoints. MQTT endpoints give none: with one, clients that offer another would be refused.
pub const ALPN_HTTP: &[&[u8]] = &[b"http/1.1"];

/// The one place that picks the cryptography of the whole program.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// Why TLS cannot be set up.
#[derive(Debug)]
pub enum TlsError {
    /// The library refused certificate, key or roots.
    Refused(String),
    Pki(PkiError),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Refused(why) => write!(f, "cannot set up TLS: {why}"),
            TlsError::Pki(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::Refused(_) => None,
            TlsError::Pki(why) => why.source(),
        }
    }
}

impl From<PkiError> for TlsError {
    fn from(why: PkiError) -> Self {
        TlsError::Pki(why)
    }
}

fn refused(why: impl fmt::Display) -> TlsError {
    TlsError::Refused(why.to_string())
}

/// What a server shows its clients; it may be replaced while listeners use it.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// # Errors
    /// If certificate and key do not fit.
    pub fn new(identity: &Identity) -> Result<Arc<Shown>, TlsError> {
        Ok(Arc::new(Shown(RwLock::new(certified(identity)?))))
    }

    /// Takes a new certificate for handshakes from now on.
    ///
    /// # Errors
    /// If certificate and key do not fit; the former one stays.
    pub fn replace(&self, identity: &Identity) -> Result<(), TlsError> {
        *self.0.write() = certified(identity)?;
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = identity.key.clone_key();
    CertifiedKey::from_der(identity.chain.clone(), key, &provider())
        .map(Arc::new)
        .map_err(refused)
}

/// Settings of a gateway: TLS 1.2 and 1.3, no early data, sessions kept by the client in tickets that every region accepts.
///
/// `verifier` asks clients for a certificate; without one none is asked for. A resumed session shows its certificate, but no
/// verifier ran: who uses it checks it against the registry at every connect.
///
/// # Errors
/// If certificate and key do not fit.
pub fn server_config(
    identity: &Identity,
    tickets: Arc<dyn ProducesTickets>,
    alpn: &[&[u8]],
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(Shown::new(identity)?, tickets, alpn, verifier)
}

/// As [`server_config`], with a certificate that may be replaced.
///
/// # Errors
/// If the library refuses its own provider.
pub fn server_config_with(
    shown: Arc<Shown>,
    tickets: Arc<dyn ProducesTickets>,
    alpn: &[&[u8]],
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(refused)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(shown);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = tickets;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Settings for clients of a gateway: TLS 1.2 and 1.3, these roots, no client certificate.
///
/// # Errors
/// If the library refuses its own provider.
pub fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(refused)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Settings of a region that accepts links: TLS 1.3, a certificate of the regions' authority required, never resumed.
pub(crate) fn link_server_config(
    identity: &Identity,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(refused)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(refused)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Settings of a region that dials links: TLS 1.3, both sides verified, never resumed.
pub(crate) fn link_client_config(
    identity: &Identity,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(refused)?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(refused)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
