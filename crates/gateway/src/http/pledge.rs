//! What stands behind an answer until its bytes have left: the region's lease.
//!
//! The process may be stopped at any moment between the hub's answer and the socket. When it wakes after its lease, another
//! region may have taken over without what is about to be acknowledged; then the connection ends without a word.

use crate::backend::{Backend, Permit};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The pledge of one connection; an extension of its requests.
#[derive(Clone, Default)]
pub(super) struct Pledge(Arc<Mutex<Option<Held>>>);

struct Held {
    backend: Arc<dyn Backend>,
    permit: Permit,
}

impl Pledge {
    /// The answer that is handed over now was given under `permit`.
    pub(super) fn make(&self, backend: Arc<dyn Backend>, permit: Permit) {
        *self.0.lock() = Some(Held { backend, permit });
    }

    /// Everything written so far has left.
    fn keep(&self) {
        *self.0.lock() = None;
    }

    fn check(&self) -> io::Result<()> {
        match &*self.0.lock() {
            Some(held) if !held.backend.may_answer(held.permit) => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok(()),
        }
    }
}

/// A stream that takes no byte of an answer whose pledge is broken. Below TLS: what TLS buffers is held back as well.
pub(super) struct PledgeGuard<S> {
    stream: S,
    pledge: Pledge,
}

impl<S> PledgeGuard<S> {
    pub(super) fn new(stream: S, pledge: Pledge) -> Self {
        PledgeGuard { stream, pledge }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PledgeGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PledgeGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pledge.check()?;
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pledge.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.pledge.keep();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::World;
    use std::sync::atomic::Ordering::Relaxed;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use types::HubId;

    #[tokio::test]
    async fn a_broken_pledge_keeps_the_answer_back() {
        let world = Arc::new(World::with_hubs(&["myhub"]));
        let (near, mut far) = tokio::io::duplex(64);
        let pledge = Pledge::default();
        let mut guarded = PledgeGuard::new(near, pledge.clone());
        pledge.make(world.clone(), world.permit(HubId(1)));
        guarded.write_all(b"said").await.unwrap();
        world.term.fetch_add(1, Relaxed);
        let error = guarded.write_all(b"unsaid").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        drop(guarded);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"said");
    }

    #[tokio::test]
    async fn what_was_flushed_is_said() {
        let world = Arc::new(World::with_hubs(&["myhub"]));
        let (near, _far) = tokio::io::duplex(64);
        let pledge = Pledge::default();
        let mut guarded = PledgeGuard::new(near, pledge.clone());
        pledge.make(world.clone(), world.permit(HubId(1)));
        guarded.write_all(b"said").await.unwrap();
        guarded.flush().await.unwrap();
        world.term.fetch_add(1, Relaxed);
        guarded.write_all(b"the next").await.unwrap();
    }
}
