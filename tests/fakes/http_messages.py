"""HTTP/1.x messages for property tests: right ones of every form, and what mutations make of them."""

from __future__ import annotations

import re
import string

import msgspec
from hypothesis import strategies as st

from tests.fakes.http_peers import LLHTTP_METHODS, Fields

TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
VALUE = bytes([*b"\t", *range(0x20, 0x7F), *range(0x80, 0x100)])
HOSTS = (b"a", b"app.example:8080", b"xn--bcher-kva.example", b"10.0.0.1", b"[2001:db8::1]:443", b"A_b~c.example.")
METHODS = tuple(sorted(LLHTTP_METHODS - {b"CONNECT", b"OPTIONS"}))
FRAMING = re.compile(rb"(content.(length|type|encoding|range)|transfer.encoding|host|connection|upgrade|expect)", re.I)

PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"1", b"+", b"-", b"\x0b", b"\x80", b"\xff"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:\r\n", b"Content-Length: 5, 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n"),
    *(b"Host: b\r\n", b"Host: a\r\n", b"Connection: close, host\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    *(b" folded\r\n", b"x", b"chunked", b"0\r\n\r\n", b"5\r\nhello\r\n", b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
    *(
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/1.1 204 x\r\n",
        b"HTTP/1.1 304 x\r\n",
        b"\r\n\r\n",
        b"http://a",
        b"/",
        b"?",
        b"#",
    ),
)
"""What is put into messages at random places."""


def octets(alphabet: bytes, smallest: int, largest: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=smallest, max_size=largest).map(bytes)


names = octets(TOKEN, 1, 12).filter(lambda name: not FRAMING.fullmatch(name))
values = octets(VALUE, 0, 40)
spaces = st.sampled_from([b" ", b"", b"  ", b"\t", b" \t "])
connection = st.sampled_from(
    [
        b"close",
        b"keep-alive",
        b"Keep-Alive, X-Named",
        b"x-named",
        b"TE",
        b"Host, Content-Length, cookie",
        b",",
        b"Upgrade",
    ]
)
plain_fields = st.one_of(
    st.tuples(names, values),
    st.tuples(st.just(b"Connection"), connection),
    st.tuples(st.sampled_from([b"X-Named", b"x-NAMED", b"Cookie", b"TE", b"Keep-Alive", b"X_Forwarded_For"]), values),
    st.just((b"Transfer_Encoding", b"chunked")),
    st.tuples(st.just(b"Upgrade"), st.sampled_from([b"websocket", b"h2c", b"x/1, y"])),
    st.just((b"Proxy-Connection", b"keep-alive")),
)


def line(field: tuple[bytes, bytes], before: bytes, after: bytes) -> bytes:
    return field[0] + b":" + before + field[1] + after + b"\r\n"


def lines(fields: st.SearchStrategy[tuple[bytes, bytes]]) -> st.SearchStrategy[bytes]:
    """A field as a line with some spacing."""
    return st.builds(line, fields, spaces, spaces)


# --- bodies ---------------------------------------------------------------------------------------

quoted = octets(bytes(set(VALUE) - set(b'"\\')), 0, 6).map(lambda text: b'"' + text + b'"')
arguments = st.one_of(st.just(b""), octets(TOKEN, 1, 6).map(b"=".__add__), quoted.map(b"=".__add__))
extensions = st.lists(st.builds(lambda name, value: b";" + name + value, octets(TOKEN, 1, 5), arguments), max_size=2)


def one_chunk(held: bytes, zeros: int, upper: bool, extension: list[bytes]) -> bytes:
    size = b"0" * zeros + (b"%X" if upper else b"%x") % len(held)
    return size + b"".join(extension) + b"\r\n" + held + b"\r\n"


def whole_body(chunks: list[bytes], last: bytes, trailers: list[bytes]) -> bytes:
    return b"".join(chunks) + last + b"\r\n" + b"".join(trailers) + b"\r\n"


