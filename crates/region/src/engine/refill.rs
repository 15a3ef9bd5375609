//! A primary that starts asks its partner for what it may have lost, and takes it back before it leads (docs/adr/0005).
//!
//! A disk can lose records that were acknowledged: cut by damage, restored from an older image, replaced. The partner usually
//! has them. Leading without them would give their sequence numbers to other events.

use super::follower::Following;
use super::message::Message;
use super::source::Standing;
use super::{Engine, Output, Role, Touched};
use types::{Epoch, Lsn, PartitionKey, RegionName, UnixMillis, limits};

/// The partner is asked this long, then the partition is served without its word.
const ASK_MS_MAX: i64 = 2000;
const ASK_AGAIN_MS: i64 = 200;
/// Records that were asked for and do not come are asked for again.
const PULL_AGAIN_MS: i64 = 2000;
const COPY_AGAIN_MS: i64 = 10_000;

/// Where a starting primary's partition stands with its partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refill {
    /// Settled, or not the primary.
    #[default]
    No,
    /// The partner's position is not known yet.
    Asking {
        since: UnixMillis,
        asked: Option<UnixMillis>,
    },
    /// The partner has everything up to `lsn`; `heard`: when some of it came last, `None`: to be asked at the next tick.
    Pulling {
        lsn: Lsn,
        crc: u32,
        heard: Option<UnixMillis>,
    },
}

impl Refill {
    pub fn under_way(&self) -> bool {
        *self != Refill::No
    }

    /// Records after `have` are still missing.
    pub fn lacks(&self, have: Lsn) -> bool {
        matches!(self, Refill::Pulling { lsn, .. } if have < *lsn)
    }

    pub fn heard(&mut self, now: UnixMillis) {
        if let Refill::Pulling { heard, .. } = self {
            *heard = Some(now);
        }
    }

    pub fn ask_again(&mut self) {
        match self {
            Refill::No => {}
            Refill::Asking { asked, .. } => *asked = None,
            Refill::Pulling { heard, .. } => *heard = None,
        }
    }
}

/// What is to be done for one partition at a tick.
enum Due {
    Send(RegionName, Message),
    /// Everything is here, or the partner could not be asked in time (then the text for people).
    Lead(Option<String>),
    Stop(String),
}

