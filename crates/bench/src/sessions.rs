//! Opening many connections, some at a time.

use crate::connection::Connection;
use crate::target::Way;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const OPENING_AT_ONCE: usize = 64;

/// Opens every way; all or nothing.
///
/// # Errors
/// The first connection that cannot be opened.
pub async fn open_all(ways: &[Way]) -> Result<(Vec<Connection>, Duration), String> {
    let begun = Instant::now();
    let room = Arc::new(Semaphore::new(OPENING_AT_ONCE));
    let mut opening = JoinSet::new();
    for way in ways {
        let (way, room) = (way.clone(), room.clone());
        opening.spawn(async move {
            let _permit = room
                .acquire_owned()
                .await
                .map_err(|error| error.to_string())?;
            let packet = way.connect_packet();
            Connection::open(&way, &packet)
                .await
                .map_err(|why| format!("{}: {why}", way.device))
        });
    }
    let mut open = Vec::with_capacity(ways.len());
    while let Some(done) = opening.join_next().await {
        open.push(done.map_err(|error| error.to_string())??);
    }
    Ok((open, begun.elapsed()))
}

/// A runtime with as many threads as asked for: one is often best, as the server needs the rest.
///
/// # Errors
/// When the system refuses.
pub fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, String> {
    let mut builder = if threads <= 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// Waits for the end of standard input, or for `most`.
pub async fn told_to_end(most: Duration) {
    let ended = tokio::task::spawn_blocking(|| {
        let mut nothing = String::new();
        // Its end is what counts, however it comes.
        while std::io::stdin()
            .read_line(&mut nothing)
            .is_ok_and(|count| count > 0)
        {
            nothing.clear();
        }
    });
    // Out of time is as good a reason to end.
    let _ = tokio::time::timeout(most, ended).await;
}
