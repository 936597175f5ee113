"""The route view: what a change of the catalog does to the table, and what listeners hear of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from msgspec import structs

from lb7.config import L7Config
from lb7.labels import read_app
from lb7.table import RouteTable, Server, TableDelta
from lb7.view import RouteView
from mesos_dns.catalog import Catalog
from mesos_dns.model import App, Entity, Framework, Health, Put, Sync, Task
from tests.fakes.marathon_apps import FRAMEWORK, FollowedTable, app, delta, table_of, task, tasks, view_of

COMPAT = L7Config(compat="marathon-lb")
WEB = app("/web", {"0_VHOST": "a.b"})
API = app("/api", {"0_VHOST": "a.b", "0_PATH": "/api"}, ports=(10001,))


class Heard(FollowedTable):
    """What a listener hears, change by change."""

    def after(self, *entities: Entity, gone: tuple[Entity, ...] = ()) -> list[TableDelta]:
        """What it hears of a change; its table is the view's then."""
        self.deltas.clear()
        self.view.apply(delta(*entities, gone=[entity.key for entity in gone]))
        self.view.flush()
        assert self.table == self.view.table
        return list(self.deltas)


def servers(table: RouteTable, cluster: str) -> list[str]:
    return [server.id for server in table.clusters[cluster].servers]


def test_an_app_and_its_tasks_become_a_cluster_with_rules() -> None:
    table = table_of(WEB, *tasks(WEB))
    assert table.listeners.keys() == {"http", "https", "app_id", "port:10000"}
    assert table.hosts.keys() == {("http", "a.b"), ("https", "a.b"), ("app_id", "/web"), ("port:10000", "")}
    assert servers(table, "/web:10000") == ["10.1.0.1:31000", "10.1.0.2:31000"]


def test_the_common_listeners() -> None:
    found = table_of().listeners
    assert {name: (one.table, one.by, one.tls, one.addresses) for name, one in found.items()} == {
        "http": ("http", "host", False, (":80",)),
        "https": ("https", "host", True, (":443",)),
        "app_id": ("app_id", "app_id", False, ("127.0.0.1:9091",)),
    }
    assert table_of(certificates=False).listeners.keys() == {"http", "app_id"}
    assert RouteView(L7Config(cert_dir="/etc/certs")).table.listeners.keys() == {"http", "https", "app_id"}
    compat = table_of(config=structs.replace(COMPAT, group_https_by_vhost=True)).listeners
    assert (compat["http"].by, compat["https"].by, compat["https"].known_names) == ("host_port", "sni", True)


def test_tasks_change_clusters_alone() -> None:
    heard = Heard(view_of(None, WEB, *tasks(WEB)))
    (told,) = heard.after(structs.replace(tasks(WEB)[1], health=Health.UNHEALTHY))
    assert (told.listeners, told.hosts, list(told.clusters)) == ({}, {}, ["/web:10000"])
    assert servers(heard.table, "/web:10000") == ["10.1.0.1:31000"]
    (told,) = heard.after(gone=(tasks(WEB)[0],))
    assert servers(heard.table, "/web:10000") == []
    assert ("http", "a.b") in heard.table.hosts


def test_what_changes_nothing_is_not_told() -> None:
    heard = Heard(view_of(None, WEB, *tasks(WEB)))
    assert heard.after(structs.replace(tasks(WEB)[0], version="2")) == []
    assert heard.after(structs.replace(WEB, deployments=("d",))) == []
    assert heard.after(WEB, *tasks(WEB)) == []
    assert heard.after(app("/other", group="internal")) == []


def test_an_app_touches_its_own_hosts_and_ports_alone() -> None:
    heard = Heard(view_of(None, WEB, *tasks(WEB)))
    (told,) = heard.after(API, *tasks(API))
    assert told.hosts.keys() == {("http", "a.b"), ("https", "a.b"), ("app_id", "/api"), ("port:10001", "")}
    assert told.listeners.keys() == {"port:10001"}
    assert told.clusters.keys() == {"/api:10001"}
    (told,) = heard.after(gone=(API,))
    assert told.hosts["app_id", "/api"] is None
    assert told.listeners == {"port:10001": None}
    assert told.clusters == {"/api:10001": None}


