//! Reading events over HTTPS, routes of our own: Azure offers them over AMQP only.
//!
//! * `GET /messages/events/partitions` → `[{"partition","epoch","beginSequenceNumber","nextSequenceNumber","isEmpty"}]`
//! * `GET /messages/events/partitions/{p}?from=&epoch=&max=&wait=&consumerGroup=` → `{"events":[…],"next","epoch"}`. `from`
//!   is `earliest` (default), `latest`, `stored` (the consumer group's stored position, else the oldest), a sequence number,
//!   an ISO 8601 time, or an event's `offset` (goes on after that event). `epoch` belongs to a sequence number: who goes on
//!   with a page's `next` hands its `epoch` back, too. `max` is 1–1000 (default 100). `wait` is the time in milliseconds to
//!   wait for a first event (default 0; what exceeds 40 s is cut).
//!
//! A reader whose offset, stored position or `next` is of an epoch before a forced failover, and beyond where that one cut the
//! history off, is put back to there. The answer says so: `"rewound":{"from","to","epoch"}`, the position asked for, the one
//! the page begins at, and the epoch that began there. A bare sequence number beyond the end is treated likewise.
//!
//! An event is `{"partition","sequenceNumber","offset","enqueuedTime","deviceId","systemProperties","properties","body",
//! "bodyEncoding"}`. `body` is always a text: the bytes themselves when they are UTF-8 (`bodyEncoding` is `utf8`, whatever
//! the content type), else their base64 (`base64`). An offset carries the epoch in which it was read. Needs ServiceConnect.

use super::answer::json_of;
use super::auth::Right;
use super::call::Call;
use super::failure::Failure;
use super::offsets;
use super::rewind::{self, Rewound};
use super::route::Answer;
use crate::backend::{EventPage, From as Start, SendError};
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use hub::command::AuthMethod;
use hub::telemetry::StoredEvent;
use serde::Serialize;
use std::collections::BTreeMap;
use types::{Epoch, ErrorCode, PartitionId, Sequence, limits};
use wire::property_bag::{self, Properties};
use wire::timestamp;

const MAX_DEFAULT: u64 = 100;
/// Forced failovers that one request may meet.
const READS_MAX: usize = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partition {
    partition: PartitionId,
    epoch: Epoch,
    begin_sequence_number: Sequence,
    next_sequence_number: Sequence,
    is_empty: bool,
}

#[derive(Serialize)]
struct Page {
    events: Vec<Event>,
    next: Sequence,
    epoch: Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewound: Option<Rewound>,
}

/// Where to begin, and the epoch in which that was read, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    from: Start,
    epoch: Option<Epoch>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    partition: PartitionId,
    sequence_number: Sequence,
    offset: String,
    enqueued_time: String,
    device_id: String,
    system_properties: BTreeMap<String, Option<String>>,
    properties: BTreeMap<String, Option<String>>,
    body: String,
    body_encoding: &'static str,
}

/// Lists the hub's partitions with the range of events each keeps.
pub(super) async fn partitions(call: Call) -> Answer {
    check(&call)?;
    let described = try_join_all(
        call.partitions()
            .map(|partition| describe(&call, partition)),
    )
    .await?;
    Ok(json_of(&described))
}

async fn describe(call: &Call, partition: PartitionId) -> Result<Partition, Failure> {
    let read = |from| {
        call.api
            .backend
            .read_events(call.hub.settings.id, partition, from, 1, 0)
    };
    let oldest = read(Start::Earliest).await?;
    let end = read(Start::Latest).await?;
    let begin = oldest
        .events
        .first()
        .map_or(end.next, |event| event.sequence);
    Ok(Partition {
        partition,
        epoch: end.epoch,
        begin_sequence_number: begin,
        next_sequence_number: end.next,
        is_empty: oldest.events.is_empty(),
    })
}

/// Reads a page of one partition.
pub(super) async fn read(call: Call) -> Answer {
    check(&call)?;
    let partition = partition(&call, 3)?;
    let group = group(&call, call.query.get("consumerGroup").unwrap_or("$Default"))?;
    let max = call
        .query
        .number("max", 1..=limits::READ_EVENTS_MAX as u64, MAX_DEFAULT)? as usize;
    let wait_ms = call
        .query
        .number("wait", 0..=limits::READ_WAIT_MS_MAX, 0)?
        .min(limits::HTTP_READ_WAIT_MS_MAX);
    let begin = match call.query.get("from") {
        Some(text) if text.eq_ignore_ascii_case("stored") => {
            let stored = offsets::stored(&call, partition, group).await?;
            stored.map_or(Start::Earliest.into(), |offset| Begin {
                from: Start::Sequence(offset.next),
                epoch: Some(offset.epoch),
            })
        }
        text => begin(text.unwrap_or_default(), epoch(&call)?)?,
    };
    let (page, rewound) = read_from(&call, partition, begin, max, wait_ms).await?;
    let events = page
        .events
        .into_iter()
        .map(|event| render(partition, page.epoch, event))
        .collect();
    Ok(json_of(&Page {
        events,
        next: page.next,
        epoch: page.epoch,
        rewound,
    }))
}

