//! Runs the built binary.

mod process;

pub use process::{Output, PATIENCE, command, run, terminate, text, wait};

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running `castling up` with a folder and addresses of its own.
pub struct World {
    folder: TempDir,
    process: Child,
    number: u8,
    options: Vec<String>,
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

    /// Waits until a failover of the hub would begin: one of the checks wants regions that have been up for a moment.
    #[allow(dead_code)] // Not every test fails over.
    pub fn until_failover_ready(&self, hub: &str) {
        let begun = Instant::now();
        let check = ["hub", "failover", "check", hub];
        while !self.command(&check).output().unwrap().status.success() {
            assert!(begun.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
        }
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--output", "json"]).collect();
        let stdout = self.ok(&words);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {stdout}"))
    }

    pub fn up_file(&self) -> std::path::PathBuf {
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
