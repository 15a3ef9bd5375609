//! Who gets no link, and what both sides learn of it.

use super::super::hello::{Hello, Versions};
use super::*;
use rustls::pki_types::ServerName;

/// Starts `b`, and `a` as changed; both must stay apart. Gives why, as `a` and as `b` see it.
async fn apart(change: impl FnOnce(&mut LinkConfig)) -> (String, String) {
    let world = world(&["a", "b"]).await;
    let b = world.start("b").await;
    let mut config = world.config("a");
    change(&mut config);
    let a = world.start_as(config).await;
    eventually(|| !b.links.refusals().is_empty() && a.why_down("b") != "no connection yet").await;
    assert!(!a.links.up(&region("b")) && !b.links.up(&region("a")));
    assert!(matches!(a.ask("b", b"x").await, Err(LinkError::NotSent(_))));
    assert!(
        b.changes.lock().await.try_recv().is_err(),
        "the handler never heard of it"
    );
    (a.why_down("b"), b.links.refusals()[0].why.clone())
}

#[tokio::test]
async fn a_region_of_another_authority_is_refused() {
    let (_folder, stranger) = authority();
    let identity = stranger
        .issue_region(&region("a"), SystemTime::now())
        .unwrap();
    let (_, b_says) = apart(|config| config.identity = identity).await;
    assert!(
        b_says.contains("the TLS handshake failed") && b_says.contains("UnknownIssuer"),
        "{b_says}"
    );
}

#[tokio::test]
async fn a_dialled_region_of_another_authority_is_refused() {
    let (_folder, stranger) = authority();
    let roots = Arc::new(stranger.roots().unwrap());
    let (a_says, _) = apart(|config| config.roots = roots).await;
    assert!(
        a_says.contains("the TLS handshake failed") && a_says.contains("UnknownIssuer"),
        "{a_says}"
    );
}

#[tokio::test]
async fn a_region_of_another_deployment_is_refused_and_both_say_so() {
    let (a_says, b_says) = apart(|config| config.deployment = "other".to_owned()).await;
    let why = "another deployment: \"test\" here, \"other\" there; the nodes of one deployment come from one `castling init`";
    assert_eq!(a_says, format!("the peer refused: {why}"));
    assert_eq!(b_says, format!("refused: {why}"));
}

#[tokio::test]
async fn a_region_that_nobody_listed_is_refused_and_both_say_so() {
    let world = world(&["a", "b"]).await;
    let b = world.start("b").await;
    let error = world.play("aa", "b").await.err().unwrap();
    assert_eq!(error.to_string(), "the peer refused: b knows no region aa");
    eventually(|| !b.links.refusals().is_empty()).await;
    assert_eq!(b.links.refusals()[0].why, "refused: b knows no region aa");
}

#[tokio::test]
async fn a_region_with_the_larger_name_does_not_dial() {
    let world = world(&["a", "b"]).await;
    let _a = world.start("a").await;
    let error = world.play("b", "a").await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the peer refused: a dials b, not the other way round"
    );
}

#[tokio::test]
async fn a_region_is_not_taken_for_another() {
    let mut world = world(&["a", "b", "c"]).await;
    // The address of c leads to b.
    world
        .addresses
        .insert(region("c"), world.addresses[&region("b")]);
    let _b = world.start("b").await;
    let error = world.play("a", "c").await.err().unwrap().to_string();
    assert!(error.contains("the TLS handshake failed"), "{error}");
}

/// Plays `a` with a hello of the test's choice; gives what `b` answers.
async fn answer_to(world: &World, hello: Bytes) -> Frame {
    let config = world.config("a");
    let tcp = TcpStream::connect(world.addresses[&region("b")])
        .await
        .unwrap();
    let name = ServerName::try_from("b.region.castling").unwrap();
    let tcp = tokio::io::BufReader::new(tcp);
    let mut stream = Stream::from(
        link_tls(&config)
            .connector
            .connect(name, tcp)
            .await
            .unwrap(),
    );
    write(&mut stream, frame(Kind::Hello, Class::Control, 0, &hello)).await;
    read(&mut stream, &mut BytesMut::new()).await
}

fn hello(min: u8, max: u8, from: &str) -> Bytes {
    let versions = Versions { min, max };
    let (from, to) = (region(from), region("b"));
    Hello {
        versions,
        deployment: "test".to_owned(),
        from,
        to,
        payloads: Versions { min: 1, max: 1 },
        software: Some("test".to_owned()),
    }
    .encode()
}

#[tokio::test]
async fn a_newer_peer_is_understood_if_it_still_speaks_our_version() {
    let world = world(&["a", "b"]).await;
    let b = world.start("b").await;
    let answer = answer_to(&world, hello(1, 9, "a")).await;
    assert_eq!(answer.kind, Kind::Hello);
    let theirs = Hello::decode(&answer.body).unwrap();
    assert_eq!(
        (theirs.from, theirs.to),
        (region("a").max(region("b")), region("a"))
    );
    assert!(soon(b.links.wait_up(&region("a"))).await);
}

#[tokio::test]
async fn a_peer_without_a_common_version_is_refused_with_the_reason() {
    let world = world(&["a", "b"]).await;
    let b = world.start("b").await;
    let answer = answer_to(&world, hello(2, 3, "a")).await;
    assert_eq!(
        (answer.kind, &answer.body[..]),
        (
            Kind::Refuse,
            &b"no common link version: 1-1 here, 2-3 there"[..]
        )
    );
    eventually(|| !b.links.refusals().is_empty()).await;
    assert!(!b.links.up(&region("a")));
}

#[tokio::test]
async fn a_hello_that_contradicts_the_certificate_or_is_unreadable_is_refused() {
    let world = world(&["a", "b"]).await;
    let _b = world.start("b").await;
    let answer = answer_to(&world, hello(1, 1, "aa")).await;
    assert_eq!(
        (answer.kind, &answer.body[..]),
        (Kind::Refuse, &b"the hello names aa, the certificate a"[..])
    );
    let answer = answer_to(&world, Bytes::from_static(b"GET / HTTP/1.1")).await;
    assert_eq!(
        (answer.kind, &answer.body[..]),
        (
            Kind::Refuse,
            &b"the hello is unreadable: no magic bytes"[..]
        )
    );
}

#[tokio::test]
async fn settings_that_contradict_each_other_do_not_start() {
    async fn refused(change: impl FnOnce(&mut LinkConfig, &World)) {
        let world = world(&["a", "b"]).await;
        let mut config = world.config("a");
        change(&mut config, &world);
        let listener = world.listeners.lock().remove(&region("a")).unwrap();
        let (change, _) = mpsc::unbounded_channel();
        let (cast, _) = mpsc::unbounded_channel();
        let (hang, _) = mpsc::unbounded_channel();
        let handler = Arc::new(Recorder {
            casts: cast,
            changes: change,
            hanging: hang,
        });
        let started = Links::start(config, listener, handler).await;
        assert!(matches!(started, Err(StartError::Config(_))));
    }
    refused(|config, _| {
        config.peers.insert(region("a"), config.listen.to_string());
    })
    .await;
    refused(|config, world| config.identity = world.config("b").identity).await;
    refused(|config, _| config.deployment.clear()).await;
    refused(|config, _| config.deployment = "x".repeat(256)).await;
    refused(|config, world| config.listen = world.addresses[&region("b")]).await;
}
