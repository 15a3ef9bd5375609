//! The operations of `Microsoft.Devices`.

use super::Body::{List, Nothing, Null, Of};
use super::*;

const HUB: &[(u16, Body, &str)] = &[(200, Of("IotHub"), "The hub.")];

#[rustfmt::skip]
pub static DOCUMENTS: &[Document] = &[
    ask("Operations_List", "Lists the operations that rights are given for.", &[(200, List("OperationName"), "Operations.")]),
    send("IotHubResource_CheckNameAvailability", "Tells whether a hub may have a name.", Of("NameRequest"), &[(200, Of("NameAvailability"), "Whether it may.")]),
    ask("ResourceProviderCommon_GetSubscriptionQuota", "Tells how many hubs there are and may be.", &[(200, List("Usage"), "Usages.")]),
    ask("IotHubResource_ListBySubscription", "Lists the hubs of a subscription that the caller may read.", &[(200, List("IotHub"), "Hubs.")]),
    ask("IotHubResource_ListByResourceGroup", "Lists the hubs of a resource group.", &[(200, List("IotHub"), "Hubs.")]),
    ask("IotHubResource_Get", "Gets a hub.", HUB),
    send("IotHubResource_CreateOrUpdate", "Creates a hub or changes it.", Of("IotHubRequest"), &[(200, Of("IotHub"), "Changed."), (201, Of("IotHub"), "Begun: `Azure-AsyncOperation` says where to ask.")]),
    send("IotHubResource_Update", "Replaces the tags of a hub.", Of("TagsRequest"), HUB),
    ask("IotHubResource_Delete", "Deletes a hub.", &[(202, Null, "Begun: `Azure-AsyncOperation` and `Location` say where to ask."), (204, Nothing, "There was nothing to delete.")]),
    ask("IotHubResource_ListKeys", "Lists shared access policies with their keys.", &[(200, List("SharedAccessPolicy"), "Policies.")]),
    ask("IotHubResource_GetKeysForKeyName", "Gets a shared access policy with its keys.", &[(200, Of("SharedAccessPolicy"), "The policy.")]),
    ask("IotHubResource_GetValidSkus", "Lists the tiers a hub may change to.", &[(200, List("SkuDescription"), "Tiers.")]),
    ask("IotHubResource_GetStats", "Counts a hub's devices.", &[(200, Of("RegistryStatistics"), "Counts.")]),
    ask("IotHubResource_GetQuotaMetrics", "Tells what a hub uses of its quotas.", &[(200, List("QuotaMetric"), "Quotas.")]),
    ask("IotHubResource_ListEventHubConsumerGroups", "Lists a hub's consumer groups.", &[(200, List("ConsumerGroup"), "Consumer groups.")]),
    ask("IotHubResource_GetEventHubConsumerGroup", "Gets a consumer group.", &[(200, Of("ConsumerGroup"), "The consumer group.")]),
    may_send("IotHubResource_CreateEventHubConsumerGroup", "Adds a consumer group.", Of("ConsumerGroupRequest"), &[(200, Of("ConsumerGroup"), "The consumer group.")]),
    ask("IotHubResource_DeleteEventHubConsumerGroup", "Deletes a consumer group.", &[(200, Nothing, "Deleted.")]),
    ask("IotHubResource_ListJobs", "Lists a hub's import and export jobs.", &[(200, List("JobResponse"), "Jobs.")]),
    ask("IotHubResource_GetJob", "Gets a job.", &[(200, Of("JobResponse"), "The job.")]),
    send("IotHubResource_ExportDevices", "Writes all devices to a blob container.", Of("ExportRequest"), &[(200, Of("JobResponse"), "The job.")]),
    send("IotHubResource_ImportDevices", "Creates, changes and deletes devices from a blob.", Of("ImportRequest"), &[(200, Of("JobResponse"), "The job.")]),
    ask("IotHubResource_GetEndpointHealth", "Tells how routing endpoints are.", &[(200, List("EndpointHealth"), "Endpoints.")]),
    send("IotHubResource_TestAllRoutes", "Tells which routes a message would take.", Of("Anything"), &[(200, Of("TestAllRoutesResult"), "Routes.")]),
    send("IotHubResource_TestRoute", "Tells whether a message would take a route.", Of("Anything"), &[(200, Of("TestRouteResult"), "Whether it would.")]),
    ask("Certificates_ListByIotHub", "Lists a hub's certificates.", &[(200, List("Certificate"), "Certificates.")]),
    ask("Certificates_Get", "Gets a certificate.", &[(200, Of("Certificate"), "The certificate.")]),
    send("Certificates_CreateOrUpdate", "Adds a certificate or replaces it.", Of("CertificateRequest"), &[(200, Of("Certificate"), "Replaced."), (201, Of("Certificate"), "Added.")]),
    ask("Certificates_Delete", "Deletes a certificate; `If-Match` is required.", &[(200, Nothing, "Deleted."), (204, Nothing, "There was nothing to delete.")]),
    ask("Certificates_GenerateVerificationCode", "Gives the code that proves who has the certificate's key.", &[(200, Of("Certificate"), "The certificate with its code.")]),
    send("Certificates_Verify", "Proves who has the certificate's key.", Of("VerifyRequest"), &[(200, Of("Certificate"), "The certificate.")]),
    ask("PrivateLinkResources_List", "Lists private link resources: there are none here.", &[(200, List("Anything"), "None.")]),
    ask("PrivateLinkResources_Get", "Gets a private link resource: there are none here.", &[]),
    ask("PrivateEndpointConnections_List", "Lists private endpoint connections: there are none here.", &[(200, Body::Array("Anything"), "None.")]),
    ask("PrivateEndpointConnections_Get", "Gets a private endpoint connection: there are none here.", &[]),
    send("PrivateEndpointConnections_Update", "Changes a private endpoint connection: there are none here.", Of("Anything"), &[]),
    ask("PrivateEndpointConnections_Delete", "Deletes a private endpoint connection: there are none here.", &[(204, Nothing, "There was nothing to delete.")]),
];
