"""One failover case by five clients: az, the SDKs for Python and Node, curl and our command line leave the same traces.

The case: a failover to a region that is not the hub's other one is refused, then one to it succeeds. The activity log, the
history and the report must be the same for each, but for ids, times, names, who asked and with which program.
"""

import json
import re
import subprocess
import sys
import time

from lib import sdks
from lib.az import Az
from lib.report import main, require, say, table
from lib.rest import API, Management
from lib.world import World

SHORT = "--short" in sys.argv
GROUP, HOME, PARTNER = "waysRG", "westus2", "westcentralus"
# What differs between two runs of one case by one client, and who asked.
MOVING = {
    "id", "name", "by", "caller", "claims", "started", "ended", "durationms", "pausems", "at", "ms", "time", "eventtimestamp", "submissiontimestamp",
    "correlationid", "operationid", "eventdataid", "httprequest", "number", "hash", "previous", "origin", "reason", "hub", "resourceid", "resource",
    "earliest", "next", "epochbefore", "epochafter", "agent", "useragent", "address", "target", "authorization", "digest", "digestbefore", "digestafter",
}
CLIENTS = ("az", "python", "node", "curl", "castling")


def scenario():
    traces = {}
    with World("fourways", "--failover-cooldown", "0s", "--failovers-per-day", "1000") as world:
        management = Management(world)
        management.create_group(GROUP, HOME)
        for client in CLIENTS:
            hub = f"hub-by-{client}"
            management.wait(management.call("PUT", management.hub_path(GROUP, hub), {"location": HOME, "sku": {"name": "S1", "capacity": 1}}))
            BY[client](world, management, hub)
            require(management.roles(GROUP, hub) == (PARTNER, HOME), f"{client} did not fail the hub over")
            traces[client] = trace(management, hub)
            say(f"{client}: done")
    first = traces[CLIENTS[0]]
    for client in CLIENTS[1:]:
        for part, found in traces[client].items():
            require(found == first[part], f"the {part} after {client} differs from the one after {CLIENTS[0]}:\n{difference(first[part], found)}")
    table(["trace", "the same for"], [[part, ", ".join(CLIENTS)] for part in first])


def difference(left, right):
    left, right = (json.dumps(side, indent=1, sort_keys=True).splitlines() for side in (left, right))
    only = [f"- {line}" for line in left if line not in right] + [f"+ {line}" for line in right if line not in left]
    return "\n".join(only[:30])


# --- the clients ------------------------------------------------------------------------------------------------------------


def by_az(world, management, hub):
    az = Az(world.up, "ways").point("A")
    az.login()
    url = f"{az.base}{management.hub_path(GROUP, hub)}/failover?api-version={API}"
    az.refused("rest", "--method", "post", "--url", url, "--body", '{"failoverRegion": "East US"}', says="FailoverRegionMismatch", code=1)
    az("iot", "hub", "manual-failover", "-n", hub)
    az.close()


def by_sdk(language):
    def work(world, management, hub):
        sdks.run(language, "tenant", "failover", world.data / "data" / "up.json", world.up["ca_file"], GROUP, hub)

    return work


def by_curl(world, management, hub):
    up = world.up
    form = {"grant_type": "client_credentials", "client_id": up["client_id"], "client_secret": up["client_secret"], "scope": f"{up['management_url']}/.default"}
    words = [word for name, value in form.items() for word in ("--data-urlencode", f"{name}={value}")]
    _, token = curl(up, "POST", f"{up['management_url']}/{up['tenant']}/oauth2/v2.0/token", *words)
    bearer = ("--header", f"Authorization: Bearer {json.loads(token)['access_token']}")
    url = f"{up['management_url']}{management.hub_path(GROUP, hub)}/failover?api-version={API}"

    def post(region):
        return curl(up, "POST", url, *bearer, "--header", "Content-Type: application/json", "--data", json.dumps({"failoverRegion": region}))

    head, _ = post("East US")
    require(" 400" in head.splitlines()[0], f"curl was answered {head}")
    head, _ = post("West Central US")
    where = re.search(r"(?im)^azure-asyncoperation: *(\S+)", head)
    require(where, f"curl was answered {head}")
    deadline = time.monotonic() + 60
    while True:
        _, body = curl(up, "GET", where[1], *bearer)
        status = json.loads(body)["status"]
        if status == "Succeeded":
            return
        require(status == "Running" and time.monotonic() < deadline, f"curl: the failover is {body}")
        time.sleep(0.5)


def curl(up, method, url, *words):
    done = subprocess.run(["curl", "--silent", "--show-error", "--include", "--http1.1", "--noproxy", "*", "--cacert", up["ca_file"], "--request", method, *words, url], capture_output=True, text=True, timeout=60)
    require(done.returncode == 0, f"curl {method} {url}: {done.stderr}")
    head, _, body = done.stdout.partition("\n\n") if "\r\n" not in done.stdout else done.stdout.partition("\r\n\r\n")
    return head, body


def by_castling(world, management, hub):
    """Our command line never names a region: the same refusal is asked for over the API it speaks."""
    management.call("POST", f"{management.hub_path(GROUP, hub)}/failover", {"failoverRegion": "East US"}, ok=(400,))
    world.cli("hub", "failover", "start", hub, "--yes", hub)


BY = {"az": by_az, "python": by_sdk("python"), "node": by_sdk("node"), "curl": by_curl, "castling": by_castling}


# --- what is left behind ----------------------------------------------------------------------------------------------------


def trace(management, hub):
    path = management.hub_path(GROUP, hub)
    listed = management.call("GET", f"{path}/providers/Castling.Failover/failovers").json()["value"]
    require(len(listed) == 1, f"the history of {hub} has {len(listed)} failovers, not one")
    one = management.call("GET", f"{path}/providers/Castling.Failover/failovers/{listed[0]['name']}").json()
    report = management.call("GET", f"{path}/providers/Castling.Failover/failovers/{listed[0]['name']}/report").json()
    properties = dict(one["properties"])
    properties.pop("report", None)
    return {"activity log": activity(management, hub), "history": still(properties, hub), "report": still(report, hub)}


def activity(management, hub):
    """What the failover left there: reads of keys and the creation are another matter."""
    base = f"/subscriptions/{management.world.up['subscription']}/providers/microsoft.insights/eventtypes/management/values"
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    events = management.session.get(
        f"{management.url()}{base}", params={"api-version": "2015-04-01", "$filter": f"eventTimestamp ge '{since}' and resourceUri eq '{management.hub_path(GROUP, hub)}'"},
        headers={"Authorization": f"Bearer {management.token}"}, verify=management.world.up["ca_file"], timeout=30,
    )
    require(events.status_code == 200, f"the activity log: {events.status_code} {events.text[:300]}")
    found = [event for event in events.json()["value"] if "failover" in json.dumps(event["operationName"]).lower()]
    require(found, f"the activity log of {hub} has nothing about its failover")
    return [still(event, hub) for event in sorted(found, key=lambda event: (event["eventTimestamp"], json.dumps(event["operationName"])))]


def still(value, hub):
    """Without what moves; figures of time and size only as whether they are there."""
    if isinstance(value, dict):
        return {key: still(one, hub) for key, one in value.items() if key.replace("_", "").lower() not in MOVING}
    if isinstance(value, list):
        return [still(one, hub) for one in value]
    if isinstance(value, float) or isinstance(value, int) and not isinstance(value, bool):
        return "a number"
    if isinstance(value, str):
        text = value.replace(hub, "HUB")
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "TIME", text)
        text = re.sub(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", "ID", text)
        return re.sub(r"\d+(\.\d+)?", "N", text)
    return value


main(scenario)