chunk = st.builds(one_chunk, st.binary(min_size=1, max_size=40), st.integers(0, 3), st.booleans(), extensions)
trailer_fields = st.tuples(octets(TOKEN, 1, 5).map(b"X-".__add__), values)
chunked_bodies = st.builds(
    whole_body,
    st.lists(chunk, max_size=4),
    st.builds(lambda zeros, extension: zeros + b"".join(extension), st.sampled_from([b"0", b"000"]), extensions),
    st.lists(lines(trailer_fields.filter(lambda field: not field[0].lower().startswith(b"x-forw"))), max_size=2),
)


class Body(msgspec.Struct, frozen=True):
    """A body as it is sent, with the fields that frame it."""

    framing: Fields
    sent: bytes


plain_bodies = st.binary(max_size=60).map(lambda sent: Body([(b"Content-Length", b"%d" % len(sent))], sent))
bodies = st.one_of(
    st.just(Body([], b"")),
    plain_bodies,
    st.builds(
        lambda name, value, sent: Body([(name, value)], sent),
        st.sampled_from([b"Transfer-Encoding", b"transfer-ENCODING"]),
        st.sampled_from([b"chunked", b"Chunked"]),
        chunked_bodies,
    ),
)

# --- messages -------------------------------------------------------------------------------------


def in_some_order(draw: st.DrawFn, fields: Fields) -> bytes:
    """Lines of these fields and some others."""
    own = [line(field, draw(spaces), draw(spaces)) for field in fields]
    return b"".join(draw(st.permutations([*own, *draw(st.lists(lines(plain_fields), max_size=5))])))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Right ones, with their body."""
    host = draw(st.sampled_from(HOSTS))
    method = draw(st.sampled_from(METHODS) | octets(TOKEN, 1, 12).filter(lambda name: name != b"CONNECT"))
    path = b"/" + draw(octets(bytes(set(range(0x21, 0x7F)) - set(b"#")), 0, 20))
    target = draw(st.sampled_from([path, path, b"http://" + host + path, b"HTTPS://" + host]))
    if target == b"HTTPS://" + host and method == b"OPTIONS":
        method = b"GET"
    body = draw(bodies)
    old = draw(st.booleans()) and not body.framing
    fields = [*body.framing]
    if not old or draw(st.booleans()):
        fields.append((draw(st.sampled_from([b"Host", b"HOST"])), host.swapcase()))
    start = draw(st.sampled_from([b"", b"\r\n"])) + b"%s %s HTTP/1.%d\r\n" % (method, target, not old)
    return start + in_some_order(draw, fields) + b"\r\n" + body.sent


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Right ones to GET, with their body; never 101, with which HTTP ends."""
    status = draw(st.sampled_from([200, 404, 503, 100, 103, 204, 304, 599]) | st.integers(200, 599))
    reason = draw(st.just(b"") | values.map(b" ".__add__))
    body = draw(st.one_of(bodies, st.binary(max_size=40).map(lambda sent: Body([], sent))))
    old = draw(st.booleans()) and (b"Transfer-Encoding", b"chunked") not in body.framing
    if any(b"transfer" in name.lower() for name, _ in body.framing):
        old = False
    sent = b"" if status < 200 or status in {204, 304} else body.sent
    start = b"HTTP/1.%d %d%s\r\n" % (not old, status, reason)
    return start + in_some_order(draw, body.framing) + b"\r\n" + sent


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """One of these with octets taken away, replaced, doubled, or put in; most places are in the head."""
    message = bytearray(draw(messages))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(message)))
        size = draw(st.integers(0, 4))
        kind = draw(st.sampled_from(["put", "put", "put", "replace", "cut", "double"]))
        if kind == "cut":
            del message[at : at + size]
        elif kind == "double":
            message[at:at] = message[at : at + size * 8]
        else:
            message[at : at + (size if kind == "replace" else 0)] = draw(st.sampled_from(PIECES))
    return bytes(message)
