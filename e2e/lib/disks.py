"""A small disk for each node, which can be filled: a tmpfs where root is to be had."""

import os
import re
import subprocess
from pathlib import Path

from .report import Failed

MEGABYTES = 768
BALLAST = "ballast"


def mounted_under(folder):
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1].startswith(str(folder.resolve()))]


def sweep(scratch):
    """Unmounts what runs left behind that were killed: their folders end with their process's number."""
    for place in mounted_under(scratch) if scratch.exists() else []:
        found = re.search(r"-(\d+)(/|$)", place[len(str(scratch.resolve())):])
        if found and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


class Disk:
    """One node's folder."""

    def __init__(self, folder, megabytes=MEGABYTES):
        self.folder, self.megabytes = folder, megabytes

    def mount(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.megabytes}m,mode=0700", "castling-test", self.folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"mounting {self.folder}: {done.stderr.strip()}")

    def unmount(self):
        subprocess.run(["umount", "-l", self.folder], capture_output=True, check=False)

    def fill(self, leave_bytes=0):
        """Leaves so much."""
        with open(self.folder / BALLAST, "wb") as file:
            while True:
                free = self.free() - leave_bytes
                if free < 4096:
                    return
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), min(free, 64 << 20))
                except OSError:
                    return
                file.seek(0, os.SEEK_END)

    def empty(self):
        (self.folder / BALLAST).unlink(missing_ok=True)

    def free(self):
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize
