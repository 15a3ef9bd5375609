//! What may be asked of the control plane, and what it answers.

use crate::access::{AccessAnswer, AccessCommand};
use crate::certificates::{CertificateCommand, HubCertificate};
use crate::directory::{DirectoryAnswer, DirectoryCommand};
use crate::divergence::LostRange;
use crate::drill::Drill;
use crate::jobs::{Job, JobCommand};
use crate::loss::{AcceptedLoss, LossEstimate};
use crate::model::{Deployment, Hub, Operation, ResourceGroup, StepName, Subscription};
use crate::plans::{Plan, PlanCommand};
use crate::refusal::Refusal;
use crate::templates::{TemplateCommand, TemplateDeployment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    CloudToDevice, Epoch, HubId, HubName, PartnerAway, Policy, RegionName, Replication, UnixMillis,
};

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
    /// Where the request came from, for the activity log.
    #[serde(default)]
    pub origin: Origin,
}

/// Where an operator's request came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Object id of who asks; empty for the system itself.
    pub object_id: String,
    /// Address of the client.
    pub address: Option<String>,
    /// Ties the entries of one request together: `x-ms-correlation-request-id`.
    pub correlation: Option<String>,
    /// The client's program, as it names itself.
    pub agent: Option<String>,
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

    /// One surviving node was made the only voter (`castling recover`), in this term: told for the activity log when it
    /// runs again.
    Recovered {
        node: RegionName,
        term: u64,
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
        /// The drill it is a leg of: exempt from the time between failovers and from the daily limit.
        #[serde(default)]
        drill: Option<String>,
    },
    /// Starts a forced failover to the hub's other region: what the lost primary alone has is given up. Not subject to the
    /// time between failovers, to daily limits, nor to `excluded`: a disaster does not wait for a policy. `accept`: the loss
    /// that is accepted; `shown`: the estimate its operator saw.
    StartForcedFailover {
        hub: HubId,
        to: RegionName,
        operation: String,
        reason: String,
        #[serde(default)]
        excluded: bool,
        accept: AcceptedLoss,
        shown: LossEstimate,
    },
    /// The old primary of forced failover `operation` is back: what it alone had, per partition; none: its disk was lost. Seen twice, it changes nothing.
    Returned {
        hub: HubId,
        operation: String,
        region: RegionName,
        partitions: Vec<LostRange>,
    },

    /// Starts a drill: a planned failover, `hold_ms` in the other region, a planned failback. → [`Answer::Drill`].
    StartDrill {
        hub: HubId,
        drill: String,
        reason: String,
        hold_ms: i64,
    },
    /// Ends a drill, with its report.
    EndDrill {
        drill: String,
        report: Option<serde_json::Value>,
        error: Option<(String, String)>,
    },
    /// Writes down what an operator does to `id` of a hub where the control plane has no part in it. → [`Answer::Done`].
    Note {
        hub: HubId,
        what: Noted,
        id: String,
    },
    /// Writes down what was done, or refused, where the control plane has no part in it: keys read, a request without the right.
    /// → [`Answer::Done`].
    NoteAction {
        action: String,
        resource: String,
        result: String,
    },
    Plan(PlanCommand),
    Certificate(CertificateCommand),
    Directory(DirectoryCommand),
    Access(AccessCommand),
    Template(TemplateCommand),
    Job(JobCommand),
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
        /// Planned only: what the catch-up step came to, recorded in the same entry, which saves a round inside the pause.
        /// If the two sides disagree it is recorded, and the commit refused.
        #[serde(default)]
        caught_up: Option<serde_json::Value>,
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

/// What is only written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noted {
    SalvageReplay,
    SalvageDiscard,
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
    #[serde(default)]
    pub partner_away: Option<PartnerAway>,
    /// 0: no bound.
    #[serde(default)]
    pub lag_max_ms: Option<u32>,
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
    Drill(Box<Drill>),
    /// What was to be deleted is not there.
    Absent,
    Epoch(Epoch),
    Plan(Box<Plan>),
    Certificate(Box<HubCertificate>),
    Directory(DirectoryAnswer),
    Access(AccessAnswer),
    Template(Box<TemplateDeployment>),
    Job(Box<Job>),
    Refused(Refusal),
}
