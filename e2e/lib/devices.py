"""Devices that run the unmodified Python SDK."""

import json
import logging
import threading
import time

from azure.iot.device import IoTHubDeviceClient, Message

from .report import say
from .rest import device_key

# The SDK writes every dropped connection to the log; the scenarios count them.
logging.getLogger("azure.iot.device").setLevel(logging.CRITICAL)
logging.getLogger("paho").setLevel(logging.CRITICAL)


class Device:
    """One client, a thread that sends a counter at a steady rate, and what was seen."""

    def __init__(self, world, host, name, region, period=0.1, **options):
        self.name, self.region, self.period = name, region, period
        self.sent = {}  # counter -> how often send_message was called with it
        self.acknowledged = []  # (counter, when)
        self.disconnects = []
        self.errors = []
        self.c2d = []
        self.desired_versions = []
        self.reported_acknowledged = 0
        self.stopping = threading.Event()
        self.thread = None
        self.lock = threading.Lock()
        address = world.region(region)["address"]
        text = f"HostName={host};DeviceId={name};SharedAccessKey={device_key(name)};GatewayHostName={address}"
        with open(world.up["ca_file"], encoding="ascii") as file:
            authority = file.read()
        self.client = IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=authority, keep_alive=60, **options)
        self.client.on_connection_state_change = self.connection_changed
        self.client.on_background_exception = lambda error: self.errors.append(repr(error))

    def connection_changed(self):
        if not self.client.connected and not self.stopping.is_set():
            self.disconnects.append(time.time())

    def connect(self, c2d=False, twin=False):
        self.client.connect()
        if c2d:
            self.client.on_message_received = self.c2d.append
        if twin:
            self.client.on_twin_desired_properties_patch_received = self.desired_received

    def desired_received(self, patch):
        self.desired_versions.append(patch["$version"])

    def start(self):
        self.thread = threading.Thread(target=self.run, name=f"sender of {self.name}", daemon=True)
        self.thread.start()

    def run(self):
        counter = 0
        due = time.monotonic()
        while not self.stopping.is_set():
            self.send(counter)
            counter += 1
            due = max(due + self.period, time.monotonic() - 5 * self.period)
            self.stopping.wait(max(0.0, due - time.monotonic()))

    def send(self, counter):
        """Sends one counter until it is acknowledged, or nobody waits for it any more."""
        while True:
            message = Message(json.dumps({"counter": counter}))
            message.message_id = f"{self.name}-{counter}"
            message.content_type, message.content_encoding = "application/json", "utf-8"
            self.sent[counter] = self.sent.get(counter, 0) + 1
            try:
                self.client.send_message(message)
            except Exception as error:  # pylint: disable=broad-except  # whatever the SDK raises: it was not acknowledged
                self.errors.append(repr(error))
                if self.stopping.wait(0.2):
                    return
                continue
            with self.lock:
                self.acknowledged.append((counter, time.time()))
            return

    def stop(self, patience=30):
        """Lets the last message be acknowledged, then leaves."""
        # A client that is told to stop closes its own socket: that is no disconnect.
        self.stopping.set()
        if self.thread:
            self.thread.join(patience)
            if self.thread.is_alive():
                say(f"{self.name} still waits for an acknowledgement")

    def close(self):
        self.client.shutdown()

    @property
    def counters(self):
        with self.lock:
            return [counter for counter, _ in self.acknowledged]

    def longest_gap(self):
        """The longest time between two acknowledgements, in seconds."""
        with self.lock:
            times = [when for _, when in self.acknowledged]
        return max((b - a for a, b in zip(times, times[1:])), default=0.0)

    def resent(self):
        """Counters that may stand twice in the stream: sent again by us, or by the SDK on a new connection."""
        again = {counter for counter, times in self.sent.items() if times > 1}
        with self.lock:
            for gone in self.disconnects:
                # The SDK sends again what was not acknowledged when the connection went.
                again.update(counter for counter, when in self.acknowledged if gone - 1.0 <= when)
        return again
