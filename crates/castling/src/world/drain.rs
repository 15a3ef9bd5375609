//! `POST /castling/regions/{region}/drain`: has a region hand its devices over, or stop doing so. Any region takes the request,
//! with a token of the management API.

use super::node::Part;
use arm::tokens::TokenAuthority;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use link::Class;
use region::Region;
use region::peer::{self, Call, Return};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use types::RegionName;

const WITHIN: Duration = Duration::from_secs(5);
/// Faster than any gateway takes new connections.
const RATE_MAX: u32 = 100_000;
/// As roles name it.
const ACTION: &str = "Castling.Deployment/regions/drain/action";
const BODY_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    /// `null`: keep the devices, take new ones again.
    rate_per_second: Option<u32>,
}

struct Drains {
    region: Arc<Region>,
    tokens: Arc<TokenAuthority>,
}

pub fn router(region: Arc<Region>, tokens: Arc<TokenAuthority>) -> Router {
    let router = Router::new()
        .route("/castling/regions/{region}/drain", post(answer))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Drains {
            region: region.clone(),
            tokens,
        }));
    super::listeners::when_ready(Part::Region(region), router)
}

async fn answer(
    State(drains): State<Arc<Drains>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Response {
    let refuse = |status: StatusCode, code: &str, message: String| {
        let body = json!({ "error": { "code": code, "message": message } });
        (status, Json(body)).into_response()
    };
    let by = match drains.signed_in(&headers) {
        Ok(by) => by,
        Err(why) => return refuse(StatusCode::UNAUTHORIZED, "AuthenticationFailed", why),
    };
    let rate = wanted.rate_per_second;
    if rate.is_some_and(|rate| !(1..=RATE_MAX).contains(&rate)) {
        let why = format!("ratePerSecond must be 1 to {RATE_MAX}, or null.");
        return refuse(StatusCode::BAD_REQUEST, "InvalidRate", why);
    }
    let Some(region) = drains.named(&name) else {
        let why = format!("`{name}` is no region of this deployment.");
        return refuse(StatusCode::NOT_FOUND, "RegionNotFound", why);
    };
    match drains.tell(&region, rate).await {
        Ok(()) => {
            tracing::info!(%region, ?rate, %by, "draining was told");
            Json(json!({ "region": region.as_str(), "ratePerSecond": rate })).into_response()
        }
        Err(why) => refuse(StatusCode::BAD_GATEWAY, "RegionUnavailable", why),
    }
}

impl Drains {
    /// The name of who asks.
    fn signed_in(&self, headers: &HeaderMap) -> Result<String, String> {
        let host = headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok());
        let now = self.region.clock.now();
        self.region.plane.with(|state| {
            arm::identify(&self.tokens, state, headers, host.unwrap_or_default(), now)
                .map_err(|refused| refused.message)
                .and_then(|caller| match state.may(caller.asker(), ACTION, "/") {
                    true => Ok(caller.name),
                    false => Err(format!(
                        "'{}' has no right to {ACTION} at '/'.",
                        caller.name
                    )),
                })
        })
    }

    fn named(&self, name: &str) -> Option<RegionName> {
        let name = RegionName::parse(name).ok()?;
        let deployed = |regions: &[RegionName]| regions.contains(&name);
        self.region
            .plane
            .with(|state| deployed(&state.deployment.regions))
            .then_some(name)
    }

    async fn tell(&self, region: &RegionName, rate: Option<u32>) -> Result<(), String> {
        let body = peer::encode(peer::CALL, &Call::Drain { rate });
        let links = &self.region.links;
        let answer = links.call(region, Class::Control, body, WITHIN).await;
        let answer = answer.map_err(|error| format!("{region}: {error}"))?;
        match peer::decode::<Return>(&answer)? {
            Return::Done(done) => done,
            Return::Malformed(why) => Err(why),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }
}
