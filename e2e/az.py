"""azure-cli, unmodified, in its three ways to find a deployment: the whole list of commands, and what is refused.

A: a cloud with an `/adfs` authority. B: a cloud with the authority at the root. C: the metadata's address in the environment.
"""

import json
import sys
import time

from az_cases import signing_in, surroundings
from lib.az import Az
from lib.report import main, require, say, table
from lib.world import World

SHORT = "--short" in sys.argv
HUB, GROUP = "my-test-hub-1", "ManlFailRG"
HOME, PARTNER = "westus2", "westcentralus"
SHOWN = {"westus2": "West US 2", "westcentralus": "West Central US"}


def scenario():
    rows = []
    with World("az") as world:
        say(f"way A at {world.address}, with the usual policy")
        az = Az(world.up, "a").point("A")
        whole(az)
        rows.append(told("A", az))
        wrong_secret(world)
        signing_in.people(world)
        az.close()
    with World("az-2", "--failover-cooldown", "0s") as world:
        for way in "BC":
            say(f"way {way} at {world.address}, with no time between failovers")
            az = Az(world.up, way.lower()).point(way)
            (brief if SHORT else whole_again)(az, way)
            rows.append(told(way, az))
            az.close()
    table(["way", "commands", "slowest s", "command"], rows)


def told(way, az):
    seconds, words = az.slowest
    return [way, az.commands, f"{seconds:.1f}", words[:60]]


def whole(az):
    """Section 2 of the list, what is 'also run', and every refusal."""
    sign_in(az)
    create(az)
    look(az)
    change(az)
    surroundings.all_of_them(az, GROUP, HUB)
    fail_over(az, HOME, PARTNER)
    say("failed over")
    shown = az.refused("iot", "hub", "manual-failover", "-n", HUB, says="FailoverTooSoon")
    say(f"again at once: {shown.strip().splitlines()[0][:140]}")
    refusals(az)
    remove(az)


def whole_again(az, way):
    """The same in another way; the two ways share one day's failovers."""
    sign_in(az)
    if way == "B":
        create(az)
    look(az)
    change(az)
    twice(az, way)
    if way == "C":
        remove(az)


def brief(az, way):
    sign_in(az)
    if way == "B":
        create(az)
    names(az("iot", "hub", "list"), HUB)
    twice(az, way)


def twice(az, way):
    """There and back; after two of each, the day's limit is reached."""
    fail_over(az, HOME, PARTNER)
    fail_over(az, PARTNER, HOME)
    say("failed over and back")
    if way == "C":
        shown = az.refused("iot", "hub", "manual-failover", "-n", HUB, says="FailoverDailyLimit")
        say(f"the third of a day: {shown.strip().splitlines()[0][:140]}")


def sign_in(az):
    accounts = az.login()
    require(accounts[0]["state"] == "Enabled" and accounts[0]["id"] == az.up["subscription"], f"az login gave {accounts}")
    account = az("account", "show")
    require(account["tenantId"] == az.up["tenant"], f"az account show gave {account}")
    require(account["user"] == {"name": az.up["client_id"], "type": "servicePrincipal"}, f"az account show gave {account}")


def create(az):
    made = az("group", "create", "-n", GROUP, "-l", HOME)
    require(made["properties"]["provisioningState"] == "Succeeded" and made["location"] == HOME, f"az group create gave {made}")
    hub = az("iot", "hub", "create", "-n", HUB, "-g", GROUP, "--sku", "S1", "--unit", "1")
    properties = hub["properties"]
    require(properties["state"] == "Active" and properties["provisioningState"] == "Succeeded", f"az iot hub create gave {hub}")
    require(hub["sku"] == {"name": "S1", "tier": "Standard", "capacity": 1}, f"az iot hub create gave the tier {hub['sku']}")
    roles(hub, HOME, PARTNER)


def roles(hub, primary, secondary):
    wanted = [{"location": SHOWN[primary], "role": "primary"}, {"location": SHOWN[secondary], "role": "secondary"}]
    require(hub["properties"]["locations"] == wanted, f"the hub's locations are {hub['properties']['locations']}, not {wanted}")
    require(hub["location"] == HOME, f"the hub's location is {hub['location']}: it must stay where it was made")