def test_tasks_may_come_before_their_app() -> None:
    view = view_of(None, *tasks(WEB))
    assert not view.table.clusters
    view.apply(delta(WEB))
    view.flush()
    assert len(servers(view.table, "/web:10000")) == 2


def test_a_task_that_becomes_another_apps() -> None:
    one = tasks(WEB)[0]
    heard = Heard(view_of(None, WEB, API, one))
    heard.after(structs.replace(one, app="/api"))
    assert servers(heard.table, "/web:10000") == []
    assert servers(heard.table, "/api:10001") == ["10.1.0.1:31000"]


def test_a_table_that_was_taken_never_changes() -> None:
    view = view_of(None, WEB, *tasks(WEB))
    before = view.table
    assert view.table is before
    view.apply(delta(gone=[WEB.key]))
    view.flush()
    assert "/web:10000" in before.clusters
    assert "/web:10000" not in view.table.clusters


# --- what Mesos says ------------------------------------------------------------------------------


def test_what_mesos_says_of_a_task_counts_too() -> None:
    overlay = tasks(WEB)[0]
    known = Framework(id=FRAMEWORK, name="marathon")
    mesos = Task(framework_id=FRAMEWORK, id=overlay.task_id, name="web", node_id="n", state="TASK_RUNNING")
    heard = Heard(view_of(None, WEB, overlay, mesos, known))
    assert len(servers(heard.table, "/web:10000")) == 1
    for change in ({"health": Health.UNHEALTHY}, {"state": "TASK_KILLING"}):
        heard.after(structs.replace(mesos, **change))
        assert servers(heard.table, "/web:10000") == []
        heard.after(mesos)
        assert len(servers(heard.table, "/web:10000")) == 1
    heard.after(gone=(mesos,))
    assert servers(heard.table, "/web:10000") == []
    heard.after(gone=(known,))
    assert len(servers(heard.table, "/web:10000")) == 1


def test_health_can_be_ignored() -> None:
    pending = [structs.replace(one, health=Health.PENDING) for one in tasks(WEB)]
    assert servers(table_of(WEB, *pending), "/web:10000") == []
    assert len(servers(table_of(WEB, *pending, config=L7Config(health="ignore")), "/web:10000")) == 2


# --- apps that may sleep --------------------------------------------------------------------------


def scaled(of: App, low: int = 0) -> App:
    """With labels of scaling."""
    values = {"MAX": "3", "RPS": "10", "MIN": str(low)}
    return structs.replace(
        of, labels=(*of.labels, *((f"PHAROS_SCALE_{name}", value) for name, value in values.items()))
    )


def holding(table: RouteTable) -> list[str]:
    return sorted(name for name, cluster in table.clusters.items() if cluster.hold)


def test_requests_for_every_port_of_an_app_that_may_sleep_are_held() -> None:
    two = app("/two", ports=(10002, 10003))
    table = table_of(scaled(two), WEB, scaled(API, low=1))
    assert holding(table) == ["/two:10002", "/two:10003"]


def test_whether_an_app_may_sleep_changes_with_it() -> None:
    heard = Heard(view_of(None, WEB, *tasks(WEB)))
    (told,) = heard.after(scaled(WEB))
    assert (list(told.clusters), told.hosts, told.listeners) == (["/web:10000"], {}, {})
    assert holding(heard.table) == ["/web:10000"]
    (told,) = heard.after(WEB)
    assert holding(heard.table) == []
    heard.after(scaled(WEB))
    heard.after(gone=(scaled(WEB),))
    heard.after(WEB)
    assert holding(heard.table) == []


def test_an_app_that_sleeps_keeps_what_is_its_own() -> None:
    late = app("/late", {"0_VHOST": "a.b"}, ports=(10005,), changed=2.0)
    asleep = structs.replace(WEB, instances=0)
    routes = [rule.cluster for rule in table_of(asleep, late).hosts["http", "a.b"].routes]
    assert routes == ["/late:10005"]
    routes = [rule.cluster for rule in table_of(scaled(asleep), late).hosts["http", "a.b"].routes]
    assert routes == ["/web:10000"]


def test_a_group_is_held_for_if_one_of_it_may_sleep() -> None:
    members = [app(f"/{name}", {"DEPLOYMENT_GROUP": "group"}) for name in ("blue", "green")]
    assert holding(table_of(*members)) == []
    assert holding(table_of(members[0], scaled(members[1]))) == ["/group:10000"]


