"""Operations: each one ended, or says what may come next; none is stuck."""

from .facts import some

ENDED = {"Succeeded", "RolledBack", "Cancelled", "Failed"}


def check(facts):
    running = [(one.get("id"), one.get("status")) for one in facts.operations if one.get("status") not in ENDED]
    silent = [one.get("id") for one in facts.operations if one.get("status") not in ENDED and not one.get("legalNext")]
    epochs = [one["epochAfter"] for one in facts.operations if one.get("status") == "Succeeded"]
    doubled = sorted({epoch for epoch in epochs if epochs.count(epoch) > 1})
    return [
        *some(running, "operation-ends", "at rest, but an operation still runs"),
        *some(silent, "operation-stuck", "an operation without an end or a legal next command"),
        *some(doubled, "operation-epochs", "two failovers made the same epoch"),
    ]
