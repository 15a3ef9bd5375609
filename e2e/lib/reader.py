"""A consumer that follows the stream with the command line and keeps its offsets in the hub."""

import json
import signal
import subprocess
import threading
import time

from .report import Failed, require


class Reader:
    """`castling events tail` as a child process; may be stopped and started again."""

    def __init__(self, world, hub, group):
        self.world, self.hub, self.group = world, hub, group
        self.read = {}  # (partition, sequence) -> (device, counter)
        self.last = {}  # partition -> last sequence
        self.problems = []
        self.runs = 0
        self.resumed = {}  # partition -> (expected, found) of the first event after a restart
        self.process = self.thread = None

    def start(self):
        self.runs += 1
        command = self.world.command("--output", "json", "events", "tail", self.hub, "--consumer-group", self.group)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.thread = threading.Thread(target=self.follow, args=(self.process, dict(self.last)), daemon=True)
        self.thread.start()

    def follow(self, process, before):
        first = set()
        for line in process.stdout:
            try:
                event = json.loads(line)
                partition, sequence = event["partition"], event["sequenceNumber"]
                what = (event["deviceId"], json.loads(event["body"])["counter"])
            except (ValueError, KeyError, TypeError) as error:
                self.problems.append(f"not an event: {line!r} ({error!r})")
                return
            expected = self.last.get(partition, -1) + 1
            if partition not in first:
                first.add(partition)
                if partition in before:
                    self.resumed[partition] = (expected, sequence)
            if sequence != expected:
                self.problems.append(f"run {self.runs}, partition {partition}: sequence number {sequence} instead of {expected}")
            known = self.read.setdefault((partition, sequence), what)
            if known != what:
                self.problems.append(f"({partition}, {sequence}) was {known} and is {what}")
            self.last[partition] = sequence

    def stop(self):
        """As Ctrl-C: it stores where it stands."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("events tail did not end within 15 s of Ctrl-C") from None
        self.thread.join(15)
        errors = self.process.stderr.read()
        require(code == 0, f"events tail ended with {code}: {errors}")

    def restart(self):
        self.stop()
        time.sleep(1.0)
        self.start()

    def wait_for(self, count, seconds=30):
        deadline = time.monotonic() + seconds
        while len(self.read) < count:
            require(self.process.poll() is None, f"events tail ended with {self.process.poll()}")
            require(time.monotonic() < deadline, f"the reader saw {len(self.read)} of {count} events after {seconds} s: {self.problems[:3]}")
            time.sleep(0.05)

    def check(self):
        require(not self.problems, f"the reader: {self.problems[:5]}")
        if self.runs > 1:
            require(self.resumed, "after its restart the reader saw nothing")
