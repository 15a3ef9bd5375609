//! Device twins: tags, desired and reported properties. Source: data-plane notes sections 3.4, 5.3, 10.3, 12.1.
//!
//! A twin is not stored while it is as new; a registered device always has one.

mod change;
mod document;
mod node;
mod node_format;
mod record;
mod rules;
mod shown;
#[cfg(test)]
mod tests;

pub(crate) use change::{Change, How, PropertiesBody};

use crate::command::{IfMatch, TwinCommand};
use crate::decision::PresenceChange;
use crate::json::{self, Json, Members};
use crate::registry::{self, Device, Status};
use crate::{Context, Decision, Effect, Refused, Reply, View, ViewError, WriteSet, keys, stored};
use bytes::Bytes;
use node::Stamp;
use record::Twin;
use rules::Part;
use types::{DeviceId, ErrorCode, Reject};

/// Decides one command of this family.
///
/// # Errors
/// [`ErrorCode::DeviceNotFound`], [`ErrorCode::DeviceDisabled`] (commands of the device itself),
/// [`ErrorCode::PreconditionFailed`], [`ErrorCode::ArgumentInvalid`] (shape, names, values, nesting) and
/// [`ErrorCode::MessageTooLarge`] (size); otherwise as [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &TwinCommand,
) -> Result<Decision, Refused> {
    match command {
        TwinCommand::Get { device } => get(view, context, device),
        TwinCommand::DeviceGet { device } => get_by_device(view, context, device),
        TwinCommand::PatchReported { device, body, base } => {
            patch_reported(view, context, device, body, *base)
        }
        TwinCommand::Patch {
            device,
            body,
            if_match,
        } => change(view, context, device, body, if_match, How::Merge),
        TwinCommand::Replace {
            device,
            body,
            if_match,
        } => change(view, context, device, body, if_match, How::Replace),
    }
}

/// `$version` of a device's desired properties.
///
/// # Errors
/// When the state cannot be read.
pub(crate) fn desired_version(view: &dyn View, device: &DeviceId) -> Result<u64, ViewError> {
    Ok(Twin::stored(view, device)?.map_or(1, |twin| twin.desired_version))
}

/// The desired properties of a device as JSON text with `$version`, and that version.
///
/// # Errors
/// When the state cannot be read.
pub(crate) fn desired(
    view: &dyn View,
    device: &DeviceId,
    identity: &Device,
) -> Result<(u64, Bytes), ViewError> {
    let twin = Twin::load(view, device, identity.created)?;
    let root = twin.part(Part::Desired)?;
    Ok((
        twin.desired_version,
        document::desired(&root, twin.desired_version),
    ))
}

/// Changes tags and desired properties as part of another command; writes nothing if `change` names no section.
///
/// # Errors
/// [`ErrorCode::PreconditionFailed`], [`ErrorCode::MessageTooLarge`]; [`Refused::View`] when state cannot be read.
pub(crate) fn apply(
    view: &dyn View,
    context: &Context<'_>,
    (device, identity): (&DeviceId, &Device),
    (change, how, if_match): (Change, How, &IfMatch),
    writes: &mut WriteSet,
) -> Result<Option<Effect>, Refused> {
    if change.is_empty() && !matches!(if_match, IfMatch::Etag(_)) {
        return Ok(None);
    }
    let mut twin = Twin::load(view, device, identity.created)?;
    change::check_etag(&twin, if_match)?;
    apply_to(&mut twin, context, device, change, how, writes)
}

fn apply_to(
    twin: &mut Twin,
    context: &Context<'_>,
    device: &DeviceId,
    change: Change,
    how: How,
    writes: &mut WriteSet,
) -> Result<Option<Effect>, Refused> {
    if change.is_empty() {
        return Ok(None);
    }
    let effect = change.apply(twin, context, device, how)?;
    writes.put(keys::twin(device), stored::encode(twin));
    Ok(effect)
}

fn get(view: &dyn View, context: &Context<'_>, device: &DeviceId) -> Result<Decision, Refused> {
    let identity = registry::require(view, device)?;
    let twin = Twin::load(view, device, identity.created)?;
    Ok(Decision::reply(shown(
        view, context, device, &identity, &twin,
    )?))
}

fn shown(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    identity: &Device,
    twin: &Twin,
) -> Result<Reply, ViewError> {
    Ok(Reply::Json {
        body: document::for_service(view, context, device, identity, twin)?,
        etag: twin.etag_text(),
    })
}

fn get_by_device(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
) -> Result<Decision, Refused> {
    let identity = require_enabled(view, device)?;
    let twin = Twin::load(view, device, identity.created)?;
    let body = document::for_device(&twin)?;
    let mut decision = Decision::reply(Reply::Json {
        body,
        etag: String::new(),
    });
    decision.presence.push(PresenceChange::Activity {
        device: device.clone(),
        at: context.now,
    });
    Ok(decision)
}

fn require_enabled(view: &dyn View, device: &DeviceId) -> Result<Device, Refused> {
    let identity = registry::require(view, device)?;
    match identity.status {
        Status::Enabled => Ok(identity),
        Status::Disabled => {
            Err(Reject::new(ErrorCode::DeviceDisabled, "the device is disabled").into())
        }
    }
}

fn patch_reported(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    body: &[u8],
    base: Option<u64>,
) -> Result<Decision, Refused> {
    let identity = require_enabled(view, device)?;
    let patch: Members = json::parse(body)?;
    change::refuse_huge_integers(body)?;
    let patch = rules::accept(Part::Reported, Json::Object(patch))?;
    let mut twin = Twin::load(view, device, identity.created)?;
    if base.is_some_and(|base| base != twin.reported_version) {
        return Err(registry::mismatch("reported version").into());
    }
    twin.version += 1;
    twin.reported_version += 1;
    let mut root = twin.part(Part::Reported)?;
    root.merge(patch, Stamp(context.now, twin.reported_version));
    twin.set_part(Part::Reported, &root)?;
    let mut decision = Decision::reply(Reply::ReportedVersion(twin.reported_version));
    decision
        .writes
        .put(keys::twin(device), stored::encode(&twin));
    decision.presence.push(PresenceChange::Activity {
        device: device.clone(),
        at: context.now,
    });
    Ok(decision)
}

fn change(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    body: &[u8],
    if_match: &IfMatch,
    how: How,
) -> Result<Decision, Refused> {
    let identity = registry::require(view, device)?;
    let change = Change::parse(body)?;
    let mut twin = Twin::load(view, device, identity.created)?;
    change::check_etag(&twin, if_match)?;
    let mut writes = WriteSet::default();
    let effect = apply_to(&mut twin, context, device, change, how, &mut writes)?;
    let mut decision = Decision::reply(shown(view, context, device, &identity, &twin)?);
    decision.writes = writes;
    decision.effects.extend(effect);
    Ok(decision)
}
