//! Two real regions in one process: real sockets, real disks, one planned failover after another.

mod world;

use hub::command::{
    IfMatch, Message, RegistryCommand, SessionCommand, TelemetryCommand, TwinCommand,
};
use hub::{Command, Reply};
use region::peer::ReadFrom;
use std::sync::Arc;
use types::{PartitionKey, Sequence, partition_of};
use world::{World, device};

async fn create_device(world: &World, region: usize, name: &str) {
    let body = bytes::Bytes::from(format!("{{\"deviceId\":\"{name}\"}}"));
    let command = Command::Registry(RegistryCommand::Put {
        device: device(name),
        body,
        if_match: IfMatch::Absent,
    });
    world.call(region, name, command).await.unwrap();
}

async fn generation(world: &World, region: usize, name: &str) -> String {
    let command = SessionCommand::Identity {
        device: device(name),
    };
    match world
        .call(region, name, Command::Session(command))
        .await
        .unwrap()
    {
        Reply::Identity(identity) => identity.generation,
        other => panic!("{other:?}"),
    }
}

async fn send(
    world: &World,
    region: usize,
    name: &str,
    counter: u64,
) -> Result<Reply, region::CallError> {
    let origin = Arc::new(hub::command::EventOrigin {
        generation: generation(world, region, name).await,
        auth_method: hub::command::AuthMethod::DeviceSas,
    });
    let message = Message {
        bag: bytes::Bytes::new(),
        body: bytes::Bytes::from(format!("{name}:{counter}")),
    };
    let command = TelemetryCommand::Send {
        device: device(name),
        connection: None,
        origin,
        messages: vec![message],
    };
    world.call(region, name, Command::Telemetry(command)).await
}

/// All events of the hub as texts, read through one region's gateway side.
async fn read_all(world: &World, region: usize) -> Vec<String> {
    let hub = world.hub();
    let mut texts = Vec::new();
    for number in 0..hub.partition_count {
        let at = PartitionKey {
            hub: hub.id,
            partition: types::PartitionId(number),
        };
        let mut next = Sequence(0);
        loop {
            let page = world.regions[region]
                .router
                .read_events(at, ReadFrom::Sequence(next), 100, 0)
                .await
                .unwrap();
            if page.runs.is_empty() {
                break;
            }
            for run in page.runs {
                assert_eq!(
                    run.first.0 + u64::from(run.skip),
                    next.0,
                    "sequence numbers are contiguous"
                );
                next = Sequence(next.0 + u64::from(run.take));
                let mut events = hub::telemetry::Events::new(run.first, run.count, run.bytes);
                events.skip_events(run.skip).unwrap();
                for event in events.take(run.take as usize) {
                    texts.push(String::from_utf8(event.unwrap().body.to_vec()).unwrap());
                }
            }
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_moves_to_its_pair_and_back_without_losing_an_acknowledged_event() {
    let world = World::start(&["westus2", "westcentralus"]).await;
    world.create_hub("westus2").await;
    for n in 0..4 {
        create_device(&world, n % 2, &format!("d{n}")).await;
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = Vec::new();
    for n in 0..4usize {
        let (world, stop) = (world.clone(), stop.clone());
        writers.push(tokio::spawn(async move {
            let mut counter = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                send(&world, n % 2, &format!("d{n}"), counter)
                    .await
                    .unwrap();
                counter += 1;
            }
            counter
        }));
    }
    for (to, back) in [
        ("westcentralus", false),
        ("westus2", true),
        ("westcentralus", false),
    ] {
        let report = world.failover(to).await;
        assert_eq!(report["outcome"], "Succeeded", "{report:#}");
        assert_eq!(report["kind"], if back { "failback" } else { "failover" });
        assert!(report["pauseMs"].as_i64().unwrap() < 5000);
        assert_eq!(world.hub().primary.as_str(), to);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut expected = Vec::new();
    for (n, writer) in writers.into_iter().enumerate() {
        let sent = writer.await.unwrap();
        assert!(sent > 0, "device {n} could send");
        expected.extend((0..sent).map(|counter| format!("d{n}:{counter}")));
    }
    for region in 0..2 {
        let mut found = read_all(&world, region).await;
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "every acknowledged event once, none else");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything_and_goes_on() {
    let world = World::start(&["westus2", "westcentralus"]).await;
    world.create_hub("westus2").await;
    create_device(&world, 0, "d").await;
    for counter in 0..50 {
        send(&world, 0, "d", counter).await.unwrap();
    }
    let world = world.restart().await;
    for counter in 50..60 {
        send(&world, 1, "d", counter).await.unwrap();
    }
    let expected: Vec<String> = (0..60).map(|counter| format!("d:{counter}")).collect();
    assert_eq!(read_all(&world, 0).await, expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_device_is_known_to_the_new_primary() {
    let world = World::start(&["westus2", "westcentralus"]).await;
    world.create_hub("westus2").await;
    create_device(&world, 0, "d").await;
    let effects = world.connect(0, "d").await;
    world.failover("westcentralus").await;
    let body = bytes::Bytes::from_static(b"{\"properties\":{\"desired\":{\"x\":1}}}");
    let patch = TwinCommand::Patch {
        device: device("d"),
        body,
        if_match: IfMatch::Any,
    };
    world.call(1, "d", Command::Twin(patch)).await.unwrap();
    let effect = tokio::time::timeout(std::time::Duration::from_secs(5), effects.recv_one())
        .await
        .unwrap();
    assert!(
        matches!(effect, hub::Effect::DesiredChanged { version: 2, .. }),
        "{effect:?}"
    );
    let close = SessionCommand::Close {
        device: device("d"),
        connection: types::ConnectionId(77),
    };
    world.call(0, "d", Command::Session(close)).await.unwrap();
    world.stop().await;
}

#[test]
fn devices_of_these_tests_fall_into_several_partitions() {
    let used: std::collections::BTreeSet<_> = (0..4)
        .map(|n| partition_of(&device(&format!("d{n}")), 4))
        .collect();
    assert!(used.len() > 1);
}
