//! Identities as JSON. Data-plane notes section 5.3.

use super::record::{Authentication, Device, Status};
use crate::time_text::iso_or_never;
use crate::{Context, Presence, View, ViewError, c2d};
use bytes::Bytes;
use serde::Serialize;
use types::{DeviceId, UnixMillis};

/// What is known of a device beyond its stored identity.
pub(crate) struct Live {
    pub presence: Option<Presence>,
    pub last_activity: Option<UnixMillis>,
    /// Messages in its cloud-to-device queue.
    pub waiting: u32,
}

impl Live {
    pub fn of(
        view: &dyn View,
        context: &Context<'_>,
        device: &DeviceId,
    ) -> Result<Self, ViewError> {
        Ok(Live {
            presence: (context.presence)(device),
            last_activity: (context.last_activity)(device),
            waiting: c2d::waiting(view, device)?,
        })
    }

    pub fn connection_state(&self) -> &'static str {
        if self.presence.is_some() {
            "Connected"
        } else {
            "Disconnected"
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Capabilities {
    pub iot_edge: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Thumbprints<'a> {
    primary_thumbprint: Option<&'a str>,
    secondary_thumbprint: Option<&'a str>,
}

impl<'a> Thumbprints<'a> {
    pub fn of(authentication: &'a Authentication) -> Self {
        let (primary_thumbprint, secondary_thumbprint) = match authentication {
            Authentication::SelfSigned { primary, secondary } => {
                (unless_empty(primary), unless_empty(secondary))
            }
            _ => (None, None),
        };
        Thumbprints {
            primary_thumbprint,
            secondary_thumbprint,
        }
    }
}

fn unless_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKey<'a> {
    primary_key: Option<&'a str>,
    secondary_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationDocument<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    symmetric_key: SymmetricKey<'a>,
    x509_thumbprint: Thumbprints<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceDocument<'a> {
    device_id: &'a DeviceId,
    generation_id: &'a str,
    etag: String,
    connection_state: &'static str,
    status: Status,
    status_reason: Option<&'a str>,
    connection_state_updated_time: String,
    status_updated_time: String,
    last_activity_time: String,
    cloud_to_device_message_count: u32,
    capabilities: Capabilities,
    authentication: AuthenticationDocument<'a>,
    device_scope: Option<&'a str>,
    parent_scopes: [&'a str; 0],
}

/// The identity of `device` as services see it.
pub(super) fn json(id: &DeviceId, device: &Device, live: &Live) -> Bytes {
    let (primary_key, secondary_key) = match &device.authentication {
        Authentication::Sas { primary, secondary } => {
            (Some(primary.as_str()), Some(secondary.as_str()))
        }
        _ => (None, None),
    };
    let document = DeviceDocument {
        device_id: id,
        generation_id: &device.generation,
        etag: device.etag_text(),
        connection_state: live.connection_state(),
        status: device.status,
        status_reason: device.status_reason.as_deref(),
        connection_state_updated_time: iso_or_never(
            live.presence.as_ref().map(|presence| presence.since),
        ),
        status_updated_time: iso_or_never(device.status_updated),
        last_activity_time: iso_or_never(live.last_activity),
        cloud_to_device_message_count: live.waiting,
        capabilities: Capabilities { iot_edge: false },
        authentication: AuthenticationDocument {
            kind: device.authentication.name(),
            symmetric_key: SymmetricKey {
                primary_key,
                secondary_key,
            },
            x509_thumbprint: Thumbprints::of(&device.authentication),
        },
        device_scope: None,
        parent_scopes: [],
    };
    serde_json::to_vec(&document)
        .expect("names are strings and writing to memory cannot fail")
        .into()
}
