"""azure-mgmt-iothub and azure-mgmt-resource, unmodified. Run by the interpreter of their own environment.

`sdk.py WAY CASE`: WAY is `adfs` or `tenant`, CASE is `all` or `failover`. What was exchanged goes to standard output as JSON.
"""

import base64
import json
import os
import sys

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import ClientSecretCredential
from azure.mgmt.iothub import IotHubClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.subscriptions import SubscriptionClient

UP = json.load(open(os.environ["UP_FILE"]))
BASE = UP["management_url"].rstrip("/")
GROUP, HUB, HOME = os.environ["GROUP"], os.environ["HUB"], "westus2"
SHOWN = {"westus2": "West US 2", "westcentralus": "West Central US"}
EXCHANGED = []


class Record(SansIOHTTPPolicy):
    def on_response(self, request, response):
        answer = response.http_response
        EXCHANGED.append({"method": request.http_request.method, "url": request.http_request.url, "status": answer.status_code, "headers": {name.lower(): value for name, value in answer.headers.items()}})


def clients(way, secret=None):
    tenant = "adfs" if way == "adfs" else UP["tenant"]
    credential = ClientSecretCredential(tenant, UP["client_id"], secret or UP["client_secret"], authority=BASE, disable_instance_discovery=way != "adfs")
    more = {"base_url": BASE, "credential_scopes": [f"{BASE}//.default"], "per_retry_policies": [Record()]}
    if way != "adfs":
        more.pop("credential_scopes")
    return (
        IotHubClient(credential, UP["subscription"], **more),
        ResourceManagementClient(credential, UP["subscription"], **more),
        SubscriptionClient(credential, **more),
    )


def refused(work, kind, status, code=None):
    try:
        found = work()
        if hasattr(found, "result"):
            found.result()
    except HttpResponseError as error:
        found = error.error.code if error.error else None
        assert isinstance(error, kind) and error.status_code == status, f"{error.status_code} {type(error).__name__}: {error}"
        assert code is None or found == code, f"{found} instead of {code}: {error}"
        return
    raise AssertionError(f"not refused: {work}")


def resources(resource, subscriptions):
    assert [one.subscription_id for one in subscriptions.subscriptions.list()] == [UP["subscription"]]
    assert subscriptions.subscriptions.get(UP["subscription"]).state == "Enabled"
    assert [one.tenant_id for one in subscriptions.tenants.list()] == [UP["tenant"]]
    places = {one.name: one for one in subscriptions.subscriptions.list_locations(UP["subscription"])}
    assert places["westus2"].metadata.paired_region[0].name == "westcentralus"
    assert "Microsoft.Devices" in [one.namespace for one in resource.providers.list()]
    assert resource.providers.get("Microsoft.Devices").registration_state == "Registered"
    assert resource.providers.register("Microsoft.Devices").registration_state == "Registered"
    assert resource.resource_groups.check_existence(GROUP) is False
    made = resource.resource_groups.create_or_update(GROUP, {"location": HOME, "tags": {"a": "1"}})
    assert made.properties.provisioning_state == "Succeeded"
    resource.resource_groups.create_or_update(GROUP, {"location": HOME, "tags": {"a": "1"}})
    assert resource.resource_groups.check_existence(GROUP) is True
    assert resource.resource_groups.update(GROUP, {"tags": {"b": "2"}}).tags == {"b": "2"}
    assert resource.resource_groups.get(GROUP).location == HOME
    assert GROUP in [one.name for one in resource.resource_groups.list()]
    refused(lambda: resource.resource_groups.get("no-such-group"), ResourceNotFoundError, 404, "ResourceGroupNotFound")
    refused(lambda: resource.resource_groups.create_or_update(GROUP, {"location": "westcentralus"}), ResourceExistsError, 409, "InvalidResourceGroupLocation")


