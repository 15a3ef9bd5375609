"""Wall clocks that jump: a small library, built with the C compiler that the workspace needs anyway, is preloaded into each node."""

import shutil
import struct
import subprocess
from pathlib import Path

from .report import say

SOURCE = Path(__file__).with_name("clock.c")


class Clocks:
    """One wall clock per node. `possible` is false where there is no C compiler."""

    def __init__(self, folder, nodes):
        folder.mkdir(parents=True, exist_ok=True)
        self.library = folder / "clock.so"
        self.files = {node: folder / f"{node}.clock" for node in nodes}
        for node in nodes:
            self.set(node, 0.0)
        self.possible = self.build()

    def build(self):
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            say("no C compiler: clocks do not jump")
            return False
        done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE, "-ldl"], capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"clocks do not jump: {done.stderr.strip()[:300]}")
        return done.returncode == 0

    def environment(self, node):
        return {"LD_PRELOAD": str(self.library.resolve()), "CASTLING_TEST_CLOCK": str(self.files[node].resolve())} if self.possible else {}

    def set(self, node, seconds):
        """Off by so much from now on; written in place, because the node has the file mapped."""
        with open(self.files[node], "r+b" if self.files[node].exists() else "w+b") as file:
            file.write(struct.pack("=q", int(seconds * 1_000_000_000)))
