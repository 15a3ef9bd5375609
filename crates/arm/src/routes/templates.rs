//! Deployments of templates at a resource group.

use super::*;
use crate::templates;

macro_rules! deployment {
    ($rest:literal) => {
        concat!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Resources/deployments/{deployment}",
            $rest
        )
    };
}

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    read("GET", group!("/providers/Microsoft.Resources/deployments"), "Deployments_ListByResourceGroup", "Microsoft.Resources/deployments/read", templates::list),
    act("GET", deployment!(""), "Deployments_Get", "Microsoft.Resources/deployments/read", |call| Box::pin(templates::get(call))),
    read("HEAD", deployment!(""), "Deployments_CheckExistence", "Microsoft.Resources/deployments/read", templates::exists),
    act("PUT", deployment!(""), "Deployments_CreateOrUpdate", "Microsoft.Resources/deployments/write", |call| Box::pin(templates::put(call))),
    act("DELETE", deployment!(""), "Deployments_Delete", "Microsoft.Resources/deployments/delete", |call| Box::pin(templates::delete(call))),
    act("POST", deployment!("/cancel"), "Deployments_Cancel", "Microsoft.Resources/deployments/cancel/action", |call| Box::pin(templates::cancel(call))),
    act("POST", deployment!("/validate"), "Deployments_Validate", "Microsoft.Resources/deployments/validate/action", |call| Box::pin(templates::validate(call))),
    missing("POST", deployment!("/whatIf"), "Deployments_WhatIf"),
    missing("POST", deployment!("/exportTemplate"), "Deployments_ExportTemplate"),
    act("GET", deployment!("/operationStatuses/{operation}"), "Deployments_GetOperationStatus", "Microsoft.Resources/deployments/operationstatuses/read", |call| Box::pin(templates::status(call))),
    act("GET", group!("/deployments/{deployment}/operations"), "DeploymentOperations_List", "Microsoft.Resources/deployments/operations/read", |call| Box::pin(templates::operations(call))),
    act("GET", group!("/deployments/{deployment}/operations/{operation}"), "DeploymentOperations_Get", "Microsoft.Resources/deployments/operations/read", |call| Box::pin(templates::get_operation(call))),
    read("POST", group!("/exportTemplate"), "ResourceGroups_ExportTemplate", "Microsoft.Resources/subscriptions/resourceGroups/exportTemplate/action", templates::export::export),
];
