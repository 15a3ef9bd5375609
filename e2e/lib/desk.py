"""The operator: starts failovers with the command line, watches them over the API, replays what was salvaged; all of it goes to a history."""

import json
import subprocess
import threading
import time

import requests

from .history import History
from .judge.facts import Forced
from .report import Failed, require, say
from .rest import Management

POLL_SECONDS = 0.05
COMMAND_SECONDS = 180
ENDED = {"Succeeded", "RolledBack", "Cancelled", "Failed"}


class Operator:
    """One operator with a terminal of his own for each hub."""

    def __init__(self, world, management, folder):
        self.world, self.management = world, management
        self.history = History(folder, "operator")
        self.forced = {}  # hub -> [Forced]
        self.count = {"planned": 0, "forced": 0, "refused": 0, "not ended well": 0, "died": 0, "replayed": 0}

    def path(self, hub):
        return f"{self.management.hub_path(hub.group, hub.name)}/providers/Castling.Failover"

    def run(self, *words, seconds=COMMAND_SECONDS):
        """(exit code, what it printed): no code is wrong yet; one that does not end is."""
        try:
            done = subprocess.run(self.world.command(*words), capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise Failed(f"castling {' '.join(words)} did not end within {seconds} s") from None
        return done.returncode, done.stdout + done.stderr

    def planned(self, hub, reason="chaos"):
        """True when it succeeded."""
        op = self.history.invoke("planned", hub=hub.name)
        code, text = self.run("hub", "failover", "start", hub.name, "--yes", hub.name, "--reason", reason)
        return self.ended(op, "planned", code, text)

    def planned_and_gone(self, hub, after):
        """The command line dies while it watches: what it has started goes on without it."""
        op = self.history.invoke("planned", hub=hub.name, dies=after)
        process = subprocess.Popen(self.world.command("hub", "failover", "start", hub.name, "--yes", hub.name, "--reason", "its operator dies"),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        process.kill()
        process.wait()
        op.unknown("the command line was killed")
        self.count["died"] += 1

    def ended(self, op, kind, code, text):
        last = text.strip().splitlines()[-1] if text.strip() else ""
        if code == 0:
            op.ok(text=last)
            self.count[kind] += 1
        elif code == 4:
            op.fail(last, code=code)
            self.count["refused"] += 1
        else:
            op.unknown(last, code=code)
            self.count["not ended well"] += 1
        return code == 0

    def force(self, hub, accept="all", reason="chaos"):
        """A forced failover; when it was committed is seen over the API by a second pair of eyes. (succeeded, text)"""
        before = {one["id"] for one in self.failovers(hub, [])}
        op = self.history.invoke("forced", hub=hub.name, accept=accept)
        asked = time.monotonic()
        eyes = Eyes(self, hub, before)
        eyes.start()
        code, text = self.run("hub", "failover", "start", hub.name, "--forced", "--accept-loss", accept, "--yes", hub.name, "--reason", reason)
        eyes.stop()
        good = self.ended(op, "forced", code, text)
        if good or eyes.committed:
            self.remember(hub, asked, eyes, time.monotonic())
        say(f"forced failover of {hub.name}: exit code {code}" + (f", committed {eyes.committed - asked:.2f} s after it was asked for" if eyes.committed else f": {text.strip()[-200:]}"))
        return good, text, eyes

    def remember(self, hub, asked, eyes, ended):
        self.forced.setdefault(hub.name, []).append({"asked": asked, "seen": eyes.committed or ended, "id": eyes.id})

    def failovers(self, hub, otherwise=None, management=None):
        """The list of a hub's failovers, through any region that answers."""
        try:
            return (management or self.management).call("GET", f"{self.path(hub)}/failovers").json()["value"]
        except (Failed, requests.RequestException):
            if otherwise is None:
                raise
            return otherwise

    def single(self, hub, operation):
        return self.management.call("GET", f"{self.path(hub)}/failovers/{operation.rsplit('/', 1)[-1]}").json()

    def salvages(self, hub):
        """Segments that the regions keep aside, each with its id."""
        answer = self.management.call("GET", f"{self.path(hub)}/salvage", ok=(200, 404, 405, 501))
        listed = answer.json()["value"] if answer.status_code == 200 else []
        return [{"id": one["name"], **one["properties"]} for one in listed]

    def replay(self, hub, segment):
        """True when it was replayed."""
        op = self.history.invoke("replay", hub=hub.name, segment=segment)
        code, text = self.run("hub", "salvage", "replay", hub.name, segment)
        return self.ended(op, "replayed", code, text), text

    def replay_all(self, hub, times=1):
        """Replays every segment there is; a second time must not change anything."""
        for segment in self.salvages(hub):
            for _ in range(times):
                good, text = self.replay(hub, segment["id"])
                require(good, f"castling hub salvage replay {hub.name} {segment['id']}: {text.strip()}")

    def replay_some(self, hub):
        """Whatever is there now; the regions may be in any state."""
        try:
            found = self.salvages(hub)
        except (Failed, requests.RequestException) as why:
            say(f"no list of segments: {str(why)[:200]}")
            return
        for segment in found:
            self.replay(hub, segment["id"])

    # --- at rest ----------------------------------------------------------------------------------------------------------

    def wait_until_at_rest(self, hub, seconds=120):
        """Until no failover runs and a new one would pass its checks: both regions follow and agree."""
        deadline = time.monotonic() + seconds
        why = ""
        while time.monotonic() < deadline:
            running = [one for one in self.failovers(hub, [{"id": "?", "properties": {"status": "unknown"}}]) if one["properties"]["status"] not in ENDED]
            code, why = self.run("--output", "json", "hub", "failover", "check", hub.name, seconds=60)
            if not running and code == 0:
                return
            if not running and self.only_policy(why):
                return
            time.sleep(1.0)
        raise Failed(f"{hub.name} is not at rest {seconds} s after everything was healed: {failing(why)}")

    def only_policy(self, text):
        return {name for name, _ in failing(text)} <= {"time-between-failovers", "daily-limit"} and failing(text) != []

    def facts(self, hub):
        """(failovers, forced ones as the judge wants them)."""
        listed = [self.single(hub, one["id"]) for one in self.failovers(hub)]
        details = [{"id": one["id"], **one["properties"]} for one in listed]
        by_id = {one["id"].rsplit("/", 1)[-1]: one for one in details}
        forced = []
        for one in self.forced.get(hub.name, []):
            detail = by_id.get((one["id"] or "").rsplit("/", 1)[-1])
            if detail is None or not detail.get("committed"):
                continue
            report = detail.get("report") or {}
            nexts = {entry["partition"]: entry["nextSequence"] for entry in report.get("positions") or []}
            lost = report.get("lost") or {}
            forced.append(Forced(detail["epochAfter"], detail["from"], one["asked"], one["seen"], nexts, lost["events"] if lost.get("exact") else None,
                                 (report.get("lossShown") or {}).get("records")))
        return details, forced


def failing(text):
    try:
        return [(one["name"], one["detail"]) for one in json.loads(text[text.index("{"):text.rindex("}") + 1])["results"] if one["verdict"] == "fail"]
    except (ValueError, KeyError, TypeError):
        return [("?", text[-300:])]


class Eyes:
    """Looks again and again, in every region by itself, whether a new failover has begun, is committed, has ended: whoever knows first counts."""

    def __init__(self, operator, hub, before):
        self.operator, self.hub, self.before = operator, hub, before
        self.id = self.begun = self.committed = self.active = None
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        places = [Management(operator.world, patience=1, only=number) for number in range(len(operator.world.regions))]
        self.threads = [threading.Thread(target=self.look, args=(management,), daemon=True) for management in places]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self, seconds=3):
        """A last look: what was true when the command ended is known within moments."""
        deadline = time.monotonic() + seconds
        while self.active is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.stopping.set()

    def look(self, management):
        while not self.stopping.wait(POLL_SECONDS):
            for one in self.operator.failovers(self.hub, [], management):
                if one["id"] not in self.before:
                    self.note(one["id"], one["properties"])

    def note(self, name, properties):
        now = time.monotonic()
        with self.lock:
            self.id, self.begun = name, self.begun or now
            if properties["committed"] and self.committed is None:
                self.committed = now
                self.operator.history.info("committed", hub=self.hub.name, id=self.id, epoch=properties["epochAfter"])
            if properties["status"] in ENDED and self.active is None:
                self.active = now
