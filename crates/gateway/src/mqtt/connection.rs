//! One connection's task: reads, feeds the pure session, performs its actions in order, writes.
//!
//! There is one small task per connection. While it is idle it holds neither a read nor a write buffer: bytes are read into
//! a buffer that the threads own and copied out at their exact size. While the hub is asked nothing is read, which is the
//! back-pressure.

use super::ask::Ask;
use super::auth::{self, Peer, Proven};
use super::connect::Login;
use super::end::{End, Refusal};
use super::io;
use super::mailbox::{Mail, Mailbox};
use super::metrics::Metrics;
use super::open::Opened;
use super::session::Session;
use super::work::{Action, Batch, Moment, Tick, Work};
use crate::backend::{Backend, CallError, Permit, SessionHandle};
use bytes::BytesMut;
use hub::command::{EventOrigin, Message, SessionCommand, TelemetryCommand};
use hub::{Command, Reply};
use rmqtt_codec::v3::Codec;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};
use tokio_util::codec::Decoder;
use types::{ConnectionId, DeviceId, HubId, PartitionId, limits};

const IDLE_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// What the connections of one listener share.
pub(super) struct Shared {
    pub backend: Arc<dyn Backend>,
    pub metrics: Arc<Metrics>,
    pub started: Instant,
}

