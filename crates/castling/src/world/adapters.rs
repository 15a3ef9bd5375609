//! The management API's way into its region.

use arm::backend::{
    Backend, BoxFuture, By, ControlUnavailable, DeviceEntry, DeviceError, DeviceFigures,
    HubFigures, LeaseFigures, PartitionLag, RegionAddress, Replayed, Salvage, SalvageError,
    SalvagePage, SalvagedChange, SalvagedEvent, Salvages,
};
use control::checks::CheckReport;
use control::{AcceptedLoss, Answer, Command, Hub, State};
use region::{Region, facts, peer, salvage};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use types::regions::Catalogue;
use types::{DeviceId, HubId, Lsn, PartitionId, PartitionKey, RegionName, UnixMillis, limits};

/// Shorter than the management API waits, so that it is told what is known.
const FACTS_TIMEOUT: Duration = Duration::from_millis(limits::MANAGEMENT_FIGURES_MS_MAX - 300);

pub struct ArmBackend {
    region: Arc<Region>,
    reached: Reached,
}

/// Where regions are reached: told once their listeners are open.
pub type Reached = Arc<OnceLock<Vec<RegionAddress>>>;

impl ArmBackend {
    pub fn new(region: Arc<Region>, reached: Reached) -> Self {
        ArmBackend { region, reached }
    }

    fn hub(&self, id: HubId) -> Option<Hub> {
        self.region.plane.with(|state| state.hub(id).cloned())
    }
}

impl Backend for ArmBackend {
    fn region(&self) -> &RegionName {
        &self.region.me
    }

    fn reached(&self) -> Vec<RegionAddress> {
        self.reached.get().cloned().unwrap_or_default()
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
        by: By,
        command: Command,
    ) -> BoxFuture<'_, Result<Answer, ControlUnavailable>> {
        Box::pin(async move {
            let answer = self
                .region
                .plane
                .submit_from(&by.name, by.origin, command)
                .await;
            answer.map_err(|error| ControlUnavailable {
                why: error.why,
                may_have_happened: error.may_have_happened,
            })
        })
    }

    fn check(&self, hub: HubId) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>> {
        Box::pin(async move {
            let hub = self.hub(hub).ok_or_else(gone)?;
            let to = hub.secondary().unwrap_or(&hub.primary).clone();
            Ok(facts::evaluate(&self.region, &hub, &to, None).await)
        })
    }

    fn check_forced(
        &self,
        hub: HubId,
        accept: Option<AcceptedLoss>,
    ) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>> {
        Box::pin(async move {
            let hub = self.hub(hub).ok_or_else(gone)?;
            let to = hub.secondary().unwrap_or(&hub.primary).clone();
            Ok(facts::evaluate_forced(&self.region, &hub, &to, None, accept.as_ref()).await)
        })
    }

    fn figures(&self, hub: HubId) -> BoxFuture<'_, Option<HubFigures>> {
        Box::pin(async move {
            let hub = self.hub(hub)?;
            // A primary without a lease still tells of itself, but nothing of its devices.
            let (told, counts) = tokio::join!(
                facts::ask(&self.region, &hub.primary, hub.id, FACTS_TIMEOUT),
                tokio::time::timeout(FACTS_TIMEOUT, facts::statistics(&self.region, &hub)),
            );
            Some(figures(&told?, counts.ok().flatten()))
        })
    }

    fn salvages(&self, hub: HubId) -> BoxFuture<'_, Salvages> {
        Box::pin(async move {
            let Some(hub) = self.hub(hub) else {
                return Salvages::default();
            };
            let found = salvage::list(&self.region, &hub).await;
            let segments = found.segments.iter();
            Salvages {
                found: segments.map(|(keeper, one)| segment(keeper, one)).collect(),
                silent: found.silent,
            }
        })
    }

    fn salvage(
        &self,
        hub: HubId,
        id: String,
        from: Option<String>,
    ) -> BoxFuture<'_, Result<SalvagePage, SalvageError>> {
        Box::pin(async move {
            let hub = self.hub(hub).ok_or(SalvageError::NotFound)?;
            let from = from.as_deref().map(position).transpose()?;
            let (keeper, found) = salvage::find(&self.region, &hub, &id)
                .await
                .map_err(unread)?;
            let shown = salvage::show(&self.region, &hub, &keeper, &found, from).await;
            let (changes, events, next) = shown.map_err(unread)?;
            Ok(SalvagePage {
                salvage: segment(&keeper, &found),
                changes: changes.into_iter().map(change).collect(),
                events: events.into_iter().map(event).collect(),
                next: next.map(|lsn| lsn.0.to_string()),
            })
        })
    }

    fn replay(&self, hub: HubId, id: String) -> BoxFuture<'_, Result<Replayed, SalvageError>> {
        Box::pin(async move {
            let hub = self.hub(hub).ok_or(SalvageError::NotFound)?;
            let (keeper, found) = salvage::find(&self.region, &hub, &id)
                .await
                .map_err(unread)?;
            let done = salvage::replay(&self.region, &keeper, &found).await;
            let done = done.map_err(error)?;
            Ok(Replayed {
                appended: done.appended,
                skipped: done.skipped,
            })
        })
    }

    fn discard(&self, hub: HubId, id: String) -> BoxFuture<'_, Result<(), SalvageError>> {
        Box::pin(async move {
            let hub = self.hub(hub).ok_or(SalvageError::NotFound)?;
            let (keeper, found) = salvage::find(&self.region, &hub, &id)
                .await
                .map_err(unread)?;
            salvage::discard(&self.region, &keeper, &found)
                .await
                .map_err(error)
        })
    }

    fn devices(
        &self,
        hub: HubId,
        partition: PartitionId,
        after: Option<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<arm::backend::ExportedDevice>, String>> {
        Box::pin(super::devices::page(
            &self.region,
            PartitionKey { hub, partition },
            after,
        ))
    }

    fn import_devices(
        &self,
        hub: HubId,
        entries: Vec<DeviceEntry>,
    ) -> BoxFuture<'_, Result<Vec<DeviceError>, String>> {
        Box::pin(super::devices::change(&self.region, hub, entries))
    }
}

