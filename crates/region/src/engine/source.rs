//! The primary's side: ship records in order inside a window, and hand out copies page by page as they are asked for.

use super::message::Message;
use super::rewind::crc_at;
use super::{Engine, Output, Role, Touched};
use bytes::Bytes;
use replication::record::crc_of;
use replication::{Head, Shipper};
use std::collections::{BTreeMap, BTreeSet};
use store::{Snapshot, StoreError};
use types::{Epoch, Lsn, PartitionKey, RegionName, UnixMillis, limits};

/// A copy nobody asked about for this long is given up.
const COPY_IDLE_MS: i64 = 60_000;
const COPIES_MAX: usize = 64;

/// Copies under way, one per partition.
#[derive(Default)]
pub(super) struct Copies {
    by_partition: BTreeMap<PartitionKey, Copy>,
    next_id: u64,
}

struct Copy {
    id: u64,
    snapshot: Box<dyn Snapshot>,
    used: UnixMillis,
}

impl Copies {
    pub fn forget_idle(&mut self, now: UnixMillis) {
        self.by_partition
            .retain(|_, copy| now.since(copy.used) < COPY_IDLE_MS);
    }

    pub fn forget(&mut self, at: PartitionKey) {
        self.by_partition.remove(&at);
    }

    pub fn clear(&mut self) {
        self.by_partition.clear();
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }
}

/// What a follower's position means for its source.
pub(super) enum Standing {
    /// It can go on from its own end.
    Stream,
    /// It must take a copy first.
    Copy,
    Wrong(String),
}

impl<T> Engine<T> {
    pub(super) fn message(
        &mut self,
        from: RegionName,
        message: Message,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        match message {
            Message::Follow {
                at,
                epoch,
                lsn,
                crc,
            } => self.follower_asks(from, at, (epoch, lsn, crc), now, out),
            Message::Word { at, word } => self.word(&from, at, word),
            Message::Diverged { at, head, kept } => {
                self.diverged(&from, at, (&head, kept), now, out)
            }
            Message::CrcAsked { at, lsn } => self.crc_asked(from, at, lsn, out),
            Message::Crc { at, lsn, crc } => self.crc(&from, (at, lsn, crc), now, out),
            Message::DifferenceAsked { at, id, keys } => {
                self.difference_asked(from, (at, id), keys, out)
            }
            Message::Difference {
                at,
                id,
                head,
                entries,
            } => self.difference(&from, (at, id), (&head, entries), now, out),
            Message::Records { at, records } => self.records(&from, at, records, now, touched, out),
            Message::Acked { at, lsn } => self.acked(&from, at, lsn, now, out),
            Message::Refused { at, why } => self.refused(&from, at, why, out),
            Message::Bootstrap { at, id, head } => self.bootstrap(&from, at, id, &head, now, out),
            Message::StateNext { at, id, after } => self.state_next(from, at, id, after, now, out),
            Message::StatePage { at, id, entries } => {
                self.state_page(&from, at, id, entries, now, out)
            }
            Message::LogNext {
                at,
                id,
                from: first,
            } => self.log_next(from, at, id, first, now, out),
            Message::LogPage { at, id, records } => self.log_page(&from, at, id, records, now, out),
            Message::PositionAsked { at } => self.position_asked(from, at, out),
            Message::Position {
                at,
                epoch,
                lsn,
                crc,
            } => self.position(&from, (at, epoch, lsn, crc), now, touched, out),
            Message::Refill { at, lsn, crc } => self.refill_asked(from, at, (lsn, crc), now, out),
        }
    }

    /// This region is the hub's primary and `from` its secondary.
    pub(super) fn serves_follower(&self, at: PartitionKey, from: &RegionName) -> bool {
        let role = self.hubs.get(&at.hub).map(|hub| &hub.role);
        let mine =
            role.is_some_and(|role| role.role == Role::Primary && role.peer.as_ref() == Some(from));
        mine && self.failed.is_none()
            && self
                .partitions
                .get(&at)
                .is_some_and(|p| p.broken.is_none() && !p.refill.under_way())
    }

    /// `from` is the hub's other region: it may take a copy that was begun for it.
    fn copies_for(&self, at: PartitionKey, from: &RegionName) -> bool {
        let hub = self.hubs.get(&at.hub);
        self.failed.is_none() && hub.is_some_and(|hub| hub.role.peer.as_ref() == Some(from))
    }

    /// The other region will not serve this one: the partition stops, its bytes stay.
    fn refused(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        why: String,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.follows(at, from) && !self.refills(at, from) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if partition.broken.is_none() {
            out.push(Output::Alarm {
                at: Some(at),
                text: format!("stopped: {from} refuses to be followed: {why}"),
            });
            partition.broken = Some(why);
        }
    }

