//! What the control plane knows. Serialised whole as its snapshot (docs/formats/control.md).

use crate::apply::Remembered;
use crate::divergence::Divergence;
use crate::drill::Drill;
use crate::loss::{AcceptedLoss, LossEstimate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    CloudToDevice, Epoch, HubId, HubName, HubSettings, PartnerAway, Policy, RegionName,
    Replication, UnixMillis,
};

/// The whole state. Keys of the maps are the forms in which names are compared (lower case).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Raised when the shape of this state changes.
    pub format: u32,
    pub deployment: Deployment,
    pub subscriptions: BTreeMap<String, Subscription>,
    /// By (subscription, lower-case name).
    pub groups: BTreeMap<String, BTreeMap<String, ResourceGroup>>,
    /// By lower-case name: names are unique in the whole deployment.
    pub hubs: BTreeMap<String, Hub>,
    /// Running and past operations by id.
    pub operations: BTreeMap<String, Operation>,
    /// Drills that run and their reports, by id.
    #[serde(default)]
    pub drills: BTreeMap<String, Drill>,
    pub activity: Vec<Activity>,
    /// Hash of the entry before the first that is kept; empty: none was dropped.
    #[serde(default)]
    pub activity_before: String,
    /// Failovers of many hubs, by id.
    #[serde(default)]
    pub plans: BTreeMap<String, crate::plans::Plan>,
    /// Deployments of templates, by [`crate::templates::template_key`].
    #[serde(default)]
    pub templates: BTreeMap<String, crate::templates::TemplateDeployment>,
    /// Imports and exports of devices, by id.
    #[serde(default)]
    pub jobs: BTreeMap<String, crate::jobs::Job>,
    /// Who may sign in.
    #[serde(default)]
    pub directory: crate::directory::Directory,
    /// Who may do what.
    #[serde(default)]
    pub access: crate::access::Access,
    pub next_hub: u32,
    /// Counts every change; etags are made from it.
    pub revision: u64,
    /// The latest time seen: the machine's clock, which never runs backwards.
    #[serde(default)]
    pub time: UnixMillis,
    /// Recent requests with their answers, for those that come twice.
    #[serde(default)]
    pub remembered: Remembered,
}

impl Default for State {
    fn default() -> Self {
        State {
            format: crate::snapshot::FORMAT,
            deployment: Deployment::default(),
            subscriptions: BTreeMap::new(),
            groups: BTreeMap::new(),
            hubs: BTreeMap::new(),
            operations: BTreeMap::new(),
            drills: BTreeMap::new(),
            activity: Vec::new(),
            activity_before: String::new(),
            plans: BTreeMap::new(),
            templates: BTreeMap::new(),
            jobs: BTreeMap::new(),
            directory: crate::directory::Directory::default(),
            access: crate::access::Access::default(),
            next_hub: 0,
            revision: 0,
            time: UnixMillis(0),
            remembered: Remembered::default(),
        }
    }
}

/// What `up` or `init` laid down, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub tenant: String,
    /// Hubs are named `NAME.{domain}`.
    pub domain: String,
    /// Regions that run here, in the order given.
    pub regions: Vec<RegionName>,
    pub policy: FailoverPolicy,
    pub principals: Vec<Principal>,
    #[serde(default)]
    pub limits: DeploymentLimits,
    /// The administrator that the first start makes; used once.
    #[serde(default)]
    pub administrator: Option<Administrator>,
}

/// Bounds that a deployment may set for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentLimits {
    pub hubs_per_subscription: u32,
    /// Requests of one principal to one region's management API, per minute: reads, and everything else.
    pub reads_per_minute: u32,
    pub writes_per_minute: u32,
    /// Jobs may write to blob stores on this machine and in private networks.
    pub private_containers: bool,
}