def test_with_compat_an_app_that_sleeps_is_there_without_a_server() -> None:
    table = table_of(scaled(WEB), API, config=COMPAT)
    assert table.clusters.keys() == {"/web:10000"}
    assert holding(table) == ["/web:10000"]
    assert table.hosts.keys() >= {("http", "a.b")}


def test_who_may_sleep_can_be_told_otherwise() -> None:
    view = RouteView(L7Config(), certificates=True, sleeps=lambda of: of.id == "/api")
    view.apply(delta(scaled(WEB), API))
    view.flush()
    assert holding(view.table) == ["/api:10001"]
    view.reconfigure(L7Config(), certificates=True)
    view.flush()
    assert holding(view.table) == ["/api:10001"]
    view.reconfigure(L7Config(), certificates=True, sleeps=lambda of: of.id == "/web")
    view.flush()
    assert holding(view.table) == ["/web:10000"]


def test_a_fault_in_telling_who_may_sleep_costs_no_route(caplog: pytest.LogCaptureFixture) -> None:
    def sleeps(of: App) -> bool:
        raise RuntimeError(of.id)

    view = RouteView(L7Config(), certificates=True, sleeps=sleeps)
    view.apply(delta(WEB))
    view.flush()
    assert view.table.clusters.keys() == {"/web:10000"}
    assert view.faults == 1
    assert "may sleep" in caplog.text


# --- marathon-lb's rules --------------------------------------------------------------------------


def test_ports_without_servers_do_not_exist_for_marathon_lb() -> None:
    heard = Heard(view_of(COMPAT, WEB, API, *tasks(API)))
    assert heard.table.clusters.keys() == {"/api:10001"}
    heard.after(*tasks(WEB))
    assert {"/api:10001", "/web:10000"} == heard.table.clusters.keys()
    assert "port:10000" in heard.table.listeners
    heard.after(gone=tuple(tasks(WEB)))
    assert heard.table.clusters.keys() == {"/api:10001"}
    assert "port:10000" not in heard.table.listeners


def test_pods_are_routed_unless_compat() -> None:
    pod = structs.replace(WEB, kind="pod")
    assert table_of(pod).clusters
    assert not table_of(pod, *tasks(pod), config=COMPAT).clusters


# --- names ----------------------------------------------------------------------------------------


def test_one_id_at_two_marathons_is_two_clusters() -> None:
    other = app("/web", {"0_VHOST": "c.d"}, framework="m-0002")
    view = view_of(None, WEB, other, *tasks(WEB), *tasks(other))
    assert view.table.clusters.keys() == {"/web:10000", "/web:10000@mesos/m-0002"}
    assert view.table.hosts["http", "c.d"].routes[0].cluster == "/web:10000@mesos/m-0002"
    assert view.problem_counts == {"app-conflict": 1, "port-conflict": 1}
    heard = Heard(view)
    heard.after(gone=(WEB,))
    assert heard.table.clusters.keys() == {"/web:10000"}
    assert heard.table.hosts["http", "c.d"].routes[0].cluster == "/web:10000"
    assert not view.problem_counts


def test_two_ports_of_an_app_at_one_service_port() -> None:
    of = app("/web", {"0_VHOST": "a.b", "1_VHOST": "c.d", "1_PORT": "10000"}, ports=(10000, 10001))
    table = table_of(of, *tasks(of))
    assert servers(table, "/web:10000#1") == ["10.1.0.1:31001", "10.1.0.2:31001"]
    assert table.hosts["http", "c.d"].routes[0].cluster == "/web:10000#1"


def test_apps_without_a_service_port_get_one() -> None:
    of = app("/web", {"0_VHOST": "a.b"}, ports=(0,), network="container")
    one = task(of, addresses=("9.0.0.1",))
    heard = Heard(view_of(None))
    heard.after(of, one)
    (name,) = heard.table.clusters
    port = int(name.removeprefix("/web:"))
    assert 10050 <= port <= 10100
    assert f"port:{port}" in heard.table.listeners
    assert servers(heard.table, name) == ["9.0.0.1:8080"]
    heard.after(gone=(of,))
    assert not heard.table.clusters
    assert view_of(COMPAT, of, one).table.clusters.keys() == {name}


