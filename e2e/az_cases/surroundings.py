"""Rights, locks, the activity log and templates, by az."""

import json
import time
import uuid

from lib.az import Az
from lib.report import require, say
from lib.rest import Management


class Deployment:
    """What `Management` asks of a world, for one that already runs."""

    def __init__(self, up):
        self.up, self.regions = up, up["regions"]


def all_of_them(az, group, hub):
    reader_may_not(az, group, hub)
    locks(az, group, hub)
    templates(az, group)
    activity(az, group, hub)


def hub_id(az, group, hub):
    return f"/subscriptions/{az.up['subscription']}/resourceGroups/{group}/providers/Microsoft.Devices/IotHubs/{hub}"


def application(az, name):
    """An application of its own with a secret: (object id, client id, secret)."""
    management = Management(Deployment(az.up))
    made = management.call("PUT", f"/providers/Castling.Identity/applications/{uuid.uuid4()}", {"properties": {"displayName": name}}).json()
    secret = management.call("POST", f"{made['id']}/addSecret", {}).json()
    properties = made["properties"]
    return properties["objectId"], properties["clientId"], secret["secret"]


def reader_may_not(az, group, hub):
    """A reader sees the hub and may not fail it over; with our own role it may."""
    object_id, client, secret = application(az, "reader")
    scope = f"/subscriptions/{az.up['subscription']}/resourceGroups/{group}"
    az("role", "assignment", "create", "--assignee-object-id", object_id, "--assignee-principal-type", "ServicePrincipal", "--role", "Reader", "--scope", scope)
    reader = Az(az.up, "reader").point("A")
    reader.login(client, secret)
    require([found["name"] for found in reader("iot", "hub", "list", "-g", group)] == [hub], "a reader does not see the hub")
    for words in (("iot", "hub", "manual-failover", "-n", hub), ("iot", "hub", "delete", "-n", hub), ("iot", "hub", "show-connection-string", "-n", hub)):
        reader.refused(*words, says="AuthorizationFailed", code=1)
    reader.close()
    listed = az("role", "assignment", "list", "--scope", scope, "--fill-principal-name", "false")
    require([found["principalId"] for found in listed if found["roleDefinitionName"] == "Reader"] == [object_id], f"az role assignment list gave {listed}")
    az("role", "assignment", "delete", "--assignee", object_id, "--role", "Reader", "--scope", scope)
    say("a reader sees the hub, and may neither fail it over, nor delete it, nor read its keys")


def locks(az, group, hub):
    where = ("--resource-group", group, "--resource-name", hub, "--resource-type", "Microsoft.Devices/IotHubs")
    az("lock", "create", "--name", "keep", "--lock-type", "CanNotDelete", *where)
    require([lock["name"] for lock in az("lock", "list", *where)] == ["keep"], "az lock list does not give the lock")
    az.refused("iot", "hub", "delete", "-n", hub, says="ScopeLocked", code=1)
    az.refused("group", "delete", "-n", group, "--yes", says="ScopeLocked", code=1)
    az("lock", "delete", "--name", "keep", *where)
    az("lock", "create", "--name", "still", "--lock-type", "ReadOnly", *where)
    az.refused("iot", "hub", "manual-failover", "-n", hub, says="ScopeLocked", code=1)
    az("lock", "delete", "--name", "still", *where)
    say("locks hold, and are taken away")


def templates(az, group):
    """A hub from a template: made, made again without a change, deleted."""
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
        "parameters": {"hubName": {"type": "string"}, "units": {"type": "int", "defaultValue": 1}},
        "resources": [{
            "type": "Microsoft.Devices/IotHubs", "apiVersion": "2023-06-30", "name": "[parameters('hubName')]",
            "location": "[resourceGroup().location]", "sku": {"name": "S1", "capacity": "[parameters('units')]"}, "properties": {},
        }],
        "outputs": {"name": {"type": "string", "value": "[parameters('hubName')]"}},
    }
    path = az.folder / "hub.json"
    path.write_text(json.dumps(template))
    for _ in range(2):
        done = az("deployment", "group", "create", "-g", group, "-n", "hubs", "--template-file", path, "--parameters", "hubName=from-template")
        require(done["properties"]["provisioningState"] == "Succeeded", f"az deployment group create gave {done}")
        require(done["properties"]["outputs"]["name"]["value"] == "from-template", f"the outputs are {done['properties']['outputs']}")
    require(az("iot", "hub", "show", "-n", "from-template")["properties"]["state"] == "Active", "the hub of the template is not active")
    az("iot", "hub", "delete", "-n", "from-template")
    say("a hub from a template")


def activity(az, group, hub):
    """Who did what: in the order of time, with the caller and the outcome."""
    deadline = time.monotonic() + 20
    wanted = {"Microsoft.Devices/IotHubs/write", "Microsoft.Devices/IotHubs/listkeys/action"}
    while True:
        events = az("monitor", "activity-log", "list", "--resource-group", group, "--offset", "1h")
        seen = {event["operationName"]["value"] for event in events if hub_id(az, group, hub).lower() == event["resourceId"].lower()}
        missing = {name for name in wanted if name.lower() not in {one.lower() for one in seen}}
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(1)
    require(not missing, f"the activity log of {group} lacks {missing}: it has {sorted(seen)}")
    require(any(event["caller"] == az.up["client_id"] for event in events), "the activity log does not name the caller")
    require(any(event["status"]["value"] == "Failed" for event in events), "the activity log does not hold what was refused")
    require(az.up["client_secret"] not in json.dumps(events), "the activity log holds a secret")
    say(f"the activity log has {len(events)} entries for the group")
