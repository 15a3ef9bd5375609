"""The load generator as a child process."""

import json
import os
import subprocess
import threading

from .report import Failed, require

BENCH = os.environ.get("CASTLING_BENCH_BIN", "target/release/castling-bench")


def addresses(world, port, regions=None):
    """Gateways of all regions, or of some, as castling-bench takes them."""
    return ",".join(f"{region['address']}:{region[port]}" for region in regions or world.regions)


def target(world, host, prefix, tls=True, regions=None):
    words = ["--address", addresses(world, "mqtt_port" if tls else "plain_mqtt_port", regions), "--host", host, "--prefix", prefix]
    return [*words, "--ca", world.up["ca_file"]] if tls else words


def run(*words, seconds=600):
    """Runs a mode to its end; its figures."""
    done = subprocess.run([BENCH, *map(str, words)], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    require(done.returncode == 0, f"castling-bench {words[0]}: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Running:
    """A mode that runs until it is told to end."""

    def __init__(self, *words):
        self.mode = words[0]
        self.process = subprocess.Popen([BENCH, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.errors, self.printed = [], ""
        self.connected = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self):
        """A child whose output nobody takes would wait for ever with it."""
        self.printed = self.process.stdout.read()

    def watch(self):
        for line in self.process.stderr:
            if line.strip() == "connected":
                self.connected.set()
            else:
                self.errors.append(line.strip())

    def wait_connected(self, seconds=120):
        require(self.connected.wait(seconds), f"castling-bench {self.mode} is not connected after {seconds} s: {self.errors}")

    def alive(self):
        return self.process.poll() is None

    def end(self, seconds=120):
        """Its figures, once it has ended in order."""
        self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"castling-bench {self.mode} did not end within {seconds} s") from None
        self.watcher.join(5)
        self.listener.join(5)
        require(self.process.returncode == 0, f"castling-bench {self.mode}: {self.errors}")
        return json.loads(self.printed)

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()
