"""What is in the files that the configuration names: certificates, keys, tokens and accounts that can be used.

Each is read as its user reads it, so that `check-config` and a reload refuse what would fail later. Files that are
watched are for `check-config` alone: a running Pharos keeps what they last said well.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from agent.check_values import Keyed
from agent.sections import AdminConfig, Config
from agent.zookeeper_sessions import FILE, read_url
from lb7.autoscale.config import AutoscaleConfig
from mesos_dns.config import ApiConfig, MarathonConfig, MesosConfig, ZooKeeperConfig, first_line
from mesos_dns.toml_tables import Problem, TomlError, read


def content_problems(config: Config) -> Iterator[Problem]:
    """Files that can be read and hold something else than they should. Reads them (blocks)."""
    if config.mesos is not None:
        yield from _orchestrator("mesos", config.mesos)
        yield from _zk_file("mesos.zk", config.mesos.zk)
    if config.marathon is not None:
        yield from _orchestrator("marathon", config.marathon)
    if config.serversets is not None:
        yield from _zk_file("serversets.zk", config.serversets.zk)
    if config.zookeeper is not None:
        yield from _authorities("zookeeper.ca_file", config.zookeeper.ca_file)
        yield from _key_pair("zookeeper", config.zookeeper)
        yield from _secret("zookeeper", config.zookeeper)
    if config.dns is not None:
        yield from _key_pair("dns", config.dns)
    if config.autoscale is not None:
        yield from _autoscale(config.autoscale)
    for section, part in (("api", config.api), ("admin", config.admin)):
        if part is not None:
            yield from _listener(section, part)


def watched_problems(config: Config) -> Iterator[Problem]:
    """Files that a running Pharos watches, and whose bad edits it survives, that are bad now. Reads them (blocks)."""
    if config.l4 is not None and config.l4.vip_file:
        from lb4.vip_file import read_vips

        name = config.l4.vip_file
        try:
            read_vips(read(Path(name)), name)
        except TomlError as error:
            for problem in error.problems:
                yield Problem("l4.vip_file", f"{name}: {problem}")


def _orchestrator(section: str, part: MesosConfig | MarathonConfig) -> Iterator[Problem]:
    yield from _authorities(f"{section}.ca_file", part.ca_file)
    yield from _key_pair(section, part)
    yield from _secret(section, part)
    if part.auth == "iam":
        from mesos_dns.sources.mesos_auth import AuthError, read_account, sign_login

        try:
            account = read_account(part.iam_config_file)
            sign_login(account.uid, account.private_key, 0)
        except AuthError as error:
            yield Problem(f"{section}.iam_config_file", str(error))


def _secret(section: str, part: MesosConfig | MarathonConfig | ZooKeeperConfig) -> Iterator[Problem]:
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
    yield from _token(f"{section}.token_file", part.token_file)


def _autoscale(part: AutoscaleConfig) -> Iterator[Problem]:
    yield from _key_pair("autoscale", part)
    for key in ("ca_file", "prometheus_ca_file"):
        yield from _authorities(f"autoscale.{key}", getattr(part, key))
    for key in ("token_file", "prometheus_token_file"):
        yield from _token(f"autoscale.{key}", getattr(part, key))


def _token(path: str, name: str) -> Iterator[Problem]:
    if name:
        from agent.http_access import read_token

        try:
            read_token(Path(name))
        except (OSError, ValueError) as error:
            yield Problem(path, f"{name!r}: {error}")


def _authorities(path: str, name: str) -> Iterator[Problem]:
    try:
        if name:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(name)
    except OSError as error:  # ssl.SSLError is one
        yield Problem(path, f"expected certificates in PEM in {name!r}: {error}")


def _key_pair(section: str, part: Keyed) -> Iterator[Problem]:
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
