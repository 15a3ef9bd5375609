//! Twins as JSON: the whole one for services, desired and reported properties for the device.

use super::node::Branch;
use super::record::Twin;
use super::rules::Part;
use super::shown::{Content, Section, Versions};
use crate::registry::{Capabilities, Device, Live, Status, Thumbprints};
use crate::time_text::iso_or_never;
use crate::{Context, View, ViewError};
use bytes::Bytes;
use serde::Serialize;
use types::DeviceId;

/// Data-plane notes section 5.3: the state of the identity joined with the twin.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceTwin<'a> {
    device_id: &'a DeviceId,
    etag: String,
    device_etag: String,
    status: Status,
    status_reason: Option<&'a str>,
    status_update_time: String,
    connection_state: &'static str,
    last_activity_time: String,
    cloud_to_device_message_count: u32,
    authentication_type: &'static str,
    x509_thumbprint: Thumbprints<'a>,
    model_id: &'static str,
    version: u64,
    tags: Content<'a>,
    properties: Properties<'a>,
    capabilities: Capabilities,
    device_scope: Option<&'a str>,
    parent_scopes: [&'a str; 0],
}

#[derive(Serialize)]
struct Properties<'a> {
    desired: Section<'a>,
    reported: Section<'a>,
}

/// The whole twin as services see it.
pub(super) fn for_service(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    identity: &Device,
    twin: &Twin,
) -> Result<Bytes, ViewError> {
    let live = Live::of(view, context, device)?;
    let [tags, desired, reported] = [
        twin.part(Part::Tags)?,
        twin.part(Part::Desired)?,
        twin.part(Part::Reported)?,
    ];
    let document = ServiceTwin {
        device_id: device,
        etag: twin.etag_text(),
        device_etag: identity.etag_text(),
        status: identity.status,
        status_reason: identity.status_reason.as_deref(),
        status_update_time: iso_or_never(identity.status_updated),
        connection_state: live.connection_state(),
        last_activity_time: iso_or_never(live.last_activity),
        cloud_to_device_message_count: live.waiting,
        authentication_type: identity.authentication.name(),
        x509_thumbprint: Thumbprints::of(&identity.authentication),
        model_id: "",
        version: twin.version,
        tags: Content(&tags),
        properties: Properties {
            desired: Section {
                root: &desired,
                version: twin.desired_version,
                metadata: Some(Versions::Shown),
            },
            reported: Section {
                root: &reported,
                version: twin.reported_version,
                metadata: Some(Versions::Hidden),
            },
        },
        capabilities: Capabilities { iot_edge: false },
        device_scope: None,
        parent_scopes: [],
    };
    Ok(text(&document))
}

/// `{desired, reported}` without `$metadata`, as the device sees them.
pub(super) fn for_device(twin: &Twin) -> Result<Bytes, ViewError> {
    let [desired, reported] = [twin.part(Part::Desired)?, twin.part(Part::Reported)?];
    Ok(text(&Properties {
        desired: Section {
            root: &desired,
            version: twin.desired_version,
            metadata: None,
        },
        reported: Section {
            root: &reported,
            version: twin.reported_version,
            metadata: None,
        },
    }))
}

/// The content of the desired properties with `$version`.
pub(super) fn desired(root: &Branch, version: u64) -> Bytes {
    text(&Section {
        root,
        version,
        metadata: None,
    })
}

fn text<T: Serialize>(document: &T) -> Bytes {
    serde_json::to_vec(document)
        .expect("names are strings and writing to memory cannot fail")
        .into()
}
