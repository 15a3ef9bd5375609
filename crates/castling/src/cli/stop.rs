//! Being asked to stop: Ctrl-C, SIGTERM, SIGHUP.

use super::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Longer than storing positions may take.
const GRACE: Duration = Duration::from_secs(35);

/// Waits for any of the signals that mean "end".
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::Failed(format!("cannot wait for signals: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits to be stopped; SIGHUP only counts `hung_up` on.
    pub async fn stop_or_hang_up(&mut self, hung_up: &watch::Sender<u64>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => hung_up.send_modify(|times| *times += 1),
            }
        }
    }

    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// A flag that a signal raises, for commands without a runtime. A second signal, or [`GRACE`] without an end, ends the process
/// as it is: it may hang in writing to someone who does not read.
///
/// # Errors
/// When the system refuses.
pub fn flag() -> Result<Arc<AtomicBool>, Failure> {
    let raised = Arc::new(AtomicBool::new(false));
    let flag = raised.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    // Ends with the process: there is nothing to wait for.
    std::thread::spawn(move || {
        runtime.block_on(signals.received());
        flag.store(true, Ordering::Relaxed);
        let waited =
            runtime.block_on(async { tokio::time::timeout(GRACE, signals.received()).await });
        let why = if waited.is_ok() {
            "told twice"
        } else {
            "it took too long"
        };
        eprintln!("error: ended at once: {why}");
        std::process::exit(1)
    });
    Ok(raised)
}