    fn follower_asks(
        &mut self,
        from: RegionName,
        at: PartitionKey,
        (epoch, lsn, crc): (Epoch, Lsn, u32),
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.serves_follower(at, &from) {
            // The follower asks again; roles may not have reached both regions yet.
            return;
        }
        let standing = match self.standing(at, lsn, crc) {
            Ok(standing) => standing,
            Err(error) => {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
                return;
            }
        };
        let role_epoch = self.hubs.get(&at.hub).map(|hub| hub.role.epoch);
        let partition = self.partitions.get_mut(&at).expect("served");
        let own = partition.head;
        // One epoch has one primary: up to its end the two histories are the same.
        let same_so_far =
            lsn == Lsn(0) || epoch == own.epoch || epoch == own.before && lsn < own.opened;
        match standing {
            Standing::Stream => {
                if lsn < partition.shipper.confirmed() {
                    // It lost what it had confirmed: its lag counts from where it is now.
                    partition.shipper = Shipper::default();
                }
                partition.shipper.follow(lsn);
                self.shippable.insert(at);
                self.release_confirmed(at, now, out);
            }
            Standing::Copy if same_so_far => self.begin_copy(from, at, now, out),
            Standing::Copy | Standing::Wrong(_) if epoch < own.epoch => {
                self.say_diverged(from, at, out)
            }
            // Not opened yet: what differs is judged by the epoch it will have.
            _ if Some(own.epoch) != role_epoch => {}
            Standing::Copy => self.begin_copy(from, at, now, out),
            Standing::Wrong(why) => {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: format!("cannot be followed by {from}: {why}"),
                });
                out.push(Output::Send {
                    to: from,
                    message: Message::Refused { at, why },
                });
            }
        }
    }

    pub(super) fn standing(
        &self,
        at: PartitionKey,
        lsn: Lsn,
        crc: u32,
    ) -> Result<Standing, StoreError> {
        let head = &self.partitions[&at].head;
        if lsn > head.lsn {
            let why = format!(
                "it has records up to {lsn}, this region only up to {}: acknowledged records are missing here",
                head.lsn
            );
            return Ok(Standing::Wrong(why));
        }
        if lsn == head.lsn {
            return Ok(if crc == head.crc {
                Standing::Stream
            } else {
                diverged(lsn)
            });
        }
        let bounds = self.store.log_bounds(at)?;
        let Some(bounds) = bounds else {
            return Ok(Standing::Copy);
        };
        if lsn.next() < bounds.first_lsn {
            return Ok(Standing::Copy);
        }
        if lsn == Lsn(0) {
            return Ok(Standing::Stream);
        }
        match self.store.read_log(at, lsn, 1) {
            Ok(page) if page.first().is_some_and(|r| crc_of(&r.bytes) == crc) => {
                Ok(Standing::Stream)
            }
            Ok(_) => Ok(diverged(lsn)),
            // Its last record is trimmed here, but the next one is kept: the next one names that record's checksum.
            Err(StoreError::Trimmed { .. }) => {
                let named = crc_at(at, head, lsn, &*self.store)?;
                Ok(match named {
                    Some(named) if named == crc => Standing::Stream,
                    Some(_) => diverged(lsn),
                    None => Standing::Copy,
                })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn begin_copy(
        &mut self,
        from: RegionName,
        at: PartitionKey,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            // Whatever it confirmed once, it has nothing now.
            partition.shipper = Shipper::default();
            if let Some(why) = partition.returning() {
                let message = Message::Refused { at, why };
                return out.push(Output::Send { to: from, message });
            }
        }
        let known = self.copies.by_partition.contains_key(&at);
        if !known && self.copies.by_partition.len() >= COPIES_MAX {
            return;
        }
        let taken = self
            .store
            .snapshot(at)
            .and_then(|snapshot| Ok((snapshot.head()?, snapshot)));
        let (head, snapshot) = match taken {
            Ok((Some(head), snapshot)) => (head, snapshot),
            Ok((None, _)) => return,
            Err(error) => {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
                return;
            }
        };
        self.copies.next_id += 1;
        // Ids of two runs of this region must differ: the clock makes them so.
        let id = (now.0 as u64) << 16 | (self.copies.next_id & 0xffff);
        self.copies.by_partition.insert(
            at,
            Copy {
                id,
                snapshot,
                used: now,
            },
        );
        out.push(Output::Send {
            to: from,
            message: Message::Bootstrap { at, id, head },
        });
    }

    fn state_next(
        &mut self,
        from: RegionName,
        at: PartitionKey,
        id: u64,
        after: Option<Bytes>,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.copies_for(at, &from) {
            return;
        }
        let Some(copy) = self
            .copies
            .by_partition
            .get_mut(&at)
            .filter(|copy| copy.id == id)
        else {
            return;
        };
        copy.used = now;
        match copy
            .snapshot
            .state_page(after.as_deref(), limits::SNAPSHOT_PAGE_BYTES_MAX)
        {
            Ok(entries) => out.push(Output::Send {
                to: from,
                message: Message::StatePage { at, id, entries },
            }),
            Err(error) => out.push(Output::Alarm {
                at: Some(at),
                text: error.to_string(),
            }),
        }
    }

    fn log_next(
        &mut self,
        from: RegionName,
        at: PartitionKey,
        id: u64,
        first: Lsn,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.copies_for(at, &from) {
            return;
        }
        let Some(copy) = self
            .copies
            .by_partition
            .get_mut(&at)
            .filter(|copy| copy.id == id)
        else {
            return;
        };
        copy.used = now;
        let head = copy
            .snapshot
            .head()
            .ok()
            .flatten()
            .and_then(|bytes| Head::decode(&bytes).ok());
        let last = head.map_or(Lsn(0), |head| head.lsn);
        let read = || -> Result<Vec<Bytes>, StoreError> {
            let Some(bounds) = self.store.log_bounds(at)? else {
                return Ok(Vec::new());
            };
            let start = first.max(bounds.first_lsn);
            if start > last {
                return Ok(Vec::new());
            }
            let page = self
                .store
                .read_log(at, start, limits::SHIP_PAGE_BYTES_MAX)?;
            Ok(page
                .into_iter()
                .filter(|r| r.lsn <= last)
                .map(|r| r.bytes)
                .collect())
        };
        match read() {
            Ok(records) => {
                if records.is_empty() {
                    self.copies.by_partition.remove(&at);
                }
                out.push(Output::Send {
                    to: from,
                    message: Message::LogPage { at, id, records },
                });
            }
            Err(error) => out.push(Output::Alarm {
                at: Some(at),
                text: error.to_string(),
            }),
        }
    }

    fn acked(
        &mut self,
        from: &RegionName,
        at: PartitionKey,
        lsn: Lsn,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.serves_follower(at, from) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if lsn > partition.head.lsn {
            return;
        }
        partition.shipper.acked(lsn);
        if partition.shipper.connected() {
            self.shippable.insert(at);
        }
        self.release_confirmed(at, now, out);
    }

    pub(super) fn unsent(&mut self, to: &RegionName, at: PartitionKey) {
        let theirs = self
            .hubs
            .get(&at.hub)
            .is_some_and(|hub| hub.role.peer.as_ref() == Some(to));
        if let (true, Some(partition)) = (theirs, self.partitions.get_mut(&at)) {
            partition.shipper.disconnect();
            partition.following.ask_again();
            partition.refill.ask_again();
        }
    }

    /// Ships at most one page per partition; gives true when more could go at once.
    pub(super) fn ship_all(&mut self, out: &mut Vec<Output<T>>) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let mut more = BTreeSet::new();
        for at in std::mem::take(&mut self.shippable) {
            if self.ship(at, out) {
                more.insert(at);
            }
        }
        self.shippable = more;
        !self.shippable.is_empty()
    }

    /// Ships one page of a partition; gives true when its follower wants more and the window has room.
    fn ship(&mut self, at: PartitionKey, out: &mut Vec<Output<T>>) -> bool {
        let peer = self.hubs.get(&at.hub).and_then(|hub| hub.role.peer.clone());
        let (Some(peer), Some(partition)) = (peer, self.partitions.get_mut(&at)) else {
            return false;
        };
        let last = partition.head.lsn;
        let Some(first) = partition.shipper.wants(last) else {
            return false;
        };
        let page = match partition.records_from(first, limits::SHIP_PAGE_BYTES_MAX, &*self.store) {
            Ok(page) => page,
            Err(error) => {
                // The follower asks again, and takes a copy if what it needs is trimmed.
                partition.shipper.disconnect();
                if !matches!(error, StoreError::Trimmed { .. }) {
                    out.push(Output::Alarm {
                        at: Some(at),
                        text: error.to_string(),
                    });
                }
                return false;
            }
        };
        let mut records = Vec::with_capacity(page.len());
        for (lsn, bytes) in page {
            partition.shipper.sent(lsn, bytes.len());
            records.push(bytes);
        }
        if records.is_empty() {
            return false;
        }
        out.push(Output::Send {
            to: peer,
            message: Message::Records { at, records },
        });
        partition.shipper.wants(last).is_some()
    }
}

fn diverged(at: Lsn) -> Standing {
    Standing::Wrong(format!(
        "its history differs at record {at}; its own records are kept, nothing is overwritten"
    ))
}
