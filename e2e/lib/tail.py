"""`castling events tail` as one more consumer: what it prints, rewinds included, goes to a history."""

import json
import re
import signal
import subprocess
import threading

from .history import History
from .workers import counter_of

REWOUND = re.compile(r"partition (\d+): put back from (\d+) to (\d+): .*epoch (\d+)")


class Tail:
    """Follows all partitions with a consumer group of its own."""

    def __init__(self, world, hub, group, folder):
        self.hub = hub
        self.history = History(folder, f"{hub.name}.tail")
        for entry in hub.service.partitions():
            self.history.info("starts", hub=hub.name, partition=entry["partition"], after=None)
        # One pipe for both, so that a notice stands before the events it is about.
        self.process = subprocess.Popen(world.command("--output", "json", "events", "tail", hub.name, "--consumer-group", group),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def start(self):
        self.thread.start()

    def follow(self):
        for line in self.process.stdout:
            found = REWOUND.search(line)
            if found:
                partition, begin, to, epoch = map(int, found.groups())
                self.history.info("rewound", hub=self.hub.name, partition=partition, seq_from=begin, seq_to=to, seq_epoch=epoch)
                continue
            try:
                event = json.loads(line)
                late = (event.get("properties") or {}).get("castling-salvaged")
                self.history.info("event", hub=self.hub.name, partition=event["partition"], offset=event["offset"], sequence=event["sequenceNumber"],
                                  device=event["deviceId"], counter=counter_of(event), **({"late": late} if late else {}))
            except (ValueError, KeyError, TypeError, AttributeError):
                self.history.info("said", line=line.strip()[:300])
        code = self.process.wait()
        if code != 0:
            self.history.info("refused", hub=self.hub.name, partition=-1, why=f"events tail ended with {code}")

    def stop(self):
        """As Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.thread.join(20)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
