"""Requests and answers that go well: connections that are kept, heads that are written anew, bodies of every form."""

from __future__ import annotations

import asyncio

from lb7.table import HostRules, RouteRule
from tests.fakes.edged import HOST, NAME, edged, request, told, until
from tests.fakes.scripted_backend import OK, Connection, Heard, backend, sends


@told
async def test_a_request_goes_to_a_server_and_its_answer_comes_back() -> None:
    async with backend() as server, edged(server) as edge:
        answer = await edge.ask("/a?b=c", "X-Own: 1")
        assert (answer.status, answer.body) == (200, b"ok")
        heard = server.heard[0]
        assert heard.line == b"GET /a?b=c HTTP/1.1"
        assert heard.fields("host") == [HOST.encode()]
        assert heard.fields("x-own") == [b"1"]
        assert heard.fields("x-forwarded-for") == [b"127.0.0.1"]
        assert heard.fields("x-forwarded-proto") == [b"http"]
        assert heard.fields("x-forwarded-port") == [b"80"]
        assert len(heard.fields("x-request-id")[0]) == 32
        assert edge.counted("status")[2] == 1
        assert edge.counted("received") > 0
        assert edge.counted("sent") == len(OK)


@told
async def test_connections_are_kept_on_both_sides() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        for number in range(20):
            assert (await client.ask(f"/{number}")).body == b"ok"
        assert server.accepted == 1
        assert len({tuple(heard.fields("x-request-id")) for heard in server.heard}) == 20


@told
async def test_requests_that_come_at_once_are_answered_in_order() -> None:
    async def echo(connection: Connection, heard: Heard) -> None:
        path = heard.line.split(b" ")[1]
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with backend({"": echo}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(b"".join(request(f"/{number}") for number in range(200)))
        assert [(await client.answer()).body for _ in range(200)] == [b"/%d" % number for number in range(200)]
        assert server.accepted == 1


@told
async def test_a_long_queue_of_requests_is_not_read_before_it_is_time() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        count = 3000
        sending = asyncio.create_task(client.send(request("/", "X-Long: " + "x" * 1000) * count))
        for _ in range(count):
            assert (await client.answer()).status == 200
        await sending
        assert len(server.heard) == count


@told
async def test_a_head_in_single_octets() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        for octet in request("/slow", method="POST", body=b"hello"):
            client.writer.write(bytes([octet]))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200
        assert server.heard[0].body == b"hello"


@told
async def test_fields_of_one_connection_are_not_passed_on() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Connection: x\r\nX-Kept: 2\r\nContent-Length: 2\r\n\r\nok"
    )
    async with backend({"": sends(answer)}) as server, edged(server) as edge:
        got = await edge.ask(
            "/",
            *("Connection: x-a, keep-alive", "X-A: secret", "TE: trailers", "Keep-Alive: 5", "Proxy-Connection: x"),
            *("Upgrade: foo", "X-B: kept"),
        )
        assert got.head == b"HTTP/1.1 200 OK\r\nX-Kept: 2\r\nContent-Length: 2\r\n\r\n"
        heard = server.heard[0]
        for name in ("x-a", "te", "keep-alive", "proxy-connection", "upgrade", "connection"):
            assert heard.fields(name) == []
        assert heard.fields("x-b") == [b"kept"]


