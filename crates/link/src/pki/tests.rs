use super::*;
use crate::tls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn region(name: &str) -> RegionName {
    RegionName::parse(name).unwrap()
}

fn authority(folder: &TempDir, purpose: Purpose) -> Authority {
    Authority::load_or_make(&folder.path().join("ca"), purpose, now()).unwrap()
}

fn made(purpose: Purpose) -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder, purpose);
    (folder, authority)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn verify_server(
    authority: &Authority,
    identity: &Identity,
    name: &str,
    at: SystemTime,
) -> Result<(), Error> {
    let roots = Arc::new(authority.roots().unwrap());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, tls::provider())
        .build()
        .unwrap();
    let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(&identity.chain[0], &[], &name, &[], at)
        .map(|_| ())
}

fn verify_client(authority: &Authority, identity: &Identity) -> Result<(), Error> {
    let roots = Arc::new(authority.roots().unwrap());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider())
        .build()
        .unwrap();
    let at = UnixTime::since_unix_epoch(now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier
        .verify_client_cert(&identity.chain[0], &[], at)
        .map(|_| ())
}

#[test]
fn an_authority_is_made_once_with_a_key_for_its_owner_only() {
    let (folder, first) = made(Purpose::Clients);
    let again = authority(&folder, Purpose::Clients);
    assert_eq!(first.certificate(), again.certificate());
    assert_eq!(mode(&folder.path().join("ca")), 0o700);
    assert_eq!(mode(&folder.path().join("ca/ca.key")), 0o600);
    assert!(
        first
            .certificate_pem()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    let loaded = load_roots(&folder.path().join("ca/ca.pem")).unwrap();
    assert_eq!(loaded.len(), 1);
}

#[test]
fn authorities_made_at_the_same_time_in_one_folder_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let certificates: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let make = || authority(&folder, Purpose::Regions).certificate().to_vec();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn an_exposed_foreign_or_missing_key_is_refused() {
    let load = |folder: &TempDir| {
        Authority::load_or_make(&folder.path().join("ca"), Purpose::Clients, now())
    };
    let (folder, _) = made(Purpose::Clients);
    let key = folder.path().join("ca/ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        load(&folder),
        Err(PkiError::Exposed { mode: 0o640, .. })
    ));

    let (other, _) = made(Purpose::Clients);
    fs::copy(other.path().join("ca/ca.key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(load(&folder), Err(PkiError::Invalid { .. })));

    fs::remove_file(&key).unwrap();
    assert!(
        matches!(load(&folder), Err(PkiError::Invalid { .. })),
        "never made anew silently"
    );
}

#[test]
fn an_authority_of_one_purpose_is_not_loaded_as_the_other_and_issues_nothing_of_the_other() {
    let (folder, clients) = made(Purpose::Clients);
    let loaded = Authority::load(&folder.path().join("ca"), Purpose::Regions);
    assert!(matches!(loaded, Err(PkiError::Invalid { .. })));
    let issued = clients.issue_region(&region("westus2"), now());
    assert!(matches!(
        issued,
        Err(PkiError::WrongAuthority {
            purpose: Purpose::Clients
        })
    ));
    let (_folder, regions) = made(Purpose::Regions);
    let issued = regions.issue_server(&names(&["localhost"]), now());
    assert!(matches!(
        issued,
        Err(PkiError::WrongAuthority {
            purpose: Purpose::Regions
        })
    ));
}

#[test]
fn server_certificates_hold_for_their_names_wildcards_and_addresses_and_397_days() {
    let (_folder, authority) = made(Purpose::Clients);
    let wanted = names(&["*.castling.localhost", "localhost", "127.0.0.1", "::1"]);
    let identity = authority.issue_server(&wanted, now()).unwrap();
    for good in ["hub1.castling.localhost", "localhost", "127.0.0.1", "::1"] {
        assert_eq!(
            verify_server(&authority, &identity, good, now()),
            Ok(()),
            "{good}"
        );
    }
    for bad in [
        "castling.localhost",
        "a.b.castling.localhost",
        "example.com",
        "127.0.0.2",
    ] {
        assert!(
            verify_server(&authority, &identity, bad, now()).is_err(),
            "{bad}"
        );
    }
    assert!(verify_server(&authority, &identity, "localhost", now() + 396 * DAY).is_ok());
    assert!(verify_server(&authority, &identity, "localhost", now() + 398 * DAY).is_err());
    assert!(
        verify_client(&authority, &identity).is_err(),
        "a server is no client"
    );
    assert!(authority.issue_server(&[], now()).is_err());
    assert!(authority.issue_server(&names(&["smörgås"]), now()).is_err());
}

#[test]
fn region_certificates_serve_both_ends_and_name_their_region() {
    let (_folder, authority) = made(Purpose::Regions);
    let identity = authority.issue_region(&region("westus2"), now()).unwrap();
    assert_eq!(region_of(&identity.chain[0]).unwrap(), region("westus2"));
    assert_eq!(
        verify_server(&authority, &identity, "westus2.region.castling", now()),
        Ok(())
    );
    assert!(verify_server(&authority, &identity, "eastus.region.castling", now()).is_err());
    assert_eq!(verify_client(&authority, &identity), Ok(()));
    let (_folder, stranger) = made(Purpose::Regions);
    let other = stranger.issue_region(&region("westus2"), now()).unwrap();
    assert!(
        verify_client(&authority, &other).is_err(),
        "another deployment's authority"
    );
}

#[test]
fn the_regions_authority_vouches_for_no_name_outside_its_domain() {
    let (_folder, authority) = made(Purpose::Regions);
    let identity = authority.issue_unchecked(&names(&["localhost"]), now());
    let error = verify_server(&authority, &identity, "localhost", now()).unwrap_err();
    let Error::InvalidCertificate(CertificateError::Other(why)) = error else {
        panic!("{error}");
    };
    assert!(why.to_string().contains("NameConstraint"), "{why}");
}

#[track_caller]
fn names_no_region(dns_names: &[&str]) {
    let (_folder, authority) = made(Purpose::Regions);
    let identity = authority.issue_unchecked(&names(dns_names), now());
    assert!(region_of(&identity.chain[0]).is_err(), "{dns_names:?}");
}

#[test]
fn a_certificate_without_exactly_one_region_names_none() {
    names_no_region(&["westus2.castling.localhost"]);
    names_no_region(&["region.castling"]);
    names_no_region(&["a.b.region.castling"]);
    names_no_region(&["westus2xregion.castling"]);
    names_no_region(&["a.region.castling", "b.region.castling"]);
    names_no_region(&["a.region.castling", "127.0.0.1"]);
    assert!(region_of(&b"no certificate".as_slice().into()).is_err());
}

/// Whether a stored certificate is still the same after the change.
#[track_caller]
fn kept(change: impl FnOnce(&Path) -> (Vec<String>, SystemTime)) -> bool {
    let (folder, authority) = made(Purpose::Clients);
    let leaves = folder.path().join("leaves");
    let wanted = names(&["localhost", "127.0.0.1"]);
    let first = authority
        .ensure_server(&leaves, "gateway", &wanted, now())
        .unwrap();
    assert_eq!(mode(&leaves.join("gateway.key")), 0o600);
    let (wanted, at) = change(&leaves);
    let second = authority
        .ensure_server(&leaves, "gateway", &wanted, at)
        .unwrap();
    let loaded = Identity::load(&leaves.join("gateway.pem"), &leaves.join("gateway.key")).unwrap();
    assert_eq!(
        loaded.chain, second.chain,
        "what was given is what is stored"
    );
    first.chain == second.chain
}

#[test]
fn a_stored_certificate_is_renewed_when_it_nears_its_end_or_its_names_change() {
    let same = || names(&["127.0.0.1", "LOCALHOST"]);
    assert!(kept(|_| (same(), now())));
    assert!(kept(|_| (same(), now() + 366 * DAY)));
    assert!(
        !kept(|_| (same(), now() + 368 * DAY)),
        "fewer than 30 days are left"
    );
    assert!(!kept(|_| (same(), now() - 2 * DAY)), "it is not valid yet");
    assert!(!kept(|_| (names(&["localhost"]), now())));
    assert!(!kept(|_| (
        names(&["localhost", "127.0.0.1", "::1"]),
        now()
    )));
}

#[test]
fn a_damaged_or_incomplete_certificate_is_replaced() {
    let same = || (names(&["localhost", "127.0.0.1"]), now());
    assert!(!kept(|leaves| {
        fs::write(leaves.join("gateway.pem"), "nonsense").unwrap();
        same()
    }));
    assert!(!kept(|leaves| {
        fs::remove_file(leaves.join("gateway.key")).unwrap();
        same()
    }));
    assert!(
        !kept(|leaves| {
            let (_folder, other) = made(Purpose::Clients);
            let elsewhere = leaves.join("elsewhere");
            other
                .ensure_server(&elsewhere, "gateway", &same().0, now())
                .unwrap();
            fs::copy(elsewhere.join("gateway.key"), leaves.join("gateway.key")).unwrap();
            same()
        }),
        "a key of another certificate"
    );
    assert!(
        !kept(|leaves| {
            let (_folder, other) = made(Purpose::Clients);
            let elsewhere = leaves.join("elsewhere");
            other
                .ensure_server(&elsewhere, "gateway", &same().0, now())
                .unwrap();
            for file in ["gateway.pem", "gateway.key"] {
                fs::copy(elsewhere.join(file), leaves.join(file)).unwrap();
            }
            same()
        }),
        "of another authority"
    );
}

#[test]
fn an_exposed_leaf_key_is_an_error_not_a_reason_to_renew() {
    let (folder, authority) = made(Purpose::Regions);
    let leaves = folder.path().join("leaves");
    authority
        .ensure_region(&leaves, &region("westus2"), now())
        .unwrap();
    let key = leaves.join("westus2.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let again = authority.ensure_region(&leaves, &region("westus2"), now());
    assert!(matches!(again, Err(PkiError::Exposed { mode: 0o644, .. })));
}
