"""The tutorial: create, fail over, be refused, fail back, delete; with devices that notice nothing.

First world: the policy that users know (1 hour between failovers). Second world: none, so that failing back can be shown.
"""

import time

from lib.fleet import Fleet
from lib.report import main, require, say, table
from lib.world import World

HUB = "my-test-hub-1"
GROUP = "ManlFailRG"
HOME, PARTNER = "westus2", "westcentralus"


def scenario():
    rows = []
    with World("tutorial") as world:
        say(f"first world at {world.address}: the usual policy")
        fleet = Fleet(world, HUB, GROUP)
        fleet.create(HOME)
        fleet.swapped(HOME, PARTNER)
        fleet.start()
        fleet.queue_for_offline()
        fleet.let_run(4)
        fail_over_by_typing(fleet)
        fleet.let_run(2)
        fleet.reader.restart()
        refused_at_once(fleet)
        fleet.let_run(4)
        rows += finish(fleet)
    with World("tutorial-2", "--failover-cooldown", "0s", "--failovers-per-day", "1000") as world:
        say(f"second world at {world.address}: no time between failovers")
        fleet = Fleet(world, HUB, GROUP)
        fleet.create(HOME)
        fleet.start()
        fleet.queue_for_offline()
        fleet.let_run(3)
        world.cli("hub", "failover", "check", HUB)
        world.cli("hub", "failover", "start", HUB, "--yes", HUB)
        fleet.took_place("failover")
        fleet.swapped(PARTNER, HOME)
        fleet.let_run(3)
        fleet.reader.restart()
        fleet.let_run(1)
        world.cli("hub", "failover", "start", HUB, "--yes", HUB)
        fleet.took_place("failback")
        fleet.swapped(HOME, PARTNER)
        say("failed back")
        fleet.let_run(3)
        rows += finish(fleet)
        delete_group(fleet)
    print()
    table(["failover", "pause ms", "whole ms", "events", "acks", "sockets kept", "longest gap ms (median device)", "(worst device)"], rows)


def fail_over_by_typing(fleet):
    """A wrong name does nothing; the right one fails over."""
    world = fleet.world
    shown = world.cli_typed("not-my-hub", "hub", "failover", "start", HUB, code=2)
    require("not the hub's name" in shown, f"a wrong name was answered with {shown!r}")
    fleet.swapped(HOME, PARTNER)
    world.cli_typed(HUB, "hub", "failover", "start", HUB)
    report = fleet.took_place("failover")
    fleet.swapped(PARTNER, HOME)
    say(f"failed over by typing the name: {report['pauseMs']} ms pause, {report['socketsKept']} of {report['socketsBefore']} sockets kept")


def refused_at_once(fleet):
    """Failing back within the hour is refused, with the time from which it is not."""
    report = fleet.failovers[-1]
    refused = fleet.world.cli("hub", "failover", "start", HUB, "--yes", HUB, code=4)
    text = refused.stdout + refused.stderr
    require("FailoverTooSoon" in text, f"the refusal does not name its code: {text!r}")
    ended = time.mktime(time.strptime(report["ended"][:19], "%Y-%m-%dT%H:%M:%S"))
    earliest = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(ended + 3600))
    require(earliest[:16] in text or within_a_second(text, ended + 3600), f"the refusal does not name {earliest} as the earliest time: {text!r}")
    fleet.swapped(PARTNER, HOME)
    say(f"failing back is refused: {text.strip().splitlines()[-1]}")


def within_a_second(text, when):
    shown = [time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(when + drift)) for drift in (-1, 1)]
    return any(moment in text for moment in shown)


def finish(fleet):
    fleet.stop()
    stream = fleet.check()
    fleet.receive_queued()
    gaps = sorted(device.longest_gap() * 1000 for device in fleet.devices)
    acks = sum(len(device.counters) for device in fleet.devices)
    say(f"{len(stream)} events, {acks} acknowledged, {fleet.twins.patches} twin patches, {len(fleet.queued)} C2D messages with their expiry: all there")
    fleet.close()
    return [
        [f"{report['kind']} {report['from']} → {report['to']}", report["pauseMs"], report["durationMs"], len(stream), acks,
         f"{report['socketsKept']}/{report['socketsBefore']}", f"{gaps[len(gaps) // 2]:.0f}", f"{gaps[-1]:.0f}"]
        for report in fleet.failovers
    ]


def delete_group(fleet):
    fleet.management.delete_group(GROUP)
    gone = fleet.management.call("GET", fleet.management.hub_path(GROUP, HUB), ok=(404,))
    require(gone.status_code == 404, "the hub is still there")
    fleet.management.call("GET", fleet.management.group_path(GROUP), ok=(404,))
    say("group and hub are deleted")


main(scenario)
