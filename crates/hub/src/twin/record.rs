//! The stored twin of a device. Described in docs/formats/state.md.

use super::node::{Branch, Stamp};
use super::rules::{self, Part};
use crate::{Refused, View, ViewError, keys, stored};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use types::{DeviceId, UnixMillis};

/// Versions of a twin and its three parts; a part is read only when it is needed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Twin {
    /// Counts changes of tags and desired properties, from 1.
    pub etag: u64,
    /// Counts all changes, from 2.
    pub version: u64,
    /// `$version` of the desired properties, from 1.
    pub desired_version: u64,
    /// `$version` of the reported properties, from 1.
    pub reported_version: u64,
    tags: Box<RawValue>,
    desired: Box<RawValue>,
    reported: Box<RawValue>,
}

impl Twin {
    /// The twin of a device that was registered at `created` and never changed since.
    pub fn new(created: UnixMillis) -> Self {
        let empty = || raw(&Branch::empty(Stamp(created, 1)));
        Twin {
            etag: 1,
            version: 2,
            desired_version: 1,
            reported_version: 1,
            tags: empty(),
            desired: empty(),
            reported: empty(),
        }
    }

    /// The stored twin, or a new one.
    pub fn load(
        view: &dyn View,
        device: &DeviceId,
        created: UnixMillis,
    ) -> Result<Self, ViewError> {
        Ok(Self::stored(view, device)?.unwrap_or_else(|| Twin::new(created)))
    }

    /// `None` while the twin is as new.
    pub fn stored(view: &dyn View, device: &DeviceId) -> Result<Option<Self>, ViewError> {
        view.get(&keys::twin(device))?
            .map(|bytes| stored::decode("twin", &bytes))
            .transpose()
    }

    pub fn part(&self, part: Part) -> Result<Branch, ViewError> {
        let text = match part {
            Part::Tags => &self.tags,
            Part::Desired => &self.desired,
            Part::Reported => &self.reported,
        };
        serde_json::from_str(text.get())
            .map_err(|error| ViewError(format!("twin: {part:?}: {error}")))
    }

    /// Stores a part after checking its size.
    pub fn set_part(&mut self, part: Part, root: &Branch) -> Result<(), Refused> {
        rules::check_size(part, root)?;
        let text = raw(root);
        match part {
            Part::Tags => self.tags = text,
            Part::Desired => self.desired = text,
            Part::Reported => self.reported = text,
        }
        Ok(())
    }

    /// The etag as clients see it: base64 of the counter as 8 bytes, big-endian.
    pub fn etag_text(&self) -> String {
        STANDARD.encode(self.etag.to_be_bytes())
    }
}

fn raw(root: &Branch) -> Box<RawValue> {
    to_raw_value(root).expect("names are strings and writing to memory cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryView;
    use bytes::Bytes;

    /// A twin as version 1 stores it. This text must be readable for ever: never change it.
    const VERSION_1: &str = concat!(
        "\u{1}",
        r#"{"etag":3,"version":7,"desiredVersion":2,"reportedVersion":4,"#,
        r#""tags":{"$":[1700000000000,1],"site":["berlin",1700000000000,1]},"#,
        r#""desired":{"$":[1700000001000,2],"limits":{"$":[1700000001000,2],"high":[21.5,1700000001000,2]}},"#,
        r#""reported":{"$":[1700000002000,4],"list":[[1,null,{"a":true}],1700000002000,4]}}"#
    );

    #[test]
    fn a_twin_stored_by_version_1_opens_for_ever() {
        let device = DeviceId::parse("d1").unwrap();
        let mut view = MemoryView::default();
        view.0.insert(
            keys::twin(&device).into(),
            Bytes::from_static(VERSION_1.as_bytes()),
        );
        let twin = Twin::stored(&view, &device).unwrap().unwrap();
        assert_eq!(
            (
                twin.etag,
                twin.version,
                twin.desired_version,
                twin.reported_version
            ),
            (3, 7, 2, 4)
        );
        assert_eq!(
            twin.part(Part::Desired).unwrap().stamp,
            Stamp(UnixMillis(1_700_000_001_000), 2)
        );
        assert_eq!(
            twin.part(Part::Tags).unwrap().size(),
            "site".len() + "berlin".len()
        );
        assert_eq!(twin.part(Part::Reported).unwrap().size(), 4 + 8 + 1 + 4);
        assert_eq!(
            stored::encode(&twin),
            VERSION_1.as_bytes(),
            "today's form is still version 1"
        );
    }

    #[test]
    fn unknown_versions_and_broken_bytes_are_named_and_not_guessed() {
        let device = DeviceId::parse("d1").unwrap();
        for (bytes, why) in [
            (&b"\x02{}"[..], "version 2"),
            (b"", "empty"),
            (b"\x01{}", "missing field"),
        ] {
            let mut view = MemoryView::default();
            view.0
                .insert(keys::twin(&device).into(), Bytes::from_static(bytes));
            let error = Twin::stored(&view, &device).unwrap_err().to_string();
            assert!(error.contains("twin") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_new_twin_has_version_2_and_the_first_etag() {
        let twin = Twin::new(UnixMillis(5));
        assert_eq!(
            (twin.version, twin.desired_version, twin.reported_version),
            (2, 1, 1)
        );
        assert_eq!(twin.etag_text(), "AAAAAAAAAAE=");
    }
}
