//! A private certificate authority in a folder: `ca.pem` for everybody, `ca.key` for nobody else.

use super::files::{self, Readers};
use super::leaf::{self, Identity, Leaf};
use super::{PkiError, REGION_DOMAIN, region_dns_name};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use types::RegionName;

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_DAYS: u32 = 3652;
/// Ours; the longest that browsers accept from a public authority is 398 days.
const LEAF_DAYS: u32 = 397;
const RENEW_DAYS: u32 = 30;
/// Certificates begin this much early, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// What an authority vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Servers that devices, services and operators meet.
    Clients,
    /// Regions among themselves.
    Regions,
}

impl Purpose {
    pub(super) fn title(self) -> &'static str {
        match self {
            Purpose::Clients => "Castling clients CA",
            Purpose::Regions => "Castling regions CA",
        }
    }
}

/// A private certificate authority (P-256, ten years).
pub struct Authority {
    purpose: Purpose,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Loads the authority in `folder`, or makes it there. Two processes that make it at the same time end up with one.
    ///
    /// # Errors
    /// If others may read `ca.key`, the files do not belong together or are of the other purpose, or the disk refuses.
    pub fn load_or_make(
        folder: &Path,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Authority, PkiError> {
        files::private_folder(folder)?;
        let (key_path, pem_path) = (folder.join("ca.key"), folder.join("ca.pem"));
        if !files::exists(&key_path)? {
            if files::exists(&pem_path)? {
                return Err(PkiError::invalid(
                    pem_path.display(),
                    "ca.key beside it is missing",
                ));
            }
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            files::create(&key_path, key.serialize_pem().as_bytes(), Readers::Owner)?;
        }
        if !files::exists(&pem_path)? {
            let key = read_key(&key_path)?;
            let certificate = parameters(purpose, &key, now)?.self_signed(&key)?;
            files::create(&pem_path, certificate.pem().as_bytes(), Readers::Everybody)?;
        }
        Authority::load(folder, purpose)
    }

    /// Loads the authority in `folder`.
    ///
    /// # Errors
    /// As [`Authority::load_or_make`], and if there is none.
    pub fn load(folder: &Path, purpose: Purpose) -> Result<Authority, PkiError> {
        files::private_folder(folder)?;
        let key = read_key(&folder.join("ca.key"))?;
        let path = folder.join("ca.pem");
        let bytes = files::read(&path)?;
        let invalid = |why: &str| PkiError::invalid(path.display(), why);
        let pem = String::from_utf8(bytes).map_err(|_| invalid("it is not text"))?;
        let certificate = leaf::first_certificate(&path.display(), pem.as_bytes())?;
        let read = Leaf::read(&certificate)?;
        if read.public_key != leaf::public_key(&key) {
            return Err(invalid("ca.key is not its key"));
        }
        if read.common_name.as_deref() != Some(&common_name(purpose, &key)) {
            return Err(invalid(&format!("it is not a {}", purpose.title())));
        }
        // The validity does not matter to an issuer.
        let parameters = parameters(purpose, &key, SystemTime::UNIX_EPOCH + 2 * DAY)?;
        Ok(Authority {
            purpose,
            issuer: Issuer::new(parameters, key),
            certificate,
            pem,
        })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate as users put it in their trust stores.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// A root store with this authority alone.
    ///
    /// # Errors
    /// If the certificate cannot serve as a root.
    pub fn roots(&self) -> Result<RootCertStore, PkiError> {
        leaf::roots_of([self.certificate.clone()])
    }

    /// Issues a server certificate for DNS names (`*.castling.localhost`) and IP addresses.
    ///
    /// # Errors
    /// If this is the regions' authority, no name is given, or one cannot stand in a certificate.
    pub fn issue_server(&self, names: &[String], now: SystemTime) -> Result<Identity, PkiError> {
        self.require(Purpose::Clients)?;
        Ok(self
            .issue(names, &[ExtendedKeyUsagePurpose::ServerAuth], now)?
            .0)
    }

    /// Issues the certificate with which a region dials and accepts links.
    ///
    /// # Errors
    /// If this is the clients' authority, or the region's name cannot stand in a certificate.
    pub fn issue_region(&self, region: &RegionName, now: SystemTime) -> Result<Identity, PkiError> {
        self.require(Purpose::Regions)?;
        Ok(self
            .issue(&[region_dns_name(region)], &REGION_USAGES, now)?
            .0)
    }

    /// Loads `STEM.pem` and `STEM.key` from `folder`, and issues them anew if they are missing, do not fit, are not
    /// for exactly these names, or end within 30 days.
    ///
    /// # Errors
    /// As [`Authority::issue_server`], if others may read the key, or the disk refuses.
    pub fn ensure_server(
        &self,
        folder: &Path,
        stem: &str,
        names: &[String],
        now: SystemTime,
    ) -> Result<Identity, PkiError> {
        self.require(Purpose::Clients)?;
        self.ensure(
            folder,
            stem,
            names,
            &[ExtendedKeyUsagePurpose::ServerAuth],
            now,
        )
    }

    /// Loads or issues `REGION.pem` and `REGION.key` in `folder`, like [`Authority::ensure_server`].
    ///
    /// # Errors
    /// As [`Authority::issue_region`], if others may read the key, or the disk refuses.
    pub fn ensure_region(
        &self,
        folder: &Path,
        region: &RegionName,
        now: SystemTime,
    ) -> Result<Identity, PkiError> {
        self.ensure_region_as(folder, region.as_str(), region, now)
    }

    /// As [`Authority::ensure_region`], in files of another stem.
    ///
    /// # Errors
    /// As [`Authority::ensure_region`].
    pub fn ensure_region_as(
        &self,
        folder: &Path,
        stem: &str,
        region: &RegionName,
        now: SystemTime,
    ) -> Result<Identity, PkiError> {
        self.require(Purpose::Regions)?;
        let names = [region_dns_name(region)];
        self.ensure(folder, stem, &names, &REGION_USAGES, now)
    }

    fn require(&self, purpose: Purpose) -> Result<(), PkiError> {
        if self.purpose == purpose {
            return Ok(());
        }
        Err(PkiError::WrongAuthority {
            purpose: self.purpose,
        })
    }

    fn ensure(
        &self,
        folder: &Path,
        stem: &str,
        names: &[String],
        usages: &[ExtendedKeyUsagePurpose],
        now: SystemTime,
    ) -> Result<Identity, PkiError> {
        files::private_folder(folder)?;
        let (pem_path, key_path) = (
            folder.join(format!("{stem}.pem")),
            folder.join(format!("{stem}.key")),
        );
        if files::exists(&pem_path)? && files::exists(&key_path)? {
            // Read before the certificate is judged: an exposed key is an error, not a reason to renew silently.
            let key = files::read_private(&key_path)?;
            let stored = Identity::from_pem(&pem_path.display(), &files::read(&pem_path)?, &key);
            match stored.and_then(|stored| Ok((self.fits(&stored, names, now)?, stored))) {
                Ok((true, stored)) => return Ok(stored),
                Ok((false, _)) => {
                    tracing::info!(path = %pem_path.display(), "renewing the certificate")
                }
                Err(why) => {
                    tracing::warn!(path = %pem_path.display(), %why, "replacing the certificate");
                }
            }
        }
        let (identity, pem, key) = self.issue(names, usages, now)?;
        files::replace(&key_path, key.as_bytes(), Readers::Owner)?;
        files::replace(&pem_path, pem.as_bytes(), Readers::Everybody)?;
        Ok(identity)
    }

    /// Whether a stored certificate is ours, for these names, and lasts another 30 days.
    fn fits(&self, stored: &Identity, names: &[String], now: SystemTime) -> Result<bool, PkiError> {
        let read = Leaf::read(stored.leaf()?)?;
        let wanted: BTreeSet<String> = names.iter().map(|name| leaf::normalized(name)).collect();
        let ours = Leaf::read(&self.certificate)?.common_name == read.issuer_common_name;
        Ok(ours
            && read.names == wanted
            && read.not_before <= now
            && read.not_after >= now + RENEW_DAYS * DAY)
    }

    fn issue(
        &self,
        names: &[String],
        usages: &[ExtendedKeyUsagePurpose],
        now: SystemTime,
    ) -> Result<(Identity, String, String), PkiError> {
        let Some(first) = names.first() else {
            return Err(PkiError::invalid(
                "a certificate without names",
                "nothing would match it",
            ));
        };
        let names: Vec<String> = names.iter().map(|name| leaf::normalized(name)).collect();
        let mut params = CertificateParams::new(names)?;
        // RFC 5280 bounds common names to 64 characters; the names that count are the alternative ones.
        params.distinguished_name = Default::default();
        params.distinguished_name.push(
            DnType::CommonName,
            first.chars().take(64).collect::<String>(),
        );
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from(now + LEAF_DAYS * DAY);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let identity = Identity {
            chain: vec![certificate.der().clone()],
            key: der,
        };
        Ok((identity, certificate.pem(), key.serialize_pem()))
    }
}

#[cfg(test)]
impl Authority {
    /// A certificate for any names, for tests of what happens to wrong ones.
    pub(crate) fn issue_unchecked(&self, names: &[String], now: SystemTime) -> Identity {
        self.issue(names, &REGION_USAGES, now).unwrap().0
    }
}

const REGION_USAGES: [ExtendedKeyUsagePurpose; 2] = [
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

fn read_key(path: &Path) -> Result<KeyPair, PkiError> {
    let bytes = files::read_private(path)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| PkiError::invalid(path.display(), "it is not text"))?;
    KeyPair::from_pem(&text).map_err(|why| PkiError::invalid(path.display(), why))
}

fn parameters(
    purpose: Purpose,
    key: &KeyPair,
    now: SystemTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = Default::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(purpose, key));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now + AUTHORITY_DAYS * DAY);
    if purpose == Purpose::Regions {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(REGION_DOMAIN.to_owned())],
            excluded_subtrees: Vec::new(),
        });
    }
    Ok(params)
}

/// The subject, with a fingerprint of the key: a trust store that holds authorities of several deployments keeps them apart,
/// and a leaf tells which key signed it.
fn common_name(purpose: Purpose, key: &KeyPair) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &leaf::public_key(key));
    let hex: String = digest
        .as_ref()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} {hex}", purpose.title())
}
