"""Telemetry: what goes in must come out, once, in order; what a forced failover lost is a suffix, is named, and was acknowledged before it."""

from collections import Counter

from .facts import FOREVER, of_hub, some


def check(ops, infos, facts):
    ops = of_hub(ops, facts.hub, "telemetry")
    return [
        *present(ops, facts),
        *order(ops, facts),
        *doubled(ops, infos, facts),
        *invented(ops, facts),
        *contiguous(facts),
        *same_in_both(facts),
        *late_once(facts),
        *suffix(ops, facts),
        *woken(ops, facts),
        *counted(ops, facts),
    ]


def what(op):
    return (op.args["device"], op.args["counter"])


def lost_ops(ops, facts):
    """Acknowledged, and not where it would be had nothing been lost."""
    live = {event.what for event in facts.live}
    return [op for op in ops if op.acknowledged and what(op) not in live]


def present(ops, facts):
    """Acknowledged is in the stream; after a forced failover at least as a late event, once its segment was replayed."""
    late = {event.what for event in facts.late}
    lost = lost_ops(ops, facts)
    found = some((what(op) for op in lost if facts.lossy_after(op.t0) is None), "telemetry-present", "acknowledged, but missing, and no forced failover can have lost it")
    if facts.replayed:
        found += some((what(op) for op in lost if facts.lossy_after(op.t0) and what(op) not in late), "telemetry-salvaged",
                      "acknowledged, lost in a forced failover, and not even a late event")
    return found


def order(ops, facts):
    """Each device is in one partition, and what it sent after an acknowledgement stands after what was acknowledged; a second copy is judged elsewhere."""
    acknowledged, begun = {}, {}
    for op in ops:
        begun[what(op)] = min(op.t0, begun.get(what(op), op.t0))
        if op.acknowledged:
            acknowledged[what(op)] = min(op.t1, acknowledged.get(what(op), op.t1))
    found, latest, seen, places = [], {}, set(), {}
    for event in facts.live:
        places.setdefault(event.device, set()).add(event.partition)
        if event.what in seen or event.what not in begun:
            continue
        seen.add(event.what)
        before = latest.get(event.device)
        if before and acknowledged.get(event.what, FOREVER) < begun[before]:
            found.append((event.device, before[1], event.counter))
        if before is None or begun[event.what] > begun[before]:
            latest[event.device] = event.what
    split = [(device, sorted(partitions)) for device, partitions in places.items() if len(partitions) > 1]
    return some(found, "telemetry-order", "a device's messages changed places") + some(split, "telemetry-order", "a device in two partitions")


def doubled(ops, infos, facts):
    """A message may stand twice only if it was sent twice: by us, or by the SDK after a lost connection."""
    attempts, again = Counter(), set()
    gone = {}
    for info in infos:
        if info.f == "disconnected":
            gone.setdefault(info.client, []).append(info.t)
    for op in ops:
        attempts[what(op)] += 1
        # The SDK notices a lost connection late, and sends again what was under way.
        if any(op.t0 - 0.5 <= t <= op.t1 + 1.0 for t in gone.get(op.client, ())):
            again.add(what(op))
    copies = Counter(event.what for event in facts.live)
    bad = [(one, times) for one, times in copies.items() if times > 1 and attempts[one] < 2 and one not in again]
    return some(bad, "telemetry-once", "sent once, but in the stream more often")


def invented(ops, facts):
    """Nothing is in the stream that nobody sent, or that was refused."""
    sent = {what(op) for op in ops}
    maybe = {what(op) for op in ops if op.may_be_done}
    return some((event for event in facts.events if event.what not in sent), "telemetry-sent", "in the stream, but nobody sent it") + some(
        (event for event in facts.events if event.what in sent and event.what not in maybe), "telemetry-refused", "refused, but in the stream")


def contiguous(facts):
    """Sequence numbers of a partition follow each other from the first one kept, and name one event each."""
    found, last = [], {}
    for event in facts.events:
        before = last.get(event.partition)
        if before is not None and event.sequence != before + 1:
            found.append((event.partition, before, event.sequence))
        last[event.partition] = event.sequence
    return some(found, "stream-contiguous", "sequence numbers do not follow each other")


