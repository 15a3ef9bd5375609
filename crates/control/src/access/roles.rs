//! The roles there are. They are built in: none can be made or changed.

/// A role: what its holder may do at the scope of the assignment and below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// GUID; those of the public service keep theirs, ours are our own.
    pub id: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    /// Of the management API. `*` stands for any text; compared without case.
    pub actions: &'static [&'static str],
    pub not_actions: &'static [&'static str],
    /// Of hubs' data, for those who come with a token instead of a key.
    pub data_actions: &'static [&'static str],
}

pub const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
pub const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
pub const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
pub const DATA_CONTRIBUTOR: &str = "4fc6c259-987e-4a07-842e-c321cc9d413f";
pub const DATA_READER: &str = "b447c946-2db7-41ec-983d-d8bf3b1c77e3";
pub const REGISTRY_CONTRIBUTOR: &str = "4ea46cd5-c1b2-4a8e-910b-273211f9ce47";
pub const TWIN_CONTRIBUTOR: &str = "494bdba2-168f-4f31-a0a1-191d2f7c028c";
/// Ours.
pub const FAILOVER_OPERATOR: &str = "c4571196-0f0e-4c0d-9a57-5b1d6a1e0f01";

/// All roles, by id.
pub static ROLES: &[RoleDefinition] = &[
    RoleDefinition {
        id: OWNER,
        name: "Owner",
        description: "May do everything, also give rights to others.",
        actions: &["*"],
        not_actions: &[],
        data_actions: &[],
    },
    RoleDefinition {
        id: CONTRIBUTOR,
        name: "Contributor",
        description: "May do everything but give rights to others, lock, or manage who signs in.",
        actions: &["*"],
        not_actions: &[
            "Microsoft.Authorization/*/write",
            "Microsoft.Authorization/*/delete",
            "Castling.Identity/*",
            "Castling.Failover/approvals/*/action",
        ],
        data_actions: &[],
    },
    RoleDefinition {
        id: READER,
        name: "Reader",
        description: "May see everything but keys, data and who signs in, and change nothing.",
        // `az iot hub show` asks whether the name is taken; nothing is changed by it.
        actions: &["*/read", "Microsoft.Devices/checkNameAvailability/action"],
        // Salvage shows twins and messages.
        not_actions: &["Castling.Identity/*", "Castling.Failover/salvage/read"],
        data_actions: &[],
    },
    RoleDefinition {
        id: FAILOVER_OPERATOR,
        name: "Failover Operator",
        description: "May see hubs, check, start, cancel, approve and drill failovers, and nothing else.",
        actions: &[
            "Microsoft.Resources/subscriptions/read",
            "Microsoft.Resources/subscriptions/locations/read",
            "Microsoft.Resources/subscriptions/providers/read",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Resources/subscriptions/resourceGroups/resources/read",
            "Microsoft.Resources/subscriptions/resources/read",
            "Microsoft.Resources/tenants/read",
            "Microsoft.Devices/checkNameAvailability/action",
            "Microsoft.Devices/operations/read",
            "Microsoft.Devices/locations/operationResults/read",
            "Microsoft.Devices/IotHubs/read",
            "Microsoft.Devices/IotHubs/failover/action",
            "Castling.Failover/*",
        ],
        not_actions: &[
            "Castling.Failover/salvage/read",
            "Castling.Failover/salvage/replay/action",
            "Castling.Failover/salvage/delete",
        ],
        data_actions: &[],
    },
    RoleDefinition {
        id: DATA_CONTRIBUTOR,
        name: "IoT Hub Data Contributor",
        description: "May do everything with a hub's data.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/IotHubs/*"],
    },
    RoleDefinition {
        id: DATA_READER,
        name: "IoT Hub Data Reader",
        description: "May read a hub's data.",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "Microsoft.Devices/IotHubs/*/read",
            "Microsoft.Devices/IotHubs/fileUpload/notifications/action",
        ],
    },
    RoleDefinition {
        id: REGISTRY_CONTRIBUTOR,
        name: "IoT Hub Registry Contributor",
        description: "May do everything with a hub's device registry.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/IotHubs/devices/*"],
    },
    RoleDefinition {
        id: TWIN_CONTRIBUTOR,
        name: "IoT Hub Twin Contributor",
        description: "May read and write all twins of a hub.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/IotHubs/twins/*"],
    },
];

/// A role by its GUID, in any case.
pub fn role(id: &str) -> Option<&'static RoleDefinition> {
    ROLES.iter().find(|role| role.id.eq_ignore_ascii_case(id))
}
