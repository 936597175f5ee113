"""CPU and memory of tasks from agents that answer as real ones do, and from some that do not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lb7.autoscale import agent_usage, polling
from lb7.autoscale import agents as agents_module
from lb7.autoscale.agents import AgentsProvider
from lb7.autoscale.policy import Kind, Metric
from lb7.autoscale.scaled_app import AppTask, ScaledApp
from mesos_dns.config import MesosConfig
from mesos_dns.model import Node
from mesos_dns.tls import server_context
from tests.fakes.answering import HOSTILE, Answering
from tests.fakes.scaled import known, nameless, providing, scaled_app

PATH = "/monitor/statistics"
DATA = Path(__file__).resolve().parents[3] / "data" / "mesos-api"
FRAMEWORK = "56a7fa83-4a40-4149-9036-515fc04f4a04-0000"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of tests, not of agents."""
    monkeypatch.setattr(polling, "SHORTEST_INTERVAL", 0.02)
    monkeypatch.setattr(polling, "LONGEST_PAUSE", 0.02)


def app_of(kind: Kind, *tasks: AppTask, name: str = "/web") -> ScaledApp:
    return scaled_app(name, Metric(kind=kind, target=0.7), tasks=tasks, framework_id=FRAMEWORK)


def provider(*nodes: Node, config: MesosConfig | None = None) -> AgentsProvider:
    by_id = {node.id: node for node in nodes}
    return AgentsProvider(config or MesosConfig(), lambda cluster, name: by_id.get(name), nameless(), 0.02)


def node_of(server: Answering, name: str = "S1") -> Node:
    return Node(name, "agent.example", ("127.0.0.1",), server.port)


def containers(at: float = 0.0, **seconds: float) -> bytes:
    """An agent's answer: CPU seconds by task at a time (0: now); each has one CPU and uses half of its memory."""
    told = {"timestamp": at or time.time(), "cpus_soft_limit": 1.0, "mem_rss_bytes": 50, "mem_limit_bytes": 100}
    return json.dumps(
        [
            {
                "executor_id": name,
                "framework_id": FRAMEWORK,
                "source": name,
                "statistics": {**told, "cpus_user_time_secs": value},
            }
            for name, value in seconds.items()
        ]
    ).encode()


@pytest.mark.asyncio
async def test_what_a_real_agent_said() -> None:
    first, second = ((DATA / f"agent_statistics_{number}.json").read_bytes() for number in (1, 2))
    tasks = (AppTask("group_web.instance-6474587c-e6fa-11f1-a2b6-02fc00000001._app.1", "S1"),)
    async with Answering() as server:
        server.answers[PATH] = first
        memory, cpu = app_of("memory", *tasks), app_of("cpu", *tasks, name="/cpu")
        agents = provider(node_of(server))
        async with providing(agents, memory, cpu):
            found = await known(agents, memory, lambda found: not found.error)
            assert found.each == {tasks[0].id: pytest.approx(92127232 / 67108864)}
            assert not found.partial
            assert time.time() - 60 < found.at <= time.time()
            assert "no agent tells the cpu" in agents.reading(cpu, cpu.policy.metrics[0], time.time()).error
            server.answers[PATH] = second
            found = await known(agents, cpu, lambda found: not found.error)
            assert found.each == {tasks[0].id: pytest.approx(0.03 / (1795409867.76394 - 1795409863.22163) / 0.2)}
        assert agents.reads == server.count(PATH)  # once for both apps


@pytest.mark.asyncio
async def test_cpu_over_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_usage, "SHORTEST", 0.0)
    began = time.time()

    async def measure(request: web.Request) -> web.StreamResponse:
        now = time.time()
        return web.Response(body=containers(now, a=(now - began) / 4))

    async with Answering() as server:
        server.answers[PATH] = measure
        app = app_of("cpu", AppTask("a", "S1"))
        agents = provider(node_of(server))
        async with providing(agents, app):
            found = await known(agents, app, lambda found: bool(found.each))
        assert found.each == {"a": pytest.approx(0.25, rel=1e-3)}


@pytest.mark.asyncio
async def test_only_agents_that_host_such_apps_are_asked() -> None:
    async with Answering() as server, Answering() as other:
        server.answers[PATH] = other.answers[PATH] = containers(a=1)
        app = app_of("memory", AppTask("a", "S1"))
        busy = scaled_app("/b", Metric(kind="rps", target=1), tasks=(AppTask("b", "S2"),))
        agents = provider(node_of(server), node_of(other, "S2"))
        async with providing(agents, app, busy):
            await known(agents, app, lambda found: server.count(PATH) > 2)
            assert not other.asked
            agents.want({busy.key: busy})
            assert "not read yet" in agents.reading(app, app.policy.metrics[0], time.time()).error


