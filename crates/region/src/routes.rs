//! Which region serves which hub, as this region knows it now.

use control::{Divergence, State};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use types::{Epoch, HubId, HubSettings, RegionName};

/// One hub's way.
#[derive(Clone, Debug)]
pub struct Route {
    pub settings: Arc<HubSettings>,
    pub primary: RegionName,
    pub secondary: Option<RegionName>,
    pub epoch: Epoch,
    /// The last epoch that began by force; 0: none did.
    pub forced: Epoch,
    /// Where histories parted in forced failovers, the latest last.
    pub divergences: Arc<[Divergence]>,
}

/// All ways; followers of changes are woken.
pub struct Routes {
    table: RwLock<Table>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<HubId, Arc<Route>>,
    by_name: HashMap<String, HubId>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            table: RwLock::default(),
            changes: watch::channel(0).0,
        }
    }
}

impl Routes {
    pub fn by_id(&self, hub: HubId) -> Option<Arc<Route>> {
        self.table.read().by_id.get(&hub).cloned()
    }

    /// By name, without case.
    pub fn by_name(&self, name: &str) -> Option<Arc<Route>> {
        let table = self.table.read();
        let id = match table.by_name.get(name) {
            Some(id) => id,
            None => table.by_name.get(&name.to_ascii_lowercase())?,
        };
        table.by_id.get(id).cloned()
    }

    /// The only hub, if there is exactly one.
    pub fn only(&self) -> Option<Arc<Route>> {
        let table = self.table.read();
        let mut all = table.by_id.values();
        match (all.next(), all.next()) {
            (Some(route), None) => Some(route.clone()),
            _ => None,
        }
    }

    pub fn all(&self) -> Vec<Arc<Route>> {
        self.table.read().by_id.values().cloned().collect()
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes the control plane's state; a newer word received directly (see [`Routes::moved`]) stays.
    /// Gives the hubs whose epoch rose.
    pub fn update(&self, state: &State) -> Vec<HubId> {
        let mut moved = Vec::new();
        let mut table = self.table.write();
        let mut fresh = Table::default();
        for hub in state.hubs.values() {
            let mut route = Route {
                settings: Arc::new(hub.settings()),
                primary: hub.primary.clone(),
                secondary: hub.secondary().cloned(),
                epoch: hub.epoch,
                forced: control::failover::last_forced(state, hub),
                divergences: hub.divergences.as_slice().into(),
            };
            if let Some(known) = table.by_id.get(&hub.id) {
                route.forced = route.forced.max(known.forced);
            }
            match table.by_id.get(&hub.id) {
                Some(known) if known.epoch > route.epoch => {
                    route.primary = known.primary.clone();
                    route.secondary = known.secondary.clone();
                    route.epoch = known.epoch;
                }
                Some(known) if known.epoch < route.epoch => moved.push(hub.id),
                _ => {}
            }
            fresh.by_name.insert(hub.name.key(), hub.id);
            fresh.by_id.insert(hub.id, Arc::new(route));
        }
        *table = fresh;
        drop(table);
        self.changes.send_modify(|n| *n += 1);
        moved
    }

    /// A hub opened at `epoch` in `primary`, told by that region itself. Gives true if this was news.
    pub fn moved(&self, hub: HubId, epoch: Epoch, primary: &RegionName, forced: bool) -> bool {
        let mut table = self.table.write();
        let Some(known) = table.by_id.get(&hub) else {
            return false;
        };
        let news = known.epoch < epoch;
        if forced && known.epoch <= epoch && known.forced < epoch {
            let mut route = Route::clone(known);
            route.forced = epoch;
            table.by_id.insert(hub, Arc::new(route));
        }
        let Some(known) = table.by_id.get(&hub) else {
            return false;
        };
        if news {
            let mut route = Route::clone(known);
            if route.primary != *primary {
                route.secondary = Some(std::mem::replace(&mut route.primary, primary.clone()));
            }
            route.epoch = epoch;
            table.by_id.insert(hub, Arc::new(route));
        }
        drop(table);
        // Also without news: a hub that goes on after a roll-back wakes what was parked.
        self.changes.send_modify(|n| *n += 1);
        news
    }
}
