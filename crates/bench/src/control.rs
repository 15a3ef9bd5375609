//! `control`: one request of the management API, again and again, over connections that stay open.

use crate::import::ask;
use crate::stats::Latencies;
use crate::target::connector;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const ANSWER_TIME: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Control {
    /// Address of a management listener
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    ca: PathBuf,
    /// A bearer token
    #[arg(long, env = "CASTLING_BENCH_TOKEN", hide_env_values = true)]
    token: String,
    #[arg(long, default_value = "GET")]
    method: String,
    /// Path and query; `{n}` is another number in each request
    #[arg(long)]
    path: String,
    /// JSON to send; `{n}` as in the path
    #[arg(long, default_value = "")]
    body: String,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

#[derive(Default)]
struct Seen {
    latencies: Latencies,
    bytes: u64,
    refused: u64,
    /// The first answer without success.
    refusal: Option<String>,
}

impl Control {
    /// # Errors
    /// When a connection breaks or an answer does not come.
    pub fn run(self) -> Result<Value, String> {
        crate::sessions::runtime(1)?.block_on(self.measure())
    }

    async fn measure(self) -> Result<Value, String> {
        let connector = connector(&self.ca)?;
        let (control, number) = (Arc::new(self), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let until = begun + Duration::from_secs(control.seconds);
        let mut tasks = Vec::new();
        for _ in 0..control.connections {
            let (control, number, connector) = (control.clone(), number.clone(), connector.clone());
            tasks.push(tokio::spawn(async move {
                let fail = |error: std::io::Error| format!("{}: {error}", control.address);
                let tcp = TcpStream::connect(control.address).await.map_err(fail)?;
                tcp.set_nodelay(true).map_err(fail)?;
                let name = ServerName::IpAddress(control.address.ip().into());
                let mut stream = connector.connect(name, tcp).await.map_err(fail)?;
                let mut seen = Seen::default();
                while Instant::now() < until {
                    let request = control.request(number.fetch_add(1, Ordering::Relaxed));
                    let sent = Instant::now();
                    let answer = tokio::time::timeout(ANSWER_TIME, ask(&mut stream, &request));
                    let (status, body) = answer
                        .await
                        .map_err(|_| format!("no answer within {ANSWER_TIME:?}"))??;
                    seen.latencies
                        .record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                    seen.bytes += body.len() as u64;
                    if !(200..300).contains(&status) {
                        seen.refused += 1;
                        let shown: String = body.chars().take(300).collect();
                        seen.refusal.get_or_insert(format!("{status} {shown}"));
                    }
                }
                Ok::<Seen, String>(seen)
            }));
        }
        let mut all = Seen::default();
        for task in tasks {
            let seen = task.await.map_err(|error| error.to_string())??;
            all.latencies.add(&seen.latencies);
            all.bytes += seen.bytes;
            all.refused += seen.refused;
            all.refusal = all.refusal.or(seen.refusal);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let count = all.latencies.count();
        Ok(json!({
            "requests": count, "refused": all.refused, "first_refusal": all.refusal, "connections": control.connections, "seconds": seconds,
            "requests_per_s": count as f64 / seconds, "bytes_per_answer": all.bytes / count.max(1),
            "p50_us": all.latencies.percentile(0.5), "p99_us": all.latencies.percentile(0.99), "max_us": all.latencies.max(),
        }))
    }

    fn request(&self, number: u64) -> Vec<u8> {
        let number = number.to_string();
        let (path, body) = (
            self.path.replace("{n}", &number),
            self.body.replace("{n}", &number),
        );
        format!(
            "{} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.method, self.address, self.token, body.len()
        )
        .into_bytes()
    }
}
