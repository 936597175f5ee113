"""What the proxy changes of a request, against plain code: cookies of sticky clients, prefixes of paths, hosts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.native.edge_conversation import Conversation, Nowhere, Written, edge_of
from tests.native.edge_messages import HOST, OK, request

NAME = b"stick"
MINE = b"2f6e1a"  # the server's, as edge_conversation has it

PIECES = st.sampled_from(
    [
        *(b";", b";", b"; ", b" ", b"\t", b"=", b'"', b"a=b", b"stick", b"stick=", b"Stick=x", b"stick=2f6e1a"),
        *(b"stick=other", b'stick="2f6e1a"', b"xstick=1", b"stick =2", b"sticky=3", b"\xe9", b","),
    ]
)
COOKIES = st.lists(st.lists(PIECES, max_size=9).map(b"".join), max_size=3)


class Connected(NamedTuple):
    """A client's connection and a server's, between which requests go without waiting for anything."""

    client: asyncio.Protocol
    answered: Written
    server: asyncio.Protocol
    asked: Written

    def ask(self, octets: bytes) -> tuple[bytes, bytes]:
        """The request as the server gets it, and its answer as the client does."""
        self.client.data_received(octets)
        asked = self.asked.taken()
        self.server.data_received(OK)
        return asked, self.answered.taken()


@contextlib.contextmanager
def connection(conversation: Conversation) -> Iterator[Connected]:
    async def connect() -> Connected:
        poll = Nowhere(asyncio.get_running_loop())
        _, client, answered = edge_of(conversation, poll)
        client.data_received(request("/"))
        while not (poll.connected and poll.connected[0][1]):
            await asyncio.sleep(0.001)
        server, asked = poll.connected[0]
        server.data_received(OK)
        assert asked.taken()
        assert answered.taken()
        return Connected(client, answered, server, asked)

    with asyncio.Runner() as runner:
        yield runner.run(connect())


@pytest.fixture(scope="module")
def connected() -> Iterator[Connected]:
    with connection(Conversation(cluster={"sticky": NAME.decode()})) as made:
        yield made


@given(COOKIES)
@example([b"stick=2f6e1a"])
@example([b"a=b; stick=2f6e1a; c=d", b"stick=other"])
@example([b"stick=;", b" ; "])
def test_cookies(connected: Connected, values: list[bytes]) -> None:
    octets = request("/").removesuffix(b"\r\n") + b"".join(b"Cookie: %b\r\n" % value for value in values) + b"\r\n"
    asked, answered = connected.ask(octets)
    value, passed = plainly([value.strip(b" \t") for value in values])
    lines = asked.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert [line.partition(b": ")[2] for line in lines if line.startswith(b"Cookie:")] == passed
    assert (b"Set-Cookie: stick=2f6e1a" in answered) == (value != MINE)


def plainly(values: list[bytes]) -> tuple[bytes | None, list[bytes]]:
    """The first cookie of that name, and the fields that are passed on: as they came where there is none."""
    found: list[bytes] = []
    passed = []
    for value in values:
        kept = []
        for part in value.split(b";"):
            if part.strip(b" \t").startswith(NAME + b"="):
                found.append(part.strip(b" \t")[len(NAME) + 1 :].strip(b'"'))
            else:
                kept.append(part)
        passed.append(b";".join(kept).strip(b" \t"))
    return (found[0], [value for value in passed if value]) if found else (None, values)


SEGMENTS = st.sampled_from([b"/", b"/", b"api", b"API", b"apix", b"?", b"?/api", b"v1", b"%61", b"a"])
PREFIXES = ("/api", "/api/", "/api/v1", "/", "/Api")


@pytest.fixture(scope="module", params=[(prefix, compat) for prefix in PREFIXES for compat in (False, True)])
def stripping(request: pytest.FixtureRequest) -> Iterator[tuple[Connected, bytes, bool]]:
    prefix, compat = request.param
    made = Conversation(cluster={"strip_path": prefix, "host": "inner.example"}, settings={"compat": compat})
    with connection(made) as connected:
        yield connected, prefix.encode(), compat


@given(st.lists(SEGMENTS, max_size=6).map(b"".join))
def test_paths_and_hosts(stripping: tuple[Connected, bytes, bool], rest: bytes) -> None:
    connected, prefix, compat = stripping
    path = b"/" + rest
    asked, _ = connected.ask(request(path.decode()))
    first, *fields = asked.split(b"\r\n")
    assert first == b"GET %b HTTP/1.1" % (without(path, prefix, compat) or path)
    assert [field for field in fields if field.startswith(b"Host:")] == [b"Host: inner.example"]
    told = [field for field in fields if field.startswith(b"X-Forwarded-Host:")]
    assert told == ([] if compat else [b"X-Forwarded-Host: " + HOST.encode()])


def without(path: bytes, prefix: bytes, anywhere: bool) -> bytes | None:
    """The path without the prefix; None: it does not begin so."""
    if not (path.lower().startswith(prefix.lower()) if anywhere else path.startswith(prefix)):
        return None
    rest = path[len(prefix) :]
    if rest.startswith(b"/"):
        return rest
    return b"/" + rest if anywhere or rest[:1] in (b"", b"?") or prefix.endswith(b"/") else None
