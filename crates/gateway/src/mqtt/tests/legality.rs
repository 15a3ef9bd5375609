//! Whatever comes, the session neither panics nor leaves its states: it is open or closed, and closes at most once for good.

use super::fake::device;
use crate::backend::{CallError, SendError};
use crate::mqtt::ask::Ask;
use crate::mqtt::end::{End, Refusal};
use crate::mqtt::mailbox::Desired;
use crate::mqtt::open::Opened;
use crate::mqtt::session::Session;
use crate::mqtt::work::{Action, Moment, Tick, Work};
use bytes::{Bytes, BytesMut};
use hub::Reply;
use hub::command::{C2dMessage, LockedMessage};
use proptest::prelude::*;
use rmqtt_codec::v3::{Codec, Packet};
use tokio_util::codec::Decoder;
use types::{ConnectionId, ErrorCode, Reject, UnixMillis, limits};

const CONNECT: &[u8] = b"\x10\x20\0\x04MQTT\x04\xc2\0\x3c\0\x02d1\0\x0cmyhub.net/d1\0\x02ab";

/// What happens to a session from outside.
#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    C2dWaiting,
    Desired(u64),
    Pass(u64),
    Hub(Mood),
}

/// How the hub answers from now on.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Well,
    Rejects,
    Broken,
    /// Answers of a kind that was not asked for: our own mistake, still no panic.
    Confused,
}

/// Plays the edge's part: performs actions in order and feeds nothing before they are done.
struct Edge {
    session: Session,
    work: Work,
    codec: Codec,
    now: Tick,
    mood: Mood,
    end: Option<End>,
    tokens: u64,
}

impl Edge {
    fn new() -> Self {
        Edge {
            session: Session::new(Tick(0)),
            work: Work::default(),
            codec: Codec::new(limits::MQTT_PACKET_BYTES_MAX as u32),
            now: Tick(0),
            mood: Mood::Well,
            end: None,
            tokens: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Bytes(bytes) => self.feed(&bytes),
            Step::C2dWaiting => self.session.c2d_waiting(self.now, &mut self.work),
            Step::Desired(version) => {
                self.session.desired_changed(
                    Desired {
                        version,
                        body: Bytes::from_static(b"{}"),
                    },
                    &mut self.work,
                );
            }
            Step::Pass(millis) => {
                self.now = self.now.plus(millis);
                self.session.tick(self.now, &mut self.work);
            }
            Step::Hub(mood) => self.mood = mood,
        }
        self.perform();
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut buffer = BytesMut::from(bytes);
        while self.end.is_none() {
            match self.codec.decode(&mut buffer) {
                Ok(Some((packet, length))) => {
                    self.session
                        .receive(packet, length, self.now, &mut self.work)
                }
                Ok(None) => break,
                Err(error) => self.session.undecodable(&error, &mut self.work),
            }
            if !self.work.may_gather() {
                self.perform();
            }
        }
    }

    fn perform(&mut self) {
        let mut turns = 0;
        while let Some(action) = self.work.actions.pop_front() {
            turns += 1;
            assert!(turns < 10_000, "the session never comes to rest");
            match action {
                Action::Authenticate(login) => {
                    assert_eq!(login.identity.device, device("d1"));
                    match self.mood {
                        Mood::Well => self.open(),
                        _ => self
                            .session
                            .refused(Refusal::ServerUnavailable, &mut self.work),
                    }
                }
                Action::Send(batch) => {
                    assert!(!batch.messages.is_empty() && batch.acks.len() <= batch.messages.len());
                    let result = self.answer(Reply::Done);
                    self.session.sent(&batch.acks, result, &mut self.work);
                }
                Action::Ask(ask) => {
                    let _ = ask.command(&device("d1"), ConnectionId(1));
                    let result = self.reply(&ask);
                    let now = Moment {
                        tick: self.now,
                        at: UnixMillis(0),
                    };
                    self.session.answered(*ask, result, now, &mut self.work);
                }
                Action::Close(end) => {
                    self.end = Some(end);
                    self.work.actions.clear();
                    let will = self.session.finish(end);
                    assert!(will.is_none() || end.publishes_will());
                }
            }
        }
    }

    fn open(&mut self) {
        let opened = Opened {
            connection: ConnectionId(1),
            present: false,
            subscriptions: vec![],
            desired_version: 0,
            valid_for_ms: 1 << 40,
        };
        self.session.opened(opened, self.now, &mut self.work);
    }

    fn reply(&mut self, ask: &Ask) -> Result<Reply, CallError> {
        self.tokens += 1;
        let reply = match ask {
            Ask::TwinGet { .. } => Reply::Json {
                body: Bytes::new(),
                etag: String::new(),
            },
            Ask::TwinPatch { .. } => Reply::ReportedVersion(1),
            Ask::Subscribe { filters, .. } => Reply::Subscribed {
                granted: filters.iter().map(|(_, qos)| *qos).collect(),
                desired_version: 0,
            },
            Ask::Unsubscribe { .. } | Ask::Complete { .. } | Ask::Reject { .. } => Reply::Done,
            // Half of what is asked for, so that locking comes to an end.
            Ask::Lock { max } => Reply::C2dMessages((0..max / 2).map(|_| self.message()).collect()),
        };
        self.answer(reply)
    }

