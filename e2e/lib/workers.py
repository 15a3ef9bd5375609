"""Clients of the service side that write down what they did: twin writers, senders and receivers of C2D, consumers of events."""

import json
import threading
import time
from urllib.parse import quote

import requests

from .history import History
from .rest import device_key, sas

REQUEST_SECONDS = 20
TWIN = "wanted"
# An isolated region answers reads from what it has, and says so.
NOT_CURRENT = "castling-not-current"


def outcome(op, answer, result=None):
    """Ends an operation as its answer says: nothing was done (fail), done (ok), or nobody knows (unknown). True when done."""
    if answer.status_code < 300:
        stale = {"stale": True} if NOT_CURRENT in answer.headers else {}
        op.ok(**(result(answer) if result else {}), **stale)
        return True
    why = f"{answer.status_code} {answer.text[:200]}"
    if answer.status_code == 503 or answer.status_code < 500:
        op.fail(why)
    else:
        op.unknown(why)
    return False


class Worker:
    """A thread that does one thing again and again, through one region until that does not answer."""

    def __init__(self, hub, name, folder, region=0, period=0.1):
        self.hub, self.name, self.region, self.period = hub, name, region, period
        self.service = hub.service.clone()
        self.history = History(folder, f"{hub.name}.{name}")
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True, name=name)

    def start(self):
        self.thread.start()

    def run(self):
        turn = 0
        while not self.stopping.is_set():
            self.again(turn)
            turn += 1
            self.stopping.wait(self.period)

    def again(self, turn):
        good = False
        try:
            good = self.step(turn)
        except (requests.RequestException, ValueError, KeyError) as why:
            self.history.info("trouble", why=repr(why)[:300])
        if not good:
            self.region += 1
            self.stopping.wait(0.2)

    def step(self, turn):
        raise NotImplementedError

    def ask(self, method, path, op=None, result=None, **more):
        """Asks; with an operation, ends it. The answer, or nothing when none came."""
        try:
            answer = self.service.raw(method, path, self.region, timeout=(3, REQUEST_SECONDS), **more)
        except requests.RequestException as why:
            # Not even connected: nothing was done.
            if op:
                (op.fail if isinstance(why, requests.exceptions.ConnectTimeout) else op.unknown)(repr(why))
            self.service.session.close()
            return None
        if op:
            outcome(op, answer, result)
        return answer

    def good(self, answer):
        return answer is not None and answer.status_code < 300

    def stop(self, patience=30):
        self.stopping.set()
        self.thread.join(patience)

    def look_after(self):
        pass

    def close(self):
        self.service.session.close()


def twin_facts(answer):
    """What a twin's document tells, as a read or as the answer to a patch."""
    twin = answer.json()
    desired, reported = twin["properties"]["desired"], twin["properties"]["reported"]
    return {"version": twin["version"], "etag": twin["etag"], "desiredVersion": desired["$version"], "desired": desired.get(TWIN),
            "reportedVersion": reported["$version"], "reported": reported.get("value")}


class TwinWriter(Worker):
    """Patches desired properties with values that nobody else writes, and reads twins back."""

    def __init__(self, hub, name, folder, devices, **more):
        super().__init__(hub, name, folder, **more)
        self.devices = devices

    def step(self, turn):
        device = self.devices[turn // 2 % len(self.devices)]
        path = f"/twins/{quote(device, safe='')}"
        if turn % 2:
            op = self.history.invoke("twin-read", hub=self.hub.name, device=device, through=self.region)
            return self.good(self.ask("GET", path, op, twin_facts))
        value = f"{self.name}-{turn}"
        op = self.history.invoke("desired", hub=self.hub.name, device=device, value=value, through=self.region)
        return self.good(self.ask("PATCH", path, op, twin_facts, json={"properties": {"desired": {TWIN: value}}}, headers={"If-Match": '"*"'}))


class Sender(Worker):
    """Sends C2D messages, some of which expire soon."""

    def __init__(self, hub, name, folder, devices, short_every=5, **more):
        super().__init__(hub, name, folder, **more)
        self.devices, self.short_every = devices, short_every

    def step(self, turn):
        device = self.devices[turn % len(self.devices)]
        message = f"{self.name}-{turn}"
        life = 6 if turn % self.short_every == self.short_every - 1 else 3000
        expiry = time.time() + life
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(expiry)) + f".{int(expiry * 1000) % 1000:03}Z"
        op = self.history.invoke("c2d-send", hub=self.hub.name, device=device, id=message, expiry=expiry)
        headers = {"iothub-messageid": message, "iothub-expiry": text}
        return self.good(self.ask("POST", f"/devices/{quote(device, safe='')}/messages/deviceBound", op, data=message, headers=headers))


