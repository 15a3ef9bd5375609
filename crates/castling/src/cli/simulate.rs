//! `castling device simulate`: a fleet that sends and counts what was acknowledged, across failovers and restarts.

use super::Context;
use super::device::create_many;
use super::failure::Failure;
use super::http::{Network, address, pem_certificates};
use super::json::text;
use super::mqtt::{Connection, Fault, Login, telemetry};
use super::out::spinner;
use super::service::{Service, unix_now_s};
use super::stop::Signals;
use bytes::Bytes;
use rmqtt_codec::v3::Packet;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;
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

Devices PREFIX-1, PREFIX-2 and so on are created if absent. A message counts when the hub acknowledged it; connections that
break are opened again and what was not acknowledged is sent again. `longest silence` is the longest time without any
acknowledgement: across a failover, what devices feel of it. Exit code 1 if something stayed unacknowledged.")]
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

struct Waiting {
    id: NonZeroU16,
    body: Bytes,
    first_sent: Instant,
}

/// What one device has to send and to hear of, kept from connection to connection.
struct Sender<'a> {
    device: &'a str,
    size: usize,
    interval: Duration,
    next_number: u64,
    next_id: NonZeroU16,
    next_at: Instant,
    waiting: VecDeque<Waiting>,
    /// When waiting for the last acknowledgements ends; `None`: it still sends.
    drained_by: Option<Instant>,
}

impl<'a> Sender<'a> {
    fn new(device: &'a str, size: usize, interval: Duration, first: Instant) -> Self {
        Sender {
            device,
            size,
            interval,
            next_number: 0,
            next_id: NonZeroU16::MIN,
            next_at: first,
            waiting: VecDeque::new(),
            drained_by: None,
        }
    }

    /// Whether it was told to stop and has nothing more to wait for.
    fn is_done(&mut self, stopped: &watch::Receiver<bool>) -> bool {
        if !*stopped.borrow() {
            return false;
        }
        let until = *self
            .drained_by
            .get_or_insert_with(|| Instant::now() + DRAIN);
        self.waiting.is_empty() || Instant::now() >= until
    }

    /// Sends and hears until everything is done.
    ///
    /// # Errors
    /// When the connection breaks.
    async fn converse(
        &mut self,
        counts: &Counts,
        mut connection: Connection,
        started: Instant,
        stopped: &mut watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let again = self
            .waiting
            .iter()
            .map(|w| telemetry(self.device, w.id, w.body.clone(), true))
            .collect();
        connection.send(again).await?;
        let mut ping_at = Instant::now() + PING_AFTER;
        while !self.is_done(stopped) {
            let sending = self.drained_by.is_none();
            let may_send = sending && self.waiting.len() < IN_FLIGHT_MAX;
            tokio::select! {
                packet = connection.next() => self.hear(&packet?, counts, started),
                () = tokio::time::sleep_until(self.next_at), if may_send => {
                    let due = self.due(counts);
                    connection.send(due).await?;
                    ping_at = Instant::now() + PING_AFTER;
                }
                () = tokio::time::sleep_until(ping_at) => {
                    connection.send(vec![Packet::PingRequest]).await?;
                    ping_at = Instant::now() + PING_AFTER;
                }
                () = tokio::time::sleep_until(self.drained_by.unwrap_or(ping_at)), if !sending => {}
                changed = stopped.changed(), if sending => changed.map_err(std::io::Error::other)?,
            }
        }
        connection.send(vec![Packet::Disconnect]).await
    }

    fn hear(&mut self, packet: &Packet, counts: &Counts, started: Instant) {
        let Packet::PublishAck { packet_id } = packet else {
            return;
        };
        let Some(at) = self
            .waiting
            .iter()
            .position(|waiting| waiting.id == *packet_id)
        else {
            return;
        };
        if let Some(waiting) = self.waiting.remove(at) {
            counts.acknowledged(waiting.first_sent.elapsed(), started.elapsed());
        }
    }

    /// The messages whose time has come.
    fn due(&mut self, counts: &Counts) -> Vec<Packet> {
        let now = Instant::now();
        let mut packets = Vec::new();
        while self.next_at <= now && self.waiting.len() < IN_FLIGHT_MAX {
            let body = body(self.device, self.next_number, self.size);
            let id = self.take_id();
            self.waiting.push_back(Waiting {
                id,
                body: body.clone(),
                first_sent: now,
            });
            packets.push(telemetry(self.device, id, body, false));
            self.next_number += 1;
            self.next_at += self.interval;
        }
        // What could not be sent in its time is not made up for: the rate stays the rate.
        if self.next_at + Duration::from_secs(1) < now {
            self.next_at = now + self.interval;
        }
        counts
            .sent
            .fetch_add(packets.len() as u64, Ordering::Relaxed);
        packets
    }

    /// A packet id that nothing waiting has: fewer than [`IN_FLIGHT_MAX`] are taken.
    fn take_id(&mut self) -> NonZeroU16 {
        while self
            .waiting
            .iter()
            .any(|waiting| waiting.id == self.next_id)
        {
            self.next_id = self.next_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        id
    }
}

/// JSON of exactly `size` bytes (at least what its fields need).
fn body(device: &str, number: u64, size: usize) -> Bytes {
    let temperature = 20.0 + (number % 100) as f64 / 10.0;
    let mut text =
        format!("{{\"device\":\"{device}\",\"number\":{number},\"temperature\":{temperature:.1}}}");
    while text.len() < size {
        text.push(' ');
    }
    text.into()
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
    fn bodies_are_json_of_the_size_asked_for() {
        let body = body("sim-1", 7, 100);
        assert_eq!(body.len(), 100);
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (value["device"].as_str(), value["number"].as_u64()),
            (Some("sim-1"), Some(7))
        );
    }

    #[test]
    fn what_waits_is_bounded_and_each_has_its_own_id() {
        let counts = Counts::default();
        let mut sender = Sender::new("d", 64, Duration::ZERO, Instant::now());
        sender.next_id = NonZeroU16::MAX;
        assert_eq!(sender.due(&counts).len(), IN_FLIGHT_MAX);
        let mut ids: Vec<u16> = sender
            .waiting
            .iter()
            .map(|waiting| waiting.id.get())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), IN_FLIGHT_MAX);
        assert_eq!(sender.due(&counts).len(), 0);
    }

    #[test]
    fn an_acknowledgement_counts_once() {
        let (counts, started) = (Counts::default(), Instant::now());
        let mut sender = Sender::new("d", 64, Duration::from_secs(60), started);
        sender.due(&counts);
        let ack = Packet::PublishAck {
            packet_id: sender.waiting[0].id,
        };
        sender.hear(&ack, &counts, started);
        sender.hear(&ack, &counts, started);
        assert_eq!(counts.outcome(Duration::from_secs(1)).acknowledged, 1);
        assert!(sender.waiting.is_empty());
    }

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
