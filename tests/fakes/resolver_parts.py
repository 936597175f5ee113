"""A node's resolver without a server: what the metrics and `pharos resolve` look at."""

from __future__ import annotations

from typing import Any

from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.resolver.resolver import Resolver
from mesos_dns.resolver.upstreams import Upstreams
from tests.fakes.resolving import plain_responder


class ResolverParts:
    """An `api_context.ResolverParts`; `machine` is what it keeps on the machine (`addresses`, `resolv_conf`)."""

    def __init__(self, upstreams: Upstreams, **machine: Any) -> None:
        self.upstreams = upstreams
        self.resolver = Resolver(ResolverConfig(), upstreams)
        self.resolver.attach(plain_responder())
        self._machine = {"addresses": None, "resolv_conf": None, **machine}

    def status(self) -> dict[str, Any]:
        return {"cache": self.resolver.status(), **self._machine}
