//! Requests to a running world: any of its regions will do.

use super::contexts::{Contexts, Credential};
use super::failure::Failure;
use crate::world::status::PATH as STATUS;
use crate::world::up_file::{UpFile, UpRegion};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{HeaderValue, Method, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(65);
/// How long regions are waited for that say whether they hold their lease.
const LIVE_WITHIN: Duration = Duration::from_millis(1_500);
/// More than any answer of the APIs has.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Which of a region's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Https,
    Management,
}

pub struct Request {
    pub method: Method,
    pub door: Door,
    /// The host name to ask for; `None`: the region's address.
    pub host: Option<String>,
    pub path_and_query: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null when it is empty.
    ///
    /// # Errors
    /// When it is something else.
    pub fn json(&self) -> Result<Value, Failure> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::Failed(format!("the answer is not JSON: {error}")))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing was sent: no region is reachable.
    Unreachable(String),
    /// It was sent, perhaps; the answer is missing.
    Interrupted(String),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::Failed(match trouble {
            Trouble::Unreachable(why) => {
                format!(
                    "no region answers ({why}); is `castling up` (or `castling region`) still running?"
                )
            }
            Trouble::Interrupted(why) => format!(
                "the connection broke before the answer came ({why}); it may have been carried out"
            ),
        })
    }
}

/// The way to a running world.
pub struct Network {
    source: Source,
    state: RwLock<Arc<Known>>,
    /// The region that answered last.
    preferred: AtomicUsize,
}

/// Where it is known from.
enum Source {
    /// A data folder with an `up.json`.
    Folder(PathBuf),
    /// The name of a context, and who signed in.
    Context(String, Box<Credential>),
    /// Nobody signed in yet.
    Address,
}

struct Known {
    up: UpFile,
    agents: Vec<Agent>,
}

impl Network {
    /// Finds the world of a data folder.
    ///
    /// # Errors
    /// With what to do about it.
    pub fn open(data: &Path) -> Result<Network, Failure> {
        Network::with(UpFile::read(data)?, Source::Folder(data.to_owned()))
    }

