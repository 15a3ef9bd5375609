//! When answers wait for the partner: always on `sync` hubs, on others while the partner is further behind than the hub's
//! bound. With `partner_away: degrade` a hub goes on without a partner that does not confirm, and says so; with `wait` its
//! answers wait, and after [`limits::PARK_MS_MAX`] their outcome is not known. Nobody waits for a region that a forced failover
//! left behind, until it has returned.

use super::handover::{HubRole, Role};
use super::lease;
use super::partition::{Partition, Serving};
use super::{Engine, Output};
use types::{Lsn, PartitionKey, PartnerAway, UnixMillis, limits};

/// A degraded `sync` hub waits for its partner again once it lags less than this. Below the time after which it degrades.
const CLOSE_MS: i64 = limits::SYNC_DEGRADE_MS / 2;

/// Is the partner as near as the hub's owner wants it?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Together {
    #[default]
    InStep,
    /// Answers leave without the partner: losing this region now loses acknowledged data.
    Apart,
    /// New answers wait again; those up to `lsn` left before the partner had them.
    Closing { lsn: Lsn },
}

impl HubRole {
    /// How far the partner may be behind while answers leave, in milliseconds; `sync` hubs need no bound.
    fn lag_max_ms(&self) -> Option<i64> {
        let bounded = self.role == Role::Primary && self.peer.is_some() && !self.is_sync_primary();
        let bound = self.settings.lag_max_ms.filter(|_| bounded)?;
        Some(i64::from(bound))
    }

    /// Answers of this hub may have to wait for its partner.
    fn may_wait(&self) -> bool {
        self.is_sync_primary() || self.lag_max_ms().is_some()
    }
}

impl<T> Partition<T> {
    /// Answers of records up to here may leave.
    pub fn answered_through(&self, role: &HubRole, now: UnixMillis) -> Lsn {
        let (all, confirmed) = (self.head.lsn, self.shipper.confirmed());
        if self.together == Together::Apart || role.alone {
            return all;
        }
        let waits = match role.lag_max_ms() {
            _ if role.is_sync_primary() => true,
            Some(bound) => self.behind_ms(now) > bound,
            None => false,
        };
        if waits { confirmed } else { all }
    }

    /// Age of the oldest record that the partner has not confirmed, in milliseconds.
    fn behind_ms(&self, now: UnixMillis) -> i64 {
        let oldest = self.ledger.oldest(self.shipper.confirmed());
        oldest.map_or(0, |oldest| now.since(oldest).max(0))
    }

    /// Whether the partner is apart, from now on; and what to tell people of it.
    fn partner_now(
        &self,
        role: &HubRole,
        up: bool,
        now: UnixMillis,
    ) -> (Together, Option<&'static str>) {
        const APART: &str =
            "degraded: the partner region does not confirm, answers leave without it";
        const AGAIN: &str = "in step again: the partner region confirms in time";
        if !role.may_wait() {
            return (Together::InStep, None);
        }
        let sync = role.is_sync_primary();
        let goes_on = role.alone || role.settings.partner_away == PartnerAway::Degrade;
        let confirmed = self.shipper.confirmed();
        let behind = self.behind_ms(now);
        let bound = role.lag_max_ms().unwrap_or(CLOSE_MS);
        let late = match self.waiting.iter().find(|w| w.lsn > confirmed) {
            _ if role.alone => true,
            Some(w) if sync => now.since(w.since) >= limits::SYNC_DEGRADE_MS,
            _ => !sync && !up && behind > bound,
        };
        let near = up && behind <= bound && !role.alone;
        match self.together {
            Together::InStep if goes_on && late => (Together::Apart, Some(APART)),
            Together::Closing { .. } if goes_on && late => (Together::Apart, None),
            Together::Apart if sync && (near || !goes_on) => {
                let lsn = self.head.lsn;
                (Together::Closing { lsn }, None)
            }
            Together::Apart if near || !goes_on => (Together::InStep, Some(AGAIN)),
            Together::Closing { lsn } if confirmed >= lsn => (Together::InStep, Some(AGAIN)),
            same => (same, None),
        }
    }
}

impl<T> Engine<T> {
    /// The partner confirmed something, or need not any more: gives out what no longer has to wait.
    pub(super) fn release_confirmed(
        &mut self,
        at: PartitionKey,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let leased = self.holds_lease();
        let (Some(hub), Some(partition)) = (self.hubs.get(&at.hub), self.partitions.get_mut(&at))
        else {
            return;
        };
        partition.ledger.confirmed(partition.shipper.confirmed());
        watch_partner(partition, &hub.role, &self.links, now, out);
        let through = partition.answered_through(&hub.role, now);
        partition.release_waiting(through, lease::quiet(&hub.role, leased), out);
    }

    /// At a tick: notices partners that stay away, gives out what need not wait any more, and ends what waited too long.
    pub(super) fn tend_waiting(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        let waits = |partition: &&Partition<T>| {
            let hub = self.hubs.get(&partition.at.hub);
            partition.serving != Serving::No && hub.is_some_and(|hub| hub.role.may_wait())
        };
        let led: Vec<PartitionKey> = (self.partitions.values().filter(waits))
            .map(|partition| partition.at)
            .collect();
        for at in led {
            self.release_confirmed(at, now, out);
        }
        for partition in self.partitions.values_mut() {
            partition.expire_waiting(now, out);
        }
    }
}

fn watch_partner<T>(
    partition: &mut Partition<T>,
    role: &HubRole,
    links: &std::collections::BTreeMap<types::RegionName, bool>,
    now: UnixMillis,
    out: &mut Vec<Output<T>>,
) {
    let linked = role
        .peer
        .as_ref()
        .is_some_and(|peer| links.get(peer) == Some(&true));
    let up = linked && partition.shipper.connected();
    let (together, told) = partition.partner_now(role, up, now);
    partition.together = together;
    if let Some(text) = told {
        out.push(Output::Alarm {
            at: Some(partition.at),
            text: text.into(),
        });
    }
}
