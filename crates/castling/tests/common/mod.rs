//! Runs the built binary.

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running `castling up` with a folder and addresses of its own.
pub struct World {
    folder: TempDir,
    process: Child,
    number: u8,
    options: Vec<String>,
}

pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// Starts at 127.77.`number`.1 and waits until it is up.
    pub fn start(number: u8, options: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn_up(folder.path(), number, &options);
        let mut world = World {
            folder,
            process,
            number,
            options,
        };
        world.wait_up();
        world
    }

    pub fn restart(&mut self) {
        terminate(&mut self.process);
        assert!(
            !self.up_file().exists(),
            "up.json must go when the world stops"
        );
        self.process = spawn_up(self.folder.path(), self.number, &self.options);
        self.wait_up();
    }

    /// Ends it with SIGTERM; it must end well.
    pub fn stop(mut self) {
        terminate(&mut self.process);
    }

    pub fn command(&self, words: &[&str]) -> Command {
        command(self.folder.path(), words)
    }

    /// Runs a command that must end with `code`.
    pub fn run(&self, words: &[&str], code: i32) -> Output {
        run(self.folder.path(), words, code)
    }

    pub fn ok(&self, words: &[&str]) -> String {
        self.run(words, 0).stdout
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--output", "json"]).collect();
        let stdout = self.ok(&words);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {stdout}"))
    }

    fn up_file(&self) -> std::path::PathBuf {
        self.folder.path().join("up.json")
    }

    fn wait_up(&mut self) {
        let begun = Instant::now();
        while !self.up_file().exists() {
            assert!(begun.elapsed() < PATIENCE, "not up after {PATIENCE:?}");
            assert_eq!(self.process.try_wait().unwrap(), None, "it ended");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Gone already when the test passed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn_up(folder: &Path, number: u8, options: &[String]) -> Child {
    let bind = format!("127.77.{number}.1");
    let fixed = [
        "up",
        "--bind",
        &bind,
        "--https-port",
        "0",
        "--mqtt-port",
        "0",
        "--management-port",
        "0",
        "--log",
        "warn,openraft=off",
    ];
    command(folder, &fixed)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn command(folder: &Path, words: &[&str]) -> Command {
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
