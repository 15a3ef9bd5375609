use super::world::PARTITIONS;
use super::*;
use types::{DeviceId, HubId, PartitionId, partition_of};

/// Sends `bodies` of d1 and gives the path of its partition.
async fn with_events(bodies: &[&[u8]]) -> (Client, String) {
    let client = Client::new();
    client.register("d1").await;
    for body in bodies {
        let call = client
            .device("d1", "POST", "/devices/d1/messages/events")
            .header("iothub-app-n", "1");
        call.header("iothub-contenttype", "text/plain")
            .body(body.to_vec())
            .send()
            .await
            .ok(StatusCode::NO_CONTENT);
        client.world.advance(1_000);
    }
    let partition = partition_of(&DeviceId::parse("d1").unwrap(), PARTITIONS);
    (client, format!("/messages/events/partitions/{partition}"))
}

async fn bodies(client: &Client, path: &str) -> (Vec<String>, u64) {
    let page = client
        .policy("service", "GET", path)
        .send()
        .await
        .ok(StatusCode::OK)
        .json();
    let bodies = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["body"].as_str().unwrap().to_owned())
        .collect();
    (bodies, page["next"].as_u64().unwrap())
}

#[tokio::test]
async fn partitions_are_listed_with_what_they_hold() {
    let (client, path) = with_events(&[b"a", b"b"]).await;
    let all = client
        .owner("GET", "/messages/events/partitions")
        .send()
        .await
        .ok(StatusCode::OK)
        .json();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), usize::from(PARTITIONS));
    for (number, one) in all.iter().enumerate() {
        let full = path.ends_with(&number.to_string());
        let expected = serde_json::json!({"partition": number, "epoch": 1, "beginSequenceNumber": 0,
            "nextSequenceNumber": if full { 2 } else { 0 }, "isEmpty": !full});
        assert_eq!(*one, expected);
    }
}

#[tokio::test]
async fn an_event_has_one_shape_whatever_its_body() {
    let (client, path) = with_events(&[b"{\"t\":1}", &[0xff, 0xfe]]).await;
    let page = client
        .owner("GET", &path)
        .send()
        .await
        .ok(StatusCode::OK)
        .json();
    assert_eq!((&page["next"], &page["epoch"]), (&2.into(), &1.into()));
    let first = &page["events"][0];
    assert_eq!(
        first["partition"].to_string(),
        path.rsplit('/').next().unwrap()
    );
    assert_eq!(first["sequenceNumber"], 0);
    assert_eq!(first["offset"], "1:0");
    assert_eq!(first["deviceId"], "d1");
    assert_eq!(first["properties"], serde_json::json!({"n": "1"}));
    assert_eq!(
        (&first["body"], &first["bodyEncoding"]),
        (&"{\"t\":1}".into(), &"utf8".into())
    );
    let system = &first["systemProperties"];
    assert_eq!(system["content-type"], "text/plain");
    assert_eq!(system["iothub-connection-device-id"], "d1");
    assert_eq!(system["iothub-message-source"], "Telemetry");
    assert_eq!(system["iothub-enqueuedtime"], first["enqueuedTime"]);
    assert!(
        system["iothub-connection-auth-method"]
            .as_str()
            .unwrap()
            .contains("\"sas\"")
    );
    let second = &page["events"][1];
    assert_eq!(
        (&second["body"], &second["bodyEncoding"]),
        (&"//4=".into(), &"base64".into())
    );
}

