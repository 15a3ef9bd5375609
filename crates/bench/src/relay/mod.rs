//! `relay`: TCP links between regions that can be made slow, lossy and silent while they run, where the system has no such
//! means of its own.
//!
//! It takes orders, one a line, on standard input and on a socket; each is answered with one line, `ok` or `error: …`:
//!
//! ```text
//! delay LINK MS [MS]        one way; the second number is the way back, else the same
//! loss LINK PERCENT         of segments, each way: such a one, and all behind it, waits for a retransmission time-out
//! cut LINK forward|back|both   nothing passes, connections stay open: no byte, no end
//! heal LINK                 what was held passes now
//! reset LINK                ends every connection with an RST
//! stats                     connections and bytes of each link
//! ```
//!
//! LINK is a link's name, or `*` for all. *Forward* is from who connects to who listens.

mod order;
mod pump;

use order::{Order, Side, perform};
use pump::pump;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// One order; a longer line ends the conversation.
const ORDER_BYTES_MAX: u64 = 4096;

#[derive(clap::Args)]
pub struct Relay {
    /// NAME=LISTEN=TARGET: connections to LISTEN go on to TARGET. May be repeated
    #[arg(long = "link", required = true, value_parser = read_pair)]
    links: Vec<Pair>,
    /// One-way delay of every link at the beginning, in milliseconds
    #[arg(long, default_value_t = 0.0)]
    delay_ms: f64,
    /// Loss of every link at the beginning, in per cent of segments
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Also takes orders on a Unix socket at this path
    #[arg(long)]
    control: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Pair {
    name: String,
    listen: SocketAddr,
    target: SocketAddr,
}

fn read_pair(text: &str) -> Result<Pair, String> {
    let mut parts = text.splitn(3, '=');
    let (Some(name), Some(listen), Some(target)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err("a link is NAME=LISTEN=TARGET".into());
    };
    let address = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    if name.is_empty() || name.contains(char::is_whitespace) || name == "*" {
        return Err("a link's name is one word, and not *".into());
    }
    Ok(Pair {
        name: name.to_owned(),
        listen: address(listen)?,
        target: address(target)?,
    })
}

/// What one link does to bytes now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Weather {
    /// Forward, back.
    delay_ms: [f64; 2],
    /// Share of segments.
    loss: f64,
    cut: [bool; 2],
    /// Counted up to end every connection.
    resets: u64,
}

/// One link.
struct Link {
    name: String,
    weather: watch::Sender<Weather>,
    connections: AtomicU64,
    opened: AtomicU64,
    /// Forward, back.
    bytes: [AtomicU64; 2],
}

impl Relay {
    pub fn run(self) -> Result<Value, String> {
        crate::sessions::runtime(1)?.block_on(self.relay())
    }

    async fn relay(self) -> Result<Value, String> {
        let begin = Weather {
            delay_ms: [self.delay_ms; 2],
            loss: self.loss / 100.0,
            ..Weather::default()
        };
        let mut links = Vec::new();
        for pair in &self.links {
            let listener = TcpListener::bind(pair.listen)
                .await
                .map_err(|error| format!("{}: {error}", pair.listen))?;
            let link = Arc::new(Link {
                name: pair.name.clone(),
                weather: watch::Sender::new(begin),
                connections: AtomicU64::new(0),
                opened: AtomicU64::new(0),
                bytes: Default::default(),
            });
            links.push(link.clone());
            tokio::spawn(listen(listener, pair.target, link));
        }
        let links: Arc<[Arc<Link>]> = links.into();
        if let Some(path) = &self.control {
            let listener =
                UnixListener::bind(path).map_err(|error| format!("{}: {error}", path.display()))?;
            tokio::spawn(take_callers(listener, links.clone()));
        }
        // Tells whoever started us that all links are there.
        eprintln!("connected");
        converse(tokio::io::stdin(), tokio::io::stdout(), &links).await;
        Ok(stats(&links))
    }
}

fn stats(links: &[Arc<Link>]) -> Value {
    let of = |link: &Arc<Link>| {
        let weather = *link.weather.borrow();
        json!({
            "link": link.name, "connections": link.connections.load(Relaxed), "opened": link.opened.load(Relaxed),
            "bytes_forward": link.bytes[0].load(Relaxed), "bytes_back": link.bytes[1].load(Relaxed),
            "delay_ms": weather.delay_ms, "loss_percent": weather.loss * 100.0, "cut": weather.cut,
        })
    };
    json!({ "links": links.iter().map(of).collect::<Vec<_>>() })
}

async fn take_callers(listener: UnixListener, links: Arc<[Arc<Link>]>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let links = links.clone();
                tokio::spawn(async move {
                    let (read, write) = stream.into_split();
                    converse(read, write, &links).await;
                });
            }
            Err(error) => {
                eprintln!("control: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes orders until there are no more.
async fn converse(
    read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    links: &[Arc<Link>],
) {
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let mut bounded = tokio::io::AsyncReadExt::take(&mut read, ORDER_BYTES_MAX);
        match bounded.read_line(&mut line).await {
            Ok(count) if count > 0 && line.ends_with('\n') => {}
            _ => return,
        }
        let answer = match line.parse() {
            Ok(Order::Stats) => stats(links).to_string(),
            Ok(order) => match perform(&order, links) {
                Ok(()) => "ok".to_owned(),
                Err(why) => format!("error: {why}"),
            },
            Err(why) => format!("error: {why}"),
        };
        let sent = write.write_all(format!("{answer}\n").as_bytes()).await;
        if sent.is_err() || write.flush().await.is_err() {
            return;
        }
    }
}

async fn listen(listener: TcpListener, target: SocketAddr, link: Arc<Link>) {
    loop {
        match listener.accept().await {
            Ok((near, _)) => {
                tokio::spawn(carry(near, target, link.clone()));
            }
            Err(error) => {
                eprintln!("{}: {error}", link.name);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Carries one connection to its end.
async fn carry(near: TcpStream, target: SocketAddr, link: Arc<Link>) {
    link.opened.fetch_add(1, Relaxed);
    link.connections.fetch_add(1, Relaxed);
    let reset = pass(near, target, &link).await;
    link.connections.fetch_sub(1, Relaxed);
    if let Err(error) = reset {
        eprintln!("{}: {error}", link.name);
    }
}

async fn pass(near: TcpStream, target: SocketAddr, link: &Arc<Link>) -> std::io::Result<()> {
    let mut weather = link.weather.subscribe();
    let resets = weather.borrow_and_update().resets;
    // Who cannot be reached because of a cut is not known to be there either.
    let reached = async {
        let mut weather = link.weather.subscribe();
        // An error means that the relay ends.
        let _ = weather.wait_for(|now| !now.cut[0]).await;
        TcpStream::connect(target).await
    };
    let was_reset = async {
        let _ = weather.wait_for(|now| now.resets != resets).await;
    };
    tokio::pin!(was_reset);
    let far = tokio::select! {
        reached = reached => reached,
        () = was_reset.as_mut() => return near.set_zero_linger(),
    };
    let Ok(far) = far else {
        // Nobody listens there: the caller is told as it would have been.
        return near.set_zero_linger();
    };
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ended = tokio::select! {
        ended = async {
            tokio::try_join!(
                pump(&near, &far, link, Side::Forward),
                pump(&far, &near, link, Side::Back),
            )
        } => ended.is_ok(),
        () = was_reset.as_mut() => false,
    };
    if !ended {
        near.set_zero_linger()?;
        far.set_zero_linger()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
