//! Requests that this deployment sends to blobs its operators name: bounded in time and size, without redirects, and never
//! with an address' query in a message, since it holds a signature.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use types::limits;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the authorities they trust; `SSL_CERT_FILE` comes first.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// A container of blobs, with the signature that opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct Container {
    base: String,
    query: String,
    pub host: String,
    plain: bool,
    /// It may stand in this machine's own networks.
    inside: bool,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Container {
    /// Reads a container's address.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Container, String> {
        let uri: Uri = text.trim().parse().map_err(|_| "it is no URI".to_owned())?;
        let authority = uri.authority().ok_or("its host is missing")?;
        if authority.as_str().contains('@') {
            return Err("a user name is not allowed in it".into());
        }
        let host = authority.host().to_ascii_lowercase();
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") if is_loopback(&host) => true,
            _ => return Err("only https is allowed (and http on a loopback address)".into()),
        };
        let path = uri.path().trim_end_matches('/');
        if path.is_empty() {
            return Err("it names no container".into());
        }
        let scheme = if plain { "http" } else { "https" };
        Ok(Container {
            base: format!("{scheme}://{authority}{path}"),
            query: uri.query().unwrap_or_default().to_owned(),
            host,
            plain,
            inside: false,
        })
    }

    /// The same, allowed to stand in this machine's own networks.
    pub fn allowed_inside(self, inside: bool) -> Container {
        Container { inside, ..self }
    }

    /// Whether its host is none of this machine's own networks, unless that is allowed: whoever may start a job must not
    /// reach through it what only this machine can.
    fn is_outside(&self) -> Result<(), String> {
        if self.inside {
            return Ok(());
        }
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (bare, 443u16)
            .to_socket_addrs()
            .map_err(|_| format!("The blob store '{}' is not known.", self.host))?;
        for address in addresses {
            if is_inside(address.ip()) {
                return Err(format!(
                    "The blob store '{}' is in a private network, which this deployment does not allow jobs to reach.",
                    self.host
                ));
            }
        }
        Ok(())
    }

    fn blob(&self, name: &str) -> String {
        let name = name
            .split('/')
            .map(|part| wire::percent::encode(part).to_string());
        let name = name.collect::<Vec<_>>().join("/");
        match self.query.is_empty() {
            true => format!("{}/{name}", self.base),
            false => format!("{}/{name}?{}", self.base, self.query),
        }
    }
}

/// Loopback, private, link-local and unspecified addresses.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_inside(IpAddr::V4(v4)),
            None => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
            }
        },
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Writes a block blob.
///
/// # Errors
/// What the store said, or that it was not reached.
pub async fn put(container: Container, name: String, body: Vec<u8>) -> Result<(), String> {
    blocking(move || {
        let answer = agent(&container)?
            .put(container.blob(&name))
            .header("x-ms-blob-type", "BlockBlob")
            .header("x-ms-version", "2021-08-06")
            .header("content-type", "text/plain; charset=utf-8")
            .send(&body[..])
            .map_err(|error| unreached(&container, &error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(()),
            status => Err(refused("writing", &container, &name, status)),
        }
    })
    .await
}

/// Reads a blob.
///
/// # Errors
/// What the store said, that it was not reached, or that the blob is too large.
pub async fn get(container: Container, name: String) -> Result<Vec<u8>, String> {
    blocking(move || {
        let mut answer = agent(&container)?
            .get(container.blob(&name))
            .header("x-ms-version", "2021-08-06")
            .call()
            .map_err(|error| unreached(&container, &error))?;
        match answer.status().as_u16() {
            200..=299 => answer
                .body_mut()
                .with_config()
                .limit(limits::JOB_BLOB_BYTES_MAX as u64)
                .read_to_vec()
                .map_err(|error| unreached(&container, &error)),
            status => Err(refused("reading", &container, &name, status)),
        }
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err("this node is stopping".into()),
    }
}

fn agent(container: &Container) -> Result<Agent, String> {
    container.is_outside()?;
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let tls = match container.plain {
        true => tls.build(),
        false => tls.root_certs(RootCerts::from(roots()?)).build(),
    };
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(!container.plain)
        .timeout_global(Some(Duration::from_millis(limits::JOB_BLOB_TIMEOUT_MS)))
        .timeout_connect(Some(Duration::from_secs(15)))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .build();
    Ok(Agent::new_with_config(config))
}

/// The authorities that this system trusts.
fn roots() -> Result<Vec<Certificate<'static>>, String> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let files = named.as_deref().into_iter().chain(ROOTS);
    for file in files {
        let Ok(pem) = std::fs::read(file) else {
            continue;
        };
        let found: Vec<_> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(
        "this system has no list of trusted certificate authorities; name one in SSL_CERT_FILE"
            .into(),
    )
}

fn unreached(container: &Container, error: &ureq::Error) -> String {
    let why = match error {
        ureq::Error::BodyExceedsLimit(most) => format!("the blob is larger than {most} bytes"),
        ureq::Error::Timeout(_) => "it took too long".into(),
        ureq::Error::HostNotFound => "its host is not known".into(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectionFailed => "it cannot be connected to".into(),
        // Others may repeat the address, whose query is a secret.
        _ => "the exchange failed".into(),
    };
    format!(
        "The blob store '{}' did not answer properly: {why}.",
        container.host
    )
}

fn refused(what: &str, container: &Container, name: &str, status: u16) -> String {
    format!(
        "The blob store '{}' refused {what} '{name}': HTTP {status}.",
        container.host
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn https_is_spoken_and_private_networks_are_reached_only_where_allowed() {
        let closed = Container::parse("https://127.0.0.1:1/c").unwrap();
        let why = put(closed, "b".into(), Vec::new()).await.unwrap_err();
        assert!(why.contains("private network"), "{why}");
        let closed = Container::parse("https://127.0.0.1:1/c").unwrap();
        let why = put(closed.allowed_inside(true), "b".into(), Vec::new())
            .await
            .unwrap_err();
        assert!(!why.contains("stopping"), "{why}");
        for inside in [
            "10.0.0.1",
            "169.254.169.254",
            "::1",
            "fd00::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_inside(inside.parse().unwrap()), "{inside}");
        }
        assert!(!is_inside("198.51.100.7".parse().unwrap()));
    }

    #[test]
    fn only_https_and_loopback_are_taken_and_signatures_never_shown() {
        let good = Container::parse("https://a.blob.core.windows.net/c?sig=hidden").unwrap();
        assert_eq!(
            good.blob("devices.txt"),
            "https://a.blob.core.windows.net/c/devices.txt?sig=hidden"
        );
        assert!(!format!("{good:?}").contains("hidden"));
        assert!(Container::parse("http://127.0.0.1:1000/dev/c").is_ok());
        for bad in [
            "http://a.example/c",
            "ftp://a/c",
            "https://a.example",
            "https://u:p@a.example/c",
            "nothing",
            "http://127.0.0.1.example/c",
        ] {
            assert!(Container::parse(bad).is_err(), "{bad}");
        }
    }
}