impl<T> Engine<T> {
    /// A partition whose primary this region is, as the process starts: its partner is asked before it is served.
    pub(super) fn begin_refill(&mut self, at: PartitionKey, now: UnixMillis) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.refill = Refill::Asking {
                since: now,
                asked: None,
            };
        }
    }

    /// Asks, asks again, and opens what is settled.
    pub(super) fn go_on_refilling(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let under_way = self.partitions.values().filter(|p| p.refill.under_way());
        let due: Vec<_> = under_way
            .filter_map(|p| Some((p.at, self.due(p.at, now)?)))
            .collect();
        for (at, due) in due {
            match due {
                Due::Send(to, message) => {
                    let partition = self.partitions.get_mut(&at).expect("listed");
                    partition.refill.heard(now);
                    if let Refill::Asking { asked, .. } = &mut partition.refill {
                        *asked = Some(now);
                    }
                    out.push(Output::Send { to, message });
                }
                Due::Lead(doubt) => {
                    if let Some(text) = doubt {
                        out.push(Output::Alarm { at: Some(at), text });
                    }
                    self.settle(at, now, touched, out);
                }
                Due::Stop(why) => self.stop_refilling(at, why, out),
            }
        }
    }

    fn due(&self, at: PartitionKey, now: UnixMillis) -> Option<Due> {
        let partition = self.partitions.get(&at)?;
        let role = &self.hubs.get(&at.hub)?.role;
        let (Role::Primary, None) = (role.role, &partition.broken) else {
            return None;
        };
        let Some(peer) = &role.peer else {
            return Some(Due::Lead(None));
        };
        let up = self.links.get(peer) == Some(&true);
        match partition.refill {
            Refill::No => None,
            Refill::Asking { since, .. }
                if now.since(since) >= ASK_MS_MAX && partition.returning().is_none() =>
            {
                Some(Due::Lead(Some(format!(
                    "served without the word of {peer}, which could not be asked within {ASK_MS_MAX} ms: what only it has is missing here"
                ))))
            }
            Refill::Asking { asked, .. } => {
                let late = asked.is_none_or(|asked| now.since(asked) >= ASK_AGAIN_MS);
                (up && late).then(|| Due::Send(peer.clone(), Message::PositionAsked { at }))
            }
            Refill::Pulling { lsn, crc, .. } if partition.head.lsn >= lsn => {
                if (partition.head.lsn, partition.head.crc) == (lsn, crc) {
                    Some(Due::Lead(None))
                } else {
                    Some(Due::Stop(differs(peer, lsn)))
                }
            }
            Refill::Pulling { heard, .. } => {
                let patience = match partition.following {
                    Following::Copying { .. } => COPY_AGAIN_MS,
                    _ => PULL_AGAIN_MS,
                };
                let late = heard.is_none_or(|heard| now.since(heard) >= patience);
                (up && late).then(|| {
                    let message = Message::Refill {
                        at,
                        lsn: partition.head.lsn,
                        crc: partition.head.crc,
                    };
                    Due::Send(peer.clone(), message)
                })
            }
        }
    }

    fn settle(
        &mut self,
        at: PartitionKey,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(role) = self.hubs.get(&at.hub).map(|hub| hub.role.clone()) else {
            return;
        };
        self.unsettled.remove(&at);
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.refill = Refill::No;
            partition.following = Following::default();
        }
        self.become_primary(at, role.epoch, now, touched, out);
        self.count_devices(at.hub, now);
    }

    fn stop_refilling(&mut self, at: PartitionKey, why: String, out: &mut Vec<Output<T>>) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("stopped: {why}"),
        });
        partition.broken = Some(why);
    }

    /// This region leads the partition and takes back from `from` what it lacks.
    pub(super) fn refills(&self, at: PartitionKey, from: &RegionName) -> bool {
        self.hubs.get(&at.hub).is_some_and(|hub| {
            hub.role.role == Role::Primary && hub.role.peer.as_ref() == Some(from)
        }) && self
            .partitions
            .get(&at)
            .is_some_and(|p| matches!(p.refill, Refill::Pulling { .. }))
    }

    /// The secondary's answer to [`Message::PositionAsked`].
    pub(super) fn position_asked(
        &mut self,
        from: RegionName,
        at: PartitionKey,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.follows(at, &from) || self.failed.is_some() {
            return;
        }
        let Some(head) = self.partitions.get(&at).map(|partition| partition.head) else {
            return;
        };
        let message = Message::Position {
            at,
            epoch: head.epoch,
            lsn: head.lsn,
            crc: head.crc,
        };
        out.push(Output::Send { to: from, message });
    }

    /// The partner's position: lead, take back what is missing, or stop.
    pub(super) fn position(
        &mut self,
        from: &RegionName,
        (at, epoch, lsn, crc): (PartitionKey, Epoch, Lsn, u32),
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let asked = self.hubs.get(&at.hub).is_some_and(|hub| {
            hub.role.role == Role::Primary && hub.role.peer.as_ref() == Some(from)
        });
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let asking = matches!(partition.refill, Refill::Asking { .. });
        if !asked || !asking || partition.broken.is_some() || self.failed.is_some() {
            return;
        }
        let head = &partition.head;
        // A partner that is behind in epoch was overtaken by a failover: what it has beyond was given up then. One of a higher
        // epoch was given up whole, if this region is yet to open one beyond that.
        let opens = self.hubs.get(&at.hub).map(|hub| hub.role.epoch);
        let given_up = epoch > head.epoch && opens.is_some_and(|opens| opens > epoch);
        let overtaken = epoch < head.epoch || given_up;
        if overtaken || lsn < head.lsn && epoch == head.epoch || (lsn, crc) == (head.lsn, head.crc)
        {
            self.settle(at, now, touched, out);
        } else if lsn <= head.lsn {
            self.stop_refilling(at, differs(from, lsn), out);
        } else {
            out.push(Output::Alarm {
                at: Some(at),
                text: format!(
                    "{from} has records up to {lsn}, this region only up to {}: taking them back before it leads",
                    head.lsn
                ),
            });
            partition.refill = Refill::Pulling {
                lsn,
                crc,
                heard: Some(now),
            };
            let message = Message::Refill {
                at,
                lsn: head.lsn,
                crc: head.crc,
            };
            out.push(Output::Send {
                to: from.clone(),
                message,
            });
        }
    }

    /// The secondary gives back one page of what its primary lacks.
    pub(super) fn refill_asked(
        &mut self,
        from: RegionName,
        at: PartitionKey,
        (lsn, crc): (Lsn, u32),
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        if !self.follows(at, &from) || self.failed.is_some() {
            return;
        }
        let Some(partition) = self.partitions.get(&at) else {
            return;
        };
        if matches!(partition.following, Following::Copying { .. }) {
            return;
        }
        let kept_back = partition.broken.clone().or_else(|| partition.returning());
        let refused = match (&kept_back, self.standing(at, lsn, crc)) {
            (Some(why), _) => format!("its own copy is stopped: {why}"),
            (None, Ok(Standing::Stream)) => return self.give_back(from, at, lsn, out),
            (None, Ok(Standing::Copy)) if lsn == Lsn(0) => {
                return self.begin_copy(from, at, now, out);
            }
            (None, Ok(Standing::Copy)) => "what is missing is no longer in its log".into(),
            (None, Ok(Standing::Wrong(why))) => why,
            (None, Err(error)) => {
                return out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
            }
        };
        let message = Message::Refused { at, why: refused };
        out.push(Output::Send { to: from, message });
    }

    fn give_back(&self, to: RegionName, at: PartitionKey, after: Lsn, out: &mut Vec<Output<T>>) {
        let page = self
            .store
            .read_log(at, after.next(), limits::SHIP_PAGE_BYTES_MAX);
        match page {
            Ok(page) if page.is_empty() => {}
            Ok(page) => {
                let records = page.into_iter().map(|record| record.bytes).collect();
                let message = Message::Records { at, records };
                out.push(Output::Send { to, message });
            }
            Err(error) => out.push(Output::Alarm {
                at: Some(at),
                text: error.to_string(),
            }),
        }
    }
}

fn differs(peer: &RegionName, at: Lsn) -> String {
    format!("its history differs from that of {peer} at record {at}; nothing is overwritten")
}
