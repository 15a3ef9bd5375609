//! The management API's way into its region.

use arm::backend::{Backend, BoxFuture, ControlUnavailable, HubFigures};
use control::checks::CheckReport;
use control::{Answer, Command, State};
use region::{Region, facts};
use std::sync::Arc;
use std::time::Duration;
use types::regions::Catalogue;
use types::{HubId, RegionName, UnixMillis};

const FACTS_TIMEOUT: Duration = Duration::from_secs(2);

pub struct ArmBackend {
    region: Arc<Region>,
}

impl ArmBackend {
    pub fn new(region: Arc<Region>) -> Self {
        ArmBackend { region }
    }
}

impl Backend for ArmBackend {
    fn region(&self) -> &RegionName {
        &self.region.me
    }

    fn now(&self) -> UnixMillis {
        self.region.clock.now()
    }

    fn catalogue(&self) -> &Catalogue {
        &self.region.catalogue
    }

    fn state(&self) -> Arc<State> {
        self.region.plane.state()
    }

    fn submit(
        &self,
        by: String,
        command: Command,
    ) -> BoxFuture<'_, Result<Answer, ControlUnavailable>> {
        Box::pin(async move {
            let answer = self.region.plane.submit(&by, command).await;
            answer.map_err(|error| ControlUnavailable {
                why: error.why,
                may_have_happened: error.may_have_happened,
            })
        })
    }

    fn check(&self, hub: HubId) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>> {
        Box::pin(async move {
            let missing = || ControlUnavailable {
                why: "the hub is gone".into(),
                may_have_happened: false,
            };
            let hub = self
                .region
                .plane
                .with(|state| state.hub(hub).cloned())
                .ok_or_else(missing)?;
            let to = hub.secondary().unwrap_or(&hub.primary).clone();
            Ok(facts::evaluate(&self.region, &hub, &to, None).await)
        })
    }

    fn figures(&self, hub: HubId) -> BoxFuture<'_, Option<HubFigures>> {
        Box::pin(async move {
            let hub = self.region.plane.with(|state| state.hub(hub).cloned())?;
            let told = facts::ask(&self.region, &hub.primary, hub.id, FACTS_TIMEOUT).await?;
            let counts = tokio::time::timeout(FACTS_TIMEOUT, facts::statistics(&self.region, &hub))
                .await
                .ok()??;
            let partitions = &told.partitions;
            Some(HubFigures {
                devices_total: counts.total,
                devices_enabled: counts.enabled,
                devices_disabled: counts.disabled,
                devices_connected: counts.connected,
                lag_records: partitions.iter().map(|p| p.lag_records).sum(),
                lag_ms: partitions
                    .iter()
                    .map(|p| p.lag_ms)
                    .max()
                    .unwrap_or_default(),
                partner_connected: !partitions.is_empty()
                    && partitions.iter().all(|p| p.follower_connected),
            })
        })
    }
}
