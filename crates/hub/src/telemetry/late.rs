//! Events that a forced failover had lost and that come late: appended once, marked as what they are.

use crate::command::{LateEvent, TelemetryEvent};
use crate::{Decision, Refused, Reply, View, keys, stored};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{Epoch, ErrorCode, Reject, Sequence, limits};

/// `SEGMENT:EPOCH:SEQUENCE`: where the event was.
pub const SALVAGED: &str = "castling-salvaged";
/// ISO 8601: when it was enqueued first.
pub const ENQUEUED: &str = "castling-enqueued-time";

/// The last event of a segment that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Cursor {
    epoch: Epoch,
    sequence: Sequence,
}

/// # Errors
/// [`ErrorCode::ArgumentInvalid`] for a segment name or a number of events out of bounds, or events that are not in order.
pub(super) fn decide(
    view: &dyn View,
    segment: &str,
    events: &[LateEvent],
) -> Result<Decision, Refused> {
    let refuse = |why: &str| {
        Err(Refused::Reject(Reject::new(
            ErrorCode::ArgumentInvalid,
            why,
        )))
    };
    if segment.is_empty() || segment.len() > limits::SALVAGE_ID_BYTES_MAX {
        return refuse("a segment's name must have 1 to 128 bytes");
    }
    if events.len() > limits::LATE_EVENTS_MAX {
        return refuse("too many late events at once");
    }
    let size = |event: &LateEvent| event.message.bag.len() + event.message.body.len();
    if events.iter().map(size).sum::<usize>() > limits::LATE_BYTES_MAX {
        return refuse("the late events have too many bytes for one command");
    }
    for event in events {
        super::check_origin(&event.origin)?;
        super::check_size(&event.message)?;
    }
    let cursors = events.iter().map(cursor);
    if !cursors
        .clone()
        .zip(cursors.clone().skip(1))
        .all(|(one, two)| one < two)
    {
        return refuse("late events must come in order");
    }
    let key = keys::late(segment);
    let known = view
        .get(&key)?
        .map(|value| stored::decode::<Cursor>("replay cursor", &value))
        .transpose()?;
    let fresh: Vec<&LateEvent> = events
        .iter()
        .filter(|event| known.is_none_or(|known| cursor(event) > known))
        .collect();
    let mut decision = Decision::reply(Reply::Replayed {
        appended: fresh.len() as u64,
        skipped: (events.len() - fresh.len()) as u64,
    });
    if let Some(last) = fresh.last() {
        decision.writes.put(key, stored::encode(&cursor(last)));
    }
    let appended = fresh.into_iter().map(|event| TelemetryEvent {
        device: event.device.clone(),
        origin: Arc::new(event.origin.clone()),
        bag: marked(segment, event),
        body: event.message.body.clone(),
    });
    decision.writes.events.extend(appended);
    Ok(decision)
}

fn cursor(event: &LateEvent) -> Cursor {
    Cursor {
        epoch: event.epoch,
        sequence: event.sequence,
    }
}

