"""Only a plain 200 is an answer; whatever else a server does is an error that says what, and shows no secret."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from lb7.autoscale.fetch import MOST_OF_AN_ERROR, Fetcher, ReadError
from mesos_dns.hosts import Hosts
from tests.fakes.answering import HOSTILE, Answering, answer
from tests.fakes.replay import no_names


async def fetch(url: str, within: float = 5.0, limit: int = 1 << 20) -> bytes:
    async with Fetcher(Hosts(resolve=no_names), within=within, limit=limit, at_once=2) as fetcher:
        async with fetcher.answered(url, name="the thing") as found:
            return await found.read()


@pytest.mark.asyncio
async def test_a_plain_answer_to_a_url_sent_as_it_is() -> None:
    async with Answering() as server:
        server.answers["/a/~b"] = b"12"
        assert await fetch(f"{server.url}/a/%7Eb?q=%2f%20+") == b"12"
        assert server.asked[0].target == "/a/%7Eb?q=%2f%20+"
        assert server.asked[0].headers["Accept-Encoding"] == "identity"
        assert "Authorization" not in server.asked[0].headers


@pytest.mark.asyncio
async def test_a_form_is_posted() -> None:
    async with Answering() as server, Fetcher(Hosts(), within=5.0, limit=10, at_once=2) as fetcher:
        server.answers["/q"] = b"1"
        async with fetcher.answered(f"{server.url}/q", name="q", form={"query": "a b"}) as found:
            assert await found.read() == b"1"
        assert (server.asked[0].method, server.asked[0].body) == ("POST", b"query=a+b")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "kind", "conclusive", "text"),
    [
        ("redirect", "redirect", True, "status 302"),
        ("gzip", "answer", True, "compressed ('gzip')"),
        ("huge", "answer", True, "larger than 1048576 bytes"),
        ("created", "status", False, "status 201"),
        ("login", "auth", False, "credentials are refused"),
        ("broken", "status", False, "'\\x00oops'"),
    ],
)
async def test_what_is_not_one(name: str, kind: str, conclusive: bool, text: str) -> None:
    async with Answering() as server:
        server.answers["/x"] = HOSTILE[name]
        with pytest.raises(ReadError) as raised:
            await fetch(f"{server.url}/x?token=s3cret")
        assert (raised.value.kind, raised.value.conclusive) == (kind, conclusive)
        assert text in str(raised.value)
        assert "s3cret" not in str(raised.value) + raised.value.place
        assert len(server.asked) == 1


@pytest.mark.asyncio
async def test_a_404_is_conclusive_and_a_503_is_not() -> None:
    async with Answering() as server:
        server.answers["/busy"] = answer(503)
        server.answers["/often"] = answer(429)
        server.answers["/not for us"] = answer(403)
        for path, conclusive in (("/none", True), ("/busy", False), ("/often", False), ("/not%20for%20us", False)):
            with pytest.raises(ReadError) as raised:
                await fetch(server.url + path)
            assert raised.value.conclusive is conclusive


@pytest.mark.asyncio
async def test_nobody_there_and_nobody_who_answers() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ReadError) as raised:
            await fetch(f"http://127.0.0.1:{bound.getsockname()[1]}/")
        assert raised.value.kind == "connect"
    async with Answering() as server:
        server.answers["/"] = None
        with pytest.raises(ReadError, match=r"the thing: no answer within 0.05 s") as raised:
            await fetch(f"{server.url}/", within=0.05)
        assert raised.value.kind == "timeout"


@pytest.mark.asyncio
async def test_an_answer_that_trickles_has_the_same_time() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async with Answering() as server:
        server.answers["/"] = trickle
        with pytest.raises(ReadError) as raised:
            await fetch(f"{server.url}/", within=0.2)
        assert raised.value.kind == "timeout"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1", b"HTTP/1.1 200\r\nX\r\n\r\n"]
)
async def test_what_is_no_http_does_not_have_the_url_in_its_error(text: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ReadError) as raised:
            await fetch(f"http://127.0.0.1:{port}/x?token=s3cret")
    assert raised.value.kind == "connect"
    assert "s3cret" not in str(raised.value)


@pytest.mark.asyncio
async def test_a_name_that_cannot_be_resolved() -> None:
    with pytest.raises(ReadError) as raised:
        await fetch("http://no.such.example:1/")
    assert (raised.value.kind, raised.value.conclusive) == ("connect", False)
    assert raised.value.place == "http://no.such.example:1"


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["http://h.example:99999/", "nowhere", "http://[::1/"])
async def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ReadError, match="a URL that can't be asked"):
        await fetch(url)


def test_an_error_is_one_line_of_printable_characters() -> None:
    assert str(ReadError("answer", "a\nb\x1b[1m" + "x" * 5000, "here")) == "a?b?[1m" + "x" * (MOST_OF_AN_ERROR - 7)


@pytest.mark.asyncio
async def test_connections_are_used_again() -> None:
    ports = []

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.Response(body=b"1")

    async with Answering() as server, Fetcher(Hosts(), within=5.0, limit=10, at_once=2) as fetcher:
        server.answers["/q"] = handle
        for _ in range(3):
            async with fetcher.answered(f"{server.url}/q", name="q") as found:
                await found.read()
    assert len(set(ports)) == 1


@pytest.mark.asyncio
async def test_outside_of_its_context_it_asks_nobody() -> None:
    with pytest.raises(RuntimeError, match="outside of its context"):
        async with Fetcher(Hosts(), within=5.0, limit=10, at_once=2).answered("http://127.0.0.1:1/", name="x"):
            pass
