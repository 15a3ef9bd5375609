"""What the return of a lost region costs: bytes on its link, and time, by number of devices and by what changed.

The partner is cut off for a moment, the primary goes on and dies: what it alone had must be taken back. After a forced failover the new primary changes
as much. Then the old one returns, and the hub fails back. A whole copy stands beside it. `cargo xtask bench return`.
"""

import argparse
import json
import ssl
import struct
import threading
import time
from collections import Counter

from bench import GROUP, HUB, Bench, go_forced, moment, wait_until_followed, wait_until_ready, wait_until_returned, write
from lib.bench import Running, target
from lib.linked import Linked
from lib.mqtt import Line, connect, publish
from lib.report import main, require, say, table
from lib.rest import Service, device_key, sas

WRITERS, PUBLISHERS, UNDER_WAY = 8, 10, 20
LOAD_CONNECTIONS, LOAD_SECONDS = 20, 2
IDLE_SECONDS, SETTLE_SECONDS = 3.0, 0.5
LOOKED_AT = 20
EVENT_BYTES = 256
# Twice as much for the largest hub as for the smallest, with the same change: then bytes would follow the hub.
GROWTH_MAX = 2.0


class Changes:
    """Half twin patches, each of another device, half telemetry, through one region's gateway; connections stand before the first change."""

    def __init__(self, bench, region, size, count, shift):
        self.count, self.size = count, size
        self.service = Service(bench.world, bench.host, bench.key)
        self.place = bench.world.regions.index(region)
        patches = count // 2
        stride = max(1, size // patches)
        self.patched = [f"bench-{(number * stride + shift * stride // 2) % size}" for number in range(patches)]
        self.events = count - patches
        self.lines = [line_of(bench, region, f"bench-{number}") for number in range(PUBLISHERS)]

    def make(self, value):
        """Seconds until all of it was acknowledged."""
        begun = time.monotonic()
        self.failed = []
        share = [self.events // PUBLISHERS + (number < self.events % PUBLISHERS) for number in range(PUBLISHERS)]
        threads = [threading.Thread(target=self.guarded, args=(self.patch, self.patched[at::WRITERS], value)) for at in range(WRITERS)]
        threads += [threading.Thread(target=self.guarded, args=(self.publish, number, share[number], value)) for number in range(PUBLISHERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        require(not self.failed, f"changes that were not acknowledged: {self.failed[:3]}")
        return time.monotonic() - begun

    def guarded(self, work, *given):
        try:
            work(*given)
        except Exception as why:  # pylint: disable=broad-except  # told by `make`, in its own thread
            self.failed.append(repr(why))

    def patch(self, devices, value):
        service = self.service.clone()
        for device in devices:
            service.patch_desired(device, {"set": value}, region=self.place)

    def publish(self, number, count, value):
        body = value.encode().ljust(EVENT_BYTES)
        with self.lines[number] as line:
            for at in range(0, count, UNDER_WAY):
                several = range(at + 1, min(at + UNDER_WAY, count) + 1)
                line.send(b"".join(publish(f"devices/bench-{number}/messages/events/", body, number=one) for one in several))
                for one in several:
                    answer = line.packet()
                    require(answer == (0x40, struct.pack(">H", one)), f"publish {one} of bench-{number} was answered with {answer}")


def line_of(bench, region, device):
    line = Line(region["address"], region["mqtt_port"], ssl.create_default_context(cafile=bench.world.up["ca_file"]))
    line.send(connect(device, f"{bench.host}/{device}/?api-version=2021-04-12", sas(f"{bench.host}/devices/{device}", device_key(device))))
    answer = line.packet()
    require(answer == (0x20, b"\0\0"), f"connecting {device} was answered with {answer}")
    return line


class Counted:
    """Bytes that a region sends to another, before encryption, from here on."""

    def __init__(self, bench, origin, to):
        self.bench, self.origin, self.to = bench, bench.world.region(origin), to
        self.begun, self.start = time.monotonic(), self.now()

    def now(self):
        name = f'castling_link_bytes_out_total{{peer="{self.to}"}}'
        figures = self.bench.world.metrics([self.origin])
        require(name in figures, f"{self.origin['name']} does not tell {name}")
        return figures[name]

    def bytes(self):
        return round(self.now() - self.start)

    def seconds(self):
        return time.monotonic() - self.begun


def idle_rate(bench, origin, to):
    """Bytes a second that go by when nothing happens: leases, heartbeats, facts."""
    counted = Counted(bench, origin, to)
    time.sleep(IDLE_SECONDS)
    return counted.bytes() / counted.seconds()


def between(one, other):
    return f"{one}-{other}", f"{other}-{one}"


def cut(bench, one, other):
    """Nothing passes between two regions any more, and neither is told."""
    for name in between(one, other):
        bench.world.relay.order(f"cut {name} both")


def die(bench, home, partner):
    """What the cut links hold is lost with the region: their connections have ended before anything passes again."""
    bench.world.kill_node(home)
    for name in between(home, partner):
        bench.world.relay.order(f"reset {name}")
    time.sleep(SETTLE_SECONDS)
    bench.world.lose_site(home)


def under_load(bench):
    load = Running("gap", *target(bench.world, bench.host, "bench"), "--connections", LOAD_CONNECTIONS, "--seconds", 600)
    try:
        load.wait_connected()
        time.sleep(LOAD_SECONDS)
        load.end()
    finally:
        load.kill()


def lose_and_return(bench, size, changes):
    wait_until_ready(bench)
    home, partner = bench.management.roles(GROUP, HUB)
    under_load(bench)
    wait_until_followed(bench)
    time.sleep(SETTLE_SECONDS)
    ends = {entry["partition"]: entry["nextSequenceNumber"] for entry in Service(bench.world, bench.host, bench.key).partitions()}
    lost_value, kept_value = f"lost-{size}-{changes}", f"kept-{size}-{changes}"
    alone = Changes(bench, bench.world.region(home), size, changes, 0)
    cut(bench, home, partner)
    alone_seconds = alone.make(lost_value)
    die(bench, home, partner)
    forced = go_forced(bench)
    kept = Changes(bench, bench.world.region(partner), size, changes, 1)
    kept.make(kept_value)
    found = {"devices": size, "changes": changes, "alone_seconds": round(alone_seconds, 2), "recovery_ms": forced["recoveryMs"], **returns(bench, home, partner)}
    found.update(fails_back(bench, home, partner))
    events = events_since(bench, home, ends)
    # What was on its way when the link was cut may have arrived; nothing may be in both places, or in none.
    require(events[kept_value] == kept.events, f"{kept.events} events were sent to {partner}, {events[kept_value]} are in the hub")
    require(events[lost_value] + found["lost_events"] == alone.events,
            f"{alone.events} events were sent to {home} alone: {events[lost_value]} are in the hub, {found['lost_events']} are named as lost")
    has_all(bench, home, kept.patched, kept_value, True)
    if not events[lost_value]:
        has_all(bench, home, [device for device in alone.patched if device not in set(kept.patched)], lost_value, False)
    return found


def returns(bench, home, partner):
    """The old primary starts: until it follows, as the control plane notes it, and has everything."""
    out, started = Counted(bench, partner, home), time.time()
    bench.world.start_nodes(home)
    ready = time.time() - started
    report = wait_until_returned(bench, 600)
    wait_until_followed_wholly(bench, partner)
    sent, seconds = out.bytes(), out.seconds()
    lost, own = report["lost"], bench.world.metrics([bench.world.region(home)])
    require(lost["exact"], f"the report of {home}'s return has no exact figures: {lost}")
    found = {"ready_s": round(ready, 2), "returned_s": round(moment(report["returned"]["at"]) - started, 2), "sent_bytes": sent,
             "idle_bytes": round(idle_rate(bench, partner, home) * seconds), "rewind_bytes": round(own["castling_rewind_bytes_total"]),
             "salvaged_records": round(own["castling_salvaged_records_total"]), "lost_records": lost["records"], "lost_events": lost["events"], "lost_bytes": lost["bytes"]}
    require(found["salvaged_records"] == lost["records"], f"{found['salvaged_records']} records are set aside, the report names {lost['records']}")
    say(f"returned after {found['returned_s']} s (ready after {found['ready_s']} s): {sent} bytes sent, {found['rewind_bytes']} of them the difference, {lost['records']} records set aside")
    return found


def fails_back(bench, home, partner):
    wait_until_ready(bench)
    out = Counted(bench, partner, home)
    bench.world.cli("hub", "failover", "start", HUB, "--yes", HUB, seconds=300)
    report = bench.world.cli_json("hub", "failover", "report", HUB)
    require(report["outcome"] == "Succeeded" and report["to"] == home, f"failing back ended as {report['outcome']} in {report['to']}: {report['error']}")
    return {"back_pause_ms": report["pauseMs"], "back_ms": report["durationMs"], "back_bytes": out.bytes()}


def events_since(bench, region, ends):
    """How many events of each kind came after those positions, read where the hub is again."""
    service, place, found = Service(bench.world, bench.host, bench.key), bench.world.regions.index(bench.world.region(region)), Counter()
    for partition, at in ends.items():
        while True:
            page = service.page(partition, at, region=place)
            found.update(event["body"].strip() if isinstance(event["body"], str) else "?" for event in page["events"])
            if not page["events"]:
                break
            at = page["next"]
    return found


def has_all(bench, region, devices, value, there):
    """A sample of the twins, read where the hub is again."""
    service, place = Service(bench.world, bench.host, bench.key), bench.world.regions.index(bench.world.region(region))
    for device in devices[::max(1, len(devices) // LOOKED_AT)]:
        found = service.twin(device, place)["properties"]["desired"].get("set")
        require((found == value) == there, f"{device} has {found!r} after the return; {value!r} must {'' if there else 'not '}be there")


def wait_until_followed_wholly(bench, region, seconds=600):
    deadline = time.monotonic() + seconds
    while True:
        figures = bench.world.metrics([bench.world.region(region)])
        partitions = sum(name.startswith("castling_partition_lsn{") for name in figures)
        if partitions and figures["castling_partition_follower_connected"] == partitions and figures["castling_replication_lag_records"] == 0:
            return
        require(time.monotonic() < deadline, f"{region} is not followed after {seconds} s")
        time.sleep(0.1)


def whole_copy(bench):
    """What the secondary costs when it comes back with an empty disk."""
    wait_until_ready(bench)
    primary, secondary = bench.management.roles(GROUP, HUB)
    bench.world.kill_node(secondary)
    bench.world.nodes.wipe(secondary)
    out = Counted(bench, primary, secondary)
    bench.world.start_nodes(secondary)
    wait_until_ready(bench, 1800)
    found = {"copy_s": round(out.seconds(), 2), "copy_bytes": out.bytes()}
    say(f"a whole copy: {found['copy_bytes']} bytes, {found['copy_s']} s")
    return found


def grow(bench, registered, size):
    say(f"registering {size - registered} devices")
    say(f"{bench.register(size - registered, registered)['devices_per_s']:.0f} devices/s")
    wait_until_followed(bench, 600)


def show(found):
    smallest = {one["changes"]: one for one in reversed(found)}
    print()
    print("  the return of the old primary: what the new one sends it (changes: in each region)")
    table(["devices, changes", "records aside", "bytes sent", "of it idle", "difference", "bytes a change", "x smallest hub", "ready s", "returned s"],
          [[f"{one['devices']}, {one['changes']}", one["lost_records"], one["sent_bytes"], one["idle_bytes"], one["rewind_bytes"], round(one["rewind_bytes"] / (2 * one["changes"])),
            f"{one['rewind_bytes'] / smallest[one['changes']]['rewind_bytes']:.2f}", one["ready_s"], one["returned_s"]] for one in found])
    print()
    print("  the failback, and the return beside a whole copy")
    table(["devices, changes", "pause ms", "whole ms", "bytes sent", "return + failback", "whole copy", "copy / return", "copy s"],
          [[f"{one['devices']}, {one['changes']}", one["back_pause_ms"], one["back_ms"], one["back_bytes"], one["sent_bytes"] + one["back_bytes"], one.get("copy_bytes", "-"),
            f"{one['copy_bytes'] / one['sent_bytes']:.1f}" if "copy_bytes" in one else "-", one.get("copy_s", "-")] for one in found])


def numbers(text):
    return sorted(int(word) for word in text.split(","))


def scenario():
    asked = argparse.ArgumentParser(prog="cargo xtask bench return")
    asked.add_argument("--devices", type=numbers, default=[1_000, 100_000, 1_000_000], help="registered devices, with commas, all in one deployment")
    asked.add_argument("--changes", type=numbers, default=[100, 1_000], help="changes that each region makes without the other, with commas")
    asked.add_argument("--copy-max", type=int, default=1_000_000, help="no whole copy of hubs with more devices")
    given = asked.parse_args()
    require(given.devices[0] >= LOAD_CONNECTIONS and given.changes[0] >= 2, f"at least {LOAD_CONNECTIONS} devices and 2 changes")
    found, registered = [], 0
    with Bench("return", Linked("bench-return")) as bench:
        for size in given.devices:
            begun = time.monotonic()
            grow(bench, registered, size)
            registered = size
            runs = [lose_and_return(bench, size, changes) for changes in given.changes]
            copy = whole_copy(bench) if size <= given.copy_max else {}
            found += [{**one, **copy} for one in runs]
            say(f"{size} devices took {time.monotonic() - begun:.0f} s")
            print(json.dumps(found[-len(runs):]))
    show(found)
    write("return", {"runs": found})
    for one in found:
        least = next(other for other in found if other["changes"] == one["changes"])
        require(one["rewind_bytes"] <= GROWTH_MAX * least["rewind_bytes"],
                f"with {one['changes']} changes {one['rewind_bytes']} bytes came back for {one['devices']} devices, {least['rewind_bytes']} for {least['devices']}: they grow with the hub")


if __name__ == "__main__":
    main(scenario)
