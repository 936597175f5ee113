"""Where an answer comes from."""

from __future__ import annotations

from typing import Any

import pytest

from mesos_dns.api_context import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.explain import explain
from mesos_dns.names import PTR, A
from mesos_dns.resolver.upstreams import Upstreams
from mesos_dns.wire import IllegalName
from mesos_dns.zone import ZoneView
from tests.fakes.extra_records import Extra
from tests.fakes.questions import AGENT, MARATHON, put, task
from tests.fakes.resolver_parts import ResolverParts
from tests.fakes.resolving import forward_of
from tests.fakes.upstreams import right, upstream

pytestmark = pytest.mark.asyncio


def context(parts: ResolverParts | None = None, **dns: Any) -> ApiContext:
    config = DnsConfig(**dns)
    view = ZoneView(config)
    view.apply(put(AGENT, MARATHON, task()))
    return ApiContext(view, Catalog(), dns=config, resolving=lambda: parts)


async def test_our_own_names() -> None:
    made = context()
    assert explain(made, "WEB.marathon.mesos.", A) == {"source": "zone", "zone": "mesos"}
    address = AGENT.addresses[0].split(".")
    assert explain(made, f"{'.'.join(reversed(address))}.in-addr.arpa", PTR) == {"source": "zone", "zone": "mesos"}


async def test_a_virtual_address_points_to_its_zone() -> None:
    made = context()
    made.view = ZoneView(made.dns, extra=Extra(("web.marathon", A, b"\x0b\0\0\7")))
    made.view.fill_extra()
    zone = {"source": "zone", "zone": "l4lb.thisdcos.directory"}
    assert explain(made, "web.marathon.l4lb.thisdcos.directory", A) == zone
    assert explain(made, "7.0.0.11.in-addr.arpa", PTR) == zone
    assert explain(made, "8.0.0.11.in-addr.arpa", PTR)["source"] == "nobody"


async def test_what_is_forwarded_and_what_is_nobodys() -> None:
    made = context(forward=("10.0.0.2",), zones={"corp.example": ("10.0.0.3",), "a.corp.example": ("10.0.0.4",)})
    assert explain(made, "x.a.corp.example", A) == {
        "source": "forward",
        "zone": "a.corp.example",
        "upstreams": ["10.0.0.4"],
    }
    assert explain(made, "xcorp.example", A) == {"source": "forward", "zone": ".", "upstreams": ["10.0.0.2"]}
    assert explain(context(), "example.org", A) == {"source": "nobody", "zone": ".", "upstreams": []}


async def test_a_resolver_tells_of_its_cache_and_its_upstreams() -> None:
    async with upstream(right) as server, upstream(right) as other:
        zones = {"corp.example": [other.address()], "l4lb.thisdcos.directory": [other.address()]}
        parts = ResolverParts(Upstreams([server.address()], zones, timeout=5, tls=None))
        made = context(parts)
        try:
            assert explain(made, "leader.mesos", A)["source"] == "zone"
            assert explain(made, "a.l4lb.thisdcos.directory", A)["upstreams"] == [other.address().label]
            assert explain(made, "x.corp.example", A) == {
                "source": "upstreams",
                "zone": "corp.example",
                "upstreams": [other.address().label],
            }
            query = b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1\0\1"
            assert await parts.resolver.resolve(query, forward_of(query), "udp") is not None
            told = explain(made, "www.example.org", A)
            assert (told["source"], told["upstream"], told["kind"], told["stale"]) == (
                "cache",
                server.address().label,
                "positive",
                False,
            )
            assert told["lifetime"] == 60
            assert 0 <= told["age"] < 60
        finally:
            await parts.resolver.close()
            await parts.upstreams.close()


async def test_what_is_no_name() -> None:
    with pytest.raises(IllegalName):
        explain(context(), "a..b", A)
