//! `floor`: how often this disk can be made to keep 4 KiB, one after the other.

use crate::stats::Latencies;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;

#[derive(clap::Args)]
pub struct Floor {
    /// The folder whose disk is asked
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

impl Floor {
    pub fn run(self) -> Result<Value, String> {
        let path = self.folder.join(format!("floor-{}", std::process::id()));
        let outcome = measure(&path, Duration::from_secs(self.seconds));
        let removed = std::fs::remove_file(&path);
        let figures = outcome.map_err(|error| format!("{}: {error}", path.display()))?;
        removed.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(figures)
    }
}

fn measure(path: &std::path::Path, time: Duration) -> std::io::Result<Value> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(path)?;
    let block = [0x5a; BLOCK];
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let at = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.record(at.elapsed().as_micros() as u64);
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({
        "fdatasync_per_s": latencies.count() as f64 / seconds, "p50_us": latencies.percentile(0.5), "p99_us": latencies.percentile(0.99),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let figures = Floor {
            folder: folder.path().to_owned(),
            seconds: 1,
        }
        .run()
        .unwrap();
        assert!(figures["fdatasync_per_s"].as_f64().unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
