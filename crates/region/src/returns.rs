//! The return of an old primary after a forced failover: noticed by the control plane's leader, once its partitions follow again,
//! and recorded with exactly what it alone had.

use crate::facts;
use crate::peer::Facts;
use crate::region::Region;
use crate::salvage::{self, Segment};
use control::{Command, Divergence, Hub, LostRange, Position};
use std::sync::Arc;
use std::time::Duration;
use types::HubId;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const FACTS_TIMEOUT: Duration = Duration::from_secs(1);

/// Watches one hub until its old primary has returned, or this region no longer leads.
pub(crate) async fn watch(region: Arc<Region>, hub: HubId, deputy: bool) {
    while region.plane.drives() || deputy && region.plane.may_drive() {
        let found = region.plane.with(|state| {
            let hub = state.hub(hub)?;
            Some((hub.clone(), hub.away()?.clone()))
        });
        let Some((hub, away)) = found else { return };
        if let Some(partitions) = returned(&region, &hub, &away).await {
            let command = Command::Returned {
                hub: hub.id,
                operation: away.operation.clone(),
                region: away.from.clone(),
                partitions,
            };
            let by = format!("castling:{}", region.me);
            match region.plane.submit(&by, command).await {
                Ok(control::Answer::Refused(refusal)) => {
                    tracing::warn!(hub = %hub.name, %refusal, "the return of a region was not recorded");
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(hub = %hub.name, why = %error.why, "the control plane did not answer");
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the old primary alone had, once every partition of it follows; `None`: not yet.
async fn returned(region: &Arc<Region>, hub: &Hub, away: &Divergence) -> Option<Vec<LostRange>> {
    if region
        .plane
        .with(|state| state.hub(hub.id)?.operation.clone())
        .is_some()
    {
        return None;
    }
    let old = facts::ask(region, &away.from, hub.id, FACTS_TIMEOUT).await?;
    let new = facts::ask(region, &hub.primary, hub.id, FACTS_TIMEOUT).await?;
    if !follows(hub, &old, &new) {
        return None;
    }
    if old.began > away.at {
        // A folder that is younger than the failover: what it alone had is gone, and nobody can say what that was.
        return Some(Vec::new());
    }
    let segments = salvage::of_region(region, &away.from, hub.id).await.ok()?;
    let range = |position: &Position| lost(position, away, &segments);
    Some(away.partitions.iter().map(range).collect())
}

fn follows(hub: &Hub, old: &Facts, new: &Facts) -> bool {
    let count = usize::from(hub.partition_count);
    let settled = old
        .partitions
        .iter()
        .filter(|p| p.returning.is_none() && p.broken.is_none() && p.epoch == hub.epoch);
    let followed = new.partitions.iter().filter(|p| p.follower_connected);
    settled.count() == count && followed.count() == count
}

/// The segment that this divergence left in one partition: of the epoch that ended, after the common end.
fn lost(position: &Position, away: &Divergence, segments: &[Segment]) -> LostRange {
    let mine = segments.iter().find(|segment| {
        segment.partition == position.partition
            && segment.epoch.next() == away.epoch
            && segment.last > position.lsn
    });
    let empty = LostRange {
        partition: position.partition,
        from: position.lsn.next(),
        to: position.lsn,
        records: 0,
        events: 0,
        bytes: 0,
        first_time: None,
        last_time: None,
    };
    mine.map_or(empty, |segment| LostRange {
        from: segment.first,
        to: segment.last,
        records: segment.records,
        events: segment.events,
        bytes: segment.bytes,
        first_time: Some(segment.first_time),
        last_time: Some(segment.last_time),
        ..empty
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Lsn, PartitionId, RegionName, Sequence, UnixMillis};

    fn segment(epoch: u64, first: u64, last: u64) -> Segment {
        Segment {
            id: format!("h1-p0-e{epoch}-{first}"),
            hub: HubId(1),
            partition: PartitionId(0),
            epoch: Epoch(epoch),
            first: Lsn(first),
            last: Lsn(last),
            records: last + 1 - first,
            events: 7,
            bytes: 70,
            first_time: UnixMillis(1),
            last_time: UnixMillis(2),
            made: UnixMillis(3),
        }
    }

    fn away(epoch: u64, lsn: u64) -> Divergence {
        Divergence {
            epoch: Epoch(epoch),
            from: RegionName::parse("west").unwrap(),
            to: RegionName::parse("east").unwrap(),
            at: UnixMillis(0),
            operation: "op".into(),
            partitions: vec![Position {
                partition: PartitionId(0),
                lsn: Lsn(lsn),
                next_sequence: Sequence(0),
            }],
            returned: None,
        }
    }

    fn range(away: &Divergence, segments: &[Segment]) -> (u64, u64, u64) {
        let lost = lost(&away.partitions[0], away, segments);
        (lost.from.0, lost.to.0, lost.records)
    }

    #[test]
    fn the_loss_is_the_segment_of_the_epoch_that_ended() {
        let segments = [segment(1, 11, 14), segment(3, 41, 50)];
        assert_eq!(range(&away(2, 10), &segments), (11, 14, 4));
        assert_eq!(range(&away(4, 40), &segments), (41, 50, 10));
    }

    #[test]
    fn without_a_segment_nothing_was_lost() {
        let segments = [segment(1, 11, 14)];
        assert_eq!(range(&away(4, 40), &segments), (41, 40, 0));
        assert_eq!(range(&away(2, 20), &segments), (21, 20, 0), "an older one");
        assert_eq!(range(&away(2, 10), &[]), (11, 10, 0));
    }
}
