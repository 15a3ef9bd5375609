"""What is in a hub's event stream, and whether it is what devices were told."""

import json

from .report import none, require


class Stream:
    """The events of a hub by partition and by device."""

    def __init__(self, events):
        self.by_place = {}
        self.by_device = {}
        for event in events:
            place = (event["partition"], event["sequenceNumber"])
            require(place not in self.by_place, f"two events at {place}")
            counter = json.loads(event["body"])["counter"]
            self.by_place[place] = (event["deviceId"], counter)
            self.by_device.setdefault(event["deviceId"], []).append((event["partition"], event["sequenceNumber"], counter))
        for found in self.by_device.values():
            found.sort()

    def __len__(self):
        return len(self.by_place)

    def check_no_gaps(self, first=0):
        """Sequence numbers of each partition follow each other."""
        numbers = {}
        for partition, sequence in self.by_place:
            numbers.setdefault(partition, []).append(sequence)
        for partition, found in numbers.items():
            found.sort()
            missing = set(range(first, found[-1] + 1)) - set(found)
            none(sorted(missing), f"partition {partition} lacks sequence numbers")

    def check_device(self, device, acknowledged, resent):
        """Every acknowledged counter is there, in order, none twice but those in `resent`; nobody's else's are."""
        found = self.by_device.get(device, [])
        partitions = {partition for partition, _, _ in found}
        require(len(partitions) <= 1, f"{device} is in partitions {partitions}")
        counters = [counter for _, _, counter in found]
        none(sorted(set(acknowledged) - set(counters)), f"{device}: acknowledged, but not in the stream")
        seen, last = set(), -1
        for counter in counters:
            if counter in seen:
                require(counter in resent, f"{device}: counter {counter} is in the stream twice, though it was sent once")
                continue
            require(counter > last, f"{device}: counter {counter} comes after {last}")
            seen.add(counter)
            last = counter

    def check_reader(self, read):
        """What a reader saw is what is there."""
        none((place for place, what in read.items() if self.by_place.get(place) != what), "the reader saw what is not there (any more)")
        none(sorted(set(self.by_place) - set(read)), "the reader did not see")
