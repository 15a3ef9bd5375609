//! The region's lease: this region may acknowledge only while it holds it (docs/adr/0013).
//!
//! A renewal is a read barrier through the control plane's leader. It gives an index, and the lease goes on only after this
//! region's copy has that index and its engine the roles that stand there. So whatever was committed before the grant is
//! known here when the lease goes on, and whatever is committed afterwards waits out the lease.

use crate::clock::monotonic_ms;
use crate::engine::Input;
use crate::peer::Cast;
use crate::region::Region;
use link::Class;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use types::limits;

/// How long a region may acknowledge without a renewal, and how often it renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    pub lease_ms: u64,
    pub renew_ms: u64,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        LeaseTimes {
            lease_ms: limits::LEASE_MS,
            renew_ms: limits::LEASE_RENEW_MS,
        }
    }
}

impl LeaseTimes {
    /// How long another region's lease must be waited out: its clock may run slower than ours.
    pub fn wait_ms(&self) -> u64 {
        self.lease_ms + self.lease_ms / limits::LEASE_CLOCK_RATE_PARTS
    }
}

/// This region's lease as everyone in it may read it.
#[derive(Debug, Default)]
pub struct Lease {
    /// On the monotonic clock; 0: there never was one.
    until: AtomicU64,
    /// How often it went on after it had lapsed (or for the first time).
    terms: AtomicU64,
    renewals: AtomicU64,
    failures: AtomicU64,
}

impl Lease {
    pub fn held(&self) -> bool {
        self.left_ms() > 0
    }

    pub fn left_ms(&self) -> u64 {
        self.until
            .load(Ordering::Acquire)
            .saturating_sub(monotonic_ms())
    }

    /// For how long it has been lapsed; `None`: it is held, or there never was one.
    pub fn lapsed_ms(&self) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        (until > 0).then(|| monotonic_ms().checked_sub(until))?
    }

    /// The number of the unbroken time for which it has been held; `None`: it is not held. An answer that was given in one
    /// term must not leave in another: between them another region may have opened.
    pub fn term(&self) -> Option<u64> {
        self.held().then(|| self.terms.load(Ordering::Acquire))
    }

    /// The term in which a question that is asked now is answered, if one is: this one, or the one that begins next.
    pub fn answering_term(&self) -> u64 {
        let begun = self.terms.load(Ordering::Acquire);
        if self.held() { begun } else { begun + 1 }
    }

    /// Renewals that succeeded and that failed, since the start.
    pub fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.renewals), read(&self.failures))
    }

    fn extend(&self, until: u64) {
        // Before it is held again: who sees the new end sees the new number.
        if !self.held() {
            self.terms.fetch_add(1, Ordering::AcqRel);
        }
        self.until.fetch_max(until, Ordering::AcqRel);
        self.renewals.fetch_add(1, Ordering::Relaxed);
    }
}

/// Renews the lease as long as the region runs.
pub(crate) async fn keep(region: Arc<Region>) {
    let times = region.times;
    let mut said = false;
    loop {
        let next = Instant::now() + Duration::from_millis(times.renew_ms);
        let asked = monotonic_ms();
        match renew(&region).await {
            Ok(()) => {
                let until = asked + times.lease_ms;
                region.engine().tell(Input::Lease { until });
                region.lease.extend(until);
                tell_words(&region);
                region.plane.wait_for(None);
                if said {
                    tracing::info!(region = %region.me, "the lease is held again");
                    said = false;
                }
                tokio::time::sleep_until(next).await;
            }
            Err(why) => {
                region.lease.failures.fetch_add(1, Ordering::Relaxed);
                if !region.lease.held() && !region.plane.consensus().is_empty() {
                    region.plane.wait_for(Some(format!("no lease: {why}")));
                }
                if !said && !region.lease.held() && region.ready() {
                    tracing::warn!(region = %region.me, %why, "the lease lapsed: nothing is acknowledged until it is renewed");
                    said = true;
                }
                let soon = Duration::from_millis((times.renew_ms / 5).max(10));
                tokio::time::sleep(soon).await;
            }
        }
    }
}

/// Tells every other node what only this region has: the leader that heard it with the renewal may be lost as well.
fn tell_words(region: &Region) {
    let words = region.words.all();
    if words.is_empty() {
        return;
    }
    for peer in region.links.peers().into_iter().filter(|peer| peer.up) {
        let words = words.clone();
        region
            .router
            .cast(&peer.name, Class::Control, &Cast::Words { words });
    }
}

/// One renewal; once it succeeds the engine has been told every role that counts.
async fn renew(region: &Arc<Region>) -> Result<(), String> {
    region.plane.renew(region.words.all()).await?;
    region.tell_roles();
    region.trust();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lapse_begins_a_new_term_and_a_renewal_in_time_does_not() {
        let lease = Lease::default();
        assert_eq!(lease.term(), None);
        let now = monotonic_ms();
        lease.extend(now + 60_000);
        let first = lease.term();
        assert_eq!(first, Some(lease.answering_term()));
        lease.extend(now + 120_000);
        assert!(first.is_some() && lease.term() == first);

        let lapsed = Lease::default();
        lapsed.extend(1);
        assert_eq!((lapsed.term(), lapsed.answering_term()), (None, 2));
        lapsed.extend(now + 60_000);
        assert_eq!(lapsed.term(), Some(2));
    }
}
