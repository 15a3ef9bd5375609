"""A deployment of two regions and a witness, each in a process of its own, on loopback addresses.

    with Nodes(castling, network=91) as nodes:       # 127.91.0.1, 127.91.0.2, 127.91.0.3
        nodes.start()
        nodes.kill("westus2")
        run([castling, "--data", nodes.operator, "hub", "list"])
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

REGIONS = ("westus2", "westcentralus")
WITNESS = "witness"
READY_WITHIN = 60.0


class NodesError(Exception):
    """A node did not do what it was told; names it."""


class Nodes:
    """Makes the deployment with `castling init`, and runs its nodes.

    `prefix(name)` gives words before a node's command, such as `["ip", "netns", "exec", "ns-a"]`.
    """

    def __init__(
        self,
        castling: str | Path,
        network: int = 91,
        folder: str | Path | None = None,
        options: tuple[str, ...] = (),
        addresses: tuple[str, str, str] | None = None,
        prefix=lambda name: [],
    ):
        self.castling = str(castling)
        self.folder = Path(folder or tempfile.mkdtemp(prefix="castling-nodes-"))
        self._own_folder = folder is None
        self.names = (*REGIONS, WITNESS)
        self.addresses = dict(
            zip(self.names, addresses or [f"127.{network}.0.{n}" for n in (1, 2, 3)])
        )
        self.prefix = prefix
        self.processes: dict[str, subprocess.Popen] = {}
        self._init(options)

    def _init(self, options: tuple[str, ...]) -> None:
        command = [self.castling, "init", "--folder", str(self.folder)]
        command += ["--regions", ",".join(REGIONS), "--witness", WITNESS]
        command += ["--addresses", ",".join(self.addresses[name] for name in self.names)]
        if "--https-port" not in options:
            command += ["--https-port", "8443"]
        if "--failover-cooldown" not in options:
            command += ["--failover-cooldown", "0s", "--failovers-per-day", "100000"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        if done.returncode != 0:
            raise NodesError(f"castling init: {done.stderr}")

    @property
    def operator(self) -> str:
        """Folder for `castling --data`; `up.json` stands in it."""
        return str(self.folder / "operator")

    @property
    def up_file(self) -> Path:
        return self.folder / "operator" / "up.json"

    def up(self) -> dict:
        """`up.json`, with the authority's path made absolute."""
        up = json.loads(self.up_file.read_text())
        up["ca_file"] = str(self.up_file.parent / up["ca_file"])
        return up

    def config(self, name: str) -> Path:
        return self.folder / name / "castling.toml"

    def state(self, name: str) -> Path:
        """What the node stores."""
        return self.folder / name / "state"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start(self, *names: str, wait: bool = True) -> None:
        """Starts nodes (none named: all) and waits until they are ready."""
        names = names or self.names
        for name in names:
            if self.running(name):
                continue
            verb = "witness" if name == WITNESS else "region"
            command = [*self.prefix(name), self.castling, verb, "--config", str(self.config(name))]
            with open(self.log(name), "ab") as log:
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)
        if wait:
            for name in names:
                self.wait_ready(name)

    def running(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.poll() is None

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def signal(self, name: str, number: int) -> None:
        os.kill(self.pid(name), number)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.signal(name, signal.SIGKILL)
        self.processes[name].wait()

    def stop(self, *names: str) -> None:
        """Ends nodes in order (none named: all that run)."""
        names = names or tuple(name for name in self.names if self.running(name))
        for name in names:
            self.signal(name, signal.SIGTERM)
        for name in names:
            code = self.processes[name].wait(timeout=60)
            if code != 0:
                raise NodesError(f"{name} ended with {code}: {self.tail(name)}")

    def pause(self, name: str) -> None:
        self.signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.signal(name, signal.SIGCONT)

    def wipe(self, name: str) -> None:
        """Removes everything a stopped node stored."""
        if self.running(name):
            raise NodesError(f"{name} runs")
        shutil.rmtree(self.state(name), ignore_errors=True)

    def tail(self, name: str, lines: int = 20) -> str:
        path = self.log(name)
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def get(self, name: str, path: str, timeout: float = 2.0) -> tuple[int, str]:
        """What a node serves at its management port; (0, reason) when it does not answer."""
        context = ssl.create_default_context(cafile=str(self.up_file.parent / "ca.pem"))
        port = self.up()["regions"][0]["management_port"]
        url = f"https://{self.addresses[name]}:{port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self, name: str) -> dict | None:
        """`/castling/status` of a node; None when it does not answer."""
        code, text = self.get(name, "/castling/status")
        return json.loads(text) if code == 200 else None

    def ready(self, name: str) -> bool:
        return self.get(name, "/readyz")[0] == 200

    def wait_ready(self, name: str, within: float = READY_WITHIN) -> None:
        end = time.monotonic() + within
        while not self.ready(name):
            if not self.running(name):
                raise NodesError(f"{name} ended: {self.tail(name)}")
            if time.monotonic() > end:
                raise NodesError(f"{name} is not ready: {self.get(name, '/readyz')[1]}\n{self.tail(name)}")
            time.sleep(0.05)

    def leader(self) -> str | None:
        """Who leads the control plane, as the first node says that knows it."""
        for name in self.names:
            status = self.status(name) if self.running(name) else None
            if status and status["control"]["leader"]:
                return status["control"]["leader"]
        return None

    def command(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess:
        """Runs `castling --data OPERATOR …`."""
        return subprocess.run(
            [self.castling, "--data", self.operator, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def close(self) -> None:
        for name in self.names:
            if self.running(name):
                self.resume(name)
                self.kill(name)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_) -> None:
        self.close()
