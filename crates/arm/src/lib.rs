//! The management API that `az` and the Azure management SDKs speak: subscriptions, resource groups, IoT hubs, failovers.
//!
//! The way of a request: [`handle`] → `routes` (which operation) → `auth` (whose token) → a resource's file (ask the control
//! plane, answer). Reads are answered from this region's copy of the control plane and wait for nobody; writes are commands
//! to its leader. Long-running operations follow control-plane notes section 6.

pub mod backend;
pub mod tokens;

mod answer;
mod auth;
mod call;
mod check_name;
mod consumer_groups;
mod drills;
mod durations;
mod failover;
mod failover_body;
mod failovers;
mod failure;
mod fields;
mod figures;
mod forced;
mod groups;
mod hub_body;
mod hub_request;
mod hubs;
mod identity;
mod ids;
mod locations;
mod metadata;
mod openapi;
mod operations;
mod plans;
mod policies;
mod providers;
mod reports;
mod resources;
mod routes;
mod salvage;
mod subscriptions;
#[cfg(test)]
mod tests;
mod waits;

use answer::Outcome;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use backend::Backend;
use call::{Call, Caller};
use failure::Failure;
use routes::{Found, Handler};
use std::sync::Arc;
use std::time::Duration;
use tokens::TokenAuthority;
use types::limits;

/// A little shorter than the server's own, so that the answer has this API's form.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(limits::HTTP_REQUEST_TIMEOUT_MS - 1_000);

/// Address of a request's client, as an extension of the request: the listener puts it there.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub std::net::IpAddr);

/// What every request shares.
pub(crate) struct Api {
    pub backend: Arc<dyn Backend>,
    pub tokens: Arc<TokenAuthority>,
}

/// The management API of a region. Routes merged into it take precedence; they must not have a fallback of their own.
pub fn router(backend: Arc<dyn Backend>, tokens: Arc<TokenAuthority>) -> Router {
    Router::new()
        .fallback(handle)
        .with_state(Arc::new(Api { backend, tokens }))
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let ids = ids::RequestIds::of(&parts.headers);
    let what = format!("{} {}", parts.method, parts.uri.path());
    let outcome = match tokio::time::timeout(
        REQUEST_TIMEOUT,
        serve(api, parts, body, ids.correlation.clone()),
    )
    .await
    {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(
            StatusCode::GATEWAY_TIMEOUT,
            "GatewayTimeout",
            "The request took too long. It may have been carried out.",
        )),
    };
    let mut response = outcome.unwrap_or_else(|failure| {
        tracing::debug!(request = %ids.request, %what, code = %failure.code, why = %failure.message, "refused");
        failure.into_response()
    });
    ids.write(response.headers_mut());
    response
}

async fn serve(api: Arc<Api>, parts: Parts, body: Body, correlation: String) -> Outcome {
    let host = call::authority(&parts)?;
    let segments = routes::segments(parts.uri.path())?;
    let found = routes::find(parts.method.as_str(), &segments);
    let state = api.backend.state();
    let now = api.backend.now();
    // Who is not known learns nothing about what is there.
    let caller = match &found {
        Found::Route(route, _) if matches!(route.handler, Handler::Open(_)) => Caller::default(),
        _ => auth::caller(&api, &state, &parts.headers, &host, now)?,
    };
    let (route, params) = match found {
        Found::Route(route, params) => (route, params),
        Found::OtherMethods(allowed) => return Err(failure::wrong_method(&parts, &allowed)),
        Found::Nothing => return Err(failure::nothing_there(&parts, &segments)),
    };
    let open = matches!(route.handler, Handler::Open(_));
    let body = call::read_body(body, &parts.headers, open).await?;
    let call = Call {
        api,
        state,
        now,
        host,
        params,
        query: call::query(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body,
        by: caller.name.clone(),
        caller,
        address: parts
            .extensions
            .get::<ClientAddress>()
            .map(|client| client.0),
        correlation,
    };
    if route.versioned {
        call.api_version()?;
    }
    tracing::trace!(permission = route.permission, by = %call.by, "management request");
    match route.handler {
        Handler::Open(answer) | Handler::Read(answer) => answer(&call),
        Handler::Act(act) => act(call).await,
        Handler::Missing(operation) => Err(failure::not_implemented(operation)),
    }
}
