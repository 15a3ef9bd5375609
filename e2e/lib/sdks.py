"""The management SDKs, each in a process of its own."""

import json
import os
import subprocess
from pathlib import Path

from .report import Failed, require

PYTHON = os.environ.get("CASTLING_MGMT_PYTHON", "target/e2e/venv-mgmt/bin/python")
NODE = Path(os.environ.get("CASTLING_NODE", "target/e2e/node")).absolute()
CASES = Path(__file__).parent.parent / "mgmt_cases"


def run(language, way, case, up_file, ca_file, group, hub, seconds=300):
    """Runs `sdk.py` or `sdk.cjs`; gives what was exchanged."""
    command = {"python": [PYTHON, CASES / "sdk.py"], "node": ["node", CASES / "sdk.cjs"]}[language]
    env = {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "NO_PROXY": "*", "UP_FILE": str(up_file), "GROUP": group, "HUB": hub,
        "REQUESTS_CA_BUNDLE": ca_file, "SSL_CERT_FILE": ca_file, "NODE_EXTRA_CA_CERTS": ca_file, "NODE_PATH": str(NODE / "node_modules"),
    }
    try:
        done = subprocess.run([*map(str, command), way, case], env=env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Failed(f"the SDK for {language} did not end within {seconds} s") from None
    require(done.returncode == 0, f"the SDK for {language} ({way}, {case}) failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
