//! Reading and writing without buffers that an idle connection would have to keep.

use super::end::End;
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use types::limits;

const READ_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

/// Reads once into the thread's buffer, appends exactly what came to `buffer`, and tells how many bytes that was.
pub(super) fn poll_read<IO: AsyncRead + Unpin>(
    io: &mut IO,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, End>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut read = ReadBuf::new(scratch);
        match Pin::new(io).poll_read(cx, &mut read) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                let bytes = read.filled();
                if buffer.is_empty() {
                    // Two spare bytes: the codec reserves as many after each packet, which would allocate again.
                    *buffer = BytesMut::with_capacity(bytes.len() + 2);
                }
                buffer.extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            Poll::Ready(_) => Poll::Ready(Err(End::PeerGone)),
        }
    })
}

/// Writes all of `out` and frees it. The first attempt needs no timer; a client that does not read gets
/// [`limits::MQTT_WRITE_TIMEOUT_MS`]. `may_leave` is asked right before every attempt: it may have slept for long.
///
/// # Errors
/// [`End::PeerGone`], [`End::SlowReader`], or [`End::LeaseLost`] once the bytes may not leave.
pub(super) async fn write<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    out: &mut BytesMut,
    may_leave: impl Fn() -> bool,
) -> Result<(), End> {
    let first = poll_fn(|cx| Poll::Ready(poll_write_all(io, out, &may_leave, cx))).await;
    let result = match first {
        Poll::Ready(result) => result,
        Poll::Pending => Box::pin(write_patiently(io, out, &may_leave)).await,
    };
    *out = BytesMut::new();
    result
}

fn poll_write_all<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    out: &mut BytesMut,
    may_leave: &impl Fn() -> bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), End>> {
    while !out.is_empty() {
        if !may_leave() {
            return Poll::Ready(Err(End::LeaseLost));
        }
        match Pin::new(&mut *io).poll_write(cx, out) {
            Poll::Ready(Ok(written)) if written > 0 => out.advance(written),
            Poll::Ready(_) => return Poll::Ready(Err(End::PeerGone)),
            Poll::Pending => return Poll::Pending,
        }
    }
    if !may_leave() {
        return Poll::Ready(Err(End::LeaseLost));
    }
    Pin::new(io).poll_flush(cx).map_err(|_| End::PeerGone)
}

async fn write_patiently<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    out: &mut BytesMut,
    may_leave: &impl Fn() -> bool,
) -> Result<(), End> {
    let patience = Duration::from_millis(limits::MQTT_WRITE_TIMEOUT_MS);
    let write = poll_fn(|cx| poll_write_all(io, out, may_leave, cx));
    let written = tokio::time::timeout(patience, write).await;
    written.unwrap_or(Err(End::SlowReader))
}
