"""schemathesis, unmodified, against /openapi.json: no 500, no status that is not described, no answer that its schema forbids."""

import os
import subprocess
import sys

import requests

from lib.report import Failed, main, require, say
from lib.rest import Management
from lib.world import World

SHORT = "--short" in sys.argv
SCHEMATHESIS = os.path.abspath(os.environ.get("CASTLING_SCHEMATHESIS", "target/e2e/venv-openapi/bin/schemathesis"))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES, SECONDS = ("4", "90") if SHORT else ("40", "900")
GROUP, HUB = "tried-rg", "tried-hub"
# What stands in paths most of the time, so that more than 404 is seen. Documented statuses of 500 and above must say why.
SETTINGS = """
[parameters]
"path.subscription" = "{subscription}"
"path.tenant" = "{tenant}"
"path.group" = "{group}"
"path.hub" = "{hub}"
"path.endpoint" = "events"
"path.namespace" = "Microsoft.Devices"
"path.region" = "westus2"
"query.api-version" = "2023-06-30"

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501, 503]
"""


def scenario():
    # No rate limit: a 429 fits the description of everything, and would hide what it stands before.
    with World("openapi", "--failover-cooldown", "0s", "--failovers-per-day", "1000", "--requests-per-minute", "100000000") as world:
        management = Management(world)
        management.create_group(GROUP, "westus2")
        management.wait(management.call("PUT", management.hub_path(GROUP, HUB), {"location": "westus2", "sku": {"name": "S1", "capacity": 1}}))
        base = world.up["management_url"]
        answer = requests.get(f"{base}/openapi.json", verify=world.up["ca_file"], timeout=30)
        require(answer.status_code == 200, f"/openapi.json: {answer.status_code} {answer.text[:200]}")
        document, settings = world.data / "openapi.json", world.data / "schemathesis.toml"
        document.write_text(answer.text)
        settings.write_text(SETTINGS.format(**world.up, group=GROUP, hub=HUB))
        try_all(world, base, document.absolute(), settings.absolute(), management.token)
        # It still serves, and nothing of what was sent brought a thread down.
        management.call("GET", f"/subscriptions/{world.up['subscription']}/resourceGroups")
        require("panicked" not in world.log_path.read_text(errors="replace"), f"a request brought a thread down: {world.log_tail()}")


def try_all(world, base, document, settings, token):
    command = [
        SCHEMATHESIS, "--config-file", settings, "run", document, "--url", base, "--tls-verify", world.up["ca_file"], "--header", f"Authorization: Bearer {token}",
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--max-time", SECONDS, "--seed", "20261123",
        "--continue-on-failure", "--max-failures", "60", "--workers", "1", "--rate-limit", "40/s", "--request-timeout", "60", "--no-shrink", "--no-color",
        "--warnings", "off", "--suppress-health-check", "all",
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(world.data.absolute()), "NO_PROXY": "*", "SSL_CERT_FILE": world.up["ca_file"], "REQUESTS_CA_BUNDLE": world.up["ca_file"]}
    told = world.data / "schemathesis.txt"
    with open(told, "w") as out:
        try:
            done = subprocess.run(list(map(str, command)), env=env, cwd=world.data, stdout=out, stderr=out, timeout=int(SECONDS) + 300, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise Failed(f"schemathesis did not end; see {told}") from None
    text = told.read_text(errors="replace")
    require(done.returncode == 0, f"schemathesis found what does not fit the description (all of it: {told}):\n{text[-6000:]}")
    for line in text.splitlines()[-15:]:
        say(line)


main(scenario)
