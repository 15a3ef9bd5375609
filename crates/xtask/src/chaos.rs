//! `chaos`: faults from a seed against real processes, then a verdict. The run is e2e/chaos.py; it prints the seed that repeats it.

use crate::{e2e, python, shell};

/// Builds the binary and runs with arguments such as `--minutes 10`.
///
/// # Errors
/// When a build fails or something that must never happen has happened.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    python::find()?;
    e2e::build()?;
    run_built(arguments)
}

/// Runs with the binary of [`e2e::build`]; reports and histories go to target/chaos.
///
/// # Errors
/// When something that must never happen has happened; it has said what, and how to repeat it.
pub fn run_built(arguments: &[&str]) -> Result<(), String> {
    let python = python::environment()?;
    let mut command = e2e::script(&python, "chaos");
    command.args(arguments);
    shell::run(&mut command).map_err(|_| "the chaos run did not pass".to_owned())
}
