"""MQTT 3.1.1 byte by byte, as far as tests need it."""

import socket
import ssl
import struct

SILENCE_SECONDS_MAX = 5


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def packet(first, body=b""):
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        length += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def connect(client, user=None, password=None, name="MQTT", level=4, flags=0x02):
    body = text(name) + bytes([level, flags | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)]) + struct.pack(">H", 60)
    return packet(0x10, body + b"".join(text(part) for part in (client, user, password) if part is not None))


def publish(topic, payload=b"", qos=1, number=7):
    return packet(0x30 | qos << 1, text(topic) + (struct.pack(">H", number) if qos else b"") + payload)


def subscribe(*filters, number=9):
    return packet(0x82, struct.pack(">H", number) + b"".join(text(one) + b"\x01" for one in filters))


class Line:
    """One connection; `tls` is a context or none."""

    def __init__(self, address, port, tls=None):
        self.socket = socket.create_connection((address, port), timeout=SILENCE_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address)
        self.read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """The other side may have had enough before all is sent."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass
        return self

    def end(self):
        """No more from us; plain connections only."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return self

    def some(self, seconds=SILENCE_SECONDS_MAX):
        """What comes; empty at the end of the connection; `None` when nothing comes."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            return None
        except (ConnectionError, ssl.SSLError):
            return b""

    def rest(self, seconds=SILENCE_SECONDS_MAX):
        """Everything until the other side closes; `None` if it does not."""
        all_of_it, self.read = self.read, b""
        while True:
            piece = self.some(seconds)
            if piece is None:
                return None
            if not piece:
                return all_of_it
            all_of_it += piece

    def packet(self, seconds=SILENCE_SECONDS_MAX):
        """The next packet as (first byte, body); `None` at the end or when nothing comes."""
        while True:
            length, shift, at = 0, 0, 1
            while at < len(self.read):
                length |= (self.read[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not self.read[at - 1] & 128:
                    if len(self.read) >= at + length:
                        found = (self.read[0], self.read[at:at + length])
                        self.read = self.read[at + length:]
                        return found
                    break
            piece = self.some(seconds)
            if not piece:
                return None
            self.read += piece
