"""Access tokens like the deployment's own, and unlike.

The keys that sign tokens never leave the control plane, so nothing here is signed by them: what a well-signed token with wrong claims
is answered with stands in the tests of the management API.
"""

import base64
import hashlib
import json

EXPONENT, BITS = 65537, 1024
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def prime(chance):
    """Of half a key's bits; test keys only."""
    while True:
        found = chance.getrandbits(BITS) | (3 << (BITS - 2)) | 1
        if all(found % small for small in (3, 5, 7, 11, 13, 17, 19, 23)) and (found - 1) % EXPONENT and all(pow(base, found - 1, found) == 1 for base in (2, 3, 5, 7)):
            return found


def rs256(signed, key):
    modulus, secret = key
    length = (modulus.bit_length() + 7) // 8
    digest = SHA256_PREFIX + hashlib.sha256(signed.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (length - len(digest) - 3) + b"\x00" + digest
    return pow(int.from_bytes(padded, "big"), secret, modulus).to_bytes(length, "big")


class Tokens:
    """Access tokens like the deployment's own, signed with another key."""

    def __init__(self, hub):
        self.chance, self.genuine = hub.chance, hub.management.token
        head, claims, _ = self.genuine.split(".")
        self.head, self.claims = json.loads(unb64(head)), json.loads(unb64(claims))
        one, two = prime(self.chance), prime(self.chance)
        self.key = one * two, pow(EXPONENT, -1, (one - 1) * (two - 1))

    def make(self, head=(), **claims):
        signed = b64(json.dumps({**self.head, **dict(head)}).encode()) + "." + b64(json.dumps({**self.claims, **claims}).encode())
        return f"{signed}.{b64(rs256(signed, self.key))}"

    def public(self):
        """The other key, as a token may name it in its header."""
        modulus = self.key[0]
        return {"kty": "RSA", "n": b64(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")), "e": "AQAB"}

    def unsigned(self, algorithm, signature=b""):
        signed = b64(json.dumps({**self.head, "alg": algorithm}).encode()) + "." + self.genuine.split(".")[1]
        return f"{signed}.{b64(signature(signed) if callable(signature) else signature)}"
