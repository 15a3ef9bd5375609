//! How many devices a partition has: counted as they change, never by looking at all. Described in docs/formats/state.md.

use crate::{View, ViewError, WriteSet, keys, stored};
use serde::{Deserialize, Serialize};

/// Stored counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statistics {
    pub total: u64,
    pub enabled: u64,
}

/// A change of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub total: i64,
    pub enabled: i64,
}

impl Delta {
    pub fn plus(self, other: Delta) -> Delta {
        Delta {
            total: self.total + other.total,
            enabled: self.enabled + other.enabled,
        }
    }
}

pub(super) fn load(view: &dyn View) -> Result<Statistics, ViewError> {
    let stored = view.get(keys::STATISTICS)?;
    Ok(stored
        .map(|bytes| stored::decode("statistics", &bytes))
        .transpose()?
        .unwrap_or_default())
}

/// Writes the counters if they change.
pub(super) fn update(
    view: &dyn View,
    delta: Delta,
    writes: &mut WriteSet,
) -> Result<(), ViewError> {
    if delta == Delta::default() {
        return Ok(());
    }
    let old = load(view)?;
    let new = old
        .total
        .checked_add_signed(delta.total)
        .zip(old.enabled.checked_add_signed(delta.enabled));
    let Some((total, enabled)) = new.filter(|(total, enabled)| enabled <= total) else {
        return Err(ViewError(format!(
            "statistics: {old:?} cannot change by {delta:?}"
        )));
    };
    writes.put(
        keys::STATISTICS,
        stored::encode(&Statistics { total, enabled }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics as version 1 stores them. This text must be readable for ever: never change it.
    const VERSION_1: &[u8] = b"\x01{\"total\":5,\"enabled\":3}";

    #[test]
    fn statistics_stored_by_version_1_open_for_ever() {
        let statistics: Statistics = stored::decode("statistics", VERSION_1).unwrap();
        assert_eq!(
            statistics,
            Statistics {
                total: 5,
                enabled: 3
            }
        );
        assert_eq!(
            stored::encode(&statistics),
            VERSION_1,
            "today's form is still version 1"
        );
    }

    #[test]
    fn counters_that_cannot_be_right_are_an_error_and_not_guessed() {
        let mut view = crate::MemoryView::default();
        view.0.insert(
            keys::STATISTICS.into(),
            bytes::Bytes::from_static(VERSION_1),
        );
        for delta in [
            Delta {
                total: -6,
                enabled: 0,
            },
            Delta {
                total: -3,
                enabled: 0,
            },
            Delta {
                total: 0,
                enabled: -4,
            },
        ] {
            let mut writes = WriteSet::default();
            assert!(update(&view, delta, &mut writes).is_err(), "{delta:?}");
            assert!(writes.is_empty());
        }
    }
}
