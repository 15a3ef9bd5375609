"""Names for this process's own clients: the part that DNS plays for a fleet, where a name leads to a region that answers.

A device's gateway name is `NAME.DOMAIN` (the certificates of all regions cover it). Whenever a client that is not connected looks its name up again, it
is sent to the next region.
"""

import socket
import threading

_lock = threading.Lock()
_names = {}
_asked = socket.getaddrinfo


class Way:
    """Where one client is led: a list of addresses, or always the same."""

    def __init__(self, name, addresses, first=0):
        self.name, self.addresses, self.at = name, list(addresses), first % len(addresses)
        self.attempts = 0
        with _lock:
            _names[name] = self
        socket.getaddrinfo = _answer

    @property
    def address(self):
        return self.addresses[self.at]

    def reached(self):
        """The client is connected: it stays where it is."""
        self.attempts = 0

    def elsewhere(self):
        """Leads to the next region from now on."""
        self.at = (self.at + 1) % len(self.addresses)
        self.attempts = 0

    def ask(self):
        if self.attempts:
            self.at = (self.at + 1) % len(self.addresses)
        self.attempts += 1
        return self.address

    def forget(self):
        with _lock:
            _names.pop(self.name, None)


def _answer(host, port, *more, **named):
    with _lock:
        way = _names.get(host.decode() if isinstance(host, bytes) else host)
    if way is None:
        return _asked(host, port, *more, **named)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (way.ask(), int(port)))]