@told
async def test_what_is_written_oddly_is_written_anew() -> None:
    answer = b"HTTP/1.0 200\r\nX-Odd:  \ta \r\nContent-Length:2\r\nConnection: keep-alive\r\n\r\nok"
    async with backend({"": sends(answer)}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(b"\r\nGET http://%b/x HTTP/1.1\r\nhost:%b\r\nX-Odd:\tb  \r\n\r\n" % ((HOST.encode(),) * 2))
        got = await client.answer()
        assert got.head == b"HTTP/1.1 200 \r\nX-Odd: a\r\nContent-Length: 2\r\n\r\n"
        assert server.heard[0].line == b"GET /x HTTP/1.1"
        assert b"\r\nX-Odd: b\r\n" in server.heard[0].head
        assert (await client.ask("/again")).status == 200
        assert server.accepted == 1


@told
async def test_an_absolute_target_without_a_path() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        await client.send(b"GET http://%b HTTP/1.1\r\nHost: %b\r\n\r\n" % ((HOST.encode(),) * 2))
        assert (await client.answer()).status == 200
        assert server.heard[0].line == b"GET / HTTP/1.1"


@told
async def test_a_body_and_the_next_request_behind_it() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        body = b"a" * 100_000 + b"b" * 200_000
        whole = request("/p", method="POST", body=body) + request("/next")
        await client.send(whole[:100_100], whole[100_100:])
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        assert server.heard[0].body == body
        assert server.paths() == ["/p", "/next"]


@told
async def test_a_chunked_body_passes_as_it_is() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        head = request("/p", "Transfer-Encoding: chunked", "Trailer: X-T", method="POST")
        await client.send(head + b"3;x=y\r\nab", b"c\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n", b"\r\n" + request("/next"))
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        assert server.heard[0].body == b"abchello"
        assert server.heard[0].fields("transfer-encoding") == [b"chunked"]
        assert server.accepted == 1


@told
async def test_a_chunked_answer_passes_as_it_is() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        backend({"": sends(head + b"3\r\nabc\r\n", b"4;x=y\r\nde", b"fg\r\n0\r\nTr: 1\r\n\r\n")}) as server,
        edged(server) as edge,
    ):
        client = await edge.client()
        await client.send(request("/chunks"))
        expected = head + b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTr: 1\r\n\r\n"
        assert await client.reader.readexactly(len(expected)) == expected
        assert (await client.ask("/again")).body == b"abcdefg"
        assert server.accepted == 1


@told
async def test_an_answer_that_comes_in_pieces() -> None:
    pieces = (b"HTTP/1.1 200 OK\r\nCont", b"ent-Length: 6\r\n\r\nab", b"cdef")
    async with backend({"": sends(*pieces)}) as server, edged(server) as edge:
        assert (await edge.ask()).body == b"abcdef"


@told
async def test_an_answer_that_ends_with_the_connection_is_given_chunks() -> None:
    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello", b"-end")
        connection.close()

    async with backend({"/end": script}) as server, edged(server) as edge:
        client = await edge.client()
        answer = await client.ask("/end")
        assert answer.body == b"hello-end"
        assert answer.fields("transfer-encoding") == [b"chunked"]
        assert (await client.ask("/again")).body == b"ok"


