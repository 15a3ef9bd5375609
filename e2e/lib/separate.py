"""Two regions and a witness as processes of their own: with root each in its own network namespace, on a small disk, with a clock that can be set."""

import os
import shutil
import time

import requests

from . import disks
from .clock import Clocks
from .judge.facts import some
from .netlab import Lab, why_not
from .nodes import REGIONS
from .processes import WITNESS, Processes
from .report import Failed, say
from .rest import Management
from .testbed import complaints_in, keep, kept_folder
from .world import SCRATCH, free_address

ALWAYS = ("kill", "pause-short", "pause-long", "planned", "two-operators", "operator-dies", "forced", "replay")
NETWORK = ("cut", "cut-one-way", "isolate", "flap", "slow", "lossy")
PLAIN_WAYS, NETWORK_WAYS = ("kill", "pause"), ("isolate", "isolate-outwards")


class Separate:
    """The deployment that the fault runs stand on."""

    nodes = (*REGIONS, WITNESS)

    def __init__(self, name, seed=0, small_disks=True):
        self.name, self.kept = name, kept_folder(name)
        self.folder = self.kept
        self.data = SCRATCH / f"{name}-{os.getpid()}"
        missing = why_not()
        self.lab = None if missing else Lab(self.nodes, seed)
        if missing:
            say(f"no namespaces ({missing}): nodes on loopback addresses, no faults of network and disk")
        self.small = small_disks and self.lab is not None
        self.disks, self.clocks, self.world = {}, None, None
        self.paused = set()

    @property
    def faults(self):
        return (*ALWAYS, *(NETWORK if self.lab else ()), *(("disk-full",) if self.small else ()), *(("clock-jump",) if self.clocks and self.clocks.possible else ()))

    @property
    def ways_to_lose(self):
        return PLAIN_WAYS + (NETWORK_WAYS if self.lab else ())

    def __enter__(self):
        disks.sweep(SCRATCH)
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True)
        try:
            if self.lab:
                self.lab.__enter__()
            self.clocks = Clocks(self.data / "clocks", self.nodes)
            self.world = Processes(self.data / "deployment", self.addresses(), self.lab.prefix if self.lab else lambda node: [], self.clocks.environment)
            for node in self.nodes if self.small else ():
                self.disks[node] = disks.Disk(self.world.nodes.state(node))
                self.disks[node].mount()
            begun = time.monotonic()
            self.world.start_nodes()
            say(f"three processes, ready after {time.monotonic() - begun:.1f} s" + (", each in a network namespace" if self.lab else ""))
        except BaseException as why:
            self.__exit__(type(why), why, None)
            raise
        return self

    def addresses(self):
        if self.lab:
            return tuple(self.lab.address(node) for node in self.nodes)
        block = free_address().rsplit(".", 1)[0]
        return tuple(f"{block}.{number}" for number in range(1, len(self.nodes) + 1))

    def __exit__(self, kind, *_):
        try:
            if self.world:
                for node in list(self.paused):
                    self.resume(node)
                self.world.end(hard=kind is not None)
        finally:
            if self.world:
                for node in self.nodes:
                    keep(self.world.log_path_of(node), self.kept)
            for disk in self.disks.values():
                disk.unmount()
            if self.lab:
                self.lab.__exit__()
        if kind is None:
            shutil.rmtree(self.data, ignore_errors=True)
        else:
            say(f"kept for a look: {self.data} and {self.kept}")

    # --- processes --------------------------------------------------------------------------------------------------------

    def kill(self, node):
        self.paused.discard(node)
        self.world.kill_node(node)

    def start(self, node, wait=False):
        if self.world.is_dead(node):
            self.world.start_nodes(node, wait=wait)

    def pause(self, node):
        if node not in self.paused:
            self.world.nodes.pause(node)
            self.paused.add(node)

    def resume(self, node):
        self.paused.discard(node)
        if not self.world.is_dead(node):
            self.world.nodes.resume(node)

    def is_dead(self, node):
        return self.world.is_dead(node)

    # --- network, disks, clocks -------------------------------------------------------------------------------------------

    def cut(self, origin, to):
        self.lab.cut(origin, to)

    def isolate(self, node):
        self.lab.isolate(node)

    def shape(self, **rule):
        self.lab.shape(**rule)

    def heal_network(self):
        if self.lab:
            self.lab.mend()

    def fill_disk(self, node, leave_bytes=0):
        self.disks[node].fill(leave_bytes)

    def empty_disk(self, node):
        self.disks[node].empty()

    def set_clock(self, node, seconds):
        self.clocks.set(node, seconds)

    # --- the hub's primary ------------------------------------------------------------------------------------------------

    def primary_of(self, hub, seconds=30):
        return self.roles(hub, seconds)[0]

    def roles(self, hub, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return Management(self.world).roles(hub.group, hub.name)
            except (Failed, requests.RequestException) as why:
                if time.monotonic() > deadline:
                    raise Failed(f"no region tells the roles of {hub.name}: {why}") from None
                time.sleep(0.3)

    def lose(self, node, way, undo):
        """Takes a node away in one of the [`ways_to_lose`]; what brings it back goes to `undo`."""
        if way == "kill":
            self.kill(node)
            undo("start", lambda: self.start(node))
        elif way == "pause":
            self.pause(node)
            undo("resume", lambda: self.resume(node))
        else:
            undo("mend", self.heal_network)
            if way == "isolate":
                self.isolate(node)
            else:
                for other in self.nodes:
                    if other != node:
                        self.cut(node, other)

    def complaints(self):
        found = []
        for node in self.nodes:
            found += complaints_in(self.world.log_path_of(node))
            if self.is_dead(node):
                found += some([node], "process-lives", f"{node} has ended by itself")
        return found
