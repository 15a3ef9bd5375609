"""Figures of a run that are no verdict: how available a hub was, and how long its pauses were."""

from .facts import of_hub


def acknowledgements(ops, hub):
    return sorted(op.t1 for op in of_hub(ops, hub, "telemetry") if op.acknowledged)


def gaps(times, begin, end, least=1.0):
    """(from, seconds) of each time without an acknowledgement that is longer than `least`."""
    marks = [begin, *(t for t in times if begin < t < end), end]
    return [(a, b - a) for a, b in zip(marks, marks[1:]) if b - a >= least]


def availability(times, begin, end, slot=1.0, minute=60.0):
    """Per minute, the share of seconds with an acknowledgement."""
    found, at = [], begin
    filled = {int((t - begin) / slot) for t in times if begin <= t < end}
    while at < end:
        first, last = int((at - begin) / slot), int((min(at + minute, end) - begin) / slot)
        if last > first:
            found.append(sum(1 for number in range(first, last) if number in filled) / (last - first))
        at += minute
    return found


def counts(ops, hub):
    found = {}
    for op in of_hub(ops, hub, "telemetry", "desired", "reported", "twin-read", "c2d-send", "c2d-receive", "c2d-complete"):
        kinds = found.setdefault(op.f, {"ok": 0, "fail": 0, "unknown": 0})
        kinds[op.kind] += 1
    return found
