//! What happens to messages by themselves: expiry and lock time-outs, found through the due index.

use super::Work;
use super::queue::{Entry, Queue, Step};
use crate::{Decision, Reply, ViewError, keys};
use std::collections::{BTreeMap, BTreeSet};
use types::{DeviceId, UnixMillis};

/// Handles at most `max` due messages, earliest first, and drops at most `max` expired feedback records. Writes nothing when
/// nothing is due.
pub(super) fn decide(mut work: Work<'_>, max: usize) -> Result<Decision, ViewError> {
    for (device, due) in read_due(&work, max)? {
        sweep_device(&mut work, &device, &due)?;
    }
    work.finish_and_trim(Reply::Done, max)
}

/// Due index entries by device: sequence numbers and the times they stand under.
type Due = BTreeSet<(u64, UnixMillis)>;

fn read_due(work: &Work<'_>, max: usize) -> Result<BTreeMap<DeviceId, Due>, ViewError> {
    let (from, until) = keys::due_until(work.now());
    let mut by_device: BTreeMap<DeviceId, Due> = BTreeMap::new();
    for (key, _) in work.view.scan(&from, &until, max)? {
        let (at, device, sequence) = keys::parse_due(&key)
            .ok_or_else(|| ViewError("a due index key is malformed".into()))?;
        by_device.entry(device).or_default().insert((sequence, at));
    }
    Ok(by_device)
}

fn sweep_device(work: &mut Work<'_>, device: &DeviceId, due: &Due) -> Result<(), ViewError> {
    let before = Queue::load(work.view, device)?;
    let mut queue = before.clone();
    let only = due.iter().map(|(sequence, _)| *sequence).collect();
    let Step { ended, freed } = queue.refresh(work.now(), work.deliveries_max(), Some(&only));
    work.change(device, &before, &queue, Step { ended, freed })?;

    // An index entry that no message stands behind would come up in every sweep.
    let is_indexed = |sequence: u64, at: UnixMillis| {
        before.messages.iter().any(|entry: &Entry| {
            entry.sequence == sequence && UnixMillis(entry.due().0.max(0)) == at
        })
    };
    for (sequence, at) in due
        .iter()
        .filter(|(sequence, at)| !is_indexed(*sequence, *at))
    {
        work.decision
            .writes
            .remove(keys::due(*at, device, *sequence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_key_tells_what_is_due() {
        let device = DeviceId::parse("d-1").unwrap();
        for (at, sequence) in [(0, 1), (1_700_000_000_000, u64::MAX), (i64::MAX, 0)] {
            let key = keys::due(UnixMillis(at), &device, sequence);
            assert_eq!(
                keys::parse_due(&key),
                Some((UnixMillis(at), device.clone(), sequence))
            );
            for damaged in [&key[1..], &key[..key.len() - 1], &key[..9], b"", b"x"] {
                assert_eq!(keys::parse_due(damaged), None);
            }
        }
    }
}
