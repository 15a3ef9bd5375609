//! What may be asked about rights.

use super::model::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccessCommand {
    /// Makes an assignment; the same again changes nothing, another role, scope or principal under the same name is refused.
    Assign(Box<RoleAssignment>),
    /// Removes an assignment by its name; the last Owner of `/` cannot go.
    Unassign {
        name: String,
    },
    PutLock(Box<Lock>),
    DeleteLock {
        scope: String,
        name: String,
    },
    /// A second person's word on a failover that was asked for.
    Decide {
        approval: String,
        approve: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccessAnswer {
    Assignment {
        assignment: Box<RoleAssignment>,
        created: bool,
    },
    Lock {
        lock: Box<Lock>,
        created: bool,
    },
    Approval(Box<Approval>),
}