def hubs(iot, resource):
    body = {"location": HOME, "sku": {"name": "S1", "capacity": 1}, "tags": {"made": "here"}}
    assert iot.iot_hub_resource.check_name_availability({"name": HUB}).name_available is True
    hub = iot.iot_hub_resource.begin_create_or_update(GROUP, HUB, body).result()
    assert hub.properties.state == "Active", hub.properties.state
    assert iot.iot_hub_resource.check_name_availability({"name": HUB.upper()}).name_available is False
    hub.properties.cloud_to_device.max_delivery_count = 33
    hub = iot.iot_hub_resource.begin_create_or_update(GROUP, HUB, hub, if_match=hub.etag).result()
    assert hub.properties.cloud_to_device.max_delivery_count == 33
    refused(lambda: iot.iot_hub_resource.begin_create_or_update(GROUP, HUB, hub, if_match="AAAAAAAAAAA="), HttpResponseError, 412, "PreconditionFailed")
    assert iot.iot_hub_resource.begin_update(GROUP, HUB, {"tags": {"made": "there"}}).result().tags == {"made": "there"}
    assert HUB in [one.name for one in iot.iot_hub_resource.list_by_subscription()]
    assert HUB in [one.name for one in iot.iot_hub_resource.list_by_resource_group(GROUP)]
    assert HUB in [one.name for one in resource.resources.list_by_resource_group(GROUP)]
    assert HUB in [one.name for one in resource.resources.list(filter=f"resourceGroup eq '{GROUP}'")]
    keys = {one.key_name: one for one in iot.iot_hub_resource.list_keys(GROUP, HUB)}
    assert iot.iot_hub_resource.get_keys_for_key_name(GROUP, HUB, "service").primary_key == keys["service"].primary_key
    assert "S2" in [one.sku.name for one in iot.iot_hub_resource.get_valid_skus(GROUP, HUB)]
    assert iot.iot_hub_resource.get_stats(GROUP, HUB).total_device_count == 0
    assert len(list(iot.iot_hub_resource.get_quota_metrics(GROUP, HUB))) == 2
    assert [one for one in iot.operations.list() if one.name.lower() == "microsoft.devices/iothubs/write"]
    assert [one for one in iot.resource_provider_common.get_subscription_quota().value]
    refused(lambda: iot.iot_hub_resource.get(GROUP, "no-such-hub"), ResourceNotFoundError, 404, "ResourceNotFound")
    refused(lambda: iot.iot_hub_resource.begin_create_or_update(GROUP, HUB + "2", {**body, "location": "atlantis"}), HttpResponseError, 400)


def groups_of_consumers(iot):
    of = iot.iot_hub_resource
    assert of.create_event_hub_consumer_group(GROUP, HUB, "events", "cg1", {"properties": {"name": "cg1"}}).name == "cg1"
    assert of.get_event_hub_consumer_group(GROUP, HUB, "events", "cg1").name == "cg1"
    assert sorted(one.name for one in of.list_event_hub_consumer_groups(GROUP, HUB, "events")) == ["$Default", "cg1"]
    of.delete_event_hub_consumer_group(GROUP, HUB, "events", "cg1")
    refused(lambda: of.get_event_hub_consumer_group(GROUP, HUB, "events", "cg1"), ResourceNotFoundError, 404)


def routing(iot):
    of = iot.iot_hub_resource
    list(of.get_endpoint_health(GROUP, HUB))
    message = {"body": "e30=", "appProperties": {"level": "high"}, "systemProperties": {}}
    of.test_all_routes(HUB, GROUP, {"routingSource": "DeviceMessages", "message": message})
    route = {"name": "r1", "source": "DeviceMessages", "condition": "level = 'high'", "endpointNames": ["events"], "isEnabled": True}
    assert of.test_route(HUB, GROUP, {"message": message, "route": route}).result == "true"
    assert of.test_route(HUB, GROUP, {"message": message, "route": {**route, "condition": "level = 'low'"}}).result == "false"
    list(of.list_jobs(GROUP, HUB))
    refused(lambda: of.get_job(GROUP, HUB, "no-such-job"), ResourceNotFoundError, 404)
    for work in (of.export_devices, of.import_devices):
        wrong = {"exportBlobContainerUri": "nowhere", "excludeKeys": True} if work == of.export_devices else {"inputBlobContainerUri": "nowhere", "outputBlobContainerUri": "nowhere"}
        refused(lambda: work(GROUP, HUB, wrong), HttpResponseError, 400)