@told
async def test_http_1_0_gets_what_it_can_read() -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nT: 1\r\n\r\n"

    async def to_end(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        connection.close()

    async with backend({"/chunks": sends(chunks), "/end": to_end}) as server, edged(server) as edge:
        old = "GET {} HTTP/1.0\r\nHost: " + HOST + "\r\n{}\r\n"
        assert (await edge.raw(old.format("/chunks", "").encode())).endswith(b"\r\nConnection: close\r\n\r\nabcdefg")
        assert (await edge.raw(old.format("/end", "").encode())).endswith(b"\r\n\r\nuntil the end")
        answer = await edge.raw(old.format("/x", "").encode())
        assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        client = await edge.client()
        for _ in range(3):
            await client.send(old.format("/kept", "Connection: keep-alive\r\nExpect: 100-continue\r\n").encode())
            assert (await client.answer()).fields("connection") == [b"keep-alive"]
        assert {heard.line.rpartition(b" ")[2] for heard in server.heard} == {b"HTTP/1.1"}
        assert server.heard[-1].fields("expect") == []


@told
async def test_http_1_0_without_host_gets_an_empty_one() -> None:
    async with backend() as server, edged(server, by="none") as edge:
        edge.rules("", HostRules(routes=(RouteRule(cluster=NAME),)))
        assert b" 200 " in await edge.raw(b"GET / HTTP/1.0\r\n\r\n")
        assert server.heard[0].fields("host") == [b""]


@told
async def test_answers_without_a_body() -> None:
    scripts = {
        "/head": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n"),
        "/304": sends(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\nETag: "x"\r\n\r\n'),
        "/204": sends(b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\nX: y\r\n\r\n"),
    }
    async with backend(scripts) as server, edged(server) as edge:
        client = await edge.client()
        assert (await client.ask("/head", method="HEAD")).fields("content-length") == [b"55"]
        assert (await client.ask("/304")).fields("content-length") == [b"55"]
        answer = await client.ask("/204")
        assert (answer.fields("content-length"), answer.fields("x")) == ([], [b"y"])
        assert (await client.ask("/x")).body == b"ok"
        assert server.accepted == 1


@told
async def test_a_client_that_waits_for_100() -> None:
    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await connection.reader.readexactly(3) == b"abc"
        await connection.send(OK)

    async with backend(early={"/100": script}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/100", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert (await client.answer()).head == b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n"
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"ok"
        assert (await client.ask("/next")).body == b"ok"
        assert server.heard[0].fields("expect") == [b"100-continue"]


@told
async def test_other_expectations_are_refused() -> None:
    async with backend() as server, edged(server) as edge:
        assert (await edge.ask("/", "Expect: a-pony")).status == 417
        assert server.heard == []


@told
async def test_an_answer_before_the_body_has_come() -> None:
    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(60)

    async with backend(early={"/p": script}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/p", "Content-Length: 1000000", method="POST") + b"x" * 1000)
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"no")
        # The rest is thrown away, and the answer is not lost for that.
        await client.send(b"x" * 1000)
        assert await client.rest() == b""
        await until(lambda: edge.edge.connections == 0)


@told
async def test_a_client_that_ends_what_it_sends_with_its_last_request_still_gets_the_answer() -> None:
    async def script(connection: Connection, heard: Heard) -> None:
        await asyncio.sleep(0.05)
        await connection.send(OK)

    async with backend({"": script}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/", "Connection: close"))
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"ok")


@told
async def test_connection_close_of_either_side() -> None:
    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        connection.close()

    async with backend({"/close": script}) as server, edged(server) as edge:
        client = await edge.client()
        assert (await client.ask("/close")).fields("connection") == []
        assert (await client.ask("/again")).body == b"ok"
        assert server.accepted == 2
        answer = await client.ask("/last", "Connection: close")
        assert answer.fields("connection") == [b"close"]
        assert await client.rest() == b""


@told
async def test_a_slow_reader_slows_the_server_down() -> None:
    size, sent = 128 << 20, [0]

    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size:
            await connection.send(b"z" * 65536)
            sent[0] += 65536

    async with backend({"/big": script}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/big"))
        before = -1
        while sent[0] != before:  # until nothing goes any more
            before = sent[0]
            await asyncio.sleep(0.3)
        assert before < size // 2
        await client.reader.readuntil(b"\r\n\r\n")
        received = 0
        while received < size:
            received += len(await client.reader.read(1 << 20))
        assert received == size
        assert (await client.ask("/x")).status == 200


@told
async def test_a_slow_server_slows_the_client_down() -> None:
    release = asyncio.Event()

    async def script(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.reader.readexactly(128 << 20)
        await connection.send(OK)

    async with backend(early={"/up": script}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/up", f"Content-Length: {128 << 20}", method="PUT"))
        sent = [0]

        async def feed() -> None:
            while sent[0] < 128 << 20:
                await client.send(b"y" * 65536)
                sent[0] += 65536

        feeding = asyncio.create_task(feed())
        before = -1
        while sent[0] != before:
            before = sent[0]
            await asyncio.sleep(0.3)
        assert before < 64 << 20
        release.set()
        assert (await client.answer()).body == b"ok"
        await feeding
