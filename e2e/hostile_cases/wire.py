"""Counting expectations, MQTT byte by byte, and a device that behaves."""

import json
import struct
import sys
import threading
import time

from lib.mqtt import Line, connect, publish
from lib.report import require, say

KIB = 1024
VIOLATIONS = []


class Group:
    """Counts what was tried under one heading and prints one line for it."""

    def __init__(self, name):
        self.name, self.count, self.begun = name, 0, time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            say(f"{self.name}: {self.count} as documented, {time.monotonic() - self.begun:.1f} s")

    def holds(self, what, fact, found):
        """Fails with the first violation; with `--all` every one is printed, and the scenario fails at its end."""
        if not fact and "--all" in sys.argv:
            VIOLATIONS.append(f"{self.name}: {what}: {found}")
            say(f"VIOLATED: {VIOLATIONS[-1]}")
            return
        require(fact, f"{self.name}: {what}: {found}")
        self.count += 1

    def same(self, what, found, wanted):
        self.holds(what, found == wanted, f"{found!r}, but {wanted!r} is documented")


def changed(token):
    """The token with another signature of the same form."""
    at = token.index("sig=") + 4
    return token[:at] + ("B" if token[at] == "A" else "A") + token[at + 1:]


class Canary:
    """A device that behaves, over TLS, and wants its acknowledgement for every message."""

    def __init__(self, hostile, name, region):
        self.name, self.hostile = name, hostile
        self.acknowledged, self.gap, self.problem = [], 0.0, None
        self.stopping = threading.Event()
        self.line = Line(region["address"], region["mqtt_port"], hostile.tls)
        self.line.send(connect(name, hostile.user(name), hostile.token(name)))
        require(self.line.packet() == (0x20, b"\0\0"), f"{name} cannot connect")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        counter, before = 0, time.monotonic()
        while not self.stopping.is_set():
            body, number = json.dumps({"counter": counter}), counter % 65535 + 1
            try:
                self.line.socket.sendall(publish(f"devices/{self.name}/messages/events/", body.encode(), number=number))
                answer = self.line.packet()
            except OSError as why:
                answer = repr(why)
            if answer != (0x40, struct.pack(">H", number)):
                self.problem = f"message {counter} was answered with {answer} after {time.monotonic() - before:.1f} s"
                return
            now = time.monotonic()
            self.gap, before = max(self.gap, now - before), now
            self.acknowledged.append(body)
            counter += 1
            self.stopping.wait(0.02)

    def check(self):
        require(self.problem is None, f"{self.name}, which did nothing wrong: {self.problem}")

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        self.check()
