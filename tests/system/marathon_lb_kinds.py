"""States of Marathon of the kinds that have no recording here, and what marathon-lb's verified rules make of them.

Each case has the shape of a recording: apps, a command line, requests, and what is to be observed. What is expected
follows from the rules, by hand: order by weight before all else, redirects before routes, refused networks on every
port, a container's own address before its host's, and so on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.system.edge_after_marathon_lb import Case

ARGS = ["--health-check", "--group", "external"]
STAMP = "2026-01-01T00:00:00.000Z"
HTTP, HTTPS, APP_ID = 80, 443, 9091

Json = dict[str, Any]


def app(name: str, labels: dict[str, str], tasks: Iterable[Json] = (), **more: Any) -> Json:
    """An app with one service port 10000 behind a bridge and a health check of HTTP, if nothing else is said. Labels
    come without "HAPROXY_"."""
    made: Json = {
        "id": name,
        "labels": {"HAPROXY_GROUP": "external"} | {f"HAPROXY_{key}": value for key, value in labels.items()},
        "healthChecks": [{"protocol": "HTTP", "path": "/health", "portIndex": 0}],
        "networks": [{"mode": "container/bridge"}],
        "container": mapped(10000),
        "version": STAMP,
        "versionInfo": {"lastScalingAt": STAMP, "lastConfigChangeAt": STAMP},
        "deployments": [],
    } | more
    made["tasks"] = [
        {**task, "appId": name, "id": f"{name.strip('/').replace('/', '_')}.{task['id']}"} for task in tasks
    ]
    return made | {"instances": len(made["tasks"])}


def mapped(*ports: int) -> Json:
    """A container with these service ports; 0: none."""
    return {"portMappings": [{"containerPort": 8080 + i, "hostPort": 0, "servicePort": p} for i, p in enumerate(ports)]}


def tasks(first_port: int, count: int = 2, ports: int = 1, **more: Any) -> list[Json]:
    """Healthy tasks on hosts of their own, each with so many ports."""
    return [
        task(number, f"10.1.0.{number}", *range(first_port, first_port + ports), **more)
        for number in range(1, count + 1)
    ]


def task(number: int, host: str, *ports: int, alive: bool = True, **more: Any) -> Json:
    """A task on a host."""
    return {
        "id": f"{ports[0]}-{number}",
        "host": host,
        "ports": list(ports),
        "state": "TASK_RUNNING",
        "slaveId": f"S{number}",
        "stagedAt": STAMP,
        "startedAt": STAMP,
        "version": STAMP,
        "healthCheckResults": [{"alive": alive}],
    } | more


def asked(port: int, host: str = "x", path: str = "/", **more: Any) -> Json:
    """A request; at port 443 it is encrypted, and the host is the server name too."""
    tls = port == HTTPS
    request = {"listen_port": port, "dst": "127.0.0.1", "src": "127.0.0.1", "tls": tls, "host": host, "path": path}
    return request | ({"sni": host} if tls else {}) | {"method": "GET"} | more


def served(request: Json, *servers: str, tcp: bool = False, **forwarded: Any) -> Json:
    """It gets to these servers, and looks so there."""
    told = {
        "path": request["path"],
        "host": request["host"],
        "x-forwarded-for": None if tcp else request["src"],
        "x-forwarded-port": None if tcp else str(request["listen_port"]),
        "x-forwarded-proto": "https" if request["tls"] and not tcp else None,
    }
    return _route(
        request, {"action": "proxy", "status": 200, "servers": sorted(servers), "forwarded": told | forwarded}
    )


def refused(request: Json, how: str) -> Json:
    """It gets to nobody: "503", "deny", "reset" or "refused"."""
    return _route(request, {"action": how, "status": {"503": 503, "deny": 403}.get(how)})


def redirected(request: Json, location: str) -> Json:
    """It is sent elsewhere."""
    return _route(request, {"action": "redirect", "status": 301, "location": location})


def _route(request: Json, observed: Json) -> Json:
    return {"request": request, "expect": {"servers": observed.get("servers", ())}, "observed": {"by hand": observed}}


def two(port: int) -> tuple[str, str]:
    """The servers of `tasks(port)`."""
    return f"10.1.0.1:{port}", f"10.1.0.2:{port}"


# --- the kinds ------------------------------------------------------------------------------------


def weights() -> tuple[list[Json], list[Json]]:
    """Rules go by weight, then by id; no path goes before another for being longer, and a path makes 0 a 1."""
    host = {"0_VHOST": "w.example.com"}
    apps = [
        app("/w/api", host | {"0_PATH": "/api"}, tasks(31000)),
        app("/w/api2", host | {"0_PATH": "/api/v2", "0_BACKEND_WEIGHT": "10"}, tasks(31010), container=mapped(10001)),
        app("/w/root", host, tasks(31020), container=mapped(10002)),
        app("/w/top", {"0_VHOST": "t.example.com", "0_BACKEND_WEIGHT": "5"}, tasks(31030), container=mapped(10003)),
        app("/w/under", {"0_VHOST": "t.example.com", "0_PATH": "/x"}, tasks(31040), container=mapped(10004)),
    ]
    routes = []
    for port in (HTTP, HTTPS):
        routes += [
            served(asked(port, "w.example.com", "/api/v2"), *two(31010)),
            served(asked(port, "w.example.com", "/api/v2x"), *two(31010)),
            served(asked(port, "w.example.com", "/api/v1"), *two(31000)),
            served(asked(port, "w.example.com", "/"), *two(31020)),
            served(asked(port, "t.example.com", "/x"), *two(31030)),
        ]
    routes.append(served(asked(10004, "any", "/y"), *two(31040)))
    return apps, routes


def ports_of_an_app() -> tuple[list[Json], list[Json]]:
    """Each port has its host and path, or is not there; PORT stands for the service port."""
    labels = {
        "0_VHOST": "m.example.com",
        "1_VHOST": "m.example.com",
        "1_PATH": "-i /Admin",
        "1_PORT": "18081",
        "2_VHOST": "off.example.com",
        "2_ENABLED": "no",
        "3_GROUP": "internal",
    }
    made = app("/many", labels, tasks(31000, ports=4), container=mapped(10000, 10001, 10002, 10003))
    routes = [
        served(asked(HTTP, "m.example.com", "/"), *two(31000)),
        served(asked(HTTP, "m.example.com", "/aDMIN/x"), *two(31001)),
        served(asked(HTTPS, "m.example.com", "/ADMIN"), *two(31001)),
        refused(asked(HTTP, "off.example.com"), "503"),
        served(asked(10000), *two(31000)),
        served(asked(18081), *two(31001)),
        *[refused(asked(port), "refused") for port in (10001, 10002, 10003)],
        served(asked(APP_ID, appid="/many"), *two(31000)),
    ]
    return [made], routes


def redirects() -> tuple[list[Json], list[Json]]:
    """A redirect to HTTPS goes before every route of its host, whatever that one's weight; not on other ports."""
    apps = [
        app("/r/https", {"0_VHOST": "r.example.com", "0_REDIRECT_TO_HTTPS": "true"}, tasks(31000)),
        app(
            "/r/plain",
            {"0_VHOST": "r.example.com", "0_PATH": "/plain", "0_BACKEND_WEIGHT": "10"},
            tasks(31010),
            container=mapped(10001),
        ),
        app(
            "/r/part",
            {"0_VHOST": "p.example.com", "0_PATH": "/secure", "0_REDIRECT_TO_HTTPS": "true"},
            tasks(31020),
            container=mapped(10002),
        ),
        app("/r/rest", {"0_VHOST": "p.example.com"}, tasks(31030), container=mapped(10003)),
    ]
    routes = [
        redirected(asked(HTTP, "r.example.com", "/a?b=c"), "https://r.example.com/a?b=c"),
        redirected(asked(HTTP, "r.example.com", "/plain"), "https://r.example.com/plain"),
        redirected(asked(HTTP, "R.EXAMPLE.com", "/", method="POST"), "https://R.EXAMPLE.com/"),
        redirected(asked(HTTP, "p.example.com", "/secure/x"), "https://p.example.com/secure/x"),
        served(asked(HTTP, "p.example.com", "/other"), *two(31030)),
        served(asked(HTTPS, "r.example.com", "/"), *two(31000)),
        served(asked(HTTPS, "r.example.com", "/plain"), *two(31010)),
        served(asked(HTTPS, "p.example.com", "/secure"), *two(31020)),
        served(asked(10000, "r.example.com"), *two(31000)),
        served(asked(APP_ID, appid="/r/https"), *two(31000)),
    ]
    return apps, routes


