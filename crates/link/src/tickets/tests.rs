use super::*;
use crate::pki::{Authority, Purpose};
use crate::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

const DAY_1: u64 = 20_000;

fn tickets(secret: u8, day: u64) -> SharedTickets {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(day * DAY_S + 17);
    SharedTickets::new(&[secret; 32], Box::new(move || now))
}

fn opens(sealed_on: u64, opened_on: u64) -> bool {
    let ticket = tickets(1, sealed_on).encrypt(b"state").unwrap();
    match tickets(1, opened_on).decrypt(&ticket) {
        Some(state) => {
            assert_eq!(state, b"state");
            true
        }
        None => false,
    }
}

#[test]
fn a_ticket_is_accepted_on_its_day_and_on_the_days_around_it() {
    assert!(opens(DAY_1, DAY_1));
    assert!(opens(DAY_1, DAY_1 + 1), "the day after");
    assert!(opens(DAY_1, DAY_1 - 1), "by a region whose clock is behind");
    assert!(!opens(DAY_1, DAY_1 + 2));
    assert!(!opens(DAY_1, DAY_1 - 2));
}

#[test]
fn keys_follow_a_clock_that_goes_on() {
    let day = Arc::new(AtomicU64::new(DAY_1));
    let read = day.clone();
    let clock =
        move || SystemTime::UNIX_EPOCH + Duration::from_secs(read.load(Ordering::Relaxed) * DAY_S);
    let tickets = SharedTickets::new(&[1; 32], Box::new(clock));
    let ticket = tickets.encrypt(b"state").unwrap();
    day.store(DAY_1 + 1, Ordering::Relaxed);
    assert!(tickets.decrypt(&ticket).is_some());
    day.store(DAY_1 + 2, Ordering::Relaxed);
    assert!(tickets.decrypt(&ticket).is_none());
}

#[test]
fn every_changed_or_missing_byte_makes_a_ticket_worthless() {
    let tickets = tickets(1, DAY_1);
    let ticket = tickets.encrypt(b"state").unwrap();
    for place in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[place] ^= 1;
        assert!(tickets.decrypt(&changed).is_none(), "byte {place}");
        assert!(
            tickets.decrypt(&ticket[..place]).is_none(),
            "cut at {place}"
        );
    }
}

#[test]
fn another_secret_opens_nothing() {
    let ticket = tickets(1, DAY_1).encrypt(b"state").unwrap();
    assert!(tickets(2, DAY_1).decrypt(&ticket).is_none());
}

fn server(authority: &Authority, secret: u8) -> Arc<ServerConfig> {
    let identity = authority
        .issue_server(&["localhost".to_owned()], SystemTime::now())
        .unwrap();
    let tickets = SharedTickets::with_system_clock(&[secret; 32]);
    tls::server_config(&identity, tickets, &[], None).unwrap()
}

fn client(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(authority.roots().unwrap())
        .with_no_client_auth();
    Arc::new(config)
}

/// Joins a client and a server in memory; gives the kind of handshake they had.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        to_server(&mut client, &mut server);
        to_client(&mut server, &mut client);
    }
    // A byte after the handshake brings the ticket along.
    server.writer().write_all(b"x").unwrap();
    to_client(&mut server, &mut client);
    client.reader().read_exact(&mut [0]).unwrap();
    server.handshake_kind().unwrap()
}

fn to_server(client: &mut ClientConnection, server: &mut ServerConnection) {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        server.read_tls(&mut rest).unwrap();
        server.process_new_packets().unwrap();
    }
}

fn to_client(server: &mut ServerConnection, client: &mut ClientConnection) {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets().unwrap();
    }
}

#[test]
fn a_session_resumes_at_another_region_with_the_same_secret_only() {
    let folder = tempfile::tempdir().unwrap();
    let authority =
        Authority::load_or_make(folder.path(), Purpose::Clients, SystemTime::now()).unwrap();
    let (here, there, stranger) = (
        server(&authority, 1),
        server(&authority, 1),
        server(&authority, 2),
    );
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = client(&authority, version);
        assert_eq!(
            handshake(&here, &client),
            HandshakeKind::Full,
            "{version:?} first"
        );
        assert_eq!(
            handshake(&there, &client),
            HandshakeKind::Resumed,
            "{version:?} elsewhere"
        );
        assert_eq!(
            handshake(&stranger, &client),
            HandshakeKind::Full,
            "{version:?} other secret"
        );
    }
}
