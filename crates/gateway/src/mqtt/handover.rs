//! Closes a listener's connections at a rate while its region does not serve devices: isolated, or drained.
//!
//! MQTT 3.1.1 knows no redirect, so a device learns of it by its socket's end and connects again, to a region that admits it.

use super::admission::Bucket;
use super::connection::Shared;
use super::end::End;
use super::mailbox::Mailbox;
use super::server::OpenConnections;
use crate::backend::Standing;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use types::limits;

/// Watches the region's standing for as long as it is polled.
pub(super) async fn watch(shared: Arc<Shared>, open: Arc<OpenConnections>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::STANDING_LOOK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut handover: Option<Handover> = None;
    loop {
        ticks.tick().await;
        let order = order(shared.backend.standing());
        match (&mut handover, order) {
            (_, None) => handover = None,
            (Some(running), Some(order)) if running.order == order => running.go_on(&open),
            (_, Some(order)) => {
                tracing::info!(
                    per_second = order.0,
                    why = order.1.label(),
                    "device connections are being closed"
                );
                handover.insert(Handover::new(order)).go_on(&open);
            }
        }
    }
}

/// How many to close a second, and why.
fn order(standing: Standing) -> Option<(u32, End)> {
    match standing {
        // At no rate: who is here stays, nobody new comes.
        Standing::Draining { rate_per_s: 0 } => None,
        Standing::Draining { rate_per_s } => Some((rate_per_s, End::Drained)),
        _ if standing.is_isolated() => Some((limits::ISOLATED_CLOSES_PER_SECOND, End::Isolated)),
        Standing::Serving | Standing::NoLease { .. } => None,
    }
}

struct Handover {
    order: (u32, End),
    bucket: Bucket,
    /// Those that were open when this was filled, and are not told yet.
    left: Vec<Weak<Mailbox>>,
}

impl Handover {
    fn new(order: (u32, End)) -> Self {
        let per_look = u64::from(order.0) * limits::STANDING_LOOK_MS / 1000;
        Handover {
            order,
            // Twice what a look is due: one that comes late makes up for it.
            bucket: Bucket::new(order.0, (per_look * 2) as u32, Instant::now()),
            left: Vec::new(),
        }
    }

    /// Closes as many as are due.
    fn go_on(&mut self, open: &OpenConnections) {
        let now = Instant::now();
        if self.left.is_empty() {
            self.left = open.not_closing();
        }
        while !self.left.is_empty() && self.bucket.take(now) {
            let newly = |mailbox: Arc<Mailbox>| mailbox.close(self.order.1);
            // Those that are gone meanwhile cost nothing.
            while let Some(next) = self.left.pop()
                && !next.upgrade().is_some_and(newly)
            {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::metrics::Metrics;
    use crate::mqtt::server::Ticket;

    fn closing(tickets: &[Ticket]) -> usize {
        tickets
            .iter()
            .filter(|ticket| ticket.mailbox.is_closing())
            .count()
    }

    /// 1,000 connections, and how many are closed after each second.
    async fn run(per_second: u32, seconds: u32) -> Vec<usize> {
        let (open, metrics) = (Arc::<OpenConnections>::default(), Arc::<Metrics>::default());
        let tickets: Vec<_> = (0..1000).map(|_| open.enter(metrics.clone())).collect();
        let mut handover = Handover::new((per_second, End::Drained));
        let mut counts = Vec::new();
        for _ in 0..seconds {
            for _ in 0..1000 / limits::STANDING_LOOK_MS {
                handover.go_on(&open);
                tokio::time::advance(Duration::from_millis(limits::STANDING_LOOK_MS)).await;
            }
            counts.push(closing(&tickets));
        }
        counts
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_closed_at_the_set_rate_and_none_twice() {
        // One look's worth comes early.
        assert_eq!(run(200, 5).await, [210, 410, 610, 810, 1000]);
        assert_eq!(run(1, 3).await, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_connects_meanwhile_is_closed_as_well() {
        let (open, metrics) = (Arc::<OpenConnections>::default(), Arc::<Metrics>::default());
        let first = open.enter(metrics.clone());
        let mut handover = Handover::new((1000, End::Isolated));
        handover.go_on(&open);
        let second = open.enter(metrics);
        handover.go_on(&open);
        assert_eq!(closing(&[first, second]), 2);
    }

    #[test]
    fn a_hiccup_of_the_lease_closes_nothing() {
        let grace = limits::LEASE_GRACE_MS;
        assert_eq!(order(Standing::Serving), None);
        assert_eq!(order(Standing::Draining { rate_per_s: 0 }), None);
        assert_eq!(
            order(Standing::NoLease {
                since_ms: grace - 1
            }),
            None
        );
        let isolated = order(Standing::NoLease { since_ms: grace });
        assert_eq!(isolated.map(|(_, end)| end), Some(End::Isolated));
    }
}
