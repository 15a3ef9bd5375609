//! The primary's side of a return: it answers from what is durable and remembers nothing.

use super::super::message::Message;
use super::super::{Engine, Output};
use super::history::{crc_at, kept};
use bytes::Bytes;
use types::{Lsn, PartitionKey, RegionName, limits};

impl<T> Engine<T> {
    /// The follower's own records are of an epoch that ended here before them.
    pub(in super::super) fn say_diverged(
        &mut self,
        to: RegionName,
        at: PartitionKey,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        // Whatever it confirmed once is not what it has.
        partition.shipper = replication::Shipper::default();
        let head = partition.head;
        match kept(at, &head, &*self.store) {
            Ok(kept) => {
                let head = head.encode().into();
                let message = Message::Diverged { at, head, kept };
                out.push(Output::Send { to, message });
            }
            Err(error) => out.push(Output::Alarm {
                at: Some(at),
                text: error.to_string(),
            }),
        }
    }

    /// The checksum of one record.
    pub(in super::super) fn crc_asked(
        &mut self,
        to: RegionName,
        at: PartitionKey,
        lsn: Lsn,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.serves_follower(at, &to) {
            return;
        }
        match crc_at(at, &self.partitions[&at].head, lsn, &*self.store) {
            Ok(crc) => {
                let message = Message::Crc { at, lsn, crc };
                out.push(Output::Send { to, message });
            }
            Err(error) => out.push(Output::Alarm {
                at: Some(at),
                text: error.to_string(),
            }),
        }
    }

    /// Present values, as many as fit a page. Values of several moments do no harm: the follower applies every
    /// record up to the latest head it heard, and what no such record changes has one value only.
    pub(in super::super) fn difference_asked(
        &mut self,
        to: RegionName,
        (at, id): (PartitionKey, u64),
        keys: Vec<Bytes>,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.serves_follower(at, &to) {
            return;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for key in keys.into_iter().take(limits::REWIND_KEYS_MAX) {
            let value = match self.store.get(at, &key) {
                Ok(value) => value,
                Err(error) => {
                    let text = error.to_string();
                    return out.push(Output::Alarm { at: Some(at), text });
                }
            };
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            if !entries.is_empty() && bytes > limits::SHIP_PAGE_BYTES_MAX {
                break;
            }
            entries.push((key, value));
        }
        let head = self.partitions[&at].head.encode().into();
        out.push(Output::Send {
            to,
            message: Message::Difference {
                at,
                id,
                head,
                entries,
            },
        });
    }
}
