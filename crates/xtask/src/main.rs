//! `cargo xtask VERB`: every verb a developer needs.

mod bench;
mod chaos;
mod e2e;
mod node;
mod python;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask VERB

  test                 everything: format, clippy, tidy, tests, simulation, end-to-end
  ci                   the same; the name that build machines use
  tidy                 crate arrows, words that may not appear below the line, sizes, links, dependencies
  sim [ARGS]           the simulation; ARGS go to castling-sim, e.g. --seeds 200
  e2e NAME [ARGS]      against the real binary, NAME.py in e2e/: tutorial, fifty, kill, hostile, disaster, cuts, diskfull, az, mgmt,
                       fourways, openapi, operations; --short for kill and all after hostile
  chaos [ARGS]         faults from a seed against real processes, then a verdict: --minutes 10, --seed S, --short, --only FAULT,…
  bench NAME           ingest, failover, idle, import, storm or all; figures go to target/bench
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test" | "ci"] => test::run(),
        ["tidy"] => tidy::run(),
        ["sim", rest @ ..] => test::sim(rest),
        ["e2e", name, rest @ ..] => e2e::run(name, rest),
        ["chaos", rest @ ..] => chaos::run(rest),
        ["bench", name, rest @ ..] => bench::run(name, rest),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown: `{}`\n\n{HELP}", other.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nFAILED: {}", why.trim_end());
            ExitCode::FAILURE
        }
    }
}