@pytest.mark.parametrize(
    ("config", "clusters"), [(L7Config(auto_ports=(1, 2)), 2), (structs.replace(COMPAT, auto_ports=(1, 2)), 1)]
)
def test_when_no_service_port_is_left(config: L7Config, clusters: int) -> None:
    both = [app(name, {"0_VHOST": f"{name[1:]}.b"}, ports=(0,), network="container") for name in ("/x", "/y")]
    view = view_of(config, *both, *(task(of, addresses=("9.0.0.1",)) for of in both))
    assert len(view.table.clusters) == clusters
    assert view.problem_counts["auto-port"] == 1
    assert [name for name in view.table.listeners if name.startswith("port:")] == ["port:1"]


def test_a_deployment_group_is_one_app() -> None:
    labels = {"0_VHOST": "a.b", "0_PORT": "10000", "DEPLOYMENT_GROUP": "nginx", "DEPLOYMENT_TARGET_INSTANCES": "2"}
    blue = app("/blue", labels | {"DEPLOYMENT_STARTED_AT": "2026-01-01T00:00:00"}, ports=(10000,))
    green = app(
        "/green",
        labels | {"DEPLOYMENT_STARTED_AT": "2026-01-02T00:00:00", "DEPLOYMENT_NEW_INSTANCES": "0"},
        ports=(10001,),
        instances=1,
    )
    heard = Heard(view_of(None, blue, *tasks(blue)))
    heard.after(green, task(green, 9))
    (cluster,) = heard.table.clusters.values()
    assert cluster.name == "/nginx:10000"
    assert heard.view.apps_behind(cluster.name) == (blue.key, green.key)
    assert heard.view.apps_behind("/blue:10000") == ()
    assert {server.task: server.draining for server in cluster.servers} == {
        "blue.1": True,
        "blue.2": False,
        "green.9": False,
    }
    heard.after(gone=(blue, *tasks(blue)))
    (cluster,) = heard.table.clusters.values()
    assert [(server.task, server.draining) for server in cluster.servers] == [("green.9", False)]
    assert heard.view.apps_behind(cluster.name) == (green.key,)
    heard.after(structs.replace(green, labels=()))
    assert not heard.table.clusters
    assert heard.view.apps_behind("/nginx:10000") == ()


def test_nobody_joins_the_group_of_another_folder() -> None:
    shop = {"DEPLOYMENT_GROUP": "shop", "DEPLOYMENT_STARTED_AT": "2026-01-01T00:00:00"}
    victim = app("/prod/web", shop | {"0_VHOST": "a.b"})
    evil = app("/evil/app", shop | {"DEPLOYMENT_STARTED_AT": "2026-01-02T00:00:00"}, ports=(10001,), instances=5)
    entities: list[Entity] = [
        victim,
        *tasks(victim),
        evil,
        *(task(evil, number, host=f"10.6.0.{number}") for number in range(5)),
    ]
    table = table_of(*entities)
    assert table.clusters.keys() == {"/prod/shop:10000", "/evil/shop:10001"}
    assert [(one.task, one.draining) for one in table.clusters["/prod/shop:10000"].servers] == [
        ("prod_web.1", False),
        ("prod_web.2", False),
    ]
    compat = table_of(*entities, config=COMPAT)
    assert [len(one.servers) for one in compat.clusters.values()] == [7]


def test_an_app_that_names_a_group_elsewhere_is_routed_alone_and_told() -> None:
    victim = app("/prod/web", {"0_VHOST": "a.b"}, changed=9.0)
    posing = app("/evil/app", {"0_MODE": "http", "DEPLOYMENT_GROUP": "/prod/web"}, ports=(10001,))
    view = view_of(None, victim, *tasks(victim), posing, *tasks(posing, port=32000))
    assert view.table.clusters.keys() == {"/prod/web:10000", "/evil/app:10001"}
    assert view.table.hosts["app_id", "/prod/web"].routes[0].cluster == "/prod/web:10000"
    assert [problem.reason for problem in view.problems["/evil/app"]] == ["deployment"]
    assert not view_of(None, structs.replace(posing, labels=(*posing.labels, ("HAPROXY_0_ENABLED", "no")))).problems


