"""Bad requests to the management API."""

import hashlib
import hmac
import json
import time
from urllib.parse import quote

from lib.rest import API

from .hub import EXCLUDED, GROUP, HUB, SINGLE, answer_json
from .tokens import Tokens, b64
from .wire import KIB, Group

RANDOM = 200


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
        ("a signature of zeros", "InvalidAuthenticationToken", f"Bearer {tokens.unsigned('RS256', bytes(256))}"),
        ("another algorithm", "InvalidAuthenticationToken", f"Bearer {tokens.unsigned('ES256', bytes(64))}"),
        ("another key", "InvalidAuthenticationToken", f"Bearer {tokens.make()}"),
        ("another key id", "InvalidAuthenticationToken", f"Bearer {tokens.make(head={'kid': 'x'})}"),
        ("another key that the header brings along", "InvalidAuthenticationToken", f"Bearer {tokens.make(head={'jwk': tokens.public()})}"),
        ("another key and an address to ask for it", "InvalidAuthenticationToken", f"Bearer {tokens.make(head={'jku': 'https://127.0.0.1:1/keys'})}"),
        ("another key and an administrator's claims", "InvalidAuthenticationToken", f"Bearer {tokens.make(oid='x', appid='x', exp=now + 8000)}"),
    ]
    up = hub.world.up
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with Group("management authentication") as group:
        group.same("the deployment's own token", hub.ask("GET", f"{path}?api-version={API}", {"Authorization": f"Bearer {tokens.genuine}"}, port="management_port").status, 200)
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
            "ab", "-abc", "abc-", "12345", "a" * 51, "a_b_c", "a.b.c", "größe", "a b c", "x" * 5000)),
        ("a name with slashes", 400, "InvalidRequestUri", "PUT", paths.hub_path(GROUP, quote("a/b/c", safe="")), body),
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
        ("what a template would do (not served: coverage.md)", 501, "NotImplemented", "POST", f"{paths.group_path(GROUP)}/providers/Microsoft.Resources/deployments/d/whatIf", {}),
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
        for number in range(RANDOM):
            path = "/" + "/".join(chance.choice(words) for _ in range(chance.randrange(1, 12))) + chance.choice(["", f"?api-version={API}", f"?api-version={API}&$filter=%00", "?&=&"])
            method = chance.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "LOCK"])
            body = chance.choice([None, b"", b"null", b"{}", chance.randbytes(chance.randrange(1, 2000)), b"[" * 3000])
            answer = hub.ask(method, path, token, body, port="management_port")
            group.holds(f"request {number}, {method} {path}", answer.status < 500 or answer.status in (501, 505), repr(answer))
