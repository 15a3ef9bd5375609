"""A world of its own: `castling up` with a fresh data folder and loopback addresses that nobody else uses."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

from .report import Failed, require, say

CASTLING = os.environ.get("CASTLING_BIN", "target/release/castling")
SCRATCH = Path(os.environ.get("CASTLING_SCRATCH", "target/e2e/runs"))
START_SECONDS = 90
STOP_SECONDS = 30


def free_address():
    """The first of a run of loopback addresses on which nobody listens."""
    for turn in range(200):
        block = (os.getpid() + turn) % 250 + 1
        address = f"127.50.{block}.1"
        taken = False
        for port in (8883, 8444):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                except OSError:
                    taken = True
        if not taken:
            return address
    raise Failed("no free loopback address in 127.50.0.0/16")


class World:
    """Starts, stops, kills and asks one `castling up`."""

    def __init__(self, name, *options, regions=None):
        self.name = name
        self.address = free_address()
        self.options = ["--bind", self.address, *(["--regions", regions] if regions else []), *options]
        self.data = SCRATCH / f"{name}-{os.getpid()}"
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True)
        self.log_path = self.data.with_suffix(".log")
        self.process = None
        self.up = None
        self.starts = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None:
            shutil.rmtree(self.data, ignore_errors=True)
            self.log_path.unlink(missing_ok=True)
        else:
            say(f"kept for a look: {self.data} and {self.log_path}")

    # --- running it -------------------------------------------------------------------------------------------------------

    def start(self):
        """Starts it and waits until it says where it is; returns the seconds that took."""
        begun = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [CASTLING, "up", "--data", self.data / "data", *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        while True:
            if self.process.poll() is not None:
                raise Failed(f"castling up ended with {self.process.returncode}: {self.log_tail()}")
            if time.monotonic() - begun > START_SECONDS:
                raise Failed(f"castling up is not up after {START_SECONDS} s: {self.log_tail()}")
            up = self.read_up()
            if up and up["pid"] == self.process.pid:
                break
            time.sleep(0.02)
        self.up = up
        self.starts += 1
        # The machine's own settings would make clients trust, or ask, someone else.
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
            os.environ[variable] = up["ca_file"]
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
        return time.monotonic() - begun

    def read_up(self):
        try:
            return json.loads((self.data / "data" / "up.json").read_text())
        except (OSError, ValueError):
            return None

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"castling up did not stop within {STOP_SECONDS} s of SIGTERM: {self.log_tail()}") from None
        require(code == 0, f"castling up ended with {code} after SIGTERM: {self.log_tail()}")

    def kill(self):
        """As a power cut of the process: SIGKILL."""
        self.process.kill()
        self.process.wait()

    def log_tail(self, lines=20):
        try:
            return "\n" + "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    # --- asking it --------------------------------------------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    @property
    def regions(self):
        return self.up["regions"]

    def region(self, name):
        return next(region for region in self.regions if region["name"] == name)

    def command(self, *words):
        return [CASTLING, "--data", str(self.data / "data"), *map(str, words)]

    def cli(self, *words, code=0, seconds=120):
        """Runs the command line; the exit code must be `code`."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        require(done.returncode == code, f"castling {' '.join(map(str, words))}: exit code {done.returncode}, not {code}: {done.stdout}{done.stderr}")
        return done

    def cli_json(self, *words, seconds=120):
        text = self.cli("--output", "json", *words, seconds=seconds).stdout
        try:
            return json.loads(text)
        except ValueError:
            raise Failed(f"castling {' '.join(map(str, words))} printed no JSON: {text!r}") from None

    def cli_typed(self, typed, *words, code=0, seconds=120):
        """Runs the command line on a terminal and types one line; returns all it printed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(self.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        os.write(ours, typed.encode() + b"\n")
        shown = b""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
        try:
            found = process.wait(max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed(f"castling {' '.join(words)} did not end within {seconds} s: {shown.decode()}") from None
        require(found == code, f"castling {' '.join(words)}: exit code {found}, not {code}: {shown.decode()}")
        return shown.decode()

    def metrics(self, regions=None):
        """Every figure of every region, or of some, summed; those with labels also without them."""
        total = {}
        for region in regions or self.regions:
            url = f"https://{region['address']}:{region['management_port']}/metrics"
            for line in requests.get(url, verify=self.up["ca_file"], timeout=10).text.splitlines():
                if line.startswith("#") or " " not in line:
                    continue
                name, value = line.rsplit(" ", 1)
                for key in {name, name.split("{")[0]}:
                    total[key] = total.get(key, 0.0) + float(value)
        return total
