"""What [admin] tells, and what it never tells."""

from __future__ import annotations

import os

import pytest

from agent.http import HttpServer
from agent.http_admin import status, texts
from agent.sections import AdminConfig, Config
from mesos_dns.config import DnsConfig, MesosConfig
from mesos_dns.sources.counters import SourceCounters
from tests.fakes.api import LOOPBACK, Asking, context_of
from tests.fakes.questions import task

SECRET = "hunter2-hunter2"


class Source:
    """A source that counts."""

    def __init__(self) -> None:
        self.counters = SourceCounters()


def test_addresses_as_people_write_them() -> None:
    assert texts([("127.0.0.1", 53), ("::1", 53)]) == ["127.0.0.1:53", "[::1]:53"]


@pytest.mark.asyncio
async def test_status() -> None:
    context = context_of(task(1))
    source = Source()
    source.counters.events["TASK_ADDED"] = 4
    context.sources = {"mesos": source}
    context.dns_addresses = lambda: [("127.0.0.1", 5353)]
    context.config_path = "/etc/pharos.toml"
    context.dns_counters.queries["udp", "A"] = 3
    config = Config(dns=DnsConfig(), mesos=MesosConfig(masters=("m:5050",), secret=SECRET))
    found = await status(context, config, {"api": [("127.0.0.1", 8123)]})
    assert found["ready"]
    assert (found["pid"], found["version"], found["config"]) == (os.getpid(), context.version, "/etc/pharos.toml")
    assert found["roles"] == ["mesos", "dns"]
    assert found["sources"][0]["events"] == {"TASK_ADDED": 4}
    assert found["sources"][0]["synced"]
    assert (found["catalog"]["task"], found["catalog"]["version"]) == (1, 3)
    assert found["dns"]["addresses"] == ["127.0.0.1:5353"]
    assert (found["dns"]["serial"], found["dns"]["queries"]) == (context.view.serial, 3)
    assert found["dns"]["zones"][0] == {"origin": "mesos", "names": found["dns"]["zones"][0]["names"], "tasks": 1}
    assert found["autoscale"] is None
    assert found["http"] == {"api": ["127.0.0.1:8123"]}
    assert SECRET not in str(found)


@pytest.mark.asyncio
async def test_routes() -> None:
    asking = Asking(context_of())
    mesos = MesosConfig(masters=("m:5050",), secret=SECRET)
    asking.server = HttpServer(asking.context, Config(mesos=mesos, admin=AdminConfig(listen=LOOPBACK)))
    async with asking:
        found = await asking.json("/status", part="admin")
        port = asking.server.part_addresses()["admin"][0][1]
        assert found["http"] == {"admin": [f"127.0.0.1:{port}"]}
        shown = await asking.json("/v1/config", part="admin")
        assert shown["mesos"]["secret"] == "***"
        assert "hunter2" not in str(shown)
        code, kind, page = await asking.ask("/", part="admin")
        assert (code, kind) == (200, "text/html; charset=utf-8")
        for path in ("status", "v1/config", "metrics", "readyz"):
            assert f'href="{path}"' in page
            assert (await asking.ask(f"/{path}", part="admin"))[0] == 200
        assert (await asking.ask("/livez", part="admin"))[::2] == (200, "ok")
        assert (await asking.ask("/v1/tasks", part="admin"))[0] == 404