@pytest.mark.asyncio
async def test_an_agent_that_does_not_answer_makes_it_a_part() -> None:
    async with Answering() as server, Answering() as dead:
        server.answers[PATH] = containers(a=1, b=1)
        dead.answers[PATH] = None
        app = app_of("memory", AppTask("a", "S1"), AppTask("b", "S1"), AppTask("c", "S2"), AppTask("d", "S3"))
        agents = provider(node_of(server), node_of(dead, "S2"))
        async with providing(agents, app):
            found = await known(agents, app, lambda found: bool(found.each))
            assert found.each == {"a": 0.5, "b": 0.5}
            assert found.partial
            # Tasks that do not serve yet are not missed.
            starting = app_of("memory", AppTask("a", "S1"), AppTask("c", "S2", ready=False), AppTask("d", ready=False))
            assert not agents.reading(starting, app.policy.metrics[0], time.time()).partial
            unplaced = app_of("memory", AppTask("a", "S1"), AppTask("e"))
            assert agents.reading(unplaced, app.policy.metrics[0], time.time()).partial
            gone = app_of("memory", AppTask("d", "S3"))
            found = await known(agents, gone, lambda found: "S3" in found.error)
            assert "not known to the master" in found.error


@pytest.mark.asyncio
@pytest.mark.parametrize("kept", [0, 500])
async def test_agents_that_hang_delay_no_other(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_module, "MOST_KEPT", kept)
    monkeypatch.setattr(agents_module, "WITHIN", 60.0)  # those that hang do so until the end
    async with Answering() as server, Answering() as hanging:
        server.answers[PATH], hanging.answers[PATH] = containers(a=1), None
        app = app_of("memory", AppTask("a", "S1"))
        other = app_of("memory", *(AppTask(f"t{n}", f"H{n}") for n in range(60)), name="/other")
        agents = provider(node_of(server), *(node_of(hanging, f"H{n}") for n in range(60)))
        async with providing(agents, app):
            await known(agents, app)
            agents.want({one.key: one for one in (app, other)})
            await known(agents, app, lambda _: len(hanging.asked) >= 16)
            count = server.count(PATH)
            await known(agents, app, lambda _: server.count(PATH) > count + 5)
            assert len(hanging.asked) == 16
            assert (server.asked[-1].headers.get("Connection") == "close") is (kept == 0)


@pytest.mark.asyncio
async def test_values_of_an_agent_that_is_lost_count_until_they_are_old() -> None:
    async with Answering() as server:
        server.answers[PATH] = containers(a=1)
        app = app_of("memory", AppTask("a", "S1"))
        agents = provider(node_of(server))
        async with providing(agents, app):
            before = await known(agents, app, lambda found: bool(found.each))
            server.answers[PATH] = HOSTILE["broken"]
            found = await known(agents, app, lambda found: found.partial)
            assert found.each == before.each
            late = agents.reading(app, app.policy.metrics[0], time.time() + 61)
            assert "status 500" in late.error
            assert late.each is None


@pytest.mark.asyncio
@pytest.mark.parametrize("name", HOSTILE.keys() - {"huge"})
async def test_hostile_answers_are_errors(name: str) -> None:
    await refuses(HOSTILE[name])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"7",
        b"null",
        b"[1]",
        b'[], "x": 1',
        b'[]}, {"all": []',
        b"[" + containers(a=1)[1:-1] + b",]",
        containers(a=1)[:-1],
        containers(a=1) + b"[]",
        b'["' + b"x" * (1 << 20) + b'"]',
        b'[{"executor_id": "a", "framework_id": "F", "statistics": {"timestamp": "x"}}]',
    ],
)
async def test_what_is_no_list_of_containers(body: bytes) -> None:
    await refuses(body)


async def refuses(body: Any) -> None:
    """That this answer is an error, and that the next one is read."""
    async with Answering() as server:
        server.answers[PATH] = body
        app = app_of("memory", AppTask("a", "S1"))
        agents = provider(node_of(server))
        async with providing(agents, app):
            found = await known(agents, app)
            assert found.each is None
            assert "agent S1" in found.error
            assert len(found.error) < 1000
            server.answers[PATH] = containers(a=1)
            assert (await known(agents, app, lambda found: bool(found.each))).each == {"a": 0.5}


@pytest.mark.asyncio
async def test_a_container_that_cannot_be_read_costs_no_other() -> None:
    async with Answering() as server:
        server.answers[PATH] = b'[{"executor_id": 7},' + containers(a=1)[1:]
        app = app_of("memory", AppTask("a", "S1"))
        agents = provider(node_of(server))
        async with providing(agents, app):
            assert (await known(agents, app)).each == {"a": 0.5}


@pytest.mark.asyncio
async def test_a_large_answer_is_read() -> None:
    async with Answering() as server:
        server.answers[PATH] = containers(**{f"t{n}": n for n in range(5000)})
        app = app_of("memory", AppTask("t4999", "S1"))
        agents = provider(node_of(server))
        async with providing(agents, app):
            assert (await known(agents, app)).each == {"t4999": 0.5}


