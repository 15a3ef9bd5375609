//! The lease: without it this region cannot know that it still is a hub's primary, so it acknowledges and shows nothing
//! (docs/adr/0013). Records it has are shipped and applied all the same.

use super::handover::HubRole;
use super::partition::{Held, Partition, Serving};
use super::{Engine, Output, Refusal};
use types::{HubId, PartitionKey, UnixMillis};

/// Why a primary acknowledges nothing for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    NoLease,
    /// A forced failover away from here waits for the lease to be over.
    Suspended,
}

impl Quiet {
    /// For a command of which nothing was done.
    pub fn refusal(self) -> Refusal {
        match self {
            Quiet::NoLease => Refusal::NoLease,
            Quiet::Suspended => Refusal::FailingOver,
        }
    }

    /// For an answer that must not leave any more: what changed something is on disk here, and may survive or not.
    fn refusal_of<T>(self, held: &Held<T>) -> Refusal {
        let why = match (held.wrote && held.answer.is_ok(), self) {
            (false, _) => return self.refusal(),
            (true, Quiet::NoLease) => "the region's lease lapsed before this could be acknowledged",
            (true, Quiet::Suspended) => "a forced failover began before this could be acknowledged",
        };
        Refusal::OutcomeUnknown(why.into())
    }

    pub fn refuse<T>(self, replies: Vec<Held<T>>, out: &mut Vec<Output<T>>) {
        for held in replies {
            let refusal = self.refusal_of(&held);
            out.push(Output::Reply(held.asker, Err(refusal)));
        }
    }
}

/// Why a hub in this role is quiet, if it is.
pub(super) fn quiet(role: &HubRole, leased: bool) -> Option<Quiet> {
    match (role.suspended, leased) {
        (true, _) => Some(Quiet::Suspended),
        (false, false) => Some(Quiet::NoLease),
        (false, true) => None,
    }
}

impl<T> Engine<T> {
    /// May this region acknowledge at this very moment?
    pub fn holds_lease(&self) -> bool {
        (self.monotonic)() < self.lease_until
    }

    /// What is left of the lease, in milliseconds; 0: it is not held.
    pub fn lease_left_ms(&self) -> u64 {
        self.lease_until.saturating_sub((self.monotonic)())
    }

    /// End of the lease on the monotonic clock; 0: there never was one.
    pub fn lease_until(&self) -> u64 {
        self.lease_until
    }

    pub(super) fn extend_lease(&mut self, until: u64, now: UnixMillis, out: &mut Vec<Output<T>>) {
        self.lease_until = self.lease_until.max(until);
        if self.lease_seen || !self.holds_lease() {
            return;
        }
        self.lease_seen = true;
        let led: Vec<PartitionKey> = self.led().collect();
        self.tell_readers(&led, out);
        for at in led {
            self.release_confirmed(at, now, out);
        }
    }

    /// Is the lease held? Sends readers away when it has lapsed since the last look; only a new grant brings them back.
    pub(super) fn watch_lease(&mut self, out: &mut Vec<Output<T>>) -> bool {
        let held = self.holds_lease();
        if self.lease_seen && !held {
            self.lease_seen = false;
            let led: Vec<PartitionKey> = self.led().collect();
            self.tell_readers(&led, out);
        }
        held
    }

    fn led(&self) -> impl Iterator<Item = PartitionKey> {
        let led = |partition: &&Partition<T>| partition.serving != Serving::No;
        self.partitions.values().filter(led).map(|p| p.at)
    }

    /// May events of the hub be read here?
    pub(super) fn readable(&self, hub: HubId) -> bool {
        let role = self.hubs.get(&hub).map(|hub| &hub.role);
        role.is_some_and(|role| quiet(role, self.lease_seen).is_none())
    }

    /// Tells what may be read of these partitions, or that nothing may. One that opens in this turn follows with its commit.
    pub(super) fn tell_readers(&self, of: &[PartitionKey], out: &mut Vec<Output<T>>) {
        for at in of {
            let Some(partition) = self.partitions.get(at) else {
                continue;
            };
            if partition.serving == Serving::No || partition.turn.opens {
                continue;
            }
            let epoch = self.readable(at.hub).then_some(partition.head.epoch);
            let next = partition.visible;
            out.push(Output::Visible {
                at: *at,
                next,
                epoch,
            });
        }
    }
}
