//! Running other programs, with a heading before and the time after each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The workspace's root.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// The one folder that everything is built in.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Cargo, as it started us, in the workspace's root and with the shared target folder.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(arguments)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target());
    command
}

/// Runs a program to its end, its output going where ours goes.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let shown = shown(command);
    let status = command
        .status()
        .map_err(|error| format!("`{shown}` cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}`: {status}"))
    }
}

/// What a program prints on standard output; `None` when it does not run or does not succeed.
pub fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    if let Some(name) = Path::new(&words[0]).file_name() {
        words[0] = name.to_string_lossy().into_owned();
    }
    words.join(" ")
}

/// One step under its heading; a failure names it.
///
/// # Errors
/// The step's own, with its name.
pub fn step(name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("\n=== {name}");
    let started = Instant::now();
    let outcome = work();
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => {
            println!("=== {name}: passed in {seconds:.1} s");
            Ok(())
        }
        Err(why) => Err(format!("{name} (after {seconds:.1} s): {why}")),
    }
}

/// Finds a program in the search path.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
