//! What regions' logs get and lose, for the history.

use super::World;
use crate::fault::Fault;
use crate::history::{Entry, FinalSalvage, RegionId};
use replication::Record;
use replication::record::crc_of;
use std::collections::BTreeMap;
use store::{LogRecord, Salvage, Store, StoreError};
use types::{Lsn, PartitionKey};

/// What was recorded of one log: the checksum of each record that is still in it, or was trimmed.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    head: (Lsn, u32),
    records: BTreeMap<Lsn, u32>,
}

impl World {
    /// Records what a region's log has got, and what it has given up, since the last look.
    pub(super) fn record_log(&mut self, region: RegionId) {
        for at in self.partitions.clone() {
            let place = &self.regions[region];
            let Some(head) = place
                .process
                .as_ref()
                .and_then(|process| process.engine.head(at))
            else {
                continue;
            };
            let mut logged = self.regions[region].logged.remove(&at).unwrap_or_default();
            if logged.head != (head.lsn, head.crc) {
                self.log_changed(region, at, &mut logged, head.lsn);
                logged.head = (head.lsn, head.crc);
            }
            self.regions[region].logged.insert(at, logged);
        }
    }

    fn log_changed(&mut self, region: RegionId, at: PartitionKey, logged: &mut Logged, last: Lsn) {
        let kept = self.last_kept(region, at, logged, last);
        let known = logged
            .records
            .last_key_value()
            .map_or(Lsn(0), |(lsn, _)| *lsn);
        if kept < known {
            logged.records.split_off(&kept.next());
            self.record(match kept {
                Lsn(0) => Entry::Reset { region, at },
                to => Entry::Rewound { region, at, to },
            });
            self.faulty_rewind(region, at);
        }
        let stored = super::reading::all_records(&self.regions[region].store, at, kept.next());
        for stored in stored.unwrap_or_default() {
            if stored.lsn <= last {
                logged.records.insert(stored.lsn, crc_of(&stored.bytes));
                self.record_stored(region, at, &stored);
            }
        }
    }

    /// The last record that was recorded and is still what it was.
    fn last_kept(&self, region: RegionId, at: PartitionKey, logged: &Logged, last: Lsn) -> Lsn {
        let store = &self.regions[region].store;
        for (lsn, crc) in logged.records.range(..=last).rev() {
            let found = store.read_log(at, *lsn, 1);
            match found.as_ref().map(|page| page.first()) {
                Ok(Some(record)) if record.lsn == *lsn && crc_of(&record.bytes) == *crc => {
                    return *lsn;
                }
                Err(StoreError::Trimmed { .. }) => return *lsn,
                _ => {}
            }
        }
        Lsn(0)
    }

    fn record_stored(&mut self, region: RegionId, at: PartitionKey, stored: &LogRecord) {
        let lsn = stored.lsn;
        let decoded = Record::decode(&stored.bytes);
        self.record(Entry::Record {
            region,
            at,
            lsn,
            epoch: decoded.map(|record| record.epoch).unwrap_or_default(),
            crc: crc_of(&stored.bytes),
            time: stored.time,
        });
        if stored.event_count == 0 {
            return;
        }
        match super::reading::events_of(stored) {
            Ok((epoch, events)) => {
                for (sequence, event) in events {
                    self.record(Entry::Logged {
                        region,
                        at,
                        lsn,
                        sequence,
                        epoch,
                        event,
                    });
                }
            }
            Err(text) => self.record(Entry::Alarm {
                region,
                at: Some(at),
                text,
            }),
        }
    }

    /// A region's disk was replaced by an empty one.
    pub(super) fn log_lost(&mut self, region: RegionId) {
        self.record(Entry::Wiped { region });
        for at in self.partitions.clone() {
            self.regions[region].logged.remove(&at);
            self.record(Entry::Reset { region, at });
        }
    }

    /// Everything that was set aside, read back.
    pub(super) fn final_salvages(&self) -> Vec<FinalSalvage> {
        let of = |region: RegionId| {
            let store = &self.regions[region].store;
            let all = store.salvages().unwrap_or_default();
            all.into_iter()
                .map(move |salvage| final_salvage(store, region, salvage))
        };
        let mut all: Vec<FinalSalvage> = (0..2).flat_map(of).collect();
        if self.fault == Some(Fault::SalvageMisses) {
            for salvage in &mut all {
                salvage.records.remove(0);
                salvage.count -= 1;
            }
        }
        all
    }
}

fn final_salvage(store: &dyn Store, region: RegionId, salvage: Salvage) -> FinalSalvage {
    let mut records = Vec::new();
    let mut broken = None;
    let mut from = salvage.first;
    loop {
        match store.read_salvage(&salvage.id, from, 1 << 20) {
            Ok(page) => {
                let Some(last) = page.last() else { break };
                from = last.lsn.next();
                records.extend(
                    page.iter()
                        .map(|record| (record.lsn, crc_of(&record.bytes))),
                );
            }
            Err(error) => {
                broken = Some(error.to_string());
                break;
            }
        }
    }
    FinalSalvage {
        region,
        id: salvage.id,
        at: salvage.at,
        first: salvage.first,
        last: salvage.last,
        count: salvage.records,
        events: salvage.events,
        records,
        broken,
    }
}
