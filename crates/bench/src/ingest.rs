//! `ingest`: how many publishes a second are acknowledged, how soon, and what they cost the server.

use crate::connection::Connection;
use crate::packet::{FromServer, Publish};
use crate::server::Process;
use crate::sessions::{open_all, runtime};
use crate::stats::Latencies;
use crate::target::Target;
use serde_json::{Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// The first part of a run is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub struct Ingest {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Publishes that a connection has unacknowledged at most
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    window: u16,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=262_144))]
    payload: u32,
    /// The server's process, to count what it uses
    #[arg(long)]
    server_pid: Option<u32>,
}

/// When counting is on, and when all ends.
struct Phase {
    counting: Cell<bool>,
    ended: Cell<bool>,
}

impl Ingest {
    pub fn run(self) -> Result<Value, String> {
        let runtime = runtime(1)?;
        runtime.block_on(LocalSet::new().run_until(self.measure()))
    }

    async fn measure(self) -> Result<Value, String> {
        let ways = self.target.ways(self.connections as usize)?;
        let (connections, opening) = open_all(&ways).await?;
        let phase = Rc::new(Phase {
            counting: Cell::new(false),
            ended: Cell::new(false),
        });
        let body = vec![b'x'; self.payload as usize];
        let mut tasks = Vec::new();
        for connection in connections {
            tasks.push(tokio::task::spawn_local(publish(
                connection,
                body.clone(),
                self.window,
                phase.clone(),
            )));
        }
        tokio::time::sleep(WARM_UP).await;
        let server = self.server_pid.map(Process::new);
        let cpu = || server.as_ref().and_then(Process::cpu_seconds);
        let (cpu_before, begun) = (cpu(), Instant::now());
        phase.counting.set(true);
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        phase.counting.set(false);
        let (took, cpu_after) = (begun.elapsed().as_secs_f64(), cpu());
        phase.ended.set(true);
        let mut all = Latencies::default();
        for task in tasks {
            all.add(&task.await.map_err(|error| error.to_string())??);
        }
        let rate = all.count() as f64 / took;
        let cpu_used = cpu_before
            .zip(cpu_after)
            .map(|(before, after)| after - before);
        Ok(json!({
            "connections": self.connections, "window": self.window, "payload": self.payload, "seconds": took,
            "connects_per_s": f64::from(self.connections) / opening.as_secs_f64(),
            "acks": all.count(), "acks_per_s": rate,
            "puback_p50_us": all.percentile(0.50), "puback_p99_us": all.percentile(0.99), "puback_max_us": all.max(),
            "server_cores": cpu_used.map(|used| used / took),
            "server_cpu_us_per_ack": cpu_used.map(|used| used * 1e6 / all.count().max(1) as f64),
        }))
    }
}

/// Keeps the window full until the end; latencies of what was acknowledged while counting was on.
async fn publish(
    mut connection: Connection,
    body: Vec<u8>,
    window: u16,
    phase: Rc<Phase>,
) -> Result<Latencies, String> {
    let publish = Publish::new(&connection.device, &body);
    let mut sent = vec![Instant::now(); usize::from(window)];
    let mut latencies = Latencies::default();
    let mut out = Vec::with_capacity(usize::from(window) * (body.len() + 64));
    for id in 1..=window {
        publish.write(id, &mut out);
    }
    let mut in_flight = usize::from(window);
    let mut acknowledged = Vec::with_capacity(in_flight);
    while in_flight > 0 {
        if !out.is_empty() {
            connection
                .send(&out)
                .await
                .map_err(|error| format!("while sending: {error}"))?;
            out.clear();
        }
        connection
            .receive(|packet| {
                if let FromServer::Puback(id) = packet {
                    acknowledged.push(id);
                }
            })
            .await
            .map_err(|error| format!("while waiting for acknowledgements: {error}"))?;
        let now = Instant::now();
        for id in acknowledged.drain(..) {
            let Some(sent) = sent.get_mut(usize::from(id).wrapping_sub(1)) else {
                return Err(format!("PUBACK {id} was never asked for"));
            };
            if phase.counting.get() {
                latencies.record(now.duration_since(*sent).as_micros() as u64);
            }
            if phase.ended.get() {
                in_flight -= 1;
            } else {
                *sent = now;
                publish.write(id, &mut out);
            }
        }
    }
    connection.close().await;
    Ok(latencies)
}
