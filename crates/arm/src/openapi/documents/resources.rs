//! Subscriptions, resource groups, what is in them, long-running operations.

use super::Body::{Lines, List, Nothing, Of};
use super::*;

#[rustfmt::skip]
pub static DOCUMENTS: &[Document] = &[
    ask("Tenants_List", "Lists the one tenant.", &[(200, List("Tenant"), "The tenant.")]),
    ask("Subscriptions_List", "Lists the subscriptions that the caller may read.", &[(200, List("Subscription"), "Subscriptions.")]),
    ask("Subscriptions_Get", "Gets a subscription.", &[(200, Of("Subscription"), "The subscription.")]),
    ask("Subscriptions_ListLocations", "Lists regions with their pairs.", &[(200, List("Location"), "Regions of the catalogue.")]),
    ask("Providers_List", "Lists resource providers.", &[(200, List("Provider"), "Providers.")]),
    ask("Providers_Get", "Gets a resource provider.", &[(200, Of("Provider"), "The provider.")]),
    ask("Providers_Register", "Registers a resource provider; it is registered already.", &[(200, Of("Provider"), "The provider.")]),
    with_query(&["$filter", "$top"], ask("ResourceGroups_List", "Lists the resource groups that the caller may read.", &[(200, List("ResourceGroup"), "Resource groups.")])),
    ask("ResourceGroups_Get", "Gets a resource group.", &[(200, Of("ResourceGroup"), "The resource group.")]),
    ask("ResourceGroups_CheckExistence", "Tells whether a resource group exists.", &[(204, Nothing, "It does."), (404, Nothing, "It does not.")]),
    send("ResourceGroups_CreateOrUpdate", "Creates a resource group or changes its tags.", Of("ResourceGroupRequest"), &[(200, Of("ResourceGroup"), "Changed."), (201, Of("ResourceGroup"), "Created.")]),
    send("ResourceGroups_Update", "Replaces the tags of a resource group.", Of("TagsRequest"), &[(200, Of("ResourceGroup"), "Changed.")]),
    ask("ResourceGroups_Delete", "Deletes a resource group with everything in it.", &[(200, Nothing, "There was nothing to delete."), (202, Nothing, "Begun: `Location` says where to ask."), (204, Nothing, "There was nothing to delete.")]),
    with_query(&["$filter"], ask("Resources_ListByResourceGroup", "Lists what is in a resource group.", &[(200, List("Resource"), "Resources.")])),
    with_query(&["$filter"], ask("Resources_List", "Lists what is in a subscription.", &[(200, List("Resource"), "Resources.")])),
    ask("OperationResults_GetOfSubscription", "Tells whether an operation has ended.", &[(200, Nothing, "It succeeded."), (202, Nothing, "It runs.")]),
    ask("OperationResults_Get", "Tells whether an operation has ended.", &[(200, Nothing, "It succeeded."), (202, Nothing, "It runs.")]),
    ask("OperationStatuses_Get", "Gets the status of an operation.", &[(200, Of("OperationStatus"), "The status, whatever it is.")]),
    with_query(&["$filter", "$select", "$top", "$skiptoken"], ask("ActivityLogs_List", "Lists who did what.", &[(200, List("ActivityEvent"), "Entries, the latest first.")])),
    with_query(&["from", "$top"], ask("Activity_Export", "Gives the activity log with its chain of hashes.", &[(200, Lines, "Entries from a number on.")])),
];
