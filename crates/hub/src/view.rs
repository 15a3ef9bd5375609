//! How the pure core reads state: a narrow view of one partition's keys.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use types::{ConnectionId, DeviceId, Epoch, HubSettings, PartitionId, RegionName, UnixMillis};

/// A page of a scan, in key order.
pub type Page = Vec<(Bytes, Bytes)>;

/// Reads of one partition's state, including what earlier commands of the same group commit changed.
pub trait View {
    /// # Errors
    /// When the store cannot read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError>;

    /// At most `limit` entries with `from <= key < until`, in key order.
    ///
    /// # Errors
    /// When the store cannot read.
    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Page, ViewError>;
}

/// The store could not read, or holds bytes that this code cannot understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewError(pub String);

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading partition state: {}", self.0)
    }
}

impl std::error::Error for ViewError {}

/// What the region knows of a connected device; not replicated, rebuilt as clients return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    pub connection: ConnectionId,
    /// Whose gateway holds the socket.
    pub gateway: RegionName,
    pub since: UnixMillis,
}

/// Everything but state that a decision may depend on.
pub struct Context<'a> {
    pub now: UnixMillis,
    pub settings: &'a HubSettings,
    pub partition: PartitionId,
    /// The epoch in which the decision is made.
    pub epoch: Epoch,
    /// Devices registered in the whole hub, from the region that is its primary.
    pub devices_in_hub: u64,
    /// Looks up the connection of a device.
    pub presence: &'a dyn Fn(&DeviceId) -> Option<Presence>,
    /// When a device was last heard of since the region started.
    pub last_activity: &'a dyn Fn(&DeviceId) -> Option<UnixMillis>,
    /// Fresh random bytes for keys, lock tokens and ids; each call gives others. The edge owns the source (seeded in simulation).
    pub random: &'a dyn Fn(&mut [u8]),
}

/// A view with changes on top that are not committed: later reads see them.
pub struct Overlay<'a> {
    base: &'a dyn View,
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn View) -> Self {
        Overlay {
            base,
            changes: BTreeMap::new(),
        }
    }

    /// Lays state entries on top; the last one of a key counts.
    pub fn absorb(&mut self, state: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) {
        self.changes.extend(state);
    }

    /// All changes as state entries in key order.
    pub fn into_changes(self) -> Vec<(Bytes, Option<Bytes>)> {
        self.changes.into_iter().collect()
    }
}

impl View for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Page, ViewError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let changed = || {
            self.changes
                .range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(until))
        };
        // Each change can hide one entry of the base, so that many more are enough to fill the page.
        let page = self
            .base
            .scan(from, until, limit.saturating_add(changed().count()))?;
        let mut merged: BTreeMap<Bytes, Bytes> = page.into_iter().collect();
        for (key, value) in changed() {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

/// A view over a map, for tests and for the simulation.
#[derive(Clone, Debug, Default)]
pub struct MemoryView(pub BTreeMap<Bytes, Bytes>);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Page, ViewError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let range = self
            .0
            .range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(until));
        Ok(range
            .take(limit)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}

impl MemoryView {
    /// Applies a write-set as a follower would.
    pub fn apply(&mut self, writes: &crate::WriteSet) {
        for (key, value) in &writes.state {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Change = (u8, Option<u8>);

    fn state(changes: &[Change]) -> Vec<(Bytes, Option<Bytes>)> {
        changes
            .iter()
            .map(|(key, value)| {
                (
                    Bytes::from(vec![*key]),
                    value.map(|value| Bytes::from(vec![value])),
                )
            })
            .collect()
    }

    proptest! {
        #[test]
        fn an_overlay_reads_as_if_its_changes_were_applied(
            base in proptest::collection::vec((0u8..20, any::<u8>()), 0..20),
            changes in proptest::collection::vec((0u8..20, any::<Option<u8>>()), 0..20),
            (from, until, limit) in (0u8..22, 0u8..22, 0usize..25),
        ) {
            let base: Vec<Change> = base.into_iter().map(|(key, value)| (key, Some(value))).collect();
            let mut below = MemoryView::default();
            below.apply(&crate::WriteSet { state: state(&base), ..Default::default() });
            let mut overlay = Overlay::new(&below);
            overlay.absorb(state(&changes));
            let mut applied = below.clone();
            applied.apply(&crate::WriteSet { state: state(&changes), ..Default::default() });
            prop_assert_eq!(overlay.scan(&[from], &[until], limit)?, applied.scan(&[from], &[until], limit)?);
            prop_assert_eq!(overlay.get(&[from])?, applied.get(&[from])?);
        }
    }
}
