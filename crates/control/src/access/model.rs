//! What is kept about rights.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{HubId, RegionName, UnixMillis};

/// Role assignments, locks and approvals. Part of [`crate::State`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// By name (a GUID, lower case).
    pub assignments: BTreeMap<String, RoleAssignment>,
    /// By (lower-case scope, lower-case name).
    pub locks: BTreeMap<String, BTreeMap<String, Lock>>,
    /// Requests for a failover that a second person must approve, by id.
    pub approvals: BTreeMap<String, Approval>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrincipalType {
    User,
    ServicePrincipal,
    /// A group that an external provider names.
    Group,
}

/// A role, for somebody, at a scope and everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAssignment {
    pub name: String,
    /// `/`, or the path of a subscription, a resource group or a hub, as written.
    pub scope: String,
    /// GUID of the role definition.
    pub role: String,
    /// Object id; `PROVIDER:GROUP` for groups.
    pub principal: String,
    pub principal_type: PrincipalType,
    pub description: Option<String>,
    pub created: UnixMillis,
    pub by: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LockLevel {
    CanNotDelete,
    ReadOnly,
}

/// Keeps a scope, and everything below it, from being deleted or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub name: String,
    pub scope: String,
    pub level: LockLevel,
    pub notes: Option<String>,
    pub created: UnixMillis,
    pub by: String,
}

/// A failover that was asked for and waits for another person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub id: String,
    pub hub: HubId,
    pub to: RegionName,
    pub forced: bool,
    pub reason: String,
    pub asked: UnixMillis,
    pub asked_by: String,
    /// Afterwards it counts for nothing.
    pub expires: UnixMillis,
    pub standing: ApprovalStanding,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalStanding {
    Pending,
    Approved {
        by: String,
        at: UnixMillis,
    },
    Denied {
        by: String,
        at: UnixMillis,
    },
    /// A failover was started with it.
    Used {
        operation: String,
    },
}
