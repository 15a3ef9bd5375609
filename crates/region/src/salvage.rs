//! What a returned region set aside: listed, shown beside what is there now, replayed as late events, discarded.

use crate::peer::{self, Call, Return};
use crate::region::Region;
use bytes::Bytes;
use hub::command::TelemetryCommand;
use hub::salvage::{SalvagedChange, describe};
use hub::{Command, Reply};
use link::{Class, LinkError};
use replication::{Body, Record};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store::{Salvage, StoreError};
use types::{
    DeviceId, Epoch, HubId, Lsn, PartitionId, PartitionKey, RegionName, Sequence, UnixMillis,
    limits,
};

const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// One segment: the records of one partition that one return set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub id: String,
    pub hub: HubId,
    pub partition: PartitionId,
    /// The epoch in which its last record was written.
    pub epoch: Epoch,
    pub first: Lsn,
    pub last: Lsn,
    pub records: u64,
    pub events: u64,
    pub bytes: u64,
    pub first_time: UnixMillis,
    pub last_time: UnixMillis,
    pub made: UnixMillis,
}

/// A page of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// (key, lost value), in the order in which they were written.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
    pub events: Vec<LostEvent>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Lsn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEvent {
    pub sequence: Sequence,
    pub device: DeviceId,
    pub enqueued: UnixMillis,
    pub bytes: u64,
}

/// A lost change beside what is there now.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    pub lost: SalvagedChange,
    pub present: Option<serde_json::Value>,
}

/// Segments of a hub, as far as its regions answered.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub segments: Vec<(RegionName, Segment)>,
    pub silent: Vec<RegionName>,
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub appended: u64,
    pub skipped: u64,
}

/// Why nothing can be said about a segment, or done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SalvageError {
    NotFound,
    /// Nothing was done.
    Unavailable(String),
    /// It may have been done, in part or as a whole.
    OutcomeUnknown(String),
    Refused(String),
}

impl Segment {
    fn of(salvage: Salvage) -> Segment {
        Segment {
            id: salvage.id,
            hub: salvage.at.hub,
            partition: salvage.at.partition,
            epoch: salvage.epoch,
            first: salvage.first,
            last: salvage.last,
            records: salvage.records,
            events: salvage.events,
            bytes: salvage.bytes,
            first_time: salvage.first_time,
            last_time: salvage.last_time,
            made: salvage.made,
        }
    }
}

/// All segments of a hub in both its regions.
pub async fn list(region: &Region, hub: &control::Hub) -> Found {
    let mut found = Found::default();
    for of in std::iter::once(&hub.primary).chain(hub.secondary()) {
        match of_region(region, of, hub.id).await {
            Ok(segments) => found
                .segments
                .extend(segments.into_iter().map(|segment| (of.clone(), segment))),
            Err(_) => found.silent.push(of.clone()),
        }
    }
    found
}

/// The segments of a hub that one region keeps.
///
/// # Errors
/// When it does not answer, or cannot read its store.
pub async fn of_region(
    region: &Region,
    of: &RegionName,
    hub: HubId,
) -> Result<Vec<Segment>, SalvageError> {
    match ask(region, of, &Call::Salvages { hub }).await? {
        Return::Salvages(Ok(segments)) => Ok(segments),
        Return::Salvages(Err(why)) => Err(SalvageError::Unavailable(why)),
        other => Err(unexpected(&other)),
    }
}

/// Finds a segment and the region that keeps it.
///
/// # Errors
/// [`SalvageError::NotFound`] once both regions have answered without it.
pub async fn find(
    region: &Region,
    hub: &control::Hub,
    id: &str,
) -> Result<(RegionName, Segment), SalvageError> {
    let found = list(region, hub).await;
    match found
        .segments
        .into_iter()
        .find(|(_, segment)| segment.id == id)
    {
        Some(found) => Ok(found),
        None if found.silent.is_empty() => Err(SalvageError::NotFound),
        None => {
            let silent: Vec<String> = found.silent.iter().map(ToString::to_string).collect();
            let why = format!("{} may keep it, but does not answer", silent.join(", "));
            Err(SalvageError::Unavailable(why))
        }
    }
}

