//! One established connection: a task that writes, a task that reads, and pings between them.

use super::batch::Batch;
use super::frame::{self, BadFrame, Frame, Kind};
use super::handshake::{Established, Stream};
use super::outbox::{Outbox, Taken, not_sent};
use super::peer::Counters;
use crate::{Handler, LinkError};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use types::{RegionName, limits};

const READ_BYTES: usize = 64 * 1024;
const SILENCE: Duration = Duration::from_millis(limits::LINK_SILENCE_MS_MAX);
const STALL: Duration = Duration::from_millis(limits::LINK_STALL_MS_MAX);

pub(crate) struct Connection {
    peer: RegionName,
    pub outbox: Outbox,
    counters: Arc<Counters>,
    /// The peer's calls that run here.
    running: Arc<Semaphore>,
    ping: Mutex<Option<(u64, Instant)>>,
    /// Microseconds of the last ping and its pong; 0 before the first.
    round_trip_us: AtomicU64,
}

impl Connection {
    pub fn new(peer: RegionName, counters: Arc<Counters>) -> Connection {
        Connection {
            peer,
            outbox: Outbox::new(),
            counters,
            running: Arc::new(Semaphore::new(limits::LINK_CALLS_IN_FLIGHT_MAX)),
            ping: Mutex::new(None),
            round_trip_us: AtomicU64::new(0),
        }
    }

