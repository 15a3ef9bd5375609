"""Each check of the judge finds the fault it is for, in a history that is good but for that fault."""

import unittest
from dataclasses import replace

from ..history import Info, Op
from . import figures
from .facts import Event, Facts, Forced, events_of
from .verdict import judge

HUB = "h"


def sent(counter, t, device="d", kind="ok", took=0.1, **more):
    return Op(f"h.{device}", "telemetry", t, {"hub": HUB, "device": device, "counter": counter, **more}, t + took if kind != "unknown" else float("inf"), kind)


def live(*counters, device="d", partition=0, first=0):
    return [Event(partition, first + at, device, counter) for at, counter in enumerate(counters)]


def late(sequence, counter, at, epoch=1, device="d", segment="s"):
    return Event(0, sequence, device, counter, (segment, epoch, at))


def told(f, t, client="c", **more):
    return Info(client, f, t, t, {"hub": HUB, **more})


def read(sequence, t, counter, epoch=1, client="c", device="d", partition=0):
    return told("event", t, client, partition=partition, offset=f"{epoch}:{sequence}", sequence=sequence, device=device, counter=counter)


def starts(t, after, client="c", partition=0):
    return told("starts", t, client, partition=partition, after=after)


def twin(f, t, version=None, value=None, kind="ok", took=0.1, device="d", reported=(1, None), **result):
    result = {"desiredVersion": version, "desired": value, "reportedVersion": reported[0], "reported": reported[1], "etag": f"e{version}", "version": version, **result} if kind == "ok" else {}
    args = {"hub": HUB, "device": device, **({} if f == "twin-read" else {"value": value})}
    return Op("h.w", f, t, args, t + took if kind != "unknown" else float("inf"), kind, result)


def c2d(f, t, name="m", device="d", expiry=1000.0, kind="ok", took=0.1):
    result = {"id": name} if f == "c2d-receive" and kind == "ok" else {}
    return Op("h.x", f, t, {"hub": HUB, "device": device, "id": name, "expiry": expiry} if f == "c2d-send" else {"hub": HUB, "device": device, "id": name}, t + took, kind, result, t, t + took)


# A forced failover to epoch 2: asked for at 10, seen committed at 16.
FORCED = Forced(2, "a", 10.0, 16.0, {0: 3}, lost=2)


