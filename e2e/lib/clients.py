"""Device clients that write down what they did: the unmodified SDK, and plain MQTT that stays where it is put."""

import json
import logging
import ssl
import struct
import threading
import time

from azure.iot.device import IoTHubDeviceClient, Message

from .history import History
from .mqtt import Line, connect, publish
from .names import Way
from .rest import device_key, sas

logging.getLogger("azure.iot.device").setLevel(logging.CRITICAL)
logging.getLogger("paho").setLevel(logging.CRITICAL)

STUCK_SECONDS = 18.0
KEEP_ALIVE_SECONDS = 5


def quiet(problem, otherwise=threading.excepthook):
    """The SDK's own thread dies of some broken connections; what matters is whether its device comes back, and that is watched."""
    if "paho" not in str(problem.exc_traceback and problem.exc_traceback.tb_next and problem.exc_traceback.tb_next.tb_next.tb_frame.f_code.co_filename):
        otherwise(problem)


threading.excepthook = quiet


class SdkDevice:
    """Sends numbered telemetry, writes its reported properties and takes C2D messages, all through the unmodified SDK.

    The SDK connects again by itself; where it is led when its region does not answer is up to [`Way`]. A message without an acknowledgement is sent
    again under the same counter. When nothing is acknowledged for long, a watchdog begins with a new client, as a device's agent is restarted.
    """

    def __init__(self, world, hub, name, home, folder, period=0.1):
        self.hub, self.name, self.period = hub, name, period
        self.history = History(folder, f"{hub.name}.{name}")
        addresses = [region["address"] for region in world.regions]
        self.regions = {region["address"]: region["name"] for region in world.regions}
        self.way = Way(f"{hub.name}-{name}.{world.up['domain']}", addresses, home)
        self.text = f"HostName={hub.host};DeviceId={name};SharedAccessKey={device_key(name)};GatewayHostName={self.way.name}"
        with open(world.up["ca_file"], encoding="ascii") as file:
            self.authority = file.read()
        self.stopping = threading.Event()
        self.connection, self.counter, self.value = 0, 0, 0
        self.acks = []  # (sent, acknowledged) of telemetry
        self.threads = []
        self.began = time.monotonic()
        self.life, self.client, self.closed = 0, None, False
        self.begin()

    def begin(self):
        """A fresh client; threads of the one before end by themselves."""
        self.life += 1
        life, self.began = self.life, time.monotonic()
        client = IoTHubDeviceClient.create_from_connection_string(
            self.text, server_verification_cert=self.authority, keep_alive=KEEP_ALIVE_SECONDS, connection_retry_interval=1)
        client.on_connection_state_change = lambda: self.changed(client, life)
        client.on_background_exception = lambda error: self.history.info("background", why=repr(error)[:200])
        self.client = client

    @property
    def region(self):
        return self.regions[self.way.address]

    def connect(self):
        # First who takes messages, which also connects: the hub sends what waits for a session as soon as that is there.
        self.client.on_message_received = self.received
        self.client.connect()

    def changed(self, client, life):
        if client.connected:
            self.connection += 1
            self.way.reached()
            self.history.info("connected", region=self.region, connection=self.connection, life=life)
        elif not self.stopping.is_set():
            self.history.info("disconnected", region=self.region, connection=self.connection, life=life)

    def received(self, message):
        self.history.invoke("c2d-receive", hub=self.hub.name, device=self.name).ok(id=message.message_id, over="mqtt")

    def start(self):
        for work in (self.send_all, self.report_all):
            thread = threading.Thread(target=work, args=(self.life, self.client), daemon=True, name=f"{work.__name__} {self.name}")
            thread.start()
            self.threads.append(thread)

    def goes_on(self, life):
        return self.life == life and not self.stopping.is_set()

    def send_all(self, life, client):
        while self.goes_on(life):
            if self.send(client, self.counter):
                self.counter += 1
            self.stopping.wait(self.period if client.connected else 0.3)

    def send(self, client, counter):
        message = Message(json.dumps({"counter": counter}))
        message.message_id = f"{self.name}-{counter}"
        message.content_type, message.content_encoding = "application/json", "utf-8"
        op = self.history.invoke("telemetry", hub=self.hub.name, device=self.name, counter=counter, region=self.region, connection=self.connection)
        begun = time.monotonic()
        good = self.ask(op, lambda: client.send_message(message))
        if good:
            self.acks.append((begun, time.monotonic()))
        return good

    def report_all(self, life, client):
        while self.goes_on(life):
            self.value += 1
            value = self.value
            op = self.history.invoke("reported", hub=self.hub.name, device=self.name, value=value, region=self.region, connection=self.connection)
            self.ask(op, lambda value=value: client.patch_twin_reported_properties({"value": value}))
            self.stopping.wait(0.5)

    def ask(self, op, work):
        """Whatever the SDK raises: nobody knows whether it was done."""
        try:
            work()
        except Exception as error:  # pylint: disable=broad-except
            op.unknown(repr(error))
            return False
        op.ok(region=self.region, connection=self.connection)
        return True

    def look_after(self):
        """Called again and again by a thread of the scene."""
        last = max(self.began, self.acks[-1][1] if self.acks else 0.0)
        if self.stopping.is_set() or time.monotonic() - last < STUCK_SECONDS:
            return
        self.history.info("restarts", region=self.region)
        old = self.client
        self.way.elsewhere()
        self.counter += 1  # the one that is under way stays that of the old client
        self.begin()
        threading.Thread(target=self.end_quietly, args=(old,), daemon=True).start()
        threading.Thread(target=self.connect_quietly, daemon=True).start()
        self.start()

    def end_quietly(self, client):
        try:
            client.shutdown()
        except Exception as error:  # pylint: disable=broad-except
            self.history.info("ending failed", why=repr(error)[:200])

    def connect_quietly(self):
        """The SDK retries a lost connection by itself, but not the first one."""
        life = self.life
        while self.goes_on(life):
            try:
                self.connect()
                return
            except Exception as error:  # pylint: disable=broad-except
                self.history.info("connecting failed", why=repr(error)[:200])
                self.stopping.wait(1.0)

    def stop(self, patience=20):
        self.stopping.set()
        deadline = time.monotonic() + patience
        for thread in self.threads[-2:]:
            thread.join(max(0.1, deadline - time.monotonic()))

    def close(self):
        self.closed = True
        self.end_quietly(self.client)
        self.way.forget()


