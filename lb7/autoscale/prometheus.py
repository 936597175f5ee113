"""Metrics that a Prometheus server answers: instant queries of its HTTP API (/api/v1/query).

A query is to give one number: a scalar, or a vector of one sample. One that several apps have is put once.

A reading's time is when the answer came. The time in it is when the server evaluated the query, by the server's clock:
it tells nothing of how old the samples are (Prometheus looks back for five minutes), but how far the clocks are apart.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import msgspec

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.fetch import Fetcher, ReadError
from lb7.autoscale.policy import Kind, Metric
from lb7.autoscale.polling import Poller, latest
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.config import first_line
from mesos_dns.hosts import Hosts
from mesos_dns.model import Key
from mesos_dns.tls import Tls

WITHIN = 10.0
"""Seconds that a query may take; the server is told to give up then."""
MOST_BYTES = 1 << 20
AT_ONCE = 8
MOST_QUERIES = 1000
LONGEST_GET = 4000
"""Bytes of a query string; longer ones are sent as a form."""
KEPT = 10.0
"""Seconds for which the files with the token and the authorities are not read again."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?")


class _Data(msgspec.Struct, tag_field="resultType"):
    pass


class _Scalar(_Data, tag="scalar"):
    result: tuple[float, str]


class _Sample(msgspec.Struct):
    value: tuple[float, str] | None = None
    histogram: msgspec.Raw = msgspec.Raw(b"")


class _Vector(_Data, tag="vector"):
    result: list[_Sample]


class _Matrix(_Data, tag="matrix"):
    pass


class _String(_Data, tag="string"):
    pass


class _Result(msgspec.Struct):
    status: str
    data: _Scalar | _Vector | _Matrix | _String | None = None
    error: str = ""
    warnings: list[str] = []


def read_result(body: bytes, at: float) -> Reading:
    """The reading that an answer is which came `at` a time. Raises ValueError that says what it is instead."""
    try:
        result = msgspec.json.decode(body, type=_Result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not an answer of Prometheus: {error}") from None
    if result.status != "success" or result.data is None:
        raise ValueError(f"status {result.status[:20]!r}: {result.error[:300]!r}")
    # Part of what the server asks in its turn did not answer; what is there may be too little.
    return Reading(at=at, value=_number(result.data), partial=bool(result.warnings))


def _number(data: _Data) -> float:
    """The one number of a result. Raises ValueError."""
    if isinstance(data, _Scalar):
        text = data.result[1]
    elif isinstance(data, _Vector):
        if len(data.result) != 1:
            raise ValueError(f"{len(data.result)} samples, expected one: use sum()" if data.result else "no data")
        sample = data.result[0].value
        if sample is None:
            raise ValueError("a histogram, expected a number: use histogram_quantile()")
        text = sample[1]
    else:
        kind = "a range of samples" if isinstance(data, _Matrix) else "a string"
        raise ValueError(f"{kind}, expected a number")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]}, expected a number")
    return value


class PrometheusProvider:
    """Provider of the kind `prometheus`. `reads` and `failures` (by kind) count."""

    kinds: frozenset[Kind] = frozenset({"prometheus"})

    def __init__(self, config: AutoscaleConfig, hosts: Hosts) -> None:
        self._server = _Server(config, hosts)
        self._configured = bool(config.prometheus)
        self._poller: Poller[str, Reading] = Poller(
            "queries of Prometheus",
            self._server.ask,
            interval=config.interval,
            at_once=AT_ONCE,
            most=MOST_QUERIES,
        )
        self.failures = self._poller.failures

    @property
    def reads(self) -> int:
        """Queries that were put."""
        return self._poller.reads

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """See Provider."""
        if self._configured:
            metrics = (metric for app in apps.values() for metric in app.policy.metrics)
            self._poller.want(metric.query for metric in metrics if metric.kind in self.kinds)

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        """See Provider."""
        if not self._configured:
            return Reading(error="there is no server that queries can be put to: set [autoscale] prometheus")
        return latest(self._poller, metric.query, now, app.policy.max_age)

    async def run(self) -> None:
        """See Provider."""
        async with self._server.fetcher:
            await self._poller.run()


class _Server:
    """The server, with its token and its authorities as the files are now."""

    def __init__(self, config: AutoscaleConfig, hosts: Hosts) -> None:
        self._base = config.prometheus.rstrip("/")
        self._token_file = config.prometheus_token_file
        self._ca_file = config.prometheus_ca_file
        self.fetcher = Fetcher(hosts, within=WITHIN, limit=MOST_BYTES, at_once=2 * AT_ONCE)
        self._lock = asyncio.Lock()
        self._headers: dict[str, str] = {}
        self._tls: ssl.SSLContext | None = None
        self._until = -math.inf

    async def ask(self, query: str) -> Reading:
        """Put one query. Raises ReadError."""
        await self._read_files()
        url, form = f"{self._base}/api/v1/query", {"query": query, "timeout": f"{WITHIN:g}s"}
        encoded = urlencode(form)
        short = len(encoded) <= LONGEST_GET
        name = f"[autoscale] prometheus, query {query[:200]!r}"
        async with self.fetcher.answered(
            f"{url}?{encoded}" if short else url,
            name=name,
            headers=self._headers,
            tls=self._tls,
            form=None if short else form,
        ) as answer:
            body = await answer.read()
        try:
            return read_result(body, time.time())
        except ValueError as error:
            raise ReadError("value", f"{name}: {error}", name, conclusive=True) from None

    async def _read_files(self) -> None:
        """Read URL, token and authorities again where that was long ago. Raises ReadError."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now < self._until:
                return
            try:
                parts = urlsplit(self._base)
                if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                    raise ValueError("expected http(s)://HOST[:PORT][/PREFIX] without a password")
                self._headers, self._tls = await asyncio.to_thread(self._files, parts.scheme == "https")
            except (OSError, ValueError) as error:
                raise ReadError("file", f"[autoscale] prometheus: {error}", "files") from None
            self._until = now + KEPT

    def _files(self, secured: bool) -> tuple[dict[str, str], ssl.SSLContext | None]:
        """The headers and the TLS settings (blocks). Raises OSError, ValueError that name the file."""
        headers = {}
        if self._token_file:
            try:
                token = first_line(self._token_file).strip()
            except UnicodeDecodeError:
                token = ""
            if not token or not token.isascii() or not token.isprintable():
                raise ValueError(f"prometheus_token_file {self._token_file}: no token in its first line")
            headers["Authorization"] = f"Bearer {token}"
        return headers, Tls(self._ca_file).context() if secured else None
