//! The command line against a world of its own: the built binary, real sockets, a temporary folder.

mod common;

use common::{World, text};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

const HUB: &str = "my-hub";

#[test]
fn a_newcomer_gets_from_nothing_to_a_failover_and_back() {
    let world = World::start(
        1,
        &["--failover-cooldown", "0s", "--failovers-per-day", "100"],
    );
    hubs_are_created_shown_and_listed(&world);
    devices_are_created_shown_and_deleted(&world);
    twins_change(&world);
    messages_wait_for_devices(&world);
    telemetry_is_acknowledged_and_read(&world);
    a_hub_fails_over_and_back(&world);
    consumer_groups_come_and_go(&world);
    a_consumer_goes_on_where_it_stopped(&world);
    a_tail_ends_with_its_reader(&world);
    a_tail_ends_when_it_is_told_to(&world);
    hubs_are_deleted_after_their_name_was_given(&world);
    world.stop();
}

#[test]
fn a_second_failover_within_the_hour_is_refused_with_the_earliest_time() {
    let world = World::start(2, &[]);
    world.ok(&["hub", "create", HUB, "--location", "westus2"]);
    world.until_failover_ready(HUB);
    world.ok(&["hub", "failover", "start", HUB, "--yes", HUB]);
    let refused = world.run(&["hub", "failover", "start", HUB, "--yes", HUB], 4);
    assert!(
        refused.stderr.contains("FailoverTooSoon"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("earliest: "), "{}", refused.stderr);
    let check = world.run(&["hub", "failover", "check", HUB], 3);
    assert!(check.stdout.contains("Not ready"), "{}", check.stdout);
    world.stop();
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let mut world = World::start(3, &[]);
    world.ok(&[
        "hub",
        "create",
        HUB,
        "--location",
        "westus2",
        "--partitions",
        "2",
    ]);
    world.ok(&["device", "create", HUB, "d-1"]);
    world.restart();
    assert!(
        world
            .ok(&["device", "show", HUB, "d-1"])
            .contains("enabled")
    );
    world.stop();
}

#[test]
fn without_a_world_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let failed = common::run(folder.path(), &["hub", "list"], 1);
    assert!(
        failed.stderr.contains("castling up") && failed.stderr.contains("--data"),
        "{}",
        failed.stderr
    );
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["hub", "create"][..],
        &["nonsense"],
        &["events", "tail", "h", "--from", "yesterday"],
        &["up", "--failover-cooldown", "soon"],
    ] {
        common::run(folder.path(), words, 2);
    }
    let config = folder.path().join("world.conf");
    std::fs::write(&config, "mqtt-port = x\nnonsense = 1\n").unwrap();
    let failed = common::run(
        folder.path(),
        &["up", "--config", config.to_str().unwrap()],
        2,
    );
    assert!(
        failed.stderr.contains("world.conf:1:") && failed.stderr.contains("world.conf:2:"),
        "{}",
        failed.stderr
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            common::run(folder.path(), &["completions", shell], 0)
                .stdout
                .contains("failover")
        );
    }
}

fn hubs_are_created_shown_and_listed(world: &World) {
    world.ok(&[
        "hub",
        "create",
        HUB,
        "--location",
        "westus2",
        "--retention-days",
        "2",
        "--replication",
        "sync",
    ]);
    world.run(&["hub", "create", HUB, "--location", "westus2"], 1);
    let hub = world.json(&["hub", "show", HUB]);
    assert_eq!(text(&hub, "/properties/state"), "Active");
    assert_eq!(text(&hub, "/properties/castling/replication"), "sync");
    let listed = world.ok(&["hub", "list"]);
    assert!(
        listed.contains("westcentralus") && !listed.contains('\u{1b}'),
        "{listed}"
    );
    assert!(
        world
            .ok(&["hub", "connection-string", HUB, "--policy", "service"])
            .contains("SharedAccessKeyName=service;SharedAccessKey=")
    );
    assert!(
        world
            .ok(&["hosts"])
            .contains("127.77.1.1 my-hub.castling.localhost")
    );
    let unknown = world.run(&["hub", "show", "other"], 1);
    assert!(unknown.stderr.contains(HUB), "{}", unknown.stderr);
    let refused = world.run(&["hub", "create", "no", "--location", "westus2"], 4);
    assert!(
        refused.stderr.starts_with("refused: "),
        "{}",
        refused.stderr
    );
}