/// The event's bag with the two marks behind it. Neither name nor value needs percent-encoding beyond the colons.
fn marked(segment: &str, event: &LateEvent) -> Bytes {
    let between = if event.message.bag.is_empty() {
        ""
    } else {
        "&"
    };
    let time = crate::time_text::iso(event.enqueued).replace(':', "%3A");
    let marks = format!(
        "{between}{SALVAGED}={segment}%3A{}%3A{}&{ENQUEUED}={time}",
        event.epoch, event.sequence
    );
    let mut bag = Vec::with_capacity(event.message.bag.len() + marks.len());
    bag.extend_from_slice(&event.message.bag);
    bag.extend_from_slice(marks.as_bytes());
    bag.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::c2d::world::World;
    use crate::command::{AuthMethod, EventOrigin, Message, TelemetryCommand};
    use types::{DeviceId, UnixMillis};

    fn event(sequence: u64) -> LateEvent {
        LateEvent {
            epoch: Epoch(3),
            sequence: Sequence(sequence),
            enqueued: UnixMillis(1_700_000_000_123),
            device: DeviceId::parse("gone").unwrap(),
            origin: EventOrigin {
                generation: "g".into(),
                auth_method: AuthMethod::DeviceSas,
            },
            message: Message {
                bag: Bytes::from_static(b"a=1"),
                body: Bytes::from(sequence.to_string()),
            },
        }
    }

    fn replay(world: &mut World, numbers: &[u64]) -> Result<(Reply, Vec<Bytes>), ErrorCode> {
        let decision = world.run(Command::Telemetry(TelemetryCommand::Late {
            segment: "h1-p0-e3-120".into(),
            events: numbers.iter().map(|n| event(*n)).collect(),
        }))?;
        let bodies = decision.writes.events.iter().map(|e| e.body.clone());
        Ok((decision.reply.clone(), bodies.collect()))
    }

    #[test]
    fn a_segment_is_appended_once_however_often_it_is_replayed() {
        let mut world = World::empty();
        let got = |appended, skipped| Reply::Replayed { appended, skipped };
        assert_eq!(replay(&mut world, &[5, 6]).unwrap().0, got(2, 0));
        assert_eq!(replay(&mut world, &[5, 6]).unwrap(), (got(0, 2), vec![]));
        let (reply, bodies) = replay(&mut world, &[6, 7, 9]).unwrap();
        assert_eq!((reply, bodies), (got(2, 1), vec!["7".into(), "9".into()]));
    }

    #[test]
    fn a_late_event_says_where_it_was_and_when() {
        let bag = marked("h1-p0-e3-120", &event(7));
        let parsed = pieces(std::str::from_utf8(&bag).unwrap());
        assert_eq!(parsed[0], ("a".into(), "1".into()));
        assert_eq!(parsed[1], (SALVAGED.into(), "h1-p0-e3-120:3:7".into()));
        assert_eq!(parsed[2].0, ENQUEUED);
        assert!(
            parsed[2].1.starts_with("2023-11-14T22:13:20.123"),
            "{parsed:?}"
        );
    }

    /// The pieces of a bag, with colons decoded.
    fn pieces(bag: &str) -> Vec<(String, String)> {
        let pieces = bag.split('&').map(|piece| piece.split_once('=').unwrap());
        pieces
            .map(|(name, value)| (name.into(), value.replace("%3A", ":")))
            .collect()
    }

    #[test]
    fn what_no_device_could_have_sent_is_refused() {
        let changes: [fn(&mut LateEvent); 2] = [
            |event| event.origin.generation = "g".repeat(256),
            |event| event.message.body = vec![0; limits::D2C_MESSAGE_BYTES_MAX].into(),
        ];
        for change in changes {
            let mut world = World::empty();
            let mut event = event(5);
            change(&mut event);
            let late = Command::Telemetry(TelemetryCommand::Late {
                segment: "s".into(),
                events: vec![event],
            });
            assert!(world.run(late).is_err());
        }
        let mut world = World::empty();
        let mut event = event(0);
        event.message.body = vec![0; limits::D2C_MESSAGE_BYTES_MAX - 100].into();
        let events = (0..20u64).map(|n| LateEvent {
            sequence: Sequence(n),
            ..event.clone()
        });
        let late = Command::Telemetry(TelemetryCommand::Late {
            segment: "s".into(),
            events: events.collect(),
        });
        assert_eq!(world.run(late).err(), Some(ErrorCode::ArgumentInvalid));
    }

    #[test]
    fn disorder_and_too_much_are_refused_and_change_nothing() {
        let mut world = World::empty();
        assert_eq!(replay(&mut world, &[6, 5]), Err(ErrorCode::ArgumentInvalid));
        assert_eq!(replay(&mut world, &[6, 6]), Err(ErrorCode::ArgumentInvalid));
        let many: Vec<u64> = (0..=limits::LATE_EVENTS_MAX as u64).collect();
        assert_eq!(replay(&mut world, &many), Err(ErrorCode::ArgumentInvalid));
        assert!(world.view.0.is_empty());
    }
}
