"""TLS in a worker: one context for each certificate, and which one a client gets for the server name it asks for.

The exact name goes before a wildcard ("*.example.com" is for one label below, RFC 6125 §6.4.3), and that before the
first certificate of all, which is for names that nobody has and for clients that send none. A listener that names a
certificate uses that alone.

A listener's own context has no certificate: each handshake gets one from what is known then, so that a listener stays
as it is when certificates change, and so do connections.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable

from lb7.wire import Certificate

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption, nothing else; those of TLS 1.3 all are so."""


def server_name(transport: asyncio.BaseTransport) -> str:
    """The server name that a TLS connection's client asked for, as it sent it; "": none, or no TLS."""
    return getattr(transport.get_extra_info("ssl_object"), "server_name_asked", "")


def new_context() -> ssl.SSLContext:
    """A server's settings, without certificate: TLS 1.2 or newer, HTTP/1.1 by ALPN (RFC 7301)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    return context


def context_of(pem: bytes) -> ssl.SSLContext:
    """A context with the certificate, its chain and its key, which all are in `pem`. Raises OSError (ssl.SSLError when
    they don't belong together)."""
    context = new_context()
    # OpenSSL reads them from a file only: this one is memory that nobody else can open.
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    finally:
        os.close(fd)
    return context


def _no_password() -> str:
    """Asked for an encrypted key's; without this function OpenSSL would ask at the terminal."""
    raise OSError("the key is encrypted: a key without password is needed")


class CertificateStore:
    """See the module. `put` each, and then say by `arrange` which there are; what is in use changes only then."""

    def __init__(self) -> None:
        self._certificates: dict[str, tuple[Certificate, ssl.SSLContext]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._first: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<CertificateStore certificates={len(self._contexts)} names={len(self._by_name)}>"

    def put(self, certificate: Certificate) -> None:
        """Make ready a certificate, in place of one of its name. Raises OSError, ValueError."""
        self._certificates[certificate.name] = certificate, context_of(certificate.pem)

    def arrange(self, order: tuple[str, ...]) -> None:
        """From now on those of these names, the first for clients that ask for no name that there is; no others."""
        self._certificates = {name: self._certificates[name] for name in order if name in self._certificates}
        self._contexts = {name: context for name, (_, context) in self._certificates.items()}
        self._by_name = {}
        for certificate, context in self._certificates.values():
            for name in certificate.names:
                self._by_name.setdefault(name, context)
        self._first = next(iter(self._contexts.values()), None)

    def find(self, name: str, only: str = "") -> ssl.SSLContext | None:
        """The context for a server name; `only`: of that certificate, by its name."""
        if only:
            return self._contexts.get(file_name(only))
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name.get("*." + name.partition(".")[2])
        return found or self._first

    def listener_context(self, only: str, known: Callable[[str], bool] | None) -> ssl.SSLContext:
        """What a listener is opened with. `known`: names for which it is False, and clients without a name, are refused
        (alert unrecognized_name, RFC 6066 §3)."""
        context = new_context()

        def choose(connection: ssl.SSLObject, asked: str | None, _: ssl.SSLContext) -> int | None:
            name = (asked or "").lower()
            if known is not None and not (name and known(name)):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            found = self.find(name, only)
            if found is None:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            connection.context = found
            connection.server_name_asked = asked or ""  # type: ignore[attr-defined]
            return None

        context.sni_callback = choose
        return context


def file_name(label: str) -> str:
    """The file in the folder that a label means, by a path ("/etc/ssl/shop.pem") or its name alone: what else is on
    this host is not for labels to choose."""
    return label.rpartition("/")[2]
