//! `Microsoft.Authorization`, the same at each kind of scope.

use super::*;
use crate::authorization::{assignments, definitions, locks};

macro_rules! at {
    ($table:ident, $scope:ident, $where:literal) => {
        #[rustfmt::skip]
        pub static $table: &[Route] = &[
            read("GET", $scope!("/providers/Microsoft.Authorization/roleAssignments"), concat!("RoleAssignments_ListAt", $where), "Microsoft.Authorization/roleAssignments/read", assignments::list),
            read("GET", $scope!("/providers/Microsoft.Authorization/roleAssignments/{assignment}"), concat!("RoleAssignments_GetAt", $where), "Microsoft.Authorization/roleAssignments/read", assignments::get),
            act("PUT", $scope!("/providers/Microsoft.Authorization/roleAssignments/{assignment}"), concat!("RoleAssignments_CreateAt", $where), "Microsoft.Authorization/roleAssignments/write", |call| Box::pin(assignments::put(call))),
            act("DELETE", $scope!("/providers/Microsoft.Authorization/roleAssignments/{assignment}"), concat!("RoleAssignments_DeleteAt", $where), "Microsoft.Authorization/roleAssignments/delete", |call| Box::pin(assignments::delete(call))),
            filtered(read("GET", $scope!("/providers/Microsoft.Authorization/roleDefinitions"), concat!("RoleDefinitions_ListAt", $where), "Microsoft.Authorization/roleDefinitions/read", definitions::list)),
            filtered(read("GET", $scope!("/providers/Microsoft.Authorization/roleDefinitions/{role}"), concat!("RoleDefinitions_GetAt", $where), "Microsoft.Authorization/roleDefinitions/read", definitions::get)),
            of_anyone("GET", $scope!("/providers/Microsoft.Authorization/permissions"), concat!("Permissions_ListAt", $where), definitions::permissions),
            read("GET", $scope!("/providers/Microsoft.Authorization/locks"), concat!("ManagementLocks_ListAt", $where), "Microsoft.Authorization/locks/read", locks::list),
            read("GET", $scope!("/providers/Microsoft.Authorization/locks/{lock}"), concat!("ManagementLocks_GetAt", $where), "Microsoft.Authorization/locks/read", locks::get),
            act("PUT", $scope!("/providers/Microsoft.Authorization/locks/{lock}"), concat!("ManagementLocks_CreateOrUpdateAt", $where), "Microsoft.Authorization/locks/write", |call| Box::pin(locks::put(call))),
            act("DELETE", $scope!("/providers/Microsoft.Authorization/locks/{lock}"), concat!("ManagementLocks_DeleteAt", $where), "Microsoft.Authorization/locks/delete", |call| Box::pin(locks::delete(call))),
        ];
    };
}

at!(OF_DEPLOYMENT, root, "Deployment");
at!(OF_SUBSCRIPTION, subscription, "Subscription");
at!(OF_GROUP, group, "ResourceGroup");
at!(OF_HUB, hub, "IotHub");
