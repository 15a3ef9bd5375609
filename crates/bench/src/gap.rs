//! `gap`: devices that publish every 10 ms, one at a time, and note how long they had to wait.

use crate::connection::Connection;
use crate::packet::{FromServer, Publish};
use crate::sessions::{runtime, told_to_end};
use crate::stats::Latencies;
use crate::target::{Target, Way};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

const PERIOD: Duration = Duration::from_millis(10);
/// Shorter waits are not written down one by one.
const WORTH_NOTING: Duration = Duration::from_millis(15);
/// An acknowledgement that has not come by now never does: that is a finding, not a gap.
const STUCK: Duration = Duration::from_secs(60);
/// More than any run makes; after them only the longest counts.
const NOTES_MAX: usize = 10_000;
const PAYLOAD: usize = 256;

#[derive(clap::Args)]
pub struct Gap {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// At most; it ends with standard input
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=7200))]
    seconds: u64,
}

#[derive(Default)]
struct Found {
    /// (device, milliseconds since 1970 at the end, milliseconds).
    gaps: Vec<(String, u64, u64)>,
    latencies: Latencies,
    longest: Duration,
    acks: u64,
    reconnects: u64,
    refused: Option<String>,
    /// Device and time, in milliseconds since 1970, of a publish that was never acknowledged on a connection that stayed open.
    stuck: Vec<(String, u64)>,
}

impl Gap {
    pub fn run(self) -> Result<Value, String> {
        runtime(1)?.block_on(self.measure())
    }

    async fn measure(self) -> Result<Value, String> {
        let (stop, stopped) = watch::channel(false);
        let tasks: Vec<_> = self
            .target
            .ways(self.connections as usize)?
            .into_iter()
            .map(|way| tokio::spawn(publish(way, stopped.clone())))
            .collect();
        eprintln!("connected");
        told_to_end(Duration::from_secs(self.seconds)).await;
        // Publishers that are gone already need not be told.
        let _ = stop.send(true);
        let mut all = Found::default();
        for task in tasks {
            let found = task.await.map_err(|error| error.to_string())?;
            if let Some(why) = found.refused {
                return Err(why);
            }
            all.gaps.extend(found.gaps);
            all.latencies.add(&found.latencies);
            all.longest = all.longest.max(found.longest);
            all.acks += found.acks;
            all.reconnects += found.reconnects;
            all.stuck.extend(found.stuck);
        }
        let stuck: Vec<Value> = all
            .stuck
            .iter()
            .map(|(device, sent)| json!({"device": device, "sent_ms": sent}))
            .collect();
        let gaps: Vec<Value> = all
            .gaps
            .iter()
            .map(|(device, end, ms)| json!({"device": device, "end_ms": end, "ms": ms}))
            .collect();
        Ok(json!({
            "connections": self.connections, "acks": all.acks, "reconnects": all.reconnects, "longest_ms": all.longest.as_millis() as u64,
            "puback_p50_us": all.latencies.percentile(0.50), "puback_p99_us": all.latencies.percentile(0.99), "gaps": gaps, "stuck": stuck,
        }))
    }
}

async fn publish(mut way: Way, mut stopped: watch::Receiver<bool>) -> Found {
    let mut found = Found::default();
    let packet = Publish::new(&way.device, &[b'x'; PAYLOAD]);
    let mut last: Option<Instant> = None;
    let mut opened = false;
    while !*stopped.borrow() {
        let connect = way.connect_packet();
        let mut connection = match Connection::open(&way, &connect).await {
            Ok(connection) => connection,
            Err(crate::connection::Refused::Code(code)) => {
                found.refused = Some(format!("{}: CONNACK {code}", way.device));
                return found;
            }
            // Immediate retry, but not as fast as the processor goes.
            Err(crate::connection::Refused::Trouble(_)) => {
                way.turn();
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        found.reconnects += u64::from(opened);
        opened = true;
        if on_one(
            &mut connection,
            &packet,
            &way,
            &mut last,
            &mut found,
            &mut stopped,
        )
        .await
        .is_ok()
        {
            connection.close().await;
        }
    }
    found
}

/// Publishes on one connection until it breaks (an error) or all ends.
async fn on_one(
    connection: &mut Connection,
    packet: &Publish,
    way: &Way,
    last: &mut Option<Instant>,
    found: &mut Found,
    stopped: &mut watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut out = Vec::new();
    let mut id = 0u16;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => return Ok(()),
        }
        id = id.checked_add(1).unwrap_or(1);
        out.clear();
        packet.write(id, &mut out);
        let sent = Instant::now();
        connection.send(&out).await?;
        let sent_wall = wall_ms();
        let acknowledged = async {
            let mut done = false;
            while !done {
                connection
                    .receive(|packet| done |= packet == FromServer::Puback(id))
                    .await?;
            }
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(STUCK, acknowledged).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                found.stuck.push((way.device.clone(), sent_wall));
                return Err(std::io::ErrorKind::TimedOut.into());
            }
        }
        let now = Instant::now();
        found.acks += 1;
        found
            .latencies
            .record(now.duration_since(sent).as_micros() as u64);
        let gap = last.map_or(Duration::ZERO, |last| now.duration_since(last));
        *last = Some(now);
        found.longest = found.longest.max(gap);
        if gap >= WORTH_NOTING && found.gaps.len() < NOTES_MAX {
            found
                .gaps
                .push((way.device.clone(), wall_ms(), gap.as_millis() as u64));
        }
    }
}

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
