"""The load generator as a child process."""

import json
import os
import subprocess
import threading
import time

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
        # What a mode says of itself on the way.
        self.said = {"connected": threading.Event(), "back": threading.Event()}
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self):
        """A child whose output nobody takes would wait for ever with it."""
        self.printed = self.process.stdout.read()

    def watch(self):
        for line in self.process.stderr:
            if line.strip() in self.said:
                self.said[line.strip()].set()
            else:
                self.errors.append(line.strip())

    def wait_connected(self, seconds=120):
        self.wait_said("connected", seconds)

    def wait_said(self, word, seconds):
        deadline = time.monotonic() + seconds
        while not self.said[word].wait(0.2):
            require(self.alive(), f"castling-bench {self.mode} ended: {self.errors}")
            require(time.monotonic() < deadline, f"castling-bench {self.mode} is not {word} after {seconds} s: {self.errors}")

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


class Relay:
    """Links between nodes that can be made slow, lossy and silent; `links` are (name, address it listens at, address behind it)."""

    def __init__(self, links, delay_ms=0.0, loss=0.0):
        words = [word for name, listen, target in links for word in ("--link", f"{name}={listen}={target}")]
        self.process = subprocess.Popen([BENCH, "relay", *words, "--delay-ms", str(delay_ms), "--loss", str(loss)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = self.process.stderr.readline().strip()
        require(first == "connected", f"castling-bench relay: {first}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def ask(self, order):
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def order(self, text):
        answer = self.ask(text)
        require(answer == "ok", f"castling-bench relay, {text}: {answer}")

    def stats(self):
        return {link["link"]: link for link in json.loads(self.ask("stats"))["links"]}

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
