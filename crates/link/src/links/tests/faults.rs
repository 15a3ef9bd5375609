//! Links that break, peers that misbehave, bytes that are no link.

use super::*;

async fn cannot_ask(node: &Node, to: &str) {
    let error = node.ask(to, b"x").await.unwrap_err();
    assert!(matches!(error, LinkError::NotSent(_)), "{error}");
}

#[tokio::test]
async fn a_link_comes_back_when_either_side_restarts() {
    let world = world(&["a", "b"]).await;
    let (mut a, mut b) = world.pair().await;
    assert_eq!(a.next_change().await, (region("b"), true));
    assert_eq!(b.next_change().await, (region("a"), true));

    b.links.shutdown().await;
    assert_eq!(b.next_change().await, (region("a"), false));
    assert_eq!(a.next_change().await, (region("b"), false));
    cannot_ask(&a, "b").await;
    cannot_ask(&b, "a").await;
    b = world.start("b").await;
    assert_eq!(a.next_change().await, (region("b"), true));
    assert_eq!(a.ask("b", b"again").await.unwrap(), "again");

    assert_eq!(b.next_change().await, (region("a"), true));
    a.links.shutdown().await;
    assert_eq!(b.next_change().await, (region("a"), false));
    a = world.start("a").await;
    assert_eq!(b.next_change().await, (region("a"), true));
    assert!(soon(a.links.wait_up(&region("b"))).await);
    assert_eq!(b.ask("a", b"again").await.unwrap(), "again");
}

