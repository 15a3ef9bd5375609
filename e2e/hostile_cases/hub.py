"""The hub that is attacked: its devices and keys, ways to ask, and what of it must not change."""

import http.client
import json
import random
import re
import ssl

from lib.mqtt import Line, connect, publish
from lib.report import Failed, require
from lib.rest import API, Management, Service, device_key, sas

GROUP, HUB, EXCLUDED, SINGLE = "hostile", "hostile-hub", "hostile-excluded", "hostile-single"
CANARIES, ATTACKER, QUIET = ["canary-0", "canary-1"], "attacker", ["bystander", "disabled", "queued"]
# What a device's own traffic changes in its documents; everything else of them must stay.
VOLATILE = re.compile(r'"(connectionState|connectionStateUpdatedTime|lastActivityTime)":"[^"]*",?')


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.text = body.decode(errors="replace")

    def __repr__(self):
        return f"{self.status} {self.headers.get('iothub-errorcode', '')} {self.text[:300]}"


class Hostile:
    """What all groups share: the hub, its keys, and ways to ask."""

    def __init__(self, world, seed):
        self.world, self.chance = world, random.Random(seed)
        self.tls = ssl.create_default_context(cafile=world.up["ca_file"])
        self.near, self.far = world.region("westus2"), world.region("westcentralus")
        self.management = Management(world)
        self.sent = {}  # device -> bodies that were acknowledged, besides the canaries'

    def create(self):
        self.management.create_group(GROUP, "westus2")
        self.management.create_group("other-group", "westus2")
        for name, region in ((HUB, "westus2"), (EXCLUDED, "eastus"), (SINGLE, "polandcentral")):
            self.world.cli("hub", "create", name, "--location", region, "--resource-group", GROUP)
        self.host = self.management.hub(GROUP, HUB)["properties"]["hostName"]
        self.keys = {policy: self.management.key(GROUP, HUB, policy) for policy in ("iothubowner", "service", "device", "registryRead")}
        self.service = Service(self.world, self.host, self.keys["iothubowner"])
        self.service.create_devices([*CANARIES, ATTACKER, *QUIET])
        body = {"deviceId": "disabled", "status": "disabled", "authentication": {"type": "sas", "symmetricKey": {
            "primaryKey": device_key("disabled"), "secondaryKey": device_key("disabled/2")}}}
        self.service.call("PUT", "/devices/disabled", json=body, headers={"If-Match": '"*"'})
        self.service.patch_desired("bystander", {"kept": {"exactly": [1, 2.5, None, "so"]}})

    def user(self, device):
        return f"{self.host}/{device}/?api-version=2021-04-12"

    def token(self, device, key=None, seconds=3600):
        return sas(f"{self.host}/devices/{device}", device_key(key or device), seconds=seconds)

    def policy(self, name="iothubowner", key=None, seconds=3600, resource=None):
        return sas(resource or self.host, key or self.keys[name], name, seconds)

    def plain(self):
        return Line(self.near["address"], self.near["plain_mqtt_port"])

    def attacker(self):
        """A session of a device that is who it says."""
        line = self.plain().send(connect(ATTACKER, self.user(ATTACKER), self.token(ATTACKER)))
        answer = line.packet()
        require(answer == (0x20, b"\0\0"), f"{ATTACKER} cannot connect: {answer}")
        return line

    def accepted(self, line, body="it works"):
        """Proves that a session works, with one more event."""
        line.send(publish(f"devices/{ATTACKER}/messages/events/", body.encode(), number=77))
        answer = line.packet()
        require(answer == (0x40, b"\0\x4d"), f"a good message was answered with {answer}")
        self.sent.setdefault(ATTACKER, []).append(body)

    def ask(self, method, path, headers=(), body=None, region=None, port="https_port"):
        """One request on a connection of its own; the path goes out as it is."""
        region = region or self.near
        wire = http.client.HTTPSConnection(region["address"], region[port], timeout=30, context=self.tls)
        try:
            wire.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            headers = {"Host": self.host if port == "https_port" else f"{region['address']}:{region[port]}", **dict(headers)}
            if body is not None:
                headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                wire.putheader(name, value)
            try:
                wire.endheaders(body)
            except (ConnectionError, ssl.SSLError):
                pass  # it may have answered and closed before all was sent
            answer = wire.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as why:
            raise Failed(f"{method} {path[:200]}: no answer: {why!r}") from None
        finally:
            wire.close()

    def device_ask(self, group, what, status, code, *request, **more):
        """A data-plane request whose refusal has a documented status and name (notes 9)."""
        answer = self.ask(*request, **more)
        found = (answer.status, answer.headers.get("iothub-errorcode"))
        group.holds(what, found == (status, code), f"{answer!r}, but {status} {code} is documented")
        if found == (status, code):
            message = answer_json(answer).get("Message")
            group.holds(what, isinstance(message, str) and message, f"no Message in {answer!r}")
        return answer

    def manage(self, group, what, status, code, method, path, body=None, headers=(), version=API):
        """A management request whose refusal has a status and a code (control-plane notes 9)."""
        url = path + (f"{'&' if '?' in path else '?'}api-version={version}" if version else "")
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.management.token}", **dict(headers)}
        headers = {name: value for name, value in headers.items() if value is not None}
        answer = self.ask(method, url, headers, data, port="management_port")
        if code is None:
            group.same(what, answer.status, status)
        else:
            error = answer_json(answer).get("error", {})
            found = (answer.status, error.get("code") if isinstance(error, dict) else error)
            group.holds(what, found == (status, code), f"{answer!r}, but {status} {code} is documented")
        return answer

    # --- what must not change ---------------------------------------------------------------------------------------------

    def snapshot(self):
        """Registry, twins, hubs and groups as texts with their etags."""
        found = {}
        for device in [*CANARIES, ATTACKER, *QUIET]:
            for kind in ("devices", "twins"):
                answer = self.service.call("GET", f"/{kind}/{device}")
                body = answer.text if device in QUIET else VOLATILE.sub("", answer.text)
                found[f"{kind}/{device}"] = (answer.headers["ETag"], body)
        found["statistics"] = self.service.call("GET", "/statistics/devices").text
        listed = self.service.call("GET", "/devices").json()
        found["ids"] = sorted(device["deviceId"] for device in listed)
        subscription = f"/subscriptions/{self.world.up['subscription']}"
        for path in (f"{subscription}/providers/Microsoft.Devices/IotHubs", f"{subscription}/resourcegroups", f"{self.management.hub_path(GROUP, HUB)}/eventHubEndpoints/events/ConsumerGroups"):
            found[path] = self.management.call("GET", path).text
        found["etag"] = self.management.hub(GROUP, HUB)["etag"]
        found["keys"] = self.management.call("POST", f"{self.management.hub_path(GROUP, HUB)}/listkeys").text
        return found


def answer_json(answer):
    try:
        found = json.loads(answer.body)
    except ValueError:
        raise Failed(f"not JSON: {answer!r}") from None
    return found if isinstance(found, dict) else {}