def app_ids() -> tuple[list[Json], list[Json]]:
    """By its id, in any case, each app is found; none is taken for another (as marathon-lb takes the second)."""
    apps = [
        app("/team/prod/svc", {"0_VHOST": "one.example.com"}, tasks(31000)),
        app("/team/prod_svc", {"0_VHOST": "two.example.com"}, tasks(31010), container=mapped(10001)),
        app("/tcp-only", {"0_MODE": "tcp"}, tasks(31020), container=mapped(10002)),
    ]
    routes = [
        served(asked(APP_ID, appid="/team/prod/svc"), *two(31000)),
        served(asked(APP_ID, appid="/Team/PROD/svc"), *two(31000)),
        served(asked(APP_ID, appid="/team/prod_svc"), *two(31010)),
        refused(asked(APP_ID, appid="/tcp-only"), "503"),
        refused(asked(APP_ID, appid="/team/prod"), "503"),
        refused(asked(APP_ID, "one.example.com"), "503"),
    ]
    return apps, routes


def addresses() -> tuple[list[Json], list[Json]]:
    """Where a task is: at its host, which may be a name; in a container network at its own address and port, though
    its host has one too."""
    inside: Json = {"ipAddresses": [{"ipAddress": "10.2.0.9", "protocol": "IPv4"}]}
    overlay = {"portMappings": [{"containerPort": 8080, "hostPort": 31007, "servicePort": 10001}]}
    apps = [
        app(
            "/host",
            {"0_VHOST": "h.example.com"},
            [task(1, "agent7.example.internal", 31000), task(2, "10.1.0.2", 31000)],
            networks=[{"mode": "host"}],
            container=None,
            portDefinitions=[{"port": 10000, "protocol": "tcp"}],
        ),
        app(
            "/overlay",
            {"0_VHOST": "o.example.com"},
            [task(1, "10.1.0.1", 31007, **inside)],
            networks=[{"mode": "container", "name": "overlay"}],
            container=overlay,
        ),
    ]
    routes = [
        served(asked(HTTP, "h.example.com"), "10.1.0.8:31000", "10.1.0.2:31000"),
        served(asked(10000), "10.1.0.8:31000", "10.1.0.2:31000"),
        served(asked(HTTPS, "o.example.com"), "10.2.0.9:8080"),
        served(asked(10001), "10.2.0.9:8080"),
    ]
    return apps, routes