#[tokio::test]
async fn a_call_that_was_sent_before_the_link_broke_has_an_unknown_outcome() {
    let world = world(&["a", "b"]).await;
    let (a, b) = world.pair().await;
    let call = a.ask("b", b"hang");
    let break_it = async {
        soon(b.hanging.lock().await.recv()).await.unwrap();
        b.links.shutdown().await;
    };
    let (outcome, ()) = tokio::join!(call, break_it);
    assert!(
        matches!(outcome, Err(LinkError::OutcomeUnknown(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn calls_still_queued_when_the_link_broke_were_not_sent() {
    let world = world(&["a", "b"]).await;
    let (mut stream, node) = world.played().await;
    let call = |_| {
        let links = node.links.clone();
        let body = Bytes::from(vec![0; 1024 * 1024]);
        async move { links.call(&region("a"), Class::Bulk, body, LONG).await }
    };
    let calls = futures_util::future::join_all((0..60).map(call));
    let break_it = async {
        let mut buffer = BytesMut::new();
        for _ in 0..3 {
            assert_eq!(read(&mut stream, &mut buffer).await.kind, Kind::Call);
        }
        drop(stream);
    };
    let (outcomes, ()) = tokio::join!(calls, break_it);
    let unknown = outcomes
        .iter()
        .filter(|o| matches!(o, Err(LinkError::OutcomeUnknown(_))))
        .count();
    let not_sent = outcomes
        .iter()
        .filter(|o| matches!(o, Err(LinkError::NotSent(_))))
        .count();
    assert_eq!(unknown + not_sent, 60);
    assert!(
        unknown >= 3,
        "{unknown} unknown: those that arrived are never called unsent"
    );
    assert!(
        not_sent > 0,
        "more than the sockets hold cannot have been sent"
    );
}

#[tokio::test]
async fn a_cast_beyond_the_queue_is_not_sent() {
    let world = world(&["a", "b"]).await;
    let (_stream, node) = world.played().await;
    let page = Bytes::from(vec![0; 1024 * 1024]);
    // The peer reads nothing: what sockets and queue hold is bounded.
    let error = (0..1000).find_map(|_| {
        node.links
            .cast(&region("a"), Class::Bulk, page.clone())
            .err()
    });
    assert_eq!(error, Some(not_sent("the Bulk queue of the link is full")));
    let queued = node.links.peers()[0].queued;
    assert!((30 << 20..=32 << 20).contains(&queued), "{queued}");
    assert!(node.links.up(&region("a")));
}

/// Plays a peer that sends these bytes: the link ends, with a reason that names the breach.
async fn breaks_the_protocol(bytes: &[u8], why: &str) {
    let world = world(&["a", "b"]).await;
    let (mut stream, node) = world.played().await;
    assert_eq!(node.next_change().await, (region("a"), true));
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(node.next_change().await, (region("a"), false));
    assert_eq!(
        node.why_down("a"),
        format!("the peer broke the protocol: {why}")
    );
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_unknown_closes_the_link() {
    let max = limits::LINK_FRAME_BYTES_MAX;
    let header = |length: usize, kind: u8, class: u8| {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
        (bytes[4], bytes[5]) = (kind, class);
        bytes
    };
    let why = format!("a frame of {} bytes, allowed are 10 to {max}", max + 1);
    breaks_the_protocol(&header(max + 1, 7, 0), &why).await;
    breaks_the_protocol(&header(100, 77, 0), "a frame of unknown kind 77").await;
    breaks_the_protocol(&header(100, 7, 9), "a frame of unknown class 9").await;
    breaks_the_protocol(&header(10, 1, 0), "a second hello").await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_ignored() {
    let world = world(&["a", "b"]).await;
    let (mut stream, node) = world.played().await;
    for kind in [Kind::Answer, Kind::NotDone, Kind::Unknown, Kind::Pong] {
        write(&mut stream, frame(kind, Class::Client, 4711, b"?")).await;
    }
    write(
        &mut stream,
        frame(Kind::Cast, Class::Client, 0, b"still here"),
    )
    .await;
    assert_eq!(node.next_cast().await.2, "still here");
}

#[tokio::test]
async fn what_the_peer_says_of_a_call_decides_whether_asking_again_is_safe() {
    let world = world(&["a", "b"]).await;
    let (mut stream, node) = world.played().await;
    let mut buffer = BytesMut::new();
    let cases = [
        (Kind::Answer, Ok(Bytes::from_static(b"text"))),
        (Kind::NotDone, Err(not_sent("text"))),
        (
            Kind::Unknown,
            Err(LinkError::OutcomeUnknown("text".to_owned())),
        ),
    ];
    for (kind, expected) in cases {
        let peer = async {
            let call = read(&mut stream, &mut buffer).await;
            write(&mut stream, frame(kind, Class::Client, call.id, b"text")).await;
        };
        let (outcome, ()) = tokio::join!(node.ask("a", b"x"), peer);
        assert_eq!(outcome, expected);
    }
}

#[tokio::test]
async fn a_handler_that_fails_or_says_too_much_leaves_the_outcome_unknown_and_the_link_up() {
    let world = world(&["a", "b"]).await;
    let (a, _b) = world.pair().await;
    for body in [&b"panic"[..], b"too much"] {
        let outcome = a.ask("b", body).await;
        assert!(
            matches!(outcome, Err(LinkError::OutcomeUnknown(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(a.ask("b", b"x").await.unwrap(), "x");
    assert_eq!(a.next_change().await, (region("b"), true));
    assert!(
        a.changes.lock().await.try_recv().is_err(),
        "it never went down"
    );
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    let world = world(&["a", "b"]).await;
    let begun = std::time::Instant::now();
    let (_stream, node) = world.played().await;
    assert_eq!(node.next_change().await, (region("a"), true));
    assert_eq!(node.next_change().await, (region("a"), false));
    assert!(begun.elapsed() >= Duration::from_millis(limits::LINK_SILENCE_MS_MAX));
    assert_eq!(node.why_down("a"), "reading failed: nothing for 3s");
}

#[tokio::test]
async fn a_peer_that_dials_anew_replaces_its_older_link() {
    let world = world(&["a", "b"]).await;
    let (mut older, node) = world.played().await;
    let mut newer = world.play("a", "b").await.unwrap().stream;
    for up in [true, false, true] {
        assert_eq!(node.next_change().await, (region("a"), up));
    }
    closed(&mut older).await;
    write(&mut newer, frame(Kind::Cast, Class::Client, 0, b"new")).await;
    assert_eq!(node.next_cast().await.2, "new");
}

#[tokio::test]
async fn bytes_that_are_no_link_do_no_harm() {
    let world = world(&["a", "b"]).await;
    let b = world.start("b").await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for length in 0..100 {
        let bytes: Vec<u8> = (0..length * 11)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let mut tcp = TcpStream::connect(world.addresses[&region("b")])
            .await
            .unwrap();
        // The listener may have hung up before all was written.
        let _written = tcp.write_all(&bytes).await;
    }
    eventually(|| b.links.refusals().len() == limits::LINK_REFUSALS_KEPT).await;
    let a = world.start("a").await;
    assert!(soon(a.links.wait_up(&region("b"))).await);
    assert_eq!(a.ask("b", b"x").await.unwrap(), "x");
}

#[tokio::test]
async fn links_end_when_the_last_clone_is_dropped() {
    let world = world(&["a", "b"]).await;
    let (a, b) = world.pair().await;
    assert_eq!(a.next_change().await, (region("b"), true));
    let Node { links, .. } = b;
    let clone = links.clone();
    drop(links);
    assert_eq!(a.ask("b", b"x").await.unwrap(), "x", "a clone is left");
    drop(clone);
    assert_eq!(a.next_change().await, (region("b"), false));
}
