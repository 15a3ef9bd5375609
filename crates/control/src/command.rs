//! What may be asked of the control plane, and what it answers.

use crate::model::{Deployment, Hub, Operation, ResourceGroup, StepName, Subscription};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{CloudToDevice, Epoch, HubId, HubName, Policy, RegionName, Replication, UnixMillis};

/// One entry of the consensus log: a command with everything that is not deterministic already in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The proposer's clock. The machine's time never runs backwards: it uses the latest it has seen.
    pub now: UnixMillis,
    /// Who asks: a client id, or `castling:REGION` for the system itself.
    pub by: String,
    /// Names the request: a request seen twice (a retry after a lost answer) is answered, not applied again.
    pub id: String,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// First start. Later ones update regions, domain and policy, and add missing principals and subscriptions.
    Deploy {
        deployment: Deployment,
        subscriptions: Vec<Subscription>,
    },

    PutGroup {
        subscription: String,
        name: String,
        location: RegionName,
        tags: BTreeMap<String, String>,
    },
    /// Starts a long-running delete of the group and everything in it; `operation` is its id.
    DeleteGroup {
        subscription: String,
        name: String,
        operation: String,
    },

    /// Create or update. → [`Answer::Hub`]; creation starts an operation of id `operation`.
    PutHub {
        operation: String,
        spec: Box<HubSpec>,
    },
    DeleteHub {
        subscription: String,
        group: String,
        name: String,
        operation: String,
    },
    PutConsumerGroup {
        hub: HubId,
        name: String,
    },
    DeleteConsumerGroup {
        hub: HubId,
        name: String,
    },

    /// Starts a planned failover to the hub's other region. `to` must name it. `excluded`: the proposer's catalogue does not
    /// offer manual failover to hubs whose home is this hub's.
    StartFailover {
        hub: HubId,
        to: RegionName,
        operation: String,
        reason: String,
        #[serde(default)]
        excluded: bool,
    },
    /// Asks for a roll-back; refused after the point of no return.
    CancelFailover {
        operation: String,
    },

    // What the coordinator (the leader's region) records. Refused when out of order.
    StepStarted {
        operation: String,
        step: StepName,
    },
    StepEnded {
        operation: String,
        step: StepName,
        detail: serde_json::Value,
    },
    /// The point of no return: epoch + 1, new primary. Ends the commit step.
    CommitFailover {
        operation: String,
        detail: serde_json::Value,
    },
    /// Ends a failover that will not happen; only before the point of no return. The old primary serves again at its epoch.
    RollBack {
        operation: String,
        code: String,
        why: String,
    },
    /// Ends any operation: hub creation and deletion too.
    Finish {
        operation: String,
        report: Option<serde_json::Value>,
        error: Option<(String, String)>,
    },
}

/// A hub as its owner wants it. `None` fields keep what is there on update and take the default on creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubSpec {
    pub subscription: String,
    pub group: String,
    pub name: HubName,
    pub location: RegionName,
    /// Chosen by the proposer from the catalogue: the pair of `location` if it has one.
    pub partner: Option<RegionName>,
    pub sku_name: String,
    pub sku_capacity: u32,
    pub tags: BTreeMap<String, String>,
    pub partition_count: Option<u16>,
    pub retention_days: Option<u8>,
    pub replication: Option<Replication>,
    pub cloud_to_device: Option<CloudToDevice>,
    /// `None` keeps them. Keys missing in a policy were filled by the proposer.
    pub policies: Option<Vec<Policy>>,
    /// Five policies with fresh keys, used on creation only.
    pub default_policies: Vec<Policy>,
    pub stored_properties: serde_json::Value,
    /// `If-Match`: the etag it must have; `None`: none was given, `Some("*")`: must exist.
    pub if_match: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Group {
        group: ResourceGroup,
        created: bool,
    },
    /// `created`: new, with the operation that activates it.
    Hub {
        hub: Box<Hub>,
        operation: Option<Box<Operation>>,
        created: bool,
    },
    Operation(Box<Operation>),
    /// What was to be deleted is not there.
    Absent,
    Epoch(Epoch),
    Refused(Refusal),
}