#[tokio::test]
async fn reading_begins_where_it_is_told_to() {
    let (client, path) = with_events(&[b"a", b"b", b"c"]).await;
    let page = client.owner("GET", &path).send().await.json();
    let time = page["events"][1]["enqueuedTime"]
        .as_str()
        .unwrap()
        .to_owned();
    let check = |query: String, expected: &'static [&'static str], next: u64| {
        let path = format!("{path}?{query}");
        let client = &client;
        async move {
            assert_eq!(
                bodies(client, &path).await,
                (expected.iter().map(|s| (*s).to_owned()).collect(), next),
                "{path}"
            )
        }
    };
    check("from=earliest".into(), &["a", "b", "c"], 3).await;
    check("from=latest".into(), &[], 3).await;
    check("from=1".into(), &["b", "c"], 3).await;
    check("from=1:0".into(), &["b", "c"], 3).await;
    check("from=3&wait=0".into(), &[], 3).await;
    check("from=0&max=2".into(), &["a", "b"], 2).await;
    check(format!("from={time}"), &["b", "c"], 3).await;
    check("from=stored&consumerGroup=CG1".into(), &["a", "b", "c"], 3).await;
    for bad in [
        "from=x",
        "max=0",
        "max=1001",
        "max=x",
        "wait=-1",
        "wait=60001",
    ] {
        client
            .owner("GET", &format!("{path}?{bad}"))
            .refused(ErrorCode::ArgumentInvalid)
            .await;
    }
    client
        .owner("GET", &format!("{path}?consumerGroup=none"))
        .refused(ErrorCode::ConsumerGroupNotFound)
        .await;
    for bad in ["4", "x", "-1", "65536"] {
        client
            .owner("GET", &format!("/messages/events/partitions/{bad}"))
            .refused(ErrorCode::ArgumentInvalid)
            .await;
    }
}

#[tokio::test]
async fn an_event_whose_properties_cannot_be_read_does_not_stop_its_readers() {
    let client = Client::new();
    client.world.store(HubId(1), PartitionId(0), "a=%zz", b"x");
    let page = client
        .owner("GET", "/messages/events/partitions/0")
        .send()
        .await
        .ok(StatusCode::OK)
        .json();
    assert_eq!(
        page["events"][0]["systemProperties"]["unreadable-properties"],
        "a=%zz"
    );
    assert_eq!(
        page["events"][0]["systemProperties"]["iothub-connection-device-id"],
        "stored"
    );
}

