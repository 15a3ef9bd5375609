//! The region's way into a connection: a small box that never blocks and never grows without bound.

use super::end::End;
use crate::backend::Session;
use bytes::Bytes;
use hub::Effect;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use types::{ConnectionId, limits};

/// A desired-property notification on its way to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub version: u64,
    /// The patch as JSON text, `$version` included.
    pub body: Bytes,
}

/// What waited in the box.
#[derive(Debug, PartialEq, Eq)]
pub enum Mail {
    Close(End),
    Desired(Desired),
    C2dWaiting,
}

/// The box of one connection.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waker: Option<Waker>,
    connection: ConnectionId,
    close: Option<End>,
    c2d_waiting: bool,
    desired: VecDeque<Desired>,
    wants_c2d: bool,
    desired_seen: Option<u64>,
}

impl Mailbox {
    /// Names the connection whose close effects are meant for this box.
    pub fn belongs_to(&self, connection: ConnectionId) {
        self.inner.lock().connection = connection;
    }

    /// States what the session listens to, for a new primary.
    pub fn set_interests(&self, wants_c2d: bool, desired_seen: Option<u64>) {
        let mut inner = self.inner.lock();
        inner.wants_c2d = wants_c2d;
        inner.desired_seen = desired_seen;
    }

    /// Asks the connection to end; the first reason stays. False: it was asked already.
    pub fn close(&self, end: End) -> bool {
        let mut inner = self.inner.lock();
        let newly = inner.close.is_none();
        inner.close.get_or_insert(end);
        inner.wake();
        newly
    }

    pub fn is_closing(&self) -> bool {
        self.inner.lock().close.is_some()
    }

    /// Takes the next thing: a close before anything else, then notifications in order.
    pub fn take(&self) -> Option<Mail> {
        self.inner.lock().take()
    }

    /// Ready when something waits; otherwise the task is woken when something comes.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.close.is_some() || inner.c2d_waiting || !inner.desired.is_empty() {
            return Poll::Ready(());
        }
        inner.register(cx);
        Poll::Pending
    }

    /// Ready when the connection must close; woken for anything.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut inner = self.inner.lock();
        if let Some(end) = inner.close {
            return Poll::Ready(end);
        }
        inner.register(cx);
        Poll::Pending
    }
}

impl Inner {
    fn take(&mut self) -> Option<Mail> {
        if let Some(end) = self.close {
            return Some(Mail::Close(end));
        }
        if let Some(desired) = self.desired.pop_front() {
            if self.desired.is_empty() {
                // An idle connection keeps no queue memory.
                self.desired = VecDeque::new();
            }
            return Some(Mail::Desired(desired));
        }
        std::mem::take(&mut self.c2d_waiting).then_some(Mail::C2dWaiting)
    }

    fn register(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Session for Mailbox {
    fn deliver(&self, effect: Effect) {
        let mut inner = self.inner.lock();
        match effect {
            Effect::C2dWaiting { .. } => inner.c2d_waiting = true,
            Effect::DesiredChanged { version, body, .. } => {
                if inner.desired.len() >= limits::SESSION_NOTIFICATIONS_MAX {
                    inner.close.get_or_insert(End::Overrun);
                } else {
                    inner.desired.push_back(Desired { version, body });
                }
            }
            // A close meant for an earlier connection of the device may arrive late.
            Effect::Close {
                connection, why, ..
            } if connection == inner.connection => {
                inner.close.get_or_insert(End::Hub(why));
            }
            Effect::Close { .. } => return,
        }
        inner.wake();
    }

    fn interests(&self) -> (bool, Option<u64>) {
        let inner = self.inner.lock();
        (inner.wants_c2d, inner.desired_seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub::decision::CloseReason;
    use types::DeviceId;

    fn device() -> DeviceId {
        DeviceId::parse("d1").unwrap()
    }

    fn desired(version: u64) -> Effect {
        Effect::DesiredChanged {
            device: device(),
            version,
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn waiting_messages_are_announced_once() {
        let mailbox = Mailbox::default();
        mailbox.deliver(Effect::C2dWaiting { device: device() });
        mailbox.deliver(Effect::C2dWaiting { device: device() });
        assert_eq!(mailbox.take(), Some(Mail::C2dWaiting));
        assert_eq!(mailbox.take(), None);
    }

    #[test]
    fn a_session_that_cannot_keep_up_closes_itself() {
        let mailbox = Mailbox::default();
        for version in 0..=limits::SESSION_NOTIFICATIONS_MAX as u64 {
            mailbox.deliver(desired(version));
        }
        assert_eq!(mailbox.take(), Some(Mail::Close(End::Overrun)));
    }

    #[test]
    fn a_close_for_another_connection_is_not_for_us() {
        let mailbox = Mailbox::default();
        mailbox.belongs_to(ConnectionId(7));
        let close = |n| Effect::Close {
            device: device(),
            connection: ConnectionId(n),
            why: CloseReason::TakenOver,
        };
        mailbox.deliver(close(6));
        assert_eq!(mailbox.take(), None);
        mailbox.deliver(close(7));
        assert_eq!(
            mailbox.take(),
            Some(Mail::Close(End::Hub(CloseReason::TakenOver)))
        );
    }

    #[test]
    fn delivery_wakes_the_connection() {
        let mailbox = Mailbox::default();
        let count = std::sync::Arc::new(CountingWaker::default());
        let waker = Waker::from(count.clone());
        assert!(mailbox.poll(&mut Context::from_waker(&waker)).is_pending());
        mailbox.deliver(desired(1));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(mailbox.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[derive(Default)]
    struct CountingWaker(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for CountingWaker {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
}