def names(hubs, *wanted):
    found = sorted(hub["name"] for hub in hubs)
    require(found == sorted(wanted), f"listed are {found}, not {sorted(wanted)}")


def look(az):
    """Everything that only reads."""
    names(az("iot", "hub", "list"), HUB)
    names(az("iot", "hub", "list", "-g", GROUP), HUB)
    by_name, in_group = az("iot", "hub", "show", "-n", HUB), az("iot", "hub", "show", "-n", HUB, "-g", GROUP)
    for hub in (by_name, in_group):
        require(hub["resourcegroup"] == GROUP and hub["subscriptionid"] == az.up["subscription"], f"az iot hub show gave {hub}")
    text = az("iot", "hub", "show-connection-string", "-n", HUB)["connectionString"]
    require(text.startswith(f"HostName={by_name['properties']['hostName']};SharedAccessKeyName=iothubowner;SharedAccessKey="), f"the connection string is {text!r}")
    names(az("group", "list"), GROUP)
    require(az("group", "show", "-n", GROUP)["name"] == GROUP, "az group show gave another group")
    require(az("group", "exists", "-n", GROUP) is True and az("group", "exists", "-n", "NoSuchRG") is False, "az group exists is wrong")
    places = {place["name"]: place for place in az("account", "list-locations")}
    require(places[HOME]["metadata"]["pairedRegion"][0]["name"] == PARTNER, f"{HOME} has the pair {places[HOME]['metadata']}")
    require(len(az("account", "get-access-token")["accessToken"].split(".")) == 3, "the access token is no JWT")
    skus = az("iot", "hub", "list-skus", "-n", HUB)
    require("S1" in [sku["sku"]["name"] for sku in skus], f"az iot hub list-skus gave {skus}")
    require(az("iot", "hub", "show-stats", "-n", HUB)["totalDeviceCount"] == 0, "a new hub has devices")
    quotas = [quota["name"] for quota in az("iot", "hub", "show-quota-metrics", "-n", HUB)]
    require(sorted(quotas) == ["TotalDeviceCount", "TotalMessages"], f"az iot hub show-quota-metrics gave {quotas}")
    require(az("provider", "show", "-n", "Microsoft.Devices")["registrationState"] == "Registered", "Microsoft.Devices is not registered")
    answer = az("rest", "--method", "get", "--url", f"{az.base}/subscriptions/{az.up['subscription']}/resourcegroups/{GROUP}?api-version=2024-11-01")
    require(answer["name"] == GROUP, f"az rest gave {answer}")
    require([hub["name"] for hub in az("resource", "list", "-g", GROUP)] == [HUB], "az resource list does not give the hub")
    one = az("resource", "show", "-g", GROUP, "-n", HUB, "--resource-type", "Microsoft.Devices/IotHubs")
    require(one["name"] == HUB, f"az resource show gave {one}")


