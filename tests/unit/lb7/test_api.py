"""/v1/routes, its explanation, and marathon-lb's paths, over a route view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from lb7.api import ASKED, DOCUMENTED, EdgeView, Wanted, admin_routes, routes, rows
from lb7.api_rows import Servers
from lb7.table import Cluster, HostRules, RouteRule, RouteTable
from lb7.view import RouteView
from tests.fakes.api import Asking, context_of
from tests.fakes.marathon_apps import app, tasks, view_of

pytestmark = pytest.mark.asyncio

SHOP = app("/shop", {"0_VHOST": "shop.example.com", "0_BIND_OPTIONS": "accept-proxy"})
CART = app("/cart", {"0_VHOST": "shop.example.com", "0_PATH": "/cart"}, ports=(10001,))
DB = app("/db", {"0_MODE": "tcp"}, ports=(10002,))
BAD = app("/bad", {"0_AUTH": "broken", "0_VHOST": "bad.example.com"}, ports=(10003,))
ALL = (SHOP, CART, DB, BAD)


def edge_of(view: RouteView, seen: list[Sequence[str]] | None = None) -> EdgeView:
    async def servers(clusters: Sequence[str]) -> Servers:
        if seen is not None:
            seen.append(clusters)
        return {name: [{"id": "10.1.0.1:31000", "state": "ejected", "active": 2, "failures": 9}] for name in clusters}

    return EdgeView(lambda: view.table, lambda: view.problems, servers=servers)


def asking(edge: EdgeView | None, *, known: bool = True) -> Asking:
    context = context_of()
    context.view.known = lambda: known
    context.documented = DOCUMENTED
    return Asking(context, more=[*routes(context, lambda: edge), *admin_routes(lambda: edge)])


def view() -> RouteView:
    return view_of(None, *ALL, *(task for each in ALL for task in tasks(each)))


async def test_all_rules() -> None:
    async with asking(edge_of(view())) as api:
        found = await api.json("/v1/routes")
        by_app = {(row["app"], row["table"]): row for row in found if row["kind"] == "route"}
        assert {app for app, _ in by_app} == {"/shop", "/cart"}
        shop = by_app["/shop", "http"]
        assert (shop["host"], shop["paths"], shop["port"], shop["listen"]) == ("shop.example.com", [], 10000, [":80"])
        assert [(server["address"], server["state"]) for server in shop["servers"]] == [
            ("10.1.0.1:31000", "ejected"),
            ("10.1.0.2:31000", "up"),
        ]
        assert len(shop["problems"]) == 1
        assert shop["problems"][0].startswith("bind-options: HAPROXY_0_BIND_OPTIONS")
        assert by_app["/cart", "https"]["paths"] == [{"prefix": "/cart", "whole": True, "ignore_case": False}]
        assert by_app["/cart", "app_id"]["host"] == "/cart"
        (tcp,) = [row for row in found if row["kind"] == "tcp"]
        assert (tcp["app"], tcp["port"], tcp["table"], len(tcp["servers"])) == ("/db", 10002, "port:10002", 2)
        (refused,) = [row for row in found if row["kind"] == "refused"]
        assert refused["app"] == "/bad"
        assert refused["problems"][0].startswith("auth: ")


async def test_limits() -> None:
    seen: list[Sequence[str]] = []
    async with asking(edge_of(view(), seen)) as api:
        found = await api.json("/v1/routes?host=Shop.example.com:80")
        assert {row["table"] for row in found} == {"http", "https"}
        assert seen == [["/cart:10001", "/shop:10000"]]
        found = await api.json("/v1/routes/?host=shop.example.com&path=/cart/x")
        assert [row["app"] for row in found if row["table"] == "http" and row["kind"] == "route"] == ["/cart", "/shop"]
        found = await api.json("/v1/routes?app=/db")
        assert [(row["kind"], row["app"]) for row in found] == [("tcp", "/db")]
        assert [row["kind"] for row in await api.json("/v1/routes?app=/bad")] == ["refused"]
        assert await api.json("/v1/routes?host=nobody.example.com") == []
        assert await api.json("/v1/routes?app=/nobody") == []


async def test_workers_are_not_asked_of_very_many() -> None:
    names = [f"/a{n}:{n}" for n in range(ASKED + 1)]
    table = RouteTable(
        {},
        {("http", name): HostRules(routes=(RouteRule((), name),)) for name in names},
        {name: Cluster(name, name.partition(":")[0], 1) for name in names},
    )
    seen: list[Sequence[str]] = []

    async def servers(clusters: Sequence[str]) -> Servers:
        seen.append(clusters)
        return {}

    edge = EdgeView(lambda: table, servers=servers)
    assert b"".join([piece async for piece in rows(edge, Wanted())]).count(b'"route"') == ASKED + 1
    assert seen == []


async def test_why_a_route_wins() -> None:
    async with asking(edge_of(view())) as api:
        found = {row["listener"]: row for row in await api.json("/v1/routes/explain?host=shop.example.com&path=/cart")}
        assert set(found) == {"http", "https"}
        row = found["http"]
        assert (row["action"], row["app"], row["port"]) == ("proxy", "/cart", 10001)
        assert row["servers"][0] == {
            **{"address": "10.1.0.1:31000", "weight": 1, "state": "ejected", "task": "cart.1"},
            **{"active": 2, "failures": 9, "counted": False},
        }
        assert [each["app"] for each in row["lost"]] == ["/shop"]
        row = (await api.json("/v1/routes/explain?host=nobody.example.com"))[0]
        assert (row["action"], row["servers"]) == ("unavailable", [])


@pytest.mark.parametrize("query", ["", "?host=", "?path=/x", "?host=a&path=x"])
async def test_what_can_not_be_explained(query: str) -> None:
    async with asking(edge_of(view())) as api:
        status, _, body = await api.ask(f"/v1/routes/explain{query}")
        assert (status, body) == (400, "400: expected ?host=NAME&path=/PATH")


async def test_without_an_edge() -> None:
    async with asking(None) as api:
        for path in ("/v1/routes", "/v1/routes/explain?host=a"):
            assert (await api.ask(path))[0] == 404
        assert (await api.ask("/_haproxy_health_check"))[0] == 503
        assert (await api.ask("/_haproxy_getvhostmap"))[0] == 404


async def test_before_anything_is_known() -> None:
    async with asking(edge_of(view()), known=False) as api:
        assert (await api.ask("/v1/routes"))[0] == 503
        assert (await api.ask("/v1/routes", accept="text/html"))[0] == 406


async def test_marathon_lbs_paths() -> None:
    edge = edge_of(view())
    async with asking(edge) as api:
        assert (await api.ask("/_haproxy_health_check"))[0] == 200
        edge.serving = lambda: False
        assert (await api.ask("/_haproxy_health_check"))[0] == 503
        status, kind, body = await api.ask("/_haproxy_getvhostmap")
        assert (status, kind.partition(";")[0], body) == (200, "text/plain", "shop.example.com shop_10000\n")
        body = (await api.ask("/_haproxy_getappmap"))[2]
        assert body == "/cart cart_10001\n/shop shop_10000\n"


async def test_they_are_documented() -> None:
    async with asking(edge_of(view())) as api:
        document: dict[str, Any] = await api.json("/openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    assert {"/v1/routes", "/v1/routes/explain"} <= set(document["paths"])
