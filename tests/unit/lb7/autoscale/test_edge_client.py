"""What is asked of an edge, and what is not taken for its answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest
import trustme
from aiohttp import web

from lb7.autoscale import edge_client
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.edge_client import EdgeClient, EdgeError
from mesos_dns.hosts import Hosts
from tests.fakes.telling_edge import TellingEdge

pytestmark = pytest.mark.asyncio

KIND = "application/json"


@contextlib.asynccontextmanager
async def client_of(url: str, config: AutoscaleConfig | None = None) -> AsyncIterator[EdgeClient]:
    hosts = Hosts()
    client = EdgeClient(url, config or AutoscaleConfig(), hosts)
    try:
        yield client
    finally:
        await client.close()
        await hosts.close()


async def body_of(client: EdgeClient) -> bytes:
    async with client.get("/v1/routes", KIND, {"app": "/a b"}) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_it_asks_with_the_token_and_reads_it_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    async with TellingEdge() as edge, client_of(edge.url, AutoscaleConfig(token_file=str(token))) as client:
        assert await body_of(client) == b"[]"
        token.write_text("two\n")
        await body_of(client)
        token.unlink()
        await body_of(client)
        assert edge.tokens == ["Bearer one", "Bearer two", "Bearer two"]
        assert edge.asked[0] == "/v1/routes?app=/a+b"


async def test_without_a_usable_token_nothing_is_sent(tmp_path: Path) -> None:
    async with TellingEdge() as edge, client_of(edge.url, AutoscaleConfig(token_file=str(tmp_path / "no"))) as client:
        with pytest.raises(EdgeError, match=r"\[autoscale\] token_file"):
            await body_of(client)
        assert edge.asked == []


@pytest.mark.parametrize(
    ("url", "named", "verify", "shown"),
    [
        ("http://edge.example:8123", True, True, True),
        ("http://edge.example:8123", False, True, False),
        ("https://edge.example:8123", False, True, True),
        ("https://edge.example:8123", False, False, False),
        ("https://edge.example:8123", True, False, True),
        ("http://127.0.0.1:8123", False, True, True),
        ("http://[::1]:8123", False, True, True),
        ("http://127.0.0.1.example:8123", False, True, False),
    ],
)
async def test_who_is_shown_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, named: bool, verify: bool, shown: bool
) -> None:
    """Who may write the coordinator's `edges/` names any URL: without a proof that it is an edge it gets no token."""
    told: list[str] = []

    class Noted:
        async def get(self, *_: object, headers: Mapping[str, str], **__: object) -> NoReturn:
            told.append(headers.get("Authorization", ""))
            raise OSError("not asked for real")

        async def close(self) -> None:
            pass

    token = tmp_path / "token"
    token.write_text("one\n")
    monkeypatch.setattr(edge_client, "new_session", lambda *_: Noted())
    hosts = Hosts()
    client = EdgeClient(url, AutoscaleConfig(token_file=str(token), tls_verify=verify), hosts, named=named)
    with pytest.raises(EdgeError):
        await body_of(client)
    await client.close()
    await hosts.close()
    assert told == ["Bearer one" if shown else ""]


async def test_an_edge_that_wants_the_token_it_is_not_shown_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_client, "_is_here", lambda host: False)
    token = tmp_path / "token"
    token.write_text("one\n")

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    hosts = Hosts()
    async with TellingEdge() as edge:
        edge.misbehave = refuse
        client = EdgeClient(edge.url, AutoscaleConfig(token_file=str(token)), hosts, named=False)
        with pytest.raises(EdgeError, match=r"by HTTPS alone.*\[autoscale\] edges"):
            await body_of(client)
        await client.close()
        assert edge.tokens == [""]
    await hosts.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (web.Response(status=401), "token_file"),
        (web.Response(status=403), "token_file"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "redirects"),
        (web.Response(status=404), "status 404"),
        (web.Response(status=204), "status 204"),
        (web.Response(text="<html>", content_type="text/html"), "no application/json"),
        (web.Response(body=b"x", content_type=KIND, headers={"Content-Encoding": "gzip"}), "no application/json"),
    ],
)
async def test_what_is_no_answer(answer: web.Response, expected: str) -> None:
    async def misbehave(request: web.Request) -> web.StreamResponse:
        return answer

    async with TellingEdge() as edge, client_of(edge.url) as client:
        edge.misbehave = misbehave
        with pytest.raises(EdgeError, match=expected):
            await body_of(client)
        assert len(edge.asked) == 1


async def test_an_answer_that_is_cut() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": KIND})
        await response.prepare(request)
        await response.write(b"[")
        assert request.transport is not None
        request.transport.close()
        return response

    async with TellingEdge() as edge, client_of(edge.url) as client:
        edge.misbehave = cut
        with pytest.raises(EdgeError, match="closed the connection in the middle") as error:
            await body_of(client)
        assert error.value.kind == "closed"


async def test_nobody_there() -> None:
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(EdgeError):
            await body_of(client)


async def test_who_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_client, "CONNECT", 0.05)

    async def misbehave(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with TellingEdge() as edge, client_of(edge.url) as client:
        edge.misbehave = misbehave
        with pytest.raises(EdgeError, match="in time"):
            await body_of(client)


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ca, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("decider").private_key_and_cert_chain_pem.write_to_path(str(own))

    async def answer(request: web.Request) -> web.Response:
        return web.json_response([])

    app = web.Application()
    app.router.add_get("/v1/routes", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        good = AutoscaleConfig(ca_file=str(ca), cert_file=str(own), key_file=str(own))
        async with client_of(url, good) as client:
            assert await body_of(client) == b"[]"
        async with client_of(url) as client:
            with pytest.raises(EdgeError, match=r"(?i)certificate"):
                await body_of(client)
        async with client_of(url, AutoscaleConfig(ca_file="/nowhere/ca.pem")) as client:
            with pytest.raises(EdgeError, match=r"\[autoscale\] ca_file /nowhere/ca.pem"):
                await body_of(client)
    finally:
        await runner.cleanup()
