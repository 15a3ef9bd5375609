"""`kill -9` of `castling up` under load, again and again, an async and a sync hub side by side.

After every restart nothing that was acknowledged may be missing, sequence numbers have no gaps, and what a consumer read before
is still there, unchanged.
"""

import random
import sys
import threading
import time

import requests

from lib.bench import Running, target
from lib.devices import Device
from lib.report import Failed, main, none, require, say, table
from lib.rest import Management, Service
from lib.stream import Stream
from lib.world import World

RAW_DEVICES, SDK_DEVICES = 50, 4
HOME = "westus2"
GROUP = "kill"


class Hub:
    """One hub, its devices, and a consumer that remembers."""

    def __init__(self, world, replication):
        self.world, self.replication, self.name = world, replication, f"{replication}-hub"
        self.ledger = world.data / f"{replication}.ledger"
        self.read, self.positions, self.problems = {}, {}, []
        self.stopping = threading.Event()

    def start(self, management):
        self.world.cli("hub", "create", self.name, "--location", HOME, "--resource-group", GROUP, "--replication", self.replication)
        self.host = management.hub(GROUP, self.name)["properties"]["hostName"]
        self.service = Service(self.world, self.host, management.key(GROUP, self.name))
        self.service.create_devices([f"raw-{number}" for number in range(RAW_DEVICES)] + [f"sdk-{number}" for number in range(SDK_DEVICES)])
        regions = [region["name"] for region in self.world.regions]
        self.devices = [Device(self.world, self.host, f"sdk-{number}", regions[number % 2], connection_retry_interval=1) for number in range(SDK_DEVICES)]
        for device in self.devices:
            device.connect()
            device.start()
        self.raw = Running("ledger", *target(self.world, self.host, "raw"), "--connections", RAW_DEVICES, "--window", 8, "--rate", 40, "--out", self.ledger, "--seconds", 3600)
        self.reader = threading.Thread(target=self.follow, daemon=True)
        self.reader.start()

    def follow(self):
        """Reads on and on; an answer that does not come is asked for again."""
        service = self.service.clone()
        partitions = None
        while not self.stopping.is_set():
            try:
                partitions = partitions or [entry["partition"] for entry in service.partitions()]
                for partition in partitions:
                    at = self.positions.get(partition, 0)
                    answer = service.raw("GET", f"/messages/events/partitions/{partition}", params={"from": at, "max": 1000, "wait": 0}, timeout=5)
                    if answer.status_code >= 500 or answer.status_code == 404 and "FailingOver" in answer.text:
                        continue
                    require(answer.status_code == 200, f"reading {partition} at {at}: {answer.status_code} {answer.text[:300]}")
                    page = answer.json()
                    for event in page["events"]:
                        self.read[(partition, event["sequenceNumber"])] = (event["deviceId"], event["body"])
                    self.positions[partition] = page["next"]
                self.stopping.wait(0.05)
            except (requests.RequestException, ValueError):
                self.stopping.wait(0.05)
            except Failed as why:
                if "503" in str(why) or "500" in str(why):
                    self.stopping.wait(0.05)
                    continue
                self.problems.append(str(why))
                return

    def acknowledged_after(self, seconds=40):
        """Waits until devices of both kinds are acknowledged again."""
        before = {device.name: len(device.counters) for device in self.devices}
        deadline = time.monotonic() + seconds
        while any(len(device.counters) <= before[device.name] for device in self.devices):
            require(self.raw.alive(), f"castling-bench ended: {self.raw.errors}")
            require(time.monotonic() < deadline, f"{self.name}: {[device.name for device in self.devices if len(device.counters) <= before[device.name]]} had no acknowledgement within {seconds} s")
            time.sleep(0.05)

    def finish(self):
        """Everything to rest, then compared; the row of this hub."""
        figures = self.raw.end()
        for device in self.devices:
            device.stopping.set()
        for device in self.devices:
            device.stop()
        self.stopping.set()
        self.reader.join(30)
        require(not self.problems, f"{self.name}, the reader: {self.problems}")
        acknowledged, resent = self.book()
        events = list(self.service.events())
        stream = Stream(events)
        stream.check_no_gaps()
        for number in range(RAW_DEVICES):
            name = f"raw-{number}"
            stream.check_device(name, acknowledged.get(name, ()), resent.get(name, ()))
        for device in self.devices:
            stream.check_device(device.name, device.counters, device.resent())
            device.close()
        there = {(event["partition"], event["sequenceNumber"]): (event["deviceId"], event["body"]) for event in events}
        none((place for place, what in self.read.items() if there.get(place) != what), f"{self.name}: what was read is not there any more, or another")
        sdk = sum(len(device.counters) for device in self.devices)
        require(figures["acks"] == sum(map(len, acknowledged.values())), "the ledger is not complete")
        doubled = len(stream) - len({what for what in stream.by_place.values()})
        return [self.name, figures["acks"], sdk, len(stream), figures["resent"], doubled, figures["reconnects"], len(self.read), 0]

    def book(self):
        acknowledged, resent = {}, {}
        with open(self.ledger, encoding="ascii") as lines:
            for line in lines:
                kind, device, counter = line.split()
                (acknowledged if kind == "A" else resent).setdefault(device, set()).add(int(counter))
        return acknowledged, resent

    def abandon(self):
        self.stopping.set()
        self.raw.kill()


def scenario():
    short = "--short" in sys.argv
    counts = [word for word in sys.argv[1:] if word.isdigit()]
    kills = int(counts[0]) if counts else 3 if short else 20
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    say(f"{kills} kills, seed {seed}")
    starts = []
    with World("kill", regions="westus2,westcentralus") as world:
        management = Management(world)
        hubs = [Hub(world, "async"), Hub(world, "sync")]
        started = []
        try:
            for hub in hubs:
                hub.start(management)
                started.append(hub)
            for number in range(kills):
                for hub in hubs:
                    hub.acknowledged_after()
                time.sleep(chance.uniform(0.2, 2.5))
                world.kill()
                time.sleep(chance.uniform(0.0, 0.5))
                starts.append(world.start())
                say(f"kill {number + 1}: up again after {starts[-1]:.2f} s")
            for hub in hubs:
                hub.acknowledged_after()
            rows = [hub.finish() for hub in hubs]
        finally:
            for hub in started:
                hub.abandon()
    print()
    table(["hub", "raw acks", "SDK acks", "events", "sent again", "stand twice", "reconnects", "read before", "missing"], rows)
    say(f"{kills} kills; start {min(starts):.2f} to {max(starts):.2f} s")


main(scenario)
