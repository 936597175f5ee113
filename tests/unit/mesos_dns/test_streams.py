"""DNS over TLS, on asyncio's loop and on uvloop's: certificates, handshakes that lead nowhere, limits."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import dns.message
import pytest
import trustme

from mesos_dns import streams
from mesos_dns.config import Duration
from mesos_dns.respond import Responder
from mesos_dns.server import DnsServer
from tests.fakes.dns_serving import (
    WEB,
    Run,
    certificate,
    connected,
    framed,
    read_one,
    right,
    serving,
    trusting,
)
from tests.fakes.questions import answers, packet, responder_of, task

AUTHORITY = trustme.CA()
CLIENT = trusting(AUTHORITY)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """cert_file and key_file."""
    return certificate(AUTHORITY, tmp_path)


def secured(files: dict[str, str], **config: Any) -> AbstractAsyncContextManager[tuple[DnsServer, Responder]]:
    return serving(listen=(), tls_listen=("127.0.0.1:0",), **files, **config)


def client(
    server: DnsServer, context: ssl.SSLContext = CLIENT
) -> AbstractAsyncContextManager[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    return connected(server.tls_addresses[0], ssl=context, server_hostname="dns.test")


def hello() -> bytes:
    """The first octets of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        CLIENT.wrap_bio(incoming, outgoing, server_hostname="dns.test").do_handshake()
    return outgoing.read()


