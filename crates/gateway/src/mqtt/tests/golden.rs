//! Exchanges with the SDKs, byte for byte, against the session core: no socket, no clock, no hub.

use super::fake::device;
use crate::backend::CallError;
use crate::mqtt::end::{End, Refusal};
use crate::mqtt::mailbox::Desired;
use crate::mqtt::open::Opened;
use crate::mqtt::session::Session;
use crate::mqtt::work::{Action, Moment, Tick, Work};
use bytes::{Bytes, BytesMut};
use hub::command::*;
use hub::{Command, Reply};
use rmqtt_codec::v3::Codec;
use tokio_util::codec::Decoder;
use types::{ConnectionId, ErrorCode, Reject, UnixMillis};

const CONNECTION: ConnectionId = ConnectionId(7);

/// One line of a transcript.
enum Line {
    /// The client writes.
    In(Vec<u8>),
    /// The gateway writes.
    Out(Vec<u8>),
    /// The login is handed out and accepted, with these kept subscriptions.
    Accept(&'static [(&'static str, u8)]),
    Refuse(Refusal),
    /// The hub is asked exactly this and answers.
    Hub(Box<Command>, Result<Reply, CallError>),
    Telemetry(&'static [(&'static str, &'static str)]),
    C2dWaiting,
    Desired(u64, &'static str),
    /// Time passes, to this millisecond.
    At(u64),
    Closed(End),
}
use Line::*;

/// Plays a transcript; every byte and every question must be as written.
fn play(lines: impl IntoIterator<Item = Line>) {
    let mut stage = Stage::new();
    for (number, line) in lines.into_iter().enumerate() {
        stage.play(number, line);
    }
    assert!(
        stage.work.actions.is_empty(),
        "not performed: {:?}",
        stage.work.actions
    );
    assert!(
        stage.work.out.is_empty(),
        "not expected: {}",
        stage.work.out.escape_ascii()
    );
}

struct Stage {
    session: Session,
    work: Work,
    codec: Codec,
    now: Tick,
}

impl Stage {
    fn new() -> Self {
        Stage {
            session: Session::new(Tick(0)),
            work: Work::default(),
            codec: Codec::new(0),
            now: Tick(0),
        }
    }

    fn play(&mut self, number: usize, line: Line) {
        let Stage {
            session, work, now, ..
        } = self;
        match line {
            In(bytes) => self.feed(&bytes),
            Out(bytes) => {
                let got = work.out.split_to(bytes.len().min(work.out.len()));
                assert_eq!(
                    got.escape_ascii().to_string(),
                    bytes.escape_ascii().to_string(),
                    "line {number}"
                );
            }
            Accept(kept) => {
                let Some(Action::Authenticate(login)) = work.actions.pop_front() else {
                    panic!("line {number}")
                };
                assert_eq!(login.identity.device, device("d1"));
                let subscriptions: Vec<_> = kept
                    .iter()
                    .map(|(filter, qos)| ((*filter).to_owned(), *qos))
                    .collect();
                let present = !kept.is_empty();
                let opened = Opened {
                    connection: CONNECTION,
                    present,
                    subscriptions,
                    desired_version: 3,
                    valid_for_ms: 3_600_000,
                };
                session.opened(opened, *now, work);
            }
            Refuse(refusal) => {
                assert!(
                    matches!(work.actions.pop_front(), Some(Action::Authenticate(_))),
                    "line {number}"
                );
                session.refused(refusal, work);
            }
            Hub(command, answer) => {
                let Some(Action::Ask(ask)) = work.actions.pop_front() else {
                    panic!("line {number}: nothing asked")
                };
                assert_eq!(
                    ask.command(&device("d1"), CONNECTION),
                    *command,
                    "line {number}"
                );
                session.answered(
                    *ask,
                    answer,
                    Moment {
                        tick: *now,
                        at: UnixMillis(1_700_000_000_000),
                    },
                    work,
                );
            }
            Telemetry(expected) => {
                let Some(Action::Send(batch)) = work.actions.pop_front() else {
                    panic!("line {number}: nothing sent")
                };
                let message = |(bag, body): &(&str, &str)| Message {
                    bag: Bytes::from(bag.to_string()),
                    body: Bytes::from(body.to_string()),
                };
                assert_eq!(
                    batch.messages,
                    expected.iter().map(message).collect::<Vec<_>>(),
                    "line {number}"
                );
                session.sent(&batch.acks, Ok(Reply::Done), work);
            }
            C2dWaiting => session.c2d_waiting(*now, work),
            Line::Desired(version, body) => session.desired_changed(
                Desired {
                    version,
                    body: body.into(),
                },
                work,
            ),
            At(tick) => {
                *now = Tick(tick);
                session.tick(*now, work);
            }
            Closed(end) => match work.actions.pop_front() {
                Some(Action::Close(got)) => assert_eq!(got, end, "line {number}"),
                other => panic!("line {number}: {other:?}"),
            },
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut buffer = BytesMut::from(bytes);
        loop {
            match self.codec.decode(&mut buffer) {
                Ok(Some((packet, length))) => {
                    self.session
                        .receive(packet, length, self.now, &mut self.work)
                }
                Ok(None) => break,
                Err(error) => return self.session.undecodable(&error, &mut self.work),
            }
        }
        assert!(
            buffer.is_empty(),
            "a transcript holds whole packets: {}",
            buffer.escape_ascii()
        );
    }
}

/// A piece of a packet.
enum Part {
    /// A text with its length before it.
    T(&'static str),
    /// A packet id.
    N(u16),
    /// Bytes as they are.
    R(&'static [u8]),
}
use Part::*;

/// A packet: first byte, remaining length, pieces.
fn packet<const PIECES: usize>(first: u8, parts: [Part; PIECES]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        match part {
            T(text) => {
                body.extend((text.len() as u16).to_be_bytes());
                body.extend(text.as_bytes());
            }
            N(number) => body.extend(number.to_be_bytes()),
            R(bytes) => body.extend(bytes),
        }
    }
    let mut bytes = vec![first];
    let mut left = body.len();
    while left >= 128 {
        bytes.push((left % 128) as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
    bytes.extend(body);
    bytes
}

/// The hub is asked and answers.
fn hub(command: Command, answer: Result<Reply, CallError>) -> Line {
    Hub(Box::new(command), answer)
}

fn client<const PIECES: usize>(first: u8, parts: [Part; PIECES]) -> Line {
    In(packet(first, parts))
}

fn gateway<const PIECES: usize>(first: u8, parts: [Part; PIECES]) -> Line {
    Out(packet(first, parts))
}

/// paho through azure-iot-device: clean session 0, keep-alive 60.
fn py_connect() -> Line {
    let user =
        "myhub.net/d1/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0";
    client(
        0x10,
        [
            T("MQTT"),
            R(b"\x04\xc2\0\x3c"),
            T("d1"),
            T(user),
            T("SharedAccessSignature sr=myhub.net%2Fdevices%2Fd1&sig=x&se=1"),
        ],
    )
}

fn accepted() -> [Line; 3] {
    [py_connect(), Accept(&[]), gateway(0x20, [R(b"\0\0")])]
}

fn after_connect(lines: impl IntoIterator<Item = Line>) {
    play(accepted().into_iter().chain(lines));
}

fn kept(filters: &'static [(&'static str, u8)], lines: impl IntoIterator<Item = Line>) {
    play(
        [py_connect(), Accept(filters), gateway(0x20, [R(b"\x01\0")])]
            .into_iter()
            .chain(lines),
    );
}

fn subscribe(filter: &str, qos: u8, desired_version: u64) -> Line {
    let filters = vec![(filter.to_owned(), qos)];
    hub(
        Command::Session(SessionCommand::Subscribe {
            device: device("d1"),
            filters,
        }),
        Ok(Reply::Subscribed {
            granted: vec![qos],
            desired_version,
        }),
    )
}

fn lock(max: usize, tokens: &[(&str, bool)]) -> Line {
    let message = |(token, redelivered): &(&str, bool)| LockedMessage {
        lock_token: (*token).into(),
        sequence: 1,
        enqueued: UnixMillis(0),
        expiry: UnixMillis(0),
        delivery_count: 1,
        redelivered: *redelivered,
        message: C2dMessage {
            message_id: "m".into(),
            body: Bytes::from_static(b"hi"),
            ..C2dMessage::default()
        },
    };
    let owner = LockOwner::Connection(CONNECTION);
    hub(
        Command::C2d(C2dCommand::Lock {
            device: device("d1"),
            max,
            owner,
            lock_ms: 60_000,
        }),
        Ok(Reply::C2dMessages(tokens.iter().map(message).collect())),
    )
}

fn complete(token: &str, answer: Result<Reply, CallError>) -> Line {
    hub(
        Command::C2d(C2dCommand::Complete {
            device: device("d1"),
            lock_token: token.into(),
        }),
        answer,
    )
}

const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
const DEVICEBOUND: &str =
    "devices/d1/messages/devicebound/%24.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound&%24.mid=m";

#[test]
fn telemetry_of_the_python_sdk() {
    after_connect([
        client(
            0x32,
            [
                T("devices/d1/messages/events/%24.mid=1&a=b"),
                N(1),
                R(b"hello world"),
            ],
        ),
        client(0x32, [T("devices/d1/messages/events/"), N(2), R(b"two")]),
        Telemetry(&[("%24.mid=1&a=b", "hello world"), ("", "two")]),
        Out(b"\x40\x02\0\x01\x40\x02\0\x02".to_vec()),
        In(PINGREQ.to_vec()),
        Out(PINGRESP.to_vec()),
        client(0xe0, []),
        Closed(End::Disconnected),
    ]);
}

#[test]
fn telemetry_of_the_node_sdk_sent_again_after_a_reconnect() {
    after_connect([
        client(
            0x3b,
            [T("devices/d1/messages/events/$.mid=1/"), N(9), R(b"again")],
        ),
        Telemetry(&[("$.mid=1&mqtt-retain=true&mqtt-dup=true", "again")]),
        gateway(0x40, [N(9)]),
    ]);
}

#[test]
fn twin_get_and_patch_of_the_python_sdk() {
    let get = Command::Twin(TwinCommand::DeviceGet {
        device: device("d1"),
    });
    let patch = TwinCommand::PatchReported {
        device: device("d1"),
        body: Bytes::from_static(b"{\"t\":1}"),
        base: None,
    };
    after_connect([
        client(0x82, [N(1), T("$iothub/twin/res/#"), R(b"\x01")]),
        subscribe("$iothub/twin/res/#", 1, 3),
        gateway(0x90, [N(1), R(b"\x01")]),
        client(0x32, [T("$iothub/twin/GET/?$rid=a-1b"), N(2), R(b" ")]),
        hub(
            get,
            Ok(Reply::Json {
                body: Bytes::from_static(b"{}"),
                etag: String::new(),
            }),
        ),
        gateway(0x40, [N(2)]),
        gateway(0x30, [T("$iothub/twin/res/200/?$rid=a-1b"), R(b"{}")]),
        client(
            0x32,
            [
                T("$iothub/twin/PATCH/properties/reported/?$rid=2"),
                N(3),
                R(b"{\"t\":1}"),
            ],
        ),
        hub(Command::Twin(patch), Ok(Reply::ReportedVersion(9))),
        gateway(0x40, [N(3)]),
        gateway(0x30, [T("$iothub/twin/res/204/?$rid=2&$version=9")]),
    ]);
}

#[test]
fn a_twin_refusal_carries_an_error_code_for_the_node_sdk() {
    let patch = TwinCommand::PatchReported {
        device: device("d1"),
        body: Bytes::from_static(b"{"),
        base: Some(4),
    };
    let body = b"{\"errorCode\":400004,\"trackingId\":\"00000000000000070000000000000001\",\"message\":\"no JSON\",\
        \"timestampUtc\":\"2023-11-14T22:13:20.000Z\"}";
    kept(
        &[("$iothub/twin/res/#", 0)],
        [
            client(
                0x30,
                [
                    T("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=4"),
                    R(b"{"),
                ],
            ),
            hub(
                Command::Twin(patch),
                Err(Reject::new(ErrorCode::ArgumentInvalid, "no JSON").into()),
            ),
            gateway(0x30, [T("$iothub/twin/res/400/?$rid=2"), R(body)]),
        ],
    );
}

#[test]
fn desired_notifications_never_go_back() {
    kept(
        &[("$iothub/twin/PATCH/properties/desired/#", 1)],
        [
            Line::Desired(3, "{}"),
            Line::Desired(5, "{\"$version\":5}"),
            gateway(
                0x30,
                [
                    T("$iothub/twin/PATCH/properties/desired/?$version=5"),
                    R(b"{\"$version\":5}"),
                ],
            ),
            Line::Desired(4, "{}"),
        ],
    );
}

#[test]
fn kept_messages_are_delivered_on_connect_and_completed_by_puback() {
    let lost = Err(Reject::new(ErrorCode::DeviceMessageLockLost, "too late").into());
    kept(
        &[("devices/d1/messages/devicebound/#", 1)],
        [
            lock(16, &[("t1", false), ("t2", true)]),
            gateway(0x32, [T(DEVICEBOUND), N(1), R(b"hi")]),
            gateway(0x3a, [T(DEVICEBOUND), N(2), R(b"hi")]),
            client(0x40, [N(1)]),
            client(0x40, [N(1)]),
            client(0x40, [N(2)]),
            complete("t1", Ok(Reply::Done)),
            complete("t2", lost),
            C2dWaiting,
            C2dWaiting,
            lock(16, &[]),
        ],
    );
}

#[test]
fn at_qos_0_messages_are_completed_once_written() {
    kept(
        &[("devices/d1/messages/devicebound/#", 0)],
        [
            lock(16, &[("t1", false)]),
            gateway(0x30, [T(DEVICEBOUND), R(b"hi")]),
            complete("t1", Ok(Reply::Done)),
        ],
    );
}

#[test]
fn slots_of_lapsed_locks_are_free_again() {
    let full: Vec<_> = (0..16).map(|_| ("t", false)).collect();
    let mut stage = Stage::new();
    for line in [
        py_connect(),
        Accept(&[("devices/d1/messages/devicebound/#", 1)]),
        lock(16, &full),
    ] {
        stage.play(0, line);
    }
    stage.work.out.clear();
    stage.play(1, At(59_999));
    stage.play(2, C2dWaiting);
    assert!(stage.work.actions.is_empty(), "no slot is free yet");
    stage.play(3, At(60_000));
    stage.play(4, C2dWaiting);
    stage.play(5, lock(16, &[]));
}

#[test]
fn refusals_answer_with_their_code() {
    for refusal in [Refusal::NotAuthorized, Refusal::ServerUnavailable] {
        let connack = Out(vec![0x20, 2, 0, refusal as u8]);
        play([
            py_connect(),
            Refuse(refusal),
            connack,
            Closed(End::Refused(refusal)),
        ]);
    }
    let refused_at_once = |connect, refusal| {
        play([
            connect,
            Out(vec![0x20, 2, 0, refusal as u8]),
            Closed(End::Refused(refusal)),
        ]);
    };
    let mqtt5 = client(0x10, [T("MQTT"), R(b"\x05\x02\0\x3c\0\0\0")]);
    refused_at_once(mqtt5, Refusal::ProtocolVersion);
    let mqtt31 = client(0x10, [T("MQIsdp"), R(b"\x03\x02\0\x3c"), T("d1")]);
    refused_at_once(mqtt31, Refusal::ProtocolVersion);
    let no_client_id = client(0x10, [T("MQTT"), R(b"\x04\0\0\x3c"), T("")]);
    refused_at_once(no_client_id, Refusal::ClientId);
}

#[test]
fn rules_that_the_codec_does_not_check_close_the_connection() {
    let broken = |line, rule| after_connect([line, Closed(End::Protocol(rule))]);
    let foreign = "PUBLISH to a topic that is not the device's own";
    broken(
        client(0x38, [T("devices/d1/messages/events/")]),
        "PUBLISH has DUP at QoS 0",
    );
    broken(
        client(0x34, [T("devices/d1/messages/events/"), N(1)]),
        "PUBLISH at QoS 2 is not supported",
    );
    broken(client(0x30, [T("devices/d1/messages/events/\0")]), foreign);
    broken(client(0x30, [T("devices/d1/messages/events/#")]), foreign);
    broken(client(0x30, [T("devices/+/messages/events/")]), foreign);
    broken(client(0xc0, [R(b"x")]), "PINGREQ has a body");
    broken(client(0xe0, [R(b"x")]), "DISCONNECT has a body");
    broken(
        client(0x62, [N(1)]),
        "a packet of QoS 2, which is not supported",
    );
    let filter = "SUBSCRIBE to a filter that is not the device's own";
    broken(client(0x82, [N(1), T("a/#/b"), R(b"\0")]), filter);
    broken(client(0x82, [N(1), T("#"), R(b"\0")]), filter);
    broken(
        client(0xa2, [N(1), T("a/#/b")]),
        "UNSUBSCRIBE of a malformed filter",
    );
    broken(py_connect(), "a second CONNECT");
    play([
        client(0xc0, []),
        Closed(End::Protocol("the first packet is not CONNECT")),
    ]);
    play([
        client(
            0x10,
            [T("MQTT"), R(b"\x04\x42\0\x3c"), T("d1"), T("password")],
        ),
        Closed(End::Protocol("CONNECT has a password but no user name")),
    ]);
}

#[test]
fn silence_ends_the_session_after_one_and_a_half_keep_alives() {
    after_connect([
        At(89_999),
        In(PINGREQ.to_vec()),
        Out(PINGRESP.to_vec()),
        At(179_998),
        At(179_999),
        Closed(End::KeepAlive),
    ]);
    play([At(29_999), At(30_000), Closed(End::ConnectTimeout)]);
}

#[test]
fn a_lapsed_token_ends_the_session() {
    let mut stage = Stage::new();
    for line in accepted() {
        stage.play(0, line);
    }
    for at in (0..3_600_000).step_by(60_000) {
        stage.play(1, At(at));
        stage.play(1, In(PINGREQ.to_vec()));
        stage.play(1, Out(PINGRESP.to_vec()));
    }
    stage.play(2, At(3_600_000));
    stage.play(3, Closed(End::TokenLapsed));
}
