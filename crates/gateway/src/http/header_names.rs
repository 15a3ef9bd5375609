//! Application properties travel as header names, and their case matters to whoever reads the event: the HTTP library gives
//! names in lower case only, so the bytes of a connection are watched for `iothub-app-` lines as they pass.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Start of header names that carry application properties.
pub(super) const APPLICATION_PREFIX: &str = "iothub-app-";
const NAME_BYTES_MAX: usize = 1024;
/// Names remembered per connection; a request has at most 100 headers.
const NAMES_MAX: usize = 1024;

/// The spelling of application property names last seen on a connection, by lower-cased name (without prefix).
#[derive(Clone, Default)]
pub struct HeaderNames(Arc<Mutex<BTreeMap<String, String>>>);

impl HeaderNames {
    /// The name as the client wrote it; the lower-case one when it was not seen.
    pub(super) fn original(&self, lower: &str) -> String {
        self.0
            .lock()
            .get(lower)
            .cloned()
            .unwrap_or_else(|| lower.to_owned())
    }

    fn record(&self, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        let mut names = self.0.lock();
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(name.to_ascii_lowercase(), name.to_owned());
    }
}

/// Where in a line the watcher stands.
enum Position {
    /// So many bytes of the prefix matched since the line began.
    Prefix(usize),
    Name(Vec<u8>),
    Elsewhere,
}

/// Finds `iothub-app-NAME:` at line starts, whatever the sizes in which bytes arrive.
///
/// A body that holds such a line is taken for one too: it can only change the case of its own client's names.
struct Scanner {
    position: Position,
    names: HeaderNames,
}

impl Scanner {
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if matches!(self.position, Position::Elsewhere) {
                let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
                    return;
                };
                bytes = &bytes[end + 1..];
                self.position = Position::Prefix(0);
                continue;
            }
            bytes = rest;
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        let prefix = APPLICATION_PREFIX.as_bytes();
        self.position = match std::mem::replace(&mut self.position, Position::Elsewhere) {
            _ if byte == b'\n' => Position::Prefix(0),
            Position::Prefix(n) if byte.to_ascii_lowercase() == prefix[n] => {
                if n + 1 == prefix.len() {
                    Position::Name(Vec::new())
                } else {
                    Position::Prefix(n + 1)
                }
            }
            Position::Name(name) if byte == b':' => {
                self.names.record(&name);
                Position::Elsewhere
            }
            Position::Name(mut name) if name.len() < NAME_BYTES_MAX => {
                name.push(byte);
                Position::Name(name)
            }
            _ => Position::Elsewhere,
        };
    }
}

/// A stream that remembers the spelling of the property headers read from it.
pub(super) struct NameWatch<S> {
    stream: S,
    scanner: Scanner,
}

impl<S> NameWatch<S> {
    pub(super) fn new(stream: S, names: HeaderNames) -> Self {
        NameWatch {
            stream,
            scanner: Scanner {
                position: Position::Prefix(0),
                names,
            },
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NameWatch<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.scanner.take(&buf.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NameWatch<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(pieces: &[&[u8]]) -> HeaderNames {
        let names = HeaderNames::default();
        let mut scanner = Scanner {
            position: Position::Prefix(0),
            names: names.clone(),
        };
        for piece in pieces {
            scanner.take(piece);
        }
        names
    }

    #[test]
    fn spelling_is_found_however_the_bytes_are_cut() {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nIoTHub-App-TempAlert: yes\r\nx: iothub-app-No: 1\r\niothub-app-b:2\r\n\r\n";
        for cut in 0..head.len() {
            let names = names_in(&[&head[..cut], &head[cut..]]);
            assert_eq!(names.original("tempalert"), "TempAlert", "cut at {cut}");
            assert_eq!(names.original("no"), "no");
            assert_eq!(names.0.lock().len(), 2);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let names = HeaderNames::default();
        let mut scanner = Scanner {
            position: Position::Prefix(0),
            names: names.clone(),
        };
        for n in 0..3 * NAMES_MAX {
            scanner.take(format!("iothub-app-n{n}: 1\r\n").as_bytes());
        }
        scanner.take(b"iothub-app-");
        scanner.take(&vec![b'x'; 10 * NAME_BYTES_MAX]);
        scanner.take(b": 1\r\n");
        assert!(names.0.lock().len() <= NAMES_MAX);
        assert!(
            names
                .0
                .lock()
                .keys()
                .all(|name| name.len() <= NAME_BYTES_MAX)
        );
    }
}