def networks() -> tuple[list[Json], list[Json]]:
    """Clients of other networks are refused on every port: 403, and a reset of TCP."""
    allowed = {"0_BACKEND_NETWORK_ALLOWED_ACL": "10.9.0.0/24 192.0.2.7"}
    apps = [
        app("/acl/http", {"0_VHOST": "acl.example.com"} | allowed, tasks(31000)),
        app("/acl/tcp", {"0_MODE": "tcp"} | allowed, tasks(31010), container=mapped(10001), healthChecks=[]),
        app("/acl/open", {"0_VHOST": "open.example.com"}, tasks(31020), container=mapped(10002)),
    ]
    routes = []
    for src, ours in (("10.9.0.5", True), ("192.0.2.7", True), ("127.0.0.1", False), ("192.0.2.8", False)):
        for request in (
            asked(HTTP, "acl.example.com", src=src),
            asked(HTTPS, "acl.example.com", src=src),
            asked(APP_ID, appid="/acl/http", src=src),
            asked(10000, src=src),
        ):
            routes.append(served(request, *two(31000)) if ours else refused(request, "deny"))
        request = asked(10001, src=src)
        routes.append(served(request, *two(31010), tcp=True) if ours else refused(request, "reset"))
        routes.append(served(asked(HTTP, "open.example.com", src=src), *two(31020)))
    return apps, routes


