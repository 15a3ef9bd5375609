//! What the management API asks of the region it stands in. The binary wires this to the region; tests use a fake.

use control::checks::CheckReport;
use control::{Answer, Command, State};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use types::regions::Catalogue;
use types::{HubId, RegionName, UnixMillis};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The control plane has no leader that answers in time. `may_have_happened`: the command was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlUnavailable {
    pub why: String,
    pub may_have_happened: bool,
}

pub trait Backend: Send + Sync + 'static {
    fn region(&self) -> &RegionName;
    fn now(&self) -> UnixMillis;
    fn catalogue(&self) -> &Catalogue;
    /// This region's copy of the control plane's state. Served always, also during a failover.
    fn state(&self) -> Arc<State>;
    /// Proposes a command through the leader, waits until this region's copy has it too, gives the answer.
    fn submit(
        &self,
        by: String,
        command: Command,
    ) -> BoxFuture<'_, Result<Answer, ControlUnavailable>>;
    /// The dry run: the same checks as a failover's first step. Changes nothing.
    fn check(&self, hub: HubId) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>>;
    /// Live figures of a hub from its primary.
    fn figures(&self, hub: HubId) -> BoxFuture<'_, Option<HubFigures>>;
}

/// Live figures of a hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HubFigures {
    pub devices_total: u64,
    pub devices_enabled: u64,
    pub devices_disabled: u64,
    pub devices_connected: u64,
    /// Records the secondary has not confirmed, over all partitions.
    pub lag_records: u64,
    /// Age of the oldest such record, in milliseconds.
    pub lag_ms: i64,
    pub partner_connected: bool,
}
