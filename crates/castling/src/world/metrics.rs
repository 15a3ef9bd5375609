//! `/healthz`, `/readyz` and `/metrics` of one node.

use super::gateway_backend;
use super::node::Part;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use region::{Region, facts};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a node's gateways count.
#[derive(Default)]
pub struct Gateway {
    pub mqtt: Arc<gateway::mqtt::Metrics>,
    pub http: Arc<gateway::http::Metrics>,
}

/// The three routes; they need no sign-in and tell nothing of devices.
pub fn router(part: Part, gateway: Arc<Gateway>) -> Router {
    let node = part.clone();
    let ready = move || {
        let answer = match (node.serves(), word(&node)) {
            (true, "ready") => (StatusCode::OK, "ready\n".to_owned()),
            (_, word) if word != "ready" => (StatusCode::SERVICE_UNAVAILABLE, format!("{word}\n")),
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{}\n", node.waiting()),
            ),
        };
        async move { answer }
    };
    let figures = move || async move {
        let mut text = String::new();
        if let Part::Region(region) = &part {
            region_metrics(region, &mut text).await;
            gateway.mqtt.render(&mut text);
            gateway.http.render(&mut text);
        }
        node_metrics(&part, &mut text);
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
}

/// Whether new devices are welcome, in one word.
fn word(part: &Part) -> &'static str {
    match part {
        Part::Region(region) => gateway_backend::standing(region).word(),
        Part::Witness(_) => "ready",
    }
}

/// What regions and witnesses have: their place in the control plane and their links.
fn node_metrics(part: &Part, out: &mut String) {
    let status = part.plane().consensus().status();
    let flag = |yes: bool| u64::from(yes);
    let figures = [
        (
            "gauge castling_ready 1 while this node serves.",
            flag(part.serves()),
        ),
        (
            "gauge castling_control_voter 1 while this node votes in the control plane.",
            flag(status.voters.contains(&status.me)),
        ),
        (
            "gauge castling_control_has_leader 1 while this node knows a leader of the control plane.",
            flag(status.leader.is_some()),
        ),
        (
            "gauge castling_control_term Term of the control plane.",
            status.term,
        ),
        (
            "gauge castling_control_applied Last entry of the control plane that this node has.",
            status.last_applied,
        ),
    ];
    for (about, value) in figures {
        figure(out, about, value);
    }
    if let Part::Witness(_) = part {
        let about = "gauge castling_control_leader 1 while this node leads the control plane.";
        figure(out, about, flag(status.is_leader));
    }
    link_metrics(&part.links().peers(), out);
}

/// What each link carried since the start, before encryption.
fn link_metrics(peers: &[link::PeerStatus], out: &mut String) {
    type Figure = fn(&link::PeerStatus) -> u64;
    let heads: [(&str, Figure); 3] = [
        (
            "gauge castling_link_up 1 while the link to a node is up.",
            |peer| u64::from(peer.up),
        ),
        (
            "counter castling_link_bytes_out_total Bytes sent to a node, before encryption.",
            |peer| peer.bytes_out,
        ),
        (
            "counter castling_link_bytes_in_total Bytes received from a node, after decryption.",
            |peer| peer.bytes_in,
        ),
    ];
    for (about, value) in heads {
        let name = head(out, about);
        for peer in peers {
            let _ = writeln!(out, "{name}{{peer=\"{}\"}} {}", peer.name, value(peer));
        }
    }
}

/// One figure; `about` is its kind, name and help.
fn figure(out: &mut String, about: &str, value: impl std::fmt::Display) {
    let name = head(out, about);
    let _ = writeln!(out, "{name} {value}");
}

/// The lines before a figure's values; its name.
fn head<'a>(out: &mut String, about: &'a str) -> &'a str {
    let mut words = about.splitn(3, ' ');
    let [kind, name, help] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    name
}

/// Kind, name and help of each figure, in the order of [`region_figures`].
const FIGURES: [&str; 23] = [
    "counter castling_engine_turns_total Turns of the region's engine.",
    "counter castling_commits_total Group commits, one fsync each.",
    "counter castling_commit_failures_total Group commits the disk refused.",
    "counter castling_commands_total Commands decided.",
    "counter castling_events_total Telemetry events appended.",
    "counter castling_records_total Log records written.",
    "counter castling_record_bytes_total Bytes of log records written.",
    "counter castling_turn_seconds_total Time spent in turns, fsync included.",
    "gauge castling_turn_seconds_max Longest turn of the last 10 to 20 seconds, fsync included.",
    "gauge castling_engine_queue_depth Inputs left over by the last turn.",
    "gauge castling_disk_full 1 while writes are refused because the disk is full.",
    "gauge castling_disk_free_bytes Bytes free for the store.",
    "gauge castling_disk_used_bytes Bytes the store uses.",
    "gauge castling_sessions Device sessions at this region's gateways.",
    "counter castling_sessions_closed_total Device sessions that ended.",
    "gauge castling_parked_requests Requests held because their hub moves.",
    "counter castling_parked_requests_total Requests that were held.",
    "counter castling_failovers_total Failovers this region drove to their end.",
    "counter castling_failover_pause_seconds_total Their pauses.",
    "gauge castling_failover_pause_seconds_last The last pause.",
    "gauge castling_control_leader 1 while this region leads the control plane.",
    "counter castling_salvaged_records_total Records set aside because the other region never had them.",
    "counter castling_rewind_bytes_total Bytes that came in their place: keys, values and records up to where the other region was.",
];