fn devices_are_created_shown_and_deleted(world: &World) {
    let made = world.json(&["device", "create", HUB, "d-1"]);
    assert!(!made.to_string().contains("primaryKey"), "{made}");
    let again = world.run(&["device", "create", HUB, "d-1"], 4);
    assert!(
        again.stderr.contains("DeviceAlreadyExists"),
        "{}",
        again.stderr
    );
    assert!(
        world
            .ok(&[
                "device", "create", HUB, "--count", "150", "--prefix", "many"
            ])
            .contains("150 of 150")
    );
    assert_eq!(
        world
            .json(&["device", "list", HUB, "--top", "1000"])
            .as_array()
            .unwrap()
            .len(),
        151
    );
    let string = world.ok(&["device", "connection-string", HUB, "d-1"]);
    assert!(
        string.starts_with("HostName=my-hub.castling.localhost;DeviceId=d-1;SharedAccessKey="),
        "{string}"
    );
    assert!(
        string.trim_end().ends_with("GatewayHostName=127.77.1.1"),
        "{string}"
    );
    world.ok(&["device", "delete", HUB, "many-1", "many-2"]);
    let gone = world.run(&["device", "show", HUB, "many-1"], 1);
    assert!(gone.stderr.contains("DeviceNotFound"), "{}", gone.stderr);
}

fn twins_change(world: &World) {
    let twin = world.json(&[
        "twin",
        "update",
        HUB,
        "d-1",
        "--desired",
        r#"{"interval":30}"#,
        "--tags",
        r#"{"floor":3}"#,
    ]);
    assert_eq!(twin["properties"]["desired"]["interval"], 30);
    assert!(
        world
            .ok(&["twin", "show", HUB, "d-1"])
            .contains("\"floor\": 3")
    );
    world.run(&["twin", "update", HUB, "d-1", "--tags", "[]"], 2);
}

fn messages_wait_for_devices(world: &World) {
    let queued = world.json(&[
        "c2d",
        "send",
        HUB,
        "d-1",
        "hello",
        "--ack",
        "full",
        "--message-id",
        "m-1",
        "--property",
        "a=b",
        "--expiry-seconds",
        "600",
    ]);
    assert_eq!(queued["messageId"], "m-1");
    assert_eq!(
        world.json(&["device", "show", HUB, "d-1"])["cloudToDeviceMessageCount"],
        1
    );
    world.run(&["c2d", "send", HUB, "nobody", "hello"], 1);
}

fn telemetry_is_acknowledged_and_read(world: &World) {
    let result = world.json(&[
        "device",
        "simulate",
        HUB,
        "--devices",
        "5",
        "--rate",
        "50",
        "--seconds",
        "2",
    ]);
    let sent = result["acknowledged"].as_u64().unwrap();
    assert!(
        sent > 0 && result["sent"].as_u64() == Some(sent),
        "{result}"
    );
    let events = tail(world, &["--from", "earliest", "--until-idle", "1"]);
    assert_eq!(events.len() as u64, sent);
    assert!(
        events
            .iter()
            .all(|event| text(event, "/deviceId").starts_with("sim-")
                && text(event, "/body").contains("temperature"))
    );
    let one = tail(
        world,
        &[
            "--from",
            "earliest",
            "--until-idle",
            "1",
            "--partition",
            "0",
        ],
    );
    assert!(one.iter().all(|event| event["partition"] == 0));
    world.run(&["events", "tail", HUB, "--partition", "99"], 2);
}

