//! `idle`: what connections that do nothing cost the server.

use crate::server::Process;
use crate::sessions::{open_all, runtime, told_to_end};
use crate::target::Target;
use serde_json::{Value, json};
use std::time::Duration;

/// Time for the server to give back what opening needed.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Idle {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Stay, at most this long, until standard input ends
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=7200))]
    hold_seconds: u64,
    #[arg(long)]
    server_pid: Option<u32>,
}

impl Idle {
    pub fn run(self) -> Result<Value, String> {
        runtime(1)?.block_on(self.measure())
    }

    async fn measure(self) -> Result<Value, String> {
        let server = self.server_pid.map(Process::new);
        let memory = || server.as_ref().and_then(Process::memory_bytes);
        let ways = self.target.ways(self.connections as usize)?;
        let before = memory();
        let (connections, opening) = open_all(&ways).await?;
        tokio::time::sleep(SETTLE).await;
        let after = memory();
        let each = before.zip(after).map(|(before, after)| {
            after.saturating_sub(before) as f64 / f64::from(self.connections)
        });
        let figures = json!({
            "connections": self.connections, "connects_per_s": f64::from(self.connections) / opening.as_secs_f64(),
            "server_bytes_before": before, "server_bytes_after": after, "server_bytes_per_connection": each,
        });
        if self.hold_seconds > 0 {
            // Tells whoever started us that all are connected.
            eprintln!("connected");
            told_to_end(Duration::from_secs(self.hold_seconds)).await;
        }
        for connection in connections {
            connection.close().await;
        }
        Ok(figures)
    }
}
