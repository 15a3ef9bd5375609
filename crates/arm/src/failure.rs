//! The one writer of error bodies: `{"error": {"code", "message", "details"?, "additionalInfo"?}}`.
//!
//! Status and code of every refusal of the control plane are chosen here, after control-plane notes section 9. A refusal never
//! carries Retry-After: clients would wait and repeat, whatever the verb.

use crate::answer;
use crate::backend::ControlUnavailable;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use control::naming::clip;
use control::{Refusal, RefusalCode};
use serde_json::{Value, json};
use std::borrow::Cow;

/// Characters of a client's text that are repeated in a message.
const SHOWN_CHARS: usize = 200;

/// An answer that says no, or that nobody knows.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub code: Cow<'static, str>,
    pub message: String,
    more: Box<More>,
}

#[derive(Debug, Default)]
struct More {
    details: Vec<Value>,
    additional_info: Vec<Value>,
    /// Only where nothing can have happened.
    /// Seconds.
    retry_after: Option<u64>,
    challenge: Option<String>,
    allow: Option<String>,
}

impl Failure {
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Failure {
        Failure {
            status,
            code: code.into(),
            message: message.into(),
            more: Box::default(),
        }
    }

    pub fn bad(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn not_found(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, code, message)
    }

    pub fn conflict(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, code, message)
    }

    pub fn internal(message: impl Into<String>) -> Failure {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            message,
        )
    }

    /// Nothing has happened; the same request may be sent again.
    pub fn unavailable(message: impl Into<String>) -> Failure {
        let failure = Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        );
        failure.retry_after(1)
    }

    /// Tells when the same request may be sent again: only where nothing can have happened.
    pub fn retry_after(mut self, seconds: u64) -> Failure {
        self.more.retry_after = Some(seconds);
        self
    }

    pub fn challenge(mut self, challenge: String) -> Failure {
        self.more.challenge = Some(challenge);
        self
    }

    /// Each mistake as a detail of its own.
    pub fn details(mut self, mistakes: &[String]) -> Failure {
        let code = self.code.clone();
        self.more.details = mistakes
            .iter()
            .map(|mistake| json!({ "code": code, "message": mistake }))
            .collect();
        self
    }

    fn info(mut self, kind: &str, info: Value) -> Failure {
        self.more
            .additional_info
            .push(json!({ "type": kind, "info": info }));
        self
    }

    pub fn body(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if !self.more.details.is_empty() {
            error["details"] = Value::Array(self.more.details.clone());
        }
        if !self.more.additional_info.is_empty() {
            error["additionalInfo"] = Value::Array(self.more.additional_info.clone());
        }
        json!({ "error": error })
    }

    pub fn into_response(self) -> Response {
        let mut response = answer::json(self.status, &self.body());
        let more = *self.more;
        if let Some(seconds) = more.retry_after {
            answer::set(&mut response, header::RETRY_AFTER, &seconds.to_string());
        }
        if let Some(challenge) = more.challenge {
            answer::set(&mut response, header::WWW_AUTHENTICATE, &challenge);
        }
        if let Some(allow) = more.allow {
            answer::set(&mut response, header::ALLOW, &allow);
        }
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let (status, code) = status_and_code(refusal.code);
        let failure = Failure::new(status, code, refusal.message);
        match refusal.earliest {
            None => failure,
            Some(earliest) => {
                let at = control::iso::iso8601(earliest);
                failure.info("FailoverPolicy", json!({ "earliest": at }))
            }
        }
    }
}

impl From<ControlUnavailable> for Failure {
    fn from(error: ControlUnavailable) -> Failure {
        if error.may_have_happened {
            return Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "OutcomeUnknown",
                format!(
                    "The control plane did not answer in time, so the outcome is unknown: the request may have been carried \
                     out. Read the resource before you repeat it. ({})",
                    error.why
                ),
            );
        }
        Failure::unavailable(format!(
            "The control plane has no leader that answers; nothing has been changed. ({})",
            error.why
        ))
    }
}