def certificates(iot):
    of = iot.certificates
    assert list(of.list_by_iot_hub(GROUP, HUB).value) == []
    pem = open(os.environ["SSL_CERT_FILE"]).read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    content = base64.b64encode(pem.encode()).decode()
    made = of.create_or_update(GROUP, HUB, "ca1", {"properties": {"certificate": content, "isVerified": False}})
    assert made.name == "ca1" and made.properties.is_verified is False
    coded = of.generate_verification_code(GROUP, HUB, "ca1", if_match=made.etag)
    assert coded.properties.verification_code
    refused(lambda: of.verify(GROUP, HUB, "ca1", coded.etag, {"certificate": content}), HttpResponseError, 400)
    again = of.get(GROUP, HUB, "ca1")
    of.delete(GROUP, HUB, "ca1", if_match=again.etag)
    refused(lambda: of.get(GROUP, HUB, "ca1"), ResourceNotFoundError, 404)


def private_links(iot):
    list(iot.private_link_resources.list(GROUP, HUB).value)
    refused(lambda: iot.private_link_resources.get(GROUP, HUB, "nothing"), ResourceNotFoundError, 404)
    of = iot.private_endpoint_connections
    assert list(of.list(GROUP, HUB)) == []
    refused(lambda: of.get(GROUP, HUB, "nothing"), ResourceNotFoundError, 404)
    state = {"properties": {"privateLinkServiceConnectionState": {"status": "Approved", "description": "yes"}}}
    refused(lambda: of.begin_update(GROUP, HUB, "nothing", state), HttpResponseError, 404)
    try:
        of.begin_delete(GROUP, HUB, "nothing").result()
    except ResourceNotFoundError:
        pass


def fail_over(iot):
    before = {one.role: one.location for one in iot.iot_hub_resource.get(GROUP, HUB).properties.locations}
    refused(lambda: iot.iot_hub.begin_manual_failover(HUB, GROUP, {"failoverRegion": "East US"}), HttpResponseError, 400, "FailoverRegionMismatch")
    iot.iot_hub.begin_manual_failover(HUB, GROUP, {"failoverRegion": before["secondary"]}).result()
    after = {one.role: one.location for one in iot.iot_hub_resource.get(GROUP, HUB).properties.locations}
    assert after == {"primary": before["secondary"], "secondary": before["primary"]}, f"{before} became {after}"


def everything(way):
    iot, resource, subscriptions = clients(way)
    wrong_secret(way)
    resources(resource, subscriptions)
    hubs(iot, resource)
    groups_of_consumers(iot)
    private_links(iot)
    certificates(iot)
    routing(iot)
    fail_over(iot)
    iot.iot_hub_resource.begin_delete(GROUP, HUB).result()
    refused(lambda: iot.iot_hub_resource.get(GROUP, HUB), ResourceNotFoundError, 404)
    resource.resource_groups.begin_delete(GROUP).result()
    assert resource.resource_groups.check_existence(GROUP) is False


def wrong_secret(way):
    try:
        list(clients(way, "wrong")[0].iot_hub_resource.list_by_subscription())
    except ClientAuthenticationError as error:
        assert "AADSTS7000215" in str(error), error
        return
    raise AssertionError("a wrong secret signed in")


WAY, CASE = sys.argv[1:3]
try:
    everything(WAY) if CASE == "all" else fail_over(clients(WAY)[0])
finally:
    print(json.dumps(EXCHANGED))
