//! Cloud-to-device messages that were delivered and not yet acknowledged: packet id ↔ lock token.

use super::work::Tick;
use std::num::NonZeroU16;
use types::limits;

/// The unacknowledged deliveries of one session, at most [`limits::MQTT_C2D_IN_FLIGHT_MAX`].
#[derive(Debug, Default)]
pub struct InFlight {
    last_id: u16,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    packet_id: NonZeroU16,
    lock_token: Box<str>,
    /// When the hub takes the message back; it is delivered again under another packet id then.
    locked_until: Tick,
}

impl InFlight {
    /// Slots for further messages as of `now`. Deliveries whose lock has lapsed no longer take one: a late PUBACK for them
    /// could not complete anything.
    pub fn free(&mut self, now: Tick) -> usize {
        self.entries.retain(|entry| entry.locked_until > now);
        limits::MQTT_C2D_IN_FLIGHT_MAX.saturating_sub(self.entries.len())
    }

    /// Takes a packet id that is not in use. [MQTT-2.3.1-4]
    pub fn insert(&mut self, lock_token: String, locked_until: Tick) -> NonZeroU16 {
        let packet_id = self.next_id();
        self.entries.push(Entry {
            packet_id,
            lock_token: lock_token.into(),
            locked_until,
        });
        packet_id
    }

    /// The lock token of an acknowledged delivery; `None` for an id that is not in flight.
    pub fn remove(&mut self, packet_id: NonZeroU16) -> Option<String> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.packet_id == packet_id)?;
        let entry = self.entries.remove(at);
        if self.entries.is_empty() {
            // An idle connection keeps no table.
            self.entries = Vec::new();
        }
        Some(entry.lock_token.into())
    }

    fn next_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            // Ends: there are far fewer entries than ids.
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.entries.iter().any(|entry| entry.packet_id == id)
            {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Tick = Tick(1000);

    #[test]
    fn packet_ids_are_never_zero_and_never_in_use() {
        let mut in_flight = InFlight::default();
        let kept = in_flight.insert("kept".into(), LATER);
        for round in 0..70_000 {
            let id = in_flight.insert(format!("t{round}"), LATER);
            assert_ne!(id, kept);
            assert_eq!(in_flight.remove(id), Some(format!("t{round}")));
        }
        assert_eq!(in_flight.remove(kept), Some("kept".into()));
    }

    #[test]
    fn an_unknown_packet_id_completes_nothing() {
        let mut in_flight = InFlight::default();
        let id = in_flight.insert("a".into(), LATER);
        assert_eq!(in_flight.remove(id), Some("a".into()));
        assert_eq!(in_flight.remove(id), None);
    }

    #[test]
    fn lapsed_locks_free_their_slots() {
        let mut in_flight = InFlight::default();
        for n in 0..limits::MQTT_C2D_IN_FLIGHT_MAX {
            in_flight.insert(format!("t{n}"), LATER);
        }
        assert_eq!(in_flight.free(Tick(999)), 0);
        assert_eq!(in_flight.free(LATER), limits::MQTT_C2D_IN_FLIGHT_MAX);
    }
}
