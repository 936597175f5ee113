"""The DNS server's sockets as a whole: addresses, binding, letting go; on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import dns.message
import pytest

from tests.fakes.dns_serving import WEB, Run, connected, framed, read_one, right, serving, udp
from tests.fakes.questions import answers, packet, responder_of, task


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_and_tcp_on_one_port(run: Run, host: str) -> None:
    async def story() -> None:
        listen = f"[{host}]:0" if ":" in host else f"{host}:0"
        async with serving(listen=(listen,)) as (server, responder):
            (address,) = server.addresses
            assert address[0] == host
            assert address[1] > 0
            assert right(await udp(address, WEB))
            async with connected(address) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
            assert responder.counters.queries == {("udp", "A"): 1, ("tcp", "A"): 1}

    run(story())


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.5"), (":0", "127.7.7.7"), ("[::]:0", "::1")],
)
def test_a_wildcard_answers_from_the_address_that_was_asked(run: Run, listen: str, asked: str) -> None:
    async def story() -> None:
        async with serving(listen=(listen,)) as (server, _):
            port = server.addresses[0][1]
            assert right(await udp((asked, port), WEB))
            async with connected((asked, port)) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))

    run(story())


def test_several_addresses(run: Run, free_port: int) -> None:
    async def story() -> None:
        listen = (f"127.0.0.1:{free_port}", f"127.0.0.2:{free_port}", "[::1]:0")
        async with serving(listen=listen) as (server, _):
            assert [address[0] for address in server.addresses] == ["127.0.0.1", "127.0.0.2", "::1"]
            for address in server.addresses:
                assert right(await udp(address, WEB))

    run(story())


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_address_that_is_taken(run: Run, kind: socket.SocketKind, free_port: int) -> None:
    port = free_port

    async def story() -> None:
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", port))
            if kind == socket.SOCK_STREAM:
                other.listen()
            with pytest.raises(OSError, match=rf"\[dns\] listen: can't bind '127\.0\.0\.1:{port}'") as raised:
                async with serving(listen=("127.0.0.2:0", f"127.0.0.1:{port}")):
                    pass
            assert raised.value.errno
        # Nothing stayed bound.
        async with serving(listen=(f"127.0.0.1:{port}",)) as (server, _):
            assert right(await udp(server.addresses[0], WEB))

    run(story())


def test_an_address_that_we_do_not_have(run: Run) -> None:
    async def story() -> None:
        with pytest.raises(OSError, match=r"\[dns\] listen: can't bind '192\.0\.2\.1:5353'"):
            async with serving(listen=("192.0.2.1:5353",)):
                pass

    run(story())


def test_close_lets_go_of_everything(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _):
            address = server.addresses[0]
            async with connected(address) as (reader, writer):
                writer.write(framed(WEB))
                await read_one(reader)
                await server.close()
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            assert server.addresses == []
        # At once, at the same address: a reload of the configuration does this.
        async with serving(listen=(f"127.0.0.1:{address[1]}",)) as (again, _):
            assert right(await udp(again.addresses[0], WEB))

    run(story())


def test_close_ends_what_waits_for_upstreams(run: Run) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, socket.create_server(("127.0.0.1", 0)) as deaf:
            silent.bind(("127.0.0.1", 0))
            loop = asyncio.get_running_loop()
            silent.setblocking(False)
            forward = (f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{deaf.getsockname()[1]}")
            async with serving(forward=forward, forward_timeout=30) as (server, _):
                client = asyncio.create_task(udp(server.addresses[0], packet("www.example.net")))
                await loop.sock_recv(silent, 512)
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)

    run(story())


def test_another_responder_on_the_same_sockets(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, old):
            async with connected(server.addresses[0]) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
                new = responder_of(task(4))
                server.swap(new.view.config, new)
                writer.write(framed(WEB))
                assert answers(dns.message.from_wire(await read_one(reader))) == ["9.0.0.5"]
            assert answers(dns.message.from_wire(await udp(server.addresses[0], WEB))) == ["9.0.0.5"]
            assert old.counters.queries == {("tcp", "A"): 1}

    run(story())
