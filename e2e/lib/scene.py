"""A hub with clients of every kind around it, all writing down what happens; and the audit when everything is at rest again."""

import threading
import time

import requests

from .clients import PlainDevice, SdkDevice
from .history import load
from .judge import Facts, events_of
from .report import Failed, require
from .rest import Service
from .tail import Tail
from .workers import Consumer, Receiver, Sender, TwinWriter, twin_facts

REST_SECONDS = 12.0


class Hub:
    """One hub as clients know it."""

    def __init__(self, world, management, group, name, replication, home, options=()):
        self.world, self.management, self.group, self.name, self.replication = world, management, group, name, replication
        world.cli("hub", "create", name, "--location", home, "--resource-group", group, "--replication", replication, *options)
        self.host = management.hub(group, name)["properties"]["hostName"]
        self.service = Service(world, self.host, management.key(group, name))

    @property
    def sync(self):
        return self.replication == "sync"


class Scene:
    """All clients of one hub. Half of the devices are at home in each region."""

    def __init__(self, world, hub, folder, sdk=4, plain=4, receivers=2, writers=2, tail=None, period=0.1):
        self.world, self.hub, self.folder = world, hub, folder
        sdk_names = [f"sdk-{number}" for number in range(sdk)]
        plain_names = [f"plain-{number}" for number in range(plain)]
        receiver_names = [f"https-{number}" for number in range(receivers)]
        hub.service.create_devices(sdk_names + plain_names + receiver_names)
        regions = world.regions
        self.sdk = [SdkDevice(world, hub, name, at % len(regions), folder, period) for at, name in enumerate(sdk_names)]
        self.plain = [PlainDevice(world, hub, name, regions[at % len(regions)], folder, period) for at, name in enumerate(plain_names)]
        self.workers = [TwinWriter(hub, f"twins-{number}", folder, sdk_names[:2] + receiver_names[:1], region=number, period=0.2) for number in range(writers)]
        self.workers += [Sender(hub, "sender", folder, receiver_names + sdk_names, period=0.5)] if receiver_names + sdk_names else []
        self.receivers = [Receiver(hub, name, folder, region=at, period=0.4) for at, name in enumerate(receiver_names)]
        self.consumers = []
        for entry in hub.service.partitions():
            number = entry["partition"]
            group = "$Default" if number % 2 else None
            self.consumers.append(Consumer(hub, f"consumer-{number}", folder, number, group, region=number))
        self.tail = Tail(world, hub, tail, folder) if tail else None
        self.resting = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)

    @property
    def devices(self):
        return [*self.sdk, *self.plain]

    def start(self):
        opening = [threading.Thread(target=device.connect, daemon=True) for device in self.sdk]
        for thread in opening:
            thread.start()
        for thread in opening:
            thread.join(60)
        require(all(device.client.connected for device in self.sdk), f"{self.hub.name}: not all SDK devices are connected after 60 s")
        for client in [*self.devices, *self.workers, *self.receivers, *self.consumers]:
            client.start()
        self.watcher.start()
        if self.tail:
            self.tail.start()

    def first_acknowledgement(self, sent_after, seconds):
        """When the first message was acknowledged of those sent after a time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [acknowledged for device in self.devices for sent, acknowledged in device.acks[-200:] if sent > sent_after]
            if found:
                return min(found)
            time.sleep(0.05)
        raise Failed(f"no device of {self.hub.name} was acknowledged within {seconds:.0f} s")

    def watch(self):
        while not self.resting.wait(0.5):
            for device in self.sdk:
                device.look_after()

    def rest(self):
        """Writers stop; receivers and consumers go on until they have everything."""
        for client in [*self.devices, *self.workers]:
            client.stopping.set()
        # The last message is given its time; a client that lost its way is not waited for.
        deadline = time.monotonic() + REST_SECONDS
        for client in [*self.devices, *self.workers]:
            client.stop(max(0.1, deadline - time.monotonic()))
        self.resting.set()

    def end(self):
        for client in [*self.receivers, *self.consumers]:
            client.stopping.set()
        for client in [*self.receivers, *self.consumers]:
            client.stop()
        if self.tail:
            self.tail.stop()

    def close(self):
        """Also when something failed before: nothing of it stays behind."""
        self.resting.set()
        if self.tail:
            self.tail.close()
        for client in [*self.devices, *self.workers, *self.receivers, *self.consumers]:
            client.stopping.set()
        self.close_devices()

    def close_devices(self):
        closing = [threading.Thread(target=device.close, daemon=True) for device in self.sdk if not device.closed]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(15)

    # --- the audit --------------------------------------------------------------------------------------------------------

    def wait_until_drained(self, seconds=60):
        """Until consumers are at the end of every partition and no C2D message waits for a receiver that is here."""
        deadline = time.monotonic() + seconds
        while True:
            behind = self.behind()
            if not behind:
                # The tail, which asks for itself, is no slower than they are.
                time.sleep(1.0)
                break
            require(time.monotonic() < deadline, f"{self.hub.name}: consumers are behind after {seconds} s: {behind}")
            time.sleep(0.3)
        self.fetch_what_waits()

    def fetch_what_waits(self, seconds=75):
        """C2D messages of SDK devices that did not find back: over HTTPS, once the SDK is gone and its locks with it."""
        self.close_devices()
        waiting = [Receiver(self.hub, device.name, self.folder, region=at, label=f"late-{device.name}") for at, device in enumerate(self.sdk)]
        deadline = time.monotonic() + seconds
        for receiver in waiting:
            turn = 0
            while self.patient(lambda name=receiver.name: self.hub.service.call("GET", f"/devices/{name}").json())["cloudToDeviceMessageCount"] > 0:
                require(time.monotonic() < deadline, f"{self.hub.name}: C2D messages for {receiver.name} wait and are not given out")
                receiver.again(turn)
                turn += 1
            receiver.close()

    def behind(self):
        found = []
        for entry in self.patient(self.hub.service.partitions):
            consumer = next((one for one in self.consumers if one.partition == entry["partition"]), None)
            at = -1 if consumer is None or consumer.offset is None else int(consumer.offset.split(":")[1])
            if consumer is not None and at + 1 < entry["nextSequenceNumber"] and not entry["isEmpty"]:
                found.append((entry["partition"], at, entry["nextSequenceNumber"]))
        return found

    def patient(self, ask, seconds=30):
        """Asks again while the hub does not answer for the moment."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except (Failed, requests.RequestException) as why:
                if time.monotonic() > deadline:
                    raise Failed(f"{self.hub.name} does not answer after {seconds} s: {why}") from None
                time.sleep(0.3)

    def stream(self, region=0):
        return events_of(self.patient(lambda: list(self.hub.service.events(region))))

    def twins(self):
        found = {}
        for device in self.sdk:
            answer = self.patient(lambda name=device.name: self.hub.service.call("GET", f"/twins/{name}"))
            found[device.name] = twin_facts(answer)
        return found

    def facts(self, **more):
        return Facts(self.hub.name, self.stream(), sync=self.hub.sync, twins=self.twins(), **more)

    def histories(self):
        return load(self.folder)


def bring_to_rest(scenes):
    """Writers of all stop, everything that is there is fetched and read, then readers stop."""
    together([scene.rest for scene in scenes])
    together([scene.wait_until_drained for scene in scenes])
    for scene in scenes:
        scene.end()


def together(works):
    """All at once; the first failure is everybody's."""
    failed = []

    def guarded(work):
        try:
            work()
        except (Failed, requests.RequestException) as why:
            failed.append(str(why))

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not failed, "; ".join(failed))