    fn message(&self) -> LockedMessage {
        LockedMessage {
            lock_token: self.tokens.to_string(),
            sequence: 0,
            enqueued: UnixMillis(0),
            expiry: UnixMillis(0),
            delivery_count: 1,
            redelivered: self.tokens.is_multiple_of(2),
            message: C2dMessage::default(),
        }
    }

    fn answer(&self, reply: Reply) -> Result<Reply, CallError> {
        match self.mood {
            Mood::Well => Ok(reply),
            Mood::Rejects => Err(Reject::new(ErrorCode::ArgumentInvalid, "no").into()),
            Mood::Broken => Err(CallError::Send(SendError::OutcomeUnknown {
                why: "cut".into(),
            })),
            Mood::Confused => Ok(Reply::Purged { count: 0 }),
        }
    }

    /// Every byte written so far must be whole packets that a server may send.
    fn check_output(&mut self) {
        let mut codec = Codec::new(0);
        while let Some((packet, _)) = codec
            .decode(&mut self.work.out)
            .expect("we write what can be read")
        {
            assert!(
                matches!(
                    packet,
                    Packet::ConnectAck(_)
                        | Packet::Publish(_)
                        | Packet::PublishAck { .. }
                        | Packet::SubscribeAck { .. }
                        | Packet::UnsubscribeAck { .. }
                        | Packet::PingResponse
                ),
                "{packet:?}"
            );
        }
        assert!(self.work.out.is_empty(), "half a packet was written");
    }
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("devices/d1/messages/events/a=b".to_owned()),
        2 => Just("$iothub/twin/GET/?$rid=1".to_owned()),
        2 => Just("$iothub/twin/PATCH/properties/reported/?$rid=1".to_owned()),
        1 => Just("$iothub/methods/res/200/?$rid=1".to_owned()),
        1 => "[$/#+a-z?=&%]{0,30}",
    ]
}

fn filter() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("devices/d1/messages/devicebound/#".to_owned()),
        Just("$iothub/twin/res/#".to_owned()),
        Just("$iothub/twin/PATCH/properties/desired/#".to_owned()),
        Just("$iothub/methods/POST/#".to_owned()),
        "[$/#+a-z]{0,12}",
    ]
}

fn packet(first: u8, body: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let more = left >= 128;
        bytes.push((left % 128) as u8 | if more { 128 } else { 0 });
        left /= 128;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (topic(), 0..4u16, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(topic, id, retain, body)| {
            let ids = if id == 0 { vec![] } else { id.to_be_bytes().to_vec() };
            packet(0x30 | u8::from(retain) | if id == 0 { 0 } else { 2 }, [text(&topic), ids, body].concat())
        }),
        3 => (filter(), 0..3u8).prop_map(|(filter, qos)| packet(0x82, [vec![0, 1], text(&filter), vec![qos]].concat())),
        1 => filter().prop_map(|filter| packet(0xa2, [vec![0, 1], text(&filter)].concat())),
        3 => (1..20u16).prop_map(|id| packet(0x40, id.to_be_bytes().to_vec())),
        1 => Just(vec![0xc0, 0]),
        1 => Just(CONNECT.to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(some_packet(), 1..4).prop_map(|packets| Step::Bytes(packets.concat())),
        2 => Just(Step::C2dWaiting),
        1 => (0..20u64).prop_map(Step::Desired),
        1 => (0..60_000u64).prop_map(Step::Pass),
        1 => prop_oneof![Just(Mood::Well), Just(Mood::Well), Just(Mood::Rejects), Just(Mood::Broken), Just(Mood::Confused)].prop_map(Step::Hub),
    ]
}

fn run(first: &[u8], steps: Vec<Step>) {
    let mut edge = Edge::new();
    edge.step(Step::Bytes(first.to_vec()));
    for step in steps {
        if edge.end.is_some() {
            break;
        }
        edge.step(step);
        edge.check_output();
        if edge.end.is_none() && edge.session.is_open() {
            assert!(
                edge.session.deadline().is_some(),
                "an open session has a deadline"
            );
        }
    }
    assert!(edge.end.is_none() || !edge.session.is_open());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_packets_in_any_mood_end_legally(steps in proptest::collection::vec(step(), 0..30)) {
        run(CONNECT, steps);
    }

    #[test]
    fn any_bytes_end_legally(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        run(&bytes, vec![]);
        run(CONNECT, vec![Step::Bytes(bytes)]);
    }

    #[test]
    fn a_connect_with_any_byte_changed_ends_legally(at in 0..CONNECT.len(), byte: u8) {
        let mut connect = CONNECT.to_vec();
        connect[at] = byte;
        // Another device may be named then; that is the edge's affair.
        if connect.ends_with(b"ab") && connect.windows(2).filter(|pair| pair == b"d1").count() == 2 {
            run(&connect, vec![Step::Bytes(vec![0xc0, 0])]);
        }
    }
}

#[test]
fn the_connect_used_here_opens_a_session() {
    let mut edge = Edge::new();
    edge.step(Step::Bytes(CONNECT.to_vec()));
    assert!(edge.session.is_open());
    assert_eq!(&edge.work.out[..], b"\x20\x02\0\0");
}
