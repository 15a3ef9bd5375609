//! What a service or a bulk entry changes of a twin: tags and desired properties.

use super::document;
use super::node::{Branch, Stamp};
use super::record::Twin;
use super::rules::{self, Part};
use crate::command::IfMatch;
use crate::json::{self, Json, Members, Object};
use crate::registry::mismatch;
use crate::{Context, Effect, Refused};
use bytes::Bytes;
use serde::Deserialize;
use types::{DeviceId, ErrorCode, Reject};

/// Checked tags and desired properties; a section that is absent or null is not changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    tags: Option<Members>,
    desired: Option<Members>,
}

/// How sections are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Merge,
    Replace,
    /// Content of a twin that is made with it: it has the versions of a new twin.
    Initial,
}

/// `properties` of a twin; `reported` is read-only for services and skipped.
#[derive(Debug, Deserialize)]
pub(crate) struct PropertiesBody {
    #[serde(default)]
    desired: Option<Json>,
}

#[derive(Deserialize)]
struct TwinBody {
    #[serde(default)]
    tags: Option<Json>,
    #[serde(default)]
    properties: Option<Object<PropertiesBody>>,
}

impl Change {
    /// Reads the twin document of a service.
    ///
    /// # Errors
    /// [`ErrorCode::ArgumentInvalid`] for what is no JSON object or breaks a rule of twins.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Reject> {
        let parsed: TwinBody = json::parse(body)?;
        Change::new(body, parsed.tags, parsed.properties)
    }

    /// Checks sections that were read out of `body`.
    ///
    /// # Errors
    /// As [`Change::parse`].
    pub(crate) fn new(
        body: &[u8],
        tags: Option<Json>,
        properties: Option<Object<PropertiesBody>>,
    ) -> Result<Self, Reject> {
        let desired = properties.and_then(|properties| properties.0.desired);
        if tags.is_some() || desired.is_some() {
            refuse_huge_integers(body)?;
        }
        Ok(Change {
            tags: tags
                .map(|tags| rules::accept(Part::Tags, tags))
                .transpose()?,
            desired: desired
                .map(|desired| rules::accept(Part::Desired, desired))
                .transpose()?,
        })
    }

    /// True if no section is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_none() && self.desired.is_none()
    }

    /// Changes `twin`; tells the device when its desired properties changed.
    ///
    /// # Errors
    /// [`ErrorCode::MessageTooLarge`] if a part would exceed its size.
    pub(super) fn apply(
        self,
        twin: &mut Twin,
        context: &Context<'_>,
        device: &DeviceId,
        how: How,
    ) -> Result<Option<Effect>, Refused> {
        if self.is_empty() {
            return Ok(None);
        }
        if how != How::Initial {
            twin.version += 1;
            twin.etag += 1;
        }
        if let Some(tags) = self.tags {
            let stamp = Stamp(context.now, twin.etag);
            let root = written(twin, Part::Tags, tags, stamp, how)?;
            twin.set_part(Part::Tags, &root)?;
        }
        let Some(desired) = self.desired else {
            return Ok(None);
        };
        if how != How::Initial {
            twin.desired_version += 1;
        }
        let version = twin.desired_version;
        let patch = (how == How::Merge).then(|| notification(&desired, version));
        let root = written(
            twin,
            Part::Desired,
            desired,
            Stamp(context.now, version),
            how,
        )?;
        twin.set_part(Part::Desired, &root)?;
        let body = patch.unwrap_or_else(|| document::desired(&root, version));
        Ok(Some(Effect::DesiredChanged {
            device: device.clone(),
            version,
            body,
        }))
    }
}

fn written(
    twin: &Twin,
    part: Part,
    content: Members,
    stamp: Stamp,
    how: How,
) -> Result<Branch, Refused> {
    if how != How::Merge {
        return Ok(Branch::new(content, stamp));
    }
    let mut root = twin.part(part)?;
    root.merge(content, stamp);
    Ok(root)
}

/// The patch as the device is told of it: nulls kept, with the new `$version`.
fn notification(patch: &Members, version: u64) -> Bytes {
    let mut told = patch.clone();
    told.insert("$version".to_owned(), Json::Number(version.into()));
    serde_json::to_vec(&told)
        .expect("names are strings and writing to memory cannot fail")
        .into()
}

/// # Errors
/// [`ErrorCode::ArgumentInvalid`] if an integer of the document is too long to be kept as it is.
pub(super) fn refuse_huge_integers(body: &[u8]) -> Result<(), Reject> {
    if json::has_huge_integer(body) {
        return Err(Reject::new(
            ErrorCode::ArgumentInvalid,
            "the twin has an integer outside its documented range",
        ));
    }
    Ok(())
}

/// # Errors
/// [`ErrorCode::PreconditionFailed`] if the client expects another twin than there is.
pub(super) fn check_etag(twin: &Twin, if_match: &IfMatch) -> Result<(), Reject> {
    match if_match {
        IfMatch::Etag(expected) if *expected != twin.etag_text() => Err(mismatch("twin")),
        IfMatch::Etag(_) | IfMatch::Any | IfMatch::Absent => Ok(()),
    }
}
