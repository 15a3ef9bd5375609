//! A definite "no" of the control plane: its own code each, and when it would be "yes".

use serde::{Deserialize, Serialize};
use std::fmt;
use types::UnixMillis;

/// Why the control plane refuses. The edge chooses the status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    SubscriptionNotFound,
    ResourceGroupNotFound,
    ResourceNotFound,
    InvalidResourceGroupName,
    InvalidResourceGroupLocation,
    LocationNotAvailable,
    HubNameInvalid,
    HubNameUnavailable,
    InvalidProperties,
    PreconditionFailed,
    /// 409002: the hub is not Active.
    HubNotActive,
    ResourceGroupDeleting,
    QuotaExceeded,
    ConsumerGroupInvalid,
    FailoverNoPair,
    FailoverRegionMismatch,
    FailoverRegionExcluded,
    FailoverTooSoon,
    FailoverDailyLimit,
    FailoverChecksFailed,
    /// A forced failover may lose more than its operator accepts.
    LossExceedsAccepted,
    /// A forced failover is not what is needed: a planned one loses nothing.
    PrimaryIsHealthy,
    /// The secondary cannot take over: it is away, returning, copying or broken.
    SecondaryNotReady,
    DrillNotFound,
    DrillRunning,
    OperationNotFound,
    OperationEnded,
    PastPointOfNoReturn,
    StepOutOfOrder,
    /// A lock keeps the scope from being changed or deleted.
    ScopeLocked,
    /// A second person must approve the failover first.
    ApprovalRequired,
    ApprovalNotFound,
    /// The one who asked cannot approve, or it was decided or has expired.
    ApprovalInvalid,
    RoleAssignmentExists,
    RoleAssignmentNotFound,
    RoleAssignmentInvalid,
    LockNotFound,
    /// A user, an application, a provider: there is none.
    DirectoryObjectNotFound,
    DirectoryObjectExists,
    DirectoryObjectInvalid,
    /// A code, a device code or a refresh token that is not good: unknown, used or expired.
    GrantInvalid,
    /// Too many wrong passwords.
    UserLocked,
    CertificateNotFound,
    CertificateInvalid,
    JobNotFound,
    JobRunning,
    PlanNotFound,
    PlanInvalid,
    DeploymentInvalid,
    DeploymentNotFound,
    /// A deployment of a template runs; one of its name at a time.
    DeploymentActive,
    DeploymentEnded,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: RefusalCode,
    pub message: String,
    /// The earliest time at which the same request would not be refused for this reason.
    pub earliest: Option<UnixMillis>,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Refusal {
            code,
            message: message.into(),
            earliest: None,
        }
    }

    /// A refusal that ends by itself at `earliest`.
    pub fn until(code: RefusalCode, message: impl Into<String>, earliest: UnixMillis) -> Self {
        Refusal {
            code,
            message: message.into(),
            earliest: Some(earliest),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
