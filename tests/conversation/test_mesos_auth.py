"""Authentication and TLS towards masters: basic, DC/OS IAM, private authorities, client certificates."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.fakes.following import Following
from tests.fakes.mesos_master import FakeMaster, agent, state_of, subscribed, task

pytestmark = pytest.mark.asyncio

SNAPSHOT = subscribed(state_of([task(1)], [agent(1)]))
RUNNING = {("F1", "t1")}


def check(expected: str) -> Any:
    """A master's check of the Authorization header."""

    async def before(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == expected:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="mesos-master-readwrite"'})

    return before


async def test_basic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "secret"
    secret.write_text("wr0ng\n")
    good = "Basic " + base64.b64encode(b"pharos:s3cret:x").decode()
    async with (
        FakeMaster() as master,
        Following(master.place, auth="basic", principal="pharos", secret_file=str(secret)) as follow,
    ):
        master.before = check(good)
        await follow.until(lambda: follow.source.counters.errors["auth"] > 0)
        assert "401" in follow.catalog.sources["mesos"].detail
        # The file is read again for each connection.
        secret.write_text("s3cret:x\nsecond line\n")
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == RUNNING)
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


async def test_a_missing_secret_file_says_so(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    async with FakeMaster() as master, Following(master.place, auth="basic", secret_file=missing) as follow:
        await follow.until(lambda: follow.source.counters.errors["auth"] > 0)
        assert missing in follow.catalog.sources["mesos"].detail
        assert master.calls == []


class Iam:
    """A login server: checks the signed assertion and gives out tokens that last as long as a test says."""

    def __init__(self, key: rsa.RSAPublicKey) -> None:
        self._key = key
        self.tokens: list[str] = []
        self.lifetime = 3600.0

    async def login(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        head, claims, signature = body["token"].split(".")
        self._key.verify(decode(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        assert json.loads(decode(head)) == {"alg": "RS256", "typ": "JWT"}
        told = json.loads(decode(claims))
        assert told["uid"] == body["uid"] == "pharos"
        assert 0 < told["exp"] - time.time() < 3600
        payload = json.dumps({"exp": time.time() + self.lifetime, "n": len(self.tokens)}).encode()
        self.tokens.append(f"x.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.y")
        answer = web.StreamResponse()
        await answer.prepare(request)
        for byte in json.dumps({"token": self.tokens[-1]}).encode():
            await answer.write(bytes([byte]))
            await asyncio.sleep(0)
        return answer


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def account(folder: Path, key: rsa.RSAPrivateKey, endpoint: str) -> str:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "account.json"
    path.write_text(json.dumps({"uid": "pharos", "private_key": pem, "login_endpoint": endpoint, "scheme": "RS256"}))
    return str(path)


async def test_iam_logs_in_and_again_when_refused(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    iam = Iam(key.public_key())
    async with FakeMaster() as login, FakeMaster() as master:
        login.gets["/acs/api/v1/auth/login"] = iam.login
        file = await asyncio.to_thread(account, tmp_path, key, f"http://{login.place}/acs/api/v1/auth/login")
        refused: list[str] = []

        async def before(request: web.Request) -> web.StreamResponse | None:
            token = request.headers.get("Authorization", "").removeprefix("token=")
            if iam.tokens and token == iam.tokens[-1] and token not in refused:
                return None
            return web.Response(status=401)

        master.before = before
        async with Following(master.place, auth="iam", iam_config_file=file) as follow:
            master.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == RUNNING)
            assert len(iam.tokens) == 1
            # The token is no longer good: one new login, at once.
            refused.append(iam.tokens[0])
            master.cut()
            master.send(SNAPSHOT)
            await follow.until(lambda: follow.source.counters.syncs == 2)
            assert len(iam.tokens) == 2
            assert follow.source.counters.errors["auth"] == 0


async def test_iam_logs_in_again_before_a_token_expires(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    iam = Iam(key.public_key())
    iam.lifetime = 30.0
    async with FakeMaster() as login, FakeMaster() as master:
        login.gets["/login"] = iam.login
        file = await asyncio.to_thread(account, tmp_path, key, f"http://{login.place}/login")
        async with Following(master.place, auth="iam", iam_config_file=file) as follow:
            master.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == RUNNING)
            await follow.until(lambda: len(iam.tokens) >= 2)


async def test_iam_refused(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    async with FakeMaster() as login, FakeMaster() as master:
        file = await asyncio.to_thread(account, tmp_path, key, f"http://{login.place}/login")
        async with Following(master.place, auth="iam", iam_config_file=file) as follow:
            await follow.until(lambda: follow.source.counters.errors["auth"] > 0)
            assert "status 404" in follow.catalog.sources["mesos"].detail
            assert master.calls == []


def server_context(authority: trustme.CA, *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if clients:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def url(master: FakeMaster) -> str:
    return f"https://{master.place}"


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with FakeMaster(server_context(authority)) as master:
        async with Following(url(master)) as follow:
            await follow.until(lambda: follow.source.counters.errors["connect"] > 0)
            assert "certificate" in follow.catalog.sources["mesos"].detail
        assert master.calls == []
        ways: tuple[dict[str, Any], ...] = ({"ca_file": str(file)}, {"tls_verify": False})
        for settings in ways:
            async with Following(url(master), **settings) as follow:
                master.send(SNAPSHOT)
                await follow.until(lambda: follow.running() == RUNNING)
                master.cut()


async def test_a_client_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("pharos.example").private_key_and_cert_chain_pem.write_to_path(str(own))
    tls: dict[str, Any] = {"ca_file": str(ca), "cert_file": str(own)}
    async with FakeMaster(server_context(authority, clients=True)) as master, Following(url(master), **tls) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == RUNNING)


async def test_missing_tls_files_are_named_and_tried_again(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    async with FakeMaster(server_context(authority)) as master, Following(url(master), ca_file=str(ca)) as follow:
        await follow.until(lambda: follow.source.counters.errors["connect"] > 0)
        assert str(ca) in follow.catalog.sources["mesos"].detail
        await asyncio.to_thread(authority.cert_pem.write_to_path, str(ca))
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == RUNNING)


async def test_a_redirect_out_of_tls_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    async with FakeMaster(server_context(authority)) as master, FakeMaster() as plain:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"http://{plain.place}/api/v1"})

        master.before = redirect
        async with Following(f"https://{master.place}", tls_verify=False) as follow:
            await follow.until(lambda: follow.source.counters.errors["redirect"] > 0)
            assert plain.calls == []