async def closed(reader: asyncio.StreamReader) -> None:
    """Returns when the server ended the connection; what it says before is of no interest."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def until(condition: Any) -> None:
    while not condition():  # the whole story has a limit
        await asyncio.sleep(0.01)


def test_questions_over_tls(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        async with secured(files) as (server, responder), client(server) as (reader, writer):
            tls = writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "dot"
            assert tls.version() in ("TLSv1.2", "TLSv1.3")
            queries = [number.to_bytes(2, "big") + WEB[2:] for number in range(1000)]
            writer.write(b"".join(map(framed, queries)))
            for query in queries:
                assert right(await read_one(reader), query)
            for byte in framed(WEB):
                writer.write(bytes([byte]))
                await writer.drain()
            assert right(await read_one(reader))
            assert responder.counters.queries == {("tls", "A"): 1001}
            assert responder.counters.tcp_connections == responder.counters.tcp_open == {"tls": 1}

    run(story())


@pytest.mark.parametrize("protocols", [[], ["h2"], ["http/1.1", "dot"]])
def test_clients_that_say_something_else_by_alpn(run: Run, files: dict[str, str], protocols: list[str]) -> None:
    async def story() -> None:
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        context.set_alpn_protocols(protocols)
        async with secured(files) as (server, _), client(server, context) as (reader, writer):
            chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen == ("dot" if "dot" in protocols else None)
            writer.write(framed(WEB))
            assert right(await read_one(reader))

    run(story())


def test_all_transports_beside_each_other(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        config = {"tls_listen": ("127.0.0.1:0", "[::1]:0"), **files}
        async with serving(listen=("127.0.0.1:0",), **config) as (server, responder):
            assert [host for host, _ in server.tls_addresses] == ["127.0.0.1", "::1"]
            for address in server.tls_addresses:
                async with connected(address, ssl=CLIENT, server_hostname="dns.test") as (reader, writer):
                    writer.write(framed(WEB))
                    assert right(await read_one(reader))
            async with connected(server.addresses[0]) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
            assert responder.counters.tcp_connections == {"tls": 2, "tcp": 1}

    run(story())


def test_large_answers_to_a_client_that_reads_late(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        serve = serving(*(task(n) for n in range(1000)), listen=(), tls_listen=("127.0.0.1:0",), **files)
        async with serve as (server, responder):
            async with connected(server.tls_addresses[0], ssl=CLIENT, server_hostname="dns.test", limit=4096) as (
                reader,
                writer,
            ):
                sent = 2000
                writer.write(framed(WEB) * sent)
                asked = -1
                while asked != responder.counters.queries["tls", "A"]:  # until it stands still
                    asked = responder.counters.queries["tls", "A"]
                    await asyncio.sleep(0.2)
                assert 0 < asked < sent
                for _ in range(sent):
                    assert len(await read_one(reader)) > 16000

    run(story())


def test_an_idle_client_is_told_that_the_connection_ends(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        async with secured(files, tcp_idle=1) as (server, responder), client(server) as (reader, writer):
            writer.write(framed(WEB))
            assert right(await read_one(reader))
            assert await reader.read() == b""  # close_notify: no error
            assert responder.counters.tcp_closed == {"idle": 1}

    run(story())


# --- certificates ---------------------------------------------------------------------------------


def served_certificate(writer: asyncio.StreamWriter) -> bytes:
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return found


def test_a_renewed_certificate_is_for_new_connections(run: Run, files: dict[str, str], tmp_path: Path) -> None:
    async def story() -> None:
        async with secured(files) as (server, _), client(server) as (old_reader, old_writer):
            certificate(AUTHORITY, tmp_path)
            async with client(server) as (_, writer):
                assert served_certificate(writer) == served_certificate(old_writer)
            await server.renew()
            async with client(server) as (reader, writer):
                assert served_certificate(writer) != served_certificate(old_writer)
                writer.write(framed(WEB))
                assert right(await read_one(reader))
            old_writer.write(framed(WEB))
            assert right(await read_one(old_reader))

    run(story())


def test_a_certificate_that_is_no_good_leaves_the_old_one(run: Run, files: dict[str, str], tmp_path: Path) -> None:
    async def story() -> None:
        async with secured(files) as (server, responder):
            (tmp_path / "cert.pem").write_text("no certificate")
            with pytest.raises(OSError, match=r"\[dns\]: can't use .*cert\.pem and .*key\.pem as a certificate"):
                await server.renew()
            with pytest.raises(OSError, match="elsewhere"):
                await server.renew(
                    type(responder.view.config)(tls_listen=("127.0.0.1:0",), cert_file="elsewhere", key_file="x")
                )
            async with client(server) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))

    run(story())


def test_no_start_without_a_certificate(run: Run, files: dict[str, str], tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "key.pem").unlink()
        with pytest.raises(OSError, match=r"\[dns\]: can't use .*cert\.pem and .*key\.pem"):
            async with secured(files):
                pass

    run(story())


def test_an_address_that_is_taken(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            text = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(OSError, match=rf"\[dns\] tls_listen: can't bind '{text}'"):
                async with serving(listen=("127.0.0.1:0",), tls_listen=("127.0.0.1:0", text), **files):
                    pass

    run(story())


def test_connections_outlive_a_swap(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        async with secured(files) as (server, _), client(server) as (reader, writer):
            new = responder_of(task(4))
            server.swap(new.view.config, new)
            writer.write(framed(WEB))
            assert answers(dns.message.from_wire(await read_one(reader))) == ["9.0.0.5"]

    run(story())


# --- clients that never get through the handshake -------------------------------------------------


@pytest.mark.parametrize("sent", [framed(packet("web.marathon.mesos")), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
def test_a_client_that_speaks_no_tls(run: Run, files: dict[str, str], sent: bytes) -> None:
    async def story() -> None:
        async with secured(files, tcp_idle=0.2) as (server, responder):
            async with connected(server.tls_addresses[0]) as (reader, writer):
                writer.write(sent)
                await closed(reader)
            await until(lambda: not +responder.counters.tcp_open)
            assert sum(responder.counters.tcp_closed.values()) == 1
            assert not responder.counters.queries
            async with client(server) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))

    run(story())


def test_a_client_that_does_not_trust_us(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        async with secured(files) as (server, responder):
            with pytest.raises(ssl.SSLCertVerificationError):
                async with client(server, ssl.create_default_context()):
                    pass
            await until(lambda: not +responder.counters.tcp_open)

    run(story())


def test_a_slow_handshake_is_waited_for_and_an_endless_one_is_not(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        async with secured(files) as (server, _), connected(server.tls_addresses[0]) as (reader, writer):
            for byte in hello():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await reader.readexactly(1)) == b"\x16"  # the server's hello
        async with secured(files, tcp_idle=0.3) as (server, responder):
            async with connected(server.tls_addresses[0]) as (reader, writer):
                gone = asyncio.create_task(closed(reader))
                for byte in hello():
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)
                    if gone.done():
                        break
                assert gone.done()
            assert responder.counters.tcp_closed.total() == 1

    run(story())


def test_silent_clients_are_counted_and_give_way(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        config = {"tcp_clients": 3, "tcp_clients_per_address": 3, "tcp_idle": 30}
        async with secured(files, **config) as (server, responder), contextlib.AsyncExitStack() as stack:
            counters = responder.counters
            silent = [await stack.enter_async_context(connected(server.tls_addresses[0])) for _ in range(3)]
            await until(lambda: counters.tcp_open["tls"] == 3)
            async with connected(server.tls_addresses[0]) as (reader, _):
                await closed(reader)
            assert counters.tcp_refused == {"client": 1}
            other = connected(
                server.tls_addresses[0], ssl=CLIENT, server_hostname="dns.test", local_addr=("127.0.0.2", 0)
            )
            async with other as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
                await closed(silent[0][0])
                assert counters.tcp_closed == {"displaced": 1}

    run(story())


def test_close_ends_handshakes(run: Run, files: dict[str, str]) -> None:
    async def story() -> None:
        async with secured(files) as (server, responder), contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(server.tls_addresses[0])) for _ in range(5)]
            clients[0][1].write(hello())
            await until(lambda: responder.counters.tcp_open["tls"] == 5)
            await server.close()
            for reader, _ in clients:
                await closed(reader)
            assert not +responder.counters.tcp_open
            assert responder.counters.tcp_closed == {"stopped": 5}

    run(story())


def test_a_process_without_files_goes_on_accepting_later(
    run: Run, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError(), InterruptedError()]
    real = socket.socket.accept

    def accept(self: socket.socket) -> Any:
        if refused:
            raise refused.pop(0)
        return real(self)

    async def story() -> None:
        monkeypatch.setattr(streams, "_OUT_OF_FILES", Duration(0.05))
        async with secured(files) as (server, _):
            with monkeypatch.context() as patched:
                patched.setattr(socket.socket, "accept", accept)
                async with client(server) as (reader, writer):
                    writer.write(framed(WEB))
                    assert right(await read_one(reader))

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "Too many open files" in caplog.text
    assert not refused
