//! Many identities in one request. Data-plane notes section 5.4.

use super::body::{AuthenticationBody, CapabilitiesBody, Wanted, WantedParts, check_id, invalid};
use super::change::{Change, check_etag, existing};
use super::statistics::{self, Delta};
use crate::command::{BulkEntry, BulkError, IfMatch};
use crate::json::{self, Json, Object};
use crate::registry::record::Device;
use crate::twin::{self, How, PropertiesBody};
use crate::{Context, Decision, Overlay, Refused, Reply, View, WriteSet};
use serde::Deserialize;
use std::collections::BTreeMap;
use types::{DeviceId, ErrorCode, Reject, limits};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody {
    id: Option<String>,
    module_id: Option<String>,
    e_tag: Option<String>,
    import_mode: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<Object<AuthenticationBody>>,
    capabilities: Option<Object<CapabilitiesBody>>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
    #[serde(rename = "twinETag")]
    twin_etag: Option<String>,
    tags: Option<Json>,
    properties: Option<Object<PropertiesBody>>,
}

/// What an entry does; `if_match` is [`IfMatch::Absent`] for the unconditional modes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Create,
    CreateOrUpdate,
    Update,
    Delete,
    UpdateTwin,
}

/// `importMode`, lower-case: the action, and whether it looks at an etag.
const MODES: [(&str, Action, bool); 9] = [
    ("create", Action::Create, false),
    ("createorupdate", Action::CreateOrUpdate, false),
    ("createorupdateifmatchetag", Action::CreateOrUpdate, true),
    ("update", Action::Update, false),
    ("updateifmatchetag", Action::Update, true),
    ("delete", Action::Delete, false),
    ("deleteifmatchetag", Action::Delete, true),
    ("updatetwin", Action::UpdateTwin, false),
    ("updatetwinifmatchetag", Action::UpdateTwin, true),
];

/// One checked entry.
struct Entry {
    action: Action,
    if_match: IfMatch,
    wanted: Wanted,
    twin: twin::Change,
}

/// Performs entries in order; each is done whole or not at all, and a failure does not stop the others.
///
/// # Errors
/// [`ErrorCode::ArgumentInvalid`] for more than [`limits::BULK_DEVICES_MAX`] entries; [`Refused::View`] when state cannot be
/// read. What is wrong with an entry stands in the reply.
pub(super) fn decide(
    view: &dyn View,
    context: &Context<'_>,
    entries: &[BulkEntry],
) -> Result<Decision, Refused> {
    if entries.len() > limits::BULK_DEVICES_MAX {
        let text = format!(
            "{} devices in one request; the limit is {}",
            entries.len(),
            limits::BULK_DEVICES_MAX
        );
        return Err(invalid(text).into());
    }
    let named = times_named(entries);
    let mut overlay = Overlay::new(view);
    let mut decision = Decision::reply(Reply::Done);
    let mut delta = Delta::default();
    let mut errors = Vec::new();
    for entry in entries {
        let mut change = Change::new(&overlay, context, &entry.device);
        match perform(&mut change, entry, named[&entry.device], delta) {
            Ok(()) => {
                let Change {
                    writes,
                    effects,
                    presence,
                    delta: of_entry,
                    ..
                } = change;
                overlay.absorb(writes.state);
                decision.effects.extend(effects);
                decision.presence.extend(presence);
                delta = delta.plus(of_entry);
            }
            Err(Refused::Reject(Reject { code, message })) => {
                errors.push(BulkError {
                    device: entry.device.clone(),
                    code,
                    message,
                });
            }
            Err(Refused::View(error)) => return Err(error.into()),
        }
    }
    let mut statistics = WriteSet::default();
    statistics::update(&overlay, delta, &mut statistics)?;
    overlay.absorb(statistics.state);
    decision.writes.state = overlay.into_changes();
    decision.devices_delta = delta.total;
    decision.reply = Reply::Bulk { errors };
    Ok(decision)
}

fn times_named(entries: &[BulkEntry]) -> BTreeMap<&DeviceId, usize> {
    let mut times = BTreeMap::new();
    for entry in entries {
        *times.entry(&entry.device).or_insert(0) += 1;
    }
    times
}

fn perform(
    change: &mut Change<'_>,
    entry: &BulkEntry,
    times_named: usize,
    delta: Delta,
) -> Result<(), Refused> {
    if times_named > 1 {
        let text = "the device stands more than once in the request";
        return Err(Reject::new(ErrorCode::DeviceDefinedMultipleTimes, text).into());
    }
    let Entry {
        action,
        if_match,
        wanted,
        twin,
    } = parse(entry)?;
    let old = change.load()?;
    match action {
        Action::Create | Action::CreateOrUpdate if old.is_none() => {
            let device = change.create(wanted, delta)?;
            change_twin(change, &device, twin, How::Initial, &IfMatch::Absent)
        }
        Action::Create => Err(super::already_exists().into()),
        Action::CreateOrUpdate | Action::Update => {
            let old = existing(old)?;
            check_etag(&old, &if_match)?;
            let device = change.update(&old, wanted)?;
            change_twin(change, &device, twin, How::Replace, &IfMatch::Absent)
        }
        Action::Delete => {
            let old = existing(old)?;
            check_etag(&old, &if_match)?;
            change.delete(&old)
        }
        Action::UpdateTwin => {
            let old = existing(old)?;
            change_twin(change, &old, twin, How::Merge, &if_match)
        }
    }
}

fn change_twin(
    change: &mut Change<'_>,
    device: &Device,
    twin: twin::Change,
    how: How,
    if_match: &IfMatch,
) -> Result<(), Refused> {
    let target = (change.device, device);
    let effect = twin::apply(
        change.view,
        change.context,
        target,
        (twin, how, if_match),
        &mut change.writes,
    )?;
    if how != How::Initial {
        change.effects.extend(effect);
    }
    Ok(())
}

fn parse(entry: &BulkEntry) -> Result<Entry, Reject> {
    let body: EntryBody = json::parse(&entry.body)?;
    check_id(&entry.device, body.id.as_deref())?;
    if body.module_id.is_some_and(|module| !module.is_empty()) {
        return Err(invalid("modules are not supported yet"));
    }
    let mode = body.import_mode.as_deref().unwrap_or("createOrUpdate");
    let Some(&(_, action, conditional)) = MODES
        .iter()
        .find(|(name, ..)| name.eq_ignore_ascii_case(mode))
    else {
        return Err(invalid("importMode is none of the documented modes"));
    };
    let etag = if action == Action::UpdateTwin {
        body.twin_etag
    } else {
        body.e_tag
    };
    Ok(Entry {
        action,
        if_match: if conditional {
            required_etag(etag)?
        } else {
            IfMatch::Absent
        },
        wanted: Wanted::new(WantedParts {
            status: body.status,
            status_reason: body.status_reason,
            authentication: body.authentication,
            capabilities: body.capabilities,
            device_scope: body.device_scope,
            parent_scopes: body.parent_scopes,
        })?,
        twin: twin::Change::new(&entry.body, body.tags, body.properties)?,
    })
}

/// The etag of a conditional entry, with or without the quotes of a header.
fn required_etag(etag: Option<String>) -> Result<IfMatch, Reject> {
    let Some(etag) = etag.filter(|etag| !etag.is_empty()) else {
        return Err(Reject::new(
            ErrorCode::ArgumentNull,
            "the import mode needs an etag",
        ));
    };
    let bare = etag
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&etag);
    Ok(if bare == "*" {
        IfMatch::Any
    } else {
        IfMatch::Etag(bare.to_owned())
    })
}
