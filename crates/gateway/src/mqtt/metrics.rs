//! What the MQTT edge counts, in Prometheus text.

use super::end::{End, Refusal};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters and gauges of the MQTT edge of one gateway process; shared by its listeners.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open sockets, authenticated or not.
    pub connections: AtomicU64,
    /// Authenticated sessions that are open.
    pub sessions: AtomicU64,
    /// Sockets accepted.
    pub accepted: AtomicU64,
    /// Sockets closed at once because the connection cap was reached.
    pub over_cap: AtomicU64,
    /// Failures of `accept` (out of file descriptors and the like).
    pub accept_errors: AtomicU64,
    /// Sockets let in at the listener's rate, those of them that had to wait for it, and those closed because too many waited.
    pub admitted: AtomicU64,
    pub admission_delayed: AtomicU64,
    pub admission_refused: AtomicU64,
    /// Sockets that wait now.
    pub admission_waiting: AtomicU64,
    /// TLS handshakes that failed.
    pub handshake_errors: AtomicU64,
    /// TLS sessions resumed, also those that began at another region.
    pub handshakes_resumed: AtomicU64,
    /// CONNECTs answered with "accepted".
    pub connects: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    closed: [AtomicU64; End::LABELS.len()],
    /// Telemetry messages received.
    pub publishes: AtomicU64,
    /// Commands that carried them; publishes / batches is the batch size reached.
    pub telemetry_batches: AtomicU64,
    /// PUBACKs written.
    pub pubacks: AtomicU64,
    pub c2d_delivered: AtomicU64,
    pub c2d_completed: AtomicU64,
    pub desired_delivered: AtomicU64,
    pub twin_requests: AtomicU64,
    pub wills: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

/// Kind, name and help of each figure.
const FIGURES: [&str; 22] = [
    "gauge castling_mqtt_connections Open sockets.",
    "gauge castling_mqtt_sessions Authenticated sessions.",
    "counter castling_mqtt_accepted_total Sockets accepted.",
    "counter castling_mqtt_over_cap_total Sockets closed at the connection cap.",
    "counter castling_mqtt_accept_errors_total Failures of accept.",
    "counter castling_mqtt_admitted_total Sockets let in at the listener's rate.",
    "counter castling_mqtt_admission_delayed_total Sockets that waited for it.",
    "counter castling_mqtt_admission_refused_total Sockets closed because too many waited.",
    "gauge castling_mqtt_admission_waiting Sockets that wait.",
    "counter castling_mqtt_handshake_errors_total Failed TLS handshakes.",
    "counter castling_mqtt_handshakes_resumed_total Resumed TLS sessions.",
    "counter castling_mqtt_connects_total CONNECTs accepted.",
    "counter castling_mqtt_publishes_total Telemetry messages received.",
    "counter castling_mqtt_telemetry_batches_total Commands that carried telemetry.",
    "counter castling_mqtt_pubacks_total PUBACKs written.",
    "counter castling_mqtt_c2d_delivered_total Cloud-to-device messages delivered.",
    "counter castling_mqtt_c2d_completed_total Cloud-to-device messages completed.",
    "counter castling_mqtt_desired_delivered_total Desired-property notifications delivered.",
    "counter castling_mqtt_twin_requests_total Twin requests.",
    "counter castling_mqtt_wills_total Wills published.",
    "counter castling_mqtt_bytes_in_total Bytes read, after TLS.",
    "counter castling_mqtt_bytes_out_total Bytes written, before TLS.",
];

impl Metrics {
    pub(crate) fn count_refused(&self, refusal: Refusal) {
        self.refused[refusal as usize - 1].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_closed(&self, end: End) {
        self.closed[end.index()].fetch_add(1, Relaxed);
    }

    /// CONNECTs refused with this return code.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize - 1].load(Relaxed)
    }

    /// Connections that ended this way.
    pub fn closed(&self, end: End) -> u64 {
        self.closed[end.index()].load(Relaxed)
    }

    /// Appends every figure in Prometheus text format.
    pub fn render(&self, out: &mut String) {
        for (about, value) in FIGURES.iter().zip(self.figures()) {
            let mut words = about.splitn(3, ' ');
            let [kind, name, help] = std::array::from_fn(|_| words.next().unwrap_or_default());
            header(out, kind, name, help);
            line(out, name, "", value.load(Relaxed));
        }
        self.render_reasons(out);
    }

    /// In the order of [`FIGURES`].
    fn figures(&self) -> [&AtomicU64; 22] {
        [
            &self.connections,
            &self.sessions,
            &self.accepted,
            &self.over_cap,
            &self.accept_errors,
            &self.admitted,
            &self.admission_delayed,
            &self.admission_refused,
            &self.admission_waiting,
            &self.handshake_errors,
            &self.handshakes_resumed,
            &self.connects,
            &self.publishes,
            &self.telemetry_batches,
            &self.pubacks,
            &self.c2d_delivered,
            &self.c2d_completed,
            &self.desired_delivered,
            &self.twin_requests,
            &self.wills,
            &self.bytes_in,
            &self.bytes_out,
        ]
    }

    fn render_reasons(&self, out: &mut String) {
        let name = "castling_mqtt_refused_total";
        header(out, "counter", name, "CONNECTs refused, by reason.");
        for refusal in Refusal::ALL {
            line(
                out,
                name,
                &format!("{{reason=\"{}\"}}", refusal.label()),
                self.refused(refusal),
            );
        }
        let name = "castling_mqtt_closed_total";
        header(out, "counter", name, "Connections ended, by reason.");
        for (label, value) in End::LABELS.iter().zip(&self.closed) {
            line(
                out,
                name,
                &format!("{{reason=\"{label}\"}}"),
                value.load(Relaxed),
            );
        }
    }
}

fn header(out: &mut String, kind: &str, name: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rendered_with_their_reasons() {
        let metrics = Metrics::default();
        metrics.publishes.fetch_add(7, Relaxed);
        metrics.count_refused(Refusal::NotAuthorized);
        metrics.count_closed(End::KeepAlive);
        let mut text = String::new();
        metrics.render(&mut text);
        for expected in [
            "# TYPE castling_mqtt_connections gauge\ncastling_mqtt_connections 0\n",
            "castling_mqtt_publishes_total 7\n",
            "castling_mqtt_refused_total{reason=\"not_authorized\"} 1\n",
            "castling_mqtt_refused_total{reason=\"client_id\"} 0\n",
            "castling_mqtt_closed_total{reason=\"keep_alive\"} 1\n",
        ] {
            assert!(text.contains(expected), "missing {expected:?} in\n{text}");
        }
    }
}
