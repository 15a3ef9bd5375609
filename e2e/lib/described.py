"""What was exchanged, held against the API's own description: each status documented, each header there."""

import re
from urllib.parse import unquote, urlsplit

from .report import none, require


class Description:
    def __init__(self, document):
        self.document = document
        self.rows = []
        for path, methods in document["paths"].items():
            pattern = re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]+\})", path)) + "/?", re.I)
            self.rows += [(method.upper(), pattern, operation) for method, operation in methods.items()]

    def operation(self, method, url):
        path = re.sub("/+", "/", unquote(urlsplit(url).path))
        return next((operation for word, pattern, operation in self.rows if word == method and pattern.fullmatch(path)), None)

    def judge(self, exchanged, who):
        """Every exchange fits; gives the operations that were called, with the statuses each answered."""
        wrong, called = [], {}
        for one in exchanged:
            operation = self.operation(one["method"], one["url"])
            where = f"{one['method']} {urlsplit(one['url']).path} → {one['status']}"
            if operation is None:
                wrong.append(f"{where}: not described")
                continue
            called.setdefault(operation["operationId"], set()).add(one["status"])
            if str(one["status"]) not in operation["responses"]:
                wrong.append(f"{where}: this status is not described for {operation['operationId']}")
            wrong += [f"{where}: {why}" for why in headers(one, operation["operationId"])]
        none(wrong, f"{who}: answers that do not fit the description", 8)
        return called

    def devices(self):
        """The operations of Microsoft.Devices."""
        groups = ("Operations_", "IotHub", "ResourceProviderCommon_", "Certificates_", "PrivateLinkResources_", "PrivateEndpointConnections_")
        found = {operation["operationId"] for _, _, operation in self.rows if operation["operationId"].startswith(groups)}
        require(len(found) == 38, f"{len(found)} operations of Microsoft.Devices are described, not 38")
        return found


def headers(one, operation):
    """What a header lacks, or has too much."""
    given, status = {name.lower(): value for name, value in one["headers"].items()}, one["status"]
    for name in ("x-ms-request-id", "x-ms-correlation-request-id"):
        if not given.get(name):
            yield f"no {name}"
    for name in ("location", "azure-asyncoperation"):
        if name in given and not given[name].startswith("https://"):
            yield f"{name} is no absolute address: {given[name]}"
    begun = {"IotHubResource_CreateOrUpdate": 201, "IotHubResource_Delete": 202, "IotHub_ManualFailover": 202}
    if begun.get(operation) == status and "azure-asyncoperation" not in given:
        yield "no Azure-AsyncOperation"
    if status == 202 and "location" not in given:
        yield "no Location"
    if (status == 202 or begun.get(operation) == status) and int(given.get("retry-after", "0")) < 1:
        yield "no Retry-After of a second or more"
    if 400 <= status < 500 and status != 429 and "retry-after" in given:
        yield "a refusal with Retry-After"
    if status == 401 and "bearer" not in given.get("www-authenticate", "").lower():
        yield "no WWW-Authenticate"
