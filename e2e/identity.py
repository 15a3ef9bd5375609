"""Who gets in, and who does not: the first administrator, browser and device sign-ins, refresh tokens, a certificate, an external provider."""

import base64
import datetime
import hashlib
import html
import re
import secrets
import tempfile
from urllib.parse import parse_qs, urlsplit

import requests
from azure.identity import CertificateCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from lib import idp
from lib.report import main, require, say
from lib.rest import API
from lib.world import World

CLIENT = "castling-cli"
REDIRECT = "http://localhost:1/done"
SCOPE = "https://management.azure.com/.default openid profile offline_access"
IDENTITY = "/providers/Castling.Identity"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
NEW_PASSWORD = "a-quite-long-pass-phrase-1"


class Person:
    """A browser with cookies of its own, and the tokens it got."""

    def __init__(self, world):
        self.world, self.session = world, requests.Session()
        self.session.verify = world.up["ca_file"]
        self.root = f"{world.up['management_url']}/{world.up['tenant']}/oauth2/v2.0"
        self.tokens = {}

    def page(self):
        """The sign-in page of a browser flow with PKCE."""
        self.verifier = secrets.token_urlsafe(48)
        self.state = secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        fields = {"client_id": CLIENT, "response_type": "code", "redirect_uri": REDIRECT, "scope": SCOPE, "state": self.state,
                  "code_challenge": challenge, "code_challenge_method": "S256"}
        answer = self.session.get(f"{self.root}/authorize", params=fields, allow_redirects=False, timeout=30)
        require(answer.status_code == 200, f"no sign-in page: {answer.status_code} {answer.text[:300]}")
        return answer

    def submit(self, page, **fields):
        """Sends the page's form, as a browser would."""
        action = html.unescape(re.search(r'<form method="post" action="([^"]+)"', page.text).group(1))
        sealed = re.search(r'name="request" value="([^"]+)"', page.text).group(1)
        url = action if action.startswith("https:") else self.world.up["management_url"] + action
        body = {"request": sealed, "action": "go", **fields}
        origin = self.world.up["management_url"]
        return self.session.post(url, data=body, headers={"Origin": origin}, allow_redirects=False, timeout=30)

    def sign_in(self, name, password, change_to=None):
        answer = self.submit(self.page(), username=name, password=password)
        if change_to and answer.status_code == 200 and "new_password" in answer.text:
            answer = self.submit(answer, new_password=change_to, repeated=change_to)
        return answer

    def redeem(self, answer):
        """The code of a redirect becomes tokens."""
        require(answer.status_code in (302, 303), f"no redirect: {answer.status_code} {answer.text[:500]}")
        to = answer.headers["Location"]
        require(to.startswith(REDIRECT), f"redirected to {to}")
        query = parse_qs(urlsplit(to).query)
        require(query.get("state") == [self.state], "the state is not the one that was sent")
        self.code = query["code"][0]
        self.tokens = self.token(grant_type="authorization_code", code=self.code, redirect_uri=REDIRECT, code_verifier=self.verifier)
        return self

    def token(self, ok=200, **fields):
        answer = self.session.post(f"{self.root}/token", data={"client_id": CLIENT, "scope": SCOPE, **fields}, timeout=30)
        require(answer.status_code == ok, f"token: {answer.status_code}, not {ok}: {answer.text[:500]}")
        return answer.json()

    def call(self, method, path, body=None, ok=200):
        answer = self.session.request(method, f"{self.world.up['management_url']}{path}", params={"api-version": API}, json=body, timeout=30,
                                      headers={"Authorization": f"Bearer {self.tokens['access_token']}"})
        require(answer.status_code == ok, f"{method} {path}: {answer.status_code}, not {ok}: {answer.text[:500]}")
        return answer.json() if answer.text else None


def scenario():
    with World("identity") as world:
        administrator = first_administrator(world)
        refresh_tokens(world, administrator)
        device_code(world, administrator)
        lockout(world, administrator)
        certificate(world, administrator)
        external(world, administrator)
        sessions(world, administrator)


