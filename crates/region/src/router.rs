//! The way of a client's command to its hub's primary, wherever that is, also while it moves.
//!
//! A command that was surely not done is parked and sent again; one that may have been done is never repeated, unless doing
//! it twice changes nothing.

use crate::engine::{Answer, Input, Refusal, Role};
use crate::events::EventLog;
use crate::lease::Lease;
use crate::peer::{self, Call, Cast, EventsPage, ReadFrom, ReadRefusal, Return};
use crate::routes::{Route, Routes};
use crate::runtime::EngineHandle;
use crate::sessions::{Session, Sessions};
use futures_util::StreamExt;
use hub::command::{ConsumerCommand, RegistryCommand, SessionCommand, TwinCommand};
use hub::decision::PresenceChange;
use hub::{Command, Reply};
use link::{Class, LinkError, Links};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use types::{ErrorCode, HubId, PartitionKey, RegionName, Reject, limits};

/// Longest wait for another region's answer to a client's command.
const REMOTE_TIMEOUT: Duration = Duration::from_millis(limits::PARK_MS_MAX + 5_000);
/// A parked command looks again this often even if nobody told it to.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const RESTATE_AT_ONCE: usize = 64;

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    Reject(Reject),
    /// The hub moved for longer than requests are parked. Nothing was done.
    FailingOver {
        retry_after_ms: u64,
    },
    /// Nothing was done.
    Unavailable {
        why: String,
        retry_after_ms: u64,
    },
    OutcomeUnknown {
        why: String,
    },
}

/// Routes commands from this region's gateways.
pub struct Router {
    pub me: RegionName,
    pub engine: EngineHandle,
    pub links: Links,
    pub routes: Routes,
    pub sessions: Sessions,
    pub events: Arc<EventLog>,
    pub lease: Arc<Lease>,
    parking: Semaphore,
    pub parked_now: AtomicUsize,
    pub parked_total: AtomicU64,
}

/// What one attempt came to.
enum Attempt<R> {
    Done(R),
    Failed(CallError),
    /// Surely not done; may go elsewhere or later.
    NotDone(String),
}

impl Router {
    pub fn new(
        me: RegionName,
        engine: EngineHandle,
        links: Links,
        events: Arc<EventLog>,
        lease: Arc<Lease>,
    ) -> Self {
        Router {
            me,
            engine,
            links,
            lease,
            routes: Routes::default(),
            sessions: Sessions::default(),
            events,
            parking: Semaphore::new(limits::PARKED_REQUESTS_MAX),
            parked_now: AtomicUsize::new(0),
            parked_total: AtomicU64::new(0),
        }
    }

    /// A hub by name, without case.
    pub fn by_name(&self, name: &str) -> Option<Arc<Route>> {
        self.routes.by_name(name)
    }

    pub fn by_id(&self, hub: HubId) -> Option<Arc<Route>> {
        self.routes.by_id(hub)
    }

    /// The only hub, if there is exactly one.
    pub fn only(&self) -> Option<Arc<Route>> {
        self.routes.only()
    }

    /// Sends a command to its partition's primary and gives the durable reply.
    ///
    /// # Errors
    /// [`CallError`]; only `OutcomeUnknown` leaves open whether it was done.
    pub async fn call(&self, at: PartitionKey, command: Command) -> Result<Reply, CallError> {
        let command = Arc::new(command);
        let first = match self.attempt(at, &command).await {
            Attempt::Done(reply) => return Ok(reply),
            Attempt::Failed(error) => return Err(error),
            Attempt::NotDone(why) => why,
        };
        Box::pin(self.parked(first, || self.attempt(at, &command))).await
    }