/// A page of a segment's changes, each beside what the hub has now, and of its events.
///
/// # Errors
/// When its region or the hub's primary does not answer.
pub async fn show(
    region: &Region,
    hub: &control::Hub,
    keeper: &RegionName,
    segment: &Segment,
    from: Option<Lsn>,
) -> Result<(Vec<Compared>, Vec<LostEvent>, Option<Lsn>), SalvageError> {
    let call = Call::SalvagePage {
        id: segment.id.clone(),
        from: from.unwrap_or(segment.first),
    };
    let page = match ask(region, keeper, &call).await? {
        Return::SalvagePage(Ok(page)) => page,
        Return::SalvagePage(Err(why)) => return Err(SalvageError::Unavailable(why)),
        other => return Err(unexpected(&other)),
    };
    let call = Call::Values {
        at: PartitionKey {
            hub: hub.id,
            partition: segment.partition,
        },
        keys: page.changes.iter().map(|(key, _)| key.clone()).collect(),
    };
    let values = match ask(region, &hub.primary, &call).await? {
        Return::Values(Ok(values)) => values,
        Return::Values(Err(why)) => return Err(SalvageError::Unavailable(why)),
        other => return Err(unexpected(&other)),
    };
    let present: Vec<_> = page
        .changes
        .iter()
        .zip(values)
        .map(|((key, _), value)| (key.clone(), value))
        .collect();
    let compared = describe(&page.changes)
        .into_iter()
        .zip(describe(&present))
        .map(|(lost, present)| Compared {
            lost,
            present: present.value,
        })
        .collect();
    Ok((compared, page.events, page.next))
}

/// Appends a segment's events to the hub as late ones, in order; what an earlier replay appended is skipped.
///
/// # Errors
/// [`SalvageError`]; it can be repeated after any of them.
pub async fn replay(
    region: &Region,
    keeper: &RegionName,
    segment: &Segment,
) -> Result<Replayed, SalvageError> {
    let mut done = Replayed::default();
    let mut from = segment.first;
    let at = PartitionKey {
        hub: segment.hub,
        partition: segment.partition,
    };
    loop {
        let call = Call::SalvageEvents {
            id: segment.id.clone(),
            from,
        };
        let (events, next) = match ask(region, keeper, &call).await? {
            Return::SalvageEvents(Ok(page)) => page,
            Return::SalvageEvents(Err(why)) => return Err(SalvageError::Unavailable(why)),
            other => return Err(unexpected(&other)),
        };
        if !events.is_empty() {
            let command = Command::Telemetry(TelemetryCommand::Late {
                segment: segment.id.clone(),
                events,
            });
            match region.router.call(at, command).await {
                Ok(Reply::Replayed { appended, skipped }) => {
                    done.appended += appended;
                    done.skipped += skipped;
                }
                Ok(other) => {
                    return Err(SalvageError::OutcomeUnknown(format!(
                        "unexpected answer {other:?}"
                    )));
                }
                Err(error) => return Err(of_call(error)),
            }
        }
        match next {
            Some(next) => from = next,
            None => return Ok(done),
        }
    }
}

/// Deletes a segment for good.
///
/// # Errors
/// When its region does not answer, or has it no more.
pub async fn discard(
    region: &Region,
    keeper: &RegionName,
    segment: &Segment,
) -> Result<(), SalvageError> {
    let call = Call::SalvageDiscard {
        id: segment.id.clone(),
    };
    match ask(region, keeper, &call).await? {
        Return::SalvageDiscarded(Ok(true)) => Ok(()),
        Return::SalvageDiscarded(Ok(false)) => Err(SalvageError::NotFound),
        Return::SalvageDiscarded(Err(why)) => Err(SalvageError::OutcomeUnknown(why)),
        other => Err(unexpected(&other)),
    }
}