def first_administrator(world):
    """The first start tells the password once; it opens the door and may be changed."""
    log = world.log_path.read_text()
    name = re.search(r"\b(admin@[\w.-]+)", log)
    told = re.search(r"[Pp]assword\W+(?:is\W+)?([A-Za-z0-9_-]{16,})", log)
    require(name and told, f"the first start does not tell the administrator's password: {log[-2000:]}")
    person = Person(world)
    wrong = person.sign_in(name.group(1), "not-this-password-at-all")
    require(wrong.status_code != 302 and told.group(1) not in wrong.text, f"a wrong password leads on: {wrong.status_code}")
    person.name, person.password = name.group(1), told.group(1)
    person.redeem(person.sign_in(person.name, person.password))
    me = person.call("GET", f"{IDENTITY}/me")
    require(me["properties"]["roles"][0]["role"] == "Owner", f"the administrator is not Owner: {me}")
    person.token(grant_type="authorization_code", code=person.code, redirect_uri=REDIRECT, code_verifier=person.verifier, ok=400)
    person.call("POST", f"{IDENTITY}/me/setPassword", {"currentPassword": person.password, "newPassword": NEW_PASSWORD})
    person.password = NEW_PASSWORD
    person.call("GET", f"{IDENTITY}/me")
    say(f"{person.name} signs in with the password that was told once, and changes it; a code is good once")
    return person


def refresh_tokens(world, administrator):
    """Each use makes a new one; using an old one again ends the session."""
    person = Person(world)
    person.redeem(person.sign_in(administrator.name, administrator.password))
    first = person.tokens["refresh_token"]
    person.tokens = person.token(grant_type="refresh_token", refresh_token=first)
    second = person.tokens["refresh_token"]
    require(second != first, "the refresh token is the same")
    person.call("GET", f"{IDENTITY}/me")
    person.token(grant_type="refresh_token", refresh_token=first, ok=400)
    person.token(grant_type="refresh_token", refresh_token=second, ok=400)
    person.call("GET", f"{IDENTITY}/me", ok=401)
    say("a refresh token that is used twice ends its session at once")


def device_code(world, administrator):
    person = Person(world)
    begun = person.session.post(f"{person.root}/devicecode", data={"client_id": CLIENT, "scope": SCOPE}, timeout=30).json()
    waiting = person.token(grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=begun["device_code"], ok=400)
    require(waiting["error"] == "authorization_pending", f"not pending: {waiting}")
    browser = Person(world)
    page = browser.session.get(begun["verification_uri"], timeout=30)
    action = html.unescape(re.search(r'<form method="post" action="([^"]+)"', page.text).group(1))
    url = action if action.startswith("https:") else world.up["management_url"] + action
    headers = {"Origin": world.up["management_url"]}
    page = browser.session.post(url, data={"user_code": begun["user_code"]}, headers=headers, timeout=30)
    page = browser.submit(page, username=administrator.name, password=administrator.password)
    page = browser.submit(page)
    require(page.status_code == 200, f"the other device is not approved: {page.status_code} {page.text[:300]}")
    import time  # pylint: disable=import-outside-toplevel

    time.sleep(begun["interval"])
    person.tokens = person.token(grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=begun["device_code"])
    person.call("GET", f"{IDENTITY}/me")
    say("another device signs in with its code")


def lockout(world, administrator):
    made = administrator.call("PUT", f"{IDENTITY}/users/kim@castling.localhost", {"properties": {"displayName": "Kim"}}, ok=201)
    password = made["properties"]["password"]
    for _ in range(5):
        Person(world).sign_in("kim@castling.localhost", "wrong-wrong-wrong-1")
    locked = Person(world).sign_in("kim@castling.localhost", password)
    require(locked.status_code != 302, "the right password opens a locked account")
    shown = administrator.call("GET", f"{IDENTITY}/users/kim@castling.localhost")["properties"]
    require(shown["lockedUntil"], f"the user is not locked: {shown}")
    administrator.call("POST", f"{IDENTITY}/users/kim@castling.localhost/unlock")
    kim = Person(world)
    kim.redeem(kim.sign_in("kim@castling.localhost", password, change_to=NEW_PASSWORD + "-kim"))
    kim.call("GET", f"{IDENTITY}/me")
    kim.call("GET", f"{IDENTITY}/users", ok=403)
    administrator.call("PATCH", f"{IDENTITY}/users/kim@castling.localhost", {"properties": {"enabled": False}})
    kim.call("GET", f"{IDENTITY}/me", ok=401)
    say("five wrong passwords lock a user until an administrator unlocks; who is disabled is out at once")