impl Shared {
    pub fn tick(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn instant(&self, tick: Tick) -> Instant {
        self.started
            .checked_add(Duration::from_millis(tick.0))
            .unwrap_or_else(|| Instant::now() + IDLE_SLEEP)
    }
}

/// The session's place at the hub, from when its login is proven.
struct Link {
    hub: HubId,
    partition: PartitionId,
    device: DeviceId,
    connection: ConnectionId,
    origin: Arc<EventOrigin>,
}

struct Connection<IO> {
    io: IO,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    session: Session,
    work: Work,
    codec: Codec,
    /// Bytes read and not yet decoded; unallocated while empty.
    buffer: BytesMut,
    link: Option<Box<Link>>,
    /// Under what the answers that wait to be written were given.
    permit: Option<Permit>,
}

enum Event {
    Read,
    Mail,
    Timer,
}

/// Runs a connection from its first byte to its end, and tells the hub of the end.
///
/// A WebSocket may be given as `io` as well.
pub(super) async fn run<IO>(io: IO, peer: Peer, shared: Arc<Shared>, mailbox: Arc<Mailbox>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut connection = Connection {
        io,
        session: Session::new(shared.tick()),
        work: Work::default(),
        codec: Codec::new(limits::MQTT_CONNECT_BYTES_MAX as u32),
        buffer: BytesMut::new(),
        link: None,
        permit: None,
        shared,
        mailbox,
    };
    let end = connection.serve(peer).await;
    connection.shared.metrics.count_closed(end);
    if let End::Refused(refusal) = end {
        connection.shared.metrics.count_refused(refusal);
    }
    tracing::debug!(end = end.label(), why = ?end, "mqtt connection closed");
    Box::pin(connection.finish(end)).await;
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Connection<IO> {
    async fn serve(&mut self, peer: Peer) -> End {
        let mut sleep = pin!(tokio::time::sleep_until(self.next_deadline()));
        loop {
            let result = match self.wait(sleep.as_mut()).await {
                Ok(Event::Read) => self.packets(&peer).await,
                Ok(Event::Mail) => self.perform(&peer).await,
                Ok(Event::Timer) => {
                    self.session.tick(self.shared.tick(), &mut self.work);
                    sleep.as_mut().reset(self.next_deadline());
                    self.perform(&peer).await
                }
                Err(end) => Err(end),
            };
            if let Err(end) = result {
                return end;
            }
            // Deadlines of an open session only move to later, so the timer is looked at when it fires; what opening or a
            // token brought forward is taken over here.
            if sleep.deadline() > self.next_deadline() {
                sleep.as_mut().reset(self.next_deadline());
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        match self.session.deadline() {
            Some(tick) => self.shared.instant(tick),
            None => Instant::now() + IDLE_SLEEP,
        }
    }

    /// Waits for mail, bytes or the deadline, in this order.
    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) -> Result<Event, End> {
        poll_fn(|cx| {
            if self.mailbox.poll(cx).is_ready() {
                return Poll::Ready(Ok(Event::Mail));
            }
            if let Poll::Ready(result) = io::poll_read(&mut self.io, &mut self.buffer, cx) {
                return Poll::Ready(result.map(|bytes| {
                    self.shared
                        .metrics
                        .bytes_in
                        .fetch_add(bytes as u64, Relaxed);
                    Event::Read
                }));
            }
            sleep.as_mut().poll(cx).map(|()| Ok(Event::Timer))
        })
        .await
    }

    /// Decodes and handles every whole packet that was read.
    async fn packets(&mut self, peer: &Peer) -> Result<(), End> {
        let now = self.shared.tick();
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some((packet, remaining))) => {
                    self.session.receive(packet, remaining, now, &mut self.work)
                }
                Ok(None) => break,
                Err(error) => self.session.undecodable(&error, &mut self.work),
            }
            if !self.work.may_gather() {
                self.perform(peer).await?;
            }
        }
        self.perform(peer).await?;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Performs what the session wants, then what waits in the mailbox, until neither wants anything; writes as it goes.
    async fn perform(&mut self, peer: &Peer) -> Result<(), End> {
        loop {
            while let Some(action) = self.work.actions.pop_front() {
                match action {
                    Action::Send(batch) => self.send(batch).await?,
                    Action::Ask(ask) => Box::pin(self.ask(*ask)).await?,
                    Action::Authenticate(login) => {
                        Box::pin(self.authenticate(*login, peer)).await?
                    }
                    Action::Close(end) => {
                        self.flush().await?;
                        return Err(end);
                    }
                }
            }
            match self.mailbox.take() {
                None => break,
                Some(Mail::Close(end)) => self.session.close(end, &mut self.work),
                Some(Mail::C2dWaiting) => {
                    self.session.c2d_waiting(self.shared.tick(), &mut self.work)
                }
                Some(Mail::Desired(desired)) => {
                    self.session.desired_changed(desired, &mut self.work);
                    self.shared.metrics.desired_delivered.fetch_add(1, Relaxed);
                    self.tell_interests();
                }
            }
        }
        // An idle connection keeps no queue memory.
        self.work.actions = Default::default();
        self.flush().await
    }

    async fn send(&mut self, batch: Batch) -> Result<(), End> {
        let metrics = &self.shared.metrics;
        metrics
            .publishes
            .fetch_add(batch.messages.len() as u64, Relaxed);
        metrics.telemetry_batches.fetch_add(1, Relaxed);
        let backend = self.shared.backend.clone();
        let result = self
            .call(|link| link.telemetry(&*backend, batch.messages))
            .await?;
        if result.is_ok() {
            self.shared
                .metrics
                .pubacks
                .fetch_add(batch.acks.len() as u64, Relaxed);
        }
        self.session.sent(&batch.acks, result, &mut self.work);
        self.session.excuse_silence(self.shared.tick());
        Ok(())
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), End> {
        let metrics = &self.shared.metrics;
        match &ask {
            Ask::TwinGet { .. } | Ask::TwinPatch { .. } => {
                metrics.twin_requests.fetch_add(1, Relaxed)
            }
            Ask::Complete { .. } => metrics.c2d_completed.fetch_add(1, Relaxed),
            _ => 0,
        };
        let result = self
            .call(|link| ask.command(&link.device, link.connection))
            .await?;
        if let Ok(Reply::C2dMessages(messages)) = &result {
            self.shared
                .metrics
                .c2d_delivered
                .fetch_add(messages.len() as u64, Relaxed);
        }
        let now = Moment {
            tick: self.shared.tick(),
            at: self.shared.backend.now(),
        };
        self.session.answered(ask, result, now, &mut self.work);
        self.session.excuse_silence(now.tick);
        self.tell_interests();
        Ok(())
    }

    /// Writes what waits, then asks the hub. A request may be parked for long, so a close is noticed meanwhile; the answer is
    /// dropped then and nothing is acknowledged.
    async fn call(
        &mut self,
        command: impl FnOnce(&Link) -> Command,
    ) -> Result<Result<Reply, CallError>, End> {
        self.flush().await?;
        let Some(link) = &self.link else {
            tracing::error!("a session that is not open asked the hub");
            return Err(End::Unavailable);
        };
        let backend = &self.shared.backend;
        self.permit = Some(backend.permit(link.hub));
        let answer = backend.call(link.hub, link.partition, command(link));
        until_closed(&self.mailbox, answer).await
    }

    async fn authenticate(&mut self, login: Login, peer: &Peer) -> Result<(), End> {
        let backend = self.shared.backend.clone();
        if !backend.standing().admits_devices() {
            self.session
                .refused(Refusal::ServerUnavailable, &mut self.work);
            return Ok(());
        }
        let proof = until_closed(&self.mailbox, auth::prove(&*backend, &login, peer)).await?;
        let Proven {
            hub,
            partition,
            origin,
            at: since,
            valid_for_ms,
        } = match proof {
            Ok(proven) => proven,
            Err(refusal) => {
                self.session.refused(refusal, &mut self.work);
                return Ok(());
            }
        };
        let (device, connection) = (login.identity.device, backend.connection_id());
        let open = SessionCommand::Open {
            device: device.clone(),
            generation: origin.generation.clone(),
            connection,
            gateway: backend.region().clone(),
            since,
            clean: login.clean,
        };
        self.mailbox.belongs_to(connection);
        self.link = Some(Box::new(Link {
            hub,
            partition,
            device: device.clone(),
            connection,
            origin,
        }));
        self.shared.metrics.sessions.fetch_add(1, Relaxed);
        let session = self.mailbox.clone();
        // Before it is open: a newer connection may take over in the same commit, and its effect must find us.
        backend.session_opened(SessionHandle {
            hub,
            partition,
            device,
            connection,
            since,
            session,
        });
        match self.call(|_| Command::Session(open)).await? {
            Ok(Reply::SessionOpened {
                present,
                subscriptions,
                desired_version,
            }) => {
                let opened = Opened {
                    connection,
                    present,
                    subscriptions,
                    desired_version,
                    valid_for_ms,
                };
                self.opened(opened);
            }
            other => self.session.refused(auth::refusal(other), &mut self.work),
        }
        Ok(())
    }

    fn opened(&mut self, opened: Opened) {
        self.codec
            .set_max_size(limits::MQTT_PACKET_BYTES_MAX as u32);
        self.session
            .opened(opened, self.shared.tick(), &mut self.work);
        self.tell_interests();
        self.shared.metrics.connects.fetch_add(1, Relaxed);
    }

    fn tell_interests(&self) {
        let (c2d, desired_seen) = self.session.interests();
        self.mailbox.set_interests(c2d, desired_seen);
    }

    /// Writes everything that waits, unless it may no longer be said: a process that was stopped for longer than its region's
    /// lease must not acknowledge on waking.
    async fn flush(&mut self) -> Result<(), End> {
        let permit = self.permit.take();
        if self.work.out.is_empty() {
            return Ok(());
        }
        self.shared
            .metrics
            .bytes_out
            .fetch_add(self.work.out.len() as u64, Relaxed);
        let backend = &self.shared.backend;
        let may_leave = || permit.is_none_or(|permit| backend.may_answer(permit));
        io::write(&mut self.io, &mut self.work.out, may_leave).await
    }

    /// Closes the socket, then tells the region and the hub; the will goes out before the hub forgets the connection.
    async fn finish(mut self, end: End) {
        if end.may_flush() {
            let patience = Duration::from_millis(limits::MQTT_SHUTDOWN_MS);
            // The peer may be gone already: its socket is dropped whatever it answers.
            let _ = tokio::time::timeout(patience, self.io.shutdown()).await;
        }
        let Connection {
            io,
            mut session,
            link,
            shared,
            ..
        } = self;
        drop(io);
        let will = session.finish(end);
        let Some(link) = link else { return };
        shared.metrics.sessions.fetch_sub(1, Relaxed);
        shared
            .backend
            .session_closed(link.hub, &link.device, link.connection);
        let ask = |command| shared.backend.call(link.hub, link.partition, command);
        if let Some(will) = will {
            match ask(link.telemetry(&*shared.backend, vec![will])).await {
                Ok(_) => drop(shared.metrics.wills.fetch_add(1, Relaxed)),
                Err(why) if shared.backend.standing().is_isolated() => {
                    tracing::debug!(device = %link.device, ?why, "an isolated region cannot publish a will")
                }
                Err(why) => {
                    tracing::warn!(device = %link.device, ?why, "a will could not be published")
                }
            }
        }
        if end.tells_hub() {
            let close = SessionCommand::Close {
                device: link.device.clone(),
                connection: link.connection,
            };
            if let Err(why) = ask(Command::Session(close)).await {
                // Its entry stays until the device connects again or the primary changes.
                tracing::debug!(device = %link.device, ?why, "the hub was not told that a connection closed");
            }
        }
    }
}

impl Link {
    fn telemetry(&self, backend: &dyn Backend, messages: Vec<Message>) -> Command {
        let messages = crate::routing::kept(backend, self.hub, &self.device, messages);
        Command::Telemetry(TelemetryCommand::Send {
            device: self.device.clone(),
            connection: Some(self.connection),
            origin: self.origin.clone(),
            messages,
        })
    }
}

/// Awaits an answer, or the order to close, whichever comes first.
async fn until_closed<T>(mailbox: &Mailbox, answer: impl Future<Output = T>) -> Result<T, End> {
    let mut answer = pin!(answer);
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Ok(answer)),
        Poll::Pending => mailbox.poll_close(cx).map(Err),
    })
    .await
}
