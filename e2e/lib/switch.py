"""A network of packets in user space: one TUN device per node, and rules for each direction between two of them.

Runs as a process of its own (the kernel here may have no netem and no packet filter). Lines of JSON come in on standard input:
`{"devices": {NODE: [DEVICE, ADDRESS]}}` once, then `{"rules": {"A>B": {"cut", "delay_ms", "jitter_ms", "loss"}}}`, which replaces all rules. Each is
answered with `ok`. It ends when standard input does. The seed of what is lost is the first argument.
"""

import fcntl
import heapq
import json
import os
import random
import selectors
import socket
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES_MAX = 65536
# What waits on a slow link beyond this is lost, as in a router.
WAITING_MAX = 20_000


class Switch:
    """Takes packets from every device and hands each to the device of its destination."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.by_address, self.files, self.rules = {}, {}, {}
        self.waiting, self.turn, self.last = [], 0, {}
        self.counts = {"forwarded": 0, "cut": 0, "lost": 0}

    def attach(self, node, device, address):
        file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
        self.files[node] = file
        self.by_address[socket.inet_aton(address)] = node
        self.selector.register(file, selectors.EVENT_READ, node)

    def run(self):
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, None)
        text = b""
        while True:
            wait = max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            for key, _ in self.selector.select(wait):
                if key.data is not None:
                    self.take(key.data)
                    continue
                piece = os.read(0, 65536)
                if not piece:
                    return
                text += piece
                while b"\n" in text:
                    line, text = text.split(b"\n", 1)
                    self.obey(json.loads(line))
            self.give_due()

    def obey(self, order):
        for node, (device, address) in order.get("devices", {}).items():
            self.attach(node, device, address)
        if "rules" in order:
            self.rules = order["rules"]
        print("ok", json.dumps(self.counts), flush=True)

    def take(self, node):
        for _ in range(64):
            try:
                packet = os.read(self.files[node], PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                return  # the device is down
            self.route(node, packet)

    def route(self, node, packet):
        to = self.by_address.get(packet[16:20]) if len(packet) >= 20 and packet[0] >> 4 == 4 else None
        if to is None:
            return
        name = f"{node}>{to}"
        rule = self.rules.get(name)
        if rule is None:
            self.give(to, packet)
            return
        if rule.get("cut"):
            self.counts["cut"] += 1
        elif self.chance.random() < rule.get("loss", 0.0) or len(self.waiting) >= WAITING_MAX:
            self.counts["lost"] += 1
        else:
            delay = rule.get("delay_ms", 0.0) + self.chance.uniform(0.0, rule.get("jitter_ms", 0.0))
            # A link keeps the order of its packets.
            due = max(time.monotonic() + delay / 1000, self.last.get(name, 0.0))
            self.last[name] = due
            self.turn += 1
            heapq.heappush(self.waiting, (due, self.turn, to, packet))

    def give_due(self):
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(self.waiting)
            self.give(to, packet)

    def give(self, to, packet):
        try:
            os.write(self.files[to], packet)
            self.counts["forwarded"] += 1
        except OSError:
            self.counts["lost"] += 1


if __name__ == "__main__":
    Switch(int(sys.argv[1])).run()
