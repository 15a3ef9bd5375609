"""A person signs in with az: with a browser, and with a code typed elsewhere."""

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

from lib.az import AZ, Az
from lib.report import Failed, require, say

from . import browser

HERE = Path(__file__).parent


def administrator(world):
    """The first administrator's name and password, as the first start printed them once."""
    text = world.log_path.read_text(errors="replace")
    name = re.search(r"^\s*Administrator:?\s+(\S+)", text, re.M)
    password = re.search(r"^\s*Password:?\s+(\S+)", text, re.M)
    require(name and password, f"the first start does not print an administrator and a password:\n{text[:1500]}")
    return name[1], password[1]


def people(world):
    user, password = administrator(world)
    with_browser(world, user, password)
    with_code(world, user, password)


def signed_in(az, user):
    account = az("account", "show")
    require(account["user"] == {"name": user, "type": "user"}, f"signed in as {account['user']}, not {user}")
    az("iot", "hub", "list")
    az("logout")


def with_browser(world, user, password):
    az = Az(world.up, "browser").point("A")
    script, told = az.folder / "browser", az.folder / "browser.log"
    # In the background: azure-cli listens for the way back only once the program it started has ended.
    script.write_text(f'#!/bin/sh\n"{sys.executable}" "{HERE / "browser.py"}" "$1" >"{told}" 2>&1 </dev/null &\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    az.env.update(BROWSER=str(script), SIGN_IN_USER=user, SIGN_IN_PASSWORD=password)
    try:
        az("login", seconds=60)
    except Failed as failure:
        seen = told.read_text(errors="replace")[-1500:] if told.exists() else "it was not started"
        raise Failed(f"{failure}; the browser: {seen}") from None
    signed_in(az, user)
    az.close()
    say(f"{user} signed in with a browser")


def with_code(world, user, password):
    az = Az(world.up, "code").point("A")
    process = subprocess.Popen([AZ, "login", "--use-device-code"], env=az.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        line, deadline = "", time.monotonic() + 60
        while "enter the code" not in line:
            line = process.stderr.readline()
            if not line or time.monotonic() > deadline:
                raise Failed(f"az login --use-device-code told no code: {process.communicate(timeout=10)}")
        page, code = re.search(r"(https://\S+)", line)[1], re.search(r"code (\S+)", line)[1]
        os.environ["SSL_CERT_FILE"] = world.up["ca_file"]
        browser.walk(page, user, password, code)
        out, err = process.communicate(timeout=60)
        require(process.returncode == 0, f"az login --use-device-code: {out}{err}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    signed_in(az, user)
    az.close()
    say(f"{user} signed in with a code")
