"""The HTTP server: binding, access, limits, errors as text, and a polite end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from agent import http
from agent.http import HttpServer
from agent.sections import AdminConfig, Config
from mesos_dns import api, api_stream
from mesos_dns.api import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.config import ApiConfig
from mesos_dns.zone import ZoneView
from tests.fakes.api import LOOPBACK, Asking, context_of

pytestmark = pytest.mark.asyncio


async def raw(asking: Asking, data: bytes) -> bytes:
    """What comes back for bytes until the server closes."""
    host, port = asking.server.part_addresses()["api"][0]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


# --- binding --------------------------------------------------------------------------------------


async def test_every_address_is_bound_and_told() -> None:
    listen = ("127.0.0.1:0", "[::1]:0")
    async with Asking(context_of(), ApiConfig(listen=listen), AdminConfig(listen=LOOPBACK)) as asking:
        parts = asking.server.part_addresses()
        assert [host for host, _ in parts["api"]] == ["127.0.0.1", "::1"]
        assert asking.server.addresses == [*parts["api"], *parts["admin"]]
        assert len(set(asking.server.addresses)) == 3
        async with asking.session.get(f"http://[::1]:{parts['api'][1][1]}/livez") as response:
            assert response.status == 200
    assert asking.server.addresses == []


async def test_a_taken_address_is_named_and_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"127.0.0.1:{taken.getsockname()[1]}"
        config = Config(api=ApiConfig(listen=LOOPBACK), admin=AdminConfig(listen=(text,)))
        server = HttpServer(context_of(), config)
        with pytest.raises(OSError, match=rf"\[admin\] can't listen on {text}") as caught:
            await server.start()
        assert caught.value.errno is not None
        assert server.addresses == []


# --- access ---------------------------------------------------------------------------------------


async def test_a_token_guards_all_but_liveness(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    section = ApiConfig(listen=LOOPBACK, token_file=str(tmp_path / "token"))
    async with Asking(context_of(), section, AdminConfig(listen=LOOPBACK)) as asking:
        for path in ("/livez", "/healthz", "/readyz"):
            assert (await asking.ask(path))[0] == 200
        for path in ("/v1/version", "/metrics", "/openapi.json", "/nope"):
            assert await asking.ask(path) == (401, "text/plain; charset=utf-8", "401: this needs a bearer token")
            assert (await asking.ask(path, Authorization="Bearer wrong"))[0] == 401
            assert (await asking.ask(path, Authorization="Bearer s3cret"))[0] == (404 if path == "/nope" else 200)
        async with asking.session.get(asking.url("/v1/version")) as response:
            assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await asking.ask("/status", part="admin"))[0] == 200, "each section has its own token"


async def test_a_token_file_without_token_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("")
    server = HttpServer(context_of(), Config(api=ApiConfig(listen=LOOPBACK, token_file=str(tmp_path / "token"))))
    with pytest.raises(OSError, match="can't read a token"):
        await server.start()


async def test_tls_and_client_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = str(tmp_path / "server.pem")
    section = ApiConfig(listen=LOOPBACK, cert_file=pem, key_file=pem, client_ca_file=str(tmp_path / "ca.pem"))
    anonymous, known = ssl.create_default_context(), ssl.create_default_context()
    for context in (anonymous, known):
        authority.configure_trust(context)
    authority.issue_cert("client.example.org").configure_cert(known)
    async with Asking(context_of(), section) as asking:
        url = asking.url("/v1/version", scheme="https")
        async with asking.session.get(url, ssl=known) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await asking.session.get(url, ssl=anonymous)


# --- limits ---------------------------------------------------------------------------------------


async def test_heads_have_limits() -> None:
    async with Asking(context_of()) as asking:
        many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
        for request in (
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ):
            answer = await raw(asking, request)
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer[:80]
            assert b"Server: pharos\r\n" in answer
            assert b"Traceback" not in answer


async def test_no_word_of_what_runs_here() -> None:
    async with Asking(context_of()) as asking:
        for path in ("/v1/version", "/nope", "/metrics"):
            async with asking.session.get(asking.url(path)) as response:
                assert response.headers["Server"] == "pharos"


async def test_connections_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    async with Asking(context_of()) as asking:
        host, port = asking.server.part_addresses()["api"][0]
        held = [await asyncio.open_connection(host, port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        answer = await raw(asking, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert asking.context.counters.connections_refused == 1
        for _, writer in held:
            writer.close()


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with Asking(context_of()) as asking:
        assert await raw(asking, b"") == b""
        assert await raw(asking, b"GET /livez HTTP/1.1\r\nHost:") == b""


async def test_a_connection_that_has_asked_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with Asking(context_of()) as asking:
        host, port = asking.server.part_addresses()["api"][0]
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\nok")
            await asyncio.sleep(0.1)
        writer.close()


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.05)
    async with Asking(context_of()) as asking:
        assert (await raw(asking, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"ok")


def slow_axfr(gate: asyncio.Event) -> Callable[[ZoneView, Catalog], AsyncIterator[bytes]]:
    """A whole table that waits for a gate."""

    async def parts(view: ZoneView, catalog: Catalog) -> AsyncIterator[bytes]:
        yield b"{"
        await gate.wait()
        yield b"}"

    return parts


async def test_a_request_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.05)
    monkeypatch.setattr(api_stream, "transferred", slow_axfr(asyncio.Event()))
    async with Asking(context_of()) as asking:
        with pytest.raises(aiohttp.ClientError):
            await asking.ask("/v1/axfr")
        assert (await asking.ask("/livez"))[0] == 200
        assert asking.context.counters.requests["/v1/axfr", 503] == 1
        assert asking.context.counters.in_flight == 0


# --- errors and counts ----------------------------------------------------------------------------


async def test_a_fault_of_ours_is_logged_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(api, "routes", lambda context: [web.get("/broken", broken)])
    async with Asking(context_of()) as asking:
        with caplog.at_level(logging.ERROR):
            answer = await asking.ask("/broken")
    assert answer == (500, "text/plain; charset=utf-8", "500: Internal Server Error")
    assert "inner secret" in caplog.text


async def test_requests_are_counted_by_template() -> None:
    async with Asking(context_of()) as asking:
        for path in ("/v1/hosts/a", "/v1/hosts/b/", "/v1/axfr/", "/nope", "/v1/hosts/", "/%00"):
            await asking.ask(path)
        await asking.ask("/v1/version", "POST")
        assert asking.context.counters.requests == {
            ("/v1/hosts/{host}", 200): 2,
            ("/v1/axfr", 200): 1,
            ("other", 404): 3,
            ("other", 405): 1,
        }
        assert asking.context.counters.in_flight == 0


async def test_a_refused_method_names_the_allowed_ones() -> None:
    async with Asking(context_of()) as asking, asking.session.post(asking.url("/v1/version")) as response:
        assert response.headers["Allow"] == "GET"


# --- the end --------------------------------------------------------------------------------------


async def test_open_requests_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    monkeypatch.setattr(api_stream, "transferred", slow_axfr(gate))
    async with Asking(context_of()) as asking:
        asking_for = asyncio.create_task(asking.json("/v1/axfr"))
        await until(lambda: asking.context.counters.in_flight == 1)
        closing = asyncio.create_task(asking.server.close(30))
        await asyncio.sleep(0)
        gate.set()
        assert await asking_for == {}
        await closing


async def test_what_takes_too_long_is_cut(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(api_stream, "transferred", slow_axfr(asyncio.Event()))
    async with Asking(context_of()) as asking:
        asking_for = asyncio.create_task(asking.json("/v1/axfr"))
        await until(lambda: asking.context.counters.in_flight == 1)
        with caplog.at_level(logging.WARNING):
            await asking.server.close(0.05)
        with pytest.raises(aiohttp.ClientError):
            await asking_for
    assert "open HTTP requests are cut requests=1" in caplog.text


async def test_nothing_is_accepted_after_the_end() -> None:
    async with Asking(context_of()) as asking:
        url = asking.url("/livez")
        await asking.server.close(1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking.session.get(url)


async def test_draining_is_told_while_requests_are_answered() -> None:
    context: ApiContext = context_of()
    async with Asking(context) as asking:
        asking.server.drain()
        assert (await asking.ask("/readyz"))[0] == 503
        assert (await asking.ask("/v1/version"))[0] == 200


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something holds; the test's time limit ends it."""
    while not condition():
        await asyncio.sleep(0.001)
