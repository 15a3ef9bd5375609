//! The only place of this crate that reads a clock.

use std::time::{SystemTime, UNIX_EPOCH};
use types::UnixMillis;

/// Where a region's time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> UnixMillis;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Milliseconds since the machine started, for leases: no one sets it, and it goes on while the process or the machine sleeps.
pub fn monotonic_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// [`monotonic_ms`] as an engine takes it.
pub fn monotonic() -> crate::engine::Monotonic {
    Box::new(monotonic_ms)
}
