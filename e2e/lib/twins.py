"""Twins that are patched by the service and by their devices all the time."""

import threading
import time

from .report import Failed, require


class TwinWork:
    """Patches the twins of some devices in turn, and checks each answer against what was acknowledged before."""

    def __init__(self, service, devices, period=0.25):
        self.service, self.devices, self.period = service.clone(), devices, period
        self.desired = {device.name: 0 for device in devices}
        self.seen = {}
        self.patches = 0
        self.failure = None
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.guarded, args=(work,), daemon=True) for work in (self.patch_desired, self.patch_reported)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            require(not thread.is_alive(), "a twin patch did not end within 60 s")

    def guarded(self, work):
        turn = 0
        while not self.stopping.is_set() and self.failure is None:
            try:
                work(self.devices[turn % len(self.devices)], turn)
            except Exception as why:  # pylint: disable=broad-except  # kept for the end of the scenario, where it fails it
                self.failure = f"{work.__name__}: {why!r}"
            turn += 1
            self.stopping.wait(self.period)

    def patch_desired(self, device, turn):
        wanted = self.desired[device.name] + 1
        # Alternating regions: any region accepts any hub.
        twin = self.retry(lambda: self.service.patch_desired(device.name, {"wanted": wanted}, region=turn))
        self.desired[device.name] = wanted
        self.patches += 1
        self.judge(device, twin)

    def patch_reported(self, device, _turn):
        value = device.reported_acknowledged + 1
        device.client.patch_twin_reported_properties({"value": value})
        device.reported_acknowledged = value
        self.patches += 1

    def retry(self, ask):
        """Asks again while the hub says that it is failing over: nothing was done then."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return ask()
            except Failed as why:
                if "503" not in str(why) and "IotHubFailingOver" not in str(why) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def judge(self, device, twin):
        """Versions only grow, and what was acknowledged is there."""
        now = (twin["version"], twin["properties"]["desired"]["$version"], twin["properties"]["reported"]["$version"])
        before = self.seen.get(device.name, (0, 0, 0))
        require(all(a <= b for a, b in zip(before, now)), f"{device.name}: twin versions went from {before} to {now}")
        self.seen[device.name] = now
        require(twin["properties"]["desired"]["wanted"] == self.desired[device.name], f"{device.name}: desired {twin['properties']['desired']}, acknowledged {self.desired[device.name]}")

    def check(self):
        """At rest: every acknowledged patch, and versions that count exactly the patches made."""
        require(self.failure is None, f"twins: {self.failure}")
        for device in self.devices:
            twin = self.service.twin(device.name)
            now = (twin["version"], twin["properties"]["desired"]["$version"], twin["properties"]["reported"]["$version"])
            before = self.seen.get(device.name, (0, 0, 0))
            require(all(a <= b for a, b in zip(before, now)), f"{device.name}: twin versions went from {before} to {now}")
            desired, reported = twin["properties"]["desired"], twin["properties"]["reported"]
            require(desired.get("wanted", 0) == self.desired[device.name], f"{device.name}: desired {desired}, acknowledged {self.desired[device.name]}")
            require(reported.get("value", 0) == device.reported_acknowledged, f"{device.name}: reported {reported}, acknowledged {device.reported_acknowledged}")
            require(desired["$version"] == 1 + self.desired[device.name], f"{device.name}: {self.desired[device.name]} patches, but desired {desired}")
            require(reported["$version"] == 1 + device.reported_acknowledged, f"{device.name}: {device.reported_acknowledged} patches, but reported {reported}")
            versions = device.desired_versions
            require(all(a < b for a, b in zip(versions, versions[1:])), f"{device.name} was told desired versions {versions}")
            if self.desired[device.name] and not device.disconnects:
                require(versions and versions[-1] == desired["$version"], f"{device.name} was told desired versions up to {versions[-1:]}, the twin has {desired['$version']}")
