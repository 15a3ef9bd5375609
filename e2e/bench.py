"""Benchmarks of one machine: client and server on it together. Figures go to the screen and to target/bench/*.json."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from lib.bench import Running, addresses, run, target
from lib.linked import Linked
from lib.report import main, percentile, require, say, table
from lib.rest import Management
from lib.world import SCRATCH, World

OUT = Path(os.environ.get("CASTLING_BENCH_OUT", "target/bench"))
HOME, GROUP, HUB = "westus2", "bench", "bench-hub"
NO_POLICY = ("--failover-cooldown", "0s", "--failovers-per-day", "1000", "--log", "warn,openraft=error")
PLAIN = ("--plain-mqtt-port", "1883")
PAIR = "westus2,westcentralus"
PUBLISHERS, IDLE = 20, 500


class Bench:
    """A world with one hub."""

    def __init__(self, name, world=None):
        self.world = world or World(f"bench-{name}", *NO_POLICY, *PLAIN, regions=PAIR)

    def __enter__(self):
        self.world.__enter__()
        try:
            self.make_hub()
        except BaseException:
            self.world.__exit__(*sys.exc_info())
            raise
        return self

    def make_hub(self):
        self.management = Management(self.world)
        self.management.create_group(GROUP, HOME)
        self.world.cli("hub", "create", HUB, "--location", HOME, "--resource-group", GROUP)
        self.host = self.management.hub(GROUP, HUB)["properties"]["hostName"]
        self.key = self.management.key(GROUP, HUB)

    def __exit__(self, *what):
        self.world.__exit__(*what)

    def register(self, count, start=0, prefix="bench"):
        return run("import", "--address", addresses(self.world, "https_port"), "--ca", self.world.up["ca_file"], "--host", self.host,
                   "--key", self.key, "--prefix", prefix, "--from", start, "--count", count, seconds=1800)

    def primary(self):
        """The region that decides: through the other's gateway every request takes one more step."""
        return self.world.regions[0]


