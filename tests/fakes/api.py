"""The lookup API of a few entities, on a loopback port."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from agent.http import HttpServer
from agent.sections import AdminConfig, Config
from mesos_dns.api import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.config import ApiConfig, DnsConfig
from mesos_dns.model import Entity, Sync
from mesos_dns.zone import ZoneView
from tests.fakes.questions import AGENT, MARATHON

LOOPBACK = ("127.0.0.1:0",)


def context_of(*entities: Entity, synced: bool = True, **dns: Any) -> ApiContext:
    """A context over MARATHON, AGENT and what is given, said by a source "mesos"."""
    config = DnsConfig(**dns)
    catalog, view = Catalog(), ZoneView(config, ns_addresses=("127.0.0.1",))
    catalog.register("mesos")
    catalog.listen(view.apply)
    catalog.publish("mesos", Sync((MARATHON, AGENT, *entities)))
    catalog.flush()
    if synced:
        catalog.mark("mesos", connected=True, synced=True)
    return ApiContext(view=view, catalog=catalog, dns=config)


class Asking:
    """A running server and a client of it: `async with Asking(context) as api: await api.json("/v1/tasks")`."""

    def __init__(
        self,
        context: ApiContext,
        api: ApiConfig | None = None,
        admin: AdminConfig | None = None,
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        self.context = context
        self.server = HttpServer(context, Config(api=api or ApiConfig(listen=LOOPBACK), admin=admin), more)

    async def __aenter__(self) -> Asking:
        await self.server.start()
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()
        await self.server.close(1)

    def url(self, path: str, part: str = "api", scheme: str = "http") -> URL:
        """Where a path is; it is sent as it is written."""
        host, port = self.server.part_addresses()[part][0]
        return URL(f"{scheme}://{host}:{port}{path}", encoded=True)

    async def ask(self, path: str, method: str = "GET", *, part: str = "api", **headers: str) -> tuple[int, str, str]:
        """(status, content type, body); `accept="text/html"` sends that header."""
        async with self.session.request(method, self.url(path, part), headers=headers) as response:
            return response.status, response.headers.get("Content-Type", ""), await response.text()

    async def json(self, path: str, *, part: str = "api") -> Any:
        """The JSON that a path answers with 200."""
        status, kind, body = await self.ask(path, part=part)
        assert (status, kind) == (200, "application/json"), body
        return json.loads(body)
