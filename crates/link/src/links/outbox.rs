//! What waits to be written to one link, and the calls that wait for answers.
//!
//! An outbox lives as long as its connection. It knows of every call whether its frame was handed to the socket, and so
//! whether asking again is safe when the connection ends.

use super::frame::{self, Frame, HEADER, Kind};
use crate::{Class, LinkError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use types::limits;

/// What a waiting frame costs in memory besides its body.
const FRAME_OVERHEAD: usize = HEADER + 50;
/// Keeps the arithmetic of clocks safe, whatever callers ask for.
const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
const CLASSES: [Class; 3] = [Class::Control, Class::Client, Class::Bulk];

pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Notify,
    room: [Semaphore; 3],
}

#[derive(Default)]
struct State {
    queues: [VecDeque<Frame>; 3],
    /// At most one of each waits: a new one takes the place of an older.
    ping: Option<u64>,
    pong: Option<u64>,
    calls: HashMap<u64, Call>,
    last_id: u64,
    /// The writer found nothing to do.
    idle: bool,
    closed: Option<String>,
}

struct Call {
    handed_over: bool,
    answer: oneshot::Sender<Result<Bytes, LinkError>>,
}

/// Frames for one write, and the room they take up until they are written.
#[derive(Default)]
pub(crate) struct Taken {
    pub frames: Vec<Frame>,
    freed: [usize; 3],
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox {
            state: Mutex::new(State::default()),
            wake: Notify::new(),
            room: CLASSES.map(|class| Semaphore::new(room_max(class))),
        }
    }

    /// Queues a one-way frame if there is room.
    pub fn cast(&self, class: Class, body: Bytes) -> Result<(), LinkError> {
        check_size(&body)?;
        match self.room[class as usize].try_acquire_many(cost(class, body.len())) {
            Ok(room) => room.forget(),
            Err(_) => return Err(self.why_no_room(class)),
        }
        self.push(Frame {
            kind: Kind::Cast,
            class,
            id: 0,
            body,
        })
    }

    /// Queues a one-way frame, after waiting for room.
    pub async fn cast_wait(&self, class: Class, body: Bytes) -> Result<(), LinkError> {
        check_size(&body)?;
        self.room(class, body.len()).await?;
        self.push(Frame {
            kind: Kind::Cast,
            class,
            id: 0,
            body,
        })
    }

    /// Queues the outcome of a peer's call, after waiting for room. When the link is gone nobody waits for it.
    pub async fn answer(&self, kind: Kind, class: Class, id: u64, body: Bytes) {
        if self.room(class, body.len()).await.is_ok() {
            let _link_is_gone = self.push(Frame {
                kind,
                class,
                id,
                body,
            });
        }
    }

    /// Queues the outcome of a call if there is room; without it the caller waits in vain, which is never wrong.
    pub fn try_answer(&self, kind: Kind, class: Class, id: u64, body: Bytes) {
        if let Ok(room) = self.room[class as usize].try_acquire_many(cost(class, body.len())) {
            room.forget();
            let _link_is_gone = self.push(Frame {
                kind,
                class,
                id,
                body,
            });
        }
    }

    /// Sends a call and waits for its answer.
    pub async fn call(
        &self,
        class: Class,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, LinkError> {
        check_size(&body)?;
        let deadline = Instant::now() + timeout.min(CALL_TIMEOUT_MAX);
        match timeout_at(deadline, self.room(class, body.len())).await {
            Ok(room) => room?,
            Err(_) => return Err(not_sent(format!("no room in the queue for {timeout:?}"))),
        }
        let (id, mut answer) = self.push_call(class, body)?;
        let abandoned = Abandon { outbox: self, id };
        let outcome = timeout_at(deadline, &mut answer).await;
        if let Ok(Ok(outcome)) = outcome {
            return outcome;
        }
        match abandoned.now() {
            Some(true) => Err(LinkError::OutcomeUnknown(format!(
                "no answer within {timeout:?}"
            ))),
            Some(false) => Err(not_sent(format!("still queued after {timeout:?}"))),
            // The answer came between the deadline and now.
            None => answer.try_recv().unwrap_or_else(|_| {
                Err(LinkError::OutcomeUnknown(
                    "the call was given up".to_owned(),
                ))
            }),
        }
    }

    fn push_call(
        &self,
        class: Class,
        body: Bytes,
    ) -> Result<(u64, oneshot::Receiver<Result<Bytes, LinkError>>), LinkError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let refused = if state.calls.len() >= limits::LINK_CALLS_IN_FLIGHT_MAX {
            Some("too many calls are waiting for answers".to_owned())
        } else {
            state.closed.clone()
        };
        if let Some(why) = refused {
            drop(state);
            self.room[class as usize].add_permits(cost(class, body.len()) as usize);
            return Err(not_sent(why));
        }
        state.last_id += 1;
        let id = state.last_id;
        state.calls.insert(
            id,
            Call {
                handed_over: false,
                answer: sender,
            },
        );
        state.queues[class as usize].push_back(Frame {
            kind: Kind::Call,
            class,
            id,
            body,
        });
        self.wake(state);
        Ok((id, receiver))
    }

    /// Hands an outcome to the call that waits for it; nobody may wait any more.
    pub fn settle(&self, id: u64, outcome: Result<Bytes, LinkError>) {
        let call = self.state.lock().calls.remove(&id);
        if let Some(call) = call {
            let _caller_is_gone = call.answer.send(outcome);
        }
    }

    pub fn ping(&self, id: u64) {
        let mut state = self.state.lock();
        state.ping = Some(id);
        self.wake(state);
    }

    pub fn pong(&self, id: u64) {
        let mut state = self.state.lock();
        state.pong = Some(id);
        self.wake(state);
    }

    /// Waits for frames and takes what goes into one write; `None` once the outbox is closed.
    pub async fn take(&self) -> Option<Taken> {
        loop {
            let woken = self.wake.notified();
            {
                let mut state = self.state.lock();
                if state.closed.is_some() {
                    return None;
                }
                let taken = state.take();
                if !taken.frames.is_empty() {
                    return Some(taken);
                }
                // Calls that were given up while queued freed their room without a frame.
                self.written(&taken);
                state.idle = true;
            }
            woken.await;
        }
    }

    /// Gives back the room of frames that were written.
    pub fn written(&self, taken: &Taken) {
        for (room, freed) in self.room.iter().zip(taken.freed) {
            if freed > 0 {
                room.add_permits(freed);
            }
        }
    }

    /// Ends every call with what is true of it, and takes nothing more. Only the first reason counts.
    pub fn close(&self, why: &str) {
        let (calls, queues) = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(why.to_owned());
            (
                std::mem::take(&mut state.calls),
                std::mem::take(&mut state.queues),
            )
        };
        self.room.iter().for_each(Semaphore::close);
        self.wake.notify_one();
        drop(queues);
        for call in calls.into_values() {
            let error = match call.handed_over {
                true => LinkError::OutcomeUnknown(why.to_owned()),
                false => not_sent(why),
            };
            let _caller_is_gone = call.answer.send(Err(error));
        }
    }

    /// Bytes that wait or are being written, with what their frames cost.
    pub fn queued(&self) -> usize {
        let waiting = |class: Class| {
            room_max(class).saturating_sub(self.room[class as usize].available_permits())
        };
        if self.state.lock().closed.is_some() {
            0
        } else {
            CLASSES.map(waiting).iter().sum()
        }
    }

    async fn room(&self, class: Class, length: usize) -> Result<(), LinkError> {
        match self.room[class as usize]
            .acquire_many(cost(class, length))
            .await
        {
            Ok(room) => {
                room.forget();
                Ok(())
            }
            Err(_closed) => Err(self.why_no_room(class)),
        }
    }

    fn why_no_room(&self, class: Class) -> LinkError {
        match &self.state.lock().closed {
            Some(why) => not_sent(why),
            None => not_sent(format!("the {class:?} queue of the link is full")),
        }
    }

    /// Queues a frame whose room is already taken.
    fn push(&self, frame: Frame) -> Result<(), LinkError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.closed {
            return Err(not_sent(why));
        }
        state.queues[frame.class as usize].push_back(frame);
        self.wake(state);
        Ok(())
    }

    fn wake(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.wake.notify_one();
        }
    }
}

