//! The stored identity of a device. Described in docs/formats/state.md.

use crate::command::{DeviceKeys, Identity};
use crate::{Context, View, ViewError, keys, stored};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use types::{DeviceId, UnixMillis, limits};

/// A registered device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// Decimal digits; another one when the device is deleted and registered again.
    pub generation: String,
    /// Rises with every write of the identity.
    pub etag: u64,
    pub created: UnixMillis,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// `None`: never changed since the device was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_updated: Option<UnixMillis>,
    pub authentication: Authentication,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    Enabled,
    Disabled,
}

/// How a device proves who it is. Keys are base64 text, thumbprints upper-case hex; an unset thumbprint is empty.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Authentication {
    Sas { primary: String, secondary: String },
    SelfSigned { primary: String, secondary: String },
    CertificateAuthority,
    None,
}

impl Authentication {
    /// The name in `authentication.type`.
    pub fn name(&self) -> &'static str {
        match self {
            Authentication::Sas { .. } => "sas",
            Authentication::SelfSigned { .. } => "selfSigned",
            Authentication::CertificateAuthority => "certificateAuthority",
            Authentication::None => "none",
        }
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authentication({}, ..)", self.name())
    }
}

impl Device {
    /// A device that is registered now, with a generation of its own.
    pub fn new(context: &Context<'_>, status: Status, authentication: Authentication) -> Self {
        Device {
            generation: generation(context),
            etag: 100_000_000 + random_number(context) % 900_000_000,
            created: context.now,
            status,
            status_reason: None,
            status_updated: None,
            authentication,
        }
    }

    pub fn enabled(&self) -> bool {
        self.status == Status::Enabled
    }

    /// The etag as clients see it: base64 of decimal digits.
    pub fn etag_text(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    pub fn identity(self) -> Identity {
        Identity {
            enabled: self.enabled(),
            generation: self.generation,
            keys: match self.authentication {
                Authentication::Sas { primary, secondary } => {
                    DeviceKeys::Sas { primary, secondary }
                }
                Authentication::SelfSigned { primary, secondary } => {
                    DeviceKeys::SelfSigned { primary, secondary }
                }
                Authentication::CertificateAuthority => DeviceKeys::CertificateAuthority,
                Authentication::None => DeviceKeys::None,
            },
        }
    }
}

/// Reads a device's identity.
pub(super) fn load(view: &dyn View, device: &DeviceId) -> Result<Option<Device>, ViewError> {
    view.get(&keys::device(device))?
        .map(|bytes| decode(&bytes))
        .transpose()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Device, ViewError> {
    stored::decode("device identity", bytes)
}

/// A fresh key: base64 of random bytes.
pub(super) fn new_key(context: &Context<'_>) -> String {
    let mut bytes = [0; limits::KEY_BYTES_MADE];
    (context.random)(&mut bytes);
    STANDARD.encode(bytes)
}

/// Now in ticks of 100 ns since the year 1; chance fills what the clock does not resolve.
fn generation(context: &Context<'_>) -> String {
    const UNIX_EPOCH_MS: i64 = 62_135_596_800_000;
    const TICKS_PER_MS: i64 = 10_000;
    let ticks = context
        .now
        .0
        .max(0)
        .saturating_add(UNIX_EPOCH_MS)
        .saturating_mul(TICKS_PER_MS);
    (ticks as u64 + random_number(context) % TICKS_PER_MS as u64).to_string()
}

fn random_number(context: &Context<'_>) -> u64 {
    let mut bytes = [0; 8];
    (context.random)(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identities as version 1 stores them. These texts must be readable for ever: never change them.
    const VERSION_1: &str = concat!(
        "\u{1}",
        r#"{"generation":"638356000000000123","etag":123456789,"created":1700000000000,"status":"disabled","#,
        r#""statusReason":"lost","statusUpdated":1700000001000,"#,
        r#""authentication":{"sas":{"primary":"MDEyMzQ1Njc4OWFiY2RlZg==","secondary":"ZmVkY2JhOTg3NjU0MzIxMA=="}}}"#
    );
    const VERSION_1_SHORT: &str = "\u{1}{\"generation\":\"1\",\"etag\":1,\"created\":0,\"status\":\"enabled\",\"authentication\":\"certificateAuthority\"}";
    const VERSION_1_THUMBPRINTS: &str = concat!(
        "\u{1}",
        r#"{"generation":"1","etag":1,"created":0,"status":"enabled","authentication":{"selfSigned":{"primary":"AB","secondary":""}}}"#
    );

    #[test]
    fn identities_stored_by_version_1_open_for_ever() {
        let device = decode(VERSION_1.as_bytes()).unwrap();
        assert_eq!(
            (device.generation.as_str(), device.etag),
            ("638356000000000123", 123_456_789)
        );
        assert_eq!(
            (device.status, device.status_reason.as_deref()),
            (Status::Disabled, Some("lost"))
        );
        assert_eq!(device.status_updated, Some(UnixMillis(1_700_000_001_000)));
        let keys = DeviceKeys::Sas {
            primary: "MDEyMzQ1Njc4OWFiY2RlZg==".into(),
            secondary: "ZmVkY2JhOTg3NjU0MzIxMA==".into(),
        };
        assert!(device.clone().identity().keys == keys);
        for text in [VERSION_1, VERSION_1_SHORT, VERSION_1_THUMBPRINTS] {
            let device = decode(text.as_bytes()).unwrap();
            assert_eq!(
                stored::encode(&device),
                text.as_bytes(),
                "today's form is still version 1"
            );
        }
    }

    #[test]
    fn unknown_versions_are_named() {
        let error = decode(b"\x09{}").unwrap_err().to_string();
        assert!(
            error.contains("device identity") && error.contains("version 9"),
            "{error}"
        );
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let shown = format!("{:?}", decode(VERSION_1.as_bytes()).unwrap());
        assert!(
            !shown.contains("MDEy") && shown.contains("638356000000000123"),
            "{shown}"
        );
    }
}
