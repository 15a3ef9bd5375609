//! What one simulated device has to send and to hear of.

use super::{Counts, DRAIN, IN_FLIGHT_MAX, PING_AFTER};
use crate::cli::mqtt::{Connection, telemetry};
use bytes::Bytes;
use rmqtt_codec::v3::Packet;
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

struct Waiting {
    id: NonZeroU16,
    body: Bytes,
    first_sent: Instant,
}

/// What one device has to send and to hear of, kept from connection to connection.
pub struct Sender<'a> {
    device: &'a str,
    size: usize,
    interval: Duration,
    next_number: u64,
    next_id: NonZeroU16,
    next_at: Instant,
    waiting: VecDeque<Waiting>,
    /// When waiting for the last acknowledgements ends; `None`: it still sends.
    drained_by: Option<Instant>,
}

impl<'a> Sender<'a> {
    pub fn new(device: &'a str, size: usize, interval: Duration, first: Instant) -> Self {
        Sender {
            device,
            size,
            interval,
            next_number: 0,
            next_id: NonZeroU16::MIN,
            next_at: first,
            waiting: VecDeque::new(),
            drained_by: None,
        }
    }

    /// Whether it was told to stop and has nothing more to wait for.
    pub fn is_done(&mut self, stopped: &watch::Receiver<bool>) -> bool {
        if !*stopped.borrow() {
            return false;
        }
        let until = *self
            .drained_by
            .get_or_insert_with(|| Instant::now() + DRAIN);
        self.waiting.is_empty() || Instant::now() >= until
    }

    /// Sends and hears until everything is done.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn converse(
        &mut self,
        counts: &Counts,
        mut connection: Connection,
        started: Instant,
        stopped: &mut watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let again = self
            .waiting
            .iter()
            .map(|w| telemetry(self.device, w.id, w.body.clone(), true))
            .collect();
        connection.send(again).await?;
        let mut ping_at = Instant::now() + PING_AFTER;
        while !self.is_done(stopped) {
            let sending = self.drained_by.is_none();
            let may_send = sending && self.waiting.len() < IN_FLIGHT_MAX;
            tokio::select! {
                packet = connection.next() => self.hear(&packet?, counts, started),
                () = tokio::time::sleep_until(self.next_at), if may_send => {
                    let due = self.due(counts);
                    connection.send(due).await?;
                    ping_at = Instant::now() + PING_AFTER;
                }
                () = tokio::time::sleep_until(ping_at) => {
                    connection.send(vec![Packet::PingRequest]).await?;
                    ping_at = Instant::now() + PING_AFTER;
                }
                () = tokio::time::sleep_until(self.drained_by.unwrap_or(ping_at)), if !sending => {}
                changed = stopped.changed(), if sending => changed.map_err(std::io::Error::other)?,
            }
        }
        connection.send(vec![Packet::Disconnect]).await
    }

    fn hear(&mut self, packet: &Packet, counts: &Counts, started: Instant) {
        let Packet::PublishAck { packet_id } = packet else {
            return;
        };
        let Some(at) = self
            .waiting
            .iter()
            .position(|waiting| waiting.id == *packet_id)
        else {
            return;
        };
        if let Some(waiting) = self.waiting.remove(at) {
            counts.acknowledged(waiting.first_sent.elapsed(), started.elapsed());
        }
    }

    /// The messages whose time has come.
    fn due(&mut self, counts: &Counts) -> Vec<Packet> {
        let now = Instant::now();
        let mut packets = Vec::new();
        while self.next_at <= now && self.waiting.len() < IN_FLIGHT_MAX {
            let body = body(self.device, self.next_number, self.size);
            let id = self.take_id();
            self.waiting.push_back(Waiting {
                id,
                body: body.clone(),
                first_sent: now,
            });
            packets.push(telemetry(self.device, id, body, false));
            self.next_number += 1;
            self.next_at += self.interval;
        }
        // What could not be sent in its time is not made up for: the rate stays the rate.
        if self.next_at + Duration::from_secs(1) < now {
            self.next_at = now + self.interval;
        }
        counts
            .sent
            .fetch_add(packets.len() as u64, Ordering::Relaxed);
        packets
    }

    /// A packet id that nothing waiting has: fewer than [`IN_FLIGHT_MAX`] are taken.
    fn take_id(&mut self) -> NonZeroU16 {
        while self
            .waiting
            .iter()
            .any(|waiting| waiting.id == self.next_id)
        {
            self.next_id = self.next_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        id
    }
}

/// JSON of exactly `size` bytes (at least what its fields need).
fn body(device: &str, number: u64, size: usize) -> Bytes {
    let temperature = 20.0 + (number % 100) as f64 / 10.0;
    let mut text =
        format!("{{\"device\":\"{device}\",\"number\":{number},\"temperature\":{temperature:.1}}}");
    while text.len() < size {
        text.push(' ');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn bodies_are_json_of_the_size_asked_for() {
        let body = body("sim-1", 7, 100);
        assert_eq!(body.len(), 100);
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (value["device"].as_str(), value["number"].as_u64()),
            (Some("sim-1"), Some(7))
        );
    }

    #[test]
    fn what_waits_is_bounded_and_each_has_its_own_id() {
        let counts = Counts::default();
        let mut sender = Sender::new("d", 64, Duration::ZERO, Instant::now());
        sender.next_id = NonZeroU16::MAX;
        assert_eq!(sender.due(&counts).len(), IN_FLIGHT_MAX);
        let mut ids: Vec<u16> = sender
            .waiting
            .iter()
            .map(|waiting| waiting.id.get())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), IN_FLIGHT_MAX);
        assert_eq!(sender.due(&counts).len(), 0);
    }

    #[test]
    fn an_acknowledgement_counts_once() {
        let (counts, started) = (Counts::default(), Instant::now());
        let mut sender = Sender::new("d", 64, Duration::from_secs(60), started);
        sender.due(&counts);
        let ack = Packet::PublishAck {
            packet_id: sender.waiting[0].id,
        };
        sender.hear(&ack, &counts, started);
        sender.hear(&ack, &counts, started);
        assert_eq!(counts.outcome(Duration::from_secs(1)).acknowledged, 1);
        assert!(sender.waiting.is_empty());
    }
}
