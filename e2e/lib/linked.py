"""Two regions and a witness as processes whose links run through a relay: slow and lossy ones, on a machine that has no such network."""

import os
import shutil
import socket

from .bench import Relay
from .nodes import REGIONS, WITNESS
from .processes import Processes
from .report import Failed, say
from .world import SCRATCH

LINK_PORT = 8445
NAMES = (*REGIONS, WITNESS)


def free_block():
    """A number of 127.60.N.x at which nobody listens."""
    for turn in range(200):
        block = (os.getpid() + turn) % 250 + 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"127.60.{block}.1", LINK_PORT))
                return block
            except OSError:
                continue
    raise Failed("no free loopback addresses in 127.60.0.0/16")


class Linked(Processes):
    """Asked like a world. `set_links` changes the weather of all links while it runs."""

    def __init__(self, name):
        block = free_block()
        self.data = SCRATCH / f"{name}-{os.getpid()}"
        shutil.rmtree(self.data, ignore_errors=True)
        super().__init__(self.data, tuple(f"127.60.{block}.{n}" for n in (1, 2, 3)))
        self.links, at = [], 0
        for node in NAMES:
            text = self.nodes.config(node).read_text()
            for peer in NAMES:
                if peer == node:
                    continue
                at += 1
                behind, before = f"{self.nodes.addresses[peer]}:{LINK_PORT}", f"127.61.{block}.{at}:{LINK_PORT}"
                if f'"{behind}"' not in text:
                    raise Failed(f"the settings of {node} do not say where {peer} is: {behind}")
                text = text.replace(f'"{behind}"', f'"{before}"')
                self.links.append((f"{node}-{peer}", before, behind))
            self.nodes.config(node).write_text(text)
        self.relay = None

    def __enter__(self):
        self.relay = Relay(self.links)
        try:
            self.start_nodes()
        except Failed:
            self.close(hard=True)
            raise
        return self

    def __exit__(self, kind, *_):
        self.close(hard=kind is not None)
        if kind is None:
            shutil.rmtree(self.data, ignore_errors=True)
        else:
            say(f"kept for a look: {self.data}")

    def close(self, hard):
        try:
            self.end(hard)
        finally:
            self.relay.close()

    def set_links(self, rtt_ms=0.0, loss=0.0):
        self.relay.order(f"delay * {rtt_ms / 2}")
        self.relay.order(f"loss * {loss}")

    def lose_site(self, node):
        """Kills a node, and what is on its links is lost with it: otherwise a dead region's last words would still arrive."""
        around = [name for name, *_ in self.links if node in name.split("-")]
        for order in ("cut {} both", "kill", "reset {}", "heal {}"):
            if order == "kill":
                self.kill_node(node)
                continue
            for name in around:
                self.relay.order(order.format(name))

    def alive(self):
        """Regions whose process runs, as `up.json` names them."""
        return [region for region in self.regions if not self.is_dead(region["name"])]
