//! What stands before every operation: how often somebody may ask, what is written down, and headers of every answer.

use crate::Api;
use crate::backend::By;
use crate::call::Caller;
use crate::failure::Failure;
use crate::rates::{Kind, Rate, Rates, of_address, too_many};
use crate::routes::{Handler, Route};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use control::{Command, State};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use types::{UnixMillis, limits};

const OPEN: Rate = Rate {
    per_minute: limits::MANAGEMENT_OPEN_PER_MINUTE,
    burst: limits::MANAGEMENT_OPEN_PER_MINUTE / 3,
};
const NOTED: Rate = Rate {
    per_minute: limits::MANAGEMENT_REFUSALS_NOTED_PER_MINUTE,
    burst: limits::MANAGEMENT_REFUSALS_NOTED_PER_MINUTE / 3,
};

/// What the guard remembers.
pub struct Guard {
    rates: Rates,
    notes: Arc<Semaphore>,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard {
            rates: Rates::default(),
            notes: Arc::new(Semaphore::new(limits::MANAGEMENT_NOTES_AT_ONCE)),
        }
    }
}

impl Guard {
    /// Counts a request that shows no token, or none that is good. A listener that does not tell addresses is not counted.
    ///
    /// # Errors
    /// 429.
    pub fn unknown(&self, address: Option<IpAddr>, now: UnixMillis) -> Result<(), Failure> {
        let Some(address) = address else {
            return Ok(());
        };
        self.rates
            .take(Kind::Open, &of_address(address), OPEN, now)
            .map_err(|seconds| too_many("this address", seconds))
    }

    /// Counts a request of somebody known.
    ///
    /// # Errors
    /// 429.
    pub fn known(
        &self,
        state: &State,
        caller: &Caller,
        method: &Method,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        let bounds = &state.deployment.limits;
        let (kind, rate) = match matches!(*method, Method::GET | Method::HEAD) {
            true => (Kind::Read, Rate::reads(bounds.reads_per_minute)),
            false => (Kind::Write, Rate::writes(bounds.writes_per_minute)),
        };
        self.rates
            .take(kind, &caller.object_id, rate, now)
            .map_err(|seconds| too_many("this principal", seconds))
    }
}

/// Whether an operation only reads.
pub fn is_read(route: &Route) -> bool {
    let verb = route.permission.rsplit('/').next().unwrap_or_default();
    verb.eq_ignore_ascii_case("read") || (route.permission.is_empty() && route.method == "GET")
}

/// Writes down that somebody was refused something: of each caller so many a minute.
pub fn note_refusal(api: &Arc<Api>, by: By, action: &str, scope: &str, why: &str) {
    let now = api.backend.now();
    let who = &by.origin.object_id;
    if api.guard.rates.take(Kind::Noted, who, NOTED, now).is_err() {
        tracing::debug!(by = %by.name, action, scope, why, "refused; too often to be written down");
        return;
    }
    note(api, by, action, scope, why);
}

/// Writes down what changes nothing. The answer does not wait for it: keys can be read while the control plane has no leader.
pub fn note(api: &Arc<Api>, by: By, action: &str, scope: &str, result: &str) {
    let Ok(place) = api.guard.notes.clone().try_acquire_owned() else {
        tracing::warn!(by = %by.name, action, scope, result, "not written down: too much else is");
        return;
    };
    let command = Command::NoteAction {
        action: action.into(),
        resource: scope.into(),
        result: result.into(),
    };
    let api = api.clone();
    tokio::spawn(async move {
        let name = by.name.clone();
        if let Err(error) = api.backend.submit(by, command).await {
            tracing::warn!(by = %name, why = %error.why, "what was done could not be written down");
        }
        drop(place);
    });
}

/// Whether an operation is written down though it changes nothing: whoever reads a key has it.
pub fn is_key_read(route: &Route) -> bool {
    matches!(route.handler, Handler::Read(_) | Handler::Act(_))
        && route
            .permission
            .to_ascii_lowercase()
            .ends_with("/listkeys/action")
}

/// Puts what protects a browser into an answer that does not say otherwise. Names of this very machine are left out of
/// strict transport security: browsers would apply it to everything else that runs here.
pub fn protect(headers: &mut HeaderMap, host: Option<&str>) {
    let mut put = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::X_FRAME_OPTIONS, "DENY");
    put(header::REFERRER_POLICY, "no-referrer");
    put(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    );
    if !host.is_some_and(is_local) {
        put(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

fn is_local(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transport_security_is_not_asked_for_this_machine() {
        for (host, asked) in [
            ("localhost:8443", false),
            ("LOCALHOST", false),
            ("127.0.0.1:1", false),
            ("[::1]:8443", false),
            ("management.example.org", true),
            ("localhost.example.org:443", true),
        ] {
            let mut headers = HeaderMap::new();
            protect(&mut headers, Some(host));
            let found = headers.contains_key(header::STRICT_TRANSPORT_SECURITY);
            assert_eq!(found, asked, "{host}");
        }
    }

    #[test]
    fn a_page_keeps_its_own_policy() {
        let mut headers = HeaderMap::new();
        let own = HeaderValue::from_static("default-src 'self'");
        headers.insert(header::CONTENT_SECURITY_POLICY, own.clone());
        protect(&mut headers, None);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], own);
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
