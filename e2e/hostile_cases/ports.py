"""Garbage to ports that are not for clients at all, and to those that want a handshake first."""

import os
import re
import socket
import ssl
import struct

from lib.mqtt import Line

from .wire import Group


def link_ports(world):
    """Listening sockets of the process that up.json does not name: the region links."""
    inodes = set()
    for entry in os.listdir(f"/proc/{world.pid}/fd"):
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{world.pid}/fd/{entry}"))
        except OSError:
            continue
        if found:
            inodes.add(found[1])
    known = {(region["address"], region[port]) for region in world.regions for port in ("https_port", "mqtt_port", "management_port", "plain_mqtt_port")}
    listening = set()
    with open("/proc/net/tcp", encoding="ascii") as file:
        for fields in map(str.split, list(file)[1:]):
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                listening.add((socket.inet_ntoa(struct.pack("<I", int(address, 16))), int(port, 16)))
    return sorted(listening - known)


def garbage(hub):
    """The link ports and every TLS port: what is no handshake ends; the links go on (the second canary uses one)."""
    chance = hub.chance
    links = link_ports(hub.world)
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with Group(f"garbage to {len(links)} link ports and all TLS ports") as group:
        group.holds("every region listens for links", len(links) >= len(hub.world.regions), links)
        ports = links + [(region["address"], region[port]) for region in hub.world.regions for port in ("https_port", "mqtt_port", "management_port")]
        data = [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\xff" * 64, b"\x16\x03\x01\xff\xff" + b"\xff" * 300, b"\0" * 100, b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff"]
        for address, port in ports:
            for one in data + [chance.randbytes(chance.randrange(1, 5000)) for _ in range(5)]:
                with Line(address, port).send(one).end() as line:
                    answer = line.rest()
                    group.holds(f"{one[:30]!r} to {address}:{port}", answer is not None and not answer.startswith(b"HTTP/1.1 2"), f"answered with {answer!r}")
        for address, port in links:
            for one in data + [struct.pack(">I", 0xFFFFFFFF) + b"x" * 100, chance.randbytes(70000)]:
                # No certificate of the deployment: refused in the handshake, or right after it with TLS 1.3.
                try:
                    with Line(address, port, client).send(one) as line:
                        group.holds(f"a stranger on the link port {address}:{port}", line.rest() == b"", "the link stays open or answers")
                except (ConnectionError, ssl.SSLError):
                    group.count += 1
