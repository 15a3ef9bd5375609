//! What a healthy link does.

use super::*;

#[tokio::test]
async fn calls_and_casts_go_both_ways() {
    let world = world(&["a", "b"]).await;
    let (a, b) = world.pair().await;
    assert_eq!(a.ask("b", b"who").await.unwrap(), "a Client");
    assert_eq!(b.ask("a", b"who").await.unwrap(), "b Client");
    for n in 0..1000_u32 {
        a.links
            .cast(&region("b"), Class::Bulk, Bytes::from(n.to_string()))
            .unwrap();
        b.links
            .cast_wait(&region("a"), Class::Bulk, Bytes::from(n.to_string()))
            .await
            .unwrap();
    }
    for n in 0..1000_u32 {
        assert_eq!(
            b.next_cast().await,
            (region("a"), Class::Bulk, n.to_string().into())
        );
        assert_eq!(
            a.next_cast().await,
            (region("b"), Class::Bulk, n.to_string().into())
        );
    }
}

#[tokio::test]
async fn many_calls_run_at_once_and_each_gets_its_own_answer() {
    let world = world(&["a", "b"]).await;
    let (a, _b) = world.pair().await;
    let call = |n: u32| {
        let links = a.links.clone();
        async move {
            let body = Bytes::from(n.to_string());
            let answer = links
                .call(&region("b"), Class::Client, body.clone(), LONG)
                .await;
            assert_eq!(answer.unwrap(), body);
        }
    };
    futures_util::future::join_all((0..5000).map(call)).await;
}

#[tokio::test]
async fn a_hanging_call_holds_up_no_other() {
    let world = world(&["a", "b"]).await;
    let (a, b) = world.pair().await;
    let links = a.links.clone();
    let hang = Bytes::from_static(b"hang");
    let hanging =
        tokio::spawn(async move { links.call(&region("b"), Class::Client, hang, LONG).await });
    soon(b.hanging.lock().await.recv()).await.unwrap();
    assert_eq!(a.ask("b", b"x").await.unwrap(), "x");
    hanging.abort();
}

#[tokio::test]
async fn the_largest_body_arrives_unchanged() {
    let world = world(&["a", "b"]).await;
    let (a, _b) = world.pair().await;
    let length = frame::body_max(limits::LINK_FRAME_BYTES_MAX);
    let body: Bytes = (0..length)
        .map(|n| (n * 7 + n / 251) as u8)
        .collect::<Vec<u8>>()
        .into();
    let answer = a
        .links
        .call(&region("b"), Class::Bulk, body.clone(), LONG)
        .await
        .unwrap();
    assert!(answer == body);
    let longer = Bytes::from(vec![0; length + 1]);
    let error = a
        .links
        .call(&region("b"), Class::Bulk, longer, LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::NotSent(_)), "{error}");
}

#[tokio::test]
async fn a_region_serves_itself_without_a_socket() {
    let world = world(&["a"]).await;
    let a = world.start("a").await;
    assert!(a.links.up(&region("a")) && a.links.wait_up(&region("a")).await);
    assert_eq!(a.ask("a", b"who").await.unwrap(), "a Client");
    a.links
        .cast(&region("a"), Class::Control, Bytes::from_static(b"x"))
        .unwrap();
    assert_eq!(
        a.next_cast().await,
        (region("a"), Class::Control, Bytes::from_static(b"x"))
    );
    let hang = Bytes::from_static(b"hang");
    let short = Duration::from_millis(1);
    let error = a
        .links
        .call(&region("a"), Class::Client, hang, short)
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::OutcomeUnknown(_)), "{error}");
    let error = a.ask("a", b"panic").await.unwrap_err();
    assert!(matches!(error, LinkError::OutcomeUnknown(_)), "{error}");
}

#[tokio::test]
async fn a_region_that_is_no_peer_is_never_asked() {
    let world = world(&["a", "b"]).await;
    let a = world.start("a").await;
    assert!(!a.links.up(&region("z")) && !a.links.wait_up(&region("z")).await);
    assert_eq!(a.ask("z", b"x").await, Err(not_sent("a knows no region z")));
    assert_eq!(
        a.links.cast(&region("z"), Class::Bulk, Bytes::new()),
        Err(not_sent("a knows no region z"))
    );
}

#[tokio::test]
async fn the_status_tells_round_trip_and_bytes() {
    let world = world(&["a", "b"]).await;
    let (a, b) = world.pair().await;
    a.links
        .call(&region("b"), Class::Bulk, vec![0; 100_000].into(), LONG)
        .await
        .unwrap();
    eventually(|| a.links.peers()[0].rtt_ms.is_some() && a.links.peers()[0].queued == 0).await;
    for node in [&a, &b] {
        let status = &node.links.peers()[0];
        assert!(status.up && status.why_down.is_none(), "{status:?}");
        assert!(
            status.bytes_in > 100_000 && status.bytes_out > 100_000,
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn three_regions_have_three_links() {
    let world = world(&["a", "b", "c"]).await;
    let nodes = [
        world.start("a").await,
        world.start("b").await,
        world.start("c").await,
    ];
    for from in &nodes {
        for to in &nodes {
            let to = to.links.me();
            assert!(soon(from.links.wait_up(to)).await);
            let answer = from.ask(to.as_str(), b"who").await.unwrap();
            assert_eq!(answer, format!("{} Client", from.links.me()));
        }
    }
}

#[tokio::test]
async fn a_control_frame_overtakes_bulk_that_waits() {
    let world = world(&["a", "b"]).await;
    let (mut stream, node) = world.played().await;
    for _ in 0..25 {
        node.links
            .cast(&region("a"), Class::Bulk, vec![0; 1024 * 1024].into())
            .unwrap();
    }
    node.links
        .cast(&region("a"), Class::Control, Bytes::from_static(b"urgent"))
        .unwrap();
    let mut buffer = BytesMut::new();
    let mut bulk_before = 0;
    while read(&mut stream, &mut buffer).await.class == Class::Bulk {
        bulk_before += 1;
    }
    assert!(
        bulk_before < 20,
        "{bulk_before} of 25 MiB went first: more than the sockets hold"
    );
}

#[tokio::test]
async fn a_new_certificate_serves_links_made_afterwards() {
    let world = world(&["a", "b"]).await;
    let (a, b) = world.pair().await;
    let (_folder, other) = authority();
    // Both authorities are trusted while the change is under way.
    let mut roots = world.authority.roots().unwrap();
    roots.roots.extend(other.roots().unwrap().roots);
    let roots = Arc::new(roots);
    for (node, name) in [(&a, "a"), (&b, "b")] {
        let foreign = other.issue_region(&region("c"), SystemTime::now()).unwrap();
        assert!(
            node.links.renew(&foreign, roots.clone()).is_err(),
            "another region's"
        );
        let renewed = other
            .issue_region(&region(name), SystemTime::now())
            .unwrap();
        node.links.renew(&renewed, roots.clone()).unwrap();
    }
    assert!(a.links.up(&region("b")), "the link that is up stays");
    // A peer with a certificate of the new authority is taken, of the new one alone.
    let mut config = world.config("a");
    config.identity = other.issue_region(&region("a"), SystemTime::now()).unwrap();
    config.roots = Arc::new(other.roots().unwrap());
    let tcp = TcpStream::connect(world.addresses[&region("b")])
        .await
        .unwrap();
    let dialled = soon(handshake::dial(
        &link_tls(&config),
        tcp,
        &config.me,
        &region("b"),
    ))
    .await;
    assert_eq!(dialled.unwrap().software.as_deref(), Some("test"));
}
