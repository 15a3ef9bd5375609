//! IoT hubs: the operations of the public service.

use super::*;
use crate::{
    certificates, check_name, consumer_groups, endpoint_health, figures, hubs, jobs, policies,
    private_links, providers, routing,
};

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    filtered(read("GET", "/providers/Microsoft.Devices/operations", "Operations_List", "Microsoft.Devices/operations/read", providers::operations)),
    filtered(read("POST", subscription!("/providers/Microsoft.Devices/checkNameAvailability"), "IotHubResource_CheckNameAvailability", "Microsoft.Devices/checkNameAvailability/action", check_name::check)),
    read("GET", subscription!("/providers/Microsoft.Devices/usages"), "ResourceProviderCommon_GetSubscriptionQuota", "Microsoft.Devices/usages/read", figures::usages),
    filtered(read("GET", subscription!("/providers/Microsoft.Devices/IotHubs"), "IotHubResource_ListBySubscription", "Microsoft.Devices/IotHubs/read", hubs::of_subscription)),
    filtered(read("GET", group!("/providers/Microsoft.Devices/IotHubs"), "IotHubResource_ListByResourceGroup", "Microsoft.Devices/IotHubs/read", hubs::of_group)),
    act("GET", hub!(""), "IotHubResource_Get", "Microsoft.Devices/IotHubs/read", |call| Box::pin(hubs::get(call))),
    act("PUT", hub!(""), "IotHubResource_CreateOrUpdate", "Microsoft.Devices/IotHubs/write", |call| Box::pin(hubs::put(call))),
    act("PATCH", hub!(""), "IotHubResource_Update", "Microsoft.Devices/IotHubs/write", |call| Box::pin(hubs::patch(call))),
    act("DELETE", hub!(""), "IotHubResource_Delete", "Microsoft.Devices/IotHubs/delete", |call| Box::pin(hubs::delete(call))),
    read("POST", hub!("/listkeys"), "IotHubResource_ListKeys", "Microsoft.Devices/IotHubs/listkeys/action", policies::list_keys),
    read("POST", hub!("/IotHubKeys/{key}/listkeys"), "IotHubResource_GetKeysForKeyName", "Microsoft.Devices/IotHubs/iotHubKeys/listkeys/action", policies::get_key),
    read("GET", hub!("/skus"), "IotHubResource_GetValidSkus", "Microsoft.Devices/IotHubs/skus/read", figures::skus),
    act("GET", hub!("/IotHubStats"), "IotHubResource_GetStats", "Microsoft.Devices/IotHubs/IotHubStats/read", |call| Box::pin(figures::stats(call))),
    act("GET", hub!("/quotaMetrics"), "IotHubResource_GetQuotaMetrics", "Microsoft.Devices/IotHubs/quotaMetrics/read", |call| Box::pin(figures::quotas(call))),
    read("GET", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups"), "IotHubResource_ListEventHubConsumerGroups", "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/read", consumer_groups::list),
    read("GET", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}"), "IotHubResource_GetEventHubConsumerGroup", "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/read", consumer_groups::get),
    act("PUT", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}"), "IotHubResource_CreateEventHubConsumerGroup", "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/write", |call| Box::pin(consumer_groups::put(call))),
    act("DELETE", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}"), "IotHubResource_DeleteEventHubConsumerGroup", "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/delete", |call| Box::pin(consumer_groups::delete(call))),
    read("GET", hub!("/jobs"), "IotHubResource_ListJobs", "Microsoft.Devices/IotHubs/jobs/read", jobs::list),
    read("GET", hub!("/jobs/{job}"), "IotHubResource_GetJob", "Microsoft.Devices/IotHubs/jobs/read", jobs::get),
    act("POST", hub!("/exportDevices"), "IotHubResource_ExportDevices", "Microsoft.Devices/IotHubs/exportDevices/action", |call| Box::pin(jobs::export(call))),
    act("POST", hub!("/importDevices"), "IotHubResource_ImportDevices", "Microsoft.Devices/IotHubs/importDevices/action", |call| Box::pin(jobs::import(call))),
    act("GET", hub!("/routingEndpointsHealth"), "IotHubResource_GetEndpointHealth", "Microsoft.Devices/IotHubs/routingEndpointsHealth/read", |call| Box::pin(endpoint_health::health(call))),
    read("POST", hub!("/routing/routes/$testall"), "IotHubResource_TestAllRoutes", "Microsoft.Devices/IotHubs/routing/routes/$testall/action", routing::test_all),
    read("POST", hub!("/routing/routes/$testnew"), "IotHubResource_TestRoute", "Microsoft.Devices/IotHubs/routing/routes/$testnew/action", routing::test_one),
    read("GET", hub!("/certificates"), "Certificates_ListByIotHub", "Microsoft.Devices/IotHubs/certificates/read", certificates::list),
    read("GET", hub!("/certificates/{certificate}"), "Certificates_Get", "Microsoft.Devices/IotHubs/certificates/read", certificates::get),
    act("PUT", hub!("/certificates/{certificate}"), "Certificates_CreateOrUpdate", "Microsoft.Devices/IotHubs/certificates/write", |call| Box::pin(certificates::put(call))),
    act("DELETE", hub!("/certificates/{certificate}"), "Certificates_Delete", "Microsoft.Devices/IotHubs/certificates/delete", |call| Box::pin(certificates::delete(call))),
    act("POST", hub!("/certificates/{certificate}/generateVerificationCode"), "Certificates_GenerateVerificationCode", "Microsoft.Devices/IotHubs/certificates/generateVerificationCode/action", |call| Box::pin(certificates::generate_code(call))),
    act("POST", hub!("/certificates/{certificate}/verify"), "Certificates_Verify", "Microsoft.Devices/IotHubs/certificates/verify/action", |call| Box::pin(certificates::verify(call))),
    read("GET", hub!("/privateLinkResources"), "PrivateLinkResources_List", "Microsoft.Devices/IotHubs/privateLinkResources/read", private_links::resources),
    read("GET", hub!("/privateLinkResources/{resource}"), "PrivateLinkResources_Get", "Microsoft.Devices/IotHubs/privateLinkResources/read", private_links::resource),
    read("GET", hub!("/privateEndpointConnections"), "PrivateEndpointConnections_List", "Microsoft.Devices/IotHubs/privateEndpointConnections/read", private_links::connections),
    read("GET", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Get", "Microsoft.Devices/IotHubs/privateEndpointConnections/read", private_links::connection),
    read("PUT", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Update", "Microsoft.Devices/IotHubs/privateEndpointConnections/write", private_links::connection),
    read("DELETE", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Delete", "Microsoft.Devices/IotHubs/privateEndpointConnections/delete", private_links::delete_connection),
];
