//! Subscriptions, resource groups, what is in them, operations that take time.

use super::*;
use crate::{groups, operations, providers, resources, subscriptions};

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    filtered(read("GET", "/tenants", "Tenants_List", "Microsoft.Resources/tenants/read", subscriptions::tenants)),
    filtered(read("GET", "/subscriptions", "Subscriptions_List", "Microsoft.Resources/subscriptions/read", subscriptions::list)),
    filtered(read("GET", subscription!(""), "Subscriptions_Get", "Microsoft.Resources/subscriptions/read", subscriptions::get)),
    filtered(read("GET", subscription!("/locations"), "Subscriptions_ListLocations", "Microsoft.Resources/subscriptions/locations/read", subscriptions::locations)),
    filtered(read("GET", subscription!("/providers"), "Providers_List", "Microsoft.Resources/subscriptions/providers/read", providers::list)),
    filtered(read("GET", subscription!("/providers/{namespace}"), "Providers_Get", "Microsoft.Resources/subscriptions/providers/read", providers::get)),
    read("POST", subscription!("/providers/{namespace}/register"), "Providers_Register", "Microsoft.Devices/register/action", providers::get),
    filtered(read("GET", subscription!("/resourceGroups"), "ResourceGroups_List", "Microsoft.Resources/subscriptions/resourceGroups/read", groups::list)),
    filtered(read("GET", group!(""), "ResourceGroups_Get", "Microsoft.Resources/subscriptions/resourceGroups/read", groups::get)),
    filtered(read("HEAD", group!(""), "ResourceGroups_CheckExistence", "Microsoft.Resources/subscriptions/resourceGroups/read", groups::exists)),
    act("PUT", group!(""), "ResourceGroups_CreateOrUpdate", "Microsoft.Resources/subscriptions/resourceGroups/write", |call| Box::pin(groups::put(call))),
    act("PATCH", group!(""), "ResourceGroups_Update", "Microsoft.Resources/subscriptions/resourceGroups/write", |call| Box::pin(groups::patch(call))),
    act("DELETE", group!(""), "ResourceGroups_Delete", "Microsoft.Resources/subscriptions/resourceGroups/delete", |call| Box::pin(groups::delete(call))),
    filtered(read("GET", group!("/resources"), "Resources_ListByResourceGroup", "Microsoft.Resources/subscriptions/resourceGroups/resources/read", resources::of_group)),
    filtered(read("GET", subscription!("/resources"), "Resources_List", "Microsoft.Resources/subscriptions/resources/read", resources::of_subscription)),
    poll(subscription!("/operationResults/{operation}"), "OperationResults_GetOfSubscription", operations::result),
    poll(subscription!("/providers/Microsoft.Devices/locations/{region}/operationResults/{operation}"), "OperationResults_Get", operations::result),
    poll(subscription!("/providers/Microsoft.Devices/locations/{region}/operationStatuses/{operation}"), "OperationStatuses_Get", operations::status),
];
