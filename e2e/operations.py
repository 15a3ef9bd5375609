"""Three processes; in the middle of each long-running operation something goes away. The operation ends, and its address keeps answering.

What goes: every region in turn (a restart), the leader of the control plane (kill -9, so that another leads), a region (kill -9, for
longer). What runs: the creation of a hub, its deletion, the deletion of a group, a failover. A failover may end by being rolled
back: then the hub serves where it did.
"""

import itertools
import os
import sys
import threading
import time
import uuid
from urllib.parse import urlsplit, urlunsplit

import requests

from lib.nodes import REGIONS, Nodes
from lib.report import Failed, main, require, say, table
from lib.rest import API
from lib.world import CASTLING

SHORT = "--short" in sys.argv
ENDS_WITHIN = 90
ANSWERS_WITHIN = 30
# Short: each kind of operation and each disturbance at least once.
PAIRS = [("create hub", "restart"), ("delete hub", "leader"), ("delete group", "region"), ("fail over", "leader"), ("fail over", "region")]


class Client:
    """Asks whichever region answers; a write is only sent again where it is safe: each of these four is."""

    def __init__(self, nodes):
        self.nodes, self.up = nodes, nodes.up()
        self.session = requests.Session()
        self.session.verify, self.session.trust_env = self.up["ca_file"], False
        self.port = self.up["regions"][0]["management_port"]
        self.token = None

    def at(self, name, path):
        return f"https://{self.nodes.addresses[name]}:{self.port}{path}"

    def sign_in(self, name):
        form = {"grant_type": "client_credentials", "client_id": self.up["client_id"], "client_secret": self.up["client_secret"], "scope": "https://management.azure.com/.default"}
        answer = self.session.post(self.at(name, f"/{self.up['tenant']}/oauth2/v2.0/token"), data=form, timeout=5)
        if answer.status_code == 200:
            self.token = answer.json()["access_token"]

    def once(self, name, method, path, body=None, repeat=None):
        if self.token is None:
            self.sign_in(name)
        url = path if path.startswith("https://") else self.at(name, path)
        parameters = None if "api-version" in url else {"api-version": API}
        return self.session.request(method, url, params=parameters, json=body, timeout=10, headers={"Authorization": f"Bearer {self.token}", **({"x-ms-client-request-id": repeat} if repeat else {})})

    def ask(self, method, path, body=None, ok=(200, 201, 202, 204), seconds=ANSWERS_WITHIN):
        """The first fit answer of any region; regions that are gone, or say that nothing happened, are asked again."""
        deadline, last, repeat = time.monotonic() + seconds, None, str(uuid.uuid4())
        for name in itertools.cycle(REGIONS):
            try:
                last = answer = self.once(name, method, path, body, repeat)
                if answer.status_code in ok:
                    return answer
                waits = answer.status_code in (500, 503, 504) or answer.status_code == 409 and "409002" in answer.text
                require(waits, f"{method} {path} at {name}: {answer.status_code} {answer.text[:300]}")
            except requests.RequestException as error:
                last = error
            require(time.monotonic() < deadline, f"{method} {path}: no region answered within {seconds} s: {last if isinstance(last, Exception) else last.text[:300]}")
            time.sleep(0.1)

    def group(self, group):
        return f"/subscriptions/{self.up['subscription']}/resourceGroups/{group}"

    def hub(self, group, hub):
        return f"{self.group(group)}/providers/Microsoft.Devices/IotHubs/{hub}"

    def create(self, group, hub):
        return self.ask("PUT", self.hub(group, hub), {"location": REGIONS[0], "sku": {"name": "S1", "capacity": 1}})

    def follow(self, answer, seconds=ENDS_WITHIN):
        """Asks the operation's address at every region until it ends; fails if no region answers for long. Gives (seconds, status)."""
        url = answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location")
        if url is None:
            return 0.0, "Succeeded"
        parts, begun, last_answer = urlsplit(url), time.monotonic(), time.monotonic()
        for name in itertools.cycle(REGIONS):
            try:
                here = urlunsplit(parts._replace(netloc=f"{self.nodes.addresses[name]}:{self.port}"))
                now = self.once(name, "GET", here)
                require(now.status_code != 404, f"{here} is not known any more: {now.text[:300]}")
                if now.status_code in (200, 202, 204):
                    last_answer = time.monotonic()
                    status = now.json().get("status") if now.status_code == 200 and now.text else None
                    require(status in (None, "Running", "Succeeded", "Failed"), f"{here}: {now.text[:500]}")
                    rolled_back = "was rolled back" in now.text
                    require(status != "Failed" or rolled_back, f"{here}: {now.text[:500]}")
                    if status in ("Succeeded", "Failed") or status is None and now.status_code != 202:
                        return time.monotonic() - begun, status or "Succeeded"
                else:
                    require(now.status_code in (500, 503, 504), f"{here}: {now.status_code} {now.text[:300]}")
            except requests.RequestException:
                pass
            require(time.monotonic() - last_answer < ANSWERS_WITHIN, f"{url}: no region answered for {ANSWERS_WITHIN} s")
            require(time.monotonic() - begun < seconds, f"{url} has not ended after {seconds} s")
            time.sleep(0.1)


