//! The private PKI of a deployment: two certificate authorities and what they issue.
//!
//! One authority vouches for what clients meet (gateways, management), another for regions among themselves. They share no
//! key, and the regions' authority is constrained to names under `region.castling`, so a certificate that a client holds can
//! never act as a region.

mod authority;
mod files;
mod leaf;

pub use authority::{Authority, Purpose};
pub use files::ensure_secret;
pub use leaf::{Identity, load_roots, region_of};

use std::path::PathBuf;
use std::{fmt, io};
use types::RegionName;

/// Ending of the names in region certificates: `westus2.region.castling`.
const REGION_DOMAIN: &str = "region.castling";

/// The name by which a region's certificate is known: `REGION.region.castling`.
pub fn region_dns_name(region: &RegionName) -> String {
    format!("{region}.{REGION_DOMAIN}")
}

/// Why a key or certificate cannot be used.
#[derive(Debug)]
pub enum PkiError {
    /// The file system refused.
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Others may read a key file, or replace the files of its folder.
    Exposed { path: PathBuf, mode: u32 },
    /// A file or certificate does not hold what it should.
    Invalid { what: String, why: String },
    /// A certificate could not be made.
    Issue(rcgen::Error),
    /// The system gives no randomness.
    NoRandomness,
    /// The authority is not for this kind of certificate.
    WrongAuthority { purpose: Purpose },
}

impl PkiError {
    fn invalid(what: impl fmt::Display, why: impl fmt::Display) -> PkiError {
        PkiError::Invalid {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PkiError::Io { doing, path, .. } => write!(f, "cannot {doing} {}", path.display()),
            PkiError::Exposed { path, mode } => write!(
                f,
                "{} has mode {mode:03o}: nobody but its owner may have access (chmod go= {0})",
                path.display()
            ),
            PkiError::Invalid { what, why } => write!(f, "{what} is not usable: {why}"),
            PkiError::Issue(_) => f.write_str("cannot make a certificate"),
            PkiError::NoRandomness => f.write_str("the system gives no random bytes"),
            PkiError::WrongAuthority { purpose } => {
                write!(
                    f,
                    "the {} does not issue this kind of certificate",
                    purpose.title()
                )
            }
        }
    }
}

impl std::error::Error for PkiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PkiError::Io { source, .. } => Some(source),
            PkiError::Issue(source) => Some(source),
            _ => None,
        }
    }
}

impl From<rcgen::Error> for PkiError {
    fn from(source: rcgen::Error) -> Self {
        PkiError::Issue(source)
    }
}

#[cfg(test)]
mod tests;
