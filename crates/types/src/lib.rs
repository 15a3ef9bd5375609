//! The words every Castling crate shares: ids, positions, limits, error codes and the region catalogue.
//!
//! Nothing here performs IO, reads a clock or draws a random number.

pub mod error_code;
pub mod ids;
pub mod limits;
pub mod network;
pub mod regions;
pub mod settings;

pub use error_code::{ErrorCode, Reject};
pub use ids::{
    ConnectionId, DeviceId, Epoch, HubId, HubName, InvalidId, Lsn, PartitionId, PartitionKey,
    RegionName, Sequence, UnixMillis, partition_of,
};
pub use network::{AddressBlock, AddressRule, Entrance, HubAccess, NetworkRules};
pub use settings::{
    CloudToDevice, Feedback, HubSettings, PartnerAway, Policy, Replication, Rights, Routing,
};