impl Default for DeploymentLimits {
    fn default() -> Self {
        DeploymentLimits {
            hubs_per_subscription: types::limits::HUBS_PER_SUBSCRIPTION_MAX as u32,
            reads_per_minute: types::limits::MANAGEMENT_READS_PER_MINUTE,
            writes_per_minute: types::limits::MANAGEMENT_WRITES_PER_MINUTE,
            private_containers: false,
        }
    }
}

/// The first user: Owner of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Administrator {
    pub object_id: String,
    pub name: String,
    /// PHC text of argon2id.
    pub password: crate::directory::Secret,
}

/// How often and how soon a hub may be failed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverPolicy {
    /// From the end of one operation to the start of the next.
    pub cooldown_ms: i64,
    /// Successful failovers per rolling day; failbacks are counted on their own.
    pub per_day: u32,
    /// A second person must approve each failover before it starts.
    #[serde(default)]
    pub second_approver: bool,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        FailoverPolicy {
            cooldown_ms: types::limits::FAILOVER_COOLDOWN_MS,
            per_day: types::limits::FAILOVERS_PER_DAY,
            second_approver: false,
        }
    }
}

/// A service principal: client id and a salted hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    pub client_id: String,
    pub object_id: String,
    /// Hex of SHA-256(salt + secret): secrets are 32 random bytes, so no slow hash is needed.
    pub secret_sha256: String,
    pub salt: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub id: String,
    pub display_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceGroup {
    /// As its owner wrote it.
    pub name: String,
    pub subscription: String,
    pub location: RegionName,
    pub tags: BTreeMap<String, String>,
    /// Set while a delete runs.
    pub deleting: Option<String>,
    pub etag: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HubState {
    Activating,
    Active,
    FailingOver,
    Deleting,
}

/// A hub: where it lives, who is primary, what it promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hub {
    pub id: HubId,
    pub name: HubName,
    pub subscription: String,
    /// As written; compare through [`State::groups`].
    pub resource_group: String,
    /// Where it was created; `location` for ever.
    pub home: RegionName,
    /// The other region of its pair; `None`: no failover.
    pub partner: Option<RegionName>,
    pub primary: RegionName,
    pub epoch: Epoch,
    pub state: HubState,
    pub sku: Sku,
    pub tags: BTreeMap<String, String>,
    pub policies: Vec<Policy>,
    pub partition_count: u16,
    pub retention_days: u8,
    pub replication: Replication,
    #[serde(default)]
    pub partner_away: PartnerAway,
    #[serde(default)]
    pub lag_max_ms: Option<u32>,
    pub cloud_to_device: CloudToDevice,
    /// `$Default` first.
    pub consumer_groups: Vec<ConsumerGroup>,
    /// What the owner wrote under `properties` and this version only stores.
    pub stored_properties: serde_json::Value,
    pub etag: u64,
    pub created: UnixMillis,
    /// The operation that runs on it now.
    pub operation: Option<String>,
    /// Where the histories of its regions parted in forced failovers, the latest last.
    #[serde(default)]
    pub divergences: Vec<Divergence>,
    /// Authorities whose devices it may trust.
    #[serde(default)]
    pub certificates: Vec<crate::certificates::HubCertificate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroup {
    pub name: String,
    pub created: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sku {
    /// `F1`, `B1`–`B3`, `S1`–`S3`.
    pub name: String,
    pub capacity: u32,
}

impl Hub {
    /// The region that is not the primary, if the hub has a pair.
    pub fn secondary(&self) -> Option<&RegionName> {
        let partner = self.partner.as_ref()?;
        Some(if self.primary == *partner {
            &self.home
        } else {
            partner
        })
    }

    /// What partitions and gateways need to know.
    pub fn settings(&self) -> HubSettings {
        HubSettings {
            id: self.id,
            name: self.name.clone(),
            partition_count: self.partition_count,
            retention_days: self.retention_days,
            replication: self.replication,
            partner_away: self.partner_away,
            lag_max_ms: self.lag_max_ms,
            cloud_to_device: self.cloud_to_device.clone(),
            policies: self.policies.clone(),
            consumer_groups: self
                .consumer_groups
                .iter()
                .map(|g| g.name.clone())
                .collect(),
            // What an older version kept without reading it, and cannot be read, is left out.
            access: crate::hub_properties::read(&self.stored_properties).0,
            routing: crate::routing::read(&self.stored_properties).0,
        }
    }
}

/// Something that takes time, visible to clients as a long-running operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: String,
    pub kind: OperationKind,
    pub status: OperationStatus,
    /// Lower-case hub name, or group name for [`OperationKind::DeleteGroup`].
    pub target: String,
    pub hub: Option<HubId>,
    pub subscription: String,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
    pub by: String,
    pub reason: String,
    pub steps: Vec<Step>,
    /// The next step may not begin: a roll-back was asked for (operator or coordinator).
    pub cancel: Option<String>,
    /// Why it did not succeed: (code, text).
    pub error: Option<(String, String)>,
    /// Filled by the coordinator when it ends (failovers only).
    pub report: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    CreateHub,
    UpdateHub,
    DeleteHub,
    DeleteGroup,
    /// Planned: `from` → `to`, epoch `epoch` → `epoch + 1`. `back`: it returns to the hub's home.
    Failover {
        from: RegionName,
        to: RegionName,
        epoch: Epoch,
        back: bool,
        /// The drill it is a leg of.
        #[serde(default)]
        drill: Option<String>,
    },
    /// Forced: `from` is lost, hung or cut off. `accept`: the loss its operator accepts; `shown`: the estimate they saw.
    Forced {
        from: RegionName,
        to: RegionName,
        epoch: Epoch,
        back: bool,
        accept: AcceptedLoss,
        shown: LossEstimate,
        /// The stuck failover that it ended as it began. `fenced`: its fence may stand at `from`.
        #[serde(default)]
        took_over: Option<String>,
        #[serde(default)]
        fenced: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationStatus {
    Running,
    Succeeded,
    /// Ended before the point of no return with everything as it was: refused, timed out, or failed.
    RolledBack,
    /// As `RolledBack`, because the operator said so.
    Cancelled,
    Failed,
}

/// The numbered steps of failovers, planned and forced (DESIGN section 6), and of the roll-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepName {
    Check,
    Warm,
    Fence,
    CatchUp,
    /// Forced only: the wait until the old primary can hold no lease.
    Lease,
    Commit,
    Open,
    Reverse,
    RollBack,
}

impl StepName {
    pub const PLANNED: [StepName; 7] = [
        StepName::Check,
        StepName::Warm,
        StepName::Fence,
        StepName::CatchUp,
        StepName::Commit,
        StepName::Open,
        StepName::Reverse,
    ];

    pub const FORCED: [StepName; 4] = [
        StepName::Check,
        StepName::Lease,
        StepName::Commit,
        StepName::Open,
    ];

    /// As it stands in records, reports and messages.
    pub fn name(self) -> &'static str {
        match self {
            StepName::Check => "check",
            StepName::Warm => "warm",
            StepName::Fence => "fence",
            StepName::CatchUp => "catchup",
            StepName::Lease => "lease",
            StepName::Commit => "commit",
            StepName::Open => "open",
            StepName::Reverse => "reverse",
            StepName::RollBack => "rollback",
        }
    }
}

/// One step as it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: StepName,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
    /// What was measured or decided; shape per step (docs/formats/report.md).
    pub detail: serde_json::Value,
}

/// Who did what, when, with what result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    pub at: UnixMillis,
    pub by: String,
    pub action: String,
    pub resource: String,
    pub result: String,
    /// Counted from 1, without gaps.
    pub number: u64,
    pub origin: crate::command::Origin,
    /// Hex SHA-256 over the entry before and this one (docs/formats/activity.md).
    pub hash: String,
}
