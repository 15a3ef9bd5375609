//! `ledger`: devices that write down every acknowledged publish, and outlive their server.
//!
//! The file has a line per acknowledgement, `A device counter`, and one per publish that was sent again on a new connection,
//! `R device counter`. It is complete and synced when the process ends.

use crate::connection::{Connection, Refused};
use crate::packet::{FromServer, Publish};
use crate::sessions::{runtime, told_to_end};
use crate::target::{Target, Way};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// `{"counter":` and room for the number; blanks after it are JSON too.
const BODY_HEAD: &str = "{\"counter\":";
const DIGITS: usize = 12;
/// How long, after the end, a device waits for what is not acknowledged yet.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct Ledger {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    connections: u32,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    window: u16,
    /// Publishes a second and device, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// At most; it ends with standard input
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=7200))]
    seconds: u64,
    #[arg(long)]
    out: PathBuf,
}

#[derive(Default)]
struct Counts {
    acks: u64,
    resent: u64,
    reconnects: u64,
}

type Book = Rc<RefCell<BufWriter<File>>>;

impl Ledger {
    pub fn run(self) -> Result<Value, String> {
        let runtime = runtime(1)?;
        runtime.block_on(LocalSet::new().run_until(self.write()))
    }

    async fn write(self) -> Result<Value, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", self.out.display());
        let file = File::create(&self.out).map_err(fail)?;
        let book: Book = Rc::new(RefCell::new(BufWriter::with_capacity(1 << 16, file)));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        for way in self.target.ways(self.connections as usize)? {
            let device = Device::new(way, self.window, self.rate, book.clone(), stopped.clone());
            tasks.push(tokio::task::spawn_local(device.run()));
        }
        told_to_end(Duration::from_secs(self.seconds)).await;
        // Devices that failed already need not be told.
        let _ = stop.send(true);
        let mut sum = Counts::default();
        for task in tasks {
            let counts = task.await.map_err(|error| error.to_string())??;
            sum.acks += counts.acks;
            sum.resent += counts.resent;
            sum.reconnects += counts.reconnects;
        }
        let mut book = book.borrow_mut();
        book.flush()
            .and_then(|()| book.get_ref().sync_all())
            .map_err(fail)?;
        Ok(json!({"acks": sum.acks, "resent": sum.resent, "reconnects": sum.reconnects}))
    }
}

struct Device {
    way: Way,
    window: usize,
    period: Duration,
    book: Book,
    stopped: watch::Receiver<bool>,
    packet: Publish,
    next: u64,
    /// Sent and not acknowledged, in order: (packet id, counter).
    waiting: VecDeque<(u16, u64)>,
    last_id: u16,
    counts: Counts,
}

impl Device {
    fn new(way: Way, window: u16, rate: u64, book: Book, stopped: watch::Receiver<bool>) -> Device {
        let body = format!("{BODY_HEAD}{}}}", " ".repeat(DIGITS));
        let packet = Publish::new(&way.device, body.as_bytes());
        let period = Duration::from_nanos(1_000_000_000 / rate);
        Device {
            way,
            window: window.into(),
            period,
            book,
            stopped,
            packet,
            next: 0,
            waiting: VecDeque::new(),
            last_id: 0,
            counts: Counts::default(),
        }
    }

    async fn run(mut self) -> Result<Counts, String> {
        let mut end: Option<Instant> = None;
        let mut opened = false;
        while !(*self.stopped.borrow() && self.waiting.is_empty()) {
            if *self.stopped.borrow()
                && end
                    .get_or_insert_with(|| Instant::now() + PATIENCE)
                    .elapsed()
                    > Duration::ZERO
            {
                return Err(format!(
                    "{}: {} publishes are not acknowledged after {PATIENCE:?}",
                    self.way.device,
                    self.waiting.len()
                ));
            }
            let connect = self.way.connect_packet();
            let mut connection = match Connection::open(&self.way, &connect).await {
                Ok(connection) => connection,
                Err(Refused::Code(code)) => {
                    return Err(format!("{}: CONNACK {code}", self.way.device));
                }
                Err(Refused::Trouble(_)) => {
                    self.way.turn();
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            self.counts.reconnects += u64::from(opened);
            opened = true;
            match self.on_one(&mut connection).await {
                Ok(()) => connection.close().await,
                Err(Broken::Network) => {}
                Err(Broken::Book(why)) => return Err(why),
            }
        }
        Ok(self.counts)
    }

    /// Sends again what waits, then goes on; ends when all is over and acknowledged.
    async fn on_one(&mut self, connection: &mut Connection) -> Result<(), Broken> {
        let mut out = Vec::new();
        let again: Vec<u64> = self.waiting.drain(..).map(|(_, counter)| counter).collect();
        for counter in again {
            self.note('R', counter)?;
            self.counts.resent += 1;
            self.queue(counter, &mut out);
        }
        connection.send(&out).await?;
        let mut due = Instant::now();
        let deadline = |stopped: bool| {
            if stopped {
                Instant::now() + PATIENCE
            } else {
                Instant::now() + Duration::from_secs(3600)
            }
        };
        let mut until = deadline(*self.stopped.borrow());
        loop {
            let stopping = *self.stopped.borrow();
            if stopping && self.waiting.is_empty() {
                return Ok(());
            }
            let may_send = !stopping && self.waiting.len() < self.window;
            let mut acknowledged = Vec::new();
            tokio::select! {
                received = connection.receive(|packet| if let FromServer::Puback(id) = packet { acknowledged.push(id) }) => received?,
                () = tokio::time::sleep_until(due), if may_send => {
                    out.clear();
                    let counter = self.next;
                    self.next += 1;
                    self.queue(counter, &mut out);
                    connection.send(&out).await?;
                    // A device that was held up does not make up for it.
                    due = (due + self.period).max(Instant::now());
                }
                changed = self.stopped.changed(), if !stopping => {
                    if changed.is_ok() { until = deadline(true) }
                }
                () = tokio::time::sleep_until(until) => return Err(Broken::Network),
            }
            for id in acknowledged {
                self.acknowledge(id)?;
            }
        }
    }

    fn queue(&mut self, counter: u64, out: &mut Vec<u8>) {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.waiting.push_back((self.last_id, counter));
        let head = BODY_HEAD.len();
        self.packet
            .write_with(self.last_id, head..head + DIGITS, &counter.to_string(), out);
    }

    fn acknowledge(&mut self, id: u16) -> Result<(), Broken> {
        // In order, as the protocol asks; so the first is nearly always the one.
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == id) else {
            return Err(Broken::Book(format!(
                "{}: PUBACK {id} was never asked for",
                self.way.device
            )));
        };
        if let Some((_, counter)) = self.waiting.remove(at) {
            self.counts.acks += 1;
            self.note('A', counter)?;
        }
        Ok(())
    }

    fn note(&self, kind: char, counter: u64) -> Result<(), Broken> {
        writeln!(
            self.book.borrow_mut(),
            "{kind} {} {counter}",
            self.way.device
        )
        .map_err(|error| Broken::Book(error.to_string()))
    }
}

/// Why a connection's work ended early.
enum Broken {
    /// It is gone: connect again.
    Network,
    /// Something that no new connection mends.
    Book(String),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Broken {
        Broken::Network
    }
}