#[tokio::test]
async fn offsets_are_kept_by_group_and_partition() {
    let (client, path) = with_events(&[b"a", b"b", b"c"]).await;
    let partition = path.rsplit('/').next().unwrap();
    let at = |group: &str| {
        format!("/messages/events/consumerGroups/{group}/partitions/{partition}/offset")
    };
    let none = client
        .owner("GET", &at("cg1"))
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(
        none.json(),
        serde_json::json!({"next": null, "epoch": null})
    );
    client
        .owner("PUT", &at("CG1"))
        .json(r#"{"next":2,"epoch":1}"#)
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    let kept = client
        .owner("GET", &at("cg1"))
        .send()
        .await
        .ok(StatusCode::OK);
    assert_eq!(kept.json(), serde_json::json!({"next": 2, "epoch": 1}));
    assert_eq!(
        client.owner("GET", &at("$Default")).send().await.json()["next"],
        Value::Null
    );
    assert_eq!(
        bodies(&client, &format!("{path}?from=stored&consumerGroup=cg1"))
            .await
            .0,
        ["c"]
    );
    client
        .owner("PUT", &at("cg1"))
        .json(r#"{"next":1}"#)
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    assert_eq!(
        bodies(&client, &format!("{path}?from=stored&consumerGroup=cg1"))
            .await
            .0,
        ["b", "c"]
    );

    for method in ["GET", "PUT"] {
        client
            .owner(method, &at("none"))
            .json("{\"next\":1}")
            .refused(ErrorCode::ConsumerGroupNotFound)
            .await;
    }
    for body in [
        "",
        "{}",
        "{\"next\":-1}",
        "{\"next\":\"1\"}",
        "[]",
        "{\"next\":1",
    ] {
        client
            .owner("PUT", &at("cg1"))
            .json(body)
            .refused(ErrorCode::IotHubFormatError)
            .await;
    }
    let wrong = "/messages/events/consumerGroups/cg1/partitions/9/offset";
    client
        .owner("GET", wrong)
        .refused(ErrorCode::ArgumentInvalid)
        .await;
}

/// A forced failover began epoch 2 and lost everything of the partition from `next` on.
fn force(client: &Client, path: &str, next: u64) -> Vec<crate::backend::Divergence> {
    let partition = PartitionId(path.rsplit('/').next().unwrap().parse().unwrap());
    client.world.lose(HubId(1), partition, next);
    client.world.enter(2);
    vec![crate::backend::Divergence {
        epoch: types::Epoch(2),
        partitions: vec![(partition, types::Sequence(next))],
    }]
}

async fn page(client: &Client, path: &str, query: &str) -> Value {
    let path = format!("{path}?{query}");
    let answer = client.owner("GET", &path).send().await;
    answer.ok(StatusCode::OK).json()
}

#[tokio::test]
async fn who_read_past_a_divergence_is_put_back_to_it_and_told() {
    let (client, path) = with_events(&[b"a", b"b", b"c"]).await;
    let cut = force(&client, &path, 1);
    client.world.learn(2, cut);
    let back = serde_json::json!({"from": 3, "to": 1, "epoch": 2});
    for query in ["from=1:2", "from=3&epoch=1", "from=3"] {
        let page = page(&client, &path, query).await;
        assert_eq!(
            (&page["rewound"], &page["next"]),
            (&back, &1.into()),
            "{query}"
        );
    }
    for query in [
        "from=1:0",
        "from=1&epoch=1",
        "from=1",
        "from=2:2",
        "from=3&epoch=2",
        "from=earliest",
        "from=latest",
    ] {
        let page = page(&client, &path, query).await;
        assert_eq!(page["rewound"], Value::Null, "{query}");
    }
    let bad = format!("{path}?from=3&epoch=x");
    client
        .owner("GET", &bad)
        .refused(ErrorCode::ArgumentInvalid)
        .await;
}

#[tokio::test]
async fn stored_positions_are_put_back_and_lost_ones_are_not_stored() {
    let (client, path) = with_events(&[b"a", b"b", b"c"]).await;
    let partition = path.rsplit('/').next().unwrap();
    let offset = format!("/messages/events/consumerGroups/cg1/partitions/{partition}/offset");
    let put = |body: &str| client.owner("PUT", &offset).json(body);
    put(r#"{"next":3,"epoch":1}"#)
        .send()
        .await
        .ok(StatusCode::NO_CONTENT);
    let cut = force(&client, &path, 1);
    client.world.learn(2, cut);
    let stored = page(&client, &path, "from=stored&consumerGroup=cg1").await;
    assert_eq!(
        stored["rewound"],
        serde_json::json!({"from": 3, "to": 1, "epoch": 2})
    );
    let refused = put(r#"{"next":2,"epoch":1}"#)
        .refused(ErrorCode::ConsumerOffsetDiverged)
        .await;
    assert!(
        refused.text().contains("read on from 1"),
        "{}",
        refused.text()
    );
    for kept in [r#"{"next":1,"epoch":1}"#, r#"{"next":2,"epoch":2}"#] {
        put(kept).send().await.ok(StatusCode::NO_CONTENT);
        let stored = page(&client, &path, "from=stored&consumerGroup=cg1").await;
        assert_eq!(stored["rewound"], Value::Null, "{kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_a_region_that_has_not_heard_of_the_divergence() {
    let (client, path) = with_events(&[b"a", b"b", b"c"]).await;
    let cut = force(&client, &path, 1);
    let reading = page(&client, &path, "from=1:2");
    let learning = async { client.world.learn(2, cut.clone()) };
    let (page, ()) = tokio::join!(reading, learning);
    assert_eq!(page["rewound"]["to"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_not_left_waiting_for_ever_nor_sent_on() {
    let (client, path) = with_events(&[b"a", b"b", b"c"]).await;
    force(&client, &path, 1);
    let lost = format!("{path}?from=1:2");
    let answer = client
        .owner("GET", &lost)
        .refused(ErrorCode::IotHubFailingOver)
        .await;
    assert_eq!(answer.get("retry-after"), "1");
    // Who has read in the new epoch needs no such knowledge.
    assert_eq!(page(&client, &path, "from=2:0").await["next"], 1);
}
