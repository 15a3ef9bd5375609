//! How a request fails: a documented code, a text for a person, and the response that carries them (data-plane notes section 9).

use crate::backend::{CallError, SendError};
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use types::{ErrorCode, InvalidId, Reject, UnixMillis, limits};

/// Why a request has no success.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    retry_after_ms: Option<u64>,
    /// The methods a route has, when the request used another.
    allow: Option<&'static str>,
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            retry_after_ms: None,
            allow: None,
        }
    }

    /// The request asks for something that this server does not offer.
    pub(super) fn unsupported(feature: &str) -> Failure {
        Failure::new(
            ErrorCode::FeatureNotSupported,
            format!("This server does not support {feature}."),
        )
    }

    pub(super) fn no_route() -> Failure {
        Failure::new(
            ErrorCode::FeatureNotSupported,
            "This server has no such route.",
        )
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Failure {
        let text = format!("This route has only {allow}.");
        Failure {
            allow: Some(allow),
            ..Failure::new(ErrorCode::MethodNotAllowed, text)
        }
    }

    /// This region is cut off from the others: another one may answer.
    pub(super) fn isolated() -> Failure {
        let text =
            "This region is cut off from the others and cannot decide now. Nothing was done.";
        Failure {
            retry_after_ms: Some(limits::ISOLATED_RETRY_MS),
            ..Failure::new(ErrorCode::RegionIsolated, text)
        }
    }

    /// The hub answered with something that does not belong to the question: our own mistake.
    pub(super) fn unexpected_reply() -> Failure {
        tracing::error!("the hub's reply does not belong to the command");
        Failure::new(
            ErrorCode::ServerError,
            "The server made a mistake. What was asked may have been carried out.",
        )
    }

    pub(super) fn into_response(self, shape: Shape, tracking: &Tracking) -> Response<Body> {
        let reject = Reject::new(self.code, self.message);
        let body = match shape {
            Shape::Registry => wire::error_body::registry(&reject, &tracking.id, tracking.at),
            Shape::Inner => wire::error_body::inner_json(&reject, &tracking.id, tracking.at),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(super::answer::JSON),
        );
        headers.insert(
            wire::error_body::HEADER,
            HeaderValue::from_static(wire::error_body::header_value(self.code)),
        );
        if let Some(millis) = self.retry_after_ms {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(millis.div_ceil(1000).max(1)),
            );
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Failure {
        Failure::new(reject.code, reject.message)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Failure {
        let retry = |failure, millis| Failure {
            retry_after_ms: Some(millis),
            ..failure
        };
        match error {
            SendError::FailingOver { retry_after_ms } => {
                let text = "The IoT hub is failing over to its other region. Nothing was done.";
                retry(
                    Failure::new(ErrorCode::IotHubFailingOver, text),
                    retry_after_ms,
                )
            }
            SendError::Unavailable {
                why,
                retry_after_ms,
            } => {
                let text = format!("The IoT hub cannot answer now: {why}. Nothing was done.");
                retry(
                    Failure::new(ErrorCode::ServiceUnavailable, text),
                    retry_after_ms,
                )
            }
            SendError::OutcomeUnknown { why } => {
                let text = format!("The outcome is unknown, it may have been carried out: {why}.");
                Failure::new(ErrorCode::ServerError, text)
            }
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        match error {
            CallError::Reject(reject) => reject.into(),
            CallError::Send(error) => error.into(),
        }
    }
}

impl From<InvalidId> for Failure {
    fn from(error: InvalidId) -> Failure {
        Failure::new(ErrorCode::ArgumentInvalid, format!("{error}."))
    }
}

/// The two forms of error bodies that clients parse.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Registry,
    /// Twins and methods.
    Inner,
}

impl Shape {
    /// The form that clients of a path expect.
    pub(super) fn of(path: &str) -> Shape {
        let first = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        if first.eq_ignore_ascii_case("twins") {
            Shape::Inner
        } else {
            Shape::Registry
        }
    }
}

/// What names one request in its answer and in the log.
pub(super) struct Tracking {
    pub(super) id: String,
    pub(super) at: UnixMillis,
}

/// Makes ids of 32 hexadecimal digits that differ between requests and between processes.
#[derive(Default)]
pub(super) struct TrackingIds {
    seeds: [RandomState; 2],
    count: AtomicU64,
}

impl TrackingIds {
    pub(super) fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [0, 1].map(|half| self.seeds[half].hash_one(count));
        format!("{high:016x}{low:016x}")
    }
}
