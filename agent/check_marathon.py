"""What the types of `[marathon]` can't say, and what of it is seldom meant."""

from __future__ import annotations

from collections.abc import Iterator

from agent import check_values
from agent.check_values import pair_problems
from agent.sections import Config
from mesos_dns.config import MarathonConfig
from mesos_dns.toml_tables import Problem

_URL = "expected http(s)://HOST[:PORT], and a path only where a gateway has Marathon below one"


def problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with the values, without looking at the machine."""
    marathon = config.marathon
    if marathon is None:
        return
    yield from _urls(marathon)
    if not marathon.urls and config.mesos is None:
        yield Problem("marathon.urls", "expected http(s)://HOST:PORT of Marathon, or a section [mesos] that finds it")
    if not marathon.urls and not marathon.frameworks:
        yield Problem("marathon.frameworks", "expected the name of a framework that is a Marathon, or urls")
    yield from _credentials(marathon)
    yield from pair_problems("marathon", marathon)


def advice(config: Config) -> Iterator[Problem]:
    """What works, and is seldom meant."""
    marathon = config.marathon
    if marathon is None:
        return
    if config.mesos is not None and config.mesos.name != marathon.cluster:
        text = f"{marathon.cluster!r} is not mesos.name, {config.mesos.name!r}: its apps don't meet their tasks"
        yield Problem("marathon.cluster", text)
    if config.relay is not None:
        yield Problem("marathon", "is read here beside [relay]: what servers tell of the same Marathon counts more")
    if not marathon.tls_verify:
        yield Problem("marathon.tls_verify", "is off: whoever can answer in Marathon's place decides every route")
    if marathon.auth in ("basic", "token") and any(url.startswith("http://") for url in marathon.urls):
        yield Problem("marathon.auth", "sends the secret over plain HTTP")


def url_fault(text: str) -> str:
    """Why a URL can't be Marathon's, "" when it can. Nothing before an "@" is told: it may be a secret."""
    return check_values.url_fault(text, _URL, "set auth, principal and secret_file")


def _urls(marathon: MarathonConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, text in enumerate(marathon.urls):
        path = f"marathon.urls[{index}]"
        if fault := url_fault(text):
            yield Problem(path, fault)
        elif text.rstrip("/").lower() in seen:
            yield Problem(path, f"{text!r} is listed twice")
        seen.add(text.rstrip("/").lower())


def _credentials(marathon: MarathonConfig) -> Iterator[Problem]:
    if marathon.auth == "basic" and not marathon.principal:
        yield Problem("marathon.principal", 'auth = "basic" needs the user name')
    if marathon.auth in ("basic", "token") and not marathon.secret and not marathon.secret_file:
        yield Problem("marathon.secret", f'auth = "{marathon.auth}" needs secret_file (or secret)')
    if marathon.auth == "iam" and not marathon.iam_config_file:
        yield Problem("marathon.iam_config_file", 'auth = "iam" needs the service account file')
    if marathon.secret and marathon.secret_file:
        yield Problem("marathon.secret", "expected one of secret and secret_file, got both")