    pub fn round_trip_ms(&self) -> Option<f64> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then_some(us as f64 / 1000.0)
    }

    /// Serves the connection until it fails or `stop` completes; gives the reason.
    pub async fn run(
        self: Arc<Self>,
        established: Established,
        handler: Arc<dyn Handler>,
        stop: impl Future<Output = String>,
    ) -> String {
        let (reader, writer) = tokio::io::split(established.stream);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().read(reader, established.rest, handler));
        tasks.spawn(self.clone().write(writer));
        tasks.spawn(self.clone().ping());
        let why = tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(Ok(why)) => why,
                Some(Err(panicked)) => format!("a task of the link failed: {panicked}"),
                None => "the link has no tasks".to_owned(),
            },
            why = stop => why,
        };
        self.outbox.close(&why);
        tasks.shutdown().await;
        why
    }

    async fn ping(self: Arc<Self>) -> String {
        let mut ticks = interval(Duration::from_millis(limits::LINK_PING_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut id = 0;
        loop {
            ticks.tick().await;
            id += 1;
            // Pings go out whether or not the last one was answered: they are also what tells the peer that we live.
            self.ping.lock().get_or_insert((id, Instant::now()));
            self.outbox.ping(id);
        }
    }

    async fn write(self: Arc<Self>, mut writer: WriteHalf<Stream>) -> String {
        let mut scratch = BytesMut::new();
        while let Some(mut taken) = self.outbox.take().await {
            let frames = std::mem::take(&mut taken.frames);
            let batch = Batch::of(frames, &mut scratch);
            if let Err(why) = self.write_batch(&mut writer, batch, &taken).await {
                return format!("writing failed: {why}");
            }
        }
        "the link was closed".to_owned()
    }

    async fn write_batch(
        &self,
        writer: &mut WriteHalf<Stream>,
        mut batch: Batch,
        taken: &Taken,
    ) -> io::Result<()> {
        while batch.has_remaining() {
            let written = in_time(STALL, writer.write_buf(&mut batch)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.counters
                .bytes_out
                .fetch_add(written as u64, Ordering::Relaxed);
        }
        in_time(STALL, writer.flush()).await?;
        self.outbox.written(taken);
        Ok(())
    }

    async fn read(
        self: Arc<Self>,
        mut reader: ReadHalf<Stream>,
        mut buffer: BytesMut,
        handler: Arc<dyn Handler>,
    ) -> String {
        loop {
            if let Err(why) = self.handle_all(&mut buffer, &handler) {
                return why;
            }
            // A buffer that is still growing towards a large frame is grown once.
            buffer.reserve(frame::missing(&buffer).max(READ_BYTES));
            match in_time(SILENCE, reader.read_buf(&mut buffer)).await {
                Ok(0) => return "the peer closed the link".to_owned(),
                Ok(read) => self
                    .counters
                    .bytes_in
                    .fetch_add(read as u64, Ordering::Relaxed),
                Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return "the peer is gone: its connection ended without a word".to_owned();
                }
                Err(why) => return format!("reading failed: {why}"),
            };
        }
    }

    fn handle_all(
        self: &Arc<Self>,
        buffer: &mut BytesMut,
        handler: &Arc<dyn Handler>,
    ) -> Result<(), String> {
        let bad = |why: BadFrame| format!("the peer broke the protocol: {why}");
        while let Some(frame) = frame::take(buffer, limits::LINK_FRAME_BYTES_MAX).map_err(bad)? {
            self.handle(frame, handler)?;
        }
        Ok(())
    }

    fn handle(self: &Arc<Self>, frame: Frame, handler: &Arc<dyn Handler>) -> Result<(), String> {
        match frame.kind {
            Kind::Call => self.answer(frame, handler.clone()),
            Kind::Answer => self.outbox.settle(frame.id, Ok(frame.body)),
            Kind::NotDone => self
                .outbox
                .settle(frame.id, Err(not_sent(text(&frame.body)))),
            Kind::Unknown => {
                let why = LinkError::OutcomeUnknown(text(&frame.body));
                self.outbox.settle(frame.id, Err(why));
            }
            Kind::Cast => handler.cast(self.peer.clone(), frame.class, frame.body),
            Kind::Ping => self.outbox.pong(frame.id),
            Kind::Pong => self.measure(frame.id),
            Kind::Refuse => return Err(format!("the peer refused: {}", text(&frame.body))),
            Kind::Hello => return Err("the peer broke the protocol: a second hello".to_owned()),
        }
        Ok(())
    }

    fn measure(&self, id: u64) {
        // A pong may stand for several pings: a later one ends the measurement without a figure.
        let waiting = self.ping.lock().take_if(|(sent, _)| *sent <= id);
        if let Some((_, sent)) = waiting.filter(|(sent, _)| *sent == id) {
            let us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.round_trip_us.store(us.max(1), Ordering::Relaxed);
        }
    }

    /// Runs a peer's call beside the others.
    fn answer(self: &Arc<Self>, call: Frame, handler: Arc<dyn Handler>) {
        let Ok(running) = self.running.clone().try_acquire_owned() else {
            let why = Bytes::from_static(b"too many calls are running");
            return self
                .outbox
                .try_answer(Kind::NotDone, call.class, call.id, why);
        };
        let this = self.clone();
        tokio::spawn(async move {
            let work = handler.call(this.peer.clone(), call.class, call.body);
            let (kind, body) = outcome(AssertUnwindSafe(work).catch_unwind().await.ok());
            this.outbox.answer(kind, call.class, call.id, body).await;
            drop(running);
        });
    }
}

/// The frame that ends a call: its answer, or why there is none.
fn outcome(answer: Option<Bytes>) -> (Kind, Bytes) {
    match answer {
        Some(body) if body.len() <= frame::body_max(limits::LINK_FRAME_BYTES_MAX) => {
            (Kind::Answer, body)
        }
        Some(body) => {
            let why = format!("the answer of {} bytes does not fit in a frame", body.len());
            (Kind::Unknown, why.into())
        }
        None => (
            Kind::Unknown,
            Bytes::from_static(b"the peer's handler failed"),
        ),
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing for {limit:?}"),
        )),
    }
}

/// A peer's reason, for logs: bounded, and without what could forge a line.
pub(crate) fn text(body: &[u8]) -> String {
    const CHARS_MAX: usize = 500;
    let text = String::from_utf8_lossy(body.get(..CHARS_MAX * 4).unwrap_or(body));
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
