//! The engine's thread: collects inputs, drives turns, performs outputs.

use crate::clock::Clock;
use crate::engine::{Answer, Engine, Input, Message, Output, Refusal};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use types::{PartitionKey, RegionName, limits};

/// How an asker is found again; `None`: nobody waits.
pub type Asker = Option<oneshot::Sender<Result<Answer, Refusal>>>;

const TICK: Duration = Duration::from_millis(100);
const STRETCH: Duration = Duration::from_secs(10);

/// What the engine's outputs are performed on.
pub trait Outside: Send + 'static {
    fn effect(
        &self,
        gateway: RegionName,
        hub: types::HubId,
        connection: types::ConnectionId,
        effect: hub::Effect,
    );
    /// Gives false when the message could not be queued.
    fn send(&self, to: &RegionName, message: Message) -> bool;
    fn visible(&self, at: PartitionKey, next: types::Sequence, epoch: Option<types::Epoch>);
    fn alarm(&self, at: Option<PartitionKey>, text: &str);
}

/// The way into a region's engine.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// One permit per command that may wait; messages between engines are bounded by replication's own window.
    room: Semaphore,
    pub figures: Figures,
}

#[derive(Default)]
struct Queue {
    inputs: VecDeque<Input<Asker>>,
    /// How many of `inputs` hold a permit.
    commands: usize,
    stopped: bool,
}

/// Figures of the engine's thread for `/metrics` and checks.
#[derive(Default)]
pub struct Figures {
    pub turns: AtomicU64,
    pub commits: AtomicU64,
    pub commands: AtomicU64,
    pub events: AtomicU64,
    pub records: AtomicU64,
    pub record_bytes: AtomicU64,
    pub commit_failures: AtomicU64,
    /// Of returns, as [`Stats`](crate::engine::Stats) has them.
    pub salvaged_records: AtomicU64,
    pub rewind_bytes: AtomicU64,
    pub disk_full: AtomicU64,
    pub queue_depth: AtomicU64,
    /// Microseconds spent in turns, all together and the longest of the last 10 to 20 seconds.
    pub turn_micros: AtomicU64,
    pub turn_micros_max: AtomicU64,
    /// End of the lease on the monotonic clock, as the engine has it; 0: there never was one.
    pub lease_until: AtomicU64,
}

/// The engine has stopped; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl EngineHandle {
    /// Starts the engine's thread. It ends when [`EngineHandle::stop`] is called.
    pub fn start(
        engine: Engine<Asker>,
        clock: Arc<dyn Clock>,
        outside: impl Outside,
    ) -> (EngineHandle, std::thread::JoinHandle<()>) {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            room: Semaphore::new(limits::ENGINE_QUEUE_MAX),
            figures: Figures::default(),
        });
        let handle = EngineHandle {
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || run(engine, &shared, &*clock, &outside))
            .expect("the operating system gives a thread at start-up");
        (handle, thread)
    }

    /// Asks the engine and waits for its durable answer; waits for room first.
    ///
    /// # Errors
    /// [`Stopped`] when the engine ended before it answered: the outcome is not known.
    pub async fn ask(
        &self,
        input: impl FnOnce(Asker) -> Input<Asker>,
    ) -> Result<Result<Answer, Refusal>, Stopped> {
        let permit = self.shared.room.acquire().await.map_err(|_| Stopped)?;
        let (reply, answer) = oneshot::channel();
        permit.forget();
        if !self.push(input(Some(reply)), true) {
            self.shared.room.add_permits(1);
            return Err(Stopped);
        }
        answer.await.map_err(|_| Stopped)
    }

    /// Hands over something nobody waits for.
    pub fn tell(&self, input: Input<Asker>) {
        self.push(input, false);
    }

    fn push(&self, input: Input<Asker>, command: bool) -> bool {
        let mut queue = self.shared.queue.lock();
        if queue.stopped {
            return false;
        }
        let sleeping = queue.inputs.is_empty();
        queue.inputs.push_back(input);
        queue.commands += usize::from(command);
        drop(queue);
        if sleeping {
            self.shared.wake.notify_one();
        }
        true
    }

    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// Ends the thread after the turn it is in; what still waits is dropped.
    pub fn stop(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.room.close();
        self.shared.wake.notify_one();
    }
}