    /// The deployment of a context.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn of_context(name: &str) -> Result<Network, Failure> {
        let stored = Contexts::read()?.get(name)?.clone();
        let source = Source::Context(name.to_owned(), Box::new(stored.credential));
        Network::with(stored.deployment, source)
    }

    /// A deployment that nobody signed in to yet.
    ///
    /// # Errors
    /// When its authority cannot be read.
    pub fn at(up: UpFile) -> Result<Network, Failure> {
        Network::with(up, Source::Address)
    }

    fn with(up: UpFile, source: Source) -> Result<Network, Failure> {
        Ok(Network {
            source,
            state: RwLock::new(Arc::new(Known::of(up)?)),
            preferred: AtomicUsize::new(0),
        })
    }

    /// The context's name, if it is one.
    pub fn context(&self) -> Option<&str> {
        match &self.source {
            Source::Context(name, _) => Some(name),
            Source::Folder(_) | Source::Address => None,
        }
    }

    /// Who asks.
    pub fn credential(&self) -> Credential {
        match &self.source {
            Source::Context(_, credential) => (**credential).clone(),
            Source::Folder(_) | Source::Address => {
                let up = self.up();
                Credential::Secret {
                    client_id: up.client_id,
                    secret: up.client_secret,
                }
            }
        }
    }

    /// `https://HOST:PORT` of the management API that answers first.
    pub fn base(&self) -> String {
        let known = self.known();
        let at = self.preferred.load(Ordering::Relaxed);
        match known.up.regions.get(at).or(known.up.regions.first()) {
            Some(region) => format!(
                "https://{}:{}",
                host_of(&region.address),
                region.management_port
            ),
            None => known.up.management_url.clone(),
        }
    }

    /// What the world told about itself when it was last asked.
    pub fn up(&self) -> UpFile {
        self.known().up.clone()
    }

    fn known(&self) -> Arc<Known> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks again where the world is: ports and certificates may be others after a restart.
    pub fn look_again(&self) -> bool {
        let Source::Folder(data) = &self.source else {
            return false;
        };
        let Ok(up) = UpFile::read(data) else {
            return false;
        };
        if up.pid == self.known().up.pid {
            return false;
        }
        let Ok(known) = Known::of(up) else {
            return false;
        };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        true
    }

    /// Asks every node by itself, regions first, for what it serves to anybody at its management port.
    pub fn ask_each(
        &self,
        path: &'static str,
        within: Duration,
    ) -> Vec<(String, Result<Value, String>)> {
        let up = &self.known().up;
        let witnesses = up.witnesses.iter().map(|witness| UpRegion {
            name: witness.name.clone(),
            address: witness.address.clone(),
            https_port: 0,
            mqtt_port: 0,
            amqp_port: None,
            management_port: witness.management_port,
            plain_mqtt_port: None,
        });
        let nodes: Vec<UpRegion> = up.regions.iter().cloned().chain(witnesses).collect();
        let roots = roots(Path::new(&up.ca_file)).map_err(|failure| failure.lines().join(" "));
        let ask = |node: &UpRegion| {
            let agent = agent(&node.address, roots.clone()?, within);
            match send_once(&agent, node, &asks_for(path)) {
                Ok(answer) => answer.json().map_err(|failure| failure.lines().join(" ")),
                Err(Trouble::Unreachable(why) | Trouble::Interrupted(why)) => Err(why),
            }
        };
        std::thread::scope(|scope| {
            let asked: Vec<_> = nodes
                .iter()
                .map(|node| (node.name.clone(), scope.spawn(|| ask(node))))
                .collect();
            asked
                .into_iter()
                .map(|(name, thread)| {
                    let answer = thread.join();
                    (
                        name,
                        answer.unwrap_or_else(|_| Err("asking it failed".into())),
                    )
                })
                .collect()
        })
    }

    /// Begins with the first region that answers and holds its lease: one that is hung costs no wait, and one that is cut off
    /// from the others cannot decide. Where all regions are one process, any will do.
    pub fn prefer_live(&self) {
        let known = self.known();
        let up = &known.up;
        let Ok(roots) = roots(Path::new(&up.ca_file)) else {
            return;
        };
        if up.pid != 0 || up.regions.len() < 2 {
            return;
        }
        let (sender, answers) = sync_channel(up.regions.len());
        for (place, region) in up.regions.iter().cloned().enumerate() {
            let (sender, roots) = (sender.clone(), roots.clone());
            std::thread::spawn(move || {
                let agent = agent(&region.address, roots, LIVE_WITHIN);
                let live = send_once(&agent, &region, &asks_for(STATUS))
                    .ok()
                    .and_then(|answer| answer.json().ok())
                    .is_some_and(|status| status["lease"]["held"] == Value::Bool(true));
                // Nobody waits any more once another has answered.
                let _ = sender.send((place, live));
            });
        }
        drop(sender);
        let end = Instant::now() + LIVE_WITHIN;
        while let Ok((place, live)) =
            answers.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if live {
                self.preferred.store(place, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Sends a request to the first region that can be reached.
    ///
    /// # Errors
    /// [`Trouble`] when none answers. Requests that change nothing twice are sent again to other regions.
    pub fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        match self.send_to_known(request) {
            Err(Trouble::Unreachable(_)) if self.look_again() => self.send_to_known(request),
            other => other,
        }
    }

    fn send_to_known(&self, request: &Request) -> Result<Answer, Trouble> {
        let known = self.known();
        let count = known.agents.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut trouble = Trouble::Unreachable("it has no regions".into());
        for turn in 0..count {
            let at = (first + turn) % count;
            match send_once(&known.agents[at], &known.up.regions[at], request) {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Trouble::Interrupted(why)) if request.method != Method::GET => {
                    return Err(Trouble::Interrupted(why));
                }
                Err(why) => trouble = why,
            }
        }
        Err(trouble)
    }
}

impl Known {
    fn of(up: UpFile) -> Result<Known, Failure> {
        let roots = roots(Path::new(&up.ca_file))?;
        let agents = up
            .regions
            .iter()
            .map(|region| agent(&region.address, roots.clone(), REQUEST_TIMEOUT))
            .collect();
        Ok(Known { up, agents })
    }
}

/// The certificates of a PEM file.
pub fn pem_certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?
        {
            found.push(certificate.to_owned());
        }
    }
    if found.is_empty() {
        return Err(Failure::Failed(format!(
            "{} has no certificate",
            path.display()
        )));
    }
    Ok(found)
}

fn roots(path: &Path) -> Result<RootCerts, Failure> {
    Ok(RootCerts::Specific(Arc::new(pem_certificates(path)?)))
}

/// Where a region is reached from this machine; a name is looked up.
pub fn address(region: &UpRegion) -> Result<IpAddr, Failure> {
    looked_up(&region.address).map_err(Failure::Failed)
}

fn looked_up(host: &str) -> Result<IpAddr, String> {
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => (host, 0_u16)
            .to_socket_addrs()
            .map_err(|error| format!("`{host}`: {error}"))?
            .next()
            .ok_or_else(|| format!("`{host}` has no address"))?
            .ip(),
    };
    Ok(match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    })
}