fn gone() -> ControlUnavailable {
    ControlUnavailable {
        why: "the hub is gone".into(),
        may_have_happened: false,
    }
}

fn figures(told: &peer::Facts, counts: Option<facts::DeviceCounts>) -> HubFigures {
    let partitions = &told.partitions;
    let mut lags: Vec<PartitionLag> = partitions
        .iter()
        .map(|p| PartitionLag {
            partition: p.partition,
            records: p.lag_records,
            ms: p.lag_ms,
        })
        .collect();
    lags.sort_by_key(|lag| lag.partition);
    HubFigures {
        devices: counts.map(|counts| DeviceFigures {
            total: counts.total,
            enabled: counts.enabled,
            disabled: counts.disabled,
            connected: counts.connected,
        }),
        partitions: lags,
        partner_connected: !partitions.is_empty()
            && partitions.iter().all(|p| p.follower_connected),
        degraded: partitions.iter().any(|p| p.degraded),
        lease: LeaseFigures {
            held: told.lease_left_ms > 0,
            left_ms: told.lease_left_ms,
        },
    }
}

/// Where a page begins, as the page before named it.
fn position(from: &str) -> Result<Lsn, SalvageError> {
    let lsn = from.parse().map_err(|_| {
        SalvageError::Refused("'from' must be the 'next' of the page before".to_owned())
    })?;
    Ok(Lsn(lsn))
}

fn segment(keeper: &RegionName, found: &salvage::Segment) -> Salvage {
    Salvage {
        id: found.id.clone(),
        region: keeper.clone(),
        partition: found.partition,
        epoch: found.epoch,
        first: found.first,
        last: found.last,
        records: found.records,
        events: found.events,
        bytes: found.bytes,
        first_time: found.first_time,
        last_time: found.last_time,
        made: found.made,
    }
}

fn change(compared: salvage::Compared) -> SalvagedChange {
    SalvagedChange {
        kind: compared.lost.kind.to_string(),
        device: compared.lost.device.map(|device| device.to_string()),
        what: compared.lost.what.to_string(),
        lost: compared.lost.value,
        present: compared.present,
    }
}

fn event(lost: salvage::LostEvent) -> SalvagedEvent {
    SalvagedEvent {
        sequence: lost.sequence,
        device: lost.device.to_string(),
        enqueued: lost.enqueued,
        bytes: lost.bytes,
    }
}

/// Reading does nothing, so nothing can have been done.
fn unread(failed: salvage::SalvageError) -> SalvageError {
    match error(failed) {
        SalvageError::OutcomeUnknown(why) => SalvageError::Unavailable(why),
        other => other,
    }
}

fn error(error: salvage::SalvageError) -> SalvageError {
    match error {
        salvage::SalvageError::NotFound => SalvageError::NotFound,
        salvage::SalvageError::Unavailable(why) => SalvageError::Unavailable(why),
        salvage::SalvageError::OutcomeUnknown(why) => SalvageError::OutcomeUnknown(why),
        salvage::SalvageError::Refused(why) => SalvageError::Refused(why),
    }
}
