//! The management API that `az` and the Azure management SDKs speak: subscriptions, resource groups, IoT hubs, failovers.
//!
//! The way of a request: [`handle`] → `routes` (which operation) → `auth` (whose token) → `rights` (whether they may) → a resource's file (ask the control
//! plane, answer). Reads are answered from this region's copy of the control plane and wait for nobody; writes are commands
//! to its leader. Long-running operations follow control-plane notes section 6.

pub mod backend;
pub mod passwords;
pub mod tokens;

mod activity;
mod answer;
mod approvals;
mod assertion;
mod auth;
mod authorization;
mod call;
mod certificates;
mod check_name;
mod consumer_groups;
mod deployment_regions;
mod directory;
mod drills;
mod durations;
mod endpoint_health;
mod external;
mod failover;
mod failover_body;
mod failovers;
mod failure;
mod fields;
mod figures;
mod forced;
mod groups;
mod guard;
mod hub_body;
mod hub_request;
mod hub_tokens;
mod hubs;
mod identity;
mod ids;
mod jobs;
mod locations;
mod metadata;
mod openapi;
mod operations;
mod outgoing;
mod plans;
mod policies;
mod private_links;
mod providers;
mod rates;
mod reports;
mod resources;
mod rights;
mod routes;
mod routing;
mod salvage;
mod signin;
mod strict;
mod subscriptions;
mod templates;
#[cfg(test)]
mod tests;
mod waits;

use answer::Outcome;
pub use auth::{Unidentified, identify};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use backend::Backend;
use call::Call;
pub use call::{Caller, CallerKind};
use failure::Failure;
pub use hub_tokens::{HubTokenError, verify_for_hub};
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
    pub guard: guard::Guard,
}

/// The management API of a region. Routes merged into it take precedence; they must not have a fallback of their own.
pub fn router(backend: Arc<dyn Backend>, tokens: Arc<TokenAuthority>) -> Router {
    Router::new().fallback(handle).with_state(Arc::new(Api {
        backend,
        tokens,
        guard: guard::Guard::default(),
    }))
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let ids = ids::RequestIds::of(&parts.headers);
    let host = call::authority(&parts).ok();
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
    guard::protect(response.headers_mut(), host.as_deref());
    response
}

async fn serve(api: Arc<Api>, parts: Parts, body: Body, correlation: String) -> Outcome {
    let host = call::authority(&parts)?;
    let segments = routes::segments(parts.uri.path())?;
    let found = routes::find(parts.method.as_str(), &segments);
    let state = api.backend.state();
    let now = api.backend.now();
    let client = parts.extensions.get::<ClientAddress>();
    let address = client.map(|client| client.0);
    // Who is not known learns nothing about what is there.
    let caller = match &found {
        Found::Route(route, _) if route.handler.is_open() => {
            api.guard.unknown(address, now)?;
            Caller::default()
        }
        _ => match auth::caller(&api, &state, &parts.headers, &host, now) {
            Ok(caller) => caller,
            Err(failure) => {
                api.guard.unknown(address, now)?;
                return Err(failure);
            }
        },
    };
    let asked = Asked {
        state,
        now,
        host,
        address,
        correlation,
        caller,
    };
    carry_out(api, parts, body, found, &segments, asked).await
}

/// A request of somebody known, or one that needs no token.
struct Asked {
    state: Arc<control::State>,
    now: types::UnixMillis,
    host: String,
    address: Option<std::net::IpAddr>,
    correlation: String,
    caller: Caller,
}

async fn carry_out(
    api: Arc<Api>,
    parts: Parts,
    body: Body,
    found: Found,
    segments: &[String],
    asked: Asked,
) -> Outcome {
    if asked.caller.kind != CallerKind::Nobody {
        let (state, caller) = (&asked.state, &asked.caller);
        api.guard.known(state, caller, &parts.method, asked.now)?;
    }
    let (route, params) = match found {
        Found::Route(route, params) => (route, params),
        Found::OtherMethods(allowed) => return Err(failure::wrong_method(&parts, &allowed)),
        Found::Nothing => return Err(failure::nothing_there(&parts, segments)),
    };
    let open = route.handler.is_open();
    let scope = rights::scope_of(&params)?;
    let mut call = Call {
        api,
        state: asked.state,
        now: asked.now,
        host: asked.host,
        params,
        query: call::query(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body: bytes::Bytes::new(),
        by: asked.caller.name.clone(),
        caller: asked.caller,
        address: asked.address,
        correlation: asked.correlation,
    };
    if !open && !rights::allows(&call.state, &call.caller, route, &scope) {
        if !guard::is_read(route) {
            let who = call.who();
            guard::note_refusal(
                &call.api,
                who,
                route.permission,
                &scope,
                "AuthorizationFailed",
            );
        }
        return Err(rights::forbidden(&call.caller, route.permission, &scope));
    }
    call.body = call::read_body(body, &call.headers, open).await?;
    if route.versioned {
        strict::query(&call.query)?;
        call.api_version()?;
    }
    if matches!(route.method, "GET" | "HEAD") && !call.body.is_empty() {
        return Err(Failure::bad(
            "InvalidRequestContent",
            format!("A {} request has no content.", route.method),
        ));
    }
    if !route.permission.is_empty() {
        call.state.not_locked_against(route.permission, &scope)?;
    }
    tracing::trace!(permission = route.permission, by = %call.by, "management request");
    let key_read = guard::is_key_read(route).then(|| (call.api.clone(), call.who()));
    let outcome = match route.handler {
        Handler::Open(answer) | Handler::Read(answer) => answer(&call),
        Handler::Act(act) | Handler::OpenAct(act) => act(call).await,
        Handler::Missing(operation) => Err(failure::not_implemented(operation)),
    };
    if let (Some((api, who)), Ok(_)) = (key_read, &outcome) {
        guard::note(&api, who, route.permission, &scope, "Succeeded");
    }
    outcome
}
