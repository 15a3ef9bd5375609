"""Bad MQTT: logins, packets, topics, twin patches, clients that stop in the middle."""

import json
import re
import struct
import time

from lib.mqtt import Line, connect, packet, publish, subscribe, text
from lib.report import require
from lib.rest import device_key, sas

from .hub import ATTACKER, GROUP
from .wire import KIB, Group, changed

RANDOM, SLOW = 300, 200


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
        for number in range(RANDOM):
            data = chance.randbytes(chance.randrange(1, 2048))
            if number % 3 == 0:  # a first byte that means CONNECT, so that more of it is read
                data = b"\x10" + data
            with hub.plain().send(data).end() as line:
                answer = line.rest()
                group.holds(f"bytes {number}", answer is not None and (not answer or answer[:1] == b"\x20" and answer[3] != 0), f"answered with {answer!r}")
        good = connect(ATTACKER, hub.user(ATTACKER), hub.token(ATTACKER, "another key"))
        for number in range(RANDOM // 3):
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
