//! The relay over loopback sockets.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_millis(100);

struct Bed {
    link: Arc<Link>,
    address: SocketAddr,
    target: TcpListener,
}

async fn bed() -> Bed {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Arc::new(Link {
        name: "a-b".into(),
        weather: watch::Sender::default(),
        connections: AtomicU64::new(0),
        opened: AtomicU64::new(0),
        bytes: Default::default(),
    });
    let address = listener.local_addr().unwrap();
    let to = target.local_addr().unwrap();
    tokio::spawn(super::listen(listener, to, link.clone()));
    Bed {
        link,
        address,
        target,
    }
}

impl Bed {
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(self.address).await.unwrap();
        let (far, _) = self.target.accept().await.unwrap();
        (near, far)
    }

    fn order(&self, line: &str) {
        let order = line.parse().unwrap();
        perform(&order, std::slice::from_ref(&self.link)).unwrap();
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    to.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

async fn is_silent(stream: &mut TcpStream) {
    let read = tokio::time::timeout(SOON, stream.read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn bytes_and_ends_pass_both_ways() {
    let bed = bed().await;
    let (mut near, mut far) = bed.connect().await;
    passes(&mut near, &mut far).await;
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    passes(&mut far, &mut near).await;
    drop(far);
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
    let bytes = bed.link.bytes.each_ref().map(|count| count.load(Relaxed));
    assert_eq!(bytes, [5, 5]);
}

#[tokio::test]
async fn a_delay_is_kept_in_its_direction() {
    let bed = bed().await;
    let (mut near, mut far) = bed.connect().await;
    bed.order("delay a-b 150 0");
    let begun = tokio::time::Instant::now();
    passes(&mut near, &mut far).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
    let begun = tokio::time::Instant::now();
    passes(&mut far, &mut near).await;
    assert!(begun.elapsed() < Duration::from_millis(150));
}

#[tokio::test]
async fn a_cut_is_silent_and_holds_what_was_sent() {
    let bed = bed().await;
    let (mut near, mut far) = bed.connect().await;
    bed.order("cut a-b forward");
    near.write_all(b"held").await.unwrap();
    is_silent(&mut far).await;
    passes(&mut far, &mut near).await;
    bed.order("cut * both");
    far.write_all(b"back").await.unwrap();
    far.shutdown().await.unwrap();
    is_silent(&mut near).await;
    bed.order("heal a-b");
    let mut got = [0; 4];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"held");
    near.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"back");
    assert_eq!(near.read(&mut got).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_made_during_a_cut_gets_through_when_it_is_healed() {
    let bed = bed().await;
    bed.order("cut a-b both");
    let mut near = TcpStream::connect(bed.address).await.unwrap();
    near.write_all(b"hello").await.unwrap();
    let reached = tokio::time::timeout(SOON, bed.target.accept()).await;
    assert!(reached.is_err(), "nobody hears of it");
    bed.order("heal a-b");
    let (mut far, _) = bed.target.accept().await.unwrap();
    let mut got = [0; 5];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[tokio::test]
async fn a_reset_and_a_broken_side_end_both_sides_hard() {
    let bed = bed().await;
    let (mut near, mut far) = bed.connect().await;
    passes(&mut near, &mut far).await;
    bed.order("reset a-b");
    for stream in [&mut near, &mut far] {
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    let (mut near, mut far) = bed.connect().await;
    passes(&mut near, &mut far).await;
    far.set_zero_linger().unwrap();
    drop(far);
    let error = near.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn orders_are_answered_line_by_line() {
    let bed = bed().await;
    let (ours, theirs) = tokio::io::duplex(4096);
    let (read, write) = tokio::io::split(theirs);
    let links = [bed.link.clone()];
    let talk = async {
        let (read, mut write) = tokio::io::split(ours);
        write
            .write_all(b"cut a-b both\nheal none\nstats\n")
            .await
            .unwrap();
        let mut lines = BufReader::new(read).lines();
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(lines.next_line().await.unwrap().unwrap());
        }
        answers
    };
    let answers = tokio::select! {
        answers = talk => answers,
        () = converse(read, write, &links) => panic!("the conversation ended"),
    };
    assert_eq!(answers[..2], ["ok", "error: there is no link none"]);
    let stats: Value = serde_json::from_str(&answers[2]).unwrap();
    assert_eq!(stats["links"][0]["cut"], json!([true, true]));
}
