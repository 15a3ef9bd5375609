//! The return of an old primary after a forced failover, noticed by whoever drives. As `region::returns`.

use super::World;
use super::coordinator::Awaited;
use super::event::Node;
use super::gather::Gathered;
use crate::fault::Fault;
use control::{Command, Divergence, Hub, LostRange, Position};
use region::peer::Facts;
use store::{Salvage, Store};

const LOOK_EVERY_MS: i64 = 500;
const FACTS_TIMEOUT_MS: i64 = 1000;

impl World {
    /// Looks whether the old primary follows again, if one is away.
    pub(super) fn watch_return(&mut self, node: Node) {
        let Some(seat) = self.seat_of(node) else {
            return;
        };
        let Some(hub) = seat.view.hub(super::HUB).cloned() else {
            return;
        };
        let Some(away) = hub.away() else { return };
        let (old, new) = (self.region_id(&away.from), self.region_id(&hub.primary));
        let hub_id = hub.id;
        let token = self.wait_for(node, Awaited::Return(Box::new(hub)));
        let then = Gathered::Driver { token };
        self.gather(node, hub_id, &[old, new], FACTS_TIMEOUT_MS, then);
    }

    pub(super) fn looked_for_return(&mut self, node: Node, hub: &Hub, found: &[Option<Facts>]) {
        let (Some(away), [Some(old), Some(new)]) = (hub.away(), found) else {
            return self.driver_sleeps_for(node, LOOK_EVERY_MS);
        };
        let from = self.region_id(&away.from);
        if hub.operation.is_some() || !follows(hub, old, new) {
            return self.driver_sleeps_for(node, LOOK_EVERY_MS);
        }
        // A folder that is younger than the failover: what it alone had is gone.
        if old.began > away.at {
            let command = Command::Returned {
                hub: hub.id,
                operation: away.operation.clone(),
                region: away.from.clone(),
                partitions: Vec::new(),
            };
            return self.driver_records(node, command);
        }
        // In truth a call to that region; what stands in its store does not change on the way.
        let Ok(segments) = self.regions[from].store.salvages() else {
            return self.driver_sleeps_for(node, LOOK_EVERY_MS);
        };
        let range = |position: &Position| self.lost(position, away, &segments);
        let command = Command::Returned {
            hub: hub.id,
            operation: away.operation.clone(),
            region: away.from.clone(),
            partitions: away.partitions.iter().map(range).collect(),
        };
        self.driver_records(node, command);
    }

    fn lost(&self, position: &Position, away: &Divergence, segments: &[Salvage]) -> LostRange {
        let mine = segments.iter().find(|segment| {
            segment.at.partition == position.partition
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
        let lies = u64::from(self.fault == Some(Fault::ReportLies));
        mine.map_or(empty, |segment| LostRange {
            from: segment.first,
            to: segment.last,
            records: segment.records.saturating_sub(lies),
            events: segment.events,
            bytes: segment.bytes,
            first_time: Some(segment.first_time),
            last_time: Some(segment.last_time),
            ..empty
        })
    }
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
