"""TLS in a worker: the certificate for a name, names that are refused, and what is not offered."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from lb7.certificates import CertificateStore, context_of, file_name, server_name
from lb7.wire import Certificate

AUTHORITY = trustme.CA()
ISSUED = {name: AUTHORITY.issue_cert(name) for name in ("a.example", "b.example", "*.example.com", "x.example.com")}


def certificate(name: str) -> Certificate:
    return Certificate(f"{name}.pem", (name,), ISSUED[name].private_key_and_cert_chain_pem.bytes())


def store(*names: str) -> CertificateStore:
    made = CertificateStore()
    for name in names:
        made.put(certificate(name))
    made.arrange(tuple(f"{name}.pem" for name in names))
    return made


async def stored(*names: str) -> CertificateStore:
    """OpenSSL takes its time."""
    return await asyncio.to_thread(store, *names)


class Told(asyncio.Protocol):
    """Tells the client the server name that was seen."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"<{server_name(transport)}>".encode())
        transport.close()


async def handshake(context: ssl.SSLContext, name: str, **client: object) -> tuple[str, list[str]]:
    """The server name as the server has seen it, and the names of the certificate that the client got."""
    server = await asyncio.get_running_loop().create_server(Told, "127.0.0.1", 0, ssl=context)
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    trusting.check_hostname = False
    for key, value in client.items():
        setattr(trusting, key, value)
    try:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
        peer = writer.get_extra_info("peercert")
        seen = await reader.read()
        writer.close()
        return seen.decode(), [value for _, value in peer["subjectAltName"]]
    finally:
        server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("a.example", "a.example"),
        ("B.example", "b.example"),
        ("x.example.com", "x.example.com"),
        ("y.example.com", "*.example.com"),
        ("z.y.example.com", "a.example"),
        ("example.com", "a.example"),
        ("unknown.example", "a.example"),
        ("127.0.0.1", "a.example"),  # no server name is sent
    ],
)
async def test_which_certificate_a_client_gets(asked: str, got: str) -> None:
    context = (await stored("a.example", "b.example", "*.example.com", "x.example.com")).listener_context("", None)
    name = "" if asked == "127.0.0.1" else asked
    assert await handshake(context, asked) == (f"<{name}>", [got])


@pytest.mark.asyncio
async def test_one_certificate_for_all() -> None:
    context = (await stored("a.example", "b.example")).listener_context("/etc/ssl/b.example.pem", None)
    assert await handshake(context, "a.example") == ("<a.example>", ["b.example"])


@pytest.mark.asyncio
async def test_a_listener_stays_when_certificates_change() -> None:
    held = await stored("a.example")
    context = held.listener_context("", None)
    assert (await handshake(context, "b.example"))[1] == ["a.example"]
    await asyncio.to_thread(held.put, certificate("b.example"))
    assert (await handshake(context, "b.example"))[1] == ["a.example"], "not before it is arranged"
    held.arrange(("b.example.pem",))
    assert (await handshake(context, "a.example"))[1] == ["b.example"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("names", "asked", "known"),
    [
        (("a.example",), "b.example", lambda name: name == "a.example"),
        (("a.example",), "127.0.0.1", lambda name: True),
        ((), "a.example", None),
    ],
    ids=["a name without rules", "no name", "no certificate"],
)
async def test_handshakes_that_are_refused(
    names: tuple[str, ...], asked: str, known: Callable[[str], bool] | None
) -> None:
    context = (await stored(*names)).listener_context("", known)
    with pytest.raises(OSError):
        await handshake(context, asked)


@pytest.mark.asyncio
async def test_known_names_are_served() -> None:
    context = (await stored("a.example")).listener_context("", lambda name: name == "b.example")
    assert await handshake(context, "b.EXAMPLE") == ("<b.EXAMPLE>", ["a.example"])


@pytest.mark.asyncio
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_that_are_spoken(version: ssl.TLSVersion) -> None:
    context = (await stored("a.example")).listener_context("", None)
    seen, _ = await handshake(context, "a.example", minimum_version=version, maximum_version=version)
    assert seen == "<a.example>"


def test_what_is_too_old_is_not_offered() -> None:
    context = store("a.example").listener_context("", None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert all(cipher["aead"] and cipher["kea"] in ("kx-ecdhe", "kx-any") for cipher in context.get_ciphers())


def test_a_connection_without_tls_has_no_server_name() -> None:
    assert server_name(asyncio.Transport()) == ""


def test_what_is_no_certificate() -> None:
    good, other = ISSUED["a.example"], ISSUED["b.example"]
    chain = b"".join(part.bytes() for part in good.cert_chain_pems)
    context_of(good.private_key_pem.bytes() + chain)
    context_of(chain + good.private_key_pem.bytes())
    key = load_pem_private_key(good.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    for pem in (b"", b"nonsense", chain, other.private_key_pem.bytes() + chain):
        with pytest.raises(ssl.SSLError):
            context_of(pem)
    with pytest.raises(OSError, match="encrypted"):
        context_of(locked + chain)


def test_a_label_chooses_within_the_folder_alone() -> None:
    assert [file_name(text) for text in ("a.pem", "/etc/ssl/a.pem", "../../a.pem", "")] == [
        "a.pem",
        "a.pem",
        "a.pem",
        "",
    ]