/// Reads a page, from where a forced failover puts the reader.
async fn read_from(
    call: &Call,
    partition: PartitionId,
    begin: Begin,
    max: usize,
    wait_ms: u64,
) -> Result<(EventPage, Option<Rewound>), Failure> {
    let read = |from, wait_ms| {
        let backend = &call.api.backend;
        backend.read_events(call.hub.settings.id, partition, from, max, wait_ms)
    };
    let Start::Sequence(next) = begin.from else {
        return Ok((read(begin.from, wait_ms).await?, None));
    };
    let Some(epoch) = begin.epoch else {
        return read_bare(call, partition, next, max, wait_ms).await;
    };
    let mut hub = call.hub.clone();
    for _ in 0..READS_MAX {
        let rewound = rewind::of(&hub.divergences, partition, epoch, next);
        let from = rewound.map_or(next, |rewound| rewound.to);
        let page = read(Start::Sequence(from), wait_ms).await?;
        if page.epoch <= epoch.max(hub.divergences_until) {
            return Ok((page, rewound));
        }
        // The primary is in an epoch of which this region does not know yet how it began.
        hub = rewind::learn(call, page.epoch).await?;
        if rewind::of(&hub.divergences, partition, epoch, next) == rewound {
            return Ok((page, rewound));
        }
    }
    Err(SendError::FailingOver {
        retry_after_ms: 1_000,
    }
    .into())
}

/// Reads from a sequence number of an epoch that the reader does not name.
async fn read_bare(
    call: &Call,
    partition: PartitionId,
    next: Sequence,
    max: usize,
    wait_ms: u64,
) -> Result<(EventPage, Option<Rewound>), Failure> {
    let read = |from, wait_ms| {
        let backend = &call.api.backend;
        backend.read_events(call.hub.settings.id, partition, from, max, wait_ms)
    };
    let page = read(Start::Sequence(next), wait_ms).await?;
    let rewound = rewind::of_newest(&call.hub.divergences, partition, next);
    let Some(rewound) = rewound.filter(|_| page.events.is_empty()) else {
        return Ok((page, None));
    };
    if read(Start::Latest, 0).await?.next >= next {
        return Ok((page, None));
    }
    Ok((read(Start::Sequence(rewound.to), 0).await?, Some(rewound)))
}

fn check(call: &Call) -> Result<(), Failure> {
    if call.method != Method::GET {
        return Err(Failure::method_not_allowed("GET"));
    }
    call.authorize(Right::ServiceConnect)
}

/// The partition named by segment `index` of the path.
pub(super) fn partition(call: &Call, index: usize) -> Result<PartitionId, Failure> {
    let count = call.hub.settings.partition_count;
    let number = call
        .segment(index)
        .parse()
        .ok()
        .filter(|number| *number < count);
    number.map(PartitionId).ok_or_else(|| {
        Failure::new(
            ErrorCode::ArgumentInvalid,
            format!("The hub's partitions are 0 to {}.", count.saturating_sub(1)),
        )
    })
}

/// The hub's own spelling of a consumer group's name.
pub(super) fn group<'a>(call: &'a Call, name: &str) -> Result<&'a str, Failure> {
    let known = call
        .hub
        .settings
        .consumer_groups
        .iter()
        .find(|known| known.eq_ignore_ascii_case(name));
    known.map(String::as_str).ok_or_else(|| {
        Failure::new(
            ErrorCode::ConsumerGroupNotFound,
            "The hub has no consumer group of this name.",
        )
    })
}

impl std::convert::From<Start> for Begin {
    fn from(from: Start) -> Begin {
        Begin { from, epoch: None }
    }
}

/// The query's `epoch`.
fn epoch(call: &Call) -> Result<Option<Epoch>, Failure> {
    let given = call.query.get("epoch").is_some();
    let epoch = call.query.number("epoch", 0..=u64::MAX, 0)?;
    Ok(given.then_some(Epoch(epoch)))
}

fn begin(text: &str, epoch: Option<Epoch>) -> Result<Begin, Failure> {
    let read = || {
        if text.is_empty() || text.eq_ignore_ascii_case("earliest") {
            return Some(Start::Earliest.into());
        }
        if text.eq_ignore_ascii_case("latest") {
            return Some(Start::Latest.into());
        }
        if let Ok(sequence) = text.parse() {
            return Some(Begin {
                from: Start::Sequence(Sequence(sequence)),
                epoch,
            });
        }
        if let Some((epoch, after)) = offset(text) {
            return Some(Begin {
                from: Start::Sequence(Sequence(after.checked_add(1)?)),
                epoch: Some(epoch),
            });
        }
        timestamp::parse_iso(text).map(|time| Start::Time(time).into())
    };
    let text = "The query parameter from must be earliest, latest, stored, a sequence number, an offset or an ISO 8601 time.";
    read().ok_or_else(|| Failure::new(ErrorCode::ArgumentInvalid, text))
}

