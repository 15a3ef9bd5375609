"""The checks of the scenarios find what they are for."""

import base64
import hashlib
import json
import unittest

from lib.fleet import normal
from lib.judge.doctored import Doctored  # noqa: F401  # its tests run with these
from lib.reader import Reader
from lib.report import Failed, percentile
from lib.rest import device_key
from lib.stream import Stream


def events(*counters, partition=0, device="d"):
    return [{"partition": partition, "sequenceNumber": at, "deviceId": device, "body": json.dumps({"counter": counter})} for at, counter in enumerate(counters)]


class Streams(unittest.TestCase):
    def check(self, stream, acknowledged, resent, why=None):
        if why is None:
            Stream(stream).check_device("d", acknowledged, resent)
            return
        with self.assertRaises(Failed) as caught:
            Stream(stream).check_device("d", acknowledged, resent)
        self.assertIn(why, str(caught.exception))

    def test_what_was_acknowledged_must_be_there(self):
        self.check(events(0, 1, 2), [0, 1, 2], ())
        self.check(events(0, 1, 2, 3), [0, 1, 2], ())
        self.check(events(0, 2), [0, 1, 2], (), "not in the stream")
        self.check([], [0], (), "not in the stream")

    def test_only_what_was_sent_again_may_stand_twice(self):
        self.check(events(0, 1, 1, 2), [0, 1, 2], (), "twice")
        self.check(events(0, 1, 2, 1, 2, 3), [0, 1, 2, 3], {1, 2})

    def test_order_is_kept(self):
        self.check(events(0, 2, 1), [0, 1, 2], (), "comes after")

    def test_a_device_has_one_partition(self):
        self.check(events(0) + events(1, partition=1), [0, 1], (), "in partitions")

    def test_sequence_numbers_have_no_gaps(self):
        Stream(events(0, 1, 2)).check_no_gaps()
        with self.assertRaises(Failed):
            Stream(events(0, 1, 2)[::2]).check_no_gaps()
        with self.assertRaises(Failed):
            Stream(events(0) + events(1))

    def test_the_reader_saw_what_is_there(self):
        stream = Stream(events(5, 6))
        stream.check_reader({(0, 0): ("d", 5), (0, 1): ("d", 6)})
        for read in ({(0, 0): ("d", 5)}, {(0, 0): ("d", 5), (0, 1): ("d", 7)}, {(0, 0): ("d", 5), (0, 1): ("d", 6), (0, 2): ("d", 7)}):
            with self.assertRaises(Failed):
                stream.check_reader(read)


class Readers(unittest.TestCase):
    def follow(self, *runs):
        reader = Reader(None, "hub", "group")
        for run in runs:
            reader.runs += 1
            process = type("Child", (), {"stdout": [json.dumps(event) + "\n" for event in run]})
            reader.follow(process, dict(reader.last))
        return reader

    def test_a_reader_goes_on_where_it_stopped(self):
        whole = events(0, 1, 2, 3)
        reader = self.follow(whole[:2], whole[2:])
        reader.check()
        self.assertEqual(len(reader.read), 4)

    def test_a_reset_or_a_skip_is_found(self):
        whole = events(0, 1, 2, 3)
        for second in (whole, whole[3:]):
            with self.assertRaises(Failed):
                self.follow(whole[:2], second).check()
        with self.assertRaises(Failed):
            self.follow(whole[:2], []).check()


class Small(unittest.TestCase):
    def test_percentiles(self):
        self.assertEqual(percentile(range(1, 21), 0.5), 10)
        self.assertEqual(percentile(range(1, 21), 0.99), 20)
        self.assertIsNone(percentile([], 0.5))

    def test_times_are_compared_whatever_their_form(self):
        self.assertEqual(normal("2026-01-01T00:00:00.000Z"), normal("2026-01-01 00:00:00+00:00"))
        self.assertNotEqual(normal("2026-01-01T00:00:10Z"), normal("2026-01-01T00:00:01Z"))

    def test_device_keys_are_those_of_the_load_generator(self):
        self.assertEqual(base64.b64decode(device_key("d")), hashlib.sha256(b"castling-bench/d").digest())


if __name__ == "__main__":
    unittest.main()
