"""Messages that are not in the grammar, too long or too many: what is refused, and that nothing of it gets through."""

from __future__ import annotations

import pytest

from tests.fakes.edged import Edged, edged, request, told, until
from tests.fakes.scripted_backend import Connection, Heard, backend, sends

H = b"Host: app.example\r\n"
POST = b"POST / HTTP/1.1\r\n" + H

BAD_HEADS: dict[str, tuple[bytes, int]] = {
    "length and coding": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "a signed length": (POST + b"Content-Length: +3\r\n\r\nabc", 400),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a tab before chunked": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\n" + H + b"Content-Length : 3\r\n\r\nabc", 400),
    "a folded line": (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: app.example\n\n", 400),
    "NUL": (b"GET / HTTP/1.1\r\n" + H + b"X: a\0b\r\n\r\n", 400),
    "bare CR": (b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + H + H + b"\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "another version": (b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a long head": (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 40000 + b"\r\n\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n" * 200 + b"\r\n", 431),
    "a long target": (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    "another authority": (b"GET http://other.example/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    "CONNECT": (b"CONNECT app.example:80 HTTP/1.1\r\nHost: app.example:80\r\nConnection: close\r\n\r\n", 405),
}

BAD_CHUNKS = {
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "space": b"3 \r\nabc\r\n0\r\n\r\n",
    "no end": b"3\r\nabcX\r\n0\r\n\r\n",
    "LF": b"3\nabc\r\n0\r\n\r\n",
    "long": b"FFFFFFFFFFFFFFFFF\r\nabc",
    "LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
}


async def refused(edge: Edged, octets: bytes, status: int) -> bytes:
    """The only answer to these is this status, and the connection ends with it."""
    answer = await edge.raw(octets + request("/smuggled"))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    return answer


@pytest.mark.parametrize("case", BAD_HEADS)
def test_heads_that_are_refused(case: str) -> None:
    @told
    async def story() -> None:
        octets, status = BAD_HEADS[case]
        async with backend() as server, edged(server) as edge:
            answer = await refused(edge, octets, status)
            assert b"\r\nConnection: close\r\n" in answer
            assert server.heard == []
            assert edge.counted("requests") == 0

    story()


@pytest.mark.parametrize("case", BAD_CHUNKS)
def test_bodies_that_are_refused(case: str) -> None:
    @told
    async def story() -> None:
        async with backend() as server, edged(server) as edge:
            await refused(edge, POST + b"Transfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[case], 400)
            assert server.heard == []
            assert edge.front.counts()["bad_chunks"] == 1
            assert edge.counted("status")[4] == 1

    story()


@told
async def test_long_bodies_are_refused() -> None:
    async with backend() as server, edged(server, max_body=1000) as edge:
        assert (await edge.ask("/", method="POST", body=b"x" * 1000)).status == 200
        assert (await edge.ask("/", method="POST", body=b"x" * 1001)).status == 413
        chunks = POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n"
        answer = await edge.raw(chunks, b"200\r\n" + b"x" * 512 + b"\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert len(server.heard) == 1
        assert edge.front.counts()["long_body"] == 2


@told
async def test_no_route() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request(host="nobody.example"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (503, b"503 Service Unavailable\n")
        assert (await client.ask("/", method="GET")).status == 200  # the connection goes on
        await client.send(request(host="nobody.example", method="HEAD"))
        assert (await client.answer(head_only=True)).fields("content-length") == [b"24"]
        assert (await client.ask("/")).status == 200
        assert edge.front.counts()["no_route"] == 2
        assert [(record["status"], record["host"], record["why"]) for record in edge.log] == [
            (503, "nobody.example", "no_route")
        ] * 2


@told
async def test_answers_that_are_no_http() -> None:
    scripts = {
        "/both": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"),
        "/junk": sends(b"SSH-2.0-OpenSSH_9.2 at your service\r\n\r\n"),
        "/switch": sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        "/long": sends(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000 + b"\r\n\r\n"),
        "/hints": sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
        "/chunks": sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
    }
    async with backend(scripts) as server, edged(server, eject_after=0) as edge:
        for path in scripts:
            client = await edge.client()
            await client.send(request(path))
            answer = await client.answer()
            while answer.status == 103:
                answer = await client.answer()
            assert answer.status == 502, path
            assert edge.log[-1]["status"] == 502
        assert edge.counted("resets") == len(scripts)


@told
async def test_bodies_where_none_may_be_are_not_for_the_next_client() -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    scripts = {
        f"/{status}": sends(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(forged)) + forged)
        for status in (200, 204, 304)
    }
    async with backend(scripts) as server, edged(server) as edge:
        client = await edge.client()
        for path in scripts:
            assert (await client.ask(path, method="HEAD")).status == int(path[1:])
            assert (await client.ask("/x")).body == b"ok"
            if path != "/200":
                assert (await client.ask(path)).body == b""
                assert (await client.ask("/x")).body == b"ok"


@told
async def test_a_second_answer_is_not_for_the_next_client() -> None:
    two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2
    async with backend({"/two": sends(two)}) as server, edged(server) as edge:
        client = await edge.client()
        assert (await client.ask("/two")).body == b"ok"
        assert (await client.ask("/x")).body == b"ok"
        assert server.accepted == 2

        async def later(connection: Connection, heard: Heard) -> None:
            await connection.send(two[: len(two) // 2], two[len(two) // 2 :])

        server.scripts["/later"] = later
        assert (await client.ask("/later")).body == b"ok"
        await until(lambda: len(server.open) == 0)
        assert (await client.ask("/x")).body == b"ok"
