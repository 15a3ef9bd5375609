"""All checks of one hub."""

from . import c2d, consumers, operations, telemetry, twins


def judge(ops, infos, facts):
    """Violations; an empty list is the good news."""
    return [
        *telemetry.check(ops, infos, facts),
        *consumers.check(infos, facts),
        *twins.check(ops, facts),
        *c2d.check(ops, facts),
        *operations.check(facts),
    ]
