//! What a hub's owner sets and the data plane obeys.

use crate::ids::{HubId, HubName};
use crate::limits;
use crate::network::HubAccess;
use serde::{Deserialize, Serialize};

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    /// Once the primary has it on disk.
    #[default]
    Async,
    /// Once primary and secondary both have it on disk.
    Sync,
}

/// What a `sync` hub does while its partner is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartnerAway {
    /// Acknowledges nothing until it is back.
    #[default]
    Wait,
    /// Acknowledges like an `async` hub until it has caught up again; visible and logged.
    Degrade,
}

/// Cloud-to-device settings of a hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudToDevice {
    /// 1–100.
    pub max_delivery_count: u16,
    /// Life of a message that names no expiry, in milliseconds.
    pub default_ttl_ms: i64,
    pub feedback: Feedback,
}

/// Feedback queue settings of a hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    pub lock_ms: i64,
    pub ttl_ms: i64,
    pub max_delivery_count: u16,
}

impl Default for CloudToDevice {
    fn default() -> Self {
        CloudToDevice {
            max_delivery_count: limits::C2D_DELIVERY_COUNT_DEFAULT,
            default_ttl_ms: limits::C2D_TTL_DEFAULT_MS,
            feedback: Feedback {
                lock_ms: limits::FEEDBACK_LOCK_DEFAULT_MS,
                ttl_ms: limits::FEEDBACK_TTL_DEFAULT_MS,
                max_delivery_count: limits::FEEDBACK_DELIVERY_COUNT_DEFAULT,
            },
        }
    }
}

/// The rights a shared access policy grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    pub registry_read: bool,
    pub registry_write: bool,
    pub service_connect: bool,
    pub device_connect: bool,
}

/// A shared access policy: name, two keys (base64 text), rights.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub name: String,
    pub primary_key: String,
    pub secondary_key: String,
    pub rights: Rights,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What becomes of telemetry before it is stored; only the built-in endpoint is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Conditions of the routes that are enabled: a message that meets one is kept.
    pub conditions: Vec<String>,
    /// What meets none is kept too.
    pub fallback: bool,
    /// Properties that are added: name, and a text or `$iothubname`.
    pub enrichments: Vec<(String, String)>,
}

/// What a partition and a gateway need to know of a hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubSettings {
    pub id: HubId,
    pub name: HubName,
    pub partition_count: u16,
    /// 1–7.
    pub retention_days: u8,
    pub replication: Replication,
    /// For `sync` hubs.
    #[serde(default)]
    pub partner_away: PartnerAway,
    /// The secondary may be this far behind, in milliseconds; beyond it the primary slows producers. `None`: no bound.
    #[serde(default)]
    pub lag_max_ms: Option<u32>,
    pub cloud_to_device: CloudToDevice,
    pub policies: Vec<Policy>,
    /// `$Default` first; others as made by the owner.
    pub consumer_groups: Vec<String>,
    /// Who may reach it.
    #[serde(default)]
    pub access: HubAccess,
    /// `None`: all telemetry is kept as it is.
    #[serde(default)]
    pub routing: Option<std::sync::Arc<Routing>>,
}
