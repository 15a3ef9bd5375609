//! `storm`: a fleet that loses its region at once and comes back through another one: how soon, and at which rate it is let in.
//!
//! Devices behave as those in the field: a lost connection is tried again at once, at the next gateway, and then after a time
//! that differs from device to device. TLS sessions are resumed where a server allows it.

use crate::connection::{Connection, Refused};
use crate::sessions::{open_all, runtime, told_to_end};
use crate::target::{Target, Way};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// PINGREQ.
const PING: [u8; 2] = [0xc0, 0];
const CURVE_STEP: Duration = Duration::from_millis(250);
const CURVE_POINTS_MAX: usize = 400;

#[derive(clap::Args)]
pub struct Storm {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Mean time between two attempts; the first follows at once
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    retry_ms: u64,
    /// A server that is silent for two of these is gone
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    ping_seconds: u64,
    /// At most; it ends with standard input
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=7200))]
    hold_seconds: u64,
}

/// What happened to one device.
#[derive(Clone, Copy, Default)]
struct Fate {
    lost: Option<Instant>,
    /// Of the attempt that brought it back.
    secured: Option<Instant>,
    back: Option<Instant>,
    resumed: bool,
    refusals: u32,
    /// After it was back.
    lost_again: u32,
}

struct Shared {
    away: AtomicUsize,
    retry: Duration,
    ping: Duration,
}

impl Storm {
    pub fn run(self) -> Result<Value, String> {
        runtime(1)?.block_on(self.measure())
    }

    async fn measure(self) -> Result<Value, String> {
        let ways = self.target.field_ways(self.connections as usize)?;
        let (connections, opening) = open_all(&ways).await?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            away: AtomicUsize::new(ways.len()),
            retry: Duration::from_millis(self.retry_ms),
            ping: Duration::from_secs(self.ping_seconds),
        });
        let begun = (Instant::now(), wall_ms());
        let by_device: std::collections::HashMap<String, Way> = ways
            .into_iter()
            .map(|way| (way.device.clone(), way))
            .collect();
        let mut devices = Vec::new();
        for connection in connections {
            let way = by_device
                .get(&connection.device)
                .cloned()
                .ok_or("a connection of a device that was never opened")?;
            devices.push(tokio::spawn(live(
                connection,
                way,
                shared.clone(),
                stopped.clone(),
            )));
        }
        drop(by_device);
        // Tells whoever started us that all are connected; `back` follows once all were lost and came back.
        eprintln!("connected");
        told_to_end(Duration::from_secs(self.hold_seconds)).await;
        // Devices that failed already need not be told.
        let _ = stop.send(true);
        let mut fates = Vec::new();
        for device in devices {
            fates.push(device.await.map_err(|error| error.to_string())??);
        }
        let mut figures = figures(&fates, begun);
        figures["connects_per_s"] =
            json!(f64::from(self.connections) / opening.as_secs_f64().max(1e-9));
        Ok(figures)
    }
}

