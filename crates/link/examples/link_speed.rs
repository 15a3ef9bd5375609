//! Measures a link between two regions in one process: `cargo run --release -p castling-link --example link_speed`.

use bytes::Bytes;
use link::pki::{Authority, Purpose};
use link::{BoxFuture, Class, Handler, LinkConfig, Links};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use types::RegionName;

type Failure = Box<dyn std::error::Error + Send + Sync>;
const LONG: Duration = Duration::from_secs(60);

/// Echoes calls, counts casts.
#[derive(Default)]
struct Counter {
    casts: AtomicU64,
    expected: AtomicU64,
    all_there: Notify,
}

impl Handler for Counter {
    fn call(&self, _from: RegionName, _class: Class, body: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(async move { body })
    }

    fn cast(&self, _from: RegionName, _class: Class, _body: Bytes) {
        let count = self.casts.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.expected.load(Ordering::Relaxed) {
            self.all_there.notify_one();
        }
    }

    fn changed(&self, _peer: RegionName, _up: bool) {}
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::load_or_make(folder.path(), Purpose::Regions, SystemTime::now())?;
    let (a, b) = (RegionName::parse("a")?, RegionName::parse("b")?);
    let (at_a, at_b) = (
        TcpListener::bind("127.0.0.1:0").await?,
        TcpListener::bind("127.0.0.1:0").await?,
    );
    let (addr_a, addr_b) = (at_a.local_addr()?, at_b.local_addr()?);
    let counter = Arc::new(Counter::default());
    let from = start(
        &authority,
        &a,
        at_a,
        (&b, addr_b),
        Arc::new(Counter::default()),
    )
    .await?;
    let _to = start(&authority, &b, at_b, (&a, addr_a), counter.clone()).await?;
    from.wait_up(&b).await;

    for (bytes, count) in [(1024 * 1024, 4_000), (64 * 1024, 40_000), (256, 2_000_000)] {
        casts(&from, &b, &counter, bytes, count).await?;
    }
    for callers in [1, 64, 2048] {
        calls(&from, &b, callers).await?;
    }
    Ok(())
}

async fn start(
    authority: &Authority,
    me: &RegionName,
    listener: TcpListener,
    peer: (&RegionName, SocketAddr),
    handler: Arc<Counter>,
) -> Result<Links, Failure> {
    let config = LinkConfig {
        me: me.clone(),
        listen: listener.local_addr()?,
        peers: BTreeMap::from([(peer.0.clone(), peer.1.to_string())]),
        identity: authority.issue_region(me, SystemTime::now())?,
        roots: Arc::new(authority.roots()?),
        deployment: "speed".to_owned(),
        speaks: link::Speaks {
            payloads: (1, 1),
            software: "speed".to_owned(),
        },
    };
    Ok(Links::start(config, listener, handler).await?)
}

async fn casts(
    from: &Links,
    to: &RegionName,
    counter: &Counter,
    bytes: usize,
    count: u64,
) -> Result<(), Failure> {
    counter.casts.store(0, Ordering::Relaxed);
    counter.expected.store(count, Ordering::Relaxed);
    let body = Bytes::from(vec![7; bytes]);
    let begun = Instant::now();
    for _ in 0..count {
        from.cast_wait(to, Class::Bulk, body.clone()).await?;
    }
    counter.all_there.notified().await;
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = bytes as f64 * count as f64 / 1e6;
    println!(
        "casts of {bytes} bytes: {:.0} MB/s, {:.0}/s",
        megabytes / seconds,
        count as f64 / seconds
    );
    Ok(())
}

async fn calls(from: &Links, to: &RegionName, callers: u64) -> Result<(), Failure> {
    const SPAN: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let (links, to) = (from.clone(), to.clone());
        tasks.push(tokio::spawn(async move {
            let body = Bytes::from_static(&[7; 200]);
            let mut done = 0_u64;
            while begun.elapsed() < SPAN {
                links.call(&to, Class::Client, body.clone(), LONG).await?;
                done += 1;
            }
            Ok::<u64, link::LinkError>(done)
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    let rate = done as f64 / begun.elapsed().as_secs_f64();
    println!(
        "calls from {callers} callers: {rate:.0}/s, {:.0} us each",
        callers as f64 / rate * 1e6
    );
    Ok(())
}