fn status_and_code(code: RefusalCode) -> (StatusCode, &'static str) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    const ABSENT: StatusCode = StatusCode::NOT_FOUND;
    const CONFLICT: StatusCode = StatusCode::CONFLICT;
    match code {
        RefusalCode::SubscriptionNotFound => (ABSENT, "SubscriptionNotFound"),
        RefusalCode::ResourceGroupNotFound => (ABSENT, "ResourceGroupNotFound"),
        RefusalCode::ResourceNotFound => (ABSENT, "ResourceNotFound"),
        RefusalCode::InvalidResourceGroupName => (BAD, "InvalidResourceGroup"),
        RefusalCode::InvalidResourceGroupLocation => (CONFLICT, "InvalidResourceGroupLocation"),
        RefusalCode::LocationNotAvailable => (BAD, "LocationNotAvailableForResourceType"),
        RefusalCode::HubNameInvalid => (BAD, "HubNameInvalid"),
        RefusalCode::HubNameUnavailable => (CONFLICT, "409004"),
        RefusalCode::InvalidProperties => (BAD, "InvalidProperties"),
        RefusalCode::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
        RefusalCode::HubNotActive => (CONFLICT, "409002"),
        RefusalCode::ResourceGroupDeleting => (CONFLICT, "ResourceGroupBeingDeleted"),
        RefusalCode::QuotaExceeded => (CONFLICT, "QuotaExceeded"),
        RefusalCode::ConsumerGroupInvalid => (BAD, "ConsumerGroupInvalid"),
        RefusalCode::FailoverNoPair => (BAD, "FailoverNoPair"),
        RefusalCode::FailoverRegionMismatch => (BAD, "FailoverRegionMismatch"),
        RefusalCode::FailoverRegionExcluded => (BAD, "FailoverRegionExcluded"),
        RefusalCode::FailoverTooSoon => (BAD, "FailoverTooSoon"),
        RefusalCode::FailoverDailyLimit => (BAD, "FailoverDailyLimit"),
        RefusalCode::FailoverChecksFailed => (CONFLICT, "FailoverChecksFailed"),
        RefusalCode::LossExceedsAccepted => (CONFLICT, "LossExceedsAccepted"),
        RefusalCode::PrimaryIsHealthy => (CONFLICT, "PrimaryIsHealthy"),
        RefusalCode::SecondaryNotReady => (CONFLICT, "SecondaryNotReady"),
        RefusalCode::DrillNotFound => (ABSENT, "DrillNotFound"),
        RefusalCode::DrillRunning => (CONFLICT, "DrillRunning"),
        RefusalCode::OperationNotFound => (ABSENT, "OperationNotFound"),
        RefusalCode::OperationEnded => (CONFLICT, "OperationEnded"),
        RefusalCode::PastPointOfNoReturn => (CONFLICT, "PastPointOfNoReturn"),
        RefusalCode::StepOutOfOrder => (CONFLICT, "StepOutOfOrder"),
        RefusalCode::ScopeLocked => (CONFLICT, "ScopeLocked"),
        RefusalCode::ApprovalRequired => (StatusCode::FORBIDDEN, "ApprovalRequired"),
        RefusalCode::ApprovalNotFound => (ABSENT, "ApprovalNotFound"),
        RefusalCode::ApprovalInvalid => (CONFLICT, "ApprovalInvalid"),
        RefusalCode::RoleAssignmentExists => (CONFLICT, "RoleAssignmentExists"),
        RefusalCode::RoleAssignmentNotFound => (ABSENT, "RoleAssignmentNotFound"),
        RefusalCode::RoleAssignmentInvalid => (BAD, "InvalidRoleAssignment"),
        RefusalCode::LockNotFound => (ABSENT, "LockNotFound"),
        RefusalCode::DirectoryObjectNotFound => (ABSENT, "DirectoryObjectNotFound"),
        RefusalCode::DirectoryObjectExists => (CONFLICT, "DirectoryObjectExists"),
        RefusalCode::DirectoryObjectInvalid => (BAD, "DirectoryObjectInvalid"),
        RefusalCode::GrantInvalid => (BAD, "GrantInvalid"),
        RefusalCode::UserLocked => (StatusCode::FORBIDDEN, "UserLocked"),
        RefusalCode::CertificateNotFound => (ABSENT, "CertificateNotFound"),
        RefusalCode::CertificateInvalid => (BAD, "CertificateInvalid"),
        RefusalCode::JobNotFound => (ABSENT, "JobNotFound"),
        RefusalCode::JobRunning => (CONFLICT, "JobRunning"),
        RefusalCode::PlanNotFound => (ABSENT, "PlanNotFound"),
        RefusalCode::PlanInvalid => (BAD, "PlanInvalid"),
        RefusalCode::DeploymentInvalid => (BAD, "InvalidTemplate"),
        RefusalCode::DeploymentNotFound => (ABSENT, "DeploymentNotFound"),
        RefusalCode::DeploymentActive => (CONFLICT, "DeploymentActive"),
        RefusalCode::DeploymentEnded => (CONFLICT, "DeploymentCannotBeCancelled"),
    }
}

/// A client's text, short enough to stand in a message.
pub fn shown(text: &str) -> String {
    clip(text, SHOWN_CHARS)
}

/// An operation of the real service that is not served here.
pub fn not_implemented(operation: &str) -> Failure {
    Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "NotImplemented",
        format!("The operation '{operation}' is not implemented by this deployment."),
    )
}

/// The path is known, the method is not.
pub fn wrong_method(parts: &Parts, allowed: &[&str]) -> Failure {
    let allow = allowed.join(", ");
    let mut failure = Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        format!(
            "The method {} is not allowed here; allowed are: {allow}.",
            shown(parts.method.as_str())
        ),
    );
    failure.more.allow = Some(allow);
    failure
}

/// Nothing is served at a path; what belongs to IoT hubs is named as missing.
pub fn nothing_there(parts: &Parts, segments: &[String]) -> Failure {
    let what = format!("{} {}", parts.method, parts.uri.path());
    let ours = |segment: &String| {
        segment.eq_ignore_ascii_case("Microsoft.Devices")
            || segment.eq_ignore_ascii_case("microsoft.insights")
    };
    if segments.iter().any(ours) {
        return not_implemented(&shown(&what));
    }
    Failure::not_found(
        "InvalidResourceType",
        format!("Nothing is served at '{}'.", shown(&what)),
    )
}
