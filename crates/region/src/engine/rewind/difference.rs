//! What the records that were set aside changed, and taking it back.

use bytes::Bytes;
use replication::{Body, Goal, Head, Record, StateDigest};
use std::collections::BTreeSet;
use store::{Store, StoreError};
use types::{Lsn, PartitionKey, limits};

/// Taking back what the records that were set aside changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub(super) id: u64,
    /// The first own record whose keys were not yet listed.
    pub(super) next: Lsn,
    /// Keys whose values are still missing, in the order asked for.
    pub(super) keys: Vec<Bytes>,
    /// Keys asked for before, as far as they are remembered.
    pub(super) seen: BTreeSet<Bytes>,
    pub(super) goal: Goal,
}

impl Difference {
    /// Lists keys of further own records until there are enough to ask for, or no more records.
    pub(super) fn list(
        &mut self,
        at: PartitionKey,
        last: Lsn,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        while self.keys.is_empty() && self.next <= last {
            let page = store.read_log(at, self.next, limits::SHIP_PAGE_BYTES_MAX)?;
            if page.is_empty() {
                return Ok(());
            }
            let mut found = BTreeSet::new();
            for record in page {
                if found.len() >= limits::REWIND_KEYS_MAX {
                    break;
                }
                self.next = record.lsn.next();
                let Ok(Record {
                    body: Body::Data { state, .. },
                    ..
                }) = Record::decode(&record.bytes)
                else {
                    continue;
                };
                // Copied: a key must not hold on to its record's page.
                let keys = state.into_iter().map(|(key, _)| key);
                let new = keys.filter(|key| !self.seen.contains(key));
                found.extend(new.map(|key| Bytes::copy_from_slice(&key)));
            }
            if self.seen.len() < limits::REWIND_KEYS_SEEN_MAX {
                self.seen.extend(found.iter().cloned());
            }
            self.keys = found.into_iter().collect();
        }
        Ok(())
    }
}

/// What changes when `entries` are laid over what is stored; the head's digest goes along.
pub(super) fn lay_over(
    at: PartitionKey,
    head: &mut Head,
    entries: Vec<(Bytes, Option<Bytes>)>,
    store: &dyn Store,
) -> Result<Vec<(Bytes, Option<Bytes>)>, StoreError> {
    let mut sum = StateDigest(head.state);
    let mut changed = Vec::new();
    for (key, value) in entries {
        let old = store.get(at, &key)?;
        if old != value {
            sum.change(&key, old.as_deref(), value.as_deref());
            changed.push((key, value));
        }
    }
    head.state = sum.0;
    Ok(changed)
}