class Doctored(unittest.TestCase):
    def check(self, wanted, ops=(), events=(), infos=(), **more):
        """The names of the checks that fail, exactly."""
        found = judge(sorted(ops, key=lambda op: op.t0), sorted(infos, key=lambda info: info.t), Facts(HUB, sorted(events, key=lambda one: (one.partition, one.sequence)), **more))
        self.assertEqual(sorted({one.check for one in found}), sorted({wanted} - {None}), [str(one) for one in found])

    # --- telemetry --------------------------------------------------------------------------------------------------------

    def test_telemetry_that_was_acknowledged_is_there_once_and_in_order(self):
        ops = [sent(number, number) for number in range(4)]
        self.check(None, ops, live(0, 1, 2, 3))
        self.check("telemetry-present", ops, live(0, 1, 3))
        self.check("telemetry-order", ops, live(0, 2, 1, 3))
        self.check("telemetry-order", ops, live(0, 1) + live(2, 3, partition=1))
        self.check("telemetry-once", ops, live(0, 1, 1, 2, 3))
        self.check(None, [*ops, sent(1, 1.5)], live(0, 1, 1, 2, 3))
        self.check(None, ops, live(0, 1, 1, 2, 3), [told("disconnected", 1.05, "h.d")])

    def test_the_stream_holds_what_was_sent_and_nothing_else(self):
        self.check("telemetry-sent", [sent(0, 0)], live(0, 1))
        self.check("telemetry-refused", [sent(0, 0), sent(1, 1, kind="fail")], live(0, 1))
        self.check(None, [sent(0, 0), sent(1, 1, kind="unknown")], live(0, 1))
        self.check("stream-contiguous", [sent(0, 0), sent(1, 1)], live(0) + live(1, first=2))
        self.check("stream-same", [sent(0, 0)], live(0), other_events=[])
        self.check("stream-same", [sent(0, 0), sent(1, 0.2, "e")], live(0) + live(1, device="e", first=1), other_events=live(1, device="e") + live(0, first=1))

    def before_and_after(self, gone=(3, 4)):
        """0–4 acknowledged before the failover, of which some were lost; 5 and 6 after it."""
        ops = [sent(number, number) for number in range(5)] + [sent(5, 17), sent(6, 18)]
        kept = [number for number in range(5) if number not in gone]
        events = live(*kept, 5, 6)
        return ops, events + [late(len(events) + at, number, number) for at, number in enumerate(gone)]

    def test_what_a_forced_failover_lost_comes_back_marked(self):
        ops, events = self.before_and_after()
        self.check(None, ops, events, forced=[FORCED])
        self.check("telemetry-salvaged", ops, events[:-1], forced=[FORCED])
        self.check(None, ops, events[:-1], forced=[FORCED], replayed=False)
        self.check("telemetry-present", ops, events, forced=[FORCED], sync=True)
        self.check("telemetry-present", ops, events)
        self.check("late-once", ops, events + [replace(events[-1], sequence=7)], forced=[FORCED])
        self.check("late-marked", ops, events[:-1] + [replace(events[-1], late=("?", -1, -1))], forced=[FORCED])

    def test_what_a_forced_failover_lost_is_a_suffix_and_as_reported(self):
        ops, events = self.before_and_after(gone=(2, 4))
        self.check("lost-suffix", ops, events, forced=[replace(FORCED, nexts={})])
        ops, events = self.before_and_after(gone=(2, 3, 4))
        self.check("lost-counted", ops, events, forced=[replace(FORCED, nexts={0: 2})])
        ops, events = self.before_and_after()
        self.check("lost-counted", ops, events, forced=[FORCED], segments=[{"id": "s", "events": 3}])
        self.check(None, ops, events, forced=[FORCED], segments=[{"id": "s", "events": 2}])

    def test_the_old_primary_that_wakes_acknowledges_nothing(self):
        ops, events = self.before_and_after()
        # The fifth message was sent before the pause and acknowledged after it.
        self.check("never-two", [*ops[:4], sent(4, 9, took=8.0), *ops[5:]], events, forced=[FORCED])
        # Before the commit was seen, but after the new primary had acknowledged.
        self.check("never-two", [*ops[:4], sent(4, 9, took=4.5), sent(5, 11.5, "e", took=0.5), *ops[5:]],
                   events + [Event(1, 0, "e", 5)], forced=[replace(FORCED, nexts={0: 3, 1: 0})])
        # Sent and acknowledged after it: nothing explains that it is missing.
        self.check("telemetry-present", [*ops, sent(7, 20)], events, forced=[FORCED])

    # --- consumers --------------------------------------------------------------------------------------------------------

    def lines(self, *more):
        return [starts(0, None), read(0, 1, 0), read(1, 2, 1), *more]

    def test_consumers_do_not_skip_nor_go_back_silently(self):
        ops, events = [sent(number, number) for number in range(4)], live(0, 1, 2, 3)
        self.check(None, ops, events, self.lines(read(2, 3, 2), read(3, 4, 3)))
        self.check(None, ops, events, self.lines(starts(2.5, "1:0"), read(1, 3, 1), read(2, 4, 2), read(3, 5, 3)))
        self.check("consumer-skips", ops, events, self.lines(read(1, 3, 1), read(2, 4, 2), read(3, 5, 3)))
        self.check("consumer-skips", ops, events, self.lines(starts(2.5, "1:1"), read(0, 3, 0), read(1, 3.1, 1), read(2, 4, 2), read(3, 5, 3)))
        self.check("consumer-sees-all", ops, events, self.lines(read(2, 3, 2)))
        self.check("consumer-refused", ops, events, self.lines(read(2, 3, 2), read(3, 4, 3), told("refused", 5, partition=0, why="410 gone")))
        found = judge(ops, self.lines(read(3, 4, 3)), Facts(HUB, events))
        self.assertEqual({one.check for one in found}, {"consumer-skips", "consumer-sees-all"})

    def test_a_stored_offset_may_be_older_but_never_newer(self):
        ops, events = [sent(number, number) for number in range(4)], live(0, 1, 2, 3)
        self.check(None, ops, events, self.lines(starts(2.5, "stored"), read(1, 3, 1), read(2, 4, 2), read(3, 5, 3)))
        found = judge(ops, self.lines(starts(2.5, "stored"), read(3, 5, 3)), Facts(HUB, events))
        self.assertIn("consumer-skips", {one.check for one in found})

    def test_a_rewind_is_announced_and_names_keep_their_event(self):
        ops, events = self.before_and_after()
        old = [starts(0, None), *(read(number, number + 1, number) for number in range(5))]
        new = [read(3, 21, 5, epoch=2), read(4, 22, 6, epoch=2), read(5, 23, 3, epoch=2), read(6, 24, 4, epoch=2)]
        announced = told("rewound", 20, partition=0, after="1:4", seq_from=5, seq_to=3, seq_epoch=2)
        self.check(None, ops, events, [*old, announced, *new], forced=[FORCED])
        self.check("consumer-skips", ops, events, [*old, *new], forced=[FORCED])
        self.check("one-name-one-event", ops, events, [*old, announced, *new], forced=[replace(FORCED, nexts={0: 4})])
        same_epoch = [replace(one, args={**one.args, "offset": one.args["offset"].replace("2:", "1:")}) for one in new]
        self.check("one-name-one-event", ops, events, [*old, announced, *same_epoch], forced=[FORCED])

    def test_what_was_read_stays(self):
        found = judge([sent(0, 0), sent(1, 1, kind="unknown")], self.lines(), Facts(HUB, live(0)))
        self.assertIn("one-name-one-event", {one.check for one in found})

    # --- twins ------------------------------------------------------------------------------------------------------------

    def test_twin_versions_and_values_have_one_order(self):
        good = [twin("desired", 1, 2, "a"), twin("twin-read", 2, 2, "a"), twin("desired", 3, 3, "b"), twin("twin-read", 4, 3, "b")]
        self.check(None, good)
        self.check("twin-real-time", [*good, twin("twin-read", 5, 2, "a")])
        self.check("twin-real-time", [*good[1:], twin("desired", 5, 2, "a")])
        self.check("twin-values", [*good, twin("twin-read", 5, 3, "a", etag="x")])
        self.check("twin-values", [*good, twin("desired", 4.5, value="c", kind="unknown"), twin("twin-read", 5, 4, "nobody's")])
        self.check("twin-etags", [*good, twin("twin-read", 3.05, 3, "b", etag="e2")])

    def test_twin_versions_without_a_patch_need_an_unknown_one(self):
        apart = [twin("desired", 1, 2, "a"), twin("desired", 3, 4, "b")]
        self.check("twin-versions", apart)
        self.check(None, [*apart, twin("desired", 2, value="u", kind="unknown")])
        self.check("twin-versions", [*apart, twin("desired", 2, value="u", kind="fail")])
        self.check("twin-versions", [twin("desired", 1, 2, "a"), twin("desired", 1.05, 2, "a", etag="e2")])

    def test_reported_properties_are_read_as_acknowledged(self):
        writes = [twin("reported", number, value=number) for number in (1, 2, 3)]
        reads = [twin("twin-read", 2.5, 1, reported=(3, 2)), twin("twin-read", 3.5, 1, reported=(4, 3))]
        self.check(None, writes + reads)
        self.check("twin-reported", writes + [twin("twin-read", 3.5, 1, reported=(3, 2))])
        lingering = twin("reported", 0.5, value=9, kind="unknown")
        self.check(None, [lingering, *writes, twin("twin-read", 3.5, 1, reported=(5, 9))])
        self.check("twin-reported", [twin("reported", 0.5, value=9), *writes, twin("twin-read", 3.5, 1, reported=(5, 9))])
        found = judge(writes + [twin("twin-read", 1.5, 1, reported=(5, 3))], [], Facts(HUB, []))
        self.assertIn("twin-reported", {one.check for one in found})

    def test_twins_may_lose_a_suffix_in_a_forced_failover_only(self):
        ops = [twin("desired", 1, 2, "a"), twin("desired", 2, 3, "b"), twin("twin-read", 17, 2, "a"), twin("desired", 18, 3, "c", etag="n3")]
        self.check(None, ops, forced=[FORCED])
        found = judge(ops, [], Facts(HUB, [], forced=[FORCED], sync=True))
        self.assertIn("twin-real-time", {one.check for one in found})
        self.check("twin-suffix", [*ops[:2], twin("twin-read", 9, 3, "b"), twin("twin-read", 17, 2, "b", etag="x")], forced=[FORCED])

    def test_a_patch_that_the_old_primary_acknowledged_too_late_is_found(self):
        ops = [twin("desired", 1, 2, "a"), twin("twin-read", 17, 2, "a"), twin("desired", 18, 3, "c")]
        found = judge([*ops, twin("desired", 9, 3, "b", took=8.0, etag="x")], [], Facts(HUB, [], forced=[FORCED]))
        self.assertIn("twin-values", {one.check for one in found})
        # An isolated region that says that its answer is not current is no liar.
        self.check("twin-real-time", [*ops, twin("twin-read", 19, 2, "a")], forced=[FORCED])
        self.check(None, [*ops, twin("twin-read", 19, 2, "a", stale=True)], forced=[FORCED])

    # --- C2D --------------------------------------------------------------------------------------------------------------

    def test_c2d_is_delivered_and_not_after_its_end(self):
        send, got, done = c2d("c2d-send", 1), c2d("c2d-receive", 2), c2d("c2d-complete", 3)
        self.check(None, [send, got, done])
        self.check(None, [send, got, c2d("c2d-receive", 2.5), done])
        self.check("c2d-at-least-once", [send])
        self.check(None, [send], undelivered={"m"})
        self.check(None, [send], forced=[FORCED])
        self.check("c2d-at-least-once", [c2d("c2d-send", 20)], forced=[FORCED])
        self.check("c2d-completion", [send, got, done, c2d("c2d-receive", 4)])
        self.check(None, [send, got, done, c2d("c2d-receive", 20)], forced=[FORCED])
        self.check("c2d-expiry", [c2d("c2d-send", 1, expiry=5.0), c2d("c2d-receive", 8)])
        self.check(None, [c2d("c2d-send", 1, expiry=5.0), c2d("c2d-receive", 8)], jumps=[(2, 9)])
        self.check("c2d-sent", [c2d("c2d-receive", 2)])
        self.check("c2d-refused", [c2d("c2d-send", 1, kind="fail"), got])
        self.check("c2d-device", [send, c2d("c2d-receive", 2, device="e")])

    # --- operations and figures -------------------------------------------------------------------------------------------

    def test_no_operation_is_stuck(self):
        good = {"id": "o", "status": "Succeeded", "epochAfter": 2}
        self.check(None, operations=[good, {**good, "id": "p", "epochAfter": 3}])
        self.check("operation-epochs", operations=[good, {**good, "id": "p"}])
        self.check("operation-ends", operations=[{**good, "status": "Running", "legalNext": "cancel"}])
        found = judge([], [], Facts(HUB, [], operations=[{**good, "status": "Running", "legalNext": ""}]))
        self.assertEqual({one.check for one in found}, {"operation-ends", "operation-stuck"})

    def test_pauses_and_availability_are_measured(self):
        times = [0.1 + number * 0.5 for number in range(20)] + [20.1 + number * 0.5 for number in range(80)]
        self.assertEqual([(round(at, 1), round(length, 1)) for at, length in figures.gaps(times, 0, 60)], [(9.6, 10.5)])
        self.assertEqual([round(share, 2) for share in figures.availability(times, 0, 60)], [0.83])

    def test_marks_of_late_events_are_read(self):
        page = [{"partition": 0, "sequenceNumber": 4, "deviceId": "d", "body": '{"counter": 7}', "properties": {"castling-salvaged": "h1-p0-e3-120:3:17"}}]
        self.assertEqual(events_of(page), [Event(0, 4, "d", 7, ("h1-p0-e3-120", 3, 17))])
