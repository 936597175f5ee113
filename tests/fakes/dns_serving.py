"""A DNS server on the loop of a test, and clients that ask it octet by octet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import dns.message
import trustme

from mesos_dns.config import DnsConfig, Duration
from mesos_dns.model import Entity
from mesos_dns.respond import Responder
from mesos_dns.server import DnsServer
from tests.fakes.questions import answers, packet, responder_of, task

Run = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine to its end on one kind of loop (the fixture `run` of the DNS server's unit tests)."""


@asynccontextmanager
async def serving(
    *entities: Entity, listen: tuple[str, ...] = ("127.0.0.1:0",), **config: Any
) -> AsyncIterator[tuple[DnsServer, Responder]]:
    """A server over a small cluster."""
    responder = responder_of(*(entities or (task(),)), **config)
    settings: dict[str, Any] = {
        name: Duration(value) if name in ("tcp_idle", "forward_timeout") else value for name, value in config.items()
    }
    server = DnsServer(DnsConfig(listen=listen, **settings), responder)
    await server.start()
    try:
        yield server, responder
    finally:
        await server.close()


@contextmanager
def on_a_thread(config: DnsConfig, responder: Responder) -> Iterator[DnsServer]:
    """A server on a loop of its own, for clients that block."""
    started: list[DnsServer] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = DnsServer(config, responder)
        await server.start()
        started.append(server)
        ready.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def udp(address: tuple[str, int], query: bytes) -> bytes:
    """One question and its answer; a connected socket hears only the address it asked."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        await loop.sock_sendall(sock, query)
        return await loop.sock_recv(sock, 65535)


def framed(query: bytes) -> bytes:
    return len(query).to_bytes(2, "big") + query


async def read_one(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


@asynccontextmanager
async def connected(
    address: tuple[str, int], **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


WEB = packet("web.marathon.mesos")


def right(reply: bytes, query: bytes = WEB) -> bool:
    return reply[:2] == query[:2] and answers(dns.message.from_wire(reply, ignore_trailing=False)) == ["9.0.0.1"]


def faulty(real: Callable[..., Any]) -> Callable[..., Any]:
    """`Responder.respond` with a fault of ours in questions for `bad`."""

    def respond(self: Responder, query: bytes, *rest: Any) -> Any:
        if b"\3bad" in query:
            raise RuntimeError("a fault of ours")
        return real(self, query, *rest)

    return respond


def certificate(authority: trustme.CA, folder: Path, name: str = "dns.test") -> dict[str, str]:
    """A certificate for 127.0.0.1 and a name in files, as the settings of `[dns]` name them."""
    issued = authority.issue_cert("127.0.0.1", name)
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "key.pem")}


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client that trusts an authority, and offers "dot" by ALPN (RFC 7858, RFC 8310)."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["dot"])
    return context
