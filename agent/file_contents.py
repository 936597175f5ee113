"""What is in the files that the configuration names: certificates, keys, tokens and accounts that can be used.

Each is read as its user reads it, so that `check-config` and a reload refuse what would fail later.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from agent.checks import Problem
from agent.sections import AdminConfig, Config
from agent.zookeeper_sessions import FILE, read_url
from mesos_dns.config import ApiConfig, DnsConfig, MesosConfig, ZooKeeperConfig, first_line


def content_problems(config: Config) -> Iterator[Problem]:
    """Files that can be read and hold something else than they should. Reads them (blocks)."""
    if config.mesos is not None:
        yield from _mesos(config.mesos)
        yield from _zk_file("mesos.zk", config.mesos.zk)
    if config.serversets is not None:
        yield from _zk_file("serversets.zk", config.serversets.zk)
    if config.zookeeper is not None:
        yield from _authorities("zookeeper.ca_file", config.zookeeper.ca_file)
        yield from _key_pair("zookeeper", config.zookeeper)
        yield from _secret("zookeeper", config.zookeeper)
    if config.dns is not None:
        yield from _key_pair("dns", config.dns)
    for section, part in (("api", config.api), ("admin", config.admin)):
        if part is not None:
            yield from _listener(section, part)


def _mesos(mesos: MesosConfig) -> Iterator[Problem]:
    yield from _authorities("mesos.ca_file", mesos.ca_file)
    yield from _key_pair("mesos", mesos)
    yield from _secret("mesos", mesos)
    if mesos.auth == "iam":
        from mesos_dns.sources.mesos_auth import AuthError, read_account, sign_login

        try:
            account = read_account(mesos.iam_config_file)
            sign_login(account.uid, account.private_key, 0)
        except AuthError as error:
            yield Problem("mesos.iam_config_file", str(error))


def _secret(section: str, part: MesosConfig | ZooKeeperConfig) -> Iterator[Problem]:
    if part.secret_file and not _first_line(part.secret_file):
        yield Problem(f"{section}.secret_file", f"{part.secret_file!r} has no secret in its first line (UTF-8)")


def _zk_file(path: str, text: str) -> Iterator[Problem]:
    if text.startswith(FILE):
        try:
            read_url(text)
        except OSError as error:
            yield Problem(path, f"can't read {text!r}: {error.strerror}")
        except ValueError:  # its text may hold what is secret
            yield Problem(path, f"expected zk://HOST:PORT,…/PATH in the first line of {text!r}")


def _listener(section: str, part: ApiConfig | AdminConfig) -> Iterator[Problem]:
    yield from _key_pair(section, part)
    if isinstance(part, ApiConfig):
        yield from _authorities(f"{section}.client_ca_file", part.client_ca_file)
    if part.token_file:
        from agent.http_access import read_token

        try:
            read_token(Path(part.token_file))
        except (OSError, ValueError) as error:
            yield Problem(f"{section}.token_file", f"{part.token_file!r}: {error}")


def _authorities(path: str, name: str) -> Iterator[Problem]:
    try:
        if name:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(name)
    except OSError as error:  # ssl.SSLError is one
        yield Problem(path, f"expected certificates in PEM in {name!r}: {error}")


def _key_pair(
    section: str, part: MesosConfig | ZooKeeperConfig | DnsConfig | ApiConfig | AdminConfig
) -> Iterator[Problem]:
    try:
        if part.cert_file and part.key_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(part.cert_file, part.key_file, password=_no_password)
    except OSError as error:
        both = f"{part.cert_file!r} and {part.key_file!r}"
        yield Problem(
            f"{section}.cert_file", f"expected a certificate and its unencrypted key in PEM in {both}: {error}"
        )


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise OSError("the key is encrypted")


def _first_line(name: str) -> str:
    try:
        return first_line(name)
    except ValueError:
        return ""
