"""The management SDKs for Python and Node, unmodified: every operation group, polled to the end, every answer as it is described."""

import sys

import requests

from lib import sdks
from lib.described import Description
from lib.report import main, none, say, table
from lib.world import World

SHORT = "--short" in sys.argv


def scenario():
    rows = []
    with World("mgmt", "--failover-cooldown", "0s", "--failovers-per-day", "1000") as world:
        document = requests.get(f"{world.up['management_url']}/openapi.json", verify=world.up["ca_file"], timeout=30).json()
        description = Description(document)
        for language in ("python", "node"):
            for way in ("adfs",) if SHORT else ("adfs", "tenant"):
                exchanged = sdks.run(language, way, "all", world.data / "data" / "up.json", world.up["ca_file"], f"rg-{language}-{way}", f"hub-{language}-{way}")
                called = description.judge(exchanged, f"{language}, {way}")
                none(description.devices() - set(called), f"{language}, {way}: operations that were not called", 40)
                statuses = sorted({status for found in called.values() for status in found})
                rows.append([language, way, len(exchanged), len(called), " ".join(map(str, statuses))])
                say(f"{language}, {way}: {len(exchanged)} exchanges, {len(called)} operations")
    table(["SDK", "authority", "exchanges", "operations", "statuses"], rows)


main(scenario)
