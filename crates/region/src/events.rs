//! Reading events from this region's log, without troubling its engine.

use crate::peer::{EventRun, EventsPage, ReadFrom, ReadRefusal};
use parking_lot::RwLock;
use replication::{Body, Record};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;
use types::{Epoch, Lsn, PartitionKey, Sequence, limits};

/// How far a partition's events may be read here.
#[derive(Default)]
struct Visible {
    next: AtomicU64,
    /// 0: this region is not the primary.
    epoch: AtomicU64,
    changed: Notify,
}

/// The readers' side of all partitions of a region.
pub struct EventLog {
    store: Arc<dyn Store>,
    visible: RwLock<HashMap<PartitionKey, Arc<Visible>>>,
}

impl EventLog {
    pub fn new(store: Arc<dyn Store>) -> Self {
        EventLog {
            store,
            visible: RwLock::default(),
        }
    }

    fn of(&self, at: PartitionKey) -> Arc<Visible> {
        if let Some(visible) = self.visible.read().get(&at) {
            return visible.clone();
        }
        self.visible.write().entry(at).or_default().clone()
    }

    /// The engine's word: events before `next` may be read.
    pub fn advance(&self, at: PartitionKey, next: Sequence, epoch: Option<Epoch>) {
        let visible = self.of(at);
        visible.next.store(next.0, Ordering::Release);
        visible
            .epoch
            .store(epoch.map_or(0, |epoch| epoch.0), Ordering::Release);
        visible.changed.notify_waiters();
    }

    /// Reads up to `max` events, waiting up to `wait` for the first.
    ///
    /// # Errors
    /// [`ReadRefusal::NotPrimary`] where (or as soon as) this region is not the primary.
    pub async fn read(
        &self,
        at: PartitionKey,
        from: ReadFrom,
        max: usize,
        wait: Duration,
    ) -> Result<EventsPage, ReadRefusal> {
        let visible = self.of(at);
        let deadline = Instant::now() + wait;
        let max = max.clamp(1, limits::READ_EVENTS_MAX);
        let mut from = from;
        loop {
            let changed = visible.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let epoch = visible.epoch.load(Ordering::Acquire);
            if epoch == 0 {
                return Err(ReadRefusal::NotPrimary);
            }
            let end = Sequence(visible.next.load(Ordering::Acquire));
            if from == ReadFrom::Latest {
                from = ReadFrom::Sequence(end);
            }
            let mut page = self.read_now(at, from, end, max).await?;
            page.epoch = Epoch(epoch);
            if !page.runs.is_empty() {
                return Ok(page);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(page);
            }
        }
    }

    async fn read_now(
        &self,
        at: PartitionKey,
        from: ReadFrom,
        end: Sequence,
        max: usize,
    ) -> Result<EventsPage, ReadRefusal> {
        let nothing = EventsPage {
            runs: Vec::new(),
            next: end,
            epoch: Epoch(0),
        };
        if matches!(from, ReadFrom::Sequence(sequence) if sequence >= end) {
            let ReadFrom::Sequence(next) = from else {
                return Ok(nothing);
            };
            return Ok(EventsPage { next, ..nothing });
        }
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read_page(&*store, at, from, end, max));
        match read.await {
            Ok(Ok(page)) => Ok(page.unwrap_or(nothing)),
            Ok(Err(error)) => Err(ReadRefusal::Failed(error.to_string())),
            Err(error) => Err(ReadRefusal::Failed(format!("reading the log: {error}"))),
        }
    }
}

/// `None`: nothing there yet.
fn read_page(
    store: &dyn Store,
    at: PartitionKey,
    from: ReadFrom,
    end: Sequence,
    max: usize,
) -> Result<Option<EventsPage>, StoreError> {
    let Some((lsn, first)) = locate(store, at, from)? else {
        return Ok(None);
    };
    let mut page = EventsPage {
        runs: Vec::new(),
        next: first,
        epoch: Epoch(0),
    };
    let mut taken = 0;
    let mut bytes = 0;
    let mut lsn = lsn;
    while taken < max && bytes < limits::READ_BYTES_MAX && page.next < end {
        let records = store.read_log(at, lsn, limits::READ_BYTES_MAX - bytes)?;
        if records.is_empty() {
            break;
        }
        for stored in records {
            lsn = stored.lsn.next();
            let record_end = stored.first_sequence.0 + u64::from(stored.event_count);
            if stored.event_count == 0 || record_end <= page.next.0 {
                continue;
            }
            let corrupt = |why: String| StoreError::Corrupt {
                partition: at,
                at: stored.lsn,
                why,
            };
            let record =
                Record::decode(&stored.bytes).map_err(|error| corrupt(error.to_string()))?;
            let Body::Data { events, .. } = record.body else {
                return Err(corrupt("events in a mark".into()));
            };
            let skip = page.next.0.saturating_sub(stored.first_sequence.0);
            let left = record_end
                .min(end.0)
                .saturating_sub(stored.first_sequence.0 + skip);
            let take = left.min((max - taken) as u64);
            if take == 0 {
                break;
            }
            bytes += events.len();
            taken += take as usize;
            page.next = Sequence(stored.first_sequence.0 + skip + take);
            let run = EventRun {
                first: stored.first_sequence,
                count: stored.event_count,
                skip: skip as u32,
                take: take as u32,
                bytes: events,
            };
            page.runs.push(run);
            if taken >= max || bytes >= limits::READ_BYTES_MAX {
                break;
            }
        }
    }
    Ok(Some(page))
}

/// The record to begin at and the first sequence number wanted.
fn locate(
    store: &dyn Store,
    at: PartitionKey,
    from: ReadFrom,
) -> Result<Option<(Lsn, Sequence)>, StoreError> {
    let bounds = store.log_bounds(at)?;
    let oldest = bounds.map(|bounds| (bounds.first_lsn, bounds.first_sequence));
    match from {
        ReadFrom::Earliest | ReadFrom::Latest => Ok(oldest),
        ReadFrom::Sequence(sequence) => match store.find_sequence(at, sequence) {
            Ok(lsn) => Ok(lsn.map(|lsn| (lsn, sequence))),
            // What retention took is skipped: reading goes on at the oldest that is kept, and the page's first event says so.
            Err(StoreError::Trimmed { .. }) => Ok(oldest),
            Err(error) => Err(error),
        },
        ReadFrom::Time(time) => {
            let Some(lsn) = store.find_time(at, time)? else {
                return Ok(None);
            };
            let first = store
                .read_log(at, lsn, 1)?
                .first()
                .map(|record| record.first_sequence);
            Ok(first.map(|first| (lsn, first)))
        }
    }
}
