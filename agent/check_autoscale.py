"""What the types of `[autoscale]` can't say, and what of it is seldom meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent.check_values import pair_problems, unreadable, url_problem
from agent.sections import Config
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.hook_urls import read_prefix, read_url
from lb7.autoscale.policy import Policy
from mesos_dns.config import Duration
from mesos_dns.toml_tables import Problem, quoted, shown

_FILES = ("token_file", "ca_file", "cert_file", "key_file", "prometheus_token_file", "prometheus_ca_file")
_LIMITS = {"interval": (1.0, 300.0), "window": (2.0, 300.0), "drain_timeout": (0.0, 3600.0)}
"""Seconds, both included."""


def problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with the values, without looking at the machine."""
    section = config.autoscale
    if section is None:
        return
    for key, (low, high) in _LIMITS.items():
        value = getattr(section, key)
        if not low <= value <= high:
            text = f"expected {Duration(low)} to {Duration(high)}, got {value}"
            yield Problem(f"autoscale.{key}", text)
    yield from _edges(section)
    if section.prometheus:
        expected = "expected http(s)://HOST[:PORT], and a path only where a gateway has Prometheus below one"
        yield from url_problem("autoscale.prometheus", section.prometheus, expected, "set prometheus_token_file")
    elif section.prometheus_token_file or section.prometheus_ca_file:
        yield Problem("autoscale.prometheus", "expected the URL of the server that the token or certificate is for")
    for index, text in enumerate(section.hooks):
        yield from _hooks(f"autoscale.hooks[{index}]", text)
    yield from pair_problems("autoscale", section)
    for app, policy in section.apps.items():
        yield from _policy(app, policy, section)


def file_problems(config: Config) -> Iterator[Problem]:
    """Files that are named and can't be read."""
    for key in _FILES if config.autoscale is not None else ():
        name = getattr(config.autoscale, key)
        if name and (fault := unreadable(name)):
            yield Problem(f"autoscale.{key}", f"can't read {name!r}: {fault}")


def advice(config: Config) -> Iterator[Problem]:
    """What works, and is seldom meant."""
    section = config.autoscale
    if section is None:
        return
    if config.marathon is None and config.l7 is None:
        yield Problem("autoscale", "has no effect without [marathon], whose apps are scaled, or [l7], where they sleep")
    elif config.marathon is None:
        yield Problem("autoscale", "says here only which apps may sleep: without [marathon] nothing is scaled")
    elif config.zookeeper is None:
        yield Problem("autoscale", "without [zookeeper] this process alone decides: no other may have [autoscale]")
    if config.marathon is not None and config.zookeeper is None and config.relay is not None:
        text = "with [relay] and without [zookeeper] no edge hears which tasks are about to go, and requests may fail"
        yield Problem("autoscale", text)
    if not section.labels and not section.apps:
        yield Problem("autoscale.labels", "is off and there are no policies in autoscale.apps: no app is scaled")
    if not section.tls_verify:
        yield Problem(
            "autoscale.tls_verify", "is off: whoever can answer in an edge's place decides how apps are scaled"
        )
    if section.token_file and any(url.startswith("http://") for url in section.edges):
        yield Problem("autoscale.token_file", "is sent to edges over plain HTTP")
    if section.prometheus_token_file and section.prometheus.startswith("http://"):
        yield Problem("autoscale.prometheus_token_file", "is sent over plain HTTP")


def _edges(section: AutoscaleConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, text in enumerate(section.edges):
        path = f"autoscale.edges[{index}]"
        known = text.rstrip("/").lower()
        yield from url_problem(path, text, "expected http(s)://HOST[:PORT]", "set token_file or cert_file", bare=True)
        if known in seen:
            yield Problem(path, f"{shown(text)} is listed twice")
        seen.add(known)


def _hooks(path: str, text: str) -> Iterator[Problem]:
    """A beginning of URLs. One without the slash behind its host would be that of other hosts, too."""
    expected = "expected http(s)://HOST[:PORT]/ and perhaps a path"
    found = list(url_problem(path, text, expected, "hooks get none"))
    if not found and text.count("/") < 3:
        found.append(Problem(path, f"{expected}, got {shown(text)}"))
    yield from found or _read_by(read_prefix, path, text)


def _read_by(read: Callable[[str], object], path: str, text: str) -> Iterator[Problem]:
    """What makes a URL one that is never asked."""
    try:
        read(text)
    except ValueError as error:
        yield Problem(path, str(error))


def _policy(app: str, policy: Policy, section: AutoscaleConfig) -> Iterator[Problem]:
    path = f"autoscale.apps.{quoted(app)}"
    if len(app) < 2 or not app.startswith("/") or app.endswith("/") or app != app.strip():
        yield Problem(path, f"expected an app's id such as '/shop/web', got {shown(app)}")
    for index, metric in enumerate(policy.metrics):
        here = f"{path}.metrics[{index}]"
        if metric.kind == "prometheus" and not section.prometheus:
            yield Problem(here, "kind prometheus needs a server: set autoscale.prometheus")
        if metric.kind == "hook":
            expected = "expected http(s)://HOST[:PORT]/PATH"
            found = list(url_problem(f"{here}.url", metric.url, expected, "hooks get none", query=True))
            yield from found or _read_by(read_url, f"{here}.url", metric.url)