fn a_hub_fails_over_and_back(world: &World) {
    let check = world.ok(&["hub", "failover", "check", HUB]);
    assert!(
        check.contains("replication-lag") && check.contains("Ready"),
        "{check}"
    );
    assert!(
        world
            .ok(&["hub", "failover", "status", HUB])
            .contains("never failed over")
    );
    world.run(&["hub", "failover", "start", HUB], 2);
    world.run(&["hub", "failover", "start", HUB, "--yes", "other"], 2);
    world.until_failover_ready(HUB);
    let over = world.ok(&[
        "hub", "failover", "start", HUB, "--yes", HUB, "--reason", "drill",
    ]);
    assert!(
        over.contains("7/7") && over.contains("westcentralus is the primary now"),
        "{over}"
    );
    let status = world.json(&["hub", "failover", "status", HUB]);
    assert_eq!(
        (text(&status, "/primary"), text(&status, "/failover/status")),
        ("westcentralus".into(), "Succeeded".into())
    );
    let report = world.json(&["hub", "failover", "report", HUB]);
    assert_eq!(
        (text(&report, "/outcome"), text(&report, "/reason")),
        ("Succeeded".into(), "drill".into())
    );
    assert!(
        world
            .ok(&["hub", "failover", "report", HUB])
            .contains("equal")
    );
    assert!(
        world
            .run(&["hub", "failover", "cancel", HUB], 1)
            .stderr
            .contains("no failover")
    );
    world.until_failover_ready(HUB);
    world.ok(&[
        "hub", "failover", "start", HUB, "--yes", HUB, "--output", "json",
    ]);
    let history = world.json(&["hub", "failover", "history", HUB]);
    let kinds: Vec<String> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| text(entry, "/kind"))
        .collect();
    assert_eq!(kinds, ["failback", "failover"]);
    assert!(
        world
            .ok(&["hub", "failover", "history", HUB])
            .contains("drill")
    );
}

fn consumer_groups_come_and_go(world: &World) {
    world.ok(&["hub", "consumer-group", "create", HUB, "reports"]);
    world.ok(&["hub", "consumer-group", "create", HUB, "short-lived"]);
    world.ok(&["hub", "consumer-group", "delete", HUB, "short-lived"]);
    let listed = world.ok(&["hub", "consumer-group", "list", HUB]);
    assert!(
        listed.contains("$Default")
            && listed.contains("reports")
            && !listed.contains("short-lived"),
        "{listed}"
    );
}

fn a_consumer_goes_on_where_it_stopped(world: &World) {
    let group = ["--consumer-group", "reports", "--until-idle", "1"];
    let first = tail(world, &group);
    assert!(!first.is_empty());
    assert_eq!(tail(world, &group).len(), 0);
    let result = world.json(&[
        "device",
        "simulate",
        HUB,
        "--devices",
        "2",
        "--rate",
        "20",
        "--seconds",
        "1",
    ]);
    assert_eq!(
        Some(tail(world, &group).len() as u64),
        result["acknowledged"].as_u64()
    );
    let unknown = world.run(&["events", "tail", HUB, "--consumer-group", "nobody"], 1);
    assert!(!unknown.stderr.is_empty());
}

fn a_tail_ends_with_its_reader(world: &World) {
    let (mut tail, output) = begun_tail(world);
    drop(output);
    // The next event finds out that the pipe is closed.
    world.ok(&[
        "device",
        "simulate",
        HUB,
        "--devices",
        "2",
        "--rate",
        "20",
        "--seconds",
        "1",
    ]);
    assert_eq!(common::wait(&mut tail).code(), Some(0));
}

fn a_tail_ends_when_it_is_told_to(world: &World) {
    let (mut tail, mut output) = begun_tail(world);
    let drained =
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()).unwrap());
    common::terminate(&mut tail);
    drained.join().unwrap();
}

/// A tail that has printed its first event.
fn begun_tail(world: &World) -> (Child, BufReader<ChildStdout>) {
    let mut command = world.command(&["events", "tail", HUB, "--from", "earliest"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(tail.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with('{'), "{line}");
    (tail, output)
}

fn hubs_are_deleted_after_their_name_was_given(world: &World) {
    world.run(&["hub", "delete", HUB], 2);
    world.ok(&["hub", "delete", HUB, "--yes", HUB]);
    assert!(world.ok(&["hub", "list"]).contains("No hubs yet"));
}

fn tail(world: &World, options: &[&str]) -> Vec<Value> {
    let words: Vec<&str> = ["events", "tail", HUB]
        .iter()
        .chain(options)
        .copied()
        .collect();
    world
        .ok(&words)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
