//! The identity registry: which devices exist, and how they prove who they are.
//!
//! Source: data-plane notes sections 5.2–5.4 and 10.5.

mod body;
mod bulk;
mod change;
mod document;
mod record;
mod statistics;
#[cfg(test)]
mod tests;

pub(crate) use document::{Capabilities, Live, Thumbprints};
pub(crate) use record::{Device, Status};

use crate::command::{Identity, IfMatch, RegistryCommand};
use crate::{Context, Decision, Refused, Reply, View, ViewError, keys};
use body::Wanted;
use change::{Change, check_etag, existing};
use statistics::{Delta, Statistics};
use types::{DeviceId, ErrorCode, Reject, limits};

/// Decides one command of this family.
///
/// # Errors
/// [`ErrorCode::DeviceNotFound`], [`ErrorCode::DeviceAlreadyExists`], [`ErrorCode::PreconditionFailed`],
/// [`ErrorCode::ArgumentInvalid`], [`ErrorCode::TooManyDevices`]; otherwise as [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &RegistryCommand,
) -> Result<Decision, Refused> {
    match command {
        RegistryCommand::Get { device } => {
            let identity = require(view, device)?;
            Ok(Decision::reply(shown(view, context, device, &identity)?))
        }
        RegistryCommand::Put {
            device,
            body,
            if_match,
        } => put(view, context, device, body, if_match),
        RegistryCommand::Delete { device, if_match } => delete(view, context, device, if_match),
        RegistryCommand::List { after, top } => list(view, context, after.as_ref(), *top),
        RegistryCommand::Bulk { entries } => bulk::decide(view, context, entries),
        RegistryCommand::Statistics => {
            let Statistics { total, enabled } = statistics::load(view)?;
            // Who is connected is not state: the region fills that in from its own directory.
            let disabled = total.saturating_sub(enabled);
            Ok(Decision::reply(Reply::Statistics {
                total,
                enabled,
                disabled,
                connected: 0,
            }))
        }
    }
}

/// What is needed to authenticate a device; `None` if it is not registered.
///
/// # Errors
/// When the state cannot be read.
pub(crate) fn identity(view: &dyn View, device: &DeviceId) -> Result<Option<Identity>, ViewError> {
    Ok(record::load(view, device)?.map(Device::identity))
}

/// The stored identity of a registered device.
///
/// # Errors
/// [`ErrorCode::DeviceNotFound`]; [`Refused::View`] when the state cannot be read.
pub(crate) fn require(view: &dyn View, device: &DeviceId) -> Result<Device, Refused> {
    Ok(existing(record::load(view, device)?)?)
}

pub(crate) fn not_found() -> Reject {
    Reject::new(ErrorCode::DeviceNotFound, "the device is not registered")
}

/// The refusal for a condition of the client that does not hold.
pub(crate) fn mismatch(what: &str) -> Reject {
    Reject::new(
        ErrorCode::PreconditionFailed,
        format!("the {what} was changed since the client read it"),
    )
}

fn already_exists() -> Reject {
    Reject::new(
        ErrorCode::DeviceAlreadyExists,
        "a device of this id is registered already",
    )
}

fn shown(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    identity: &Device,
) -> Result<Reply, ViewError> {
    let live = Live::of(view, context, device)?;
    Ok(Reply::Json {
        body: document::json(device, identity, &live),
        etag: identity.etag_text(),
    })
}

fn put(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    body: &[u8],
    if_match: &IfMatch,
) -> Result<Decision, Refused> {
    let mut change = Change::new(view, context, device);
    let old = change.load()?;
    let identity = if *if_match == IfMatch::Absent {
        if old.is_some() {
            return Err(already_exists().into());
        }
        change.create(Wanted::parse(device, body)?, Delta::default())?
    } else {
        let old = existing(old)?;
        check_etag(&old, if_match)?;
        change.update(&old, Wanted::parse(device, body)?)?
    };
    let mut live = Live::of(view, context, device)?;
    if !change.presence.is_empty() {
        // The connection is being closed by this very request.
        live.presence = None;
    }
    let reply = Reply::Json {
        body: document::json(device, &identity, &live),
        etag: identity.etag_text(),
    };
    decision(change, reply)
}

fn delete(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    if_match: &IfMatch,
) -> Result<Decision, Refused> {
    let mut change = Change::new(view, context, device);
    let old = existing(change.load()?)?;
    check_etag(&old, if_match)?;
    change.delete(&old)?;
    decision(change, Reply::Done)
}

fn decision(change: Change<'_>, reply: Reply) -> Result<Decision, Refused> {
    let mut writes = change.writes;
    statistics::update(change.view, change.delta, &mut writes)?;
    Ok(Decision {
        writes,
        reply,
        effects: change.effects,
        presence: change.presence,
        devices_delta: change.delta.total,
    })
}

fn list(
    view: &dyn View,
    context: &Context<'_>,
    after: Option<&DeviceId>,
    top: usize,
) -> Result<Decision, Refused> {
    let (from, until) = keys::devices_after(after);
    let mut listed = Vec::new();
    for (key, value) in view.scan(&from, &until, top.min(limits::LIST_PAGE_MAX))? {
        let device = keys::device_of(&key)
            .ok_or_else(|| ViewError("device identity: the key names no device".into()))?;
        let identity = record::decode(&value)?;
        let live = Live::of(view, context, &device)?;
        let json = document::json(&device, &identity, &live);
        listed.push((device, json));
    }
    Ok(Decision::reply(Reply::JsonList(listed)))
}
