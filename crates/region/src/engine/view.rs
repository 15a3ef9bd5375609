//! State as the current turn sees it: this turn's changes over what is stored.

use super::partition::Turn;
use bytes::Bytes;
use hub::view::Page;
use hub::{View, ViewError};
use std::collections::BTreeMap;
use std::ops::Bound;
use store::{Store, StoreError};
use types::PartitionKey;

/// A partition's state for one decision.
pub struct TurnView<'a, T> {
    pub at: PartitionKey,
    pub store: &'a dyn Store,
    pub turn: &'a Turn<T>,
}

/// A partition's state as it is on disk.
pub struct StoredView<'a> {
    pub at: PartitionKey,
    pub store: &'a dyn Store,
}

impl View for StoredView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.store.get(self.at, key).map_err(unreadable)
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Page, ViewError> {
        if from >= until || limit == 0 {
            return Ok(Vec::new());
        }
        self.store
            .scan(self.at, from, until, limit)
            .map_err(unreadable)
    }
}

fn unreadable(error: StoreError) -> ViewError {
    ViewError(error.to_string())
}

impl<T> View for TurnView<'_, T> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.turn.changed(key) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(self.at, key).map_err(unreadable),
        }
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Page, ViewError> {
        if from >= until || limit == 0 {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(from), Bound::Excluded(until));
        let mut changed: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for map in self.turn.changes() {
            changed.extend(
                map.range::<[u8], _>(range)
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
        }
        // Each removed or replaced entry can hide one stored entry, no more.
        let stored = self
            .store
            .scan(self.at, from, until, limit.saturating_add(changed.len()))
            .map_err(unreadable)?;
        if changed.is_empty() {
            return Ok(stored);
        }
        let mut merged: BTreeMap<Bytes, Bytes> = stored.into_iter().collect();
        for (key, value) in changed {
            match value {
                Some(value) => merged.insert(key, value),
                None => merged.remove(&key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}