def certificate(world, administrator):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "builder")])
    now = datetime.datetime.now(datetime.timezone.utc)
    own = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
           .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    pem = own.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    client = "0b7a1c1e-5f0c-4b7e-9a53-1d8a4f0e6c11"
    made = administrator.call("PUT", f"{IDENTITY}/applications/{client}", {"properties": {"displayName": "Builder"}}, ok=201)
    administrator.call("POST", f"{IDENTITY}/applications/{client}/addCertificate", {"certificate": pem.decode()})
    host = urlsplit(world.up["management_url"]).netloc
    credential = CertificateCredential(world.up["tenant"], client, certificate_data=private + pem, authority=host,
                                       disable_instance_discovery=True)
    builder = Person(world)
    builder.tokens = {"access_token": credential.get_token("https://management.azure.com/.default").token}
    me = builder.call("GET", f"{IDENTITY}/me")
    require(me["properties"]["objectId"] == made["properties"]["objectId"], f"another application: {me}")
    say("azure-identity's CertificateCredential signs in")


def external(world, administrator):
    subscription = world.up["subscription"]
    with idp.Provider(sub="person-1", preferred_username="lee@acme.example", name="Lee", groups=["operators"]) as provider:
        administrator.call("PUT", f"{IDENTITY}/identityProviders/acme", {"properties": {
            "displayName": "Acme", "issuer": provider.issuer, "clientId": idp.CLIENT, "clientSecret": idp.SECRET, "groupsClaim": "groups"}}, ok=201)
        scope = f"/subscriptions/{subscription}"
        assignment = f"{scope}/providers/Microsoft.Authorization/roleAssignments/5d0b1bd6-92b6-4a4f-9bd3-6e1f1f7d2f11"
        role = f"{scope}/providers/Microsoft.Authorization/roleDefinitions/{READER}"
        administrator.call("PUT", assignment, {"properties": {"roleDefinitionId": role, "principalId": "acme:operators", "principalType": "Group"}}, ok=201)
        lee = Person(world)
        lee.redeem(through(world, lee))
        me = lee.call("GET", f"{IDENTITY}/me")["properties"]
        require(me["groups"] == ["acme:operators"], f"the groups are {me['groups']}")
        lee.call("GET", f"{scope}/resourceGroups")
        lee.call("PUT", f"{scope}/resourceGroups/not-for-readers", {"location": "westus2"}, ok=403)
        for what, spoil in {
            "nonce": lambda claims: {**claims, "nonce": "another"}, "audience": lambda claims: {**claims, "aud": "another"},
            "issuer": lambda claims: {**claims, "iss": "http://127.0.0.1:9"}, "expiry": lambda claims: {**claims, "exp": claims["iat"] - 300},
        }.items():
            provider.spoil = spoil
            refused = through(world, Person(world))
            require(refused.status_code >= 400, f"an ID token with a wrong {what} is taken: {refused.status_code}")
    say("an external provider's group is a Reader, and its bad ID tokens open nothing")


def through(world, person):
    """The way over the provider, redirect by redirect; the last answer that leads back to the program, or a refusal."""
    page = person.page()
    link = html.unescape(re.search(r'href="([^"]*/oauth2/external/acme[^"]*)"', page.text).group(1))
    url = link if link.startswith("https:") else world.up["management_url"] + link
    for _ in range(5):
        answer = person.session.get(url, allow_redirects=False, timeout=30)
        if answer.status_code not in (302, 303) or answer.headers["Location"].startswith(REDIRECT):
            return answer
        url = answer.headers["Location"]
    return answer


def sessions(world, administrator):
    person = Person(world)
    person.redeem(person.sign_in(administrator.name, administrator.password))
    own = person.call("GET", f"{IDENTITY}/me")["properties"]
    listed = administrator.call("GET", f"{IDENTITY}/sessions")["value"]
    require(own["session"] in [session["name"] for session in listed], "the session is not listed")
    administrator.call("DELETE", f"{IDENTITY}/sessions/{own['session']}")
    person.call("GET", f"{IDENTITY}/me", ok=401)
    person.token(grant_type="refresh_token", refresh_token=person.tokens["refresh_token"], ok=400)
    say("a session that is ended is over at once")


main(scenario)
