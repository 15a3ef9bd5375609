//! `castling device simulate`: a fleet that sends and counts what was acknowledged, across failovers and restarts.

mod sender;

use super::Context;
use super::device::create_many;
use super::failure::Failure;
use super::http::{Network, address, pem_certificates};
use super::json::text;
use super::mqtt::{Connection, Fault, Login};
use super::out::spinner;
use super::service::{Service, unix_now_s};
use super::stop::Signals;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sender::Sender;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Messages of one device that wait for their acknowledgement.
const IN_FLIGHT_MAX: usize = 64;
/// Devices that connect at the same time.
const CONNECTING_MAX: usize = 64;
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const PING_AFTER: Duration = Duration::from_secs(25);
/// How long the last acknowledgements are waited for.
const DRAIN: Duration = Duration::from_secs(30);
const TOKEN_LIFE_S: i64 = 3600;
const POLICY: &str = "device";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  castling device simulate my-hub
  castling device simulate my-hub --devices 500 --rate 200 --seconds 120

Devices PREFIX-1, PREFIX-2 and so on are created if absent. A message counts when the hub acknowledged it; connections that break are opened again and what was not acknowledged is sent again. `longest silence` is the longest time without any acknowledgement: across a failover, what devices feel of it. Exit code 1 if something stayed unacknowledged.")]
pub struct Simulate {
    hub: String,
    /// Devices that send
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    devices: u32,
    /// Messages a second, all devices together
    #[arg(long, default_value_t = 10.0, value_parser = rate, value_name = "PER_SECOND")]
    rate: f64,
    /// How long to send; Ctrl-C ends it before
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    seconds: u32,
    /// Size of a message's body
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..=200_000))]
    size: u32,
    /// The devices' names begin with it
    #[arg(long, default_value = "sim", value_parser = prefix)]
    prefix: String,
    /// Region to connect to [default: the first]
    #[arg(long)]
    region: Option<String>,
}

pub fn run(wanted: &Simulate, context: &Context) -> Result<(), Failure> {
    let up = context.network.up();
    let first_region = match &wanted.region {
        None => 0,
        Some(name) => up
            .regions
            .iter()
            .position(|region| region.name == *name)
            .ok_or_else(|| Failure::Usage(format!("--region {name}: it does not run here")))?,
    };
    let registry = Service::open(&context.network, &wanted.hub)?;
    let ids: Vec<String> = (1..=wanted.devices)
        .map(|n| format!("{}-{n}", wanted.prefix))
        .collect();
    if let Some(error) = create_many(&registry, &ids, "createOrUpdate")?.first() {
        return Err(Failure::Failed(format!(
            "creating {}: {} {}",
            text(error, "deviceId"),
            text(error, "errorCode"),
            text(error, "errorStatus")
        )));
    }
    let fleet = Fleet {
        service: Service::with_policy(&context.network, &wanted.hub, POLICY)?,
        network: &context.network,
        tls: tls(Path::new(&up.ca_file))?,
        first_region,
        interval: Duration::from_secs_f64(f64::from(wanted.devices) / wanted.rate),
        devices: wanted.devices,
        size: wanted.size as usize,
        counts: Counts::default(),
        connecting: Semaphore::new(CONNECTING_MAX),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let result = runtime.block_on(fleet.run(&ids, Duration::from_secs(wanted.seconds.into())))?;
    context.out.show(&result.document(), |out| {
        out.pairs(&[
            ("Sent", result.sent.to_string()),
            (
                "Acknowledged",
                format!("{} ({:.1}/s)", result.acknowledged, result.per_second()),
            ),
            (
                "Unacknowledged",
                (result.sent - result.acknowledged).to_string(),
            ),
            ("Connections again", result.reconnects.to_string()),
            ("Refused devices", result.refused.to_string()),
            ("Slowest ack", format!("{} ms", result.slowest_ms)),
            ("Longest silence", format!("{} ms", result.silence_ms)),
        ])
    })?;
    if result.refused == 0 && result.acknowledged == result.sent {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} messages stayed unacknowledged; {} devices were refused",
        result.sent - result.acknowledged,
        result.refused
    )))
}

struct Fleet<'a> {
    service: Service<'a>,
    network: &'a Network,
    tls: Arc<rustls::ClientConfig>,
    first_region: usize,
    /// Between two messages of one device.
    interval: Duration,
    devices: u32,
    size: usize,
    counts: Counts,
    connecting: Semaphore,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    connected: AtomicU64,
    reconnects: AtomicU64,
    refused: AtomicU64,
    slowest_ms: AtomicU64,
    /// When the last acknowledgement came, in milliseconds since the start; 0: none yet.
    last_ms: AtomicU64,
    silence_ms: AtomicU64,
}

struct Outcome {
    sent: u64,
    acknowledged: u64,
    reconnects: u64,
    refused: u64,
    slowest_ms: u64,
    silence_ms: u64,
    elapsed: Duration,
}

