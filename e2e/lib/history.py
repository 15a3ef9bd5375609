"""What every client did and was told, as lines of JSON: one file per client, written as it happens.

A line is `{"t": monotonic s, "w": wall s, "c": client, "n": operation, "k": kind, …}`. An operation begins with `invoke` (its function `f` and its
arguments) and ends with `ok` (it was acknowledged), `fail` (it was not done) or `unknown` (nobody can tell); one without an end is unknown.
`info` lines tell what is no operation, such as a lost connection.
"""

import json
import math
import threading
import time
from dataclasses import dataclass, field


class History:
    """Appends one client's lines; any thread may."""

    def __init__(self, folder, client):
        folder.mkdir(parents=True, exist_ok=True)
        self.client = client
        self.lock = threading.Lock()
        self.count = 0
        self.file = open(folder / f"{client}.jsonl", "a", encoding="utf-8")

    def invoke(self, function, **arguments):
        with self.lock:
            self.count += 1
            number = self.count
            self.write(number, "invoke", {"f": function, **arguments})
        return Running(self, number)

    def info(self, what, **details):
        with self.lock:
            self.write(0, "info", {"f": what, **details})

    def end(self, number, kind, details):
        with self.lock:
            self.write(number, kind, details)

    def write(self, number, kind, details):
        line = {"t": round(time.monotonic(), 6), "w": round(time.time(), 6), "c": self.client, "n": number, "k": kind, **details}
        self.file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self.file.flush()

    def close(self):
        with self.lock:
            self.file.close()


class Running:
    """An operation that has begun."""

    def __init__(self, history, number):
        self.history, self.number = history, number

    def ok(self, **result):
        self.history.end(self.number, "ok", result)

    def fail(self, why, **result):
        self.history.end(self.number, "fail", {"why": str(why)[:300], **result})

    def unknown(self, why, **result):
        self.history.end(self.number, "unknown", {"why": str(why)[:300], **result})


@dataclass
class Op:
    """One operation as the judge sees it. `t1` is infinite unless it ended."""

    client: str
    f: str
    t0: float
    args: dict
    t1: float = math.inf
    kind: str = "unknown"
    result: dict = field(default_factory=dict)
    w0: float = 0.0
    w1: float = math.inf

    def get(self, name, default=None):
        return self.result.get(name, self.args.get(name, default))

    @property
    def acknowledged(self):
        return self.kind == "ok"

    @property
    def may_be_done(self):
        return self.kind != "fail"


@dataclass
class Info:
    client: str
    f: str
    t: float
    w: float
    args: dict


OWN = ("t", "w", "c", "n", "k", "f")


def load(folder):
    """All operations and infos of a folder, each in the order of its time."""
    ops, infos = [], []
    for path in sorted(folder.glob("*.jsonl")):
        open_ones = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a client that was killed
            details = {name: value for name, value in entry.items() if name not in OWN}
            if entry["k"] == "info":
                infos.append(Info(entry["c"], entry["f"], entry["t"], entry["w"], details))
            elif entry["k"] == "invoke":
                op = Op(entry["c"], entry["f"], entry["t"], details, w0=entry["w"])
                open_ones[entry["n"]] = op
                ops.append(op)
            else:
                op = open_ones.pop(entry["n"])
                op.kind, op.result = entry["k"], details
                # What nobody knows may be done at any later time.
                if entry["k"] != "unknown":
                    op.t1, op.w1 = entry["t"], entry["w"]
    return sorted(ops, key=lambda op: op.t0), sorted(infos, key=lambda info: info.t)