    /// Reads events from the primary's log.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn read_events(
        &self,
        at: PartitionKey,
        from: ReadFrom,
        max: usize,
        wait_ms: u64,
    ) -> Result<EventsPage, CallError> {
        let wait_ms = wait_ms.min(limits::READ_WAIT_MS_MAX);
        let first = match self.read_attempt(at, from, max, wait_ms).await {
            Attempt::Done(page) => return Ok(page),
            Attempt::Failed(error) => return Err(error),
            Attempt::NotDone(why) => why,
        };
        self.parked(first, || self.read_attempt(at, from, max, wait_ms))
            .await
    }

    /// Tries again whenever routes change, until the parking time is over.
    async fn parked<R, F: Future<Output = Attempt<R>>>(
        &self,
        mut why: String,
        mut attempt: impl FnMut() -> F,
    ) -> Result<R, CallError> {
        let Ok(_permit) = self.parking.try_acquire() else {
            return Err(CallError::Unavailable {
                why: "too many requests wait for a hub that moves".into(),
                retry_after_ms: 2000,
            });
        };
        self.parked_total.fetch_add(1, Ordering::Relaxed);
        let _count = Count::one(&self.parked_now);
        let deadline = Instant::now() + Duration::from_millis(limits::PARK_MS_MAX);
        let mut changed = self.routes.watch();
        loop {
            if Instant::now() >= deadline {
                tracing::warn!(%why, "a request was parked for too long");
                return Err(CallError::FailingOver {
                    retry_after_ms: 1000,
                });
            }
            let look_again = (Instant::now() + LOOK_AGAIN).min(deadline);
            let _ = tokio::time::timeout_at(look_again, changed.changed()).await;
            match attempt().await {
                Attempt::Done(reply) => return Ok(reply),
                Attempt::Failed(error) => return Err(error),
                Attempt::NotDone(again) => why = again,
            }
        }
    }

    fn route(&self, hub: HubId) -> Result<Arc<Route>, CallError> {
        let missing = || {
            CallError::Reject(Reject::new(
                ErrorCode::IotHubNotFound,
                "the hub does not exist",
            ))
        };
        self.routes.by_id(hub).ok_or_else(missing)
    }

    async fn attempt(&self, at: PartitionKey, command: &Arc<Command>) -> Attempt<Reply> {
        let route = match self.route(at.hub) {
            Ok(route) => route,
            Err(error) => return Attempt::Failed(error),
        };
        let result = if route.primary == self.me {
            let asked = self
                .engine
                .ask(|reply| Input::Command {
                    at,
                    command: command.clone(),
                    reply,
                })
                .await;
            match asked {
                // The engine looked before it answered; this process may have stood still since.
                Ok(Ok(_)) if !self.lease.held() => Err(Refusal::OutcomeUnknown(
                    "the region's lease lapsed before this could be acknowledged".into(),
                )),
                Ok(result) => result,
                Err(_) => {
                    return Attempt::Failed(CallError::OutcomeUnknown {
                        why: "this region is stopping".into(),
                    });
                }
            }
        } else {
            match self.remote(&route.primary, at, command).await {
                Ok(Ok(_)) if self.overtaken(&route) => Err(Refusal::OutcomeUnknown(
                    "the hub was taken from its primary by force before this could be acknowledged"
                        .into(),
                )),
                Ok(result) => result,
                Err(attempt) => return attempt,
            }
        };
        match result {
            Ok(Answer::Reply(reply)) => Attempt::Done(reply),
            Ok(other) => Attempt::Failed(CallError::OutcomeUnknown {
                why: format!("unexpected answer {other:?}"),
            }),
            Err(refusal) => of_refusal(refusal, command),
        }
    }

    /// An answer of the primary of `asked` comes too late: a forced failover has ended its epoch, and what it answers may
    /// be lost. A planned one loses nothing, so there late answers are good.
    fn overtaken(&self, asked: &Route) -> bool {
        self.routes
            .by_id(asked.settings.id)
            .is_some_and(|now| now.forced > asked.epoch)
    }

    /// What this region itself has stored, current or not, for commands that only read.
    ///
    /// # Errors
    /// [`CallError`]: it does not hold the hub, or the command would change something.
    pub async fn stale_read(&self, at: PartitionKey, command: Command) -> Result<Reply, CallError> {
        let command = Arc::new(command);
        let asked = self
            .engine
            .ask(|reply| Input::StaleRead { at, command, reply })
            .await;
        let unavailable = |why: String| CallError::Unavailable {
            why,
            retry_after_ms: 1000,
        };
        match asked {
            Ok(Ok(Answer::Reply(reply))) => Ok(reply),
            Ok(Err(Refusal::Reject(reject))) => Err(CallError::Reject(reject)),
            Ok(other) => Err(unavailable(format!("this region cannot answer: {other:?}"))),
            Err(_) => Err(unavailable("this region is stopping".into())),
        }
    }

    async fn remote(
        &self,
        to: &RegionName,
        at: PartitionKey,
        command: &Arc<Command>,
    ) -> Result<Result<Answer, Refusal>, Attempt<Reply>> {
        let body = peer::encode(peer::CALL, &CommandCall::Command { at, command });
        let answer = self
            .links
            .call(to, Class::Client, body, REMOTE_TIMEOUT)
            .await;
        match answer {
            Ok(bytes) => match peer::decode::<Return>(&bytes) {
                Ok(Return::Engine(result)) => Ok(result),
                Ok(other) => Err(Attempt::Failed(CallError::OutcomeUnknown {
                    why: format!("unexpected answer {other:?}"),
                })),
                Err(why) => Err(Attempt::Failed(CallError::OutcomeUnknown { why })),
            },
            Err(LinkError::NotSent(why)) => Err(Attempt::NotDone(why)),
            Err(LinkError::OutcomeUnknown(why)) if repeatable(command) => {
                Err(Attempt::NotDone(why))
            }
            Err(LinkError::OutcomeUnknown(why)) => {
                Err(Attempt::Failed(CallError::OutcomeUnknown { why }))
            }
        }
    }

    async fn read_attempt(
        &self,
        at: PartitionKey,
        from: ReadFrom,
        max: usize,
        wait_ms: u64,
    ) -> Attempt<EventsPage> {
        let route = match self.route(at.hub) {
            Ok(route) => route,
            Err(error) => return Attempt::Failed(error),
        };
        let wait = Duration::from_millis(wait_ms);
        let result = if route.primary == self.me {
            self.events.read(at, from, max, wait).await
        } else {
            let body = peer::encode(
                peer::CALL,
                &Call::ReadEvents {
                    at,
                    from,
                    max,
                    wait_ms,
                },
            );
            match self
                .links
                .call(&route.primary, Class::Client, body, wait + REMOTE_TIMEOUT)
                .await
            {
                Ok(bytes) => match peer::decode::<Return>(&bytes) {
                    Ok(Return::Events(result)) => result,
                    Ok(other) => Err(ReadRefusal::Failed(format!("unexpected answer {other:?}"))),
                    Err(why) => Err(ReadRefusal::Failed(why)),
                },
                Err(error) => return Attempt::NotDone(error.to_string()),
            }
        };
        match result {
            Ok(page) => Attempt::Done(page),
            Err(ReadRefusal::NotPrimary) => {
                Attempt::NotDone("the region asked is not the primary".into())
            }
            Err(ReadRefusal::Failed(why)) => Attempt::Failed(CallError::Unavailable {
                why,
                retry_after_ms: 1000,
            }),
        }
    }

    /// Keeps a session and tells the hub's secondary about it.
    pub fn session_opened(&self, session: Session) {
        self.tell_secondary(session.at, &connected(&session));
        self.sessions.add(session);
    }

    pub fn session_closed(
        &self,
        at: PartitionKey,
        device: &types::DeviceId,
        connection: types::ConnectionId,
    ) {
        self.sessions.remove(connection);
        self.tell_secondary(
            at,
            &Cast::Disconnected {
                at,
                device: device.clone(),
                connection,
            },
        );
    }

    /// Tells a hub's secondary, whose link is back, of every session held here.
    pub fn tell_sessions(&self, hub: HubId) {
        for session in self.sessions.of_hub(hub) {
            self.tell_secondary(session.at, &connected(&session));
        }
    }

    fn tell_secondary(&self, at: PartitionKey, cast: &Cast) {
        let Some(route) = self.routes.by_id(at.hub) else {
            return;
        };
        let Some(secondary) = &route.secondary else {
            return;
        };
        self.cast(secondary, Class::Client, cast);
    }

    /// Sends a one-way message; to this region itself it is taken at once. What cannot be queued is dropped: every use of it
    /// is repaired by something that asks again.
    pub fn cast(&self, to: &RegionName, class: Class, cast: &Cast) {
        if let Err(error) = self.links.cast(to, class, peer::encode(peer::CAST, cast)) {
            tracing::debug!(%to, %error, "a message was not sent");
        }
    }

    /// A presence message from another region's gateway (or this one's own).
    pub fn presence(&self, at: PartitionKey, change: PresenceChange) {
        self.engine.tell(Input::Presence { at, change });
    }

    /// After the hub got a new primary: tells it of every session held here.
    pub async fn restate(self: Arc<Self>, hub: HubId) {
        let sessions = self.sessions.of_hub(hub);
        let router = &self;
        futures_util::stream::iter(sessions)
            .for_each_concurrent(RESTATE_AT_ONCE, |session| async move {
                let (c2d, desired_seen) = session.port.interests();
                let command = SessionCommand::Restate {
                    device: session.device.clone(),
                    connection: session.connection,
                    gateway: router.me.clone(),
                    since: session.since,
                    c2d,
                    desired_seen,
                };
                if let Err(error) = router.call(session.at, Command::Session(command)).await {
                    tracing::debug!(?error, device = %session.device, "a session could not be stated again");
                }
            })
            .await;
    }

    /// Role of this region for a hub, from its routes.
    pub fn role(&self, hub: HubId) -> Option<Role> {
        let route = self.routes.by_id(hub)?;
        if route.primary == self.me {
            Some(Role::Primary)
        } else {
            (route.secondary.as_ref() == Some(&self.me)).then_some(Role::Secondary)
        }
    }
}