fn region_figures(region: &Region) -> [f64; 23] {
    let figures = region.engine().figures();
    let read = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed) as f64;
    let router = &region.router;
    let space = region.store.space().unwrap_or_default();
    let pauses = &region.pauses;
    [
        read(&figures.turns),
        read(&figures.commits),
        read(&figures.commit_failures),
        read(&figures.commands),
        read(&figures.events),
        read(&figures.records),
        read(&figures.record_bytes),
        read(&figures.turn_micros) / 1e6,
        read(&figures.turn_micros_max) / 1e6,
        read(&figures.queue_depth),
        read(&figures.disk_full),
        space.free as f64,
        space.used as f64,
        router.sessions.open() as f64,
        router.sessions.closed() as f64,
        router.parked_now.load(Ordering::Relaxed) as f64,
        read(&router.parked_total),
        read(&pauses.count),
        read(&pauses.sum_ms) / 1e3,
        read(&pauses.last_ms) / 1e3,
        f64::from(u8::from(region.plane.is_leader())),
        read(&figures.salvaged_records),
        read(&figures.rewind_bytes),
    ]
}

async fn region_metrics(region: &Arc<Region>, out: &mut String) {
    for (about, value) in FIGURES.iter().zip(region_figures(region)) {
        figure(out, about, value);
    }
    partition_metrics(region, out).await;
}

/// Lag and position per partition of the hubs this region is primary of.
async fn partition_metrics(region: &Arc<Region>, out: &mut String) {
    let hubs = region.plane.with(|state| {
        state
            .hubs
            .values()
            .filter(|hub| hub.primary == region.me)
            .cloned()
            .collect::<Vec<_>>()
    });
    let mut lines: [String; 4] = Default::default();
    let heads = [
        ("castling_partition_lsn", "Last durable record."),
        (
            "castling_replication_lag_records",
            "Records the secondary has not confirmed.",
        ),
        (
            "castling_replication_lag_seconds",
            "Age of the oldest such record.",
        ),
        (
            "castling_partition_follower_connected",
            "1 while the secondary follows.",
        ),
    ];
    for hub in hubs {
        let Some(told) = facts::ask(
            region,
            &region.me,
            hub.id,
            std::time::Duration::from_secs(1),
        )
        .await
        else {
            continue;
        };
        for partition in told.partitions {
            let label = format!(
                "{{hub=\"{}\",partition=\"{}\"}}",
                hub.name, partition.partition
            );
            let values = [
                partition.lsn.0 as f64,
                partition.lag_records as f64,
                partition.lag_ms as f64 / 1e3,
                f64::from(u8::from(partition.follower_connected)),
            ];
            for ((line, (name, _)), value) in lines.iter_mut().zip(heads).zip(values) {
                let _ = writeln!(line, "{name}{label} {value}");
            }
        }
    }
    for ((name, help), text) in heads.iter().zip(lines) {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_tells_whether_it_is_up_and_what_it_carried() {
        let peer = |name: &str, up, bytes_out, bytes_in| link::PeerStatus {
            name: name.parse().unwrap(),
            up,
            rtt_ms: None,
            bytes_out,
            bytes_in,
            queued: 0,
            why_down: None,
            software: None,
        };
        let mut text = String::new();
        link_metrics(
            &[peer("west", true, 7, 5), peer("witness", false, 3, 0)],
            &mut text,
        );
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                "castling_link_up{peer=\"west\"} 1",
                "castling_link_up{peer=\"witness\"} 0",
                "castling_link_bytes_out_total{peer=\"west\"} 7",
                "castling_link_bytes_out_total{peer=\"witness\"} 3",
                "castling_link_bytes_in_total{peer=\"west\"} 5",
                "castling_link_bytes_in_total{peer=\"witness\"} 0",
            ]
        );
        assert!(text.contains("# TYPE castling_link_bytes_out_total counter\n"));
    }
}
