//! Deployments of templates, and the deployment itself.

use super::Body::{List, Nothing, Of};
use super::*;

#[rustfmt::skip]
pub static DOCUMENTS: &[Document] = &[
    ask("Regions_List", "Tells what runs where, and which subscriptions the caller may read.", &[(200, Of("Regions"), "Regions.")]),
    ask("Deployments_ListByResourceGroup", "Lists the deployments of a resource group.", &[(200, List("Deployment"), "Deployments.")]),
    ask("Deployments_Get", "Gets a deployment.", &[(200, Of("Deployment"), "The deployment.")]),
    ask("Deployments_CheckExistence", "Tells whether a deployment exists.", &[(204, Nothing, "It does.")]),
    send("Deployments_CreateOrUpdate", "Makes what a template holds.", Of("DeploymentRequest"), &[(201, Of("Deployment"), "Begun: `Azure-AsyncOperation` says where to ask.")]),
    ask("Deployments_Delete", "Deletes a deployment's record; what it made stays.", &[(204, Nothing, "Deleted, or not there.")]),
    ask("Deployments_Cancel", "Begins no further resource of a deployment.", &[(204, Nothing, "It was asked for.")]),
    send("Deployments_Validate", "Tells whether a template would be taken. Changes nothing.", Of("DeploymentRequest"), &[(200, Of("Deployment"), "It would.")]),
    ask("Deployments_WhatIf", "Tells what a template would change.", &[]),
    ask("Deployments_ExportTemplate", "Gives a deployment's template.", &[]),
    ask("Deployments_GetOperationStatus", "Tells how far a deployment is.", &[(200, Of("OperationStatus"), "Status.")]),
    with_query(&["$top"], ask("DeploymentOperations_List", "Lists what a deployment did, resource by resource.", &[(200, List("DeploymentOperation"), "Operations.")])),
    ask("DeploymentOperations_Get", "Gets what a deployment did with one resource.", &[(200, Of("DeploymentOperation"), "The operation.")]),
    may_send("ResourceGroups_ExportTemplate", "Gives a template of what is in a resource group.", Of("Anything"), &[(200, Of("ExportedTemplate"), "The template.")]),
];
