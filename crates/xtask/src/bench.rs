//! `bench NAME [OPTIONS]`: figures of this machine, as tables and as JSON in target/bench. Options go to the benchmark:
//! `bench failover --rtt 0,40,80 --loss 0.1 --forced`, `bench storm 10000`, `bench return --devices 1000,100000`.

use crate::{e2e, python, shell};

const NAMES: [&str; 8] = [
    "ingest", "failover", "idle", "import", "storm", "control", "return", "all",
];

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
    // A long one with its own file and options; not part of `all`.
    let mut command = if name == "return" {
        e2e::script(&python, "returning")
    } else {
        let mut command = e2e::script(&python, "bench");
        command.arg(name);
        command
    };
    command
        .args(arguments)
        .env("CASTLING_BENCH_OUT", shell::target().join("bench"));
    shell::run(&mut command).map_err(|_| format!("bench {name} did not end well"))
}