/// The parts of an offset, `{epoch}:{sequence}`.
fn offset(text: &str) -> Option<(Epoch, u64)> {
    let (epoch, sequence) = text.split_once(':')?;
    Some((Epoch(epoch.parse().ok()?), sequence.parse().ok()?))
}

fn render(partition: PartitionId, epoch: Epoch, event: StoredEvent) -> Event {
    let (mut system, application) = properties(&event);
    let mut set = |name: &str, value: String| system.insert(name.to_owned(), Some(value));
    // After what the device sent, so that it cannot pass for another.
    set("iothub-connection-device-id", event.device.to_string());
    set(
        "iothub-connection-auth-method",
        auth_method(event.auth_method).to_owned(),
    );
    set("iothub-connection-auth-generation-id", event.generation);
    set("iothub-enqueuedtime", timestamp::iso(event.enqueued));
    set("iothub-message-source", "Telemetry".to_owned());
    let (body, body_encoding) = match std::str::from_utf8(&event.body) {
        Ok(text) => (text.to_owned(), "utf8"),
        Err(_) => (STANDARD.encode(&event.body), "base64"),
    };
    Event {
        partition,
        sequence_number: event.sequence,
        offset: format!("{epoch}:{}", event.sequence),
        enqueued_time: timestamp::iso(event.enqueued),
        device_id: event.device.to_string(),
        system_properties: system,
        properties: application,
        body,
        body_encoding,
    }
}

type Map = BTreeMap<String, Option<String>>;

/// System properties by long name, and application properties.
fn properties(event: &StoredEvent) -> (Map, Map) {
    let parsed = std::str::from_utf8(&event.bag)
        .ok()
        .and_then(|bag| Properties::parse(bag).ok());
    let Some(parsed) = parsed else {
        // Bags are checked before they are stored. One bad event must not stop its readers: they get it as it is.
        tracing::error!(sequence = %event.sequence, "a stored event's properties cannot be read");
        let raw = String::from_utf8_lossy(&event.bag).into_owned();
        return (
            Map::from([("unreadable-properties".to_owned(), Some(raw))]),
            Map::new(),
        );
    };
    let long = |short: String| {
        property_bag::long_name(&short).map_or_else(|| format!("$.{short}"), str::to_owned)
    };
    let system = parsed
        .system
        .into_iter()
        .map(|(short, value)| (long(short), value))
        .collect();
    (system, parsed.application)
}

/// `iothub-connection-auth-method` (data-plane notes section 8.5).
fn auth_method(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::DeviceSas => {
            r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
        }
        AuthMethod::HubSas => {
            r#"{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
        }
        AuthMethod::Certificate => {
            r#"{"scope":"device","type":"x509","issuer":"external","acceptingIpFilterRule":null}"#
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::UnixMillis;

    #[test]
    fn every_form_of_a_start_is_understood() {
        let check = |text: &str, expected: Option<Start>| {
            let found = begin(text, Some(Epoch(9))).ok();
            assert_eq!(found.map(|begin| begin.from), expected, "{text}");
        };
        let epoch = |text| {
            begin(text, Some(Epoch(9)))
                .ok()
                .and_then(|begin| begin.epoch)
        };
        assert_eq!(epoch("17"), Some(Epoch(9)));
        assert_eq!(epoch("3:17"), Some(Epoch(3)), "an offset has its own");
        assert_eq!(epoch("latest"), None);
        check("", Some(Start::Earliest));
        check("EARLIEST", Some(Start::Earliest));
        check("latest", Some(Start::Latest));
        check("17", Some(Start::Sequence(Sequence(17))));
        check("3:17", Some(Start::Sequence(Sequence(18))));
        check("1970-01-01T00:00:01Z", Some(Start::Time(UnixMillis(1000))));
        for bad in [
            "x",
            "-1",
            "1:",
            ":1",
            "a:1",
            "1:2:3",
            "18446744073709551616",
            "1:18446744073709551615",
            "2026-13-01",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn a_device_cannot_pass_for_another() {
        let event = StoredEvent {
            sequence: Sequence(5),
            enqueued: UnixMillis(0),
            device: types::DeviceId::parse("d1").unwrap(),
            generation: "7".into(),
            auth_method: AuthMethod::DeviceSas,
            bag: "%24.cdid=other&%24.zzz=1&%24.ct=text%2Fplain&a=b&c".into(),
            body: vec![0xff, 0x00].into(),
        };
        let event = render(PartitionId(2), Epoch(3), event);
        assert_eq!(
            event.system_properties["iothub-connection-device-id"].as_deref(),
            Some("d1")
        );
        assert_eq!(
            event.system_properties["content-type"].as_deref(),
            Some("text/plain")
        );
        assert_eq!(event.system_properties["$.zzz"].as_deref(), Some("1"));
        assert_eq!(event.properties["a"].as_deref(), Some("b"));
        assert_eq!(event.properties["c"], None);
        assert_eq!(
            (
                event.body.as_str(),
                event.body_encoding,
                event.offset.as_str()
            ),
            ("/wA=", "base64", "3:5")
        );
    }
}
