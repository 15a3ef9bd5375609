//! `bench NAME`: figures of this machine, as tables and as JSON in target/bench.

use crate::{e2e, python, shell};

const NAMES: [&str; 5] = ["ingest", "failover", "idle", "import", "all"];

/// # Errors
/// When the name is unknown, a build fails or the benchmark does.
pub fn run(name: &str, arguments: &[&str]) -> Result<(), String> {
    if !NAMES.contains(&name) {
        return Err(format!(
            "there is no benchmark `{name}`; there are: {}",
            NAMES.join(", ")
        ));
    }
    python::find()?;
    e2e::build()?;
    let python = python::environment()?;
    let mut command = e2e::script(&python, "bench");
    command
        .arg(name)
        .args(arguments)
        .env("CASTLING_BENCH_OUT", shell::target().join("bench"));
    shell::run(&mut command).map_err(|_| format!("bench {name} did not end well"))
}