@pytest.mark.asyncio
async def test_an_agent_is_asked_as_the_masters_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority, own, roots = trustme.CA(), tmp_path / "own.pem", tmp_path / "roots.pem"
    authority.issue_cert("agent.example").private_key_and_cert_chain_pem.write_to_path(str(own))
    authority.cert_pem.write_to_path(str(roots))
    (tmp_path / "secret").write_text("s3cret\n")
    config = MesosConfig(
        masters=("https://m.example:5050",),
        ca_file=str(roots),
        auth="basic",
        principal="me",
        secret_file=str(tmp_path / "secret"),
    )
    async with Answering(server_context(str(own), "", [])) as server:
        server.answers[PATH] = containers(a=1, b=1)
        app, other = app_of("memory", AppTask("a", "S1")), app_of("memory", AppTask("b", "S2"), name="/b")
        wrong = Node("S2", "another.example", ("127.0.0.1",), server.port)  # which its certificate does not name
        agents = provider(node_of(server), wrong, config=config)
        async with providing(agents, app, other):
            assert (await known(agents, app)).each == {"a": 0.5}
            assert "certificate" in (await known(agents, other)).error
        assert {asked.headers["Authorization"] for asked in server.asked} == {"Basic bWU6czNjcmV0"}
    assert "s3cret" not in caplog.text


@pytest.mark.asyncio
async def test_a_refused_login_is_tried_once_more_and_then_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("old\n")
    config = MesosConfig(auth="basic", principal="me", secret_file=str(tmp_path / "secret"))

    async def check(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Basic bWU6bmV3":
            return web.Response(body=containers(a=1))
        (tmp_path / "secret").write_text("new\n")
        return web.Response(status=401)

    async with Answering() as server:
        server.answers[PATH] = HOSTILE["login"]
        app = app_of("memory", AppTask("a", "S1"))
        agents = provider(node_of(server), config=config)
        async with providing(agents, app):
            assert "credentials are refused" in (await known(agents, app)).error
            server.answers[PATH] = check
            assert (await known(agents, app, lambda found: bool(found.each))).each == {"a": 0.5}


@pytest.mark.asyncio
async def test_a_service_account_logs_in_once_for_all_agents(tmp_path: Path) -> None:
    account = tmp_path / "account.json"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    async def log_in(request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": f"t{server.count('/login')}"})

    async def check(request: web.Request) -> web.StreamResponse:
        known_token = request.headers["Authorization"] == f"token=t{good}"
        return web.Response(body=containers(a=1, b=1)) if known_token else web.Response(status=401)

    async with Answering() as server:
        good = 1
        server.answers |= {PATH: check, "/login": log_in}
        account.write_text(json.dumps({"uid": "pharos", "private_key": text, "login_endpoint": f"{server.url}/login"}))
        app = app_of("memory", *(AppTask("a", f"S{n}") for n in range(8)))
        agents = provider(
            *(node_of(server, f"S{n}") for n in range(8)),
            config=MesosConfig(auth="iam", iam_config_file=str(account)),
        )
        async with providing(agents, app):
            await known(agents, app, lambda found: bool(found.each) and not found.partial)
            assert server.count("/login") == 1
            good = 2  # the old one is valid no longer
            await known(agents, app, lambda _: server.count("/login") >= 2)
            await known(agents, app, lambda found: bool(found.each) and not found.partial)
            assert server.count("/login") == 2


@pytest.mark.asyncio
async def test_credentials_are_for_the_agents_of_one_cluster() -> None:
    async with Answering() as server:
        stranger = Node("S1", "agent.example", ("127.0.0.1",), server.port, cluster="other")
        app = app_of("memory", AppTask("a", "S1"))
        agents = provider(stranger, config=MesosConfig(auth="basic", principal="me", secret="s"))
        async with providing(agents, app):
            assert "not of [mesos] name" in (await known(agents, app)).error
        assert not server.asked


@pytest.mark.asyncio
async def test_another_address_is_tried_where_one_fails() -> None:
    async with Answering() as server:
        server.answers[PATH] = containers(a=1)
        node = Node("S1", "agent.example", ("127.0.0.77", "127.0.0.1"), server.port)
        app = app_of("memory", AppTask("a", "S1"))
        agents = provider(node)
        async with providing(agents, app):
            assert (await known(agents, app, lambda found: bool(found.each))).each == {"a": 0.5}


@pytest.mark.asyncio
async def test_without_mesos_the_section_is_named_and_nothing_is_read() -> None:
    agents = AgentsProvider(None, lambda cluster, name: None, nameless())
    app = app_of("cpu", AppTask("a", "S1"))
    async with providing(agents, app):
        assert "[mesos]" in (await known(agents, app)).error
        assert agents.reads == 0
