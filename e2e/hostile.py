"""Bad input against the real binary: each request gets its documented answer, and nobody else notices.

Two well-behaved devices send all the time, one of them through the secondary region. Nothing that they were acknowledged may be
missing and nothing else may be in the stream; registry, twins and hubs stay as they were, byte for byte; the process lives on.
"Notes" are the data-plane and control-plane notes; the number after them is the section.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import socket
import ssl
import struct
import sys
import threading
import time
from urllib.parse import quote

from lib.report import Failed, main, none, require, say
from lib.rest import API, Management, Service, device_key, sas
from lib.world import World

GROUP, HUB, EXCLUDED, SINGLE = "hostile", "hostile-hub", "hostile-excluded", "hostile-single"
REGIONS = "westus2,westcentralus,eastus,westus,polandcentral"
CANARIES, ATTACKER, QUIET = ["canary-0", "canary-1"], "attacker", ["bystander", "disabled", "queued"]
# What a device's own traffic changes in its documents; everything else of them must stay.
VOLATILE = re.compile(r'"(connectionState|connectionStateUpdatedTime|lastActivityTime)":"[^"]*",?')
KIB = 1024
RANDOM_MQTT, RANDOM_HTTP, SLOW = 300, 200, 200
RSS_GROWTH_MAX = 100 * 1000 * 1000
SILENCE_SECONDS_MAX = 5
VIOLATIONS = []


class Group:
    """Counts what was tried under one heading and prints one line for it."""

    def __init__(self, name):
        self.name, self.count, self.begun = name, 0, time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            say(f"{self.name}: {self.count} as documented, {time.monotonic() - self.begun:.1f} s")

    def holds(self, what, fact, found):
        """Fails with the first violation; with `--all` every one is printed, and the scenario fails at its end."""
        if not fact and "--all" in sys.argv:
            VIOLATIONS.append(f"{self.name}: {what}: {found}")
            say(f"VIOLATED: {VIOLATIONS[-1]}")
            return
        require(fact, f"{self.name}: {what}: {found}")
        self.count += 1

    def same(self, what, found, wanted):
        self.holds(what, found == wanted, f"{found!r}, but {wanted!r} is documented")


# --- MQTT, byte by byte ---------------------------------------------------------------------------------------------------


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def packet(first, body=b""):
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        length += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def connect(client, user=None, password=None, name="MQTT", level=4, flags=0x02):
    body = text(name) + bytes([level, flags | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)]) + struct.pack(">H", 60)
    return packet(0x10, body + b"".join(text(part) for part in (client, user, password) if part is not None))


def publish(topic, payload=b"", qos=1, number=7):
    return packet(0x30 | qos << 1, text(topic) + (struct.pack(">H", number) if qos else b"") + payload)


def changed(token):
    """The token with another signature of the same form."""
    at = token.index("sig=") + 4
    return token[:at] + ("B" if token[at] == "A" else "A") + token[at + 1:]


def subscribe(*filters, number=9):
    return packet(0x82, struct.pack(">H", number) + b"".join(text(one) + b"\x01" for one in filters))


class Line:
    """One connection; `tls` is a context or none."""

    def __init__(self, address, port, tls=None):
        self.socket = socket.create_connection((address, port), timeout=SILENCE_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address)
        self.read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """The other side may have had enough before all is sent."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass
        return self

    def end(self):
        """No more from us; plain connections only."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return self

    def some(self, seconds=SILENCE_SECONDS_MAX):
        """What comes; empty at the end of the connection; `None` when nothing comes."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            return None
        except (ConnectionError, ssl.SSLError):
            return b""

    def rest(self, seconds=SILENCE_SECONDS_MAX):
        """Everything until the other side closes; `None` if it does not."""
        all_of_it, self.read = self.read, b""
        while True:
            piece = self.some(seconds)
            if piece is None:
                return None
            if not piece:
                return all_of_it
            all_of_it += piece

    def packet(self, seconds=SILENCE_SECONDS_MAX):
        """The next packet as (first byte, body); `None` at the end or when nothing comes."""
        while True:
            length, shift, at = 0, 0, 1
            while at < len(self.read):
                length |= (self.read[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not self.read[at - 1] & 128:
                    if len(self.read) >= at + length:
                        found = (self.read[0], self.read[at:at + length])
                        self.read = self.read[at + length:]
                        return found
                    break
            piece = self.some(seconds)
            if not piece:
                return None
            self.read += piece


class Canary:
    """A device that behaves, over TLS, and wants its acknowledgement for every message."""

    def __init__(self, hostile, name, region):
        self.name, self.hostile = name, hostile
        self.acknowledged, self.gap, self.problem = [], 0.0, None
        self.stopping = threading.Event()
        self.line = Line(region["address"], region["mqtt_port"], hostile.tls)
        self.line.send(connect(name, hostile.user(name), hostile.token(name)))
        require(self.line.packet() == (0x20, b"\0\0"), f"{name} cannot connect")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        counter, before = 0, time.monotonic()
        while not self.stopping.is_set():
            body, number = json.dumps({"counter": counter}), counter % 65535 + 1
            try:
                self.line.socket.sendall(publish(f"devices/{self.name}/messages/events/", body.encode(), number=number))
                answer = self.line.packet()
            except OSError as why:
                answer = repr(why)
            if answer != (0x40, struct.pack(">H", number)):
                self.problem = f"message {counter} was answered with {answer} after {time.monotonic() - before:.1f} s"
                return
            now = time.monotonic()
            self.gap, before = max(self.gap, now - before), now
            self.acknowledged.append(body)
            counter += 1
            self.stopping.wait(0.02)

    def check(self):
        require(self.problem is None, f"{self.name}, which did nothing wrong: {self.problem}")

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        self.check()


# --- HTTP, byte by byte where needed --------------------------------------------------------------------------------------


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


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024


# --- MQTT -----------------------------------------------------------------------------------------------------------------


def mqtt_logins(hub):
    """CONNACK codes (notes 3.1): 5 identity, 4 malformed credentials, 2 client id, 1 protocol, 3 not the client's fault."""
    good = hub.token(ATTACKER)
    user = hub.user(ATTACKER)
    cases = [
        ("a good login", 0, connect(ATTACKER, user, good)),
        ("a token signed with another key", 5, connect(ATTACKER, user, hub.token(ATTACKER, "another key"))),
        ("another device's key", 5, connect(ATTACKER, user, hub.token(ATTACKER, "bystander"))),
        ("another device's token", 5, connect(ATTACKER, user, hub.token("bystander"))),
        ("an expired token", 5, connect(ATTACKER, user, hub.token(ATTACKER, seconds=-400))),
        ("a changed signature", 5, connect(ATTACKER, user, changed(good))),
        ("an unknown device", 5, connect("nobody", hub.user("nobody"), hub.token("nobody"))),
        ("a disabled device", 5, connect("disabled", hub.user("disabled"), hub.token("disabled"))),
        ("a policy without DeviceConnect", 5, connect(ATTACKER, user, hub.policy("service"))),
        ("an unknown policy", 5, connect(ATTACKER, user, hub.policy("nobody", hub.keys["device"]))),
        ("a module (not served: coverage.md)", 5, connect(f"{ATTACKER}/m", f"{hub.host}/{ATTACKER}/m/", good)),
        ("no password (certificates are not served: coverage.md)", 5, connect(ATTACKER, user)),
        ("an empty password", 4, connect(ATTACKER, user, "")),
        ("a password that is no token", 4, connect(ATTACKER, user, "secret")),
        ("a password that is not UTF-8", 4, connect(ATTACKER, user, b"\xff\xfe" * 20)),
        ("an expiry beyond all numbers", 4, connect(ATTACKER, user, re.sub("se=[0-9]+", "se=" + "9" * 40, good))),
        ("neither user name nor password", 4, connect(ATTACKER)),
        ("a user name without a device", 4, connect(ATTACKER, hub.host, good)),
        ("a client id that is not the user name's", 2, connect("bystander", user, good)),
        ("a client id that no device may have", 2, connect("a b", f"{hub.host}/a b/", good)),
        ("MQTT 3.1", 1, connect(ATTACKER, user, good, name="MQIsdp", level=3)),
        ("protocol level 6", 1, connect(ATTACKER, user, good, level=6)),
        ("protocol level 255", 1, connect(ATTACKER, user, good, level=255)),
        # Not 5: a region that does not know the hub yet must not end a client for good (notes 3.4b).
        ("an unknown hub", 3, connect(ATTACKER, f"no-such-hub.{hub.world.up['domain']}/{ATTACKER}/", sas(f"no-such-hub.{hub.world.up['domain']}/devices/{ATTACKER}", device_key(ATTACKER)))),
    ]
    # The connection ends without an answer (MQTT 3.1.1 sections 3.1.2 and 4.8; a wrong name may also get code 1).
    silent = [
        ("another protocol's name", connect(ATTACKER, user, good, name="HTTP")),
        ("the reserved flag", connect(ATTACKER, user, good, flags=0x03)),
        ("a password without a user name", connect(ATTACKER, None, good)),
        ("will QoS 3", connect(ATTACKER, user, good, flags=0x1e)),
        ("a client id that is not UTF-8", connect(b"\xff\xff", user, good)),
        ("a client id with U+0000", connect("a\0b", user, good)),
        ("PUBLISH before CONNECT", publish(f"devices/{ATTACKER}/messages/events/", b"x")),
        ("SUBSCRIBE before CONNECT", subscribe("$iothub/twin/res/#")),
        ("PINGREQ before CONNECT", packet(0xc0)),
        ("CONNECT of 70 KiB", connect(ATTACKER, user, good + "A" * (60 * KIB), flags=0x02) + b"A" * 10 * KIB),
    ]
    with Group("MQTT logins") as group:
        for what, code, data in cases:
            with hub.plain().send(data) as line:
                answer = line.packet()
                group.holds(what, answer is not None and answer[0] == 0x20 and answer[1][1] == code, f"answered with {answer}, but CONNACK {code} is documented")
                if code:
                    group.same(f"{what}: the connection ends", line.rest(), b"")
        for what, data in silent:
            with hub.plain().send(data) as line:
                answer = line.rest()
                group.holds(what, answer is not None and (not answer or answer[:1] == b"\x20" and answer[3] != 0), f"answered with {answer!r}, but the connection should end")


def mqtt_truncated(hub):
    """A packet cut at any length gets no answer."""
    whole = connect(ATTACKER, hub.user(ATTACKER), hub.token(ATTACKER))
    message = publish(f"devices/{ATTACKER}/messages/events/%24.ct=text%2Fplain&a=b", b"cut short")
    with Group("MQTT truncated packets") as group:
        for length in range(len(whole)):
            with hub.plain().send(whole[:length]).end() as line:
                group.same(f"CONNECT cut after {length} of {len(whole)} bytes", line.rest(), b"")
        for length in range(len(message)):
            with hub.attacker().send(message[:length]).end() as line:
                group.same(f"PUBLISH cut after {length} of {len(message)} bytes", line.rest(), b"")
        for length in range(0, len(whole), 40):
            with Line(hub.near["address"], hub.near["mqtt_port"], hub.tls).send(whole[:length]):
                group.count += 1


def mqtt_random(hub):
    chance = hub.chance
    with Group("MQTT random bytes") as group:
        for number in range(RANDOM_MQTT):
            data = chance.randbytes(chance.randrange(1, 2048))
            if number % 3 == 0:  # a first byte that means CONNECT, so that more of it is read
                data = b"\x10" + data
            with hub.plain().send(data).end() as line:
                answer = line.rest()
                group.holds(f"bytes {number}", answer is not None and (not answer or answer[:1] == b"\x20" and answer[3] != 0), f"answered with {answer!r}")
        good = connect(ATTACKER, hub.user(ATTACKER), hub.token(ATTACKER, "another key"))
        for number in range(RANDOM_MQTT // 3):
            data = bytearray(good)
            for _ in range(chance.randrange(1, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with hub.plain().send(bytes(data)).end() as line:
                answer = line.rest()
                group.holds(f"changed CONNECT {number}", answer is not None and (not answer or answer[:1] == b"\x20" and answer[3] != 0), f"answered with {answer!r}")


def mqtt_sessions(hub):
    """What an authenticated device must not do ends its connection (notes 3.2, 3.4) or gets SUBACK 0x80."""
    own = f"devices/{ATTACKER}/messages/events/"
    ended = [
        ("a remaining length of 256 MiB", b"\x32\xff\xff\xff\x7f"),
        ("a remaining length of five bytes", b"\x32\xff\xff\xff\xff\x01"),
        ("QoS 2", publish(own, b"x", qos=2)),
        ("QoS 3", publish(own, b"x", qos=3)),
        ("packet id 0", publish(own, b"x", number=0)),
        ("DUP at QoS 0", packet(0x38, text(own) + b"x")),
        ("a payload of more than 256 KiB", publish(own, b"x" * (256 * KIB + 1))),
        ("a payload of 400 KiB", publish(own, b"x" * (400 * KIB))),
        ("256 KiB with properties", publish(own + "a=" + "b" * 1000, b"x" * (256 * KIB - 500))),
        ("the wildcard # in a topic", publish(own + "#", b"x")),
        ("the wildcard + in a topic", publish("devices/+/messages/events/", b"x")),
        ("a topic of # alone", publish("#", b"x")),
        ("another device's topic", publish("devices/bystander/messages/events/", b"x")),
        ("an id that begins like ours", publish(f"devices/{ATTACKER}2/messages/events/", b"x")),
        ("our id in another case", publish(f"devices/{ATTACKER.upper()}/messages/events/", b"x")),
        ("a module's topic", publish(f"devices/{ATTACKER}/modules/m/messages/events/", b"x")),
        ("a topic of one's own", publish("my/topic", b"x")),
        ("an empty topic", publish("", b"x")),
        ("a topic that is not UTF-8", publish(b"devices/\xff\xfe", b"x")),
        ("a topic with U+0000", publish(own + "\0", b"x")),
        ("properties that are badly encoded", publish(own + "a=%zz", b"x")),
        ("an unknown $iothub topic", publish("$iothub/reboot/?$rid=1", b"x")),
        ("a twin request without $rid", publish("$iothub/twin/GET/", b"")),
        ("a twin patch of desired properties", publish("$iothub/twin/PATCH/properties/desired/?$rid=1", b"{}")),
        ("a method answer without a status", publish("$iothub/methods/res/x/?$rid=1", b"{}")),
        ("SUBSCRIBE to #", subscribe("#")),
        ("SUBSCRIBE to a malformed filter", subscribe("a/#/b")),
        ("SUBSCRIBE to nothing", packet(0x82, b"\0\x09")),
        ("SUBSCRIBE to an empty filter", subscribe("")),
        ("SUBSCRIBE with flags 0", packet(0x80, b"\0\x09" + text("$iothub/twin/res/#") + b"\x01")),
        ("SUBSCRIBE at QoS 3", packet(0x82, b"\0\x09" + text("$iothub/twin/res/#") + b"\x03")),
        ("1000 filters", subscribe(*(f"f/{number}" for number in range(1000)))),
        ("a second CONNECT", connect(ATTACKER, hub.user(ATTACKER), hub.token(ATTACKER))),
        ("CONNACK", packet(0x20, b"\0\0")),
        ("SUBACK", packet(0x90, b"\0\x01\x01")),
        ("PUBREL", packet(0x62, b"\0\x01")),
        ("PINGREQ with a body", packet(0xc0, b"x")),
        ("packet type 0", packet(0x00)),
        ("packet type 15", packet(0xf0)),
    ]
    refused = ["devices/bystander/messages/devicebound/#", "devices/+/messages/devicebound/#", "my/topic", "$SYS/broker", "devices/#",
               f"devices/{ATTACKER}/messages/events/#", "$iothub/credentials/res/#", f"devices/{ATTACKER}/modules/m/#"]
    with Group("MQTT sessions") as group:
        for what, data in ended:
            with hub.attacker().send(data) as line:
                group.same(what, line.rest(), b"")
        for name in refused:
            with hub.attacker().send(subscribe(name)) as line:
                answer = line.packet()
                group.holds(f"SUBSCRIBE to {name}", answer in (None, (0x90, b"\0\x09\x80")), f"answered with {answer}, but 0x80 or the end is documented")
        with hub.attacker() as line:
            hub.accepted(line, "the attacker's own message")
            group.count += 1


def mqtt_twins(hub):
    """Patches that break a rule are answered on the reply topic with status and errorCode (notes 3.4, 12.1)."""
    cases = [
        ("33 KiB", 413, {f"key{number}": "v" * 1000 for number in range(34)}, ""),
        ("250 KiB", 413, {f"key{number}": "v" * 1000 for number in range(250)}, ""),
        ("a text of 4 KiB + 1", 400, {"a": "v" * (4 * KIB + 1)}, ""),
        ("a key of 1 KiB + 1", 400, {"k" * (KIB + 1): 1}, ""),
        ("11 levels below the root", 400, b'{"a":' * 12 + b"1" + b"}" * 12, ""),
        ("40000 levels", 400, b'{"a":' * 40000 + b"1" + b"}" * 40000, ""),
        ("50000 brackets", 400, b'{"a":' + b"[" * 50000 + b"]" * 50000 + b"}", ""),
        ("brackets without end", 400, b"[" * 100000, ""),
        ("no JSON", 400, b"nonsense", ""),
        ("nothing", 400, b"", ""),
        ("truncated JSON", 400, b'{"a":{"b":', ""),
        ("not UTF-8", 400, b'{"a":"\xff\xfe"}', ""),
        ("half a surrogate pair", 400, b'{"a":"\\ud800"}', ""),
        ("an array", 400, [1, 2], ""),
        ("a number", 400, 5, ""),
        ("a key with a dot", 400, {"a.b": 1}, ""),
        ("a key with $", 400, {"$metadata2": 1}, ""),
        ("a key with a blank", 400, {"a b": 1}, ""),
        ("a key with a control character", 400, {"a\x01": 1}, ""),
        ("an integer that is too large", 400, {"a": 4503599627370496}, ""),
        ("an integer that is too small", 400, {"a": -4503599627370497}, ""),
        ("a number beyond all numbers", 400, b'{"a":1e999}', ""),
        ("another version than there is", 412, {"a": 1}, "&$version=999"),
    ]
    with Group("MQTT twin patches") as group, hub.attacker() as line:
        line.send(subscribe("$iothub/twin/res/#"))
        group.same("SUBSCRIBE to twin answers", line.packet(), (0x90, b"\0\x09\x01"))
        for number, (what, status, body, more) in enumerate(cases):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            found, body = twin_request(line, f"PATCH/properties/reported/?$rid=r{number}{more}", data, f"r{number}")
            group.same(what, found, status)
            error = json.loads(body or b"{}")
            group.holds(what, isinstance(error.get("errorCode"), int) and error["errorCode"] // 1000 == status, f"the body is {body[:300]!r}")
        status, body = twin_request(line, "GET/?$rid=last", b"", "last")
        group.same("reading the twin afterwards", (status, json.loads(body)["reported"]), (200, {"$version": 1}))


def twin_request(line, topic, body, rid):
    """The status and body of the answer that names `rid`; its PUBACK may come before or after."""
    line.send(publish(f"$iothub/twin/{topic}", body))
    found = acknowledged = None
    while found is None or acknowledged is None:
        answer = line.packet()
        require(answer is not None, f"MQTT twin patches: {topic} with {body[:60]!r} has no answer")
        if answer[0] == 0x40:
            acknowledged = True
            continue
        length = struct.unpack(">H", answer[1][:2])[0]
        name, rest = answer[1][2:2 + length].decode(), answer[1][2 + length:]
        status = re.fullmatch(r"\$iothub/twin/res/(\d+)/\?\$rid=" + rid + r"(&\$version=\d+)?", name)
        require(status, f"MQTT twin patches: the answer's topic is {name}")
        found = int(status[1]), rest[2:] if answer[0] & 6 else rest
    return found


def slow(hub):
    """Half requests, then silence; their ends (30 s) are not waited for, only that others are served."""
    half = connect(ATTACKER, hub.user(ATTACKER), hub.token(ATTACKER))[:100]
    lines = []
    with Group("slow clients") as group:
        try:
            for number in range(SLOW):
                lines.append(hub.plain().send(half) if number % 2 else Line(hub.near["address"], hub.near["mqtt_port"], hub.tls if number % 4 else None).send(half))
            for number in range(SLOW // 2):
                port = hub.near["https_port" if number % 2 else "management_port"]
                lines.append(Line(hub.near["address"], port, hub.tls).send(b"GET /devices HTTP/1.1\r\nHost: x\r\nX-Slow:"))
                lines.append(Line(hub.near["address"], port).send(b"\x16\x03\x01\x02\x00\x01"))
            for _ in range(10):
                begun = time.monotonic()
                with hub.attacker() as line:
                    hub.accepted(line, "while others are slow")
                hub.service.call("GET", "/devices/bystander")
                hub.management.call("GET", hub.management.group_path(GROUP))
                took = time.monotonic() - begun
                group.holds("others are served", took < 3, f"a connection, a message and two requests took {took:.1f} s")
            group.count += len(lines)
        finally:
            for line in lines:
                line.socket.close()


# --- HTTPS ----------------------------------------------------------------------------------------------------------------


def https_auth(hub):
    """401003: not proven who it is; 401002: proven, but not entitled (notes 2.1, 9); 403012: disabled."""
    own = f"/devices/{ATTACKER}/messages"
    device_routes = [("POST", f"{own}/events"), ("GET", f"{own}/devicebound"), ("DELETE", f"{own}/devicebound/x")]
    service_routes = [("GET", "/devices/bystander"), ("PUT", "/devices/new"), ("DELETE", "/devices/bystander"), ("GET", "/devices"), ("POST", "/devices"),
                      ("GET", "/twins/bystander"), ("PATCH", "/twins/bystander"), ("PUT", "/twins/bystander"), ("GET", "/statistics/devices"),
                      ("GET", "/statistics/service"), ("DELETE", "/devices/bystander/commands"), ("GET", "/messages/serviceBound/feedback"),
                      ("POST", "/devices/queued/messages/deviceBound"), ("GET", "/messages/events/partitions"), ("GET", "/messages/events/partitions/0"),
                      ("GET", "/messages/events/consumerGroups/$Default/partitions/0/offset")]
    bad = [None, "", "x", "Bearer abc", "SharedAccessSignature", "SharedAccessSignature sr=&sig=&se=", "SharedAccessSignature " + "A" * 5000,
           "SharedAccessSignature sr=a&sig=%ff&se=-1", "SharedAccessSignature sr=a&sr=b&sig=x&se=99999999999999999999"]
    own_bad = [hub.token(ATTACKER, "another key"), hub.token(ATTACKER, seconds=-400), hub.policy("nobody", hub.keys["device"]),
               hub.policy("device", hub.keys["service"]), hub.policy("device", seconds=-400)]
    service_bad = [hub.policy(key=hub.keys["device"]), hub.policy(seconds=-400), hub.policy("nobody", hub.keys["iothubowner"]), hub.policy("IOTHUBOWNER2", hub.keys["iothubowner"]),
                   hub.token("bystander"), hub.policy().replace("se=", "se=1")]
    with Group("HTTPS authentication") as group:
        for routes, tokens in ((device_routes, bad + own_bad), (service_routes, bad + service_bad)):
            for method, path in routes:
                for token in tokens:
                    headers = {} if token is None else {"Authorization": token}
                    hub.device_ask(group, f"{method} {path} with {(token or 'no token')[:60]!r}", 401, "IotHubUnauthorized", method, path, headers, b"")
        for method, path, token in [
            ("POST", f"{own}/events", hub.token("bystander")),
            ("POST", f"{own}/events", hub.policy("service")),
            ("GET", f"{own}/devicebound", hub.policy("registryRead")),
            ("POST", f"{own}/events", hub.policy("device", resource=f"{hub.host}/devices/bystander")),
            ("GET", "/devices/bystander", hub.policy("device")),
            ("GET", "/devices", hub.policy("service")),
            ("PUT", "/devices/new", hub.policy("registryRead")),
            ("DELETE", "/devices/bystander", hub.policy("registryRead")),
            ("POST", "/devices", hub.policy("registryRead")),
            ("PATCH", "/twins/bystander", hub.policy("device")),
            ("GET", "/messages/events/partitions/0", hub.policy("registryRead")),
            ("POST", "/devices/queued/messages/deviceBound", hub.policy("device")),
            ("GET", "/statistics/devices", hub.policy("service")),
            ("GET", "/twins/bystander", hub.policy(resource=f"{hub.host}/devices")),
            ("GET", "/devices/bystander", hub.policy(resource=f"{EXCLUDED}.{hub.world.up['domain']}")),
        ]:
            hub.device_ask(group, f"{method} {path} with the rights of another", 401, "IotHubUnauthorizedAccess", method, path, {"Authorization": token}, b"")
        hub.device_ask(group, "a disabled device", 403, "DeviceDisabled", "POST", "/devices/disabled/messages/events", {"Authorization": hub.token("disabled")}, b"x")
        # A stranger does not learn which devices exist: not 404.
        hub.device_ask(group, "an unknown device", 401, "IotHubUnauthorized", "POST", "/devices/nobody/messages/events", {"Authorization": hub.token("nobody")}, b"x")


def https_device(hub):
    own, good = f"/devices/{ATTACKER}/messages", {"Authorization": hub.token(ATTACKER)}
    batch = {**good, "Content-Type": "application/vnd.microsoft.iothub.json"}
    events = f"{own}/events"
    cases = [
        ("256 KiB + 1", 413, "MessageTooLarge", "POST", events, good, b"x" * (256 * KIB + 1)),
        ("3 MiB", 413, "MessageTooLarge", "POST", events, good, b"x" * (3 * KIB * KIB)),
        # Answered after 5 s only: the server first reads what a refused client is still sending, so that the answer gets through.
        ("an announced length of 1 TiB", 413, "MessageTooLarge", "POST", events, {**good, "Content-Length": str(1 << 40)}, b"x"),
        ("a batch of 2 MiB", 413, "MessageTooLarge", "POST", events, batch, b"x" * (2 * KIB * KIB)),
        ("a batch of more than 256 KiB", 413, "MessageTooLarge", "POST", events, batch, json.dumps([{"body": "x" * 1000, "base64Encoded": False}] * 300).encode()),
        ("a batch that is no array", 400, None, "POST", events, batch, b'{"body":"eA=="}'),
        ("a truncated batch", 400, None, "POST", events, batch, b'[{"body":"eA=="}'),
        ("a batch that is not UTF-8", 400, None, "POST", events, batch, b'[{"body":"\xff"}]'),
        ("a batch that is no base64", 400, None, "POST", events, batch, b'[{"body":"%%%"}]'),
        ("a deep batch", 400, None, "POST", events, batch, b"[" * 100000),
        ("an empty batch", 400, "NullMessage", "POST", events, batch, b"[]"),
        ("a header that is not UTF-8", 400, None, "POST", events, {**good, "iothub-app-a": b"\xff\xfe"}, b"x"),
        ("a lock that is none", 412, "DeviceMessageLockLost", "DELETE", f"{own}/devicebound/no-such-lock", good, None),
        ("abandoning a lock that is none", 412, "DeviceMessageLockLost", "POST", f"{own}/devicebound/no-such-lock/abandon", good, b""),
        ("a device id that is badly encoded", 400, "ArgumentInvalid", "POST", "/devices/%zz/messages/events", good, b"x"),
        ("a device id that is not UTF-8", 400, "ArgumentInvalid", "POST", "/devices/%ff/messages/events", good, b"x"),
        ("a device id with a slash", 400, "ArgumentInvalid", "POST", "/devices/a%2Fb/messages/events", good, b"x"),
        ("a wrong method", 405, "MethodNotAllowed", "GET", events, good, None),
        ("file upload (not served: coverage.md)", 404, "FeatureNotSupported", "POST", f"/devices/{ATTACKER}/files", good, b"{}"),
        ("a lock time that is no number", 400, "ArgumentInvalid", "GET", f"{own}/devicebound?iothub-messagelocktimeout=x", good, None),
    ]
    with Group("HTTPS device API") as group:
        for what, status, code, *request in cases:
            refused(hub, group, what, status, code, request)
        answer = hub.ask("POST", events, good, b"over HTTPS")
        group.same("a good message", (answer.status, answer.text), (204, ""))
        hub.sent.setdefault(ATTACKER, []).append("over HTTPS")


def refused(hub, group, what, status, code, request):
    """Any name that goes with the status where the notes leave the choice (`code` is none)."""
    if code is None:
        answer = hub.ask(*request)
        group.holds(what, answer.status == status and answer.headers.get("iothub-errorcode"), f"{answer!r}, but {status} with a name is documented")
    else:
        hub.device_ask(group, what, status, code, *request)


def https_service(hub):
    good = {"Authorization": hub.policy()}
    stale = {**good, "If-Match": '"AAAAAAAAAP8="'}
    entry = {"id": "bulk", "importMode": "create"}
    twin, bulk, c2d = "/twins/bystander", "/devices", "/devices/queued/messages/deviceBound"
    late, past = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds)) for seconds in (3 * 86400, -3600))

    def sent(value):
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    cases = [
        ("a body of 2 MiB", 413, "MessageTooLarge", "PUT", "/devices/new", good, b" " * (2 * KIB * KIB)),
        ("a deep body", 400, "IotHubFormatError", "PUT", "/devices/new", good, b'{"a":' * 50000),
        ("a truncated body", 400, None, "PUT", "/devices/new", good, b'{"deviceId":"new"'),
        ("a body that is not UTF-8", 400, None, "PUT", "/devices/new", good, b'{"deviceId":"new","statusReason":"\xff"}'),
        ("an empty body", 400, None, "PUT", "/devices/new", good, b""),
        ("a body that is an array", 400, None, "PUT", "/devices/new", good, b"[]"),
        ("a body of another device", 400, "ArgumentInvalid", "PUT", "/devices/new", good, b'{"deviceId":"other"}'),
        ("a status that is none", 400, None, "PUT", "/devices/new", good, b'{"deviceId":"new","status":"asleep"}'),
        ("a key that is too short", 400, "ArgumentInvalid", "PUT", "/devices/new", good,
         sent({"deviceId": "new", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "eA==", "secondaryKey": "eA=="}}})),
        ("a thumbprint that is none", 400, "ArgumentInvalid", "PUT", "/devices/new", good,
         sent({"deviceId": "new", "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "zz"}}})),
        ("a device that exists", 409, "DeviceAlreadyExists", "PUT", "/devices/bystander", good, b'{"deviceId":"bystander"}'),
        ("a stale etag in PUT", 412, "PreconditionFailed", "PUT", "/devices/bystander", stale, b'{"deviceId":"bystander"}'),
        ("a stale etag in DELETE", 412, "PreconditionFailed", "DELETE", "/devices/bystander", stale, None),
        ("an update of nobody", 404, "DeviceNotFound", "PUT", "/devices/nobody", stale, b'{"deviceId":"nobody"}'),
        ("reading nobody", 404, "DeviceNotFound", "GET", "/devices/nobody", good, None),
        ("an id of 129 characters", 400, "ArgumentInvalid", "PUT", "/devices/" + "d" * 129, good, b"{}"),
        ("an id of 40000 characters", 400, "ArgumentInvalid", "GET", "/devices/" + "d" * 40000, good, None),
        ("an id with a blank", 400, "ArgumentInvalid", "PUT", "/devices/a%20b", good, b"{}"),
        ("an id with a slash", 400, "ArgumentInvalid", "PUT", "/devices/a%2Fb", good, b"{}"),
        ("an id with U+0000", 400, "ArgumentInvalid", "PUT", "/devices/a%00b", good, b"{}"),
        ("an id with ü", 400, "ArgumentInvalid", "PUT", "/devices/" + quote("ü"), good, b"{}"),
        ("an id that is badly encoded", 400, "ArgumentInvalid", "GET", "/devices/%", good, None),
        ("top=0", 400, "ArgumentInvalid", "GET", "/devices?top=0", good, None),
        ("top=1001", 400, "ArgumentInvalid", "GET", "/devices?top=1001", good, None),
        ("a continuation that is none", 400, "ArgumentInvalid", "GET", "/devices", {**good, "x-ms-continuation": "!"}, None),
        ("101 entries", 400, "ArgumentInvalid", "POST", bulk, good, sent([{**entry, "id": f"bulk-{number}"} for number in range(101)])),
        ("no entries", 400, "ArgumentInvalid", "POST", bulk, good, b"[]"),
        ("the same id twice", 400, "DeviceDefinedMultipleTimes", "POST", bulk, good, sent([entry, {**entry, "id": "else"}, entry])),
        ("a bulk body that is no array", 400, "IotHubFormatError", "POST", bulk, good, b"{}"),
        ("a bulk body of numbers", 400, "IotHubFormatError", "POST", bulk, good, b"[1,2]"),
        ("a deep bulk body", 400, "IotHubFormatError", "POST", bulk, good, b'[{"id":"bulk","tags":' + b'{"a":' * 10000),
        ("a twin that is too deep", 400, "ArgumentInvalid", "PATCH", twin, good, b'{"properties":{"desired":' + b'{"a":' * 12 + b"1" + b"}" * 14),
        ("a twin that is far too deep", 400, "IotHubFormatError", "PATCH", twin, good, b'{"tags":' + b'{"a":' * 100000),
        ("tags of 9 KiB", 413, "MessageTooLarge", "PATCH", twin, good, sent({"tags": {f"t{number}": "v" * 1000 for number in range(9)}})),
        ("desired properties of 33 KiB", 413, "MessageTooLarge", "PUT", twin, good, sent({"properties": {"desired": {f"p{number}": "v" * 1000 for number in range(34)}}})),
        ("a stale twin etag", 412, "PreconditionFailed", "PATCH", twin, stale, b'{"tags":{"a":1}}'),
        ("a stale twin etag in PUT", 412, "PreconditionFailed", "PUT", twin, stale, b'{"tags":{"a":1}}'),
        ("a twin patch that is truncated", 400, "ArgumentInvalid", "PATCH", twin, good, b'{"tags":{'),
        ("a twin patch that is not UTF-8", 400, "ArgumentInvalid", "PATCH", twin, good, b'{"tags":{"a":"\xff"}}'),
        ("tags that are a number", 400, "ArgumentInvalid", "PATCH", twin, good, b'{"tags":5}'),
        ("nobody's twin", 404, "DeviceNotFound", "GET", "/twins/nobody", good, None),
        ("C2D of 64 KiB + 1", 413, "MessageTooLarge", "POST", c2d, good, b"x" * (64 * KIB + 1)),
        ("C2D with 20 KiB of properties", 413, "MessageTooLarge", "POST", c2d, {**good, **{f"iothub-app-{number}": "v" * 2000 for number in range(10)}}, b"x"),
        ("C2D that expired", 403, "InvalidMessageExpiryTime", "POST", c2d, {**good, "iothub-expiry": past}, b"x"),
        ("C2D that lives for three days", 403, "InvalidMessageExpiryTime", "POST", c2d, {**good, "iothub-expiry": late}, b"x"),
        ("C2D with an expiry that is no time", 400, "ArgumentInvalid", "POST", c2d, {**good, "iothub-expiry": "soon"}, b"x"),
        ("C2D with an unknown ack", 400, "ArgumentInvalid", "POST", c2d, {**good, "iothub-ack": "maybe"}, b"x"),
        ("C2D with a message id of 129 characters", 400, "ArgumentInvalid", "POST", c2d, {**good, "iothub-messageid": "m" * 129}, b"x"),
        ("C2D for nobody", 404, "DeviceNotFound", "POST", "/devices/nobody/messages/deviceBound", good, b"x"),
        # 404006, though under another name than AmqpAddressNotFound: reading events over HTTPS is a route of our own.
        ("an unknown consumer group", 404, "ConsumerGroupNotFound", "GET", "/messages/events/partitions/0?consumerGroup=nobody", good, None),
        ("an offset of an unknown group", 404, "ConsumerGroupNotFound", "GET", "/messages/events/consumerGroups/nobody/partitions/0/offset", good, None),
        ("a partition that there is not", 400, "ArgumentInvalid", "GET", "/messages/events/partitions/4", good, None),
        ("a partition that is no number", 400, "ArgumentInvalid", "GET", "/messages/events/partitions/-1", good, None),
        ("a start that is none", 400, "ArgumentInvalid", "GET", "/messages/events/partitions/0?from=yesterday", good, None),
        ("max=1001", 400, "ArgumentInvalid", "GET", "/messages/events/partitions/0?max=1001", good, None),
        ("an offset that is no JSON", 400, None, "PUT", "/messages/events/consumerGroups/$Default/partitions/0/offset", good, b"nonsense"),
        ("a feedback lock that is none", 412, "DeviceMessageLockLost", "DELETE", "/messages/serviceBound/feedback/no-such-lock", good, None),
        ("an unknown route", 404, "FeatureNotSupported", "GET", "/no/such/route", good, None),
        ("the root", 404, "FeatureNotSupported", "GET", "/", good, None),
        ("a path of 1000 segments", 404, "FeatureNotSupported", "GET", "/a" * 1000, good, None),
        ("queries (not served: coverage.md)", 404, "FeatureNotSupported", "POST", "/devices/query", good, b"{}"),
        ("an unknown hub", 404, "IotHubNotFound", "GET", "/devices", {**good, "Host": f"no-such-hub.{hub.world.up['domain']}"}, None),
        *((f"{method} {path}", 405, "MethodNotAllowed", method, path, good, b"") for method, path in (
            ("PATCH", "/devices/bystander"), ("DELETE", "/devices"), ("DELETE", "/twins/bystander"), ("POST", "/statistics/devices"),
            ("PUT", "/messages/events/partitions"), ("BREW", "/devices"), ("TRACE", "/devices/bystander"))),
    ]
    with Group("HTTPS service API") as group:
        for what, status, code, *request in cases:
            refused(hub, group, what, status, code, request)
        bulk_per_entry(hub, group, good)
        queue_depth(hub, group, good)
        huge_headers(hub, group)


def bulk_per_entry(hub, group, good):
    """Entries that fail are named one by one, 400 (notes 5.4); here none succeeds."""
    entries = [{"id": "bystander", "importMode": "create"}, {"id": "a b", "importMode": "create"}, {"importMode": "create"}, {"id": "nobody", "importMode": "update"},
               {"id": "odd", "importMode": "explode"}, {"id": "attacker", "moduleId": "m", "importMode": "create"}]
    answer = hub.ask("POST", "/devices", good, json.dumps(entries).encode())
    body = answer_json(answer)
    group.holds("entries that all fail", answer.status == 400 and body.get("isSuccessful") is False and len(body["errors"]) == len(entries), repr(answer))


def queue_depth(hub, group, good):
    """50 messages wait for a device, the next is refused with 403004 (notes 10.1)."""
    path = "/devices/queued/messages/deviceBound"
    for number in range(50):
        answer = hub.ask("POST", path, good, b"waits")
        group.same(f"C2D message {number + 1}", answer.status, 201)
    for _ in range(3):
        hub.device_ask(group, "C2D message 51", 403, "DeviceMaximumQueueDepthExceeded", "POST", path, good, b"one too many")
    answer = hub.ask("DELETE", "/devices/queued/commands", good)
    group.same("purging them", (answer.status, answer_json(answer).get("totalMessagesPurged")), (200, 50))


def huge_headers(hub, group):
    """Heads beyond 64 KiB or 100 lines: 4xx or the end of the connection, in HTTP's own form."""
    for what, head in [
        ("a header of 200 KiB", b"X-Large: " + b"a" * (200 * KIB)),
        ("2000 headers", b"\r\n".join(b"X-%d: a" % number for number in range(2000))),
        ("a path of 200 KiB", None),
        ("a header without a colon", b"nonsense"),
        ("two lengths", b"Content-Length: 1\r\nContent-Length: 2"),
        ("a length that is negative", b"Content-Length: -1"),
        ("a length and chunks", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz"),
    ]:
        data = b"GET /" + b"a" * (200 * KIB) + b" HTTP/1.1\r\n\r\n" if head is None else b"POST /devices HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n\r\n"
        for port in ("https_port", "management_port"):
            with Line(hub.near["address"], hub.near[port], hub.tls).send(data) as line:
                answer = line.some()
                group.holds(f"{what} ({port})", answer == b"" or answer is not None and re.match(rb"HTTP/1\.1 (4|501|505)", answer), f"answered with {answer and answer[:200]!r}")


def random_requests(hub):
    """Random and changed requests: 2xx, 4xx or the end, never 5xx but 501 and 505."""
    chance = hub.chance
    management = f"Bearer {hub.management.token}"
    with Group("HTTPS random bytes") as group:
        for number in range(RANDOM_HTTP):
            port = ("https_port", "management_port")[number % 2]
            token = (hub.policy(), management)[number % 2]
            host = (hub.host, f"{hub.near['address']}:{hub.near['management_port']}")[number % 2]
            path = ("/twins/bystander?api-version=2021-04-12", f"{hub.management.hub_path(GROUP, HUB)}?api-version={API}")[number % 2]
            data = bytearray(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n".encode())
            kind = number // 2 % 4
            if kind == 0:
                data = chance.randbytes(chance.randrange(1, 3000)) + b"\r\n\r\n"
            elif kind == 1:
                data = b"GET " + chance.randbytes(chance.randrange(1, 300)).replace(b"\n", b"").replace(b" ", b"") + b" HTTP/1.1\r\nHost: h\r\n\r\n"
            elif kind == 2:
                for _ in range(chance.randrange(1, 6)):
                    data[chance.randrange(4, len(data))] = chance.randrange(256)
            else:
                data = data[:chance.randrange(len(data))]
            with Line(hub.near["address"], hub.near[port], hub.tls).send(bytes(data)) as line:
                answer = b"" if kind == 3 else line.some(0.3)
                group.holds(f"request {number} on {port}: {bytes(data)[:300]!r}", not answer or re.match(rb"HTTP/1\.[01] (2|4|501|505)", answer), f"answered with {answer and answer[:200]!r}")


# --- management -----------------------------------------------------------------------------------------------------------

PRIME, ORDER = 2**256 - 2**224 + 2**192 + 2**96 - 1, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296, 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)


def times(scalar, point):
    """Multiplies on the curve P-256; test keys only, its timing tells the scalar."""

    def add(one, two):
        if one is None or two is None:
            return one or two
        if one[0] == two[0] and one != two:
            return None
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, PRIME) if one == two else (two[1] - one[1]) * pow(two[0] - one[0], -1, PRIME)
        x = (slope**2 - one[0] - two[0]) % PRIME
        return x, (slope * (one[0] - x) - one[1]) % PRIME

    found = None
    while scalar:
        if scalar & 1:
            found = add(found, point)
        point, scalar = add(point, point), scalar >> 1
    return found


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def es256(signed, key, nonce):
    r = times(nonce, BASE)[0] % ORDER
    digest = int.from_bytes(hashlib.sha256(signed.encode()).digest(), "big")
    s = pow(nonce, -1, ORDER) * (digest + r * key) % ORDER
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Tokens:
    """Access tokens like the deployment's own, signed with its key or another."""

    def __init__(self, hub):
        self.chance, self.genuine = hub.chance, hub.management.token
        head, claims, _ = self.genuine.split(".")
        self.head, self.claims = json.loads(unb64(head)), json.loads(unb64(claims))
        pem = (hub.world.data / "data" / "pki" / "tokens.key").read_text()
        der = base64.b64decode("".join(pem.split("-----")[2].split()))
        self.key = int.from_bytes(der[36:68], "big")  # PKCS#8 of a P-256 key has its scalar there

    def make(self, key=None, head=(), **claims):
        signed = b64(json.dumps({**self.head, **dict(head)}).encode()) + "." + b64(json.dumps({**self.claims, **claims}).encode())
        return f"{signed}.{b64(es256(signed, key or self.key, self.chance.randrange(1, ORDER)))}"

    def unsigned(self, algorithm, signature=b""):
        signed = b64(json.dumps({**self.head, "alg": algorithm}).encode()) + "." + self.genuine.split(".")[1]
        return f"{signed}.{b64(signature(signed) if callable(signature) else signature)}"


def management_auth(hub):
    """401 with a code and a challenge (control-plane notes 9)."""
    tokens = Tokens(hub)
    now, path = int(time.time()), hub.management.group_path(GROUP)
    head, claims, signature = tokens.genuine.split(".")
    changed = b64(json.dumps({**tokens.claims, "appid": "someone"}).encode())
    cases = [
        ("no token", "AuthenticationFailed", None),
        ("an empty token", "AuthenticationFailed", "Bearer "),
        ("another scheme", "AuthenticationFailed", "Basic YTpi"),
        ("a hub's token", "AuthenticationFailed", hub.policy().replace(" ", "")),
        ("no JWT", "InvalidAuthenticationToken", "Bearer nonsense"),
        ("a JWT of nothing", "InvalidAuthenticationToken", "Bearer .."),
        ("20 KiB", "InvalidAuthenticationToken", "Bearer " + "A" * 20 * KIB),
        ("a changed claim", "InvalidAuthenticationToken", f"Bearer {head}.{changed}.{signature}"),
        ("a changed signature", "InvalidAuthenticationToken", f"Bearer {head}.{claims}.{signature[:-4]}AAAA"),
        ("no signature", "InvalidAuthenticationToken", f"Bearer {head}.{claims}."),
        ("alg none", "InvalidAuthenticationToken", f"Bearer {tokens.unsigned('none')}"),
        ("alg HS256 with a known key", "InvalidAuthenticationToken", f"Bearer {tokens.unsigned('HS256', lambda signed: hmac.new(b'', signed.encode(), hashlib.sha256).digest())}"),
        ("a signature of zeros", "InvalidAuthenticationToken", f"Bearer {tokens.unsigned('ES256', bytes(64))}"),
        ("another key", "InvalidAuthenticationToken", f"Bearer {tokens.make(key=tokens.chance.randrange(1, ORDER))}"),
        ("another key id", "InvalidAuthenticationToken", f"Bearer {tokens.make(head={'kid': 'x'})}"),
        ("expired", "ExpiredAuthenticationToken", f"Bearer {tokens.make(iat=now - 8000, nbf=now - 8000, exp=now - 4000)}"),
        ("not valid yet", "InvalidAuthenticationToken", f"Bearer {tokens.make(nbf=now + 4000, exp=now + 8000)}"),
        ("another tenant", "InvalidAuthenticationTokenTenant", f"Bearer {tokens.make(tid='x')}"),
        ("another issuer", "InvalidAuthenticationTokenTenant", f"Bearer {tokens.make(iss='https://login.example/')}"),
        ("another audience", "InvalidAuthenticationTokenAudience", f"Bearer {tokens.make(aud='https://graph.example/')}"),
        ("an unknown application", "InvalidAuthenticationToken", f"Bearer {tokens.make(appid='someone')}"),
    ]
    up = hub.world.up
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with Group("management authentication") as group:
        group.same("a token made as the deployment makes it", hub.ask("GET", f"{path}?api-version={API}", {"Authorization": f"Bearer {tokens.make()}"}, port="management_port").status, 200)
        for what, code, value in cases:
            for method, target in (("GET", path), ("DELETE", hub.management.hub_path(GROUP, HUB)), ("POST", f"{hub.management.hub_path(GROUP, HUB)}/failover"), ("GET", "/no/such/thing")):
                answer = hub.manage(group, f"{what}, {method} {target}", 401, code, method, target, headers={"Authorization": value})
                group.holds(f"{what}: the challenge", answer.headers.get("WWW-Authenticate", "").startswith("Bearer "), repr(answer.headers.get("WWW-Authenticate")))
        for what, error, body in [
            ("a wrong secret", "invalid_client", f"grant_type=client_credentials&client_id={up['client_id']}&client_secret=wrong&scope=x/.default"),
            ("an unknown application", "unauthorized_client", "grant_type=client_credentials&client_id=nobody&client_secret=wrong&scope=x/.default"),
            ("another grant", "unsupported_grant_type", f"grant_type=password&client_id={up['client_id']}&username=a&password=b"),
            ("an empty form", "invalid_request", ""),
        ]:
            answer = hub.ask("POST", f"/{up['tenant']}/oauth2/v2.0/token", form, body.encode(), port="management_port")
            group.holds(f"signing in with {what}", answer.status in (400, 401) and answer_json(answer).get("error") == error, f"{answer!r}, but {error} is documented")
        answer = hub.ask("POST", f"/{up['tenant']}/oauth2/v2.0/token", form, b"a" * (200 * KIB), port="management_port")
        group.same("a form of 200 KiB", answer.status, 413)


def management_requests(hub):
    """Refusals of hubs, groups and failovers, with their codes (control-plane notes 9)."""
    paths = hub.management
    new, main_hub = paths.hub_path(GROUP, "hostile-new"), paths.hub_path(GROUP, HUB)
    body = {"location": "westus2", "sku": {"name": "S1", "capacity": 1}}
    location = "LocationNotAvailableForResourceType"
    stale = {"If-Match": "AAAAAAAAAP8="}
    cases = [
        ("an unknown region", 400, location, "PUT", new, {**body, "location": "atlantis"}),
        ("a region that does not run", 400, location, "PUT", new, {**body, "location": "westus3"}),
        ("no location", 400, "LocationRequired", "PUT", new, {"sku": body["sku"]}),
        ("a location that is a number", 400, None, "PUT", new, {**body, "location": 5}),
        ("no sku", 400, "InvalidProperties", "PUT", new, {"location": "westus2"}),
        *((f"sku {sku}", 400, "InvalidProperties", "PUT", new, {**body, "sku": sku}) for sku in (
            {"name": "Z9", "capacity": 1}, {"name": "S1", "capacity": 0}, {"name": "S1", "capacity": -1}, {"name": "S1", "capacity": 201}, {"name": "S3", "capacity": 11},
            {"name": "F1", "capacity": 2}, {"name": "S1", "capacity": "many"}, {"name": "S1", "capacity": 1.5}, {"name": 5}, [], "S1")),
        *((f"the name {name[:60]!r}", 400, "HubNameInvalid", "PUT", paths.hub_path(GROUP, quote(name, safe="")), body) for name in (
            "ab", "-abc", "abc-", "12345", "a" * 51, "a_b_c", "a.b.c", "größe", "a b c", "a/b/c", "x" * 5000)),
        ("1 partition", 400, "InvalidProperties", "PUT", new, {**body, "properties": {"eventHubEndpoints": {"events": {"partitionCount": 1}}}}),
        ("retention of 8 days", 400, "InvalidProperties", "PUT", new, {**body, "properties": {"eventHubEndpoints": {"events": {"retentionTimeInDays": 8}}}}),
        ("properties that are a text", 400, "InvalidProperties", "PUT", new, {**body, "properties": "none"}),
        ("51 tags", 400, "InvalidProperties", "PUT", new, {**body, "tags": {f"t{number}": "v" for number in range(51)}}),
        ("a right that there is not", 400, "InvalidProperties", "PUT", new, {**body, "properties": {"authorizationPolicies": [{"keyName": "a", "rights": "Root"}]}}),
        ("another location for a hub that exists", 400, "InvalidProperties", "PUT", main_hub, {**body, "location": "eastus"}),
        ("a name that is taken", 409, "409004", "PUT", paths.hub_path("other-group", HUB), body),
        ("a name that is taken, in another case", 409, "409004", "PUT", paths.hub_path("other-group", HUB.upper()), body),
        ("an unknown group", 404, "ResourceGroupNotFound", "PUT", paths.hub_path("no-such-group", "hostile-new"), body),
        ("an unknown subscription", 404, "SubscriptionNotFound", "GET", "/subscriptions/x/resourceGroups/y", None),
        ("an unknown hub", 404, "ResourceNotFound", "GET", new, None),
        ("failing over an unknown hub", 404, "ResourceNotFound", "POST", f"{new}/failover", {"failoverRegion": "West US 2"}),
        ("a group's bad name", 400, "InvalidResourceGroup", "PUT", paths.group_path("ends."), {"location": "westus2"}),
        ("a group's long name", 400, "InvalidResourceGroup", "PUT", paths.group_path("g" * 91), {"location": "westus2"}),
        ("a group without location", 400, "LocationRequired", "PUT", paths.group_path("new-group"), {}),
        ("a group's unknown location", 400, "LocationNotAvailableForResourceGroup", "PUT", paths.group_path("new-group"), {"location": "atlantis"}),
        ("a group's location that changes", 409, "InvalidResourceGroupLocation", "PUT", paths.group_path(GROUP), {"location": "eastus"}),
        ("failing over to no region", 400, "FailoverRegionMismatch", "POST", f"{main_hub}/failover", {}),
        ("failing over to an unknown region", 400, "FailoverRegionMismatch", "POST", f"{main_hub}/failover", {"failoverRegion": "Atlantis"}),
        ("failing over to the wrong region", 400, "FailoverRegionMismatch", "POST", f"{main_hub}/failover", {"failoverRegion": "East US"}),
        ("failing over to where it is", 400, "FailoverRegionMismatch", "POST", f"{main_hub}/failover", {"failoverRegion": "West US 2"}),
        ("failing over to a number", 400, "FailoverRegionMismatch", "POST", f"{main_hub}/failover", {"failoverRegion": 5}),
        ("failing over a hub at home in an excluded region", 400, "FailoverRegionExcluded", "POST", f"{paths.hub_path(GROUP, EXCLUDED)}/failover", {"failoverRegion": "West US"}),
        ("failing over a hub without a pair", 400, "FailoverNoPair", "POST", f"{paths.hub_path(GROUP, SINGLE)}/failover", {"failoverRegion": "West US 2"}),
        ("a consumer group's bad name", 400, "ConsumerGroupInvalid", "PUT", f"{main_hub}/eventHubEndpoints/events/ConsumerGroups/{'g' * 51}", {"properties": {"name": "x"}}),
        ("the keys of an unknown policy", 404, None, "POST", f"{main_hub}/IotHubKeys/nobody/listkeys", None),
        ("an unknown operation", 404, None, "GET", f"/subscriptions/{hub.world.up['subscription']}/providers/Microsoft.Devices/locations/westus2/operationResults/x", None),
        ("PATCH of what is not a tag", 400, "InvalidProperties", "PATCH", main_hub, {"sku": {"name": "S2"}}),
        ("certificates (not served: coverage.md)", 501, "NotImplemented", "GET", f"{main_hub}/certificates", None),
        ("nothing there", 404, "InvalidResourceType", "GET", "/no/such/thing", None),
        ("a path that is badly encoded", 400, "InvalidRequestUri", "GET", "/subscriptions/%zz", None),
        ("a wrong method", 405, "MethodNotAllowed", "DELETE", "/subscriptions", None),
        ("a method that there is not", 405, "MethodNotAllowed", "BREW", main_hub, None),
        *((f"the body {what}", 400, "InvalidRequestContent", "PUT", new, data) for what, data in (
            ("nonsense", b"nonsense"), ("truncated", b'{"location":'), ("not UTF-8", b'{"location":"\xff"}'), ("empty", b""), ("an array", b"[]"), ("deep", b'{"a":' * 100000), ("brackets", b"[" * 500000))),
        ("a body of 2 MiB", 413, "RequestEntityTooLarge", "PUT", new, b" " * (2 * KIB * KIB)),
    ]
    with Group("management requests") as group:
        for what, status, code, method, path, data in cases:
            answer = hub.manage(group, what, status, code, method, path, data)
            group.holds(f"{what}: a refusal is not to be repeated", "Retry-After" not in answer.headers, "it carries Retry-After")
            if what == "a region that does not run":
                group.holds(what, "not running here" in answer.text, repr(answer))
        for method in ("PUT", "PATCH", "DELETE"):
            data = body if method == "PUT" else {"tags": {"a": "b"}} if method == "PATCH" else None
            hub.manage(group, f"a stale etag in {method}", 412, "PreconditionFailed", method, main_hub, data, stale)
        hub.manage(group, "a new one that is there", 412, "PreconditionFailed", "PUT", main_hub, body, {"If-None-Match": "*"})
        for method, path in (("GET", main_hub), ("PUT", new), ("DELETE", main_hub), ("POST", f"{main_hub}/failover"), ("GET", "/subscriptions")):
            hub.manage(group, f"no api-version in {method} {path}", 400, "MissingApiVersionParameter", method, path, b"{}", version="")
            hub.manage(group, f"a bad api-version in {method} {path}", 400, "InvalidApiVersionParameter", method, path, b"{}", version="latest")


def management_random(hub):
    """Random paths, methods and bodies with a good token: never 5xx but 501 and 505."""
    chance, token = hub.chance, {"Authorization": f"Bearer {hub.management.token}"}
    words = ["subscriptions", hub.world.up["subscription"], "resourceGroups", "resourcegroups", "no-such", "providers", "Microsoft.Devices", "IotHubs", "failover", "listkeys", "..", ".", "%2e%2e", "%00", "%ff",
             "operationResults", "locations", "westus2", "Castling.Failover", "failovers", "check", "*", "$metadata", "a" * 300, "%F0%9F%98%80", "eventHubEndpoints", "ConsumerGroups", "%zz"]
    with Group("management random requests") as group:
        for number in range(RANDOM_HTTP):
            path = "/" + "/".join(chance.choice(words) for _ in range(chance.randrange(1, 12))) + chance.choice(["", f"?api-version={API}", f"?api-version={API}&$filter=%00", "?&=&"])
            method = chance.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "LOCK"])
            body = chance.choice([None, b"", b"null", b"{}", chance.randbytes(chance.randrange(1, 2000)), b"[" * 3000])
            answer = hub.ask(method, path, token, body, port="management_port")
            group.holds(f"request {number}, {method} {path}", answer.status < 500 or answer.status in (501, 505), repr(answer))


# --- what is not for clients at all ---------------------------------------------------------------------------------------


def link_ports(world):
    """Listening sockets of the process that up.json does not name: the region links."""
    inodes = set()
    for entry in os.listdir(f"/proc/{world.pid}/fd"):
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{world.pid}/fd/{entry}"))
        except OSError:
            continue
        if found:
            inodes.add(found[1])
    known = {(region["address"], region[port]) for region in world.regions for port in ("https_port", "mqtt_port", "management_port", "plain_mqtt_port")}
    listening = set()
    with open("/proc/net/tcp", encoding="ascii") as file:
        for fields in map(str.split, list(file)[1:]):
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                listening.add((socket.inet_ntoa(struct.pack("<I", int(address, 16))), int(port, 16)))
    return sorted(listening - known)


def garbage(hub):
    """The link ports and every TLS port: what is no handshake ends; the links go on (the second canary uses one)."""
    chance = hub.chance
    links = link_ports(hub.world)
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with Group(f"garbage to {len(links)} link ports and all TLS ports") as group:
        group.holds("every region listens for links", len(links) >= len(hub.world.regions), links)
        ports = links + [(region["address"], region[port]) for region in hub.world.regions for port in ("https_port", "mqtt_port", "management_port")]
        data = [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\xff" * 64, b"\x16\x03\x01\xff\xff" + b"\xff" * 300, b"\0" * 100, b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff"]
        for address, port in ports:
            for one in data + [chance.randbytes(chance.randrange(1, 5000)) for _ in range(5)]:
                with Line(address, port).send(one).end() as line:
                    answer = line.rest()
                    group.holds(f"{one[:30]!r} to {address}:{port}", answer is not None and not answer.startswith(b"HTTP/1.1 2"), f"answered with {answer!r}")
        for address, port in links:
            for one in data + [struct.pack(">I", 0xFFFFFFFF) + b"x" * 100, chance.randbytes(70000)]:
                # No certificate of the deployment: refused in the handshake, or right after it with TLS 1.3.
                try:
                    with Line(address, port, client).send(one) as line:
                        group.holds(f"a stranger on the link port {address}:{port}", line.rest() == b"", "the link stays open or answers")
                except (ConnectionError, ssl.SSLError):
                    group.count += 1


# --- the whole ------------------------------------------------------------------------------------------------------------


def check_stream(hub, canaries):
    """Exactly what was acknowledged, in the order of each device."""
    wanted = {**hub.sent, **{canary.name: canary.acknowledged for canary in canaries}}
    found = {}
    for event in hub.service.events():
        found.setdefault(event["deviceId"], []).append((event["partition"], event["sequenceNumber"], event["body"]))
    found = {device: [body for _, _, body in sorted(events)] for device, events in found.items()}
    for device in sorted({*wanted, *found}):
        here, there = wanted.get(device, []), found.get(device, [])
        none((body for body in here if body not in set(there)), f"{device}: acknowledged, but not in the stream")
        none((body for body in there if body not in set(here)), f"{device}: in the stream, but never acknowledged")
        require(here == there, f"{device}: {len(here)} acknowledged, {len(there)} in the stream, in another order or number")
    return sum(map(len, found.values()))


def check_unchanged(before, after):
    require(set(before) == set(after), f"there is something else now: {set(before) ^ set(after)}")
    for what, was in before.items():
        require(after[what] == was, f"{what} was changed from {was} to {after[what]}")
    return len(before)


def check_log(world, begin):
    """No panic at all; no error of the server's own since `begin`, when the regions had found each other."""
    written = world.log_path.read_bytes()
    none((line for line in written.splitlines() if b"panicked" in line), "the server panicked")
    none((line for line in written[begin:].splitlines() if re.search(rb"\bERROR\b", line)), "bad input made the server log errors of its own")


def scenario():
    seeds = [int(word) for word in sys.argv[1:] if word.isdigit()]
    seed = seeds[0] if seeds else random.randrange(1 << 32)
    say(f"seed {seed}")
    with World("hostile", "--plain-mqtt-port", "0", regions=REGIONS) as world:
        hub = Hostile(world, seed)
        hub.create()
        with hub.attacker() as line:
            hub.accepted(line, "before all")
        before = hub.snapshot()
        canaries = [Canary(hub, name, region) for name, region in zip(CANARIES, (hub.near, hub.far))]
        time.sleep(1)
        pid, resident, log_begin = world.pid, memory(world.pid), world.log_path.stat().st_size
        for work in (mqtt_logins, mqtt_truncated, mqtt_random, mqtt_sessions, mqtt_twins, slow, https_auth, https_device, https_service,
                     random_requests, management_auth, management_requests, management_random, garbage):
            work(hub)
            require(world.process.poll() is None, f"castling up ended with {world.process.returncode} after {work.__name__}: {world.log_tail()}")
            for canary in canaries:
                canary.check()
        for canary in canaries:
            canary.stop()
        grown = memory(pid) - resident
        events = check_stream(hub, canaries)
        same = check_unchanged(before, hub.snapshot())
        require(world.pid == pid == world.read_up()["pid"], "another process answers now")
        check_log(world, log_begin)
        require(grown < RSS_GROWTH_MAX, f"the process grew by {grown / 1e6:.0f} MB")
        gaps = ", ".join(f"{canary.gap * 1000:.0f} ms" for canary in canaries)
        say(f"{events} events, each acknowledged; {same} documents as before; longest wait of the canaries {gaps}; {grown / 1e6:+.0f} MB resident")
        none(VIOLATIONS, "violated")


main(scenario)
