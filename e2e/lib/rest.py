"""The management API and a hub's service REST, as any HTTP client would use them."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

import requests

from .report import Failed, require

API = "2023-06-30"
SERVICE_API = "2021-04-12"


def sas(resource, key, policy=None, seconds=3600):
    """A shared access signature token."""
    encoded = quote(resource, safe="")
    expiry = int(time.time()) + seconds
    signature = base64.b64encode(hmac.new(base64.b64decode(key), f"{encoded}\n{expiry}".encode(), hashlib.sha256).digest()).decode()
    token = f"SharedAccessSignature sr={encoded}&sig={quote(signature, safe='')}&se={expiry}"
    return token + (f"&skn={policy}" if policy else "")


def device_key(device):
    """The key that the tests, and castling-bench, give a device: known to both without being sent about."""
    return base64.b64encode(hashlib.sha256(f"castling-bench/{device}".encode()).digest()).decode()


class Management:
    """Resource groups, hubs, operations: through the first region that answers, each serves the same; or through `only` one, by its place."""

    def __init__(self, world, patience=15, only=None):
        self.world, self.patience, self.only = world, patience, only
        self.session = requests.Session()
        self.token = None
        self.at = only or 0

    def url(self):
        places = [region for region in self.world.regions if region.get("management_port")]
        if self.at == 0 or not places:
            return self.world.up["management_url"]
        place = places[self.at % len(places)]
        return f"https://{place['address']}:{place['management_port']}"

    def call(self, method, path, body=None, ok=(200, 201, 202, 204)):
        for attempt in range(len(self.world.regions)):
            try:
                return self.once(method, path, body, ok)
            except requests.RequestException:
                # Another region may answer. Only a question is asked twice.
                if self.only is not None:
                    raise
                self.at = (self.at + 1) % len(self.world.regions)
                if method != "GET" or attempt + 1 == len(self.world.regions):
                    raise

    def once(self, method, path, body, ok):
        if self.token is None:
            self.token = self.sign_in()
        answer = self.session.request(
            method, f"{self.url()}{path}", params={"api-version": API}, json=body, timeout=(min(5, self.patience), 60 if method != "GET" else self.patience), verify=self.world.up["ca_file"],
            headers={"Authorization": f"Bearer {self.token}"},
        )
        if answer.status_code not in ok:
            raise Failed(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer

    def sign_in(self):
        up = self.world.up
        deadline = time.monotonic() + 10
        while True:
            answer = self.session.post(
                f"{self.url()}/{up['tenant']}/oauth2/v2.0/token", timeout=(min(5, self.patience), self.patience), verify=up["ca_file"],
                data={"grant_type": "client_credentials", "client_id": up["client_id"], "client_secret": up["client_secret"],
                      "scope": "https://management.azure.com/.default"},
            )
            # A region that has just started may not know its deployment yet, and says so.
            if answer.status_code != 503 or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        require(answer.status_code == 200, f"signing in: {answer.status_code} {answer.text[:300]}")
        return answer.json()["access_token"]

    def wait(self, answer, seconds=120):
        """Follows a long-running operation to its end."""
        url = answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location")
        deadline = time.monotonic() + seconds
        while url:
            require(time.monotonic() < deadline, f"{url} is not done after {seconds} s")
            now = self.session.get(url, timeout=60, verify=self.world.up["ca_file"], headers={"Authorization": f"Bearer {self.token}"})
            require(now.status_code in (200, 202, 204), f"{url}: {now.status_code} {now.text[:300]}")
            status = now.json().get("status", "") if now.status_code != 204 and now.text else ""
            require(status not in ("Failed", "Canceled"), f"{url}: {now.text[:300]}")
            if now.status_code != 202 and status in ("", "Succeeded"):
                return
            time.sleep(0.2)

    def group_path(self, group):
        return f"/subscriptions/{self.world.up['subscription']}/resourceGroups/{group}"

    def hub_path(self, group, hub):
        return f"{self.group_path(group)}/providers/Microsoft.Devices/IotHubs/{hub}"

    def create_group(self, group, location):
        self.call("PUT", self.group_path(group), {"location": location}, ok=(200, 201))

    def delete_group(self, group):
        self.wait(self.call("DELETE", self.group_path(group), ok=(200, 202)))

    def roles(self, group, hub):
        """(primary, secondary) as names of the catalogue."""
        locations = self.call("GET", self.hub_path(group, hub)).json()["properties"]["locations"]
        named = {place["role"]: place["location"].replace(" ", "").lower() for place in locations}
        return named["primary"], named.get("secondary")

    def hub(self, group, name):
        return self.call("GET", self.hub_path(group, name)).json()

    def key(self, group, hub, policy="iothubowner"):
        return self.call("POST", f"{self.hub_path(group, hub)}/IotHubKeys/{policy}/listkeys").json()["primaryKey"]


class Service:
    """One hub's devices, twins, messages and events, through any region."""

    def __init__(self, world, host, key, policy="iothubowner"):
        self.world, self.host, self.key, self.policy = world, host, key, policy
        self.session = requests.Session()
        self.session.verify = world.up["ca_file"]
        self.token, self.until = None, 0

    def clone(self):
        """For another thread."""
        return Service(self.world, self.host, self.key, self.policy)

    def raw(self, method, path, region=0, **more):
        if time.time() > self.until:
            self.token, self.until = sas(self.host, self.key, self.policy), time.time() + 3000
        place = self.world.regions[region % len(self.world.regions)]
        headers = {"Authorization": self.token, "Host": self.host, **more.pop("headers", {})}
        params = {"api-version": SERVICE_API, **more.pop("params", {})}
        return self.session.request(
            method, f"https://{place['address']}:{place['https_port']}{path}", headers=headers, params=params,
            timeout=more.pop("timeout", 65), **more,
        )

    def call(self, method, path, region=0, **more):
        answer = self.raw(method, path, region, **more)
        require(answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer

    def create_devices(self, ids):
        """Creates devices with the tests' keys, a hundred at a time."""
        ids = list(ids)
        for at in range(0, len(ids), 100):
            entries = [
                {"id": device, "importMode": "create", "status": "enabled",
                 "authentication": {"type": "sas", "symmetricKey": {"primaryKey": device_key(device), "secondaryKey": device_key(device + "/2")}}}
                for device in ids[at:at + 100]
            ]
            self.call("POST", "/devices", json=entries)

    def twin(self, device, region=0):
        return self.call("GET", f"/twins/{quote(device, safe='')}", region).json()

    def patch_desired(self, device, desired, region=0):
        body = {"properties": {"desired": desired}}
        return self.call("PATCH", f"/twins/{quote(device, safe='')}", region, json=body, headers={"If-Match": '"*"'}).json()

    def send_c2d(self, device, body, expiry, message_id, region=0):
        headers = {"iothub-messageid": message_id, "iothub-expiry": expiry}
        return self.call("POST", f"/devices/{quote(device, safe='')}/messages/deviceBound", region, data=body, headers=headers).json()

    def partitions(self, region=0):
        return self.call("GET", "/messages/events/partitions", region).json()

    def page(self, partition, start, most=1000, wait=0, region=0):
        return self.call("GET", f"/messages/events/partitions/{partition}", region, params={"from": start, "max": most, "wait": wait}).json()

    def events(self, region=0):
        """Everything that is in the hub, partition by partition."""
        for entry in self.partitions(region):
            at, end = entry["beginSequenceNumber"], entry["nextSequenceNumber"]
            while at < end:
                page = self.page(entry["partition"], at, region=region)
                require(page["events"], f"partition {entry['partition']} gives nothing at {at}, though it ends at {end}")
                yield from page["events"]
                at = page["next"]
