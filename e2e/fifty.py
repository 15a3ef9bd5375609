"""Fifty planned failovers to and fro without a break, under the load of the tutorial."""

import sys
import time

from lib.fleet import Fleet
from lib.report import main, percentile, require, say, table
from lib.world import World

HUB, GROUP = "to-and-fro", "fifty"
REGIONS = ("westus2", "westcentralus")


def scenario():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with World("fifty", "--failover-cooldown", "0s", "--failovers-per-day", "1000", regions=",".join(REGIONS)) as world:
        fleet = Fleet(world, HUB, GROUP)
        fleet.create(REGIONS[0])
        fleet.start()
        fleet.queue_for_offline()
        fleet.let_run(2)
        begun = time.monotonic()
        for number in range(count):
            world.cli("hub", "failover", "start", HUB, "--yes", HUB)
            fleet.took_place(("failover", "failback")[number % 2])
            if number == count // 2:
                fleet.reader.restart()
            if number % 10 == 9:
                fleet.let_run(0)
                say(f"{number + 1} failovers, the last with a pause of {fleet.failovers[-1]['pauseMs']} ms")
        took = time.monotonic() - begun
        fleet.swapped(*(REGIONS if count % 2 == 0 else REGIONS[::-1]))
        epochs = [report["epochAfter"] for report in fleet.failovers]
        require(epochs == list(range(epochs[0], epochs[0] + count)), f"epochs {epochs}")
        fleet.let_run(2)
        fleet.stop()
        stream = fleet.check()
        fleet.receive_queued()
        fleet.close()
        pauses = [report["pauseMs"] for report in fleet.failovers]
        gaps = [device.longest_gap() * 1000 for device in fleet.devices]
        acks = sum(len(device.counters) for device in fleet.devices)
        print()
        table(["failovers", "took s", "pause p50 ms", "p99", "max", "events", "acks", "twin patches", "longest gap ms"],
              [[count, f"{took:.1f}", percentile(pauses, 0.5), percentile(pauses, 0.99), max(pauses), len(stream), acks, fleet.twins.patches, f"{max(gaps):.0f}"]])


main(scenario)
