"""Faults from a seed, one after another and sometimes two at once; what is wrong is put right after a while, and all of it at the end."""

import threading
import time

import requests

from .history import History
from .report import Failed, say

# The longest pause that a region survives as if nothing had been, and one after which its lease has lapsed: LEASE_MS in crates/types/src/limits.rs.
LEASE_SECONDS = 5.0

# name -> (how often in one deck, shortest and longest time until it is healed)
FAULTS = {
    "kill": (3, 0.2, 6.0),
    "pause-short": (2, 0.3, LEASE_SECONDS * 0.6),
    "pause-long": (2, LEASE_SECONDS + 1.0, LEASE_SECONDS + 6.0),
    "cut": (2, 1.0, 10.0),
    "cut-one-way": (2, 1.0, 10.0),
    "isolate": (2, 2.0, 12.0),
    "flap": (1, 4.0, 10.0),
    "slow": (1, 4.0, 12.0),
    "lossy": (1, 4.0, 12.0),
    "disk-full": (1, 3.0, 8.0),
    "clock-jump": (1, 2.0, 8.0),
    "planned": (3, 0.0, 2.0),
    "two-operators": (1, 0.0, 2.0),
    "operator-dies": (2, 1.0, 4.0),
    "forced": (4, 1.0, 3.0),
    "replay": (1, 0.0, 1.0),
}
# These may come on top of another one.
SECOND = ("kill", "pause-short", "pause-long", "cut", "cut-one-way", "slow", "lossy", "planned", "operator-dies")
SECOND_SHARE = 0.3
# What a short run makes, in an order from its seed.
SHORT = ("forced", "kill", "pause-long", "cut-one-way", "planned", "isolate")
PAUSE_SECONDS = (1.0, 5.0)


