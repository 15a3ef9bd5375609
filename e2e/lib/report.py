"""Telling what happened: headings, tables, and one way to fail."""

import signal
import sys
import time

STARTED = time.monotonic()


class Failed(Exception):
    """The product did not do what it must."""


def say(text):
    print(f"[{time.monotonic() - STARTED:7.2f}s] {text}", flush=True)


def require(holds, text):
    """Fails with `text` unless `holds`."""
    if not holds:
        raise Failed(text)


def none(found, what, shown=5):
    """Fails when a list of bad things is not empty, and shows the first ones."""
    found = list(found)
    if found:
        raise Failed(f"{what}: {len(found)}, for example {found[:shown]}")


def table(headings, rows):
    rows = [[str(field) for field in row] for row in rows]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    for row in [headings, *rows]:
        print("  " + "  ".join(field.rjust(width) if i else field.ljust(width) for i, (field, width) in enumerate(zip(row, widths))))


def percentile(values, share):
    """The smallest value that `share` of all do not exceed; `None` of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, int(-(-share * len(ordered) // 1)) - 1))]


def main(scenario):
    """Runs a scenario; exit code 1 and one line when it fails."""
    # Told to end, it still tidies up: processes, namespaces, mounts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        scenario()
    except Failed as why:
        print(f"\nFAILED: {why}", file=sys.stderr, flush=True)
        sys.exit(1)
    say("passed")
