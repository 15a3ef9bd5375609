"""C2D: what was accepted is delivered at least once unless it expires; never after its expiry or after it was completed."""

from .facts import of_hub, some

# Our clock and the delivery's way to us.
EXPIRY_SLACK_SECONDS = 1.5


def check(ops, facts):
    sends = {op.args["id"]: op for op in of_hub(ops, facts.hub, "c2d-send")}
    receives = [op for op in of_hub(ops, facts.hub, "c2d-receive") if op.acknowledged and op.get("id")]
    completes = [op for op in of_hub(ops, facts.hub, "c2d-complete") if op.acknowledged]
    return [
        *delivered(sends, receives, facts),
        *after_expiry(sends, receives, facts),
        *after_completion(receives, completes, facts),
        *some((op.get("id") for op in receives if op.get("id") not in sends), "c2d-sent", "received, but nobody sent it"),
        *some((op.get("id") for op in receives if op.get("id") in sends and sends[op.get("id")].kind == "fail"), "c2d-refused", "refused, but delivered"),
        *some(((op.get("id"), op.args["device"]) for op in receives if op.get("id") in sends and sends[op.get("id")].args["device"] != op.args["device"]),
              "c2d-device", "delivered to another device"),
    ]


def delivered(sends, receives, facts):
    seen = {op.get("id") for op in receives}
    end = max((op.w1 for op in receives), default=0)
    lost = [name for name, op in sends.items()
            if op.acknowledged and op.args["expiry"] > end + EXPIRY_SLACK_SECONDS and name not in seen and name not in facts.undelivered and facts.lossy_after(op.t1) is None]
    return some(lost, "c2d-at-least-once", "accepted, not expired, and never delivered")


def wrong_clock(facts, t0, t1):
    return any(begin <= t1 and end >= t0 for begin, end in facts.jumps)


def after_expiry(sends, receives, facts):
    late = [(op.get("id"), f"{op.w1 - sends[op.get('id')].args['expiry']:.1f} s") for op in receives
            if op.get("id") in sends and op.w1 > sends[op.get("id")].args["expiry"] + EXPIRY_SLACK_SECONDS and not wrong_clock(facts, sends[op.get("id")].t0, op.t1)]
    return some(late, "c2d-expiry", "delivered after its expiry")


def after_completion(receives, completes, facts):
    done = {}
    for op in completes:
        done.setdefault(op.args["id"], op)
    # A completion that a forced failover lost leaves the message in its queue.
    found = [op.get("id") for op in receives if op.get("id") in done and op.t0 > done[op.get("id")].t1
             and (facts.sync or not facts.forced_between(done[op.get("id")].t0, op.t1))]
    return some(found, "c2d-completion", "delivered after it was completed")
