"""azure-cli, unmodified, with a configuration folder of its own and nothing of the machine's settings."""

import json
import os
import shutil
import subprocess
import time

from .report import Failed, require
from .world import SCRATCH

AZ = os.environ.get("CASTLING_AZ", "target/e2e/venv-az/bin/az")
CLOUD = "LocalIoT"


class Az:
    """One user's az: `az("iot", "hub", "list")` gives what it printed, as JSON where it is JSON."""

    def __init__(self, up, name, **more):
        self.up = up
        self.base = up["management_url"].rstrip("/")
        self.folder = (SCRATCH / f"az-{name}-{os.getpid()}").absolute()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.commands, self.slowest = 0, (0.0, "")
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "NO_PROXY": "*", "no_proxy": "*",
            "AZURE_CONFIG_DIR": str(self.folder / "config"),
            "REQUESTS_CA_BUNDLE": up["ca_file"], "SSL_CERT_FILE": up["ca_file"],
            "AZURE_CORE_COLLECT_TELEMETRY": "false", "AZURE_CORE_SURVEY_MESSAGE": "false",
            "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no", "AZURE_CORE_NO_COLOR": "true", "AZURE_CORE_LOGIN_EXPERIENCE_V2": "off",
            **more,
        }

    def run(self, *words, code=0, seconds=240):
        """Runs one command; the exit code must be `code` (None: any but 0)."""
        words = [str(word) for word in words]
        begun = time.monotonic()
        try:
            done = subprocess.run([AZ, *words], env=self.env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise Failed(f"az {' '.join(words)} did not end within {seconds} s") from None
        self.commands += 1
        self.slowest = max(self.slowest, (time.monotonic() - begun, " ".join(words)))
        fits = done.returncode != 0 if code is None else done.returncode == code
        require(fits, f"az {' '.join(words)}: exit code {done.returncode}, not {'an error' if code is None else code}: {done.stdout}{done.stderr}")
        return done

    def __call__(self, *words, seconds=240):
        text = self.run(*words, seconds=seconds).stdout.strip()
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text

    def refused(self, *words, says, code=None, seconds=240):
        """The command fails, and all of `says` stands in what it printed."""
        done = self.run(*words, code=code, seconds=seconds)
        shown = done.stdout + done.stderr
        for text in [says] if isinstance(says, str) else says:
            require(text in shown, f"az {' '.join(map(str, words))}: {text!r} is not in {shown!r}")
        require("Traceback" not in shown, f"az {' '.join(map(str, words))} crashed: {shown}")
        return shown

    # --- the three ways to point it at a deployment ---------------------------------------------------------------------------

    def point(self, way):
        if way == "A":
            self("cloud", "register", "-n", CLOUD, "--endpoint-resource-manager", self.base, "--endpoint-active-directory", f"{self.base}/adfs")
            self("cloud", "set", "-n", CLOUD)
        elif way == "B":
            self("cloud", "register", "-n", CLOUD, "--endpoint-resource-manager", self.base, "--endpoint-active-directory", self.base)
            self("cloud", "set", "-n", CLOUD)
            self("config", "set", "core.instance_discovery=false")
        else:
            self.env["ARM_CLOUD_METADATA_URL"] = f"{self.base}/metadata/endpoints?api-version=2019-05-01"
        return self

    def login(self, client=None, secret=None):
        up = self.up
        return self("login", "--service-principal", "-u", client or up["client_id"], "-p", secret or up["client_secret"], "--tenant", up["tenant"])

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
