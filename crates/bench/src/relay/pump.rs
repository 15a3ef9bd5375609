//! One direction of one connection: what is read waits for its time, in order, and passes unless the link is cut.

use super::order::Side;
use super::{Link, Weather};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Payload of one TCP segment on an ordinary network.
const SEGMENT_BYTES: usize = 1448;
/// Smallest retransmission time-out of the usual systems; the round trip comes on top.
const RETRANSMIT_MS: f64 = 200.0;
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way: more than a fast link at a long round trip has.
const PIECES_MAX: usize = 512;

struct Piece {
    due: Instant,
    what: What,
}

enum What {
    Bytes(Vec<u8>),
    End,
    /// The sender's connection broke.
    Broken,
}

/// Runs until the sender's end has been passed on.
///
/// # Errors
/// When either side broke the connection; the other shall be reset.
pub(super) async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    link: &Link,
    side: Side,
) -> io::Result<()> {
    let (send, receive) = mpsc::channel(PIECES_MAX);
    let ((), written) = tokio::join!(read(from, send, link, side), write(to, receive, link, side));
    written
}

async fn read(from: &TcpStream, send: mpsc::Sender<Piece>, link: &Link, side: Side) {
    let mut times = Times::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let what = match read_some(from, &mut buffer).await {
            Ok(0) => What::End,
            Ok(count) => What::Bytes(buffer[..count].to_vec()),
            Err(_) => What::Broken,
        };
        let count = match &what {
            What::Bytes(bytes) => bytes.len(),
            What::End | What::Broken => 0,
        };
        let due = times.due(&link.weather.borrow(), side, count, Instant::now());
        // Refused when the writer is gone, which ends the whole connection.
        if send.send(Piece { due, what }).await.is_err() || count == 0 {
            return;
        }
    }
}

async fn read_some(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn write(
    to: &TcpStream,
    mut receive: mpsc::Receiver<Piece>,
    link: &Link,
    side: Side,
) -> io::Result<()> {
    let mut weather = link.weather.subscribe();
    while let Some(piece) = receive.recv().await {
        if piece.due > Instant::now() {
            tokio::time::sleep_until(piece.due).await;
        }
        // An error means that the relay ends: then all may pass.
        let _ = weather.wait_for(|now| !now.cut[side as usize]).await;
        match piece.what {
            What::Bytes(bytes) => {
                write_all(to, &bytes).await?;
                link.bytes[side as usize].fetch_add(bytes.len() as u64, Relaxed);
            }
            What::End => rustix::net::shutdown(to, rustix::net::Shutdown::Write)?,
            What::Broken => return Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
    Ok(())
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// When pieces arrive: never before those that were sent earlier.
struct Times {
    last: Option<Instant>,
    random: u64,
}

impl Times {
    fn new() -> Times {
        let random = ring::rand::generate::<[u8; 8]>(&ring::rand::SystemRandom::new());
        let random = random.map_or(0, |random| u64::from_le_bytes(random.expose()));
        Times {
            last: None,
            random: random | 1,
        }
    }

    fn due(&mut self, weather: &Weather, side: Side, bytes: usize, now: Instant) -> Instant {
        let mut ms = weather.delay_ms[side as usize];
        if weather.loss > 0.0 {
            let again = RETRANSMIT_MS + weather.delay_ms[0] + weather.delay_ms[1];
            let lost = (0..bytes.div_ceil(SEGMENT_BYTES))
                .filter(|_| self.chance() < weather.loss)
                .count();
            // Those of one piece are sent again together.
            ms += if lost > 0 { again } else { 0.0 };
        }
        let due = now + Duration::from_secs_f64(ms / 1000.0);
        let due = self.last.map_or(due, |last| due.max(last));
        self.last = Some(due);
        due
    }

    /// From 0 to 1 (xorshift64).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather(delay_ms: f64, loss: f64) -> Weather {
        Weather {
            delay_ms: [delay_ms; 2],
            loss,
            ..Weather::default()
        }
    }

    #[test]
    fn pieces_arrive_in_order_though_the_delay_falls() {
        let now = Instant::now();
        let mut times = Times::new();
        let slow = times.due(&weather(80.0, 0.0), Side::Forward, 1, now);
        let fast = times.due(&weather(1.0, 0.0), Side::Forward, 1, now);
        assert_eq!(slow - now, Duration::from_millis(80));
        assert_eq!(fast, slow);
    }

    #[test]
    fn a_lost_segment_waits_for_a_retransmission_and_holds_up_what_follows() {
        let now = Instant::now();
        let mut times = Times::new();
        let lost = times.due(&weather(20.0, 1.0), Side::Back, 1, now);
        assert_eq!(lost - now, Duration::from_millis(20 + 200 + 40));
        assert_eq!(times.due(&weather(20.0, 0.0), Side::Back, 1, now), lost);
    }

    #[test]
    fn losses_come_at_their_rate() {
        let now = Instant::now();
        let begun = |n| now + Duration::from_secs(n);
        let mut times = Times::new();
        let lossy = weather(0.0, 0.01);
        let late = (0..100_000u64)
            .filter(|n| times.due(&lossy, Side::Forward, 1, begun(*n)) > begun(*n))
            .count();
        assert!((800..1_200).contains(&late), "{late}");
    }
}