def change(az):
    """Everything that writes, but failovers and deletions."""
    hub = az("iot", "hub", "update", "-n", HUB, "--c2d-max-delivery-count", "20", "--tags", "made-by=az")
    require(hub["properties"]["cloudToDevice"]["maxDeliveryCount"] == 20, f"az iot hub update gave {hub['properties']['cloudToDevice']}")
    require(hub["tags"].get("made-by") == "az", f"az iot hub update gave the tags {hub['tags']}")
    az("iot", "hub", "wait", "-n", HUB, "-g", GROUP, "--updated")
    policies = {policy["keyName"]: policy for policy in az("iot", "hub", "policy", "list", "--hub-name", HUB)}
    usual = {"iothubowner", "service", "device", "registryRead", "registryReadWrite"}
    require(usual <= set(policies), f"the policies are {sorted(policies)}")
    mine = f"mine-{time.monotonic_ns()}"
    az("iot", "hub", "policy", "create", "--hub-name", HUB, "-n", mine, "--permissions", "RegistryRead", "ServiceConnect")
    before = az("iot", "hub", "policy", "show", "--hub-name", HUB, "-n", mine)
    require(before["rights"].replace(" ", "") == "RegistryRead,ServiceConnect", f"the new policy is {before['rights']}")
    after = az("iot", "hub", "policy", "renew-key", "--hub-name", HUB, "-n", mine, "--rk", "primary")
    require(after["primaryKey"] != before["primaryKey"] and after["secondaryKey"] == before["secondaryKey"], "renewing the primary key did not change it alone")
    az("iot", "hub", "policy", "delete", "--hub-name", HUB, "-n", mine)
    still = az("iot", "hub", "policy", "show", "--hub-name", HUB, "-n", "iothubowner")
    require(still["primaryKey"] == policies["iothubowner"]["primaryKey"], "an update changed the keys of another policy")
    az("iot", "hub", "consumer-group", "create", "--hub-name", HUB, "-n", "cg1")
    groups = [group["name"] for group in az("iot", "hub", "consumer-group", "list", "--hub-name", HUB)]
    require(sorted(groups) == ["$Default", "cg1"], f"the consumer groups are {groups}")
    require(az("iot", "hub", "certificate", "list", "--hub-name", HUB)["value"] == [], "a new hub has certificates")


def fail_over(az, primary, secondary):
    before = az("iot", "hub", "show", "-n", HUB)
    roles(before, primary, secondary)
    after = az("iot", "hub", "manual-failover", "-n", HUB)
    roles(after, secondary, primary)
    require(after["etag"] != before["etag"], "a failover did not change the etag")
    require(after["properties"]["hostName"] == before["properties"]["hostName"], "a failover changed the host name")
    require(after["properties"]["state"] == "Active", f"after its failover the hub is {after['properties']['state']}")


def refusals(az):
    """What must not happen, and how az says so."""
    url = f"{az.base}/subscriptions/{az.up['subscription']}/resourceGroups/{GROUP}/providers/Microsoft.Devices/IotHubs/{HUB}/failover?api-version=2023-06-30"
    for region in ("East US", "Atlantis", ""):
        az.refused("rest", "--method", "post", "--url", url, "--body", json.dumps({"failoverRegion": region}), says="FailoverRegionMismatch", code=1)
    az.refused("iot", "hub", "manual-failover", "-n", HUB, "--failover-region", PARTNER, says="unrecognized arguments", code=2)
    az.refused("iot", "hub", "create", "-n", "elsewhere-hub", "-g", GROUP, "-l", "eastus2", says="LocationNotAvailableForResourceType", code=1)
    for words in (("show", "-n", "no-such-hub"), ("show", "-n", "no-such-hub", "-g", GROUP), ("manual-failover", "-n", "no-such-hub")):
        az.refused("iot", "hub", *words, says="no-such-hub")
    az.refused("group", "show", "-n", "NoSuchRG", says="ResourceGroupNotFound", code=3)
    az("group", "create", "-n", "OtherRG", "-l", HOME)
    az.refused("iot", "hub", "create", "-n", HUB.upper(), "-g", "OtherRG", says="not available")
    az("group", "delete", "-n", "OtherRG", "--yes")
    say("wrong region, hub not found, name taken: refused")


def wrong_secret(world):
    """In a folder of its own: a login that once succeeded would be remembered."""
    az = Az(world.up, "wrong").point("A")
    az.refused("login", "--service-principal", "-u", world.up["client_id"], "-p", "wrong", "--tenant", world.up["tenant"], says="AADSTS7000215", code=1)
    az.refused("login", "--service-principal", "-u", "99999999-9999-9999-9999-999999999999", "-p", "wrong", "--tenant", world.up["tenant"], says="AADSTS700016", code=1)
    az.close()
    say("wrong secret and unknown application: refused")


def remove(az):
    az("iot", "hub", "delete", "-n", HUB)
    names(az("iot", "hub", "list"))
    az("group", "delete", "-n", GROUP, "--yes")
    require(az("group", "exists", "-n", GROUP) is False, "the deleted group is still there")
    az("logout")
    az.refused("account", "show", says="az login", code=1)
    say("deleted and logged out")


main(scenario)
