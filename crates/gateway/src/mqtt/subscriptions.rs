//! What a session listens to.

use types::DeviceId;
use wire::topic::{self, Filter};

/// The granted QoS of each filter a device may subscribe to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions([Option<u8>; 4]);

impl Subscriptions {
    /// Reads what the hub kept; filters it would no longer grant are left out.
    pub fn kept(filters: &[(String, u8)], device: &DeviceId) -> Self {
        let mut kept = Subscriptions::default();
        for (filter, qos) in filters {
            if let Ok(kind) = topic::parse_filter(filter, device) {
                kept.insert(kind, (*qos).min(1));
            }
        }
        kept
    }

    pub fn insert(&mut self, filter: Filter, qos: u8) {
        self.0[slot(filter)] = Some(qos);
    }

    pub fn remove(&mut self, filter: Filter) {
        self.0[slot(filter)] = None;
    }

    /// The granted QoS; `None`: not subscribed.
    pub fn qos(&self, filter: Filter) -> Option<u8> {
        self.0[slot(filter)]
    }
}

fn slot(filter: Filter) -> usize {
    match filter {
        Filter::C2d => 0,
        Filter::Methods => 1,
        Filter::TwinResponse => 2,
        Filter::DesiredPatch => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_filters_are_read_back_and_foreign_ones_left_out() {
        let device = DeviceId::parse("d1").unwrap();
        let filters = [
            ("devices/d1/messages/devicebound/#".to_owned(), 1),
            ("$iothub/twin/res/#".to_owned(), 0),
            ("devices/other/messages/devicebound/#".to_owned(), 1),
        ];
        let kept = Subscriptions::kept(&filters, &device);
        assert_eq!(kept.qos(Filter::C2d), Some(1));
        assert_eq!(kept.qos(Filter::TwinResponse), Some(0));
        assert_eq!(kept.qos(Filter::DesiredPatch), None);
    }
}