/// Leads every name to one host: hubs need no entry in any name service.
#[derive(Debug)]
struct Fixed(String);

impl Resolver for Fixed {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        let address = looked_up(&self.0).map_err(|_| ureq::Error::HostNotFound)?;
        found.push(SocketAddr::new(address, uri.port_u16().unwrap_or(443)));
        Ok(found)
    }
}

/// What anybody may ask a node at its management port.
fn asks_for(path: &str) -> Request {
    Request {
        method: Method::GET,
        door: Door::Management,
        host: None,
        path_and_query: path.to_owned(),
        headers: Vec::new(),
        body: None,
    }
}

fn agent(host: &str, roots: RootCerts, within: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(link::tls::provider())
        .build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Loopback or a named region: never through a proxy of the environment.
        .proxy(None)
        .no_delay(true)
        .max_idle_connections_per_host(8)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(within))
        .user_agent(concat!("castling/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Fixed(host.to_owned()))
}

fn send_once(agent: &Agent, region: &UpRegion, request: &Request) -> Result<Answer, Trouble> {
    let url = url(region, request)?;
    let mut builder = ureq::http::Request::builder()
        .method(request.method.clone())
        .uri(url);
    for (name, value) in &request.headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Trouble::Unreachable(format!("the value of {name} has a control character"))
        })?;
        builder = builder.header(name, value);
    }
    let unfit = |error: ureq::http::Error| {
        Trouble::Unreachable(format!("the request cannot be written: {error}"))
    };
    let body = request.body.clone();
    let carries = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    let sent = match body {
        None if !carries => agent.run(builder.body(()).map_err(unfit)?),
        body => agent.run(builder.body(body.unwrap_or_default()).map_err(unfit)?),
    };
    let mut response = sent.map_err(|error| trouble(region, &error))?;
    let body = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec();
    let body = body.map_err(|error| Trouble::Interrupted(format!("{}: {error}", region.name)))?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body,
    })
}

fn url(region: &UpRegion, request: &Request) -> Result<String, Trouble> {
    let port = match request.door {
        Door::Https => region.https_port,
        Door::Management => region.management_port,
    };
    let host = match &request.host {
        Some(host) => host.clone(),
        None => host_of(&region.address),
    };
    Ok(format!("https://{host}:{port}{}", request.path_and_query))
}

/// How a region's address stands in a URL; its certificate is for it.
fn host_of(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".into(),
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".into(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => address.to_owned(),
    }
}

fn trouble(region: &UpRegion, error: &ureq::Error) -> Trouble {
    let text = format!("{} at {}: {error}", region.name, region.address);
    let unreachable = match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
        ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::BadUri(_)
        | ureq::Error::Http(_) => true,
        _ => false,
    };
    if unreachable {
        Trouble::Unreachable(text)
    } else {
        Trouble::Interrupted(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(address: &str) -> UpRegion {
        UpRegion {
            name: "westus2".into(),
            address: address.into(),
            https_port: 8443,
            mqtt_port: 8883,
            amqp_port: None,
            management_port: 8444,
            plain_mqtt_port: None,
        }
    }

    fn check_url(address: &str, door: Door, host: Option<&str>, expected: &str) {
        let request = Request {
            method: Method::GET,
            door,
            host: host.map(str::to_owned),
            path_and_query: "/x?y=1".into(),
            headers: Vec::new(),
            body: None,
        };
        assert_eq!(url(&region(address), &request).unwrap(), expected);
    }

    #[test]
    fn urls_name_the_hub_or_the_address() {
        check_url(
            "127.0.0.2",
            Door::Https,
            Some("h.castling.localhost"),
            "https://h.castling.localhost:8443/x?y=1",
        );
        check_url(
            "127.0.0.2",
            Door::Management,
            None,
            "https://127.0.0.2:8444/x?y=1",
        );
        check_url(
            "0.0.0.0",
            Door::Management,
            None,
            "https://127.0.0.1:8444/x?y=1",
        );
        check_url("::1", Door::Management, None, "https://[::1]:8444/x?y=1");
    }

    #[test]
    fn a_refused_connection_means_that_nothing_was_sent() {
        let refused = ureq::Error::Io(ErrorKind::ConnectionRefused.into());
        assert!(matches!(
            trouble(&region("127.0.0.1"), &refused),
            Trouble::Unreachable(_)
        ));
        let reset = ureq::Error::Io(ErrorKind::ConnectionReset.into());
        assert!(matches!(
            trouble(&region("127.0.0.1"), &reset),
            Trouble::Interrupted(_)
        ));
    }
}