class Receiver(Worker):
    """A device that fetches its messages over HTTPS and completes each one."""

    def __init__(self, hub, name, folder, label=None, **more):
        super().__init__(hub, label or name, folder, **more)
        self.name = name
        self.token = sas(f"{hub.host}/devices/{name}", device_key(name), seconds=36000)

    def step(self, turn):
        path = f"/devices/{quote(self.name, safe='')}/messages/deviceBound"
        headers = {"Authorization": self.token}
        op = self.history.invoke("c2d-receive", hub=self.hub.name, device=self.name)
        answer = self.ask("GET", path, op, lambda answer: {"id": answer.headers.get("iothub-messageid"), "over": "https"}, headers=headers,
                          params={"iothub-messagelocktimeout": 30})
        if not self.good(answer) or answer.status_code == 204:
            return self.good(answer)
        message = answer.headers["iothub-messageid"]
        lock = answer.headers["ETag"].strip('"')
        op = self.history.invoke("c2d-complete", hub=self.hub.name, device=self.name, id=message)
        return self.good(self.ask("DELETE", f"{path}/{lock}", op, headers=headers))


def counter_of(event):
    """The counter in a telemetry event's body, or its body when it has none."""
    try:
        return json.loads(event["body"])["counter"]
    except (ValueError, KeyError, TypeError):
        return event["body"][:64]


class Consumer(Worker):
    """Reads one partition and remembers offsets; from time to time it begins again from an old one, or from what the hub stored for it."""

    def __init__(self, hub, name, folder, partition, group=None, restart_every=12.0, **more):
        super().__init__(hub, name, folder, **more)
        self.partition, self.group, self.restart_every = partition, group, restart_every
        self.offset = None  # of the last event read
        self.next = None
        self.kept = []  # (when, offset): what a crash would leave
        self.began = time.monotonic()
        self.stored_at = 0.0
        self.starts = 0
        self.history.info("starts", hub=hub.name, partition=partition, after=None)

    def step(self, turn):
        if time.monotonic() - self.began > self.restart_every:
            self.begin_again()
        start = "stored" if self.next == "stored" else self.offset or "earliest"
        params = {"from": start, "max": 500, "wait": 2000, **({"consumerGroup": self.group} if self.group else {})}
        answer = self.ask("GET", f"/messages/events/partitions/{self.partition}", params=params)
        if answer is None or answer.status_code >= 300:
            if answer is not None and answer.status_code < 500 and "FailingOver" not in answer.text:
                self.history.info("refused", hub=self.hub.name, partition=self.partition, why=f"{answer.status_code} {answer.text[:200]}")
            return False
        page = answer.json()
        self.next = None
        if page.get("rewound"):
            self.history.info("rewound", hub=self.hub.name, partition=self.partition, after=start, **{"seq_" + name: value for name, value in page["rewound"].items()})
        for event in page["events"]:
            self.offset = event["offset"]
            late = (event.get("properties") or {}).get("castling-salvaged")
            self.history.info("event", hub=self.hub.name, partition=self.partition, offset=event["offset"], sequence=event["sequenceNumber"],
                              device=event["deviceId"], counter=counter_of(event), **({"late": late} if late else {}))
        if page["events"]:
            self.kept.append((time.monotonic(), self.offset))
        self.store(page)
        return True

    def store(self, page):
        if self.group is None or time.monotonic() - self.stored_at < 1.0 or self.offset is None:
            return
        body = {"next": page["next"], "epoch": page["epoch"]}
        path = f"/messages/events/consumerGroups/{quote(self.group, safe='')}/partitions/{self.partition}/offset"
        answer = self.ask("PUT", path, json=body)
        if self.good(answer):
            self.stored_at = time.monotonic()

    def begin_again(self):
        """As after a crash: what was read since the last offset that was kept is read again."""
        self.began = time.monotonic()
        self.starts += 1
        if self.group and self.stored_at:
            self.next = "stored"
            self.history.info("starts", hub=self.hub.name, partition=self.partition, after="stored")
            return
        old = [offset for when, offset in self.kept if when < time.monotonic() - 5.0]
        self.offset = old[-1] if old else self.offset
        self.kept = self.kept[-200:]
        self.history.info("starts", hub=self.hub.name, partition=self.partition, after=self.offset)
