"""Access tokens like the deployment's own, and unlike."""

import base64
import hashlib
import json

PRIME, ORDER = 2**256 - 2**224 + 2**192 + 2**96 - 1, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296, 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)


def times(scalar, point):
    """Multiplies on the curve P-256; test keys only, its timing tells the scalar."""

    def add(one, two):
        if one is None or two is None:
            return one or two
        if one[0] == two[0] and one != two:
            return None
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, PRIME) if one == two else (two[1] - one[1]) * pow(two[0] - one[0], -1, PRIME)
        x = (slope**2 - one[0] - two[0]) % PRIME
        return x, (slope * (one[0] - x) - one[1]) % PRIME

    found = None
    while scalar:
        if scalar & 1:
            found = add(found, point)
        point, scalar = add(point, point), scalar >> 1
    return found


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def es256(signed, key, nonce):
    r = times(nonce, BASE)[0] % ORDER
    digest = int.from_bytes(hashlib.sha256(signed.encode()).digest(), "big")
    s = pow(nonce, -1, ORDER) * (digest + r * key) % ORDER
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Tokens:
    """Access tokens like the deployment's own, signed with its key or another."""

    def __init__(self, hub):
        self.chance, self.genuine = hub.chance, hub.management.token
        head, claims, _ = self.genuine.split(".")
        self.head, self.claims = json.loads(unb64(head)), json.loads(unb64(claims))
        pem = (hub.world.data / "data" / "pki" / "tokens.key").read_text()
        der = base64.b64decode("".join(pem.split("-----")[2].split()))
        self.key = int.from_bytes(der[36:68], "big")  # PKCS#8 of a P-256 key has its scalar there

    def make(self, key=None, head=(), **claims):
        signed = b64(json.dumps({**self.head, **dict(head)}).encode()) + "." + b64(json.dumps({**self.claims, **claims}).encode())
        return f"{signed}.{b64(es256(signed, key or self.key, self.chance.randrange(1, ORDER)))}"

    def unsigned(self, algorithm, signature=b""):
        signed = b64(json.dumps({**self.head, "alg": algorithm}).encode()) + "." + self.genuine.split(".")[1]
        return f"{signed}.{b64(signature(signed) if callable(signature) else signature)}"
