//! Who is connected to a partition, and when devices were last heard of: volatile, rebuilt as clients return.

use hub::Presence;
use hub::decision::PresenceChange;
use std::collections::HashMap;
use types::{DeviceId, UnixMillis};

/// What the region knows of a device since it started.
#[derive(Debug, Default)]
pub struct Live {
    pub presence: Option<Presence>,
    pub activity: Option<UnixMillis>,
}

/// The devices of one partition that were heard of.
#[derive(Debug, Default)]
pub struct Directory {
    by_device: HashMap<DeviceId, Live>,
    connected: u64,
}

impl Directory {
    pub fn presence(&self, device: &DeviceId) -> Option<&Presence> {
        self.by_device.get(device)?.presence.as_ref()
    }

    pub fn activity(&self, device: &DeviceId) -> Option<UnixMillis> {
        self.by_device.get(device)?.activity
    }

    /// Devices connected now; counted as they come and go.
    pub fn connected(&self) -> u64 {
        self.connected
    }

    /// Makes a change that this region decided as the primary.
    pub fn decided(&mut self, change: PresenceChange) {
        match change {
            PresenceChange::Connected {
                device,
                connection,
                gateway,
                since,
            } => {
                let live = self.by_device.entry(device).or_default();
                self.connected += u64::from(live.presence.is_none());
                live.presence = Some(Presence {
                    connection,
                    gateway,
                    since,
                });
                live.activity = Some(live.activity.unwrap_or(since).max(since));
            }
            PresenceChange::Disconnected { device, connection } => {
                let live = self.by_device.get_mut(&device);
                let gone = live.and_then(|live| {
                    live.presence
                        .take_if(|there| there.connection == connection)
                });
                self.connected -= u64::from(gone.is_some());
            }
            PresenceChange::Dropped { device } => {
                let gone = self.by_device.remove(&device);
                self.connected -= u64::from(gone.is_some_and(|live| live.presence.is_some()));
            }
            PresenceChange::Activity { device, at } => match self.by_device.get_mut(&device) {
                Some(live) => live.activity = Some(at),
                None => {
                    let live = Live {
                        presence: None,
                        activity: Some(at),
                    };
                    self.by_device.insert(device, live);
                }
            },
        }
    }

    /// Takes back a decision that did not become durable.
    pub fn restore(&mut self, device: DeviceId, before: Option<Presence>) {
        let live = self.by_device.entry(device).or_default();
        self.connected -= u64::from(live.presence.is_some());
        self.connected += u64::from(before.is_some());
        live.presence = before;
    }

    /// Takes a gateway's word as the secondary: of two connections the newer one stays, whatever the order of arrival, and only
    /// devices that are connected are kept, since nobody tells a secondary of deleted ones.
    pub fn told(&mut self, change: PresenceChange) {
        let device = match &change {
            PresenceChange::Connected {
                device,
                connection,
                since,
                ..
            } => {
                let newer = self
                    .presence(device)
                    .is_some_and(|there| (there.since, there.connection) > (*since, *connection));
                if newer {
                    return;
                }
                device.clone()
            }
            PresenceChange::Disconnected { device, .. }
            | PresenceChange::Dropped { device }
            | PresenceChange::Activity { device, .. } => device.clone(),
        };
        self.decided(change);
        if self.presence(&device).is_none() {
            self.by_device.remove(&device);
        }
    }

    /// Forgets devices that are not connected.
    pub fn keep_connected(&mut self) {
        self.by_device.retain(|_, live| live.presence.is_some());
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_device.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{ConnectionId, RegionName};

    fn device() -> DeviceId {
        DeviceId::parse("d").unwrap()
    }

    fn connected(connection: u64, since: i64) -> PresenceChange {
        PresenceChange::Connected {
            device: device(),
            connection: ConnectionId(connection),
            gateway: RegionName::parse("west").unwrap(),
            since: UnixMillis(since),
        }
    }

    fn disconnected(connection: u64) -> PresenceChange {
        PresenceChange::Disconnected {
            device: device(),
            connection: ConnectionId(connection),
        }
    }

    #[test]
    fn the_count_follows_who_is_connected() {
        let mut directory = Directory::default();
        let mut check = |change, count| {
            directory.decided(change);
            assert_eq!(directory.connected(), count);
        };
        check(connected(1, 10), 1);
        check(connected(2, 20), 1);
        check(disconnected(1), 1);
        check(disconnected(2), 0);
        check(disconnected(2), 0);
        check(connected(3, 30), 1);
        check(PresenceChange::Dropped { device: device() }, 0);
        check(PresenceChange::Dropped { device: device() }, 0);
    }

    #[test]
    fn a_secondary_keeps_the_newer_connection_whatever_the_order() {
        let mut directory = Directory::default();
        directory.told(connected(2, 20));
        directory.told(connected(1, 10));
        directory.told(disconnected(1));
        assert_eq!(
            directory.presence(&device()).map(|p| p.connection),
            Some(ConnectionId(2))
        );
    }

    #[test]
    fn a_secondary_forgets_devices_that_left() {
        let mut directory = Directory::default();
        directory.told(connected(1, 10));
        directory.told(disconnected(1));
        directory.told(PresenceChange::Activity {
            device: device(),
            at: UnixMillis(30),
        });
        assert_eq!(directory.len(), 0);
    }

    #[test]
    fn a_primary_remembers_when_a_device_was_last_heard_of() {
        let mut directory = Directory::default();
        directory.decided(connected(1, 10));
        directory.decided(disconnected(1));
        assert_eq!(directory.activity(&device()), Some(UnixMillis(10)));
        directory.keep_connected();
        assert_eq!(directory.activity(&device()), None);
    }
}
