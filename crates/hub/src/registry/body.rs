//! What services send about a device, checked and laid over what is stored.

use super::record::{Authentication, Device, Status, new_key};
use crate::Context;
use crate::json::{self, Object};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use types::{DeviceId, ErrorCode, Reject, limits};

/// The members of a device document that a client may set; others are skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceBody {
    device_id: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<Object<AuthenticationBody>>,
    capabilities: Option<Object<CapabilitiesBody>>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthenticationBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    symmetric_key: Option<Object<KeysBody>>,
    x509_thumbprint: Option<Object<ThumbprintsBody>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysBody {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThumbprintsBody {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CapabilitiesBody {
    #[serde(default)]
    iot_edge: Option<bool>,
}

/// A device as a client wants it.
pub(super) struct Wanted {
    status: Option<Status>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationBody>,
}

/// The raw members that [`Wanted`] is made of.
pub(super) struct WantedParts {
    pub status: Option<String>,
    pub status_reason: Option<String>,
    pub authentication: Option<Object<AuthenticationBody>>,
    pub capabilities: Option<Object<CapabilitiesBody>>,
    pub device_scope: Option<String>,
    pub parent_scopes: Option<Vec<String>>,
}

impl Wanted {
    /// Reads the body of a device PUT.
    ///
    /// # Errors
    /// [`ErrorCode::ArgumentInvalid`] for a wrong shape, another device's id or a value outside its documented range.
    pub fn parse(device: &DeviceId, body: &[u8]) -> Result<Self, Reject> {
        let parsed: DeviceBody = json::parse(body)?;
        check_id(device, parsed.device_id.as_deref())?;
        Wanted::new(WantedParts {
            status: parsed.status,
            status_reason: parsed.status_reason,
            authentication: parsed.authentication,
            capabilities: parsed.capabilities,
            device_scope: parsed.device_scope,
            parent_scopes: parsed.parent_scopes,
        })
    }

    /// # Errors
    /// [`ErrorCode::ArgumentInvalid`] for a value outside its documented range.
    pub fn new(parts: WantedParts) -> Result<Self, Reject> {
        if parts
            .capabilities
            .is_some_and(|capabilities| capabilities.0.iot_edge == Some(true))
        {
            return Err(invalid(
                "edge devices (capabilities.iotEdge) are not supported yet",
            ));
        }
        let scoped = parts.device_scope.is_some_and(|scope| !scope.is_empty());
        if scoped || parts.parent_scopes.is_some_and(|scopes| !scopes.is_empty()) {
            return Err(invalid(
                "deviceScope and parentScopes are not supported yet: there are no edge devices",
            ));
        }
        let reason_chars = parts
            .status_reason
            .as_ref()
            .map_or(0, |reason| reason.chars().count());
        if reason_chars > limits::STATUS_REASON_CHARS_MAX {
            let max = limits::STATUS_REASON_CHARS_MAX;
            return Err(invalid(format!(
                "statusReason has {reason_chars} characters; the limit is {max}"
            )));
        }
        Ok(Wanted {
            status: parts.status.as_deref().map(parse_status).transpose()?,
            status_reason: parts.status_reason.filter(|reason| !reason.is_empty()),
            authentication: parts.authentication.map(|authentication| authentication.0),
        })
    }

    /// The device as it is registered; keys that are not given are made.
    ///
    /// # Errors
    /// [`ErrorCode::ArgumentInvalid`] for keys or thumbprints of a wrong form.
    pub fn create(self, context: &Context<'_>) -> Result<Device, Reject> {
        let authentication = authentication(self.authentication, None, context)?;
        let mut device = Device::new(
            context,
            self.status.unwrap_or(Status::Enabled),
            authentication,
        );
        device.status_reason = self.status_reason;
        Ok(device)
    }

    /// Replaces what `old` holds; status and keys that are not given stay.
    ///
    /// # Errors
    /// As [`Wanted::create`].
    pub fn update(self, old: &Device, context: &Context<'_>) -> Result<Device, Reject> {
        let status = self.status.unwrap_or(old.status);
        let status_changes = status != old.status;
        Ok(Device {
            generation: old.generation.clone(),
            etag: old.etag.wrapping_add(1),
            created: old.created,
            status,
            status_reason: self.status_reason,
            status_updated: if status_changes {
                Some(context.now)
            } else {
                old.status_updated
            },
            authentication: authentication(
                self.authentication,
                Some(&old.authentication),
                context,
            )?,
        })
    }
}

/// # Errors
/// [`ErrorCode::ArgumentInvalid`] if a body names another device than the request.
pub(super) fn check_id(device: &DeviceId, named: Option<&str>) -> Result<(), Reject> {
    match named {
        Some(named) if named != device.as_str() => Err(invalid(
            "the device id of the body is not that of the request",
        )),
        _ => Ok(()),
    }
}

pub(super) fn invalid(why: impl Into<String>) -> Reject {
    Reject::new(ErrorCode::ArgumentInvalid, why)
}

fn parse_status(text: &str) -> Result<Status, Reject> {
    if text.eq_ignore_ascii_case("enabled") {
        Ok(Status::Enabled)
    } else if text.eq_ignore_ascii_case("disabled") {
        Ok(Status::Disabled)
    } else {
        Err(invalid("status must be enabled or disabled"))
    }
}

fn authentication(
    wanted: Option<AuthenticationBody>,
    old: Option<&Authentication>,
    context: &Context<'_>,
) -> Result<Authentication, Reject> {
    let Some(wanted) = wanted else {
        return match old {
            Some(old) => Ok(old.clone()),
            None => sas(None, None, context),
        };
    };
    let kind = match &wanted.kind {
        Some(kind) => kind.as_str(),
        None if wanted.names_thumbprints() => "selfSigned",
        None if wanted.symmetric_key.is_some() => "sas",
        None => old.map_or("sas", Authentication::name),
    };
    if kind.eq_ignore_ascii_case("sas") {
        sas(wanted.symmetric_key.map(|keys| keys.0), old, context)
    } else if kind.eq_ignore_ascii_case("selfSigned") {
        self_signed(wanted.x509_thumbprint.map(|thumbprints| thumbprints.0), old)
    } else if kind.eq_ignore_ascii_case("certificateAuthority") {
        Ok(Authentication::CertificateAuthority)
    } else if kind.eq_ignore_ascii_case("none") {
        Ok(Authentication::None)
    } else {
        Err(invalid(
            "authentication.type must be sas, selfSigned, certificateAuthority or none",
        ))
    }
}

impl AuthenticationBody {
    fn names_thumbprints(&self) -> bool {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let named = self
            .x509_thumbprint
            .as_ref()
            .map(|thumbprints| &thumbprints.0);
        named.is_some_and(|named| {
            given(&named.primary_thumbprint) || given(&named.secondary_thumbprint)
        })
    }
}

fn sas(
    wanted: Option<KeysBody>,
    old: Option<&Authentication>,
    context: &Context<'_>,
) -> Result<Authentication, Reject> {
    let (primary, secondary) =
        wanted.map_or((None, None), |keys| (keys.primary_key, keys.secondary_key));
    let (old_primary, old_secondary) = match old {
        Some(Authentication::Sas { primary, secondary }) => (Some(primary), Some(secondary)),
        _ => (None, None),
    };
    let key =
        |wanted: Option<String>, old: Option<&String>| match wanted.filter(|key| !key.is_empty()) {
            Some(key) => checked_key(key),
            None => Ok(old.cloned().unwrap_or_else(|| new_key(context))),
        };
    Ok(Authentication::Sas {
        primary: key(primary, old_primary)?,
        secondary: key(secondary, old_secondary)?,
    })
}

fn checked_key(key: String) -> Result<String, Reject> {
    let (min, max) = (limits::KEY_BYTES_MIN, limits::KEY_BYTES_MAX);
    match STANDARD.decode(&key) {
        Ok(bytes) if (min..=max).contains(&bytes.len()) => Ok(key),
        Ok(_) | Err(_) => Err(invalid(format!(
            "a symmetric key must be base64 of {min} to {max} bytes"
        ))),
    }
}

fn self_signed(
    wanted: Option<ThumbprintsBody>,
    old: Option<&Authentication>,
) -> Result<Authentication, Reject> {
    let (primary, secondary) = wanted.map_or((None, None), |named| {
        (named.primary_thumbprint, named.secondary_thumbprint)
    });
    let (old_primary, old_secondary) = match old {
        Some(Authentication::SelfSigned { primary, secondary }) => {
            (primary.clone(), secondary.clone())
        }
        _ => (String::new(), String::new()),
    };
    let primary = primary.map_or(Ok(old_primary), |text| checked_thumbprint(&text))?;
    let secondary = secondary.map_or(Ok(old_secondary), |text| checked_thumbprint(&text))?;
    if primary.is_empty() && secondary.is_empty() {
        return Err(invalid(
            "authentication of type selfSigned needs a primary or a secondary thumbprint",
        ));
    }
    Ok(Authentication::SelfSigned { primary, secondary })
}

/// Upper-case hex without separators; an empty text stays empty.
fn checked_thumbprint(text: &str) -> Result<String, Reject> {
    const HEX_DIGITS: [usize; 3] = [0, 40, 64];
    let hex: String = text
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    if !HEX_DIGITS.contains(&hex.len()) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(invalid(
            "a thumbprint must be 40 (SHA-1) or 64 (SHA-256) hex digits",
        ));
    }
    Ok(hex)
}