impl Outcome {
    fn per_second(&self) -> f64 {
        self.acknowledged as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    fn document(&self) -> Value {
        json!({
            "sent": self.sent, "acknowledged": self.acknowledged, "acknowledgedPerSecond": (self.per_second() * 10.0).round() / 10.0,
            "reconnects": self.reconnects, "refusedDevices": self.refused, "slowestAckMs": self.slowest_ms,
            "longestSilenceMs": self.silence_ms, "seconds": (self.elapsed.as_secs_f64() * 10.0).round() / 10.0,
        })
    }
}

impl Fleet<'_> {
    async fn run(self, ids: &[String], time: Duration) -> Result<Outcome, Failure> {
        let mut signals = Signals::new()?;
        let started = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let bar = spinner("connecting");
        let fleet = &self;
        let devices = futures_util::future::join_all(
            ids.iter()
                .enumerate()
                .map(|(n, id)| fleet.device(n, id, started, stopped.clone())),
        );
        tokio::pin!(devices);
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut elapsed = None;
        loop {
            tokio::select! {
                _ = &mut devices => break,
                () = &mut end, if elapsed.is_none() => elapsed = Some(started.elapsed()),
                () = signals.received(), if elapsed.is_none() => elapsed = Some(started.elapsed()),
                _ = second.tick() => bar.set_message(self.counts.line(ids.len(), started.elapsed())),
            }
            if elapsed.is_some() {
                // The devices hold the other end until they are done.
                stop.send_replace(true);
            }
        }
        bar.finish_and_clear();
        Ok(self
            .counts
            .outcome(elapsed.unwrap_or_else(|| started.elapsed())))
    }

    /// One device: sends until told to stop, then waits for what is not acknowledged.
    async fn device(
        &self,
        n: usize,
        id: &str,
        started: Instant,
        mut stopped: watch::Receiver<bool>,
    ) {
        // The devices' turns are spread over the interval.
        let first = started + self.interval.mul_f64(n as f64 / self.devices as f64);
        let mut sender = Sender::new(id, self.size, self.interval, first);
        let (mut backoff, mut attempt) = (BACKOFF, 0);
        while !sender.is_done(&stopped) {
            match self.connect(id, attempt).await {
                Ok(connection) => {
                    self.counts.connected.fetch_add(1, Ordering::Relaxed);
                    let began = Instant::now();
                    let broken = sender
                        .converse(&self.counts, connection, started, &mut stopped)
                        .await
                        .is_err();
                    self.counts.connected.fetch_sub(1, Ordering::Relaxed);
                    if broken {
                        self.counts.reconnects.fetch_add(1, Ordering::Relaxed);
                    }
                    if began.elapsed() > BACKOFF_MAX {
                        backoff = BACKOFF;
                    }
                }
                Err(Fault::Refused(why)) => {
                    if self.counts.refused.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("{id}: {}", super::out::printable(&why));
                    }
                    return;
                }
                Err(Fault::Passing(_)) => {}
            }
            if sender.is_done(&stopped) {
                return;
            }
            attempt += 1;
            // Devices that lost their connections together do not come back together.
            tokio::time::sleep(backoff + backoff.mul_f64((n % 16) as f64 / 16.0)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn connect(&self, id: &str, attempt: usize) -> Result<Connection, Fault> {
        let Ok(_turn) = self.connecting.acquire().await else {
            return Err(Fault::Passing("ended".into()));
        };
        if attempt > 0 {
            self.network.look_again();
        }
        let up = self.network.up();
        let region = &up.regions[(self.first_region + attempt) % up.regions.len().max(1)];
        let ip = address(region).map_err(|_| {
            Fault::Refused(format!("up.json: `{}` is not an address", region.address))
        })?;
        let token = self.service.token_for(
            &format!("{}/devices/{id}", self.service.host),
            unix_now_s() + TOKEN_LIFE_S,
        );
        let login = Login {
            host: &self.service.host,
            device: id,
            token,
        };
        Connection::open(SocketAddr::new(ip, region.mqtt_port), &self.tls, &login).await
    }
}

impl Counts {
    /// A message was acknowledged `age` after it was first sent.
    fn acknowledged(&self, age: Duration, since_start: Duration) {
        let now_ms = since_start.as_millis() as u64;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.slowest_ms
            .fetch_max(age.as_millis() as u64, Ordering::Relaxed);
        let last_ms = self.last_ms.fetch_max(now_ms.max(1), Ordering::Relaxed);
        if last_ms > 0 {
            self.silence_ms
                .fetch_max(now_ms.saturating_sub(last_ms), Ordering::Relaxed);
        }
    }

    fn line(&self, devices: usize, elapsed: Duration) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let per_second = count(&self.acknowledged) as f64 / elapsed.as_secs_f64().max(0.001);
        format!(
            "{}/{devices} connected, {} sent, {} acknowledged ({per_second:.1}/s)",
            count(&self.connected),
            count(&self.sent),
            count(&self.acknowledged)
        )
    }

    fn outcome(&self, elapsed: Duration) -> Outcome {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Outcome {
            sent: count(&self.sent),
            acknowledged: count(&self.acknowledged),
            reconnects: count(&self.reconnects),
            refused: count(&self.refused),
            slowest_ms: count(&self.slowest_ms),
            silence_ms: count(&self.silence_ms),
            elapsed,
        }
    }
}

fn tls(ca_file: &Path) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in pem_certificates(ca_file)? {
        roots
            .add(CertificateDer::from(certificate.der().to_vec()))
            .map_err(Failure::failed)?;
    }
    link::tls::client_config(roots).map_err(Failure::failed)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("it must be a number from 0.001 to 1000000".into()),
    }
}

/// Names that need no encoding in a topic.
fn prefix(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("it must be 1 to 64 letters, digits, hyphens, dots and underscores".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_between_two_acknowledgements() {
        let counts = Counts::default();
        for at in [500, 600, 1_900, 2_000] {
            counts.acknowledged(Duration::from_millis(5), Duration::from_millis(at));
        }
        assert_eq!(counts.outcome(Duration::from_secs(2)).silence_ms, 1_300);
    }

    #[test]
    fn prefixes_fit_into_topics() {
        assert!(prefix("sim_a.b-c").is_ok());
        for bad in ["", "a/b", "a+", "#", "a b"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }
}
