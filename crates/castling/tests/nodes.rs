//! Regions and a witness as processes of their own: the built binary, real sockets, a temporary folder.

#[path = "common/process.rs"]
mod process;

use process::{PATIENCE, run, terminate, text, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NODES: [&str; 3] = ["westus2", "westcentralus", "witness"];
const HUB: &str = "my-hub";

/// A deployment that `castling init` made, at 127.78.`number`.1 to .3.
struct Deployment {
    folder: TempDir,
    running: Vec<(&'static str, Child)>,
}

impl Deployment {
    fn init(number: u8) -> Deployment {
        let folder = tempfile::tempdir().unwrap();
        let addresses = format!("127.78.{number}.1,127.78.{number}.2,127.78.{number}.3");
        let words = [
            "init",
            "--regions",
            "westus2,westcentralus",
            "--witness",
            "witness",
            "--folder",
            folder.path().to_str().unwrap(),
            "--addresses",
            &addresses,
            "--https-port",
            "8443",
            "--failover-cooldown",
            "0s",
            "--failovers-per-day",
            "100",
        ];
        run(folder.path(), &words, 0);
        Deployment {
            folder,
            running: Vec::new(),
        }
    }

    fn path(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    fn command(&self, node: &str) -> Command {
        let verb = if node == "witness" {
            "witness"
        } else {
            "region"
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_castling"));
        command
            .args([verb, "--config"])
            .arg(self.path(node).join("castling.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn start(&mut self, node: &'static str) {
        let log = std::fs::File::create(self.path(&format!("{node}.log"))).unwrap();
        let process = self.command(node).stderr(log).spawn().unwrap();
        self.running.push((node, process));
    }

    fn take(&mut self, node: &str) -> Child {
        let at = self.running.iter().position(|(name, _)| *name == node);
        self.running.remove(at.expect("it runs")).1
    }

    fn kill(&mut self, node: &str) {
        let mut process = self.take(node);
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn stop(&mut self, node: &str) {
        terminate(&mut self.take(node));
    }

    fn wipe(&self, node: &str) {
        std::fs::remove_dir_all(self.path(node).join("state")).unwrap();
    }

    fn ok(&self, words: &[&str]) -> String {
        run(&self.path("operator"), words, 0).stdout
    }

    /// What every node says of itself, by name; null when it does not answer.
    fn status(&self) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castling"));
        let done = command
            .args(["status", "--output", "json"])
            .env("CASTLING_DATA", self.path("operator"))
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        told["nodes"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Deployment) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "not {what}: {:#?}", self.status());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn until_ready(&self, nodes: &[&str]) {
        self.until("ready", |it| {
            let status = it.status();
            nodes.iter().all(|name| {
                let mut all = status.iter();
                all.any(|node| node["node"] == *name && node["ready"] == true)
            })
        });
    }

    #[track_caller]
    fn until_voters(&self, voters: &[&str]) {
        self.until("the voters", |it| {
            let told = |node: &Value| node["control"]["voters"].as_array().cloned();
            let mut all = it.status().into_iter();
            all.any(|node| told(&node).is_some_and(|told| told == *voters))
        });
    }

    /// A planned failover would begin: the secondary has everything.
    #[track_caller]
    fn until_following(&self) {
        self.until("following", |it| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_castling"));
            let check = command
                .args(["hub", "failover", "check", HUB])
                .env("CASTLING_DATA", it.path("operator"))
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            check.status().unwrap().success()
        });
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for (_, process) in &mut self.running {
            // Gone already, perhaps.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Runs a node that must end by itself; gives what it said on standard error.
fn refused(mut command: Command, code: i32) -> String {
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let status = wait(&mut process);
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

#[test]
fn a_deployment_fails_over_and_fills_every_node_that_was_wiped() {
    let mut deployment = Deployment::init(1);
    deployment.start("westus2");
    deployment.until("waiting for the others", |it| {
        let said = std::fs::read_to_string(it.path("westus2.log")).unwrap();
        said.contains("the first start needs every node once")
    });
    deployment.start("westcentralus");
    deployment.start("witness");
    deployment.until_ready(&NODES);
    deployment.ok(&["hub", "create", HUB, "--location", "westus2"]);
    deployment.ok(&["device", "create", HUB, "d-1"]);
    deployment.until_following();

    // The secondary, then the witness: nothing stops, and both come back as they were.
    deployment.kill("westcentralus");
    deployment.wipe("westcentralus");
    deployment.ok(&["device", "create", HUB, "d-2"]);
    deployment.start("westcentralus");
    deployment.until_following();
    deployment.stop("witness");
    deployment.wipe("witness");
    deployment.start("witness");
    deployment.until_ready(&NODES);
    deployment.ok(&["hub", "failover", "start", HUB, "--yes", HUB]);

    // The founder, as a secondary; it founds nothing.
    deployment.kill("westus2");
    deployment.wipe("westus2");
    deployment.start("westus2");
    deployment.until_following();
    deployment.until_voters(&NODES);
    deployment.ok(&["hub", "failover", "start", HUB, "--yes", HUB]);
    let devices = deployment.ok(&["device", "list", HUB]);
    assert!(
        devices.contains("d-1") && devices.contains("d-2"),
        "{devices}"
    );
}

#[test]
fn a_primary_that_lost_its_folder_does_not_lead_with_nothing() {
    let mut deployment = Deployment::init(2);
    NODES.into_iter().for_each(|node| deployment.start(node));
    deployment.until_ready(&NODES);
    deployment.ok(&["hub", "create", HUB, "--location", "westus2"]);
    deployment.ok(&["device", "create", HUB, "d-1"]);
    deployment.until_following();
    deployment.kill("westus2");
    deployment.wipe("westus2");
    deployment.start("westus2");
    deployment.until("the loss is named", |it| {
        it.status().iter().any(|node| {
            node["node"] == "westus2"
                && node.pointer("/hubs/0/lostHere") == Some(&Value::Bool(true))
        })
    });
    let words = [
        "hub",
        "failover",
        "start",
        HUB,
        "--forced",
        "--accept-loss",
        "all",
        "--yes",
        HUB,
    ];
    deployment.ok(&words);
    assert!(deployment.ok(&["device", "list", HUB]).contains("d-1"));
    deployment.until_following();
}

#[test]
fn one_survivor_recovers_and_the_lost_ones_are_filled() {
    let mut deployment = Deployment::init(3);
    NODES.into_iter().for_each(|node| deployment.start(node));
    deployment.until_ready(&NODES);
    deployment.ok(&["hub", "create", HUB, "--location", "westus2"]);
    deployment.ok(&["device", "create", HUB, "d-1"]);
    deployment.until_following();
    deployment.kill("westus2");
    deployment.kill("witness");
    let survivor = deployment.path("westcentralus").join("castling.toml");
    let recover = ["recover", "--config", survivor.to_str().unwrap(), "--yes"];
    let words = |domain| recover.iter().copied().chain([domain]).collect::<Vec<_>>();
    let running = run(deployment.folder.path(), &words("castling.localhost"), 1);
    assert!(
        running.stderr.contains("another castling"),
        "{}",
        running.stderr
    );
    deployment.stop("westcentralus");
    run(deployment.folder.path(), &words("other.localhost"), 2);
    let done = run(deployment.folder.path(), &words("castling.localhost"), 0);
    assert!(done.stderr.contains("WARNING"), "{}", done.stderr);
    deployment.start("westcentralus");
    deployment.until_ready(&["westcentralus"]);
    let forced = [
        "hub",
        "failover",
        "start",
        HUB,
        "--forced",
        "--accept-loss",
        "all",
        "--yes",
        HUB,
    ];
    deployment.ok(&forced);
    assert!(deployment.ok(&["device", "list", HUB]).contains("d-1"));
    for node in ["westus2", "witness"] {
        deployment.wipe(node);
        deployment.start(node);
    }
    deployment.until_voters(&NODES);
    deployment.until_following();
    let told = deployment
        .status()
        .into_iter()
        .find(|node| node["node"] == "westus2");
    assert_eq!(text(&told.unwrap(), "/hubs/0/primary"), "westcentralus");
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let mut deployment = Deployment::init(4);
    // The same addresses, another deployment.
    let mut other = Deployment::init(4);
    other.start("westcentralus");
    deployment.start("westus2");
    deployment.until("refused", |it| {
        let said = std::fs::read_to_string(it.path("westus2.log")).unwrap();
        said.contains("no link") && said.contains("another `castling init`")
    });
    let again = refused(deployment.command("westus2"), 1);
    assert!(again.contains("another castling is using"), "{again}");

    let mut wrong = Command::new(env!("CARGO_BIN_EXE_castling"));
    wrong
        .args(["region", "--config"])
        .arg(deployment.path("witness").join("castling.toml"));
    let said = refused(wrong, 2);
    assert!(said.contains("castling witness"), "{said}");

    let key = deployment.path("witness").join("pki/link.key");
    std::fs::remove_file(&key).unwrap();
    let said = refused(deployment.command("witness"), 1);
    assert!(
        said.contains("link_key") && said.contains("castling init node"),
        "{said}"
    );
    let again = ["init", "--regions", "westus2", "--folder"];
    let folder: &Path = deployment.folder.path();
    let words: Vec<&str> = again
        .iter()
        .copied()
        .chain([folder.to_str().unwrap()])
        .collect();
    assert!(run(folder, &words, 1).stderr.contains("is not empty"));
}
