//! Signing in, contexts, rights, the activity log and the transfer of hubs, with the built binary.

#[allow(dead_code, unused_imports)] // It serves other tests too.
mod common;

use common::World;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const HUB: &str = "my-hub";

/// A command that knows contexts only, no folder of a world.
fn elsewhere(settings: &Path, words: &[&str], secret: &str) -> Command {
    let mut command = common::command(settings, words);
    command
        .env_remove("CASTLING_DATA")
        .env("CASTLING_CONFIG", settings)
        .env("CASTLING_CLIENT_SECRET", secret)
        .current_dir(settings);
    command
}

fn ok(settings: &Path, words: &[&str]) -> String {
    let output = elsewhere(settings, words, "").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_operator_signs_in_and_works_with_a_context() {
    let world = World::start(9, &[]);
    let up: Value = serde_json::from_slice(&std::fs::read(world.up_file()).unwrap()).unwrap();
    let text = |name: &str| up[name].as_str().unwrap().to_owned();
    let settings = tempfile::tempdir().unwrap();
    let at = settings.path();
    let (address, ca, client) = (text("management_url"), text("ca_file"), text("client_id"));
    let login = [
        "login",
        "--address",
        &address,
        "--ca",
        &ca,
        "--name",
        "here",
        "--service-principal",
        "-u",
        &client,
    ];
    let wrong = elsewhere(at, &login, "wrong").output().unwrap();
    assert!(!wrong.status.success());
    let right = elsewhere(at, &login, &text("client_secret"))
        .output()
        .unwrap();
    assert!(
        right.status.success(),
        "{}",
        String::from_utf8_lossy(&right.stderr)
    );
    assert!(ok(at, &["context", "list"]).contains("here"));
    assert!(!ok(at, &["context", "show"]).contains(&text("client_secret")));
    ok(at, &["hub", "create", HUB, "--location", "westus2"]);
    ok(at, &["device", "create", HUB, "d-1"]);
    assert!(ok(at, &["user", "list"]).contains("admin@castling.localhost"));
    assert!(ok(at, &["user", "create", "reader@castling.localhost"]).contains("assword"));
    ok(
        at,
        &[
            "role",
            "assign",
            "reader@castling.localhost",
            "Reader",
            "--hub",
            HUB,
        ],
    );
    ok(at, &["lock", "create", "keep", "--hub", HUB]);
    let refused = elsewhere(at, &["hub", "delete", HUB, "--yes", HUB], "")
        .output()
        .unwrap();
    assert_eq!(
        refused.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    ok(at, &["lock", "delete", "keep", "--hub", HUB]);
    ok(
        at,
        &[
            "hub",
            "export",
            HUB,
            "--devices",
            "--keys",
            "--file",
            "hub.json",
        ],
    );
    ok(at, &["hub", "import", "hub.json", "--name", "other-hub"]);
    assert!(ok(at, &["device", "list", "other-hub"]).contains("d-1"));
    ok(at, &["activity", "export", "--file", "log.jsonl"]);
    ok(at, &["activity", "verify", "log.jsonl"]);
    let log = std::fs::read_to_string(at.join("log.jsonl")).unwrap();
    std::fs::write(at.join("log.jsonl"), log.replacen("my-hub", "no-hub", 1)).unwrap();
    let changed = elsewhere(at, &["activity", "verify", "log.jsonl"], "")
        .output()
        .unwrap();
    assert_eq!(changed.status.code(), Some(1));
    ok(at, &["logout"]);
    assert!(!ok(at, &["context", "list"]).contains("here"));
    world.stop();
}