impl State {
    /// Takes control frames first, then those of clients, then bulk: about [`limits::LINK_BATCH_BYTES`] in all, yet one
    /// of each class that waits, so that no class starves and a control frame waits for one write at most.
    fn take(&mut self) -> Taken {
        let mut taken = Taken::default();
        for (kind, id) in [
            (Kind::Ping, self.ping.take()),
            (Kind::Pong, self.pong.take()),
        ] {
            if let Some(id) = id {
                let class = Class::Control;
                taken.frames.push(Frame {
                    kind,
                    class,
                    id,
                    body: Bytes::new(),
                });
            }
        }
        let mut bytes = 0;
        for (class, queue) in CLASSES.into_iter().zip(&mut self.queues) {
            let before = taken.frames.len();
            while bytes < limits::LINK_BATCH_BYTES || taken.frames.len() == before {
                let Some(frame) = queue.pop_front() else {
                    break;
                };
                taken.freed[class as usize] += cost(class, frame.body.len()) as usize;
                if frame.kind == Kind::Call {
                    match self.calls.get_mut(&frame.id) {
                        Some(call) => call.handed_over = true,
                        None => continue,
                    }
                }
                bytes += HEADER + frame.body.len();
                taken.frames.push(frame);
            }
        }
        taken
    }
}

/// Forgets a call when its caller stops waiting, so that a queued frame is never sent and a late answer is dropped.
struct Abandon<'a> {
    outbox: &'a Outbox,
    id: u64,
}

impl Abandon<'_> {
    /// Whether the frame was handed to the socket; `None` if the call is already settled.
    fn now(&self) -> Option<bool> {
        let call = self.outbox.state.lock().calls.remove(&self.id);
        call.map(|call| call.handed_over)
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        let _settled = self.now();
    }
}

fn room_max(class: Class) -> usize {
    match class {
        Class::Control => limits::LINK_QUEUE_CONTROL_BYTES_MAX,
        Class::Client => limits::LINK_QUEUE_CLIENT_BYTES_MAX,
        Class::Bulk => limits::LINK_QUEUE_BULK_BYTES_MAX,
    }
}

/// What a frame takes of its class's room; the largest frame fits into an empty queue.
fn cost(class: Class, length: usize) -> u32 {
    let cost = (length + FRAME_OVERHEAD).min(room_max(class));
    u32::try_from(cost).expect("the queues' bounds are below 4 GiB")
}

fn check_size(body: &Bytes) -> Result<(), LinkError> {
    let max = frame::body_max(limits::LINK_FRAME_BYTES_MAX);
    if body.len() <= max {
        return Ok(());
    }
    Err(not_sent(format!(
        "{} bytes are more than the {max} of a frame",
        body.len()
    )))
}

pub(crate) fn not_sent(why: impl Into<String>) -> LinkError {
    LinkError::NotSent(why.into())
}

#[cfg(test)]
mod tests;