/// One device until all ends.
async fn live(
    mut connection: Connection,
    mut way: Way,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> Result<Fate, String> {
    let mut fate = Fate::default();
    loop {
        tokio::select! {
            () = lost(&mut connection, shared.ping) => {}
            _ = stopped.changed() => {
                connection.close().await;
                return Ok(fate);
            }
        }
        drop(connection);
        if fate.back.is_some() {
            fate.lost_again += 1;
        }
        fate.lost.get_or_insert_with(Instant::now);
        way.turn();
        let returned = tokio::select! {
            returned = come_back(&mut way, &shared, &mut fate.refusals) => returned?,
            _ = stopped.changed() => return Ok(fate),
        };
        if fate.back.is_none() {
            fate.back = Some(Instant::now());
            fate.secured = Some(returned.secured);
            fate.resumed = returned.resumed;
            if shared.away.fetch_sub(1, SeqCst) == 1 {
                eprintln!("back");
            }
        }
        connection = returned;
    }
}

/// Waits until the connection is over, or its server silent.
async fn lost(connection: &mut Connection, ping: Duration) {
    let mut silent = false;
    loop {
        match tokio::time::timeout(ping, connection.receive(|_| {})).await {
            Ok(Ok(())) => silent = false,
            Ok(Err(_)) => return,
            Err(_) if silent => return,
            Err(_) => {
                silent = true;
                if connection.send(&PING).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn come_back(
    way: &mut Way,
    shared: &Shared,
    refusals: &mut u32,
) -> Result<Connection, String> {
    let connect = way.connect_packet();
    loop {
        match Connection::open(way, &connect).await {
            Ok(connection) => return Ok(connection),
            Err(Refused::Code(code)) => return Err(format!("{}: CONNACK {code}", way.device)),
            Err(Refused::Trouble(_)) => {
                *refusals += 1;
                way.turn();
                tokio::time::sleep(shared.retry.mul_f64(spread(&way.device, *refusals))).await;
            }
        }
    }
}

/// From 0.5 to 1.5, different for each device and attempt, the same in each run.
fn spread(device: &str, attempt: u32) -> f64 {
    let text = format!("{device} {attempt}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let number = digest
        .as_ref()
        .first_chunk()
        .copied()
        .map_or(0, u16::from_be_bytes);
    0.5 + f64::from(number) / 65_536.0
}

fn figures(fates: &[Fate], begun: (Instant, u64)) -> Value {
    let wall = |at: Instant| begun.1 + (at - begun.0).as_millis() as u64;
    let Some(first) = fates.iter().filter_map(|fate| fate.lost).min() else {
        return json!({ "connections": fates.len(), "lost": 0, "back": 0 });
    };
    let since = |pick: fn(&Fate) -> Option<Instant>| {
        let mut times: Vec<Duration> = fates
            .iter()
            .filter_map(pick)
            .map(|at| at.saturating_duration_since(first))
            .collect();
        times.sort();
        times
    };
    let lost = since(|fate| fate.lost);
    let back = since(|fate| fate.back);
    let secured = since(|fate| fate.secured);
    let share = |share: f64| {
        let wanted = (lost.len() as f64 * share).ceil() as usize;
        back.get(wanted.max(1) - 1)
            .map(|time| time.as_millis() as u64)
    };
    json!({
        "connections": fates.len(), "lost": lost.len(), "back": back.len(), "first_lost_ms": wall(first),
        "all_lost_after_ms": lost.last().map(|time| time.as_millis() as u64),
        "back_p50_ms": share(0.5), "back_p90_ms": share(0.9), "back_p99_ms": share(0.99), "back_all_ms": share(1.0),
        "resumed": fates.iter().filter(|fate| fate.resumed).count(),
        "refusals": fates.iter().map(|fate| u64::from(fate.refusals)).sum::<u64>(),
        "lost_again": fates.iter().map(|fate| u64::from(fate.lost_again)).sum::<u64>(),
        "admitted_peak_per_s": peak(&secured), "admitted_held_per_s": held(&secured),
        "back_peak_per_s": peak(&back), "back_held_per_s": held(&back),
        "curve_ms": CURVE_STEP.as_millis() as u64, "curve": curve(&back), "curve_admitted": curve(&secured),
    })
}

/// The most within any second.
fn peak(times: &[Duration]) -> usize {
    let second = Duration::from_secs(1);
    let (mut begin, mut most) = (0, 0);
    for (at, time) in times.iter().enumerate() {
        while *time - times[begin] >= second {
            begin += 1;
        }
        most = most.max(at + 1 - begin);
    }
    most
}

/// The mean rate of the middle four fifths.
fn held(times: &[Duration]) -> Option<f64> {
    let tenth = times.len() / 10;
    let middle = times.get(tenth..times.len() - tenth)?;
    let took = middle
        .last()?
        .saturating_sub(*middle.first()?)
        .as_secs_f64();
    (middle.len() > 1 && took > 0.0).then(|| (middle.len() - 1) as f64 / took)
}

/// How many were there at the end of each step.
fn curve(times: &[Duration]) -> Vec<usize> {
    let Some(last) = times.last() else {
        return Vec::new();
    };
    let steps = (last.as_millis() / CURVE_STEP.as_millis()) as usize + 1;
    (1..=steps.min(CURVE_POINTS_MAX))
        .map(|step| times.partition_point(|time| *time < CURVE_STEP * step as u32))
        .collect()
}

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: &[u64]) -> Vec<Duration> {
        millis.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn rates_are_those_of_the_times() {
        let even: Vec<Duration> = (0..1000).map(|n| Duration::from_millis(n * 2)).collect();
        assert_eq!(peak(&even), 500);
        assert!((held(&even).unwrap() - 500.0).abs() < 1e-6);
        assert_eq!(peak(&at(&[0, 10, 20, 999, 1000, 5000])), 4);
        assert_eq!((peak(&[]), held(&[])), (0, None));
    }

    #[test]
    fn a_curve_counts_up_to_all() {
        assert_eq!(curve(&at(&[0, 249, 250, 600])), [2, 3, 4]);
        assert!(curve(&[]).is_empty());
    }

    #[test]
    fn times_count_from_the_first_loss_and_who_never_returned_is_not_back() {
        let begin = Instant::now();
        let after = |millis| Some(begin + Duration::from_millis(millis));
        let returned = Fate {
            lost: after(100),
            secured: after(300),
            back: after(1_100),
            resumed: true,
            refusals: 2,
            lost_again: 0,
        };
        let away = Fate {
            lost: after(150),
            ..Fate::default()
        };
        let figures = figures(&[returned, away], (begin, 5_000));
        assert_eq!(figures["first_lost_ms"], 5_100);
        assert_eq!((&figures["lost"], &figures["back"]), (&json!(2), &json!(1)));
        assert_eq!(figures["back_p50_ms"], 1_000);
        assert_eq!(figures["back_all_ms"], Value::Null);
        assert_eq!(
            (&figures["resumed"], &figures["refusals"]),
            (&json!(1), &json!(2))
        );
    }

    #[test]
    fn attempts_are_spread_around_the_mean() {
        let all: Vec<f64> = (0..1000).map(|n| spread(&format!("d-{n}"), 1)).collect();
        assert!(all.iter().all(|share| (0.5..1.5).contains(share)));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
    }
}