def test_a_group_gets_nothing_by_the_id_of_an_app() -> None:
    victim = app("/prod/web", {"0_VHOST": "a.b"}, changed=9.0)
    posing = app("/prod/other", {"0_MODE": "http", "DEPLOYMENT_GROUP": "web"}, ports=(10001,))
    table = table_of(posing, *tasks(posing, port=32000), victim, *tasks(victim))
    assert table.hosts["app_id", "/prod/web"].routes[0].cluster == "/prod/web:10000"
    assert servers(table, "/prod/web:10000") == ["10.1.0.1:31000", "10.1.0.2:31000"]


def test_groups_follow_the_kind_of_rules() -> None:
    both = [app(f"/{name}/web", {"DEPLOYMENT_GROUP": "g"}, ports=(port,)) for name, port in (("a", 1), ("b", 2))]
    entities: list[Entity] = [*both, *(one for of in both for one in tasks(of))]
    view = view_of(None, *entities)
    heard = Heard(view)
    for config in (COMPAT, L7Config(), COMPAT):
        view.reconfigure(config, certificates=True)
        view.flush()
        assert heard.table == view.table == table_of(*entities, config=config)
    assert view.table.clusters.keys() == {"/g:2"}
    view.apply(delta(gone=[entity.key for entity in entities]))
    view.flush()
    assert not view.table.clusters


def test_nobody_takes_the_port_of_https_or_of_the_process_other_listeners() -> None:
    greedy = app("/greedy", {"1_PORT": "9090", "2_BIND_ADDR": "10.0.0.1"}, ports=(443, 2, 53))
    others = ("127.0.0.1:9090", "10.0.0.1:53")
    for config in (L7Config(), COMPAT):
        view = RouteView(config, certificates=False, reserved=others)
        view.apply(delta(greedy, *tasks(greedy)))
        view.flush()
        assert not [name for name in view.table.listeners if name.startswith("port:")]
        assert view.problem_counts["port-conflict"] == 3
        view.reconfigure(config, certificates=False)
        view.flush()
        assert [name for name in view.table.listeners if name.startswith("port:")] == ["port:9090", "port:53@10.0.0.1"]


def test_service_ports_that_are_given_go_to_the_older_app() -> None:
    config = L7Config(auto_ports=(1, 3))
    old, new = [
        app(name, ports=(0,), network="container", changed=changed) for name, changed in (("/z", 1.0), ("/a", 2.0))
    ]
    greedy = app("/0", ports=(0,) * 20, network="container", changed=3.0)
    heard = Heard(view_of(config, old, new))
    before = dict(heard.table.listeners)
    heard.after(greedy)
    assert {name: heard.table.listeners[name] for name in before} == before
    assert heard.view.problem_counts["auto-port"] == 20
    alone = view_of(None, greedy)
    assert len([name for name in alone.table.listeners if name.startswith("port:")]) == 8
    assert alone.problem_counts["auto-port"] == 12
    one = task(greedy, addresses=("9.0.0.1",))
    compat = view_of(structs.replace(COMPAT, auto_ports=(1, 16)), greedy, one)
    assert len([name for name in compat.table.listeners if name.startswith("port:")]) == 15


def test_a_port_that_was_given_stays_while_all_are_looked_at_again() -> None:
    of = app("/z", ports=(0,), network="container")
    view = view_of(None, of)
    heard = Heard(view)
    view.apply(delta(structs.replace(of, config_changed=5.0)))
    while view.pending:
        view._slice(0.0)
    view.reconfigure(L7Config(max_waiting=1), certificates=True)
    while view.pending:
        view._slice(0.0)
    assert heard.deltas == []


# --- problems and faults --------------------------------------------------------------------------


def test_problems_are_told_by_app_and_go_with_them(caplog: pytest.LogCaptureFixture) -> None:
    bad = app("/bad", {"0_VHOST": "a.b", "0_BALANCE": "uri"}, changed=9.0, ports=(10001,))
    nowhere = structs.replace(task(bad), host_addresses=())
    with caplog.at_level(logging.WARNING, "lb7"):
        view = view_of(None, WEB, bad, nowhere)
        assert {app: [problem.reason for problem in found] for app, found in view.problems.items()} == {
            "/bad": ["address", "balance", "route-conflict"]
        }
        assert view.problem_counts == {"address": 1, "balance": 1, "route-conflict": 1}
        view.apply(delta(bad, nowhere, WEB))
        view.flush()
    assert len(caplog.records) == 3
    view.apply(delta(gone=[bad.key]))
    view.flush()
    assert view.problems == {}
    assert not view.problem_counts


