"""Twins: per device, one order of all patches and reads explains every answer.

Versions give the order, so it need not be searched for: in one era (between two forced failovers) each applied patch has its own version, and
* a patch's or read's version is at least that of whatever had ended before it began, and a patch's is above it;
* who saw a version saw the value that was written with it;
* a version that nobody was answered must belong to a patch whose outcome is unknown, one each.
A forced failover begins a new era with a state of the one before, or with one that an unknown patch made; what it lost is a suffix of versions.
"""

import bisect
from dataclasses import dataclass

from .facts import of_hub, some


@dataclass(frozen=True)
class Seen:
    """One answer: `version` and `value` of a section at some time between `t0` and `t1`."""

    t0: float
    t1: float
    version: int
    value: object
    wrote: bool


def check(ops, facts):
    found = []
    ops = of_hub(ops, facts.hub, "desired", "reported", "twin-read")
    for device in sorted({op.args["device"] for op in ops}):
        mine = [op for op in ops if op.args["device"] == device]
        found += section(device, "desired", mine, facts)
        found += section(device, "reported", mine, facts)
        found += etags(device, mine, facts)
    return found


def answers(name, ops):
    """What was answered about one section. The SDK does not tell the version of a reported patch: reads do."""
    found = []
    for op in ops:
        if op.acknowledged and op.f in ("desired", "twin-read") and not op.get("stale"):
            found.append(Seen(op.t0, op.t1, op.get(f"{name}Version"), op.result.get(name), op.f == "desired" == name))
    return found


def eras(facts):
    """(begin, end) of each era, by when its neighbours may have been committed."""
    begins = [(float("-inf"), float("-inf")), *((one.asked, one.seen) for one in ([] if facts.sync else facts.forced))]
    ends = [*begins[1:], (float("inf"), float("inf"))]
    return [(begin, end) for begin, end in zip(begins, ends)]


def section(device, name, ops, facts):
    found, before = [], None
    writes = [op for op in ops if op.f == name]
    known = {op.args["value"] for op in writes if op.may_be_done}
    for (begin_asked, begin_seen), (end_asked, end_seen) in eras(facts):
        # What was acknowledged after a commit was seen was acknowledged by the new primary, whenever it was asked for. A read may have been on its way.
        # Who ended between the word and the commit may belong to either era, and is left out of both.
        here = [one for one in answers(name, ops) if (one.t1 if one.wrote else one.t0) >= begin_seen and one.t1 <= end_asked]
        maybe = [op for op in writes if op.kind == "unknown" or op.acknowledged and (op.t0 < end_seen and op.t1 > begin_asked)]
        found += real_time(device, name, here)
        found += values(device, name, here, known)
        if name == "desired":
            found += versions(device, here, maybe)
        else:
            found += register(device, here, [op for op in writes if op.t0 < end_asked], begin_seen, end_asked)
        found += continues(device, name, before, here, begin_asked)
        before = here or before
    return found


def real_time(device, name, here):
    """A later operation sees no older version, and a later patch makes a newer one."""
    found, ended = [], sorted(here, key=lambda one: one.t1)
    highest, best = [], None
    for one in ended:
        best = one if best is None or one.version > best.version else best
        highest.append(best)
    times = [one.t1 for one in ended]
    for one in here:
        at = bisect.bisect_left(times, one.t0)
        if at == 0:
            continue
        before = highest[at - 1]
        if one.version < before.version or one.wrote and one.version == before.version:
            found.append((device, name, f"version {one.version} after {before.version}", f"{one.t0 - before.t1:.3f} s later"))
    return some(found, "twin-real-time", "a twin's version went back, or a patch made none")


def values(device, name, here, known):
    """One version, one value; and only values that somebody wrote."""
    by_version, found = {}, []
    for one in here:
        if by_version.setdefault(one.version, one.value) != one.value:
            found.append((device, name, one.version, by_version[one.version], one.value))
        if one.value is not None and one.value not in known:
            found.append((device, name, one.version, one.value, "nobody wrote it"))
    return some(found, "twin-values", "a twin's version has two values, or one from nowhere")


def versions(device, here, maybe):
    """Between the versions that were answered to patches there is room for unknown patches only."""
    made = sorted(one.version for one in here if one.wrote)
    found = [(device, "two patches made version", version) for version, after in zip(made, made[1:]) if version == after]
    if not made:
        return some(found, "twin-versions", "desired versions")
    answered = {one.value for one in here if one.wrote}
    unknown = sum(1 for op in maybe if op.args["value"] not in answered)
    seen = [one.version for one in here]
    missing = max(seen) - min(seen) + 1 - len({version for version in made if version >= min(seen)} | {min(seen)})
    if missing > unknown:
        found.append((device, f"{missing} versions that no patch explains, {unknown} patches without a known outcome"))
    return some(found, "twin-versions", "desired versions")


def register(device, here, writes, begin, end):
    """No read sees a reported value that was surely overwritten before it, nor one that was not yet asked for.

    A patch whose outcome is unknown may take effect late: one that lay in the socket of a paused region does.
    """
    found = []
    by_value = {op.args["value"]: op for op in writes}
    done = sorted((op.t1, op.t0, op.args["value"]) for op in writes if op.acknowledged and op.t0 >= begin and op.t1 <= end)
    times, latest = [t1 for t1, _, _ in done], []
    for _, t0, value in done:
        latest.append(max((t0, value), latest[-1] if latest else (t0, value)))
    for one in here:
        write = by_value.get(one.value)
        at = bisect.bisect_left(times, one.t0)
        ended = write.t1 if write else float("-inf")
        if at and latest[at - 1][0] > ended:
            found.append((device, f"read {one.value}, acknowledged was {latest[at - 1][1]}"))
        if write and write.t0 > one.t1:
            found.append((device, f"read {one.value} before it was asked for"))
    return some(found, "twin-reported", "reported properties")


def continues(device, name, before, here, asked):
    """A new era begins with a state that the old one had, or that nobody was answered."""
    if not before or not here:
        return []
    first = min(here, key=lambda one: (one.version, one.t1))
    old = {one.version: one.value for one in before}
    if first.version in old and not first.wrote and old[first.version] != first.value:
        # The same version may have been made again in the new era, by a patch that came before this read.
        made_again = any(one.wrote and one.version <= first.version for one in here) or first.t0 > asked and first.value not in old.values()
        if not made_again:
            return some([(device, name, first.version, old[first.version], first.value)], "twin-suffix", "a forced failover left a twin that never was")
    return []


def etags(device, ops, facts):
    """Within an era an etag names one state of the desired properties; reported ones do not change it."""
    seen, found = {}, []
    for number, ((_, begin), (end, _)) in enumerate(eras(facts)):
        for op in ops:
            if op.acknowledged and op.f in ("desired", "twin-read") and not op.get("stale") and begin <= op.t0 and op.t1 <= end:
                state = (op.result["desiredVersion"], op.result["desired"])
                if seen.setdefault((number, op.result["etag"]), state) != state:
                    found.append((device, op.result["etag"], seen[(number, op.result["etag"])], state))
    return some(found, "twin-etags", "one etag, two states")