def machine():
    return {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.release(), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def floor():
    SCRATCH.mkdir(parents=True, exist_ok=True)
    return run("floor", "--folder", SCRATCH)


def write(name, figures):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
    say(f"written: {OUT / name}.json")


def show_floor(disk):
    say(f"this disk: {disk['fdatasync_per_s']:.0f} fdatasync of 4 KiB a second, p50 {disk['p50_us']} us, p99 {disk['p99_us']} us")


def ingest():
    """Durable QoS 1 publishes of 256 bytes, through the gateway of the hub's primary."""
    disk = floor()
    show_floor(disk)
    found = []
    with Bench("ingest") as bench:
        bench.register(1000)
        for tls in (False, True):
            for connections in (100, 1000):
                for window in (1, 16):
                    before = bench.world.metrics([bench.primary()])
                    figures = run("ingest", *target(bench.world, bench.host, "bench", tls, [bench.primary()]), "--connections", connections, "--window", window,
                                  "--seconds", 10, "--server-pid", bench.world.pid)
                    after = bench.world.metrics([bench.primary()])
                    commits = after["castling_commits_total"] - before["castling_commits_total"]
                    figures.update(tls=tls, acks_per_commit=figures["acks"] / max(1, commits), commits_per_s=commits / figures["seconds"])
                    found.append(figures)
                    say(f"{'TLS' if tls else 'plain'} {connections}x{window}: {figures['acks_per_s']:.0f}/s")
    print()
    table(["", "acks/s", "p50 ms", "p99 ms", "server cores", "us/ack", "acks/commit", "commits/s"],
          [[f"{'TLS' if f['tls'] else 'plain'} {f['connections']}x{f['window']}", f"{f['acks_per_s']:.0f}", f"{f['puback_p50_us'] / 1000:.2f}",
            f"{f['puback_p99_us'] / 1000:.2f}", f"{f['server_cores']:.2f}", f"{f['server_cpu_us_per_ack']:.1f}", f"{f['acks_per_commit']:.0f}", f"{f['commits_per_s']:.0f}"] for f in found])
    disk_after = floor()
    show_floor(disk_after)
    write("ingest", {"disk_before": disk, "disk_after": disk_after, "runs": found})


def idle():
    """What 5,000 idle connections cost."""
    found = []
    for tls in (False, True):
        with Bench("idle") as bench:
            bench.register(5000)
            # The first connections of a process pay for what all share.
            run("idle", *target(bench.world, bench.host, "bench", tls), "--connections", 200, "--server-pid", bench.world.pid)
            figures = run("idle", *target(bench.world, bench.host, "bench", tls), "--connections", 5000, "--server-pid", bench.world.pid)
            found.append({"tls": tls, **figures})
    print()
    table(["5,000 idle", "bytes per connection", "connects/s"], [["TLS" if f["tls"] else "plain", f"{f['server_bytes_per_connection']:.0f}", f"{f['connects_per_s']:.0f}"] for f in found])
    write("idle", {"runs": found})


def bulk():
    """Devices created in bulk over HTTPS."""
    disk = floor()
    show_floor(disk)
    found, start = [], 0
    with Bench("import") as bench:
        for connections in (1, 4, 16):
            count = 100_000 if connections > 1 else 20_000
            figures = run("import", "--address", f"{bench.primary()['address']}:{bench.primary()['https_port']}", "--ca", bench.world.up["ca_file"], "--host", bench.host,
                          "--key", bench.key, "--from", start, "--count", count, "--connections", connections, seconds=1800)
            start += count
            found.append(figures)
    print()
    table(["bulk creation", "devices/s"], [[f"{f['connections']} connections, {f['devices']} devices", f"{f['devices_per_s']:.0f}"] for f in found])
    write("import", {"disk": disk, "runs": found})


def failover():
    """Planned failovers with more and more registered devices; with --rtt, over links of such round trips, and forced ones with --forced."""
    asked = argparse.ArgumentParser(prog="cargo xtask bench failover")
    asked.add_argument("sizes", nargs="*", type=int, help="registered devices, in rising order, all in one process")
    asked.add_argument("--rtt", help="round trips of the links, in milliseconds, with commas: three processes with a relay between them")
    asked.add_argument("--loss", type=float, default=0.0, help="per cent of segments lost on those links")
    asked.add_argument("--forced", action="store_true", help="forced failovers as well: the primary is lost under load, with what its links carry")
    asked.add_argument("--count", type=int, default=20, help="planned failovers for each round trip")
    asked.add_argument("--forced-count", type=int, default=3)
    # "all" runs every benchmark as it is without arguments.
    given = asked.parse_args(sys.argv[2:] if sys.argv[1] == "failover" else [])
    if given.rtt is not None or given.forced:
        over_links([float(rtt) for rtt in (given.rtt or "0").split(",")], given.loss, given.count, given.forced_count if given.forced else 0)
    else:
        over_sizes(given.sizes or [1_000, 100_000, 1_000_000])


def over_sizes(sizes):
    found = []
    with Bench("failover") as bench:
        bench.register(20, prefix="gap")
        # As many as there are, but 2,000 at most.
        idle = min(2000, sizes[0] - 20)
        bench.register(idle, prefix="idle")
        registered, others = 20 + idle, 0
        for size in sizes:
            if idle < 2000 <= size - 20:
                bench.register(2000 - idle, idle, prefix="idle")
                registered, idle = registered + 2000 - idle, 2000
            count = size - registered
            if count > 0:
                say(f"registering {count} devices")
                say(f"{bench.register(count, others)['devices_per_s']:.0f} devices/s")
                registered, others = size, others + count
            found.append({"registered": registered, "connected": 20 + idle, **measure_failovers(bench, 20, idle)})
            say(f"{registered} registered: pauses {found[-1]['pauses_ms']} ms")
    print()
    table(["registered", "connected", "pause p50 ms", "p99", "max", "gap p50 ms", "gap max", "whole p50 ms", "reconnects"],
          [[f["registered"], f["connected"], percentile(f["pauses_ms"], 0.5), percentile(f["pauses_ms"], 0.99), max(f["pauses_ms"]), percentile(f["gaps_ms"], 0.5), max(f["gaps_ms"]),
            percentile(f["whole_ms"], 0.5), f["reconnects"]] for f in found])
    write("failover", {"publishing": 20, "failovers_each": 20, "runs": found})
    worst = max(percentile(f["pauses_ms"], 0.99) for f in found)
    require(worst < 1000, f"p99 of the pause is {worst} ms: not under a second")


def over_links(rtts, loss, count, forced_count):
    """Planned and forced failovers between processes whose links are slow and lossy."""
    found = []
    with Bench("failover-links", Linked("bench-failover-links")) as bench:
        bench.register(PUBLISHERS, prefix="gap")
        bench.register(IDLE, prefix="idle")
        for rtt in rtts:
            bench.world.set_links(rtt, loss)
            wait_until_followed(bench)
            one = {"rtt_ms": rtt, "loss_percent": loss, "planned": measure_failovers(bench, count, IDLE)}
            say(f"round trip {rtt:g} ms: pauses {one['planned']['pauses_ms']} ms")
            one["forced"] = [force(bench) for _ in range(forced_count)]
            found.append(one)
    print()
    print(f"  {loss:g} % of segments lost, {PUBLISHERS} devices publishing every 10 ms")
    table(["planned, round trip", "pause p50 ms", "p99", "max", "gap p50 ms", "gap max", "whole p50 ms", "reconnects"],
          [[f"{f['rtt_ms']:g} ms", percentile(p["pauses_ms"], 0.5), percentile(p["pauses_ms"], 0.99), max(p["pauses_ms"]), percentile(p["gaps_ms"], 0.5), max(p["gaps_ms"]),
            percentile(p["whole_ms"], 0.5), p["reconnects"]] for f in found for p in [f["planned"]]])
    if forced_count:
        print()
        table(["forced, round trip", "word to open ms", "kill to open", "longest gap ms", "shown records", "shown ms", "lost records", "events", "ms"],
              [[f"{f['rtt_ms']:g} ms", one["recovery_ms"], one["dead_to_open_ms"], one["gap_ms"], one["shown_records"], one["shown_span_ms"], one["lost_records"], one["lost_events"], one["lost_span_ms"]]
               for f in found for one in f["forced"]])
    write("failover-links", {"publishing": PUBLISHERS, "idle": IDLE, "runs": found})
    worst = max(percentile(f["planned"]["pauses_ms"], 0.99) for f in found)
    require(worst < 1000, f"p99 of the pause is {worst} ms: not under a second")


def force(bench):
    """Loses the primary under load, forces the hub over, brings the old region back, and reads what it alone had."""
    wait_until_ready(bench)
    primary = bench.management.roles(GROUP, HUB)[0]
    publishers = Running("gap", *target(bench.world, bench.host, "gap"), "--connections", PUBLISHERS, "--seconds", 600)
    try:
        publishers.wait_connected()
        time.sleep(2)
        killed = time.time()
        bench.world.lose_site(primary)
        recovered = go_forced(bench)
        time.sleep(2)
        figures = publishers.end()
    finally:
        publishers.kill()
    opened = next(step for step in recovered["steps"] if step["name"] == "open")["ended"]
    bench.world.start_nodes(primary)
    returned = wait_until_returned(bench)
    lost = returned["lost"]
    require(lost["exact"], f"the report of {primary}'s return has no exact figures: {lost}")
    say(f"forced: open {recovered['recoveryMs']} ms after the word; lost {lost['records']} records")
    return {"recovery_ms": recovered["recoveryMs"], "dead_to_open_ms": round(moment(opened) * 1000 - killed * 1000), "gap_ms": figures["longest_ms"],
            "shown_records": recovered["lost"]["records"], "shown_span_ms": recovered["lost"]["spanMs"], "lease_wait_ms": recovered["leaseWaitMs"], "steps_ms": {step["name"]: step["ms"] for step in recovered["steps"]},
            "lost_records": lost["records"], "lost_events": lost["events"], "lost_span_ms": lost["spanMs"], "reconnects": figures["reconnects"]}


def go_forced(bench, seconds=120):
    """The forced failover, as soon as the regions agree that the primary is lost; its report."""
    deadline = time.monotonic() + seconds
    words = ("hub", "failover", "start", HUB, "--forced", "--accept-loss", "all", "--yes", HUB)
    while True:
        done = subprocess.run(bench.world.command(*words), capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            return bench.world.cli_json("hub", "failover", "report", HUB)
        require(time.monotonic() < deadline, f"no forced failover after {seconds} s: {done.stdout}{done.stderr}")
        time.sleep(0.2)


def moment(text):
    """Seconds since 1970 of an ISO time in UTC."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def wait_until_returned(bench, seconds=180):
    deadline = time.monotonic() + seconds
    while True:
        report = bench.world.cli_json("hub", "failover", "report", HUB)
        if report["returned"]:
            return report
        require(time.monotonic() < deadline, f"the old primary has not returned after {seconds} s: {report['lost']}")
        time.sleep(0.2)


def wait_until_ready(bench, seconds=120):
    """Until a planned failover could begin: both regions are there and in step."""
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(bench.world.command("hub", "failover", "check", HUB), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            return
        require(time.monotonic() < deadline, f"no failover could begin after {seconds} s: {done.stdout}{done.stderr}")
        time.sleep(0.5)


def storm():
    """Connected devices lose their region at once, the hub is forced over, and they come back through the other region."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[1] == "storm" else 10_000
    with Bench("storm", Linked("bench-storm")) as bench:
        say(f"registering {count} devices")
        bench.register(count, prefix="storm")
        wait_until_ready(bench)
        primary, secondary = bench.management.roles(GROUP, HUB)
        ways = [bench.world.region(primary), bench.world.region(secondary)]
        fleet = Running("storm", *target(bench.world, bench.host, "storm", regions=ways), "--connections", count, "--hold-seconds", 900)
        try:
            fleet.wait_connected(300)
            say(f"{count} devices are connected")
            time.sleep(3)
            before = bench.world.metrics(ways[1:])
            killed = time.time()
            bench.world.lose_site(primary)
            report = go_forced(bench)
            fleet.wait_said("back", 300)
            time.sleep(1)
            after = bench.world.metrics(ways[1:])
            figures = fleet.end()
        finally:
            fleet.kill()
        bench.world.start_nodes(primary)
        wait_until_returned(bench)
    opened = moment(next(step for step in report["steps"] if step["name"] == "open")["ended"])
    after_open = {name: figures["first_lost_ms"] + figures[name] - round(opened * 1000) for name in ("back_p50_ms", "back_p90_ms", "back_p99_ms", "back_all_ms")}
    counted = {name: after.get(f"castling_mqtt_{name}_total", 0) - before.get(f"castling_mqtt_{name}_total", 0)
               for name in ("accepted", "admitted", "admission_delayed", "admission_refused", "handshakes_resumed", "connects")}
    print()
    table(["back", "50 %", "90 %", "99 %", "all"],
          [["ms after the region died", *(figures[name] for name in after_open)], ["ms after the hub opened", *after_open.values()]])
    print()
    table(["a second", "peak", "held"], [["admitted (TLS done)", figures["admitted_peak_per_s"], f"{figures['admitted_held_per_s']:.0f}"],
                                         ["back (CONNACK)", figures["back_peak_per_s"], f"{figures['back_held_per_s'] or 0:.0f}"]])
    print()
    table(["the region's own count", "connections"], [[name, f"{number:.0f}"] for name, number in counted.items()])
    write("storm", {"devices": count, "dead_to_open_ms": round((opened - killed) * 1000), "recovery_ms": report["recoveryMs"], "after_open": after_open, "server": counted, **figures})
    require(figures["back"] == count, f"{count - figures['back']} of {count} devices did not come back")


def control():
    """The management API with 1,000 hubs: lists, writes, and 100 hubs failed over in one plan."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--hubs", type=int, default=1000)
    arguments.add_argument("--plan", type=int, default=100)
    wanted, _ = arguments.parse_known_args(sys.argv[2:])
    disk = floor()
    show_floor(disk)
    options = (*NO_POLICY, "--hubs-per-subscription", str(wanted.hubs + 10), "--requests-per-minute", "100000000")
    with World("bench-control", *options, regions=PAIR) as world:
        management = Management(world)
        management.create_group(GROUP, HOME)
        begun = time.monotonic()
        made = [management.call("PUT", management.hub_path(GROUP, f"hub-{number}"), {"location": HOME, "sku": {"name": "S1", "capacity": 1},
                                "properties": {"eventHubEndpoints": {"events": {"partitionCount": 2, "retentionTimeInDays": 1}}}}) for number in range(wanted.hubs)]
        for answer in made:
            management.wait(answer, seconds=600)
        created = time.monotonic() - begun
        say(f"{wanted.hubs} hubs in {created:.1f} s")
        place = world.regions[0]
        common = ("control", "--address", f"{place['address']}:{place['management_port']}", "--ca", world.up["ca_file"], "--token", management.token)
        subscription = f"/subscriptions/{world.up['subscription']}"
        hubs = f"{subscription}/providers/Microsoft.Devices/IotHubs?api-version=2023-06-30"
        one = f"{management.hub_path(GROUP, 'hub-1')}?api-version=2023-06-30"
        groups = f"{subscription}/resourcegroups/bench-{{n}}?api-version=2021-04-01"
        rows = {}
        for name, connections, more in (
            ("hub list", 1, ("--path", hubs)), ("hub list", 8, ("--path", hubs)), ("one hub", 8, ("--path", one)),
            ("hub list, nothing to read but groups", 8, ("--path", f"{subscription}/resourcegroups?api-version=2021-04-01")),
            ("group written", 1, ("--method", "PUT", "--path", groups, "--body", json.dumps({"location": HOME}))),
            ("group written", 32, ("--method", "PUT", "--path", groups, "--body", json.dumps({"location": HOME}))),
        ):
            figures = run(*common, *more, "--connections", connections, "--seconds", 10, seconds=120)
            require(figures["refused"] == 0, f"{name}: {figures['refused']} refused, such as {figures['first_refusal']}")
            rows[f"{name}, {connections} at once"] = figures
        print()
        table(["", "requests/s", "p50 ms", "p99 ms", "KB per answer"],
              [[name, f"{f['requests_per_s']:.0f}", f"{f['p50_us'] / 1000:.2f}", f"{f['p99_us'] / 1000:.2f}", f"{f['bytes_per_answer'] / 1000:.1f}"] for name, f in rows.items()])
        plans = [one_plan(world, management, subscription, wanted.plan, parallel) for parallel in (10, 50)]
        print()
        table([f"{wanted.plan} hubs in one plan", "s", "pause p50 ms", "pause max ms"], [[f"{p['parallel']} at once", f"{p['seconds']:.1f}", p["pause_p50_ms"], p["pause_max_ms"]] for p in plans])
        write("control", {"disk": disk, "hubs": wanted.hubs, "created_s": created, "runs": rows, "plans": plans})


def one_plan(world, management, subscription, count, parallel):
    path = f"{subscription}/providers/Castling.Failover/plans"
    begun = time.monotonic()
    plan = management.call("POST", path, {"hubs": [f"hub-{number}" for number in range(count)], "parallel": parallel, "reason": "bench"}).json()
    while plan["properties"]["status"] == "Running":
        require(time.monotonic() - begun < 600, f"the plan does not end: {plan}")
        time.sleep(0.1)
        plan = management.call("GET", f"{path}/{plan['name']}").json()
    seconds = time.monotonic() - begun
    pauses = sorted(hub["pauseMs"] for hub in plan["properties"]["hubs"] if hub["pauseMs"] is not None)
    failed = [hub for hub in plan["properties"]["hubs"] if hub["status"] != "Succeeded"]
    require(not failed, f"{len(failed)} failovers of the plan did not succeed, such as {failed[:2]}")
    say(f"{count} hubs failed over, {parallel} at once: {seconds:.1f} s")
    return {"parallel": parallel, "seconds": seconds, "pause_p50_ms": pauses[len(pauses) // 2], "pause_max_ms": pauses[-1], "pauses_ms": pauses}


def measure_failovers(bench, count, idle):
    idle_ones = Running("idle", *target(bench.world, bench.host, "idle"), "--connections", idle, "--hold-seconds", 1800)
    publishers = Running("gap", *target(bench.world, bench.host, "gap"), "--connections", 20, "--seconds", 1800)
    try:
        idle_ones.wait_connected()
        publishers.wait_connected()
        wait_until_followed(bench)
        before = bench.world.metrics()
        windows, reports = [], []
        for _ in range(count):
            time.sleep(0.5)
            begun = time.time() * 1000
            bench.world.cli("hub", "failover", "start", HUB, "--yes", HUB, seconds=300)
            windows.append((begun, time.time() * 1000 + 300))
            reports.append(bench.world.cli_json("hub", "failover", "report", HUB))
            require(reports[-1]["outcome"] == "Succeeded", f"a failover ended as {reports[-1]['outcome']}: {reports[-1]['error']}")
        time.sleep(0.5)
        closed = bench.world.metrics()["castling_sessions_closed_total"] - before["castling_sessions_closed_total"]
        figures = publishers.end()
        idle_ones.end()
    finally:
        publishers.kill()
        idle_ones.kill()
    require(not figures["stuck"], f"publishes that were never acknowledged though their connections stayed open: {figures['stuck'][:5]}; failovers {[(r['started'], r['ended'], r['pauseMs'], r['requestsParked']) for r in reports]}")
    require(closed == 0, f"{closed} device sockets were closed during {count} failovers")
    longest = [max((gap["ms"] for gap in figures["gaps"] if begun <= gap["end_ms"] <= ended), default=0) for begun, ended in windows]
    return {"pauses_ms": [report["pauseMs"] for report in reports], "whole_ms": [report["durationMs"] for report in reports], "gaps_ms": longest,
            "longest_gap_ms": figures["longest_ms"], "reconnects": figures["reconnects"], "publisher_acks": figures["acks"], "publisher_p50_us": figures["puback_p50_us"]}


def wait_until_followed(bench, seconds=120):
    """After registering many devices the secondary has some catching up to do; that is not what is measured."""
    deadline = time.monotonic() + seconds
    while bench.world.metrics().get("castling_replication_lag_records", 0) > 200:
        require(time.monotonic() < deadline, f"the secondary is behind after {seconds} s")
        time.sleep(0.2)


MODES = {"ingest": ingest, "failover": failover, "idle": idle, "import": bulk, "storm": storm, "control": control}


def scenario():
    name = sys.argv[1]
    for mode in MODES.values() if name == "all" else [MODES[name]]:
        mode()


if __name__ == "__main__":
    main(scenario)