fn run(mut engine: Engine<Asker>, shared: &Shared, clock: &dyn Clock, outside: &impl Outside) {
    let mut taken: VecDeque<Input<Asker>> = VecDeque::new();
    let mut out = Vec::new();
    let mut next_tick = Instant::now();
    let mut more = false;
    let mut longest = Longest::default();
    loop {
        if taken.is_empty() && !collect(shared, &mut taken, next_tick, more) {
            return;
        }
        let started = Instant::now();
        if started >= next_tick {
            taken.push_back(Input::Tick);
            next_tick = started + TICK;
        }
        let mut inputs = std::iter::from_fn(|| taken.pop_front());
        more = engine.turn(&mut inputs, clock.now(), &mut out);
        perform(&mut out, shared, outside);
        longest.note(started);
        note(&engine, shared, started, taken.len(), &longest);
    }
}

/// Waits for input until the next tick; gives false when the engine is to stop.
fn collect(
    shared: &Shared,
    taken: &mut VecDeque<Input<Asker>>,
    next_tick: Instant,
    at_once: bool,
) -> bool {
    let mut queue = shared.queue.lock();
    if queue.inputs.is_empty() && !queue.stopped && !at_once {
        shared.wake.wait_until(&mut queue, next_tick);
    }
    if queue.stopped {
        return false;
    }
    std::mem::swap(taken, &mut queue.inputs);
    let commands = std::mem::take(&mut queue.commands);
    drop(queue);
    if commands > 0 {
        shared.room.add_permits(commands);
    }
    true
}

fn perform(out: &mut Vec<Output<Asker>>, shared: &Shared, outside: &impl Outside) {
    for output in out.drain(..) {
        match output {
            // The asker may have gone away meanwhile; then nobody is left to tell.
            Output::Reply(Some(asker), answer) => drop(asker.send(answer)),
            Output::Reply(None, _) => {}
            Output::Effect {
                gateway,
                hub,
                connection,
                effect,
            } => outside.effect(gateway, hub, connection, effect),
            Output::Send { to, message } => {
                let at = message.partition();
                if !outside.send(&to, message) {
                    let mut queue = shared.queue.lock();
                    queue.inputs.push_back(Input::Unsent { to, at });
                }
            }
            Output::Visible { at, next, epoch } => outside.visible(at, next, epoch),
            Output::Alarm { at, text } => outside.alarm(at, &text),
        }
    }
}

fn note(
    engine: &Engine<Asker>,
    shared: &Shared,
    started: Instant,
    waiting: usize,
    longest: &Longest,
) {
    let figures = &shared.figures;
    let stats = &engine.stats;
    let micros = started.elapsed().as_micros() as u64;
    figures.turns.store(stats.turns, Ordering::Relaxed);
    figures.commits.store(stats.commits, Ordering::Relaxed);
    figures.commands.store(stats.commands, Ordering::Relaxed);
    figures.events.store(stats.events, Ordering::Relaxed);
    figures.records.store(stats.records, Ordering::Relaxed);
    figures.record_bytes.store(stats.bytes, Ordering::Relaxed);
    figures
        .salvaged_records
        .store(stats.salvaged_records, Ordering::Relaxed);
    figures
        .rewind_bytes
        .store(stats.rewind_bytes, Ordering::Relaxed);
    figures
        .commit_failures
        .store(stats.commit_failures, Ordering::Relaxed);
    figures
        .disk_full
        .store(u64::from(stats.disk_full), Ordering::Relaxed);
    figures.queue_depth.store(waiting as u64, Ordering::Relaxed);
    figures.turn_micros.fetch_add(micros, Ordering::Relaxed);
    figures
        .turn_micros_max
        .store(longest.micros(), Ordering::Relaxed);
    figures
        .lease_until
        .store(engine.lease_until(), Ordering::Relaxed);
}

/// The longest turn of the present stretch of ten seconds and of the one before.
#[derive(Default)]
struct Longest {
    since: Option<Instant>,
    before: u64,
    now: u64,
}

impl Longest {
    fn note(&mut self, started: Instant) {
        if started.duration_since(*self.since.get_or_insert(started)) >= STRETCH {
            self.since = Some(started);
            self.before = std::mem::take(&mut self.now);
        }
        self.now = self.now.max(started.elapsed().as_micros() as u64);
    }

    fn micros(&self) -> u64 {
        self.before.max(self.now)
    }
}