# --- what is disturbed ------------------------------------------------------------------------------------------------------


def create_hub(client, number):
    group, hub = f"rg-{number}", f"hub-{number}"
    client.ask("PUT", client.group(group), {"location": REGIONS[0]})

    def done(status):
        found = client.ask("GET", client.hub(group, hub)).json()["properties"]["state"]
        require(status == "Succeeded" and found == "Active", f"the creation of {hub} ended with {status}; it is {found}")

    return (lambda: client.create(group, hub)), done


def with_hub(client, number):
    ask, done = create_hub(client, number)
    done(client.follow(ask())[1])
    return f"rg-{number}", f"hub-{number}"


def delete_hub(client, number):
    group, hub = with_hub(client, number)
    return (lambda: client.ask("DELETE", client.hub(group, hub))), lambda _: client.ask("GET", client.hub(group, hub), ok=(404,))


def delete_group(client, number):
    group, _ = with_hub(client, number)
    return (lambda: client.ask("DELETE", client.group(group))), lambda _: client.ask("GET", client.group(group), ok=(404,))


def fail_over(client, number):
    group, hub = with_hub(client, number)
    path = client.hub(group, hub)
    deadline = time.monotonic() + 60
    while not (check := client.ask("POST", f"{path}/providers/Castling.Failover/check").json())["ready"]:
        require(time.monotonic() < deadline, f"{hub} cannot fail over: {check}")
        time.sleep(0.2)

    def done(status):
        found = client.ask("GET", path).json()["properties"]
        primary = next(place["location"] for place in found["locations"] if place["role"] == "primary")
        wanted = "West Central US" if status == "Succeeded" else "West US 2"
        require(primary == wanted and found["state"] == "Active", f"the failover of {hub} ended with {status}; it is {found['state']} in {primary}")

    return (lambda: client.ask("POST", f"{path}/failover", {"failoverRegion": REGIONS[1]})), done


# --- what disturbs ----------------------------------------------------------------------------------------------------------


def restart(nodes):
    for name in REGIONS:
        nodes.stop(name)
        nodes.start(name)


def leader(nodes):
    name = nodes.leader()
    require(name, "the control plane has no leader")
    nodes.kill(name)
    nodes.start(name)


def region(nodes):
    """Away for longer than any lease or election."""
    nodes.kill(REGIONS[1])
    time.sleep(12)
    nodes.start(REGIONS[1])


OPERATIONS = {"create hub": create_hub, "delete hub": delete_hub, "delete group": delete_group, "fail over": fail_over}
DISTURBANCES = {"restart": restart, "leader": leader, "region": region}


def scenario():
    # Before the request: it must find its way. After the first answer: the operation must.
    cases = [(*pair, "after") for pair in PAIRS] if SHORT else list(itertools.product(OPERATIONS, DISTURBANCES, ("before", "after")))
    rows = []
    with Nodes(CASTLING, network=60 + os.getpid() % 30) as nodes:
        nodes.start()
        client = Client(nodes)
        for number, case in enumerate(cases):
            rows.append(disturbed(nodes, client, number, *case))
            for name in nodes.names:
                nodes.wait_ready(name)
    table(["operation", "disturbance", "begun", "ended after s", "with", "disturbed for s"], rows)


def disturbed(nodes, client, number, operation, disturbance, moment):
    failures, took = [], []

    def disturb():
        begun = time.monotonic()
        try:
            DISTURBANCES[disturbance](nodes)
        except Exception as error:  # told by the scenario's own thread
            failures.append(error)
        took.append(time.monotonic() - begun)

    ask, done = OPERATIONS[operation](client, number)
    other = threading.Thread(target=disturb)
    answer = ask() if moment == "after" else None
    other.start()
    try:
        answer = ask() if answer is None else answer
        seconds, status = client.follow(answer)
    finally:
        other.join()
    if failures:
        raise Failed(f"{operation}, {disturbance}: {failures[0]}")
    done(status)
    # Once more, now that all is well: the address still answers, and as before.
    again = client.follow(answer)[1]
    require(again == status, f"{operation}, {disturbance}: ended with {status}, and later with {again}")
    say(f"{operation} through {disturbance} {moment} the request: {status} after {seconds:.1f} s")
    return [operation, disturbance, f"{moment} the request", f"{seconds:.1f}", status, f"{took[0]:.1f}"]


main(scenario)
