//! Where a consumer goes on that read what a forced failover lost.
//!
//! A position holds in the epoch in which it was read. When a later epoch began before it, the events between belong to a
//! history that is lost: the reader is put back to where the histories part, and is told.

use super::call::Call;
use super::failure::Failure;
use crate::backend::{Divergence, HubView, SendError};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::{Epoch, PartitionId, Sequence, limits};

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A reader was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rewound {
    /// The first sequence number that it had not read.
    pub from: Sequence,
    /// Where it goes on.
    pub to: Sequence,
    /// The epoch that begins there.
    pub epoch: Epoch,
}

/// What becomes of a reader that had read everything before `next` as it was in `epoch`; `None`: it goes on there.
pub(super) fn of(
    divergences: &[Divergence],
    partition: PartitionId,
    epoch: Epoch,
    next: Sequence,
) -> Option<Rewound> {
    let later = divergences.iter().filter(|cut| cut.epoch > epoch);
    let mut found: Option<Rewound> = None;
    for cut in later {
        let Some(to) = cut_at(cut, partition) else {
            continue;
        };
        if to < found.map_or(next, |found| found.to) {
            found = Some(Rewound {
                from: next,
                to,
                epoch: cut.epoch,
            });
        }
    }
    found
}

/// For a reader that stands at `next`, beyond the end of the partition, and does not say in which epoch it read: it read what
/// the newest divergence before that cut off.
pub(super) fn of_newest(
    divergences: &[Divergence],
    partition: PartitionId,
    next: Sequence,
) -> Option<Rewound> {
    let newest = divergences
        .iter()
        .filter_map(|cut| Some((cut.epoch, cut_at(cut, partition)?)))
        .filter(|(_, to)| *to < next)
        .max_by_key(|(epoch, _)| *epoch);
    newest.map(|(epoch, to)| Rewound {
        from: next,
        to,
        epoch,
    })
}

fn cut_at(cut: &Divergence, partition: PartitionId) -> Option<Sequence> {
    let position = cut.partitions.iter().find(|(known, _)| *known == partition);
    position.map(|(_, next)| *next)
}

/// Waits until this region knows every divergence up to `epoch`, in which the primary answered already.
///
/// # Errors
/// "Failing over, try again" when it does not learn of them in time.
pub(super) async fn learn(call: &Call, epoch: Epoch) -> Result<Arc<HubView>, Failure> {
    let deadline = Instant::now() + Duration::from_millis(limits::DIVERGENCE_WAIT_MS);
    loop {
        match call.api.backend.hub_by_id(call.hub.settings.id) {
            Some(hub) if hub.divergences_until >= epoch => return Ok(hub),
            _ if Instant::now() >= deadline => {
                return Err(SendError::FailingOver {
                    retry_after_ms: 1_000,
                }
                .into());
            }
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionId = PartitionId(1);

    fn cut(epoch: u64, next: u64) -> Divergence {
        Divergence {
            epoch: Epoch(epoch),
            partitions: vec![(PartitionId(0), Sequence(0)), (PARTITION, Sequence(next))],
        }
    }

    fn check(cuts: &[Divergence], epoch: u64, next: u64, expected: Option<(u64, u64)>) {
        let found = of(cuts, PARTITION, Epoch(epoch), Sequence(next));
        let expected = expected.map(|(to, epoch)| Rewound {
            from: Sequence(next),
            to: Sequence(to),
            epoch: Epoch(epoch),
        });
        assert_eq!(found, expected, "epoch {epoch}, next {next}");
    }

    #[test]
    fn only_who_read_beyond_a_later_divergence_is_put_back() {
        let cuts = [cut(4, 100)];
        check(&cuts, 3, 101, Some((100, 4)));
        check(&cuts, 1, 5_000, Some((100, 4)));
        // Everything before the divergence is the same in both histories, and it goes on there.
        check(&cuts, 3, 100, None);
        check(&cuts, 3, 7, None);
        // Read in the epoch that began there, or later.
        check(&cuts, 4, 101, None);
        check(&cuts, 9, 5_000, None);
        check(&[], 1, 5_000, None);
    }

    #[test]
    fn of_several_divergences_the_lowest_counts() {
        let cuts = [cut(4, 100), cut(6, 80), cut(8, 90)];
        check(&cuts, 3, 200, Some((80, 6)));
        check(&cuts, 3, 95, Some((80, 6)));
        check(&cuts, 3, 80, None);
        check(&cuts, 6, 200, Some((90, 8)));
        check(&cuts, 7, 85, None);
        // Put back by the first, a reader stands before what the second lost.
        check(&[cut(4, 100), cut(6, 120)], 3, 200, Some((100, 4)));
    }

    #[test]
    fn a_partition_that_a_divergence_does_not_name_has_lost_nothing() {
        let cuts = [cut(4, 100)];
        assert_eq!(of(&cuts, PartitionId(7), Epoch(1), Sequence(500)), None);
    }

    #[test]
    fn without_an_epoch_the_newest_divergence_counts() {
        let cuts = [cut(4, 10), cut(6, 80), cut(8, 300)];
        let found = of_newest(&cuts, PARTITION, Sequence(200)).unwrap();
        assert_eq!((found.to, found.epoch), (Sequence(80), Epoch(6)));
        assert_eq!(of_newest(&cuts, PARTITION, Sequence(10)), None);
    }
}
