//! The rules of data-plane notes sections 3.1, 3.2 and 10.2, one claim each.

use super::Session;
use crate::command::{C2dCommand, DeviceKeys, IfMatch, LockOwner, SessionCommand, TwinCommand};
use crate::decision::{CloseReason, PresenceChange};
use crate::testing::{Partition, id, presence};
use crate::{Command, Decision, Effect, Refused, Reply, keys, stored};
use bytes::Bytes;
use types::{ConnectionId, ErrorCode, RegionName, UnixMillis, limits};

const C2D: &str = "devices/d1/messages/devicebound/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";

fn generation(partition: &mut Partition) -> String {
    partition.get("d1").unwrap()["generationId"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn open_as(
    partition: &mut Partition,
    generation: String,
    connection: u64,
    clean: bool,
) -> Result<Decision, ErrorCode> {
    partition.session(SessionCommand::Open {
        device: id("d1"),
        generation,
        connection: ConnectionId(connection),
        gateway: RegionName::parse("westus2").unwrap(),
        since: UnixMillis(connection as i64),
        clean,
    })
}

fn open(partition: &mut Partition, connection: u64, clean: bool) -> Decision {
    let generation = generation(partition);
    open_as(partition, generation, connection, clean).unwrap()
}

/// (present, subscriptions)
fn opened(decision: &Decision) -> (bool, Vec<(String, u8)>) {
    match &decision.reply {
        Reply::SessionOpened {
            present,
            subscriptions,
            ..
        } => (*present, subscriptions.clone()),
        other => panic!("{other:?}"),
    }
}

fn subscribe(partition: &mut Partition, filters: &[(&str, u8)]) -> Result<Decision, ErrorCode> {
    let filters = filters
        .iter()
        .map(|(filter, qos)| (filter.to_string(), *qos))
        .collect();
    partition.session(SessionCommand::Subscribe {
        device: id("d1"),
        filters,
    })
}

fn unsubscribe(partition: &mut Partition, filter: &str) -> Decision {
    partition
        .session(SessionCommand::Unsubscribe {
            device: id("d1"),
            filters: vec![filter.into()],
        })
        .unwrap()
}

fn close_effect(connection: u64, why: CloseReason) -> Effect {
    Effect::Close {
        device: id("d1"),
        connection: ConnectionId(connection),
        why,
    }
}

fn waiting() -> Effect {
    Effect::C2dWaiting { device: id("d1") }
}

/// A session as version 1 stores it. These texts must be readable for ever: never change them.
const VERSION_1: &[u8] =
    b"\x01{\"filters\":[[\"$iothub/twin/res/#\",0],[\"devices/d1/messages/devicebound/#\",1]]}";
const VERSION_1_CLEAN: &[u8] = b"\x01{\"clean\":true,\"filters\":[]}";

#[test]
fn sessions_stored_by_version_1_open_for_ever() {
    for text in [VERSION_1, VERSION_1_CLEAN] {
        let session: Session = stored::decode("subscriptions", text).unwrap();
        assert_eq!(
            stored::encode(&session),
            text,
            "today's form is still version 1"
        );
    }
    let session: Session = stored::decode("subscriptions", VERSION_1).unwrap();
    assert_eq!(
        session.filters,
        [("$iothub/twin/res/#".to_owned(), 0), (C2D.to_owned(), 1)]
    );
    assert!(!session.clean);
}

#[test]
fn authentication_gets_keys_generation_and_status() {
    let mut partition = Partition::with(&["d1"]);
    let shown = partition.get("d1").unwrap();
    let reply = partition
        .session(SessionCommand::Identity { device: id("d1") })
        .unwrap()
        .reply;
    let Reply::Identity(identity) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (identity.generation.as_str(), identity.enabled),
        (shown["generationId"].as_str().unwrap(), true)
    );
    let DeviceKeys::Sas { primary, .. } = identity.keys else {
        panic!("not sas")
    };
    assert_eq!(
        primary,
        shown["authentication"]["symmetricKey"]["primaryKey"]
    );
    let missing = partition.session(SessionCommand::Identity { device: id("d2") });
    assert_eq!(missing.unwrap_err(), ErrorCode::DeviceNotFound);
}

#[test]
fn opening_is_refused_when_the_identity_changed_since_authentication() {
    let mut partition = Partition::with(&["d1"]);
    let old = generation(&mut partition);
    partition.delete("d1", IfMatch::Any).unwrap();
    assert_eq!(
        open_as(&mut partition, old.clone(), 1, false).unwrap_err(),
        ErrorCode::DeviceNotFound
    );
    partition
        .put("d1", r#"{"status":"disabled"}"#, IfMatch::Absent)
        .unwrap();
    assert_eq!(
        open_as(&mut partition, old, 1, false).unwrap_err(),
        ErrorCode::IotHubUnauthorized
    );
    let new = generation(&mut partition);
    assert_eq!(
        open_as(&mut partition, new, 1, false).unwrap_err(),
        ErrorCode::DeviceDisabled
    );
    assert!(partition.present.is_empty());
}

#[test]
fn opening_connects_and_writes_nothing_when_nothing_changes() {
    let mut partition = Partition::with(&["d1"]);
    let decision = open(&mut partition, 1, false);
    assert!(decision.writes.is_empty() && decision.effects.is_empty());
    assert_eq!(opened(&decision), (false, Vec::new()));
    assert_eq!(partition.present[&id("d1")], presence(1, 1));
    subscribe(&mut partition, &[(C2D, 1), (DESIRED, 0)]).unwrap();
    let decision = open(&mut partition, 2, false);
    assert!(decision.writes.is_empty());
    assert_eq!(
        opened(&decision),
        (true, vec![(C2D.into(), 1), (DESIRED.into(), 0)])
    );
}

#[test]
fn a_newer_connection_takes_over_and_a_repeated_open_does_not_close_itself() {
    let mut partition = Partition::with(&["d1"]);
    open(&mut partition, 1, false);
    let decision = open(&mut partition, 2, false);
    assert_eq!(decision.effects, [close_effect(1, CloseReason::TakenOver)]);
    assert_eq!(partition.present[&id("d1")].connection, ConnectionId(2));
    assert_eq!(open(&mut partition, 2, false).effects, []);
}

#[test]
fn closing_an_older_connection_leaves_the_newer_one() {
    let mut partition = Partition::with(&["d1"]);
    open(&mut partition, 2, false);
    for (connection, left) in [(1, true), (2, false)] {
        let close = SessionCommand::Close {
            device: id("d1"),
            connection: ConnectionId(connection),
        };
        let decision = partition.session(close).unwrap();
        assert_eq!(
            (decision.reply, decision.writes.is_empty()),
            (Reply::Done, true)
        );
        assert_eq!(partition.present.contains_key(&id("d1")), left);
    }
    partition
        .session(SessionCommand::Close {
            device: id("gone"),
            connection: ConnectionId(1),
        })
        .unwrap();
}

#[test]
fn a_clean_session_finds_and_leaves_nothing() {
    let mut partition = Partition::with(&["d1"]);
    open(&mut partition, 1, false);
    subscribe(&mut partition, &[(C2D, 1)]).unwrap();
    assert_eq!(opened(&open(&mut partition, 2, true)), (false, Vec::new()));
    subscribe(&mut partition, &[(DESIRED, 1)]).unwrap();
    assert_eq!(opened(&open(&mut partition, 3, true)), (false, Vec::new()));
    assert!(
        open(&mut partition, 4, true).writes.is_empty(),
        "a second clean session changes nothing"
    );
    subscribe(&mut partition, &[(DESIRED, 1)]).unwrap();
    assert_eq!(
        opened(&open(&mut partition, 5, false)),
        (false, Vec::new()),
        "[MQTT-3.1.2-6]"
    );
    assert_eq!(partition.letters_of("d1"), "d");
}

#[test]
fn subscribing_again_writes_nothing_and_qos_2_is_granted_as_1() {
    let mut partition = Partition::with(&["d1"]);
    let decision = subscribe(&mut partition, &[(DESIRED, 2), (C2D, 0)]).unwrap();
    assert!(!decision.writes.is_empty());
    assert_eq!(
        decision.reply,
        Reply::Subscribed {
            granted: vec![1, 0],
            desired_version: 1
        }
    );
    let decision = subscribe(&mut partition, &[(C2D, 0), (DESIRED, 1)]).unwrap();
    assert!(decision.writes.is_empty());
    assert!(
        !subscribe(&mut partition, &[(C2D, 1)])
            .unwrap()
            .writes
            .is_empty(),
        "another QoS is a change"
    );
    assert_eq!(
        opened(&open(&mut partition, 1, false)).1,
        [(DESIRED.to_owned(), 1), (C2D.to_owned(), 1)]
    );
    let missing = SessionCommand::Subscribe {
        device: id("d2"),
        filters: vec![(C2D.into(), 1)],
    };
    assert_eq!(
        partition.session(missing).unwrap_err(),
        ErrorCode::DeviceNotFound
    );
}

#[test]
fn kept_subscriptions_are_bounded() {
    let mut partition = Partition::with(&["d1"]);
    let filters: Vec<String> = (0..=limits::MQTT_SUBSCRIPTIONS_MAX)
        .map(|n| format!("f/{n}"))
        .collect();
    let pairs: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    assert_eq!(
        subscribe(&mut partition, &pairs).unwrap_err(),
        ErrorCode::ArgumentInvalid
    );
    subscribe(&mut partition, &pairs[1..]).unwrap();
    subscribe(&mut partition, &pairs[1..]).unwrap();
    assert_eq!(
        subscribe(&mut partition, &pairs[..1]).unwrap_err(),
        ErrorCode::ArgumentInvalid
    );
    unsubscribe(&mut partition, pairs[1].0);
    subscribe(&mut partition, &pairs[..1]).unwrap();
    let long = "x".repeat(limits::MQTT_FILTER_BYTES_MAX + 1);
    assert_eq!(
        subscribe(&mut partition, &[(&long, 1)]).unwrap_err(),
        ErrorCode::ArgumentInvalid
    );
}

#[test]
fn unsubscribing_removes_and_a_session_without_subscriptions_is_still_kept() {
    let mut partition = Partition::with(&["d1"]);
    assert!(unsubscribe(&mut partition, C2D).writes.is_empty());
    subscribe(&mut partition, &[(C2D, 1)]).unwrap();
    assert!(unsubscribe(&mut partition, DESIRED).writes.is_empty());
    assert!(!unsubscribe(&mut partition, C2D).writes.is_empty());
    assert_eq!(opened(&open(&mut partition, 1, false)), (true, Vec::new()));
}

#[test]
fn waiting_messages_are_announced_to_whoever_can_receive_them() {
    let mut partition = Partition::with(&["d1"]);
    assert_eq!(subscribe(&mut partition, &[(C2D, 1)]).unwrap().effects, []);
    partition.send_c2d("d1");
    assert_eq!(
        subscribe(&mut partition, &[(DESIRED, 1)]).unwrap().effects,
        []
    );
    assert_eq!(
        subscribe(&mut partition, &[(C2D, 1)]).unwrap().effects,
        [waiting()]
    );
    assert_eq!(open(&mut partition, 1, false).effects, [waiting()]);
    assert_eq!(
        open(&mut partition, 2, false).effects,
        [close_effect(1, CloseReason::TakenOver), waiting()]
    );
    unsubscribe(&mut partition, C2D);
    assert_eq!(open(&mut partition, 2, false).effects, []);
}

#[test]
fn messages_a_closed_connection_held_are_announced_to_the_one_that_took_over() {
    let mut partition = Partition::with(&["d1"]);
    open(&mut partition, 1, false);
    partition.send_c2d("d1");
    let owner = LockOwner::Connection(ConnectionId(1));
    let lock = C2dCommand::Lock {
        device: id("d1"),
        max: 1,
        owner,
        lock_ms: 60_000,
    };
    partition.run(Command::C2d(lock)).unwrap();
    open(&mut partition, 2, false);
    let close = SessionCommand::Close {
        device: id("d1"),
        connection: ConnectionId(1),
    };
    assert_eq!(partition.session(close).unwrap().effects, [waiting()]);
}

#[test]
fn versions_of_desired_properties_are_told_at_the_beginning() {
    let mut partition = Partition::with(&["d1"]);
    let body = r#"{"properties":{"desired":{"a":1}}}"#.into();
    partition
        .twin(TwinCommand::Patch {
            device: id("d1"),
            body,
            if_match: IfMatch::Absent,
        })
        .unwrap();
    let reply = open(&mut partition, 1, false).reply;
    assert!(
        matches!(
            reply,
            Reply::SessionOpened {
                desired_version: 2,
                ..
            }
        ),
        "{reply:?}"
    );
    let reply = subscribe(&mut partition, &[(DESIRED, 1)]).unwrap().reply;
    assert!(
        matches!(
            reply,
            Reply::Subscribed {
                desired_version: 2,
                ..
            }
        ),
        "{reply:?}"
    );
}

fn restate(
    partition: &mut Partition,
    connection: u64,
    since: i64,
    c2d: bool,
    desired_seen: Option<u64>,
) -> Decision {
    let restate = SessionCommand::Restate {
        device: id("d1"),
        connection: ConnectionId(connection),
        gateway: RegionName::parse("westus2").unwrap(),
        since: UnixMillis(since),
        c2d,
        desired_seen,
    };
    let decision = partition.session(restate).unwrap();
    assert!(decision.writes.is_empty());
    assert_eq!(decision.reply, Reply::Done);
    decision
}

#[test]
fn of_restated_connections_the_newest_wins_in_any_order() {
    for order in [
        [(1, 10), (2, 20), (3, 20)],
        [(3, 20), (1, 10), (2, 20)],
        [(2, 20), (3, 20), (1, 10)],
    ] {
        let mut partition = Partition::with(&["d1"]);
        let mut closed = Vec::new();
        for (connection, since) in order {
            closed.extend(restate(&mut partition, connection, since, false, None).effects);
        }
        assert_eq!(partition.present[&id("d1")], presence(3, 20));
        closed.sort_by_key(|effect| format!("{effect:?}"));
        assert_eq!(
            closed,
            [
                close_effect(1, CloseReason::TakenOver),
                close_effect(2, CloseReason::TakenOver)
            ]
        );
        assert_eq!(restate(&mut partition, 3, 20, false, None).effects, []);
    }
}

#[test]
fn a_restated_connection_of_a_device_that_is_gone_or_disabled_is_closed() {
    let mut partition = Partition::new();
    assert_eq!(
        restate(&mut partition, 1, 1, true, Some(1)).effects,
        [close_effect(1, CloseReason::Deleted)]
    );
    partition
        .put("d1", r#"{"status":"disabled"}"#, IfMatch::Absent)
        .unwrap();
    assert_eq!(
        restate(&mut partition, 1, 1, true, Some(1)).effects,
        [close_effect(1, CloseReason::Disabled)]
    );
    assert!(partition.present.is_empty());
}

#[test]
fn a_restated_connection_catches_up_with_what_it_missed() {
    let mut partition = Partition::with(&["d1"]);
    assert_eq!(restate(&mut partition, 1, 1, true, Some(1)).effects, []);
    partition.send_c2d("d1");
    let body = r#"{"properties":{"desired":{"a":1,"b":{"c":null}}}}"#.into();
    partition
        .twin(TwinCommand::Patch {
            device: id("d1"),
            body,
            if_match: IfMatch::Absent,
        })
        .unwrap();
    let body: Bytes = r#"{"a":1,"b":{},"$version":2}"#.into();
    let changed = Effect::DesiredChanged {
        device: id("d1"),
        version: 2,
        body,
    };
    assert_eq!(
        restate(&mut partition, 1, 1, true, Some(1)).effects,
        [waiting(), changed.clone()]
    );
    assert_eq!(restate(&mut partition, 1, 1, false, Some(2)).effects, []);
    assert_eq!(restate(&mut partition, 1, 1, false, None).effects, []);
    assert_eq!(
        restate(&mut partition, 1, 1, false, Some(9)).effects,
        [changed],
        "version 9 was lost in a failover"
    );
}

#[test]
fn refused_restating_changes_nobodys_presence() {
    let mut partition = Partition::with(&["d1"]);
    open(&mut partition, 9, false);
    let decision = restate(&mut partition, 1, 1, true, Some(0));
    assert_eq!(decision.effects, [close_effect(1, CloseReason::TakenOver)]);
    assert_eq!(decision.presence, Vec::<PresenceChange>::new());
}

#[test]
fn subscriptions_that_cannot_be_read_are_an_error_and_no_answer() {
    let mut partition = Partition::with(&["d1"]);
    partition.view.0.insert(
        keys::subscriptions(&id("d1")).into(),
        Bytes::from_static(b"\x02{}"),
    );
    let unsubscribe = SessionCommand::Unsubscribe {
        device: id("d1"),
        filters: Vec::new(),
    };
    let refused = partition.decide(&Command::Session(unsubscribe));
    assert!(
        matches!(&refused, Err(Refused::View(error)) if error.0.contains("version 2")),
        "{refused:?}"
    );
}
