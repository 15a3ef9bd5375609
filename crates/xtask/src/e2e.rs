//! `e2e NAME`: unmodified clients against the real binary. The scenarios are Python files in e2e/, one per name.

use crate::{node, python, shell};
use std::process::Command;

const SELF_TEST: &str = "test_checks";

/// Builds what the scenarios start, then runs one.
///
/// # Errors
/// When the name is unknown, a build fails or the scenario does.
pub fn run(name: &str, arguments: &[&str]) -> Result<(), String> {
    known(name)?;
    python::find()?;
    build()?;
    run_built(name, arguments)
}

/// The server as the README starts it, and the load generator.
///
/// # Errors
/// When the build fails.
pub fn build() -> Result<(), String> {
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "--package",
        "castling",
        "--package",
        "castling-bench",
    ]))
}

/// Runs a scenario with the binaries of [`build`].
///
/// # Errors
/// When it fails; it has said why.
pub fn run_built(name: &str, arguments: &[&str]) -> Result<(), String> {
    known(name)?;
    // Its clients and its own provider sign and check tokens in the scenario's own process.
    let python = match name {
        "identity" => python::environment_of("venv-mgmt", "requirements-mgmt.txt")?,
        _ => python::environment()?,
    };
    let mut command = script(&python, name);
    give_clients(&mut command, name)?;
    shell::run(command.args(arguments)).map_err(|_| {
        format!(
            "e2e {name} did not pass; run it again with `cargo xtask e2e {name}{}`",
            arguments
                .iter()
                .map(|word| format!(" {word}"))
                .collect::<String>()
        )
    })
}

/// Installs the clients that a scenario drives, and tells it where they are.
fn give_clients(command: &mut Command, name: &str) -> Result<(), String> {
    let (az, sdks, schemathesis) = match name {
        "az" => (true, false, false),
        "mgmt" => (false, true, false),
        "fourways" => (true, true, false),
        "openapi" => (false, false, true),
        _ => return Ok(()),
    };
    if az {
        let python = python::environment_of("venv-az", "requirements-az.txt")?;
        command.env("CASTLING_AZ", python.with_file_name("az"));
    }
    if sdks {
        let python = python::environment_of("venv-mgmt", "requirements-mgmt.txt")?;
        command.env("CASTLING_MGMT_PYTHON", python);
        command.env("CASTLING_NODE", node::packages()?);
    }
    if schemathesis {
        let python = python::environment_of("venv-openapi", "requirements-openapi.txt")?;
        command.env(
            "CASTLING_SCHEMATHESIS",
            python.with_file_name("schemathesis"),
        );
    }
    Ok(())
}

fn known(name: &str) -> Result<(), String> {
    let names = names()?;
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(format!(
        "there is no end-to-end scenario `{name}`; there are: {}",
        names.join(", ")
    ))
}

/// The scenarios: every Python file of e2e/ but those that are verbs of their own and the tests of the tests.
fn names() -> Result<Vec<String>, String> {
    let folder = shell::root().join("e2e");
    let files =
        std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
        .filter(|name| !["bench", "returning", "chaos", SELF_TEST].contains(&name.as_str()))
        .collect();
    names.sort();
    Ok(names)
}

/// Shows that the scenarios' checks find what they are for.
///
/// # Errors
/// When one does not.
pub fn self_test() -> Result<(), String> {
    let python = python::environment()?;
    shell::run(&mut script(&python, SELF_TEST))
}

/// A file of e2e/ with the paths it needs.
pub fn script(python: &std::path::Path, name: &str) -> Command {
    let release = shell::target().join("release");
    let mut command = Command::new(python);
    command
        .arg(shell::root().join("e2e").join(format!("{name}.py")))
        .current_dir(shell::root())
        .env("PYTHONUNBUFFERED", "1")
        .env("CASTLING_BIN", release.join("castling"))
        .env("CASTLING_BENCH_BIN", release.join("castling-bench"))
        .env("CASTLING_SCRATCH", shell::target().join("e2e").join("runs"))
        .env("CASTLING_CHAOS_OUT", shell::target().join("chaos"));
    for name in python::TRUST_VARIABLES {
        command.env_remove(name);
    }
    command
}
