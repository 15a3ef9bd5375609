use super::*;
use crate::c2d::world::{World, device};
use crate::command::{IfMatch, RegistryCommand, SessionCommand};
use crate::{Command, ViewError};
use proptest::prelude::*;

fn sized(bag: usize, body: usize) -> Message {
    Message {
        bag: vec![b'a'; bag].into(),
        body: vec![b'b'; body].into(),
    }
}

fn send(connection: Option<u64>, generation: &str, messages: Vec<Message>) -> Command {
    let origin = Arc::new(EventOrigin {
        generation: generation.into(),
        auth_method: AuthMethod::DeviceSas,
    });
    Command::Telemetry(TelemetryCommand::Send {
        device: device("d1"),
        connection: connection.map(ConnectionId),
        origin,
        messages,
    })
}

fn generation(world: &mut World) -> String {
    match world
        .run(Command::Session(SessionCommand::Identity {
            device: device("d1"),
        }))
        .unwrap()
        .reply
    {
        Reply::Identity(identity) => identity.generation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_become_events_in_order() {
    let mut world = World::new();
    let generation = generation(&mut world);
    let decision = world
        .run(send(
            None,
            &generation,
            vec![sized(1, 1), sized(2, 2), sized(0, 0)],
        ))
        .unwrap();
    assert_eq!(decision.reply, Reply::Done);
    assert!(decision.writes.state.is_empty());
    let sizes: Vec<_> = decision
        .writes
        .events
        .iter()
        .map(|event| (event.bag.len(), event.body.len()))
        .collect();
    assert_eq!(sizes, [(1, 1), (2, 2), (0, 0)]);
    assert_eq!(
        decision.presence,
        [PresenceChange::Activity {
            device: device("d1"),
            at: world.now
        }]
    );
}

/// A view that fails every read.
struct Unreadable;

impl View for Unreadable {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, ViewError> {
        Err(ViewError("must not be read".into()))
    }

    fn scan(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        Err(ViewError("must not be read".into()))
    }
}

#[test]
fn the_present_connection_sends_without_a_read() {
    let mut world = World::empty();
    world.connect("d1", 7);
    let reads = |connection| {
        let decided = world.decide_in(&Unreadable, &send(connection, "1", vec![sized(1, 1)]));
        matches!(decided, Err(Refused::View(_)))
    };
    assert!(!reads(Some(7)));
    assert!(reads(Some(8)), "another connection is checked");
    assert!(reads(None), "a sender without a session is checked");
}

#[test]
fn unknown_disabled_and_replaced_devices_are_refused() {
    let mut world = World::empty();
    assert_eq!(
        world.run(send(None, "1", vec![])).err(),
        Some(ErrorCode::DeviceNotFound)
    );
    world.register("d1", "disabled");
    let old = generation(&mut world);
    assert_eq!(
        world.run(send(Some(3), &old, vec![sized(1, 1)])).err(),
        Some(ErrorCode::DeviceDisabled)
    );
    world
        .run(Command::Registry(RegistryCommand::Delete {
            device: device("d1"),
            if_match: IfMatch::Any,
        }))
        .unwrap();
    world.advance(1);
    world.register("d1", "enabled");
    assert_eq!(
        world.run(send(None, &old, vec![sized(1, 1)])).err(),
        Some(ErrorCode::IotHubUnauthorized)
    );
}

#[test]
fn a_message_over_256_kib_with_its_properties_refuses_the_whole_batch() {
    let mut world = World::empty();
    world.connect("d1", 7);
    let fits = sized(1024, limits::D2C_MESSAGE_BYTES_MAX - 1024);
    assert!(
        world
            .run(send(Some(7), "1", vec![fits.clone(), fits.clone()]))
            .is_ok()
    );
    let too_large = sized(1024, limits::D2C_MESSAGE_BYTES_MAX - 1023);
    assert_eq!(
        world.run(send(Some(7), "1", vec![fits, too_large])).err(),
        Some(ErrorCode::MessageTooLarge)
    );
}

#[test]
fn a_generation_that_no_event_can_hold_is_refused() {
    let mut world = World::empty();
    world.connect("d1", 7);
    assert!(
        world
            .run(send(Some(7), &"g".repeat(255), vec![sized(1, 1)]))
            .is_ok()
    );
    assert_eq!(
        world
            .run(send(Some(7), &"g".repeat(256), vec![sized(1, 1)]))
            .err(),
        Some(ErrorCode::ArgumentInvalid)
    );
}

fn event(
    id: &str,
    generation: &str,
    auth_method: AuthMethod,
    bag: &[u8],
    body: &[u8],
) -> TelemetryEvent {
    TelemetryEvent {
        device: device(id),
        origin: Arc::new(EventOrigin {
            generation: generation.into(),
            auth_method,
        }),
        bag: Bytes::copy_from_slice(bag),
        body: Bytes::copy_from_slice(body),
    }
}

fn encode(events: &[(TelemetryEvent, UnixMillis)]) -> Bytes {
    let mut out = Vec::new();
    events
        .iter()
        .for_each(|(event, enqueued)| append_event(&mut out, event, *enqueued));
    out.into()
}

fn expected(first: u64, events: &[(TelemetryEvent, UnixMillis)]) -> Vec<StoredEvent> {
    let stored = |(index, (event, enqueued)): (usize, &(TelemetryEvent, UnixMillis))| StoredEvent {
        sequence: Sequence(first + index as u64),
        enqueued: *enqueued,
        device: event.device.clone(),
        generation: event.origin.generation.clone(),
        auth_method: event.origin.auth_method,
        bag: event.bag.clone(),
        body: event.body.clone(),
    };
    events.iter().enumerate().map(stored).collect()
}

/// Two events written by format version 1; must open for ever.
const FIXTURE: &[u8] = &[
    1, 28, 0, 0, 0, // version, length
    0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00, // 1700000000000
    0, 2, 3, // device key, lengths of device and generation
    3, 0, 0, 0, // length of the bag
    b'd', b'1', b'6', b'3', b'8', b'a', b'=', b'b', 0xff, 0x00, b'{', b'}',
    b'.', // device, generation, bag, body
    1, 17, 0, 0, 0, //
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // -1
    2, 1, 0, // certificate
    0, 0, 0, 0, //
    b'x', b'!', // device, body
];

fn fixture_events() -> Vec<(TelemetryEvent, UnixMillis)> {
    vec![
        (
            event("d1", "638", AuthMethod::DeviceSas, b"a=b", b"\xff\x00{}."),
            UnixMillis(1_700_000_000_000),
        ),
        (
            event("x", "", AuthMethod::Certificate, b"", b"!"),
            UnixMillis(-1),
        ),
    ]
}

#[test]
fn version_1_events_open_for_ever() {
    let events = fixture_events();
    assert_eq!(
        decode_events(Sequence(40), 2, Bytes::from_static(FIXTURE)),
        Ok(expected(40, &events))
    );
    assert_eq!(encode(&events), FIXTURE);
}

#[test]
fn decoded_bodies_share_the_batch() {
    let bytes = Bytes::from_static(FIXTURE);
    let range = bytes.as_ptr_range();
    for event in decode_events(Sequence(0), 2, bytes).unwrap() {
        assert!(range.contains(&event.body.as_ptr()));
    }
}

#[test]
fn reading_can_start_inside_a_batch() {
    let all = expected(40, &fixture_events());
    for skip in 0..4u32 {
        let mut events = Events::new(Sequence(40), 2, Bytes::from_static(FIXTURE));
        events.skip_events(skip).unwrap();
        let rest: Vec<_> = events.map(Result::unwrap).collect();
        assert_eq!(rest, all[(skip as usize).min(2)..]);
    }
}

#[test]
fn damaged_batches_are_errors_that_name_the_event() {
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = FIXTURE.to_vec();
        change(&mut bytes);
        decode_events(Sequence(40), 2, bytes.into())
            .unwrap_err()
            .sequence
            .0
    };
    assert_eq!(damaged(&|bytes| bytes[0] = 2), 40, "version");
    assert_eq!(damaged(&|bytes| bytes[4] = 255), 40, "length");
    assert_eq!(damaged(&|bytes| bytes[13] = 3), 40, "authentication");
    assert_eq!(damaged(&|bytes| bytes[14] = 200), 40, "device length");
    assert_eq!(damaged(&|bytes| bytes[15] = 200), 40, "generation length");
    assert_eq!(damaged(&|bytes| bytes[19] = 1), 40, "bag length");
    assert_eq!(damaged(&|bytes| bytes[20] = b'/'), 40, "device id");
    assert_eq!(damaged(&|bytes| bytes[22] = 0xff), 40, "generation text");
    assert_eq!(damaged(&|bytes| bytes[33] = 9), 41, "version of the second");
    assert_eq!(
        damaged(&|bytes| bytes[34] = 14),
        41,
        "shorter than its header"
    );
    assert_eq!(
        damaged(&|bytes| bytes.truncate(FIXTURE.len() - 1)),
        41,
        "cut"
    );
    assert_eq!(damaged(&|bytes| bytes.push(1)), 42, "bytes left");
    assert_eq!(damaged(&|bytes| bytes.truncate(33)), 41, "an event too few");
}

#[test]
fn decoding_ends_after_an_error() {
    let mut events = Events::new(
        Sequence(u64::MAX),
        u32::MAX,
        Bytes::from_static(&FIXTURE[..40]),
    );
    assert!(events.next().unwrap().is_ok());
    assert!(events.next().unwrap().is_err());
    assert!(events.next().is_none());
    let mut skipped = Events::new(Sequence(0), 3, Bytes::from_static(FIXTURE));
    assert!(skipped.skip_events(3).is_err());
    assert!(skipped.next().is_none());
}

fn events() -> impl Strategy<Value = Vec<(TelemetryEvent, UnixMillis)>> {
    let method = prop_oneof![
        Just(AuthMethod::DeviceSas),
        Just(AuthMethod::HubSas),
        Just(AuthMethod::Certificate)
    ];
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let event = (
        "[a-zA-Z0-9:#%]{1,128}",
        ".{0,60}",
        method,
        bytes(),
        bytes(),
        any::<i64>(),
    )
        .prop_map(|(id, generation, method, bag, body, at)| {
            (event(&id, &generation, method, &bag, &body), UnixMillis(at))
        });
    proptest::collection::vec(event, 0..8)
}

proptest! {
    #[test]
    fn events_survive_storage(events in events(), first in 0..u64::MAX / 2) {
        let decoded = decode_events(Sequence(first), events.len() as u32, encode(&events));
        prop_assert_eq!(decoded, Ok(expected(first, &events)));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), count in any::<u32>(), first in any::<u64>()) {
        let _ = decode_events(Sequence(first), count, bytes.into());
    }

    #[test]
    fn flipped_bytes_never_panic(at in 0..FIXTURE.len(), to in any::<u8>(), count in 0..5u32) {
        let mut bytes = FIXTURE.to_vec();
        bytes[at] = to;
        let _ = decode_events(Sequence(0), count, bytes.into());
    }
}
