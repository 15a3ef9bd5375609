//! `test`: what must pass before a commit. Steps run one after the other, and the first failure ends it.

use crate::{chaos, e2e, python, shell, tidy};
use std::time::Instant;

const SEEDS: &str = "200";

/// # Errors
/// The first step that fails, or the first tool that is missing.
pub fn run() -> Result<(), String> {
    let started = Instant::now();
    tools()?;
    let steps: Vec<Step> = vec![
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("clippy", || {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])
        }),
        ("tidy", tidy::run),
        ("tests", || cargo(&["test", "--workspace", "--all-targets"])),
        ("documentation tests", || {
            cargo(&["test", "--workspace", "--doc"])
        }),
        ("simulation, 200 seeds", || sim(&["--seeds", SEEDS])),
        ("release build", e2e::build),
        ("end to end: the checks themselves", e2e::self_test),
        ("end to end: tutorial", || e2e::run_built("tutorial", &[])),
        ("end to end: kill -9, short", || {
            e2e::run_built("kill", &["--short"])
        }),
        ("end to end: bad input", || e2e::run_built("hostile", &[])),
        ("end to end: fifty failovers", || {
            e2e::run_built("fifty", &[])
        }),
        ("end to end: disaster, short", || {
            e2e::run_built("disaster", &["--short"])
        }),
        ("end to end: cuts, short", || {
            e2e::run_built("cuts", &["--short"])
        }),
        ("end to end: full disks, short", || {
            e2e::run_built("diskfull", &["--short"])
        }),
        ("end to end: az, short", || {
            e2e::run_built("az", &["--short"])
        }),
        ("end to end: signing in", || e2e::run_built("identity", &[])),
        ("end to end: management SDKs, short", || {
            e2e::run_built("mgmt", &["--short"])
        }),
        ("end to end: one failover by five clients, short", || {
            e2e::run_built("fourways", &["--short"])
        }),
        ("end to end: the API as it is described, short", || {
            e2e::run_built("openapi", &["--short"])
        }),
        (
            "end to end: operations through restarts and losses, short",
            || e2e::run_built("operations", &["--short"]),
        ),
        ("chaos, short", || chaos::run_built(&["--short"])),
    ];
    for (name, work) in steps {
        shell::step(name, work)?;
    }
    println!(
        "\nEverything passed in {:.0} s.",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

type Step = (&'static str, fn() -> Result<(), String>);

/// Runs the simulation with arguments of its own.
///
/// # Errors
/// When a seed fails: the simulation has printed the command that repeats it.
pub fn sim(arguments: &[&str]) -> Result<(), String> {
    let mut words = vec!["run", "--release", "--package", "castling-sim", "--"];
    words.extend(arguments);
    cargo(&words)
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    shell::run(&mut shell::cargo(arguments))
}

/// Says at once what is missing, rather than after the tests.
fn tools() -> Result<(), String> {
    let component = |name: &str| {
        let found = shell::cargo(&[name, "--version"]).output();
        match found {
            Ok(output) if output.status.success() => Ok(()),
            _ => Err(format!(
                "cargo {name} is missing; get it with `rustup component add {}`",
                if name == "fmt" { "rustfmt" } else { name }
            )),
        }
    };
    component("fmt")?;
    component("clippy")?;
    if shell::which("git").is_none() {
        return Err("git is missing; get it with `apt-get install git`".into());
    }
    python::find().map(|_| ())
}