fn connected(session: &Session) -> Cast {
    Cast::Connected {
        at: session.at,
        device: session.device.clone(),
        connection: session.connection,
        since: session.since,
    }
}

/// [`Call::Command`] by reference: same bytes, no copy of the command.
#[derive(serde::Serialize)]
enum CommandCall<'a> {
    Command {
        at: PartitionKey,
        command: &'a Command,
    },
}

fn of_refusal(refusal: Refusal, command: &Command) -> Attempt<Reply> {
    match refusal {
        Refusal::Reject(reject) => Attempt::Failed(CallError::Reject(reject)),
        Refusal::NotPrimary { epoch } => {
            Attempt::NotDone(format!("not the primary (epoch {epoch})"))
        }
        Refusal::FailingOver => Attempt::NotDone("the hub is failing over".into()),
        Refusal::NoLease => Attempt::NotDone("the primary does not hold its lease".into()),
        Refusal::Unavailable(why) => Attempt::Failed(CallError::Unavailable {
            why,
            retry_after_ms: 1000,
        }),
        Refusal::OutcomeUnknown(why) if repeatable(command) => Attempt::NotDone(why),
        Refusal::OutcomeUnknown(why) | Refusal::Step(why) => {
            Attempt::Failed(CallError::OutcomeUnknown { why })
        }
    }
}

/// Doing it twice is the same as doing it once.
fn repeatable(command: &Command) -> bool {
    match command {
        Command::Registry(command) => {
            matches!(
                command,
                RegistryCommand::Get { .. }
                    | RegistryCommand::List { .. }
                    | RegistryCommand::Statistics
            )
        }
        Command::Session(_) => true,
        Command::Twin(command) => matches!(
            command,
            TwinCommand::Get { .. } | TwinCommand::DeviceGet { .. }
        ),
        Command::Consumer(
            ConsumerCommand::Get { .. }
            | ConsumerCommand::Commit { .. }
            | ConsumerCommand::Forget { .. },
        ) => true,
        Command::Telemetry(_) | Command::C2d(_) | Command::Feedback(_) => false,
    }
}

struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn one(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Count(counter)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
