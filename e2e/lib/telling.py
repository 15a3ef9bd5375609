"""The report of a chaos run: on the screen, and as a file that is kept."""

import json

from .judge import figures
from .report import percentile, say, table


def write_report(folder, run, ops, facts, violations):
    rows, document = [], {"seed": run.seed, "minutes": run.minutes, "faults": run.nemesis.made, "notPossibleHere": run.nemesis.skipped, "operator": run.operator.count, "hubs": {}}
    print()
    table(["fault", "times"], sorted(run.nemesis.made.items()))
    print()
    for one in facts:
        times = figures.acknowledgements(ops, one.hub)
        share = figures.availability(times, run.begun, run.ended)
        pauses = figures.gaps(times, run.begun, run.ended)
        counts = figures.counts(ops, one.hub)
        document["hubs"][one.hub] = {
            "acknowledged": len(times), "events": len(one.events), "late": len(one.late), "forced": len(one.forced), "failovers": len(one.operations),
            "availablePerMinute": [round(value, 3) for value in share], "pauses": [{"at": round(at - run.begun, 2), "seconds": round(length, 2)} for at, length in pauses],
            "operations": counts, "segments": one.segments,
        }
        rows.append([one.hub, len(times), len(one.live), len(one.late), len(one.operations), len(one.forced), len(pauses),
                     f"{percentile([length for _, length in pauses], 1.0) or 0:.1f}", " ".join(f"{value * 100:.0f}" for value in share)])
    table(["hub", "acks", "events", "late", "failovers", "forced", "pauses over 1 s", "longest s", "available % by minute"], rows)
    for one in facts:
        print(f"\n  {one.hub}")
        kinds = document["hubs"][one.hub]["operations"]
        table(["operation", "ok", "refused", "unknown"], [[name, kind["ok"], kind["fail"], kind["unknown"]] for name, kind in sorted(kinds.items())])
    print(f"\n  operator: {', '.join(f'{name} {count}' for name, count in run.operator.count.items())}")
    print(f"  violations: {len(violations)}")
    document["violations"] = [{"check": one.check, "text": one.text, "shown": [str(shown) for shown in one.shown]} for one in violations]
    (folder / "report.json").write_text(json.dumps(document, indent=2, default=str) + "\n")
    say(f"report and histories: {folder}")
