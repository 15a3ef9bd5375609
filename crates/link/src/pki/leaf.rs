//! Certificates with their keys, as loaded, and what is read back from them.

use super::{PkiError, REGION_DOMAIN, files};
use rcgen::{KeyPair, PublicKeyData};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};
use types::RegionName;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// A certificate chain, leaf first, with the key of the leaf.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    /// When the leaf certificate ends.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn not_after(&self) -> Result<SystemTime, PkiError> {
        let leaf = self
            .chain
            .first()
            .ok_or_else(|| PkiError::invalid("the chain", "it is empty"))?;
        Ok(Leaf::read(leaf)?.not_after)
    }

    /// Loads a certificate chain and its key, both PEM, such as another authority issued them.
    ///
    /// # Errors
    /// If others may read the key, or the two are unreadable or do not belong together.
    pub fn load(chain: &Path, key: &Path) -> Result<Identity, PkiError> {
        let key_bytes = files::read_private(key)?;
        Identity::from_pem(&chain.display(), &files::read(chain)?, &key_bytes)
    }

    pub(super) fn from_pem(
        what: &dyn fmt::Display,
        chain: &[u8],
        key: &[u8],
    ) -> Result<Identity, PkiError> {
        let invalid = |why: &dyn fmt::Display| PkiError::invalid(what, why);
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| invalid(&why))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|why| invalid(&why))?;
        let identity = Identity { chain, key };
        let signer = crate::tls::provider()
            .key_provider
            .load_private_key(identity.key.clone_key());
        let signer = signer.map_err(|why| invalid(&why))?;
        let read = Leaf::read(identity.leaf()?)?;
        match signer.public_key() {
            Some(public) if public.as_ref() == read.public_key => Ok(identity),
            Some(_) => Err(invalid(&"the key does not belong to the certificate")),
            None => Err(invalid(&"the kind of key is not supported")),
        }
    }

    pub(crate) fn leaf(&self) -> Result<&CertificateDer<'static>, PkiError> {
        let first = self.chain.first();
        first.ok_or_else(|| PkiError::invalid("the certificate chain", "it is empty"))
    }
}

/// Loads the authorities in a PEM file as roots.
///
/// # Errors
/// If the file cannot be read or holds no authority.
pub fn load_roots(path: &Path) -> Result<RootCertStore, PkiError> {
    let bytes = files::read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| PkiError::invalid(path.display(), why))?;
    if certificates.is_empty() {
        return Err(PkiError::invalid(path.display(), "it holds no certificate"));
    }
    roots_of(certificates)
}

/// The region that an already verified certificate names.
///
/// # Errors
/// If the certificate names no region, or more than one.
pub fn region_of(certificate: &CertificateDer<'_>) -> Result<RegionName, PkiError> {
    let read = Leaf::read(certificate)?;
    let invalid = |why: &str| PkiError::invalid("the region certificate", why);
    let mut names = read.names.iter();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(invalid(&format!(
            "it has {} names instead of one",
            read.names.len()
        )));
    };
    let region = name
        .strip_suffix(REGION_DOMAIN)
        .and_then(|rest| rest.strip_suffix('.'))
        .ok_or_else(|| invalid(&format!("{name:?} does not end in .{REGION_DOMAIN}")))?;
    match RegionName::parse(region) {
        Ok(parsed) if parsed.as_str() == region => Ok(parsed),
        _ => Err(invalid(&format!("{region:?} is not a region's name"))),
    }
}

/// What this crate looks at in a certificate.
pub(super) struct Leaf {
    pub names: BTreeSet<String>,
    pub common_name: Option<String>,
    pub issuer_common_name: Option<String>,
    /// The subject public key info, DER.
    pub public_key: Vec<u8>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Leaf {
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Leaf, PkiError> {
        let invalid = |why: &dyn fmt::Display| PkiError::invalid("the certificate", why);
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|why| invalid(&why))?;
        let mut names = BTreeSet::new();
        let alternative = parsed
            .subject_alternative_name()
            .map_err(|why| invalid(&why))?;
        for name in alternative
            .iter()
            .flat_map(|extension| &extension.value.general_names)
        {
            names.insert(text_of(name));
        }
        Ok(Leaf {
            names,
            common_name: common_name(parsed.subject()),
            issuer_common_name: common_name(parsed.issuer()),
            public_key: parsed.public_key().raw.to_vec(),
            not_before: instant(parsed.validity().not_before.timestamp()),
            not_after: instant(parsed.validity().not_after.timestamp()),
        })
    }
}

/// A name in the form in which certificates are compared: lower case, addresses in their shortest form.
pub(super) fn normalized(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

pub(super) fn first_certificate(
    what: &dyn fmt::Display,
    pem: &[u8],
) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem).map_err(|why| PkiError::invalid(what, why))
}

pub(super) fn roots_of(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|why| PkiError::invalid("the authority", why))?;
    }
    Ok(roots)
}

/// The subject public key info of a key pair, DER.
pub(super) fn public_key(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

fn text_of(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => name.to_ascii_lowercase(),
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => IpAddr::from(v4).to_string(),
                (_, Ok(v6)) => IpAddr::from(v6).to_string(),
                _ => "(an address of unknown length)".to_owned(),
            }
        }
        // Counted, so that a certificate with more than we issued never passes for ours.
        other => format!("({other})"),
    }
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    let first = name.iter_common_name().next()?;
    first.as_str().ok().map(str::to_owned)
}

fn instant(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}
