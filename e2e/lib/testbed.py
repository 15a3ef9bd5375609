"""What a chaos run stands on: regions as processes in namespaces of their own where root is to be had, or one process with everything."""

import os
import shutil
import signal
import time
from pathlib import Path

from .report import Failed, say
from .world import SCRATCH, World

NO_POLICY = ("--failover-cooldown", "0s", "--failovers-per-day", "1000")
REGIONS = ("westus2", "westcentralus")
OUT = Path(os.environ.get("CASTLING_CHAOS_OUT", "target/chaos"))


def open_bed(name, one_process=False, **more):
    if one_process:
        return OneProcess(name)
    from .separate import Separate  # pylint: disable=import-outside-toplevel

    return Separate(name, **more)


def kept_folder(name):
    folder = OUT / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class OneProcess:
    """`castling up`: the whole world is one node, which can be killed and paused."""

    nodes = ("up",)
    faults = ("kill", "pause-short", "pause-long", "planned", "two-operators", "operator-dies")

    def __init__(self, name):
        self.world = World(name, *NO_POLICY, regions=",".join(REGIONS))
        self.kept = kept_folder(name)
        self.folder = self.kept

    def __enter__(self):
        self.world.start()
        return self

    def __exit__(self, kind, *rest):
        if self.world.process and self.world.process.poll() is None:
            self.world.process.send_signal(signal.SIGCONT)
        self.world.__exit__(kind, *rest)

    def kill(self, _node):
        self.world.kill()

    def start(self, _node):
        if self.is_dead(_node):
            self.world.start()

    def pause(self, _node):
        self.world.process.send_signal(signal.SIGSTOP)

    def resume(self, _node):
        if not self.is_dead(_node):
            self.world.process.send_signal(signal.SIGCONT)

    def is_dead(self, _node):
        return self.world.process.poll() is not None

    def heal_network(self):
        """There is none."""

    def complaints(self):
        return complaints_in(self.world.log_path)


def complaints_in(path):
    """A panic is a violation whatever it did not break."""
    from .judge.facts import some  # pylint: disable=import-outside-toplevel

    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as why:
        raise Failed(f"{path}: {why}") from None
    return some((line[:300] for line in lines if "panicked" in line), "no-panic", f"{path.name}: the process panicked")


def keep(path, folder):
    """Copies a log to the folder that is kept."""
    try:
        shutil.copy2(path, folder / path.name)
    except OSError as why:
        say(f"{path} is not kept: {why}")