def nobody_there() -> tuple[list[Json], list[Json]]:
    """An app without a task that may serve has a host and no listener; one task that is well is enough."""
    ill = [task(1, "10.1.0.1", 31010, alive=False), task(2, "10.1.0.2", 31010, healthCheckResults=[])]
    mixed = [task(1, "10.1.0.1", 31020, alive=False), task(2, "10.1.0.2", 31020), task(3, "10.1.0.3", 31020)]
    mixed[2]["state"] = "TASK_KILLING"
    apps = [
        app("/n/none", {"0_VHOST": "none.example.com"}),
        app("/n/ill", {"0_VHOST": "ill.example.com"}, ill, container=mapped(10001)),
        app("/n/one", {"0_VHOST": "one.example.com"}, mixed, container=mapped(10002)),
        app("/n/unnamed", {"GROUP": "internal"}, tasks(31030), container=mapped(10003)),
    ]
    routes = [
        refused(asked(HTTP, "none.example.com"), "503"),
        refused(asked(HTTPS, "none.example.com"), "503"),
        refused(asked(APP_ID, appid="/n/none"), "503"),
        refused(asked(10000), "refused"),
        refused(asked(HTTP, "ill.example.com"), "503"),
        refused(asked(10001), "refused"),
        served(asked(HTTP, "one.example.com"), "10.1.0.2:31020"),
        served(asked(10002), "10.1.0.2:31020"),
        refused(asked(10003), "refused"),
        refused(asked(APP_ID, appid="/n/unnamed"), "503"),
    ]
    return apps, routes


def deployment() -> tuple[list[Json], list[Json]]:
    """Four new ones are healthy, four old ones are there, four are to be: the old ones get nothing."""
    apps = []
    for colour, day, port, alternative in (("blue", "01", 31000, "10001"), ("green", "02", 31100, "10001")):
        labels = {
            "0_VHOST": "bg.example.com",
            "0_PORT": "10000",
            "APP_ID": "web",
            "DEPLOYMENT_GROUP": "web",
            "DEPLOYMENT_ALT_PORT": alternative,
            "DEPLOYMENT_COLOUR": colour,
            "DEPLOYMENT_STARTED_AT": f"2026-01-{day}T00:00:00",
            "DEPLOYMENT_TARGET_INSTANCES": "4",
            "DEPLOYMENT_NEW_INSTANCES": "0",
        }
        scaled = {"lastScalingAt": f"2026-01-{day}T00:00:00Z", "lastConfigChangeAt": STAMP}
        mapping = mapped(10000 if colour == "blue" else 10001)
        apps.append(app(f"/web-{colour}", labels, tasks(port, 4), container=mapping, versionInfo=scaled))
    new = [f"10.1.0.{number}:31100" for number in range(1, 5)]
    routes = [served(asked(port, "bg.example.com"), *new) for port in (HTTP, HTTPS, 10000)]
    return apps, routes


KINDS = (weights, ports_of_an_app, redirects, app_ids, addresses, networks, nobody_there, deployment)


def written(folder: Path) -> list[Case]:
    """All of them, with their apps in files below the folder."""
    found = []
    for kind in KINDS:
        apps, routes = kind()
        home = folder / kind.__name__
        home.mkdir()
        (home / "apps.json").write_text(json.dumps({"apps": apps}))
        found.append(Case(kind.__name__, home, ARGS, {}, routes))
    return found
