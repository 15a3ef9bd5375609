"""A network namespace for each node: an address of its own, a cable to us for clients, and a switch between the nodes that can be told to fail.

Clients reach a node over a veth pair. Nodes reach each other through [`switch`] only, so a cut between two nodes leaves their clients alone.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from .report import Failed, require

PREFIX = "czl"
MTU = 9000


def ip(*words, check=True):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Failed(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def why_not():
    """Why there can be no namespaces here; nothing when there can."""
    if os.geteuid() != 0:
        return "not root"
    if os.environ.get("CASTLING_E2E_LOOPBACK"):
        return "CASTLING_E2E_LOOPBACK is set"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "no /dev/net/tun"
    name = f"{PREFIX}-{os.getpid()}-try"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (Failed, OSError) as why:
        return str(why)
    return None


def sweep():
    """Removes what runs left behind that were killed."""
    for line in ip("netns", "list", check=False).splitlines():
        found = re.match(rf"({PREFIX}-(\d+)-\S+)", line)
        if found and not Path(f"/proc/{found[2]}").exists():
            ip("netns", "del", found[1], check=False)


class Lab:
    """Namespaces of some nodes."""

    def __init__(self, nodes, seed=0):
        self.nodes, self.seed = list(nodes), seed
        self.rules = {}
        self.switch = None
        self.block = 64 + os.getpid() % 128

    def namespace(self, node):
        return f"{PREFIX}-{os.getpid()}-{node}"

    def address(self, node):
        return f"10.{self.block}.{self.nodes.index(node) + 1}.1"

    def cable(self, node):
        return f"{PREFIX}{os.getpid() % 100000}h{self.nodes.index(node)}"

    def device(self, node):
        return f"{PREFIX}{os.getpid() % 100000}t{self.nodes.index(node)}"

    def __enter__(self):
        sweep()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def build(self):
        self.switch = subprocess.Popen([sys.executable, Path(__file__).with_name("switch.py"), str(self.seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.order({"devices": {node: [self.device(node), self.address(node)] for node in self.nodes}})
        for node in self.nodes:
            space, ours, inner = self.namespace(node), self.cable(node), f"10.{self.block}.{self.nodes.index(node) + 1}"
            ip("netns", "add", space)
            ip("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("addr", "add", f"{inner}.254/24", "dev", ours)
            ip("link", "set", ours, "up")
            ip("link", "set", self.device(node), "netns", space)
            inside = ("-n", space)
            ip(*inside, "link", "set", "lo", "up")
            ip(*inside, "addr", "add", f"{inner}.1/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", self.device(node), "mtu", MTU, "up")
        for node in self.nodes:
            for other in self.nodes:
                if other != node:
                    ip("-n", self.namespace(node), "route", "add", f"{self.address(other)}/32", "dev", self.device(node), "src", self.address(node))

    def remove(self):
        for node in self.nodes:
            ip("netns", "del", self.namespace(node), check=False)
            ip("link", "del", self.cable(node), check=False)
        if self.switch:
            self.switch.stdin.close()
            try:
                self.switch.wait(5)
            except subprocess.TimeoutExpired:
                self.switch.kill()
                self.switch.wait()
            self.switch.stdout.close()

    def order(self, order):
        self.switch.stdin.write(json.dumps(order) + "\n")
        self.switch.stdin.flush()
        answer = self.switch.stdout.readline()
        require(answer.startswith("ok"), f"the switch between the nodes ended: {self.switch.poll()}")
        return json.loads(answer[2:])

    def prefix(self, node):
        """What a command begins with to run where the node does."""
        return ["ip", "netns", "exec", self.namespace(node)]

    # --- rules ------------------------------------------------------------------------------------------------------------

    def set(self, origin, to, **rule):
        self.rules[f"{origin}>{to}"] = rule
        self.order({"rules": self.rules})

    def cut(self, origin, to):
        self.set(origin, to, cut=True)

    def isolate(self, node):
        for other in self.nodes:
            if other != node:
                self.cut(node, other)
                self.cut(other, node)

    def shape(self, **rule):
        """The same rule for every direction."""
        self.rules = {f"{a}>{b}": rule for a in self.nodes for b in self.nodes if a != b}
        self.order({"rules": self.rules})

    def mend(self):
        self.rules = {}
        return self.order({"rules": {}})

    def clients_cut(self, node, cut=True):
        """The cable to clients."""
        ip("link", "set", self.cable(node), "down" if cut else "up")