def test_a_fault_costs_one_app_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def failing(of: object, *more: object) -> object:
        if of is API:
            raise RuntimeError("made to fail")
        return read_app(of, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("lb7.view.read_app", failing)
    view = view_of(None, API, WEB, *tasks(WEB))
    assert view.faults == 1
    assert "an app could not be routed" in caplog.text
    assert view.table.clusters.keys() == {"/web:10000"}
    assert not view.pending


def test_a_listener_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    view = view_of(None)

    def fails(_: TableDelta) -> None:
        raise RuntimeError("made to fail")

    view.listen(fails)
    heard = Heard(view)
    assert heard.after(WEB)
    assert view.faults == 1
    view.unlisten(fails)
    view.unlisten(fails)
    assert heard.after(API)
    assert view.faults == 1


# --- configuration and time -----------------------------------------------------------------------


def test_another_configuration_tells_only_what_it_changes() -> None:
    view = view_of(None, WEB, *tasks(WEB))
    heard = Heard(view)
    view.reconfigure(L7Config(connect_timeout=view._config.connect_timeout), certificates=True)
    view.flush()
    assert heard.deltas == []
    view.reconfigure(L7Config(https=()), certificates=True)
    view.flush()
    assert heard.table == view.table == table_of(WEB, *tasks(WEB), config=L7Config(https=()))
    told = {key for one in heard.deltas for key in one.hosts}
    assert told == {("https", "a.b")}


@pytest.mark.parametrize(
    "config",
    [COMPAT, L7Config(groups=("internal",)), L7Config(service_ports=False), L7Config(http=(), app_id=())],
)
def test_a_reconfigured_view_is_one_made_anew(config: L7Config) -> None:
    entities: list[Entity] = [WEB, API, *tasks(WEB), *tasks(API), app("/at-80", ports=(80,)), app("/auto", ports=(0,))]
    view = view_of(None, *entities)
    heard = Heard(view)
    for other in (config, L7Config(), config):
        view.reconfigure(other, certificates=True)
        view.flush()
        new = view_of(other, *entities)
        assert heard.table == view.table == new.table
        assert view.problems == new.problems
        assert view.problem_counts == new.problem_counts


@pytest.mark.asyncio
async def test_the_loop_has_turns_while_a_large_table_is_built() -> None:
    apps = [app(f"/a-{number}", {"0_VHOST": f"h{number}.b"}, ports=(10000 + number,)) for number in range(600)]
    view = RouteView(L7Config(), certificates=True)
    view.apply(delta(*apps, *(one for of in apps for one in tasks(of))))
    turns = 0
    building = asyncio.create_task(view.build())
    while not building.done():
        turns += 1
        await asyncio.sleep(0)
    await building
    assert turns > 2
    assert view.table == table_of(*apps, *(one for of in apps for one in tasks(of)))


@pytest.mark.asyncio
async def test_it_follows_a_catalog() -> None:
    catalog = Catalog()
    catalog.register("marathon")
    await catalog.sync("marathon", Sync((WEB, *tasks(WEB))))
    calls: list[Callable[[], None]] = []
    view = RouteView(L7Config(), certificates=True, later=calls.append)
    await catalog.follow(view.apply)
    await view.build()
    heard = Heard(view)
    catalog.publish("marathon", Put(API))
    catalog.publish("marathon", Put(tasks(API)[0]))
    catalog.flush()
    catalog.publish("marathon", Put(tasks(API)[1]))
    catalog.flush()
    assert heard.deltas == []
    while calls:
        calls.pop()()
    assert len(heard.deltas) == 1
    assert servers(heard.table, "/api:10001") == ["10.1.0.1:31000", "10.1.0.2:31000"]
    assert "apps=2" in repr(view)


def test_servers_carry_what_the_edge_needs() -> None:
    of = app("/web", {"0_STICKY": "true"})
    (server,) = table_of(of, task(of)).clusters["/web:10000"].servers
    assert isinstance(server, Server)
    assert (server.task, len(server.cookie)) == ("web.1", 10)
