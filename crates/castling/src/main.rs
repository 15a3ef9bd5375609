//! `castling`: runs a world of regions, and speaks to one.

mod cli;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
