//! `/healthz`, `/readyz` and `/metrics` of one region.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use region::{Region, facts};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The three routes; they need no sign-in and tell nothing of devices.
pub fn router(
    region: Arc<Region>,
    mqtt: Arc<gateway::mqtt::Metrics>,
    http: Arc<gateway::http::Metrics>,
) -> Router {
    let ready = region.clone();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                if ready.ready() {
                    (StatusCode::OK, "ready\n")
                } else {
                    (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "waiting for the control plane\n",
                    )
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                let mut text = String::new();
                region_metrics(&region, &mut text).await;
                mqtt.render(&mut text);
                http.render(&mut text);
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
            }),
        )
}

async fn region_metrics(region: &Arc<Region>, out: &mut String) {
    let figures = region.engine().figures();
    let read = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed) as f64;
    let router = &region.router;
    let space = region.store.space().unwrap_or_default();
    let pauses = &region.pauses;
    for (name, kind, help, value) in [
        (
            "castling_engine_turns_total",
            "counter",
            "Turns of the region's engine.",
            read(&figures.turns),
        ),
        (
            "castling_commits_total",
            "counter",
            "Group commits, one fsync each.",
            read(&figures.commits),
        ),
        (
            "castling_commit_failures_total",
            "counter",
            "Group commits the disk refused.",
            read(&figures.commit_failures),
        ),
        (
            "castling_commands_total",
            "counter",
            "Commands decided.",
            read(&figures.commands),
        ),
        (
            "castling_events_total",
            "counter",
            "Telemetry events appended.",
            read(&figures.events),
        ),
        (
            "castling_records_total",
            "counter",
            "Log records written.",
            read(&figures.records),
        ),
        (
            "castling_record_bytes_total",
            "counter",
            "Bytes of log records written.",
            read(&figures.record_bytes),
        ),
        (
            "castling_turn_seconds_total",
            "counter",
            "Time spent in turns, fsync included.",
            read(&figures.turn_micros) / 1e6,
        ),
        (
            "castling_turn_seconds_max",
            "gauge",
            "Longest turn of the last 10 to 20 seconds, fsync included.",
            read(&figures.turn_micros_max) / 1e6,
        ),
        (
            "castling_engine_queue_depth",
            "gauge",
            "Inputs left over by the last turn.",
            read(&figures.queue_depth),
        ),
        (
            "castling_disk_full",
            "gauge",
            "1 while writes are refused because the disk is full.",
            read(&figures.disk_full),
        ),
        (
            "castling_disk_free_bytes",
            "gauge",
            "Bytes free for the store.",
            space.free as f64,
        ),
        (
            "castling_disk_used_bytes",
            "gauge",
            "Bytes the store uses.",
            space.used as f64,
        ),
        (
            "castling_sessions",
            "gauge",
            "Device sessions at this region's gateways.",
            router.sessions.open() as f64,
        ),
        (
            "castling_sessions_closed_total",
            "counter",
            "Device sessions that ended.",
            router.sessions.closed() as f64,
        ),
        (
            "castling_parked_requests",
            "gauge",
            "Requests held because their hub moves.",
            router.parked_now.load(Ordering::Relaxed) as f64,
        ),
        (
            "castling_parked_requests_total",
            "counter",
            "Requests that were held.",
            read(&router.parked_total),
        ),
        (
            "castling_failovers_total",
            "counter",
            "Failovers this region drove to their end.",
            read(&pauses.count),
        ),
        (
            "castling_failover_pause_seconds_total",
            "counter",
            "Their pauses.",
            read(&pauses.sum_ms) / 1e3,
        ),
        (
            "castling_failover_pause_seconds_last",
            "gauge",
            "The last pause.",
            read(&pauses.last_ms) / 1e3,
        ),
        (
            "castling_control_leader",
            "gauge",
            "1 while this region leads the control plane.",
            f64::from(u8::from(region.plane.is_leader())),
        ),
    ] {
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
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
