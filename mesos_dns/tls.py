"""TLS contexts: for servers that we are a client of (masters, ZooKeeper), and for those that we are."""

from __future__ import annotations

import ssl

import msgspec


class Tls(msgspec.Struct, frozen=True):
    """PEM files ("" for none; without `ca_file` the system's authorities), and whether servers are verified."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """The settings for a client. Reads the files (blocks); raises OSError that names the file."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise OSError(f"ca_file {self.ca_file}: {error}") from None
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file or None)
            except OSError as error:
                files = f"cert_file {self.cert_file} with key_file {self.key_file or self.cert_file}"
                raise OSError(f"{files}: {error}") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def server_context(cert_file: str, key_file: str, protocols: list[str]) -> ssl.SSLContext:
    """The settings of a server: TLS 1.2 or newer, and the ALPN names it offers (RFC 7301).

    A client that offers other names, or none, is served all the same. Reads the files (blocks); raises OSError
    that names them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(protocols)
    try:
        context.load_cert_chain(cert_file, key_file or None)
    except OSError as error:
        raise OSError(f"can't use {cert_file} and {key_file} as a certificate and its key: {error}") from error
    return context
