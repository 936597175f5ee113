"""Which fields are passed on and how they are written, and what Connection and Upgrade say."""

from __future__ import annotations

import pytest

from lb7._http1 import MOST_OPTIONS, Head, Refused, copy_fields, request, response


def read(fields: bytes, version: bytes = b"HTTP/1.1") -> Head:
    head = request(b"GET / " + version + b"\r\nHost: a\r\n" + fields + b"\r\n")
    assert head is not None
    return head


def answer(fields: bytes, status: int = 200) -> Head:
    head = response(b"HTTP/1.1 %d OK\r\n%s\r\n" % (status, fields))
    assert head is not None
    return head


def dropped(head: Head) -> set[bytes]:
    return {name for name, _ in head.dropped}


# --- writing --------------------------------------------------------------------------------------


def test_fields_are_written_in_one_way() -> None:
    head = read(b"A:b\r\nC:  d\r\nE: f \r\nG:\th\r\nI: j\r\nK:\r\nL: \r\n")
    assert copy_fields(head) == b"Host: a\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\nI: j\r\nK: \r\nL: \r\n"


def test_dropped_fields_are_left_out() -> None:
    fields = b"Keep-Alive: 5\r\nA: b\r\nTE: trailers\r\nConnection: X\r\nX: y\r\nC: d\r\nX:z\r\n"
    assert copy_fields(read(fields)) == b"Host: a\r\nA: b\r\nC: d\r\n"
    assert copy_fields(answer(b"Connection: close\r\n")) == b""


# --- fields of one connection ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Upgrade", b"HTTP2-Settings"),
        *(b"Proxy-Authenticate", b"Proxy-Authorization", b"Proxy-Authentication-Info"),
    ],
)
def test_fields_of_one_connection(name: bytes) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert dropped(read(spelled + b": a\r\nX: y\r\n")) == {spelled}
        assert dropped(answer(spelled + b": a\r\nX: y\r\n")) == {spelled}


@pytest.mark.parametrize("name", [b"Trailer", b"Proxy", b"Via", b"Keep", b"TEE", b"HTTP3-Settings", b"Proxy-Status"])
def test_fields_that_pass(name: bytes) -> None:
    assert dropped(read(name + b": a\r\n")) == set()


def test_connection_names_fields() -> None:
    head = read(b"X-A: 1\r\nConnection: x-a ,\tX-B\r\nX-B: 2\r\nX-C: 3\r\nX-AB: 4\r\nConnection: x-c\r\nx-A: 5\r\n")
    assert dropped(head) == {b"X-A", b"x-A", b"X-B", b"X-C", b"Connection"}


PROTECTED = (
    *(b"Host", b"Content-Length", b"Cookie", b"Authorization", b"Forwarded", b"Expect", b"Traceparent"),
    *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Port", b"X-Forwarded-Host", b"X-Request-Id"),
    b"X-Marathon-App-Id",
)


@pytest.mark.parametrize("name", PROTECTED)
def test_connection_takes_nothing_away_that_means_something(name: bytes) -> None:
    line = b"" if name == b"Host" else name + b": 1\r\n"
    head = read(b"Connection: close, " + name + b"\r\n" + line)
    assert dropped(head) == {b"Connection"}
    assert name in head.known


def test_connection_does_not_take_the_coding_away() -> None:
    head = read(b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n")
    assert dropped(head) == {b"Connection"}
    assert "chunked" in head.flags


@pytest.mark.parametrize("name", [b"Set-Cookie", b"Location", b"Strict-Transport-Security", b"Content-Length"])
def test_connection_takes_nothing_away_of_answers_that_means_something(name: bytes) -> None:
    head = answer(b"Connection: " + name + b"\r\n" + name + b": 1\r\n")
    assert dropped(head) == {b"Connection"}
    assert name in head.known


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (b"close", {"close"}),
        (b"Close , KEEP-ALIVE", {"close", "keep_alive"}),
        (b",, keep-alive,", {"keep_alive"}),
        (b"closed, close;x, clos", set()),
        (b"", set()),
        (b'"close"', set()),
    ],
)
def test_connection_options(value: bytes, flags: set[str]) -> None:
    assert read(b"Connection: " + value + b"\r\n").flags == flags
    assert answer(b"Connection: " + value + b"\r\n").flags == flags


def test_options_of_several_fields_add_up() -> None:
    assert read(b"Connection: close\r\nA: b\r\nConnection: keep-alive\r\n").flags == {"close", "keep_alive"}


def test_most_options() -> None:
    half = b"Connection: " + b", ".join([b"x"] * (MOST_OPTIONS // 2)) + b"\r\n"
    assert read(half + half).flags == set()
    with pytest.raises(Refused, match="bad_value"):
        read(half + half + b"Connection: close\r\n")


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"x_forwarded-proto", b"Content_Length", b"TRANSFER_ENCODING"])
def test_names_that_cgi_would_take_for_others_are_dropped(name: bytes) -> None:
    assert dropped(read(name + b": 5\r\n")) == {name}
    assert read(name + b": 5\r\n").content_length is None


@pytest.mark.parametrize("name", [b"X_Other", b"_Host", b"Host_", b"X_" + b"y" * 60])
def test_other_names_with_underscores_pass(name: bytes) -> None:
    assert dropped(read(name + b": 5\r\n")) == set()


# --- upgrades -------------------------------------------------------------------------------------


def test_websocket() -> None:
    head = read(b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n")
    assert head.flags == {"keep_alive", "upgrade", "websocket"}
    assert copy_fields(head) == b"Host: a\r\nUpgrade: WebSocket\r\n"
    assert answer(b"Upgrade: websocket\r\nConnection: upgrade\r\n", 101).flags == {"upgrade", "websocket"}


def test_other_protocol() -> None:
    assert read(b"Connection: upgrade\r\nUpgrade: spdy-like/3.1, x\r\n").flags == {"upgrade"}
    assert read(b"Connection: upgrade\r\nUpgrade: websocket, x\r\n").flags == {"upgrade"}


@pytest.mark.parametrize(
    "fields",
    [
        b"Upgrade: websocket\r\n",
        b"Connection: close\r\nUpgrade: websocket\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        b"Connection: upgrade\r\nUpgrade:\r\n",
        *(
            b"Connection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: " + value + b"\r\n"
            for value in (b"h2c", b"H2C", b"websocket, h2c", b"h2", b"h3", b"HTTP/2.0", b"TLS/1.2", b"x,", b"a b")
        ),
    ],
)
def test_upgrades_that_do_not_count(fields: bytes) -> None:
    head = read(fields)
    assert not head.flags & {"upgrade", "websocket"}
    assert copy_fields(head) == b"Host: a\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_request_with_a_body_has_no_upgrade(framing: bytes) -> None:
    head = read(b"Connection: upgrade\r\nUpgrade: websocket\r\n" + framing)
    assert head.flags <= {"chunked"}
    assert copy_fields(head) == b"Host: a\r\n" + framing
    assert "upgrade" in read(b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n").flags


def test_http_1_0_has_no_upgrade() -> None:
    head = read(b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"HTTP/1.0")
    assert (head.flags, copy_fields(head)) == (set(), b"Host: a\r\n")
