"""A hub under the load of the tutorial, and everything that must hold afterwards."""

import threading
import time

from .devices import Device
from .reader import Reader
from .report import none, require, say
from .rest import Management, Service
from .stream import Stream
from .twins import TwinWork

GROUP = "tutorial"


class Fleet:
    """Devices, twins, a reader and C2D for an offline device, all on one hub."""

    def __init__(self, world, hub, resource_group, count=20):
        self.world, self.hub, self.resource_group, self.count = world, hub, resource_group, count
        self.management = Management(world)
        self.devices = []
        self.failovers = []  # reports
        self.host = self.service = self.reader = self.twins = self.offline = self.before = None
        self.queued = []

    def create(self, location="westus2"):
        self.management.create_group(self.resource_group, location)
        self.world.cli("hub", "create", self.hub, "--location", location, "--resource-group", self.resource_group)
        self.host = self.management.hub(self.resource_group, self.hub)["properties"]["hostName"]
        self.service = Service(self.world, self.host, self.management.key(self.resource_group, self.hub))
        self.world.cli("hub", "consumer-group", "create", self.hub, GROUP)

    def start(self):
        primary, secondary = self.management.roles(self.resource_group, self.hub)
        names = [f"device-{number:02}" for number in range(self.count)]
        self.service.create_devices(names + ["offline"])
        self.devices = [Device(self.world, self.host, name, (primary, secondary)[at % 2]) for at, name in enumerate(names)]
        self.offline = Device(self.world, self.host, "offline", secondary)
        opening = [threading.Thread(target=device.connect, kwargs={"c2d": True, "twin": True}) for device in self.devices]
        for thread in opening:
            thread.start()
        for thread in opening:
            thread.join(60)
        none([device.name for device in self.devices if not device.client.connected], "did not connect")
        self.before = self.world.metrics()
        self.reader = Reader(self.world, self.hub, GROUP)
        self.reader.start()
        self.twins = TwinWork(self.service, self.devices)
        for device in self.devices:
            device.start()
        self.twins.start()
        say(f"{self.count} devices send, half through {primary}, half through {secondary}")

    def queue_for_offline(self, count=5):
        """Messages with their own time of expiry, for a device that is not there."""
        for number in range(count):
            expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3000 + number))
            body = f"queued {number}"
            self.service.send_c2d("offline", body, expiry, f"c2d-{number}", region=number)
            self.queued.append((f"c2d-{number}", body, expiry))

    def let_run(self, seconds):
        time.sleep(seconds)
        require(self.twins.failure is None, f"twins: {self.twins.failure}")

    def took_place(self, kind):
        """Fetches the report of the failover that just ended."""
        report = self.world.cli_json("hub", "failover", "report", self.hub)
        require(report["outcome"] == "Succeeded" and report["kind"] == kind, f"the report says {report['kind']} {report['outcome']}: {report.get('error')}")
        require(report["lost"]["records"] == 0, f"the report says that records were lost: {report['lost']}")
        none([entry for entry in report["partitions"] if not entry["equal"]], "partitions whose digests differ at the handover")
        self.failovers.append(report)
        return report

    def swapped(self, primary, secondary):
        roles = self.management.roles(self.resource_group, self.hub)
        require(roles == (primary, secondary), f"primary and secondary are {roles}, not {(primary, secondary)}")
        state = self.management.hub(self.resource_group, self.hub)["properties"]["state"]
        require(state == "Active", f"the hub is {state}, not Active")

    def stop(self):
        """Brings everything to rest, so that it can be compared."""
        self.twins.stop()
        for device in self.devices:
            device.stopping.set()
        for device in self.devices:
            device.stop()

    def check(self):
        """Everything that must hold; returns the stream."""
        after = self.world.metrics()
        none([(device.name, device.disconnects) for device in self.devices if device.disconnects], "devices whose socket was closed")
        none([(device.name, device.errors) for device in self.devices if device.errors], "devices that saw an error")
        for figure in ("castling_sessions_closed_total", "castling_mqtt_closed_total"):
            closed = after.get(figure, 0) - self.before.get(figure, 0)
            require(closed == 0, f"{figure} grew by {closed}: {{'by reason': {self.reasons(after)}}}")
        self.twins.check()
        stream = Stream(self.service.events())
        stream.check_no_gaps()
        for device in self.devices:
            stream.check_device(device.name, device.counters, device.resent())
        self.reader.wait_for(len(stream))
        self.reader.stop()
        self.reader.check()
        stream.check_reader(self.reader.read)
        return stream

    def reasons(self, after):
        grown = {name: after[name] - self.before.get(name, 0) for name in after if name.startswith("castling_mqtt_closed_total{")}
        return {name: value for name, value in grown.items() if value}

    def receive_queued(self):
        """The offline device comes, and gets what was queued for it before it was failed over."""
        self.offline.connect(c2d=True)
        deadline = time.monotonic() + 20
        while len(self.offline.c2d) < len(self.queued) and time.monotonic() < deadline:
            time.sleep(0.05)
        found = [(message.message_id, message.data.decode(), message.expiry_time_utc) for message in self.offline.c2d]
        require([entry[:2] for entry in found] == [entry[:2] for entry in self.queued], f"queued {self.queued}, received {found}")
        for (_, _, expiry), (name, _, received) in zip(self.queued, found):
            require(normal(received) == normal(expiry), f"{name}: expiry {expiry} became {received}")
        self.offline.stopping.set()
        self.offline.close()

    def close(self):
        for device in self.devices:
            device.close()


def normal(time_text):
    """A time without the ways of writing it: to the millisecond, without zeros."""
    text = str(time_text).replace("+00:00", "").rstrip("Z").replace("T", " ")
    return text.rstrip("0").rstrip(".") if "." in text else text
