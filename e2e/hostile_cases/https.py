"""Bad requests to a hub: the device API and the service API."""

import json
import re
import time
from urllib.parse import quote

from lib.mqtt import Line
from lib.rest import API

from .hub import ATTACKER, EXCLUDED, GROUP, HUB, answer_json
from .wire import KIB, Group

RANDOM = 200


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
        for number in range(RANDOM):
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