async fn ask(region: &Region, of: &RegionName, call: &Call) -> Result<Return, SalvageError> {
    let body = peer::encode(peer::CALL, call);
    let bytes = region
        .links
        .call(of, Class::Control, body, ASK_TIMEOUT)
        .await
        .map_err(|error| match error {
            LinkError::NotSent(why) => SalvageError::Unavailable(why),
            LinkError::OutcomeUnknown(why) => SalvageError::OutcomeUnknown(why),
        })?;
    peer::decode::<Return>(&bytes).map_err(SalvageError::OutcomeUnknown)
}

fn unexpected(answer: &Return) -> SalvageError {
    SalvageError::OutcomeUnknown(format!("unexpected answer {answer:?}"))
}

fn of_call(error: crate::CallError) -> SalvageError {
    match error {
        crate::CallError::Reject(reject) => SalvageError::Refused(reject.to_string()),
        crate::CallError::FailingOver { .. } => {
            SalvageError::Unavailable("the hub is failing over".into())
        }
        crate::CallError::Unavailable { why, .. } => SalvageError::Unavailable(why),
        crate::CallError::OutcomeUnknown { why } => SalvageError::OutcomeUnknown(why),
    }
}

// What a region answers about its own store. Blocking: called where that is allowed.

pub(crate) fn own_segments(store: &dyn store::Store, hub: HubId) -> Result<Vec<Segment>, String> {
    let all = store.salvages().map_err(|error| error.to_string())?;
    let of_hub = all.into_iter().filter(|salvage| salvage.at.hub == hub);
    Ok(of_hub.map(Segment::of).collect())
}

pub(crate) fn own_page(store: &dyn store::Store, id: &str, from: Lsn) -> Result<Page, String> {
    let (records, next) = read(store, id, from)?;
    let mut page = Page {
        changes: Vec::new(),
        events: Vec::new(),
        next,
    };
    for record in records {
        let first = record.first_sequence;
        let count = record.event_count;
        let Body::Data { state, events } = record.body else {
            continue;
        };
        page.changes.extend(state);
        for event in hub::telemetry::Events::new(first, count, events) {
            let event = event.map_err(|error| error.to_string())?;
            page.events.push(LostEvent {
                sequence: event.sequence,
                device: event.device,
                enqueued: event.enqueued,
                bytes: event.body.len() as u64,
            });
        }
    }
    Ok(page)
}

/// A page of a segment's events as they are replayed, and where the next page begins.
pub(crate) fn own_events(
    store: &dyn store::Store,
    id: &str,
    from: Lsn,
) -> Result<(Vec<hub::command::LateEvent>, Option<Lsn>), String> {
    let (records, next) = read(store, id, from)?;
    let mut late = Vec::new();
    for record in records {
        let Body::Data { events, .. } = record.body else {
            continue;
        };
        for event in hub::telemetry::Events::new(record.first_sequence, record.event_count, events)
        {
            let event = event.map_err(|error| error.to_string())?;
            late.push(hub::command::LateEvent::of(record.epoch, event));
        }
    }
    Ok((late, next))
}

fn read(
    store: &dyn store::Store,
    id: &str,
    from: Lsn,
) -> Result<(Vec<Record>, Option<Lsn>), String> {
    let text = |error: StoreError| error.to_string();
    let page = store
        .read_salvage(id, from, limits::SALVAGE_PAGE_BYTES_MAX)
        .map_err(text)?;
    let mut next = None;
    if let Some(last) = page.last() {
        let more = store.read_salvage(id, last.lsn.next(), 1).map_err(text)?;
        next = more.first().map(|record| record.lsn);
    }
    let decoded = page
        .iter()
        .map(|record| Record::decode(&record.bytes).map_err(|error| error.to_string()));
    Ok((decoded.collect::<Result<_, _>>()?, next))
}

pub(crate) fn own_values(
    store: &dyn store::Store,
    at: PartitionKey,
    keys: &[Bytes],
) -> Result<Vec<Option<Bytes>>, String> {
    let values = keys.iter().map(|key| store.get(at, key));
    values
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