class Nemesis:
    """Draws faults that the bed can make, and lets them take effect."""

    def __init__(self, bed, chance, folder, only=(), short=False):
        unknown = set(only) - set(FAULTS)
        if unknown:
            raise Failed(f"there is no fault {', '.join(sorted(unknown))}; there are: {', '.join(FAULTS)}")
        self.bed, self.chance = bed, chance
        self.names = [name for name in FAULTS if name in bed.faults and (not only or name in only)]
        self.skipped = [name for name in FAULTS if name not in bed.faults]
        self.short, self.deck = short, []
        self.history = History(folder, "nemesis")
        self.operator, self.hubs = None, []
        self.made = {}
        self.jumps = []
        self.open = []  # what is to be undone: (name, work)
        self.touched = set()
        self.may_end = set()  # killed, or its disk is full: a node whose control plane cannot be written ends, and says so
        self.background = []
        self.failures = []

    def at_work(self, operator, hubs):
        self.operator, self.hubs = operator, hubs
        if self.skipped:
            say(f"not possible here: {', '.join(self.skipped)}")

    def run(self, seconds):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            lasts = self.make(self.next())
            second = [one for one in SECOND if one in self.names]
            if second and self.chance.random() < SECOND_SHARE:
                self.make(self.chance.choice(second))
            time.sleep(lasts)
            self.heal()
            time.sleep(self.chance.uniform(*PAUSE_SECONDS))
        self.join()

    def next(self):
        """From a shuffled deck, so that every fault has its turn."""
        if not self.deck:
            self.deck = [name for name in self.names for _ in range(FAULTS[name][0])]
            if self.short:
                self.deck = [name for name in SHORT if name in self.names] or self.deck
            self.chance.shuffle(self.deck)
        return self.deck.pop()

    def make(self, name):
        _, least, most = FAULTS[name]
        lasts = self.chance.uniform(least, most)
        self.made[name] = self.made.get(name, 0) + 1
        getattr(self, name.replace("-", "_"))(lasts)
        return lasts

    def aside(self, work):
        """An operator's command takes its time; faults go on meanwhile."""
        def guarded():
            try:
                work()
            except (Failed, requests.RequestException) as why:
                self.failures.append(str(why))

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self.background.append(thread)

    def join(self, seconds=240):
        for thread in self.background:
            thread.join(seconds)
            if thread.is_alive():
                self.failures.append(f"an operator's command did not end within {seconds} s")
        self.background = []

    def tell(self, name, **details):
        say(f"fault {name} " + " ".join(f"{key}={value}" for key, value in details.items()))
        self.history.info("fault", name=name, **details)

    def heal(self):
        """Undoes everything that is still wrong, the latest first; each undoing is tried."""
        troubles = []
        while self.open:
            name, work = self.open.pop()
            try:
                work()
            except (Failed, OSError) as why:
                troubles.append(f"{name}: {why}")
        self.revive(troubles)
        self.touched.clear()
        if troubles:
            raise Failed(f"not healed: {'; '.join(troubles)}")

    def revive(self, troubles):
        """As a service manager does with a process that has ended."""
        for node in self.bed.nodes:
            if self.bed.is_dead(node):
                if node not in self.may_end:
                    self.failures.append(f"{node} ended by itself")
                say(f"{node} has ended and is started again")
                try:
                    self.bed.start(node)
                except (Failed, OSError) as why:
                    troubles.append(f"start {node}: {why}")
        self.may_end.clear()

    def undo(self, name, work):
        self.open.append((name, work))

    def node(self):
        """One that nothing else is wrong with, if there is one."""
        free = [node for node in self.bed.nodes if node not in self.touched] or list(self.bed.nodes)
        node = self.chance.choice(free)
        self.touched.add(node)
        return node

    def two(self):
        return self.chance.sample(list(self.bed.nodes), 2)

    # --- processes --------------------------------------------------------------------------------------------------------

    def kill(self, lasts):
        node = self.node()
        self.tell("kill", node=node, lasts=round(lasts, 2))
        self.may_end.add(node)
        self.bed.kill(node)
        self.undo("start", lambda: self.bed.start(node))

    def pause(self, name, lasts):
        node = self.node()
        self.tell(name, node=node, lasts=round(lasts, 2))
        if self.bed.is_dead(node):
            return
        self.bed.pause(node)
        self.undo("resume", lambda: self.bed.resume(node))

    def pause_short(self, lasts):
        self.pause("pause-short", lasts)

    def pause_long(self, lasts):
        self.pause("pause-long", lasts)

    # --- the network between nodes ----------------------------------------------------------------------------------------

    def cut(self, lasts):
        a, b = self.two()
        self.tell("cut", between=f"{a} and {b}", lasts=round(lasts, 2))
        self.undo("mend", self.bed.heal_network)
        self.bed.cut(a, b)
        self.bed.cut(b, a)

    def cut_one_way(self, lasts):
        a, b = self.two()
        self.tell("cut-one-way", origin=a, to=b, lasts=round(lasts, 2))
        self.undo("mend", self.bed.heal_network)
        self.bed.cut(a, b)

    def isolate(self, lasts):
        node = self.node()
        self.tell("isolate", node=node, lasts=round(lasts, 2))
        self.undo("mend", self.bed.heal_network)
        self.bed.isolate(node)

    def flap(self, lasts):
        a, b = self.two()
        self.tell("flap", between=f"{a} and {b}", lasts=round(lasts, 2))
        self.undo("mend", self.bed.heal_network)
        end = time.monotonic() + lasts
        while time.monotonic() < end:
            self.bed.cut(a, b)
            self.bed.cut(b, a)
            time.sleep(self.chance.uniform(0.05, 1.5))
            self.bed.heal_network()
            time.sleep(self.chance.uniform(0.05, 1.0))

    def slow(self, lasts):
        delay = self.chance.choice([20, 40, 80, 200])
        self.tell("slow", ms=delay, lasts=round(lasts, 2))
        self.undo("mend", self.bed.heal_network)
        self.bed.shape(delay_ms=delay, jitter_ms=delay / 4)

    def lossy(self, lasts):
        share = self.chance.choice([0.001, 0.01, 0.05])
        self.tell("lossy", share=share, lasts=round(lasts, 2))
        self.undo("mend", self.bed.heal_network)
        self.bed.shape(loss=share, delay_ms=10)

    # --- disks and clocks -------------------------------------------------------------------------------------------------

    def disk_full(self, lasts):
        node = self.node()
        self.tell("disk-full", node=node, lasts=round(lasts, 2))
        self.may_end.add(node)
        self.undo("empty", lambda: self.bed.empty_disk(node))
        self.bed.fill_disk(node)

    def clock_jump(self, lasts):
        node, by = self.node(), self.chance.choice([-300.0, -30.0, -2.0, 2.0, 30.0, 300.0])
        self.tell("clock-jump", node=node, by=by, lasts=round(lasts, 2))
        begun = time.monotonic()

        def back():
            self.bed.set_clock(node, 0.0)
            self.jumps.append((begun, time.monotonic() + 1.0))

        self.undo("clock", back)
        self.bed.set_clock(node, by)

    # --- the operator -----------------------------------------------------------------------------------------------------

    def planned(self, _lasts):
        hub = self.chance.choice(self.hubs)
        self.tell("planned", hub=hub.name)
        self.aside(lambda: self.operator.planned(hub))

    def two_operators(self, _lasts):
        """The same command from two at once: one failover, or each its own answer."""
        hub = self.chance.choice(self.hubs)
        self.tell("two-operators", hub=hub.name)
        for _ in range(2):
            self.aside(lambda: self.operator.planned(hub, "twice"))

    def operator_dies(self, _lasts):
        hub, after = self.chance.choice(self.hubs), self.chance.uniform(0.0, 0.6)
        self.tell("operator-dies", hub=hub.name, after=round(after, 2))
        self.aside(lambda: self.operator.planned_and_gone(hub, after))

    def forced(self, lasts):
        """The primary is lost in one of the ways that primaries are lost in; the operator says the word; it comes back."""
        self.join()
        hub = self.chance.choice(self.hubs)
        try:
            primary = self.bed.primary_of(hub)
        except Failed as why:
            say(f"forced: {why}")
            return
        way = self.chance.choice(self.bed.ways_to_lose)
        self.tell("forced", hub=hub.name, primary=primary, way=way, lasts=round(lasts, 2))
        self.touched.add(primary)
        self.may_end.add(primary)
        self.bed.lose(primary, way, self.undo)
        time.sleep(lasts)
        self.operator.force(hub)

    def replay(self, _lasts):
        hub = self.chance.choice(self.hubs)
        self.tell("replay", hub=hub.name)
        self.aside(lambda: self.operator.replay_some(hub))
