"""What a server is told of the client: X-Forwarded-*, Forwarded, X-Request-Id; whom it is believed."""

from __future__ import annotations

import asyncio

import pytest

from lb7._proxy import Edge
from tests.fakes.edged import Client, edged, listen, request, told
from tests.fakes.scripted_backend import Heard, backend

CLAIMS = (
    *("X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: 8.8.8.8, 7.7.7.7", "X-Forwarded-Proto: https"),
    *("X-Forwarded-Port: 443", "X-Forwarded-Host: evil.example", "Forwarded: for=9.9.9.9", "X-Request-Id: mine"),
    *("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X_Forwarded_For: 6.6.6.6"),
)


def claims(heard: Heard) -> dict[str, list[bytes]]:
    names = ("for", "proto", "port", "host")
    return {name: heard.fields(f"x-forwarded-{name}") for name in names} | {"forwarded": heard.fields("forwarded")}


@told
async def test_clients_are_not_believed() -> None:
    async with backend() as server, edged(server) as edge:
        await edge.ask("/", *CLAIMS)
        heard = server.heard[0]
        assert claims(heard) == {
            **{"for": [b"127.0.0.1"], "proto": [b"http"], "port": [b"80"], "host": [], "forwarded": []}
        }
        assert len(heard.fields("x-request-id")[0]) == 32
        assert len(heard.fields("traceparent")) == 1
        assert heard.fields("x_forwarded_for") == []


@told
async def test_trusted_proxies_are_believed() -> None:
    async with backend() as server, edged(server, trusted_proxies=("127.0.0.0/8",)) as edge:
        await edge.ask("/", *CLAIMS)
        assert claims(server.heard[0]) == {
            "for": [b"9.9.9.9, 8.8.8.8, 7.7.7.7, 127.0.0.1"],
            **{"proto": [b"https"], "port": [b"443"], "host": [b"evil.example"], "forwarded": [b"for=9.9.9.9"]},
        }
        assert server.heard[0].fields("x-request-id") == [b"mine"]
        await edge.ask()
        assert claims(server.heard[1])["for"] == [b"127.0.0.1"]
        assert claims(server.heard[1])["proto"] == [b"http"]
        assert len(server.heard[1].fields("x-request-id")[0]) == 32
        await edge.ask("/", "X-Forwarded-Port: 8443")
        assert claims(server.heard[2])["proto"] == [b"http"]
        assert claims(server.heard[2])["port"] == [b"8443"]


@told
async def test_as_marathon_lb() -> None:
    async with backend() as server:
        async with edged(server, compat=True, request_id=False) as edge:
            await edge.ask("/", *CLAIMS)
            expected = {"for": [b"127.0.0.1"], "proto": [], "port": [b"80"], "host": [], "forwarded": []}
            assert claims(server.heard[0]) == expected
            assert server.heard[0].fields("x-request-id") == [b"mine"]  # not ours to tell
        async with edged(server, compat=True, trusted_proxies=("127.0.0.1",)) as edge:
            await edge.ask("/", *CLAIMS)
            found = claims(server.heard[1])
            assert (found["proto"], found["port"]) == ([b"https"], [b"80"])


class Peered:
    """A transport whose peer is somebody else."""

    def __init__(self, peer: object) -> None:
        self.peer = peer
        self.closed = False

    def get_extra_info(self, name: str) -> object:
        return self.peer if name == "peername" else None

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("peer", "told_as"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        ("", ""),
        (None, ""),
    ],
)
def test_addresses(peer: object, told_as: str) -> None:
    @told
    async def story() -> None:
        log: list[dict[str, object]] = []
        async with edged() as edge:
            own = Edge(edge.settings, log.append)
            front = own.front("http", edge.table, "host", False, 80)
            protocol = front()

            class Writing(Peered):
                def write(self, octets: bytes) -> None:
                    assert octets.startswith(b"HTTP/1.1 503 ")

            protocol.connection_made(Writing(peer))  # type: ignore[arg-type]
            protocol.data_received(request(host="nobody.example"))
            protocol.connection_lost(None)
            assert log[0]["client"] == told_as
            assert own.connections == 0

    story()


@told
async def test_ipv6() -> None:
    async with backend() as server, edged(server) as edge:
        try:
            listener, port = await listen(edge.front, "::1")
        except OSError:
            pytest.skip("no IPv6 here")
        client = Client(*await asyncio.open_connection("::1", port))
        assert (await client.ask()).status == 200
        client.writer.transport.abort()
        listener.close()
        assert server.heard[0].fields("x-forwarded-for") == [b"::1"]
