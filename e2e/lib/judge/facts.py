"""What is known of one hub when everything is at rest, in the form that the checks want."""

import json
import math
from dataclasses import dataclass, field

LATE = "castling-salvaged"


@dataclass
class Violation:
    """Something that must never happen, and where it shows."""

    check: str
    text: str
    shown: list = field(default_factory=list)

    def __str__(self):
        return f"{self.check}: {self.text}" + (f", for example {self.shown[:4]}" if self.shown else "")


@dataclass(frozen=True)
class Event:
    """One event of the stream at the end. `late` is (segment, epoch, sequence) of a salvaged one."""

    partition: int
    sequence: int
    device: str
    counter: object
    late: tuple = None
    enqueued: str = ""

    @property
    def what(self):
        return (self.device, self.counter)


def marker(text):
    """`SEGMENT:EPOCH:SEQUENCE`; nothing when it is not one."""
    try:
        segment, epoch, sequence = text.rsplit(":", 2)
        return (segment, int(epoch), int(sequence))
    except (ValueError, AttributeError):
        return (str(text), -1, -1)


def events_of(pages):
    """Events as the events API gives them."""
    found = []
    for event in pages:
        properties = event.get("properties") or {}
        late = marker(properties[LATE]) if LATE in properties else None
        try:
            counter = json.loads(event["body"])["counter"]
        except (ValueError, KeyError, TypeError):
            counter = event["body"][:64]
        found.append(Event(event["partition"], event["sequenceNumber"], event["deviceId"], counter, late, event.get("enqueuedTime", "")))
    return sorted(found, key=lambda event: (event.partition, event.sequence))


@dataclass
class Forced:
    """A forced failover that was committed. Times are those of our own clock.

    `asked`: it was asked for; it cannot have been committed before. `seen`: it was seen committed; it cannot have been committed after.
    `nexts`: the first sequence number of the new epoch by partition, where known. `lost`: events that the report names as lost.
    """

    epoch: int
    source: str
    asked: float
    seen: float
    nexts: dict = field(default_factory=dict)
    lost: int = None
    shown: int = None


@dataclass
class Facts:
    """One hub at the end."""

    hub: str
    events: list
    sync: bool = False
    forced: list = field(default_factory=list)
    operations: list = field(default_factory=list)  # as the failovers API gives them
    other_events: list = None  # the stream as the other region had it after one more planned failover
    jumps: list = field(default_factory=list)  # (from, to) in our monotonic time, while some clock was wrong
    twins: dict = field(default_factory=dict)  # device -> twin facts at the end
    undelivered: set = field(default_factory=set)  # ids of C2D messages that still wait
    replayed: bool = True  # every salvage segment was replayed
    segments: list = field(default_factory=list)

    def __post_init__(self):
        self.forced.sort(key=lambda one: one.epoch)
        self.live = [event for event in self.events if event.late is None]
        self.late = [event for event in self.events if event.late is not None]
        self.partition_of = {event.device: event.partition for event in self.live}

    def forced_between(self, t0, t1):
        """Forced failovers whose commit may lie between two times."""
        return [one for one in self.forced if one.asked <= t1 and one.seen >= t0]

    def lossy_after(self, t):
        """The first forced failover that may have lost what was acknowledged at `t`; sync hubs lose nothing."""
        return None if self.sync else next((one for one in self.forced if one.seen >= t), None)


def of_hub(ops, hub, *functions):
    return [op for op in ops if op.args.get("hub") == hub and op.f in functions]


def some(found, check, text, limit=6):
    """One violation for a list of bad things; none for an empty one."""
    found = list(found)
    return [Violation(check, f"{text} ({len(found)})", found[:limit])] if found else []


FOREVER = math.inf
