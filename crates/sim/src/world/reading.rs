//! Reading events of a region's log up to what its engine lets be seen. As `region::events`, without waiting; and putting
//! consumers back who read what a forced failover lost, as the gateway's `rewind`.

use super::World;
use crate::history::{EventId, RegionId, Stand};
use control::{Operation, State};
use hub::telemetry::decode_events;
use replication::{Body, Record};
use store::{LogRecord, Store, StoreError};
use types::{Epoch, Lsn, PartitionKey, Sequence};

/// Events in order, each with the epoch of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub events: Vec<(Sequence, Epoch, EventId)>,
    pub next: Sequence,
    pub epoch: Epoch,
}

const PAGE_BYTES: usize = 4096;

/// The text of an event's body, and back.
pub fn body_of(id: EventId) -> String {
    format!("{}:{}:{}", id.device, id.counter, id.attempt)
}

fn event_of(body: &[u8]) -> Option<EventId> {
    let text = std::str::from_utf8(body).ok()?;
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    Some(EventId {
        device: parts.next()??,
        counter: parts.next()??,
        attempt: parts.next()??,
    })
}

/// The events of one stored record, with its epoch.
///
/// # Errors
/// When the record or an event in it cannot be understood.
pub fn events_of(stored: &LogRecord) -> Result<(Epoch, Vec<(Sequence, EventId)>), String> {
    let record = Record::decode(&stored.bytes).map_err(|error| error.to_string())?;
    let Body::Data { events, .. } = record.body else {
        return Ok((record.epoch, Vec::new()));
    };
    let decoded = decode_events(record.first_sequence, record.event_count, events)
        .map_err(|error| error.to_string())?;
    let named = decoded.into_iter().map(|event| {
        let id = event_of(&event.body)
            .ok_or_else(|| format!("event {} is not one of the run", event.sequence))?;
        Ok((event.sequence, id))
    });
    Ok((record.epoch, named.collect::<Result<_, String>>()?))
}

/// All kept records from `from` on.
///
/// # Errors
/// As the store.
pub fn all_records(
    store: &dyn Store,
    at: PartitionKey,
    from: Lsn,
) -> Result<Vec<LogRecord>, StoreError> {
    let Some(bounds) = store.log_bounds(at)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    let mut next = from.max(bounds.first_lsn);
    loop {
        let page = store.read_log(at, next, 1 << 20)?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        next = last.lsn.next();
        all.extend(page);
    }
}

impl World {
    pub(super) fn read_events(
        &self,
        region: RegionId,
        at: PartitionKey,
        from: Option<Sequence>,
    ) -> Result<Page, String> {
        let process = self.regions[region]
            .process
            .as_ref()
            .ok_or("the region is down")?;
        let Some((end, Some(epoch))) = process.visible.get(&at).copied() else {
            return Err("not the primary".into());
        };
        let store = &self.regions[region].store;
        read_page(store, at, from, end, epoch).map_err(|error| error.to_string())
    }
}

/// What the gateway of a region knows of the hub's divergences.
pub enum Put {
    /// It goes on where it stands.
    There,
    Back(Sequence),
    /// This region has not heard yet where the epoch began in which the primary answers.
    Unknown,
}

/// What becomes of a consumer that stands at `from`, read in its epoch, when the primary answers at `now`.
pub fn put(state: &State, at: PartitionKey, from: Stand, now: Epoch) -> Put {
    let Some(hub) = state.hub(at.hub) else {
        return Put::Unknown;
    };
    // A forced failover writes down its divergence when it has opened, which is after its epoch began.
    let running = hub
        .operation
        .as_ref()
        .and_then(|id| state.operations.get(id));
    let known = match running.and_then(Operation::switch) {
        Some(switch) if switch.forced => switch.epoch.min(hub.epoch),
        _ => hub.epoch,
    };
    if known < now {
        return Put::Unknown;
    }
    let later = hub
        .divergences
        .iter()
        .filter(|parted| parted.epoch > from.0);
    let cuts = later.filter_map(|parted| {
        let of = parted
            .partitions
            .iter()
            .find(|p| p.partition == at.partition)?;
        Some(of.next_sequence)
    });
    match cuts.min() {
        Some(cut) if cut.0 < from.1 => Put::Back(cut),
        _ => Put::There,
    }
}

fn read_page(
    store: &dyn Store,
    at: PartitionKey,
    from: Option<Sequence>,
    end: Sequence,
    epoch: Epoch,
) -> Result<Page, StoreError> {
    let oldest = store
        .log_bounds(at)?
        .map(|bounds| (bounds.first_lsn, bounds.first_sequence));
    let nothing = Page {
        events: Vec::new(),
        next: from.unwrap_or(end),
        epoch,
    };
    let start = match from {
        None => oldest,
        Some(sequence) if sequence >= end => None,
        Some(sequence) => match store.find_sequence(at, sequence) {
            Ok(lsn) => lsn.map(|lsn| (lsn, sequence)),
            Err(StoreError::Trimmed { .. }) => oldest,
            Err(error) => return Err(error),
        },
    };
    let Some((lsn, first)) = start else {
        return Ok(nothing);
    };
    let mut page = Page {
        events: Vec::new(),
        next: first,
        epoch,
    };
    let mut lsn = lsn;
    while page.events.is_empty() {
        let records = store.read_log(at, lsn, PAGE_BYTES)?;
        let Some(last) = records.last() else { break };
        lsn = last.lsn.next();
        for stored in records {
            let corrupt = |why: String| StoreError::Corrupt {
                partition: at,
                at: stored.lsn,
                why,
            };
            let (epoch, events) = events_of(&stored).map_err(corrupt)?;
            let wanted = events
                .into_iter()
                .filter(|(sequence, _)| *sequence >= first && *sequence < end)
                .map(|(sequence, event)| (sequence, epoch, event));
            page.events.extend(wanted);
        }
    }
    if let Some((last, ..)) = page.events.last() {
        page.next = Sequence(last.0 + 1);
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_again_by_its_body() {
        let id = EventId {
            device: 3,
            counter: 77,
            attempt: 2,
        };
        assert_eq!(event_of(body_of(id).as_bytes()), Some(id));
        assert_eq!(event_of(b"1:2"), None);
        assert_eq!(event_of(b"1:2:x"), None);
    }
}
