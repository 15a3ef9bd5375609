//! Processes of the built binary.

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

pub fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castling"));
    command
        .args(words)
        .env("CASTLING_DATA", folder)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

/// Runs a command that must end with `code`.
pub fn run(folder: &Path, words: &[&str], code: i32) -> Output {
    let done = command(folder, words).output().unwrap();
    let output = Output {
        stdout: String::from_utf8(done.stdout).unwrap(),
        stderr: String::from_utf8(done.stderr).unwrap(),
    };
    assert_eq!(
        done.status.code(),
        Some(code),
        "castling {words:?}\n{}\n{}",
        output.stdout,
        output.stderr
    );
    output
}

/// Sends SIGTERM; the process must end with exit code 0.
pub fn terminate(process: &mut Child) {
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(process).code(), Some(0));
}

/// Waits for the end, within patience.
pub fn wait(process: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        sleep(Duration::from_millis(20));
    }
}

/// The text at a JSON pointer; empty when there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
