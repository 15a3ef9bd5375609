"""A region dies under load, and another one only sleeps: forced failover, return, salvage, failback.

    disaster.py [--short]

Two regions and a witness as processes of their own. First the primary is cut off for a moment and killed with SIGKILL; the operator sees the loss,
says the word, and the hub is active within lease + 2 s. It returns; what was lost is exactly what was reported, and comes back as late events, once;
failing back loses nothing. Then the primary is stopped with SIGSTOP for longer than its lease, failed over meanwhile, and wakes: it acknowledges
nothing. A `sync` hub stands beside it and loses nothing at all.
"""

import re
import sys
import time

from lib.desk import Operator
from lib.judge import judge
from lib.report import main, require, say, table
from lib.rest import Management
from lib.scene import Hub, Scene, bring_to_rest
from lib.separate import Separate

GROUP = "disaster"
LEASE_SECONDS = 5.0
ACTIVE_SECONDS_MAX = LEASE_SECONDS * 1.02 + 2.0


def scenario():
    short = "--short" in sys.argv
    with Separate("disaster", small_disks=False) as bed:
        run = Disaster(bed, short)
        try:
            run.begin()
            run.dies()
            run.returns()
            run.fails_back()
            run.sleeps()
            run.finish()
        finally:
            run.close()


class Disaster:
    """An async and a sync hub, both at home in the first region."""

    def __init__(self, bed, short):
        self.bed, self.world, self.short = bed, bed.world, short
        self.folder = bed.folder / "history"
        self.home, self.partner = (region["name"] for region in bed.world.regions)
        self.rows, self.scenes = [], []

    def begin(self):
        management = Management(self.world, patience=5)
        management.create_group(GROUP, self.home)
        self.operator = Operator(self.world, management, self.folder)
        self.hubs = [Hub(self.world, management, GROUP, f"disaster-{kind}", kind, self.home) for kind in ("async", "sync")]
        self.world.cli("hub", "consumer-group", "create", self.hubs[0].name, "tail")
        shapes = [{"sdk": 4, "plain": 6, "receivers": 1, "tail": "tail"}, {"sdk": 2, "plain": 2, "receivers": 1, "writers": 1}]
        self.scenes = [Scene(self.world, hub, self.folder, **shape) for hub, shape in zip(self.hubs, shapes)]
        for scene in self.scenes:
            scene.start()
        say(f"{sum(len(scene.devices) for scene in self.scenes)} devices send; the hubs' primary is {self.home}")
        time.sleep(3 if self.short else 10)

    # --- it dies ----------------------------------------------------------------------------------------------------------

    def dies(self):
        refused = self.operator.run("hub", "failover", "start", self.hubs[0].name, "--forced", "--accept-loss", "all", "--yes", self.hubs[0].name)
        require(refused[0] == 4 and "planned" in refused[1], f"a forced failover from a healthy primary: exit code {refused[0]}: {refused[1]}")
        say(f"while the primary is healthy: {refused[1].strip().splitlines()[-1]}")
        if self.bed.lab:
            # So that there is something to lose: what is written now stays in the region that dies, also what its kernel still has to send.
            self.bed.cut(self.home, self.partner)
            self.bed.cut(self.partner, self.home)
            time.sleep(1.5)
        self.bed.kill(self.home)
        say(f"kill -9 of {self.home}")
        time.sleep(1.0)
        for hub in self.hubs:
            self.shown_first(hub)
            self.force(hub, "killed")
        self.none_from("killed")

    def shown_first(self, hub):
        """The loss is told before anything is asked, and too small a bound is refused."""
        deadline = time.monotonic() + 30
        while True:
            code, text = self.operator.run("hub", "failover", "check", hub.name, "--forced", "--accept-loss", "all")
            if code == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        require(code == 0, f"checking a forced failover of {hub.name}: exit code {code}: {text}")
        loss = [line.strip() for line in text.splitlines() if re.match(r"\s+(records|bytes|oldest|devices|kinds|known as of|worst case)\s", line)]
        require(len(loss) >= 6, f"the check of a forced failover does not tell the loss: {text}")
        say(f"{hub.name} would lose: " + "; ".join(re.sub(r"\s+", " ", line) for line in loss))
        records = int(re.search(r"records\s+(\d+)", text)[1])
        if records > 0:
            code, text = self.operator.run("hub", "failover", "start", hub.name, "--forced", "--accept-loss", f"{records - 1}records", "--yes", hub.name)
            require(code in (3, 4), f"too small a bound was taken: exit code {code}: {text}")
            say(f"accepting {records - 1} records is refused: {text.strip().splitlines()[-1]}")

    def force(self, hub, how):
        begun = time.monotonic()
        good, text, eyes = self.operator.force(hub)
        require(good, f"the forced failover of {hub.name}: {text}")
        # The command line looks and asks first; the word is given when the failover is there.
        begun = eyes.begun or begun
        active = (eyes.active or time.monotonic()) - begun
        scene = next(scene for scene in self.scenes if scene.hub is hub)
        acknowledged = scene.first_acknowledgement(eyes.committed or begun, 20)
        require(active <= ACTIVE_SECONDS_MAX, f"{hub.name} was active {active:.2f} s after the confirmation, not within {ACTIVE_SECONDS_MAX:.1f} s")
        roles = self.bed.roles(hub)
        require(roles[0] == self.partner and state(self.operator, hub) == "Active", f"{hub.name} is not active in {self.partner}: {roles}")
        self.rows.append([hub.name, how, f"{active:.2f}", f"{acknowledged - begun:.2f}"])

    def none_from(self, how):
        time.sleep(2 if self.short else 10)
        say(f"{how}: both hubs work in {self.partner}")

    # --- it returns -------------------------------------------------------------------------------------------------------

    def returns(self):
        self.bed.heal_network()
        self.bed.start(self.home)
        begun = time.monotonic()
        for hub in self.hubs:
            self.operator.wait_until_at_rest(hub)
        say(f"{self.home} has returned and follows, {time.monotonic() - begun:.1f} s after its start")
        for hub in self.hubs:
            self.salvaged(hub)

    def salvaged(self, hub):
        code, text = self.operator.run("hub", "salvage", "list", hub.name)
        require(code == 0, f"castling hub salvage list: exit code {code}: {text}")
        segments = self.operator.salvages(hub)
        report = self.operator.facts(hub)[0][0].get("report") or {}
        lost = report.get("lost") or {}
        require(lost.get("exact"), f"the report of {hub.name} does not tell the exact loss after the return: {lost}")
        for figure in ("records", "events"):
            kept = sum(segment[figure] for segment in segments)
            require(kept == lost[figure], f"{hub.name}: the segments keep {kept} {figure}, the report names {lost[figure]} as lost")
        say(f"{hub.name}: lost {lost['records']} records, {lost['events']} of them events; in {len(segments)} segments")
        for segment in segments:
            code, text = self.operator.run("hub", "salvage", "show", hub.name, segment["id"])
            require(code == 0, f"castling hub salvage show {segment['id']}: exit code {code}: {text}")
        self.operator.replay_all(hub, times=2)

    def fails_back(self):
        for hub in self.hubs:
            require(self.operator.planned(hub, "back home"), f"failing back {hub.name} did not succeed")
            report = self.operator.facts(hub)[0][0]["report"]
            require(report["lost"]["records"] == 0 and self.bed.roles(hub)[0] == self.home, f"failing back: {report['lost']}, {self.bed.roles(hub)}")
            self.rows.append([hub.name, "failed back", f"{report['durationMs'] / 1000:.2f}", f"pause {report['pauseMs']} ms"])
        time.sleep(2 if self.short else 5)

    # --- it sleeps --------------------------------------------------------------------------------------------------------

    def sleeps(self):
        """SIGSTOP for longer than the lease; what devices had sent meanwhile lies in its sockets when it wakes."""
        sleep = LEASE_SECONDS + 3.0 if self.short else 30.0
        self.bed.pause(self.home)
        begun = time.monotonic()
        say(f"SIGSTOP of {self.home}")
        for hub in self.hubs:
            self.force(hub, "stopped")
        time.sleep(max(0.0, sleep - (time.monotonic() - begun)))
        self.bed.resume(self.home)
        say(f"SIGCONT after {time.monotonic() - begun:.1f} s")
        time.sleep(4 if self.short else 15)
        for hub in self.hubs:
            self.operator.wait_until_at_rest(hub)
            self.operator.replay_all(hub)

    # --- the end ----------------------------------------------------------------------------------------------------------

    def close(self):
        for scene in self.scenes:
            scene.close()

    def finish(self):
        bring_to_rest(self.scenes)
        violations = self.bed.complaints()
        facts = []
        for scene in self.scenes:
            operations, forced = self.operator.facts(scene.hub)
            facts.append(scene.facts(operations=operations, forced=forced, segments=self.operator.salvages(scene.hub)))
        ops, infos = self.scenes[0].histories()
        for one in facts:
            violations += judge(ops, infos, one)
        print()
        table(["hub", "the primary", "active after s", "first acknowledgement after s"], self.rows)
        print()
        table(["hub", "events", "late", "lost as reported"], [[one.hub, len(one.live), len(one.late), " + ".join(str(forced.lost) for forced in one.forced)] for one in facts])
        for violation in violations:
            print(f"  VIOLATED {violation}", file=sys.stderr)
        require(not violations, f"{len(violations)} violations; histories in {self.bed.kept}")


def state(operator, hub):
    return operator.management.hub(hub.group, hub.name)["properties"]["state"]


main(scenario)
