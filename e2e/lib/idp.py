"""A small OpenID Connect provider of our own on a loopback port: one person, signed in without being asked."""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT, SECRET = "castling", "idp-client-secret"


class Provider:
    """`claims` go into every ID token; `spoil` changes them before they are signed."""

    def __init__(self, **claims):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.claims, self.spoil = claims, lambda claims: claims
        self.codes = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.get(self)

            def do_POST(self):
                provider.post(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def get(self, request):
        parts = urlsplit(request.path)
        if parts.path == "/.well-known/openid-configuration":
            return answer(request, 200, {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })
        if parts.path == "/keys":
            key = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
            return answer(request, 200, {"keys": [{**key, "kid": "idp-1", "use": "sig", "alg": "RS256"}]})
        if parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if asked.get("client_id") != CLIENT or asked.get("code_challenge_method") != "S256":
                return answer(request, 400, {"error": "invalid_request"})
            code = secrets.token_urlsafe(24)
            self.codes[code] = asked
            request.send_response(302)
            request.send_header("Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return None
        return answer(request, 404, {"error": "not_found"})

    def post(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
        given = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self.codes.pop(given.get("code"), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        good = asked and asked["code_challenge"] == challenge and asked["redirect_uri"] == given.get("redirect_uri")
        if not good or given.get("client_secret") != SECRET:
            return answer(request, 400, {"error": "invalid_grant"})
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.claims}
        token = jwt.encode(self.spoil(claims), self.key, algorithm="RS256", headers={"kid": "idp-1"})
        return answer(request, 200, {"access_token": "unused", "token_type": "Bearer", "id_token": token})


def answer(request, status, body):
    text = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text)
