//! HTTPS for devices and services: the device API (data-plane notes section 4) and the service REST (section 5).
//!
//! One handler takes every request: paths of this API have fixed words that compare without case, ids that hold any
//! character when percent-encoded, and trailing slashes, none of which a path table expresses. The way of a request is
//! [`call`] (parse, find the hub) → [`route`] (which resource) → [`auth`] (may it) → a resource's file (ask the hub, answer).
//!
//! Routes of our own, where Azure has none over HTTP: sending cloud-to-device messages ([`cloud_to_device`]), reading events
//! ([`events`]) and keeping offsets ([`offsets`]).

mod answer;
mod auth;
mod bulk;
mod call;
mod cloud_to_device;
mod device_bound;
mod events;
mod failure;
mod feedback;
mod header_names;
mod metrics;
mod offsets;
mod pledge;
mod registry;
mod rewind;
mod route;
mod serve;
mod stall;
mod statistics;
mod telemetry;
#[cfg(test)]
mod tests;
mod twins;

pub use metrics::Metrics;
pub use serve::{ClientAddress, ClientCertificate, serve, serve_plain};

use crate::backend::{Backend, SendError};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, header};
use call::{Call, Upload};
use failure::{Failure, Tracking};
use pledge::Pledge;
use route::Answer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use types::{ErrorCode, limits};

/// A little shorter than the server's own, so that the answer has this API's form.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(limits::HTTP_REQUEST_TIMEOUT_MS - 1_000);

/// Marks an answer from what is stored in an isolated region: it may be behind.
const NOT_CURRENT: &str = "castling-not-current";

/// What every request shares.
struct Api {
    backend: Arc<dyn Backend>,
    metrics: Arc<Metrics>,
    tracking: failure::TrackingIds,
    /// Where the next look for feedback begins, so that every partition's turn comes.
    feedback_turn: AtomicU64,
}

/// The device API and the service REST of every hub the backend knows.
pub fn router(backend: Arc<dyn Backend>, metrics: Arc<Metrics>) -> Router {
    let api = Api {
        backend,
        metrics,
        tracking: failure::TrackingIds::default(),
        feedback_turn: AtomicU64::new(0),
    };
    Router::new().fallback(handle).with_state(Arc::new(api))
}

/// Adds routes that take precedence, such as `/healthz` and `/metrics`; `extra` must not have a fallback of its own.
pub fn with_extra(router: Router, extra: Router) -> Router {
    router.merge(extra)
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let tracking = Tracking {
        id: api.tracking.next(),
        at: api.backend.now(),
    };
    let _in_progress = api.metrics.begin();
    let (parts, body) = request.into_parts();
    let shape = failure::Shape::of(parts.uri.path());
    let upload = Upload::new(body);
    let invited = !parts.headers.contains_key(header::EXPECT);
    let pledge = parts.extensions.get::<Pledge>().cloned();
    let (route, answer) = match Call::read(api.clone(), parts, upload.clone()) {
        Ok(call) => {
            let route = route::family(&call);
            (route, answer(&api, call, route, pledge).await)
        }
        Err(failure) => (metrics::Family::Other, Err(failure)),
    };
    // Who waits for "100 Continue" has not sent anything yet, and reading would invite it to.
    if answer.is_err() && invited {
        upload.drain().await;
    }
    let mut response = answer.unwrap_or_else(|failure| {
        tracing::debug!(tracking = %tracking.id, code = failure.code.name(), why = %failure.message, "http request refused");
        failure.into_response(shape, &tracking)
    });
    if let Ok(id) = HeaderValue::from_str(&tracking.id) {
        response.headers_mut().insert("x-ms-request-id", id);
    }
    api.metrics
        .record(route, response.status().as_u16(), started.elapsed());
    response
}

/// Has a request answered, under the region's lease or, where that is possible, from what is stored here.
async fn answer(
    api: &Arc<Api>,
    mut call: Call,
    family: metrics::Family,
    pledge: Option<Pledge>,
) -> Answer {
    let permit = api.backend.permit(call.hub.settings.id);
    let gets = call.method == Method::GET;
    let reads = gets && family.is_readable();
    if api.backend.standing().is_isolated() {
        if !reads {
            return Err(Failure::isolated());
        }
        call.read_what_is_stored();
    }
    let current = call.reads_current();
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, route::dispatch(call)).await;
    let mut answer = answer.unwrap_or_else(|_| Err(timed_out()))?;
    if !current {
        let value = HeaderValue::from_static("lease-lapsed");
        answer.headers_mut().insert(NOT_CURRENT, value);
    } else if api.backend.may_answer(permit) {
        if let Some(pledge) = pledge {
            pledge.make(api.backend.clone(), permit);
        }
    } else if reads || gets && family == metrics::Family::Events {
        return Err(Failure::isolated());
    } else {
        let why = "this region's lease lapsed before it could answer".into();
        return Err(SendError::OutcomeUnknown { why }.into());
    }
    Ok(answer)
}

fn timed_out() -> Failure {
    Failure::new(
        ErrorCode::GatewayTimeout,
        "The request took too long. It may have been carried out.",
    )
}

impl Api {
    fn next_feedback_turn(&self) -> u64 {
        self.feedback_turn.fetch_add(1, Ordering::Relaxed)
    }
}