def same_in_both(facts):
    """The other region holds the same, in the same places."""
    if facts.other_events is None:
        return []
    here = {(event.partition, event.sequence): event for event in facts.events}
    there = {(event.partition, event.sequence): event for event in facts.other_events}
    return some((here.get(place) or there[place] for place in sorted({*here, *there}) if here.get(place) != there.get(place)), "stream-same", "the regions' streams differ")


def late_once(facts):
    """A salvaged event comes back once, whatever was repeated."""
    copies = Counter(event.late for event in facts.late)
    unmarked = [event for event in facts.late if event.late[1] < 0]
    return some(((late, times) for late, times in copies.items() if times > 1), "late-once", "a salvaged event came back more than once") + some(
        unmarked, "late-marked", "a late event whose mark cannot be read")


def lost_in(op, facts, late_epoch):
    """The forced failover that lost an operation: the first with a later epoch than its own, where that is known."""
    epoch = late_epoch.get(what(op))
    if epoch is not None:
        return next((one for one in facts.forced if one.epoch > epoch), None)
    return facts.lossy_after(op.t0)


def suffix(ops, facts):
    """If something was lost, then so was everything that its partition took later in the same epoch."""
    late_epoch = {event.what: event.late[1] for event in facts.late}
    live = {event.what: event.partition for event in facts.live}
    found = []
    for one in facts.forced:
        survivors = {}
        for op in ops:
            if op.acknowledged and what(op) in live and op.t1 < one.asked:
                partition = live[what(op)]
                survivors[partition] = max(survivors.get(partition, (-1, None)), (op.t0, what(op)))
        for op in lost_ops(ops, facts):
            partition = facts.partition_of.get(op.args["device"])
            kept = survivors.get(partition)
            if kept and lost_in(op, facts, late_epoch) is one and kept[0] > op.t1:
                found.append((what(op), "lost, but kept was the later", kept[1]))
    return some(found, "lost-suffix", "what a forced failover lost is no suffix")


def woken(ops, facts):
    """Never two: nothing that was lost was acknowledged after the commit, nor after the new primary had acknowledged something."""
    late_epoch = {event.what: event.late[1] for event in facts.late}
    acknowledged = {}
    for op in ops:
        if op.acknowledged:
            acknowledged[what(op)] = min(op.t1, acknowledged.get(what(op), op.t1))
    found = []
    for one in facts.forced:
        first = min((acknowledged[event.what] for event in facts.live
                     if one.nexts and event.sequence >= one.nexts.get(event.partition, 1 << 62) and event.what in acknowledged), default=one.seen)
        limit = min(one.seen, max(first, one.asked))
        found += [(what(op), f"{op.t1 - limit:.3f} s after", op.get("region")) for op in lost_ops(ops, facts)
                  if lost_in(op, facts, late_epoch) is one and op.t1 > limit]
    return some(found, "never-two", "acknowledged by the old primary after the new one was committed")


def counted(ops, facts):
    """No more was lost than the report names (it also counts what was never acknowledged)."""
    late_epoch = {event.what: event.late[1] for event in facts.late}
    found = []
    for one in facts.forced:
        lost = {what(op) for op in lost_ops(ops, facts) if lost_in(op, facts, late_epoch) is one}
        if one.lost is not None and len(lost) > one.lost:
            found.append((one.epoch, f"{len(lost)} acknowledged events are lost, the report says {one.lost}"))
    for segment in facts.segments:
        back = sum(1 for event in facts.late if event.late[0] == segment["id"])
        # What came back may have been lost again, and then comes back from another segment.
        if facts.replayed and (back > segment["events"] or len(facts.forced) == 1 and back != segment["events"]):
            found.append((segment["id"], f"{back} late events of a segment with {segment['events']}"))
    return some(found, "lost-counted", "lost and reported differ")
