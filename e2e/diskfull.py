"""The disk is full on the primary, on the secondary, on the witness: clear errors, nothing acknowledged is lost, and work goes on when there is room again.

    diskfull.py [--short]
"""

import re
import sys
import time

import requests

from lib.desk import Operator
from lib.judge import figures, judge
from lib.report import Failed, main, require, say, table
from lib.rest import Management
from lib.scene import Hub, Scene, bring_to_rest
from lib.separate import WITNESS, Separate

GROUP = "diskfull"
RECOVER_SECONDS_MAX = 20.0
WORDS = ("disk", "space", "storage", "full", "room")


def scenario():
    short = "--short" in sys.argv
    with Separate("diskfull") as bed:
        if not bed.disks:
            say("skipped: small disks need root")
            return
        DiskFull(bed, short).run()


class DiskFull:
    """One async hub; each node's disk in turn."""

    def __init__(self, bed, short):
        self.bed, self.world = bed, bed.world
        self.folder = bed.folder / "history"
        self.hold = 5.0 if short else 15.0
        self.rows, self.problems = [], []

    def run(self):
        home, partner = (region["name"] for region in self.world.regions)
        management = Management(self.world, patience=5)
        management.create_group(GROUP, home)
        self.operator = Operator(self.world, management, self.folder)
        self.hub = Hub(self.world, management, GROUP, "full-async", "async", home)
        self.scene = Scene(self.world, self.hub, self.folder, sdk=3, plain=3, receivers=1)
        try:
            self.scene.start()
            time.sleep(2)
            for node, role in ((WITNESS, "witness"), (partner, "secondary"), (home, "primary")):
                for leave, how in ((32 << 20, "below the reserve"), (0, "no byte left")):
                    self.fill(node, role, leave, how)
            self.finish()
        finally:
            for node in self.bed.nodes:
                self.bed.empty_disk(node)
            self.scene.close()

    def fill(self, node, role, leave, how):
        say(f"{node} ({role}): {how}")
        before = self.world.log_path_of(node).stat().st_size
        begin = time.monotonic()
        self.bed.fill_disk(node, leave)
        time.sleep(self.hold)
        code, checked = self.operator.run("hub", "failover", "check", self.hub.name)
        told = self.told(checked)
        answer = self.write() if role == "primary" else "-"
        # The control plane needs two disks of three.
        changed = self.change(f"while-full-{len(self.rows)}")
        if changed:
            self.problems.append(f"{node} ({how}): the control plane takes no change: {changed}")
        self.bed.empty_disk(node)
        freed = time.monotonic()
        restarted = self.still_there(node, how)
        back = self.scene.first_acknowledgement(freed, RECOVER_SECONDS_MAX) - freed
        written = self.world.log_path_of(node).read_bytes()[before:].decode(errors="replace")
        lines = [line for line in written.splitlines() if ("WARN" in line or "ERROR" in line) and any(word in line.lower() for word in WORDS)]
        if role != "witness" and code == 0:
            self.problems.append(f"{node} ({how}): the check of a planned failover passes though its disk is full")
        if not lines and role != "witness":
            self.problems.append(f"{node} ({how}): its log does not say that the disk is full")
        say(f"  the check says: {told or 'nothing'}; a write is answered with {answer}; {back:.1f} s after there was room it worked again {restarted}")
        self.rows.append([role, how, begin, freed, f"{back:.1f}", restarted or "-", len(lines), told[:60] or "-", answer[:90]])

    def still_there(self, node, how):
        """The process lives and its copy of the control plane works; a node that only says clearly why it ended is started again."""
        if self.bed.is_dead(node):
            self.bed.start(node, wait=True)
            return "ended, restarted"
        deadline = time.monotonic() + RECOVER_SECONDS_MAX
        while True:
            status = self.world.nodes.status(node)
            if status and status["ready"] and not status["control"]["failed"]:
                return ""
            if time.monotonic() > deadline:
                self.problems.append(f"{node} ({how}): {RECOVER_SECONDS_MAX:.0f} s after there was room it does not work: {status and status['control']}, waits for {status and status['waitsFor']}")
                self.bed.kill(node)
                self.bed.start(node, wait=True)
                return "stuck, restarted"
            time.sleep(0.2)

    def told(self, checked):
        for line in checked.splitlines():
            if "disk" in line.lower() and "fail" in line.lower():
                return " ".join(line.split())
        return ""

    def change(self, group, seconds=15):
        """What the control plane answers to a change, as long as it does not take it; if the full node led it, another must be elected first."""
        deadline = time.monotonic() + seconds
        while True:
            code, text = self.operator.run("hub", "consumer-group", "create", self.hub.name, group)
            if code == 0 or "exists" in text:
                return ""
            if time.monotonic() > deadline:
                return text.strip()[-300:]
            time.sleep(0.5)

    def write(self):
        """What a service is answered while the disk is full."""
        try:
            answer = self.hub.service.clone().raw("PATCH", "/twins/sdk-0", json={"tags": {"full": True}}, headers={"If-Match": '"*"'}, timeout=20)
        except requests.RequestException as why:
            return repr(why)
        if answer.status_code < 300:
            return f"{answer.status_code}"
        found = re.search(r'message\W+([^"\\]+)', answer.text)
        return f"{answer.status_code}: {found[1] if found else answer.text}"

    def finish(self):
        self.operator.wait_until_at_rest(self.hub)
        bring_to_rest([self.scene])
        first = self.scene.stream()
        require(self.operator.planned(self.hub, "both disks hold the same"), "after all that, a planned failover does not succeed")
        operations, forced = self.operator.facts(self.hub)
        facts = self.scene.facts(operations=operations, forced=forced, other_events=first)
        ops, infos = self.scene.histories()
        violations = [*judge(ops, infos, facts), *self.bed.complaints()]
        times = figures.acknowledgements(ops, self.hub.name)
        rows = []
        for role, how, begin, freed, back, restarted, lines, told, answer in self.rows:
            during = sum(1 for t in times if begin + 1.0 <= t <= freed)
            rows.append([role, how, during, back, restarted, lines, told, answer])
            if role != "primary" and during == 0:
                self.problems.append(f"{role} ({how}): nothing was acknowledged meanwhile")
        print()
        table(["full on", "how", "acks meanwhile", "works again after s", "process", "log lines", "the check says", "a write is answered"], rows)
        for violation in violations:
            print(f"  VIOLATED {violation}", file=sys.stderr)
        if violations or self.problems:
            raise Failed(f"{len(violations)} violations; {self.problems}; histories in {self.bed.kept}")


main(scenario)
