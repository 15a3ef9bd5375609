"""Consumers: one (partition, sequence, epoch) is one event; nobody skips; going back is announced."""

from .facts import some


def split(offset):
    epoch, sequence = offset.split(":")
    return int(epoch), int(sequence)


def check(infos, facts):
    own = [info for info in infos if info.args.get("hub") == facts.hub and info.f in ("event", "rewound", "starts", "refused")]
    by_client = {}
    for info in own:
        if info.f != "refused":
            by_client.setdefault((info.client, info.args["partition"]), []).append(info)
    return [
        *names(own, facts),
        *(found for (client, partition), lines in by_client.items() for found in walk(client, partition, lines, facts)),
        *some(((info.client, info.args["why"]) for info in own if info.f == "refused"), "consumer-refused", "a consumer's read was refused for good"),
    ]


def names(own, facts):
    """One name, one event: within an epoch always, across epochs unless a forced failover lies between and the place is behind its divergence."""
    known, found = {}, []
    for info in own:
        if info.f != "event":
            continue
        epoch, sequence = split(info.args["offset"])
        what = (info.args["device"], info.args["counter"], info.args.get("late"))
        for before, value in known.setdefault((info.args["partition"], sequence), {}).items():
            if value != what and not diverged(facts, info.args["partition"], sequence, before, epoch):
                found.append((info.args["partition"], sequence, (before, value), (epoch, what)))
        known[(info.args["partition"], sequence)][epoch] = what
    end = {(event.partition, event.sequence): event for event in facts.events}
    for (partition, sequence), values in known.items():
        event = end.get((partition, sequence))
        epoch = max(values)
        later = any(one.epoch > epoch and sequence >= one.nexts.get(partition, 0) for one in facts.forced)
        if event is None and not later:
            found.append((partition, sequence, (epoch, values[epoch]), "read, but not there any more"))
        elif event is not None and (event.device, event.counter) != values[epoch][:2] and not later:
            found.append((partition, sequence, (epoch, values[epoch]), event))
    return some(found, "one-name-one-event", "one (partition, sequence, epoch) named two events")


def diverged(facts, partition, sequence, low, high):
    low, high = min(low, high), max(low, high)
    return any(low < one.epoch <= high and sequence >= one.nexts.get(partition, 0) for one in facts.forced)


def walk(client, partition, lines, facts):
    """Follows one consumer: where must its next event be?"""
    found, wanted, exact, last, view = [], 0, True, -1, {}
    for info in lines:
        if info.f == "starts":
            after = info.args["after"]
            wanted, exact = {None: (0, False), "stored": (last + 1, False)}.get(after, (None, True))
            if wanted is None:
                wanted = split(after)[1] + 1
        elif info.f == "rewound":
            wanted, exact = info.args["seq_to"], True
            last = wanted - 1
        elif info.f == "event":
            sequence = info.args["sequence"]
            if sequence > wanted:
                found.append((f"skipped from {wanted} to {sequence}", partition))
            elif exact and sequence < wanted:
                found.append((f"went back from {wanted} to {sequence} without a word", partition))
            wanted, exact, last = sequence + 1, True, max(last, sequence)
            view[sequence] = (info.args["device"], info.args["counter"])
    missed = [event for event in facts.events if event.partition == partition and view.get(event.sequence) != event.what]
    return some(found, "consumer-skips", f"{client} was led astray") + some(missed, "consumer-sees-all", f"{client} did not see what is there")
