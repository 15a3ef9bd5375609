//! `/castling/status`: what a node says of itself, for `castling status`. Like `/metrics` it needs no sign-in, names hubs, and
//! tells nothing of devices and no secret.

use super::node::Part;
use axum::routing::get;
use axum::{Json, Router};
use control::{Hub, State};
use region::{Plane, Region};
use serde_json::{Value, json};
use std::sync::Arc;

pub const PATH: &str = "/castling/status";

pub fn router(part: Part) -> Router {
    let answer = move || {
        let part = part.clone();
        async move { Json(of(&part)) }
    };
    Router::new().route(PATH, get(answer))
}

fn of(part: &Part) -> Value {
    let ready = part.serves();
    let mut status = json!({
        "node": part.me().as_str(),
        "role": match part { Part::Region(_) => "region", Part::Witness(_) => "witness" },
        "version": env!("CARGO_PKG_VERSION"),
        "ready": ready,
        "waitsFor": (!ready).then(|| part.waiting()),
        "control": control(part.plane()),
        "links": links(part),
        "refused": part.links().refusals().into_iter().rev().take(5)
            .map(|refusal| json!({ "address": refusal.address.to_string(), "why": refusal.why }))
            .collect::<Vec<_>>(),
    });
    let more = match part {
        Part::Region(region) => of_region(region),
        Part::Witness(witness) => json!({ "uptimeSeconds": witness.uptime_ms() / 1000 }),
    };
    if let (Some(status), Value::Object(more)) = (status.as_object_mut(), more) {
        status.extend(more);
    }
    status
}

fn of_region(region: &Arc<Region>) -> Value {
    let left = region.lease.left_ms();
    let draining = *region.draining().borrow();
    json!({
        "uptimeSeconds": region.uptime_ms() / 1000,
        "lease": { "held": left > 0, "leftMs": left, "lapsedMs": region.isolated_ms() },
        "certificateDays": region.certificate_days(),
        "sessions": region.router.sessions.open(),
        "draining": draining,
        "hubs": region.plane.with(|state| state.hubs.values()
            .map(|hub| of_hub(region, state, hub)).collect::<Vec<_>>()),
    })
}

fn of_hub(region: &Region, state: &State, hub: &Hub) -> Value {
    let operation = hub
        .operation
        .as_ref()
        .and_then(|id| state.operations.get(id))
        .filter(|operation| operation.is_running());
    json!({
        "name": hub.name.as_str(),
        "state": format!("{:?}", hub.state),
        "primary": hub.primary.as_str(),
        "secondary": hub.secondary().map(|region| region.as_str()),
        "epoch": hub.epoch.0,
        "away": hub.away().map(|divergence| divergence.from.as_str()),
        "lostHere": region.lost_hubs().contains(&hub.id),
        "operation": operation.map(|operation| json!({
            "id": operation.id,
            "step": operation.next_step().map(|step| step.name()),
            "since": operation.started.0,
            "drivenHere": region.plane.drives(),
            "waitsFor": region.waits_for(&operation.id),
            "next": operation.legal_next(),
        })),
    })
}

fn control(plane: &Plane) -> Value {
    let status = plane.consensus().status();
    let names = |numbers: &[u64]| -> Vec<String> {
        let named = |number: &u64| plane.region_of(*number).map(|name| name.to_string());
        numbers.iter().filter_map(named).collect()
    };
    json!({
        "leader": plane.leader().map(|leader| leader.to_string()),
        "term": status.term,
        "applied": status.last_applied,
        "voters": names(&status.voters),
        "learners": names(&status.learners),
        "failed": status.failed,
    })
}

fn links(part: &Part) -> Value {
    let all = part.links().peers().into_iter().map(|peer| {
        json!({
            "peer": peer.name.as_str(),
            "up": peer.up,
            "roundTripMs": peer.rtt_ms,
            "version": peer.software,
            "why": peer.why_down,
        })
    });
    all.collect()
}
