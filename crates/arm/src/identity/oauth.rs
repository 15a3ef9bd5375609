//! OAuth's form of errors, and what every endpoint asks first.

use crate::answer;
use crate::backend::{By, ControlUnavailable};
use crate::call::Call;
use crate::failure::{Failure, shown};
use crate::ids;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use control::{Answer, Command, DirectoryCommand, Refusal};
use serde_json::json;

/// Path words that stand for the one tenant there is.
const ANY_TENANT: [&str; 3] = ["adfs", "organizations", "common"];

/// An OAuth error: status, `error`, the number of its AADSTS code, and what went wrong.
#[derive(Debug)]
pub(crate) struct OauthError {
    pub status: StatusCode,
    pub kind: &'static str,
    pub number: u32,
    pub message: String,
}

impl OauthError {
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        number: u32,
        message: impl Into<String>,
    ) -> OauthError {
        OauthError {
            status,
            kind,
            number,
            message: message.into(),
        }
    }

    /// 400.
    pub fn bad(kind: &'static str, number: u32, message: impl Into<String>) -> OauthError {
        OauthError::new(StatusCode::BAD_REQUEST, kind, number, message)
    }

    pub fn request(number: u32, message: impl Into<String>) -> OauthError {
        OauthError::bad("invalid_request", number, message)
    }

    pub fn grant(number: u32, message: impl Into<String>) -> OauthError {
        OauthError::bad("invalid_grant", number, message)
    }

    pub fn server(message: impl Into<String>) -> OauthError {
        OauthError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            90_033,
            message,
        )
    }

    /// Nothing has happened; it may be tried again.
    pub fn unavailable(message: impl Into<String>) -> OauthError {
        OauthError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            90_033,
            message,
        )
    }
}

impl From<Failure> for OauthError {
    fn from(failure: Failure) -> OauthError {
        OauthError::server(failure.message)
    }
}

impl From<ControlUnavailable> for OauthError {
    fn from(error: ControlUnavailable) -> OauthError {
        OauthError::unavailable(format!(
            "The control plane does not answer; try again in a moment. ({})",
            error.why
        ))
    }
}

/// Has the directory do something for a person who signs in, under their name.
///
/// # Errors
/// That the control plane does not answer; its refusal is an answer.
pub(crate) async fn submit(
    call: &Call,
    name: &str,
    object_id: &str,
    command: DirectoryCommand,
) -> Result<Result<Answer, Refusal>, OauthError> {
    let mut by: By = call.who();
    by.name = name.to_owned();
    by.origin.object_id = object_id.to_owned();
    let answer = call
        .api
        .backend
        .submit(by, Command::Directory(command))
        .await?;
    Ok(match answer {
        Answer::Refused(refusal) => Err(refusal),
        answer => Ok(answer),
    })
}

/// The deployment is known here, and the path's tenant is its own.
pub(crate) fn tenant_is_known(call: &Call) -> Result<(), OauthError> {
    let (given, own) = (call.param("tenant"), &call.state.deployment.tenant);
    if own.is_empty() {
        return Err(OauthError::unavailable(
            "This region does not know its deployment yet. Try again in a moment.",
        ));
    }
    let any = ANY_TENANT
        .iter()
        .any(|word| word.eq_ignore_ascii_case(given));
    if any || given.eq_ignore_ascii_case(own) {
        return Ok(());
    }
    Err(OauthError::bad(
        "invalid_tenant",
        90_002,
        format!(
            "Tenant '{}' not found. This deployment's tenant is '{own}'.",
            shown(given)
        ),
    ))
}

/// The answer that tells an error, as the public directory does.
pub(crate) fn refused(call: &Call, error: OauthError) -> Result<Response, Failure> {
    let OauthError {
        status,
        kind,
        number,
        message,
    } = error;
    let correlation = match ids::given(&call.headers, "client-request-id") {
        Some(given) => given,
        None => ids::guid()?,
    };
    let at = control::iso::iso8601(call.now);
    let timestamp = format!("{} {}Z", &at[..10], &at[11..19]);
    let trace = ids::guid()?;
    let body = json!({
        "error": kind,
        "error_description": format!(
            "AADSTS{number}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
        ),
        "error_codes": [number],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
    });
    Ok(uncached(answer::json(status, &body)))
}

pub(crate) fn uncached(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store, no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}
