"""Links fail between each pair of the three nodes: both ways, one way, flapping; no two regions acknowledge, and the hub works whenever a majority and
one region do.

    cuts.py [--short]
"""

import sys
import time

from lib.desk import Operator
from lib.judge import figures, judge
from lib.report import Failed, main, require, say, table
from lib.rest import Management
from lib.scene import Hub, Scene, bring_to_rest
from lib.separate import WITNESS, Separate

GROUP = "cuts"
LEASE_SECONDS = 5.0
# Without the primary's own links a cut is not felt beyond what a device needs to notice and try again; with them, a new leader may be needed for the
# lease, and devices of the other region's gateway move.
GAP_SECONDS_MAX, GAP_WITH_PRIMARY_SECONDS_MAX = 3.0, LEASE_SECONDS + 1.0


def scenario():
    short = "--short" in sys.argv
    with Separate("cuts", small_disks=False) as bed:
        if bed.lab is None:
            say("skipped: cuts need network namespaces, which need root")
            return
        Cuts(bed, short).run()


class Cuts:
    """One async hub whose devices may use either gateway."""

    def __init__(self, bed, short):
        self.bed, self.world, self.short = bed, bed.world, short
        self.folder = bed.folder / "history"
        # Longer than a lease where a lease depends on the link.
        self.hold, self.moment = (LEASE_SECONDS + 2.0, 3.0) if short else (15.0, 15.0)
        self.windows = []  # (what, begin, end, most)

    def run(self):
        home, partner = (region["name"] for region in self.world.regions)
        management = Management(self.world, patience=5)
        management.create_group(GROUP, home)
        self.operator = Operator(self.world, management, self.folder)
        self.hub = Hub(self.world, management, GROUP, "cuts-async", "async", home)
        self.scene = Scene(self.world, self.hub, self.folder, sdk=4, plain=4, receivers=1)
        try:
            self.scene.start()
            time.sleep(2)
            for what, cuts, most in self.cases(home, partner):
                self.hold_cut(what, cuts, most)
            for a, b in ((home, partner), (home, WITNESS), (partner, WITNESS)):
                self.flap(a, b, GAP_WITH_PRIMARY_SECONDS_MAX if home in (a, b) else GAP_SECONDS_MAX)
            self.alone(home, partner)
            self.finish()
        finally:
            self.bed.heal_network()
            self.scene.close()

    def cases(self, home, partner):
        found = []
        for a, b in ((home, partner), (home, WITNESS), (partner, WITNESS)):
            most = GAP_WITH_PRIMARY_SECONDS_MAX if home in (a, b) else GAP_SECONDS_MAX
            found.append((f"{a} | {b}", [(a, b), (b, a)], most))
            one_way = [(f"{a} -x-> {b}", [(a, b)], most), (f"{b} -x-> {a}", [(b, a)], most)]
            found += one_way if not self.short else one_way[:1] if (a, b) == (home, partner) else []
        everything = [(partner, home), (home, partner), (partner, WITNESS), (WITNESS, partner)]
        found.append((f"{partner} alone", everything, GAP_WITH_PRIMARY_SECONDS_MAX))
        found.append((f"{WITNESS} alone", [(WITNESS, home), (home, WITNESS), (WITNESS, partner), (partner, WITNESS)], GAP_SECONDS_MAX))
        return found

    def hold_cut(self, what, cuts, most):
        say(f"cut {what}")
        begin = time.monotonic()
        for origin, to in cuts:
            self.bed.cut(origin, to)
        time.sleep(self.hold if most > GAP_SECONDS_MAX else self.moment)
        self.mend(what, begin, most)

    def mend(self, what, begin, most):
        self.bed.heal_network()
        time.sleep(2.0)
        self.windows.append((what, begin, time.monotonic(), most))

    def flap(self, a, b, most):
        say(f"flapping {a} | {b}")
        begin = time.monotonic()
        while time.monotonic() - begin < self.moment + 1.0:
            self.bed.cut(a, b)
            self.bed.cut(b, a)
            time.sleep(0.3)
            self.bed.heal_network()
            time.sleep(0.4)
        self.mend(f"{a} ~ {b}", begin, most)

    def alone(self, home, partner):
        """The primary has no majority: unavailable until the operator forces the failover, and from then on available though it is still away."""
        say(f"cut {home} from both others")
        self.bed.isolate(home)
        time.sleep(LEASE_SECONDS + 2.0)
        good, text, eyes = self.operator.force(self.hub)
        require(good, f"a forced failover while {home} is cut off: {text}")
        begin = eyes.active or time.monotonic()
        time.sleep(self.hold)
        self.windows.append((f"{home} alone, after the forced failover", begin, time.monotonic(), GAP_WITH_PRIMARY_SECONDS_MAX))
        self.bed.heal_network()
        # A region that was cut off tells what it knew, until it has heard.
        deadline = time.monotonic() + 10
        while self.bed.roles(self.hub) != (partner, home):
            require(time.monotonic() < deadline, f"10 s after the cut ended roles are {self.bed.roles(self.hub)}")
            time.sleep(0.2)

    def finish(self):
        self.operator.wait_until_at_rest(self.hub)
        self.operator.replay_all(self.hub)
        bring_to_rest([self.scene])
        operations, forced = self.operator.facts(self.hub)
        facts = self.scene.facts(operations=operations, forced=forced, segments=self.operator.salvages(self.hub))
        ops, infos = self.scene.histories()
        violations = [*judge(ops, infos, facts), *self.bed.complaints()]
        times = figures.acknowledgements(ops, self.hub.name)
        rows, silent = [], []
        for what, begin, end, most in self.windows:
            inside = [t for t in times if begin <= t <= end]
            longest = max((length for _, length in figures.gaps(times, begin, end, 0.0)), default=0.0)
            rows.append([what, f"{end - begin:.0f}", len(inside), f"{longest:.2f}", f"{most:.0f}"])
            if longest > most:
                silent.append((what, f"{longest:.2f} s"))
        print()
        table(["cut", "s", "acknowledged", "longest gap s", "allowed s"], rows)
        for violation in violations:
            print(f"  VIOLATED {violation}", file=sys.stderr)
        if violations or silent:
            raise Failed(f"{len(violations)} violations; not available: {silent}; histories in {self.bed.kept}")


main(scenario)
