"""Metrics that anything else tells: a URL whose answer is a number, as JSON.

    {"value": 12.5}    {"value": 12.5, "at": 1783330000.25}    12.5

`at` (seconds since 1970) is when the number was right, for who hands on what it has measured earlier. Nothing but the
request is sent: no credentials, no cookies.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping

import msgspec

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.fetch import Fetcher
from lb7.autoscale.hook_urls import HookUrl, allowed, read_prefix, read_url
from lb7.autoscale.policy import Kind, Metric
from lb7.autoscale.polling import Poller, latest
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.hosts import Hosts
from mesos_dns.model import Key

log = logging.getLogger(__name__)

WITHIN = 5.0
"""Seconds."""
MOST_BYTES = 64 << 10
AT_ONCE, AT_ONCE_EACH = 32, 4
"""Of all, and of one server."""
MOST_HOOKS = 1000


class _Told(msgspec.Struct):
    value: float
    at: float | None = None


def read_number(body: bytes, now: float) -> Reading:
    """The reading that an answer is. Raises ValueError. A time that is yet to come is now: clocks differ."""
    try:
        told = msgspec.json.decode(body, type=float | _Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'expected {{"value": NUMBER}}: {error}') from None
    value, at = (told, None) if isinstance(told, float) else (told.value, told.at)
    if not math.isfinite(value) or (at is not None and not math.isfinite(at)):
        raise ValueError("expected a finite number")
    return Reading(at=now if at is None else min(at, now), value=value)


class HookProvider:
    """Provider of the kind `hook`. `reads` and `failures` (by kind) count."""

    kinds: frozenset[Kind] = frozenset({"hook"})

    def __init__(self, config: AutoscaleConfig, hosts: Hosts) -> None:
        self._fetcher = Fetcher(hosts, within=WITHIN, limit=MOST_BYTES, at_once=2 * AT_ONCE)
        self._prefixes = _prefixes(config.hooks)
        self._refusals: dict[tuple[str, bool], str] = {}
        self._poller: Poller[str, Reading] = Poller(
            "hooks",
            self._ask,
            interval=config.interval,
            at_once=AT_ONCE,
            most=MOST_HOOKS,
            place=lambda url: read_url(url).origin,
            at_once_each=AT_ONCE_EACH,
        )
        self.failures = self._poller.failures

    @property
    def reads(self) -> int:
        """Hooks that were asked."""
        return self._poller.reads

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """See Provider."""
        seen = {}
        for app in apps.values():
            for metric in app.policy.metrics:
                if metric.kind == "hook":
                    asked = (metric.url, app.told_by == "config")
                    seen[asked] = self._refusal(*asked)
        self._refusals = seen
        self._poller.want(url for (url, _), refusal in seen.items() if not refusal)

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        """See Provider."""
        if refusal := self._refusal(metric.url, app.told_by == "config"):
            return Reading(error=refusal)
        return latest(self._poller, metric.url, now, app.policy.max_age)

    async def run(self) -> None:
        """See Provider."""
        async with self._fetcher:
            await self._poller.run()

    def _refusal(self, url: str, trusted: bool) -> str:
        """Why a URL is not asked; empty where it is. `trusted`: the configuration has it, not a label."""
        known = self._refusals.get((url, trusted))
        if known is not None:
            return known
        try:
            read = read_url(url)
        except ValueError as error:
            return f"the hook's URL can't be asked: {error}"
        if trusted or any(allowed(read, prefix) for prefix in self._prefixes):
            return ""
        return f"{read.name} begins with none of [autoscale] hooks, and only there may labels have hooks"

    async def _ask(self, url: str) -> Reading:
        """Ask one hook. Raises ReadError."""
        async with self._fetcher.answered(url, name=read_url(url).name) as answer:
            body = await answer.read()
            try:
                return read_number(body, time.time())
            except ValueError as error:
                raise answer.refused(str(error)) from None


def _prefixes(texts: tuple[str, ...]) -> list[HookUrl]:
    """The prefixes that can be read; the others allow nothing."""
    found = []
    for number, text in enumerate(texts):
        try:
            found.append(read_prefix(text))
        except ValueError as error:
            # not repeated: it may hold a password
            log.error(
                "[autoscale] hooks[%d] is no prefix that URLs can begin with, and allows nothing: %s", number, error
            )
    return found