class PlainDevice:
    """One message at a time over plain MQTT, always through the same region's gateway, and on the same connection as long as that is open.

    It waits for its acknowledgement for a long time: a region that wakes from a pause is heard here first.
    """

    def __init__(self, world, hub, name, region, folder, period=0.1, patience=45.0):
        self.hub, self.name, self.at, self.period, self.patience = hub, name, region, period, patience
        self.history = History(folder, f"{hub.name}.{name}")
        self.tls = ssl.create_default_context(cafile=world.up["ca_file"])
        self.stopping = threading.Event()
        self.connection = 0
        self.acks = []
        self.thread = threading.Thread(target=self.run, daemon=True, name=f"plain {name}")

    def start(self):
        self.thread.start()

    def run(self):
        counter = 0
        while not self.stopping.is_set():
            try:
                with self.open() as line:
                    self.connection += 1
                    self.history.info("connected", region=self.at["name"], connection=self.connection)
                    while not self.stopping.is_set() and self.send(line, counter):
                        counter += 1
                        self.stopping.wait(self.period)
            except (OSError, ConnectionError):
                pass
            if self.connection:
                self.history.info("disconnected", region=self.at["name"], connection=self.connection)
            self.stopping.wait(0.5)

    def open(self):
        line = Line(self.at["address"], self.at["mqtt_port"], self.tls)
        resource = f"{self.hub.host}/devices/{self.name}"
        line.send(connect(self.name, f"{self.hub.host}/{self.name}/?api-version=2021-04-12", sas(resource, device_key(self.name))))
        answer = line.packet(5)
        if answer != (0x20, b"\0\0"):
            line.socket.close()
            raise ConnectionError(f"connecting was answered with {answer}")
        return line

    def send(self, line, counter):
        number = counter % 65535 + 1
        body = json.dumps({"counter": counter}).encode()
        op = self.history.invoke("telemetry", hub=self.hub.name, device=self.name, counter=counter, region=self.at["name"], connection=self.connection)
        begun = time.monotonic()
        try:
            line.socket.settimeout(self.patience)
            line.socket.sendall(publish(f"devices/{self.name}/messages/events/", body, number=number))
            answer = line.packet(self.patience)
        except OSError as why:
            answer = repr(why)
        if answer == (0x40, struct.pack(">H", number)):
            op.ok(region=self.at["name"], connection=self.connection)
            self.acks.append((begun, time.monotonic()))
            return True
        op.unknown(f"answered with {answer}")
        return False

    def look_after(self):
        pass

    def stop(self, patience=20):
        self.stopping.set()
        self.thread.join(patience)

    def close(self):
        pass
