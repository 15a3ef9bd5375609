//! `castling-bench`: what a fleet of fast devices does to a hub. One mode a run; the figures are one JSON document on standard
//! output. Every run is bounded in time and count; modes that run until they are told end when standard input does.

mod connection;
mod control;
mod floor;
mod gap;
mod idle;
mod import;
mod ingest;
mod ledger;
mod packet;
mod relay;
mod server;
mod sessions;
mod stats;
mod storm;
mod target;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "castling-bench",
    version,
    about = "A load generator for Castling"
)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// QoS 1 publishes as fast as they are acknowledged
    Ingest(ingest::Ingest),
    /// Connections that do nothing
    Idle(idle::Idle),
    /// The longest time without an acknowledgement, publishing every 10 ms
    Gap(gap::Gap),
    /// Publishes, and writes down every acknowledged one; connects again and sends again what was not
    Ledger(ledger::Ledger),
    /// Creates devices in bulk
    Import(import::Import),
    /// One request of the management API, again and again
    Control(control::Control),
    /// Devices that lose their region and come back through another
    Storm(storm::Storm),
    /// TCP links that can be made slow, lossy and silent while they run
    Relay(relay::Relay),
    /// This disk: 4 KiB appended and synced, again and again
    Floor(floor::Floor),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    raise_open_files();
    let outcome = match cli.mode {
        Mode::Ingest(mode) => mode.run(),
        Mode::Idle(mode) => mode.run(),
        Mode::Gap(mode) => mode.run(),
        Mode::Ledger(mode) => mode.run(),
        Mode::Import(mode) => mode.run(),
        Mode::Control(mode) => mode.run(),
        Mode::Storm(mode) => mode.run(),
        Mode::Relay(mode) => mode.run(),
        Mode::Floor(mode) => mode.run(),
    };
    match outcome {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("castling-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Each connection is an open file: take as many as the system grants.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        eprintln!(
            "castling-bench: the number of open files stays at {:?}: {error}",
            now.current
        );
    }
}
