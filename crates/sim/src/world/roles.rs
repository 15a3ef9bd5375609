//! Who a region is for the hub, and where requests go: engine and routes follow this region's copy of the control plane.

use super::World;
use super::event::Node;
use super::gateway::Route;
use super::voters::WITNESS;
use crate::fault::Fault;
use crate::history::RegionId;
use control::State;
use control::failover::{last_forced, opens_alone, suspended};
use control::model::HubState;
use region::engine::{HubRole, Input, Role};
use std::sync::Arc;
use types::{Epoch, HubId, RegionName};

impl World {
    /// Tells the engine the roles of this region's copy, unless it was told those already. As `Region::tell_roles`.
    pub(super) fn tell_roles(&mut self, region: RegionId) {
        if region == WITNESS {
            return;
        }
        let me = self.regions[region].name.clone();
        let deaf = self.fault == Some(Fault::IgnoreSuspended);
        let Some(process) = self.process(region) else {
            return;
        };
        let revision = process.seat.view.revision;
        if process.told == Some(revision) {
            return;
        }
        let first = process.told.replace(revision).is_none();
        let roles = roles_of(&process.seat.view, &me, deaf);
        self.tell(region, Input::Roles(roles));
        if first {
            self.tell(region, Input::DropUnknown);
        }
    }

    pub(super) fn routes_follow(&mut self, node: Node) {
        if node == WITNESS {
            return;
        }
        let Some(process) = self.process(node) else {
            return;
        };
        if let Some(hub) = process.seat.view.hub(super::HUB) {
            let parted = last_forced(&process.seat.view, hub);
            let before = process.route.as_ref().map(|known| known.forced);
            let fresh = Route {
                primary: hub.primary.clone(),
                epoch: hub.epoch,
                forced: parted.max(before.unwrap_or_default()),
            };
            if process
                .route
                .as_ref()
                .is_none_or(|known| known.epoch <= fresh.epoch)
            {
                process.route = Some(fresh);
            }
        }
        self.wake_parked(node);
    }

    pub(super) fn route_moved(
        &mut self,
        region: RegionId,
        hub: HubId,
        epoch: Epoch,
        primary: &RegionName,
        forced: bool,
    ) {
        let Some(process) = self.process(region) else {
            return;
        };
        match &mut process.route {
            Some(known) if hub == super::HUB && known.epoch < epoch => {
                known.primary = primary.clone();
                known.epoch = epoch;
                if forced {
                    known.forced = epoch;
                }
            }
            _ => {}
        }
        self.wake_parked(region);
    }
}

/// As `region::region::roles_of`.
fn roles_of(state: &State, me: &RegionName, deaf: bool) -> Vec<HubRole> {
    let mine = state
        .hubs
        .values()
        .filter(|hub| hub.state != HubState::Deleting);
    mine.filter_map(|hub| {
        let role = if hub.primary == *me {
            Role::Primary
        } else if hub.secondary() == Some(me) {
            Role::Secondary
        } else {
            return None;
        };
        let peer = if role == Role::Primary {
            hub.secondary().cloned()
        } else {
            Some(hub.primary.clone())
        };
        let leads = role == Role::Primary;
        Some(HubRole {
            settings: Arc::new(hub.settings()),
            role,
            epoch: hub.epoch,
            peer,
            suspended: leads && !deaf && suspended(state, hub),
            alone: leads && (hub.away().is_some() || opens_alone(state, hub)),
        })
    })
    .collect()
}
