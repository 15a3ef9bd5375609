"""Chaos: faults from a seed while devices, twin writers, C2D senders and consumers work; then everything is healed, audited and judged.

    chaos.py [--minutes N] [--seed S] [--short] [--only FAULT[,FAULT…]]
"""

import argparse
import random
import sys
import time

from lib.desk import Operator
from lib.judge import judge
from lib.judge.facts import some
from lib.nemesis import Nemesis
from lib.report import Failed, main, say
from lib.rest import Management
from lib.scene import Hub, Scene, bring_to_rest
from lib.telling import write_report
from lib.testbed import open_bed

GROUP = "chaos"


def options():
    parser = argparse.ArgumentParser(prog="cargo xtask chaos", description="Faults from a seed, then a verdict.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are made [default: 10]")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's schedule")
    parser.add_argument("--short", action="store_true", help="about a minute of faults: a few of the usual ones")
    parser.add_argument("--only", default="", help="only these faults, by name, separated by commas")
    parser.add_argument("--world", action="store_true", help="one process with `castling up`: kills and pauses of everything, planned failovers")
    return parser.parse_args()


def scenario():
    asked = options()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 32)
    minutes = 0.75 if asked.short else asked.minutes
    say(f"seed {seed}, {minutes:g} minutes of faults")
    with open_bed("chaos", one_process=asked.world) as bed:
        run = Run(bed, seed, minutes, [name for name in asked.only.split(",") if name], asked.short)
        try:
            run.begin()
            run.make_faults()
            run.stop_faults()
            violations = run.finish()
        finally:
            run.close()
    again = f"cargo xtask chaos --seed {seed}" + (" --short" if asked.short else f" --minutes {minutes:g}")
    if violations:
        for violation in violations:
            print(f"  VIOLATED {violation}", file=sys.stderr)
        raise Failed(f"{len(violations)} violations; the same schedule again: {again}")


class Run:
    """One run on a test bed: an async and a sync hub."""

    def __init__(self, bed, seed, minutes, only, short):
        self.bed, self.seed, self.minutes = bed, seed, minutes
        self.chance = random.Random(seed)
        self.folder = bed.folder / "history"
        self.scenes = []
        self.operator = None
        self.nemesis = Nemesis(bed, self.chance, self.folder, only, short)

    def begin(self):
        world = self.bed.world
        management = Management(world, patience=5)
        management.create_group(GROUP, world.regions[0]["name"])
        self.operator = Operator(world, management, self.folder)
        home = world.regions[0]["name"]
        shapes = [("async", {"sdk": 4, "plain": 4, "receivers": 2, "tail": "tail"}), ("sync", {"sdk": 2, "plain": 2, "receivers": 1, "writers": 1})]
        hubs = [Hub(world, management, GROUP, f"chaos-{kind}", kind, home) for kind, _ in shapes]
        world.cli("hub", "consumer-group", "create", hubs[0].name, "tail")
        self.scenes = [Scene(world, hub, self.folder, **shape) for hub, (_, shape) in zip(hubs, shapes)]
        for scene in self.scenes:
            scene.start()
        self.nemesis.at_work(self.operator, hubs)
        time.sleep(3)
        self.begun = time.monotonic()

    def make_faults(self):
        self.nemesis.run(self.minutes * 60)
        self.ended = time.monotonic()

    def stop_faults(self):
        self.nemesis.heal()

    def close(self):
        for scene in self.scenes:
            scene.close()

    def finish(self):
        say("everything is healed; waiting until both regions follow")
        for scene in self.scenes:
            self.operator.wait_until_at_rest(scene.hub)
            self.operator.replay_all(scene.hub, times=2)
        bring_to_rest(self.scenes)
        violations, facts = [], []
        for scene in self.scenes:
            facts.append(self.audit(scene))
        ops, infos = self.scenes[0].histories()
        for one in facts:
            violations += judge(ops, infos, one)
        violations += self.bed.complaints() + some(self.nemesis.failures, "nothing-stuck", "a command without an answer, or a node that ended by itself")
        write_report(self.bed.kept, self, ops, facts, violations)
        return violations

    def audit(self, scene):
        """The stream, then once more from the other region after a planned failover: the two must be the same."""
        say(f"audit of {scene.hub.name}")
        first = scene.stream()
        other = None
        if self.operator.planned(scene.hub, "audit"):
            self.operator.wait_until_at_rest(scene.hub)
            other = scene.stream()
        operations, forced = self.operator.facts(scene.hub)
        found = scene.facts(forced=forced, operations=operations, other_events=first if other is not None else None,
                            jumps=self.nemesis.jumps, segments=self.operator.salvages(scene.hub))
        if other is None:
            say(f"{scene.hub.name} could not be failed over for the audit")
        return found


main(scenario)
