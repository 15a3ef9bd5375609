"""Bad input against the real binary: each request gets its documented answer, and nobody else notices.

Two well-behaved devices send all the time, one of them through the secondary region. Nothing that they were acknowledged may be
missing and nothing else may be in the stream; registry, twins and hubs stay as they were, byte for byte; the process lives on.
"Notes" are the data-plane and control-plane notes; the number after them is the section.
"""

import random
import re
import sys
import time

from hostile_cases.hub import CANARIES, Hostile
from hostile_cases.https import https_auth, https_device, https_service, random_requests
from hostile_cases.management import management_auth, management_random, management_requests
from hostile_cases.mqtt import mqtt_logins, mqtt_random, mqtt_sessions, mqtt_truncated, mqtt_twins, slow
from hostile_cases.ports import garbage
from hostile_cases.wire import VIOLATIONS, Canary
from lib.report import main, none, require, say
from lib.world import World

REGIONS = "westus2,westcentralus,eastus,westus,polandcentral"
RSS_GROWTH_MAX = 100 * 1000 * 1000


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024


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
