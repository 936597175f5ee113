"""Where the edge's own rules differ from marathon-lb's on purpose: each difference, both ways.

`compat = "marathon-lb"` gives what is on the left of each test, the default what is on the right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lb7.config import L7Config
from lb7.resolve import Request, Resolution, listeners_at, resolve
from lb7.table import AuthRule
from mesos_dns.model import App, AppCheck, Entity, Health
from tests.fakes.marathon_apps import app, task, tasks, view_of

AUTH = {"0_AUTH": "R:bob:$1$x$UH1JOqOf8vvDkgfHi2kFZ0"}
WEB = app("/web", {"0_VHOST": "a.b"})


class Both:
    """The same apps under both kinds of rules."""

    def __init__(self, *entities: Entity, **config: Any) -> None:
        self.views = [
            view_of(rules, *entities) for rules in (L7Config(compat="marathon-lb", **config), L7Config(**config))
        ]

    def ask(self, port: int = 80, **request: Any) -> list[list[Resolution]]:
        """What all listeners at a port do, by each kind of rules."""
        passes = request.pop("passes", False)

        def right(_: AuthRule) -> bool:
            return bool(passes)

        return [
            [
                resolve(view.table, listener, Request(**request), compat=compat, passes=right)
                for listener in listeners_at(view.table, port)
            ]
            for view, compat in zip(self.views, (True, False), strict=True)
        ]

    def clusters(self, port: int = 80, **request: Any) -> tuple[list[str], list[str]]:
        """The clusters that requests get to."""
        compat, safe = self.ask(port, **request)
        return sorted(one.cluster for one in compat), sorted(one.cluster for one in safe)

    def actions(self, port: int = 80, **request: Any) -> tuple[list[str], list[str]]:
        """What is done."""
        compat, safe = self.ask(port, **request)
        return [one.action for one in compat], [one.action for one in safe]

    def reasons(self) -> tuple[list[str], list[str]]:
        """The words of problems."""
        compat, safe = (sorted(view.problem_counts.elements()) for view in self.views)
        return compat, safe


def with_tasks(apps: Iterable[App]) -> list[Entity]:
    """Apps and two tasks of each, at ports of their own."""
    found: list[Entity] = []
    for number, of in enumerate(apps):
        found += [of, *tasks(of, port=31000 + 10 * number)]
    return found


def test_the_longest_path_wins() -> None:
    paths = [
        app(f"/p{path}", {"0_VHOST": "a.b", "0_PATH": path}, ports=(port,))
        for path, port in (("/api", 1), ("/api/v2", 2))
    ]
    assert Both(*with_tasks(paths)).clusters(host="a.b", path="/api/v2/x") == (["/p/api:1"], ["/p/api/v2:2"])


def test_weights_are_no_order_of_rules() -> None:
    root = app("/root", {"0_VHOST": "a.b", "0_BACKEND_WEIGHT": "9"}, ports=(1,))
    path = app("/path", {"0_VHOST": "a.b", "0_PATH": "/x"}, ports=(2,))
    both = Both(*with_tasks([root, path]))
    assert both.clusters(host="a.b", path="/x") == (["/root:1"], ["/path:2"])
    assert both.reasons() == ([], ["weight"])


def test_paths_end_where_segments_do() -> None:
    both = Both(*with_tasks([app("/api", {"0_VHOST": "a.b", "0_PATH": "/api"})]))
    assert both.actions(host="a.b", path="/apix") == (["proxy"], ["unavailable"])
    assert both.actions(host="a.b", path="/api/x") == (["proxy"], ["proxy"])


def test_other_spellings_of_a_path_are_the_same_path() -> None:
    both = Both(*with_tasks([app("/api", {"0_VHOST": "a.b", "0_PATH": "/api"})]))
    assert both.actions(host="a.b", path="/%61pi//x") == (["unavailable"], ["proxy"])


def test_a_path_without_a_slash_is_told() -> None:
    both = Both(*with_tasks([app("/api", {"0_VHOST": "a.b", "0_PATH": "api"})]))
    assert both.actions(host="a.b", path="/api") == (["unavailable"], ["unavailable"])
    assert both.reasons() == ([], ["path"])


def test_a_host_with_a_port_is_the_host() -> None:
    both = Both(*with_tasks([WEB]))
    assert both.actions(host="a.b:80") == (["unavailable"], ["proxy"])
    assert both.actions(host="a.b.") == (["unavailable"], ["proxy"])


def test_wildcards() -> None:
    both = Both(*with_tasks([app("/wild", {"0_VHOST": "*.a.b"})]))
    assert both.actions(host="x.a.b") == (["unavailable"], ["proxy"])
    assert both.reasons() == (["wildcard"], [])


def test_what_a_name_leaves_free_is_no_wildcards() -> None:
    api = app("/api", {"0_VHOST": "x.a.b", "0_PATH": "/api"}, ports=(1,))
    wild = app("/wild", {"0_VHOST": "*.a.b,*"}, ports=(2,))
    both = Both(*with_tasks([api, wild]))
    assert both.clusters(host="x.a.b", path="/login") == ([""], [""])
    assert both.clusters(host="y.a.b", path="/login") == ([""], ["/wild:2"])


def test_a_deployment_group_is_of_one_folder() -> None:
    labels = {"0_VHOST": "a.b", "DEPLOYMENT_GROUP": "shop"}
    both = Both(*with_tasks([app(f"/{name}/web", labels, ports=(1,)) for name in ("prod", "evil")]))
    assert [view.table.clusters.keys() for view in both.views] == [{"/shop:1"}, {"/prod/shop:1", "/evil/shop:1"}]


def test_service_ports_that_are_made_up_are_the_older_apps() -> None:
    apps = [app(name, ports=(0,), network="container", changed=at) for name, at in (("/a-new", 2.0), ("/z-old", 1.0))]
    both = Both(*apps, *[task(of, addresses=(f"9.0.0.{n}",)) for n, of in enumerate(apps)], auto_ports=(7, 8))
    assert both.clusters(7) == (["/a-new:7"], ["/z-old:7"])


def test_a_redirect_of_the_root_is_the_virtual_hosts() -> None:
    both = Both(*with_tasks([app("/web", {"0_VHOST": "a.b", "0_HTTP_BACKEND_REDIR": "/start"})]))
    assert both.actions(host="a.b") == both.actions(10000, host="a.b") == (["redirect"], ["redirect"])
    assert both.actions(9091, app_id="/web", host="a.b") == (["redirect"], ["proxy"])
    assert both.actions(9091, app_id="/web", host="other") == (["proxy"], ["proxy"])


def test_a_tcp_port_with_a_virtual_host_costs_the_host_alone() -> None:
    of = app("/two", {"0_VHOST": "a.b", "1_VHOST": "c.d", "1_MODE": "tcp"}, ports=(10000, 10001))
    both = Both(of, *tasks(of))
    assert both.actions(host="a.b") == (["unavailable"], ["proxy"])
    assert both.actions(10001) == ([], ["proxy"])


def test_https_goes_by_the_host_header() -> None:
    both = Both(*with_tasks([WEB]))
    assert both.actions(443, host="a.b", sni="") == (["unavailable"], ["proxy"])
    assert both.actions(443, host="other", sni="a.b") == (["proxy"], ["unavailable"])
    assert both.actions(443, host="a.b", sni="A.B") == (["unavailable"], ["proxy"])


def test_the_password_is_asked_for_everywhere() -> None:
    both = Both(*with_tasks([app("/web", {"0_VHOST": "a.b"} | AUTH)]))
    assert both.actions(host="a.b") == (["auth"], ["auth"])
    assert both.actions(10000) == (["proxy"], ["auth"])
    assert both.actions(9091, app_id="/web") == (["proxy"], ["auth"])
    assert both.actions(10000, passes=True) == (["proxy"], ["proxy"])
    assert both.reasons() == (["auth-bypass"], [])


def test_a_password_for_a_tcp_port_keeps_it_shut() -> None:
    both = Both(*with_tasks([app("/web", {"0_MODE": "tcp"} | AUTH)]))
    assert both.actions(10000) == (["proxy"], [])


def test_a_redirect_to_https_leaves_other_paths_alone() -> None:
    root = app("/root", {"0_VHOST": "a.b", "0_REDIRECT_TO_HTTPS": "true"}, ports=(1,))
    plain = app("/plain", {"0_VHOST": "a.b", "0_PATH": "/plain", "0_BACKEND_WEIGHT": "5"}, ports=(2,))
    both = Both(*with_tasks([root, plain]))
    assert both.actions(host="a.b", path="/plain") == (["redirect"], ["proxy"])
    assert both.actions(host="a.b", path="/x") == (["redirect"], ["redirect"])


def test_a_redirect_to_https_needs_https() -> None:
    root = app("/root", {"0_VHOST": "a.b", "0_REDIRECT_TO_HTTPS": "true"})
    both = Both(*with_tasks([root]), https=())
    assert both.actions(host="a.b") == (["redirect"], ["proxy"])
    assert both.reasons() == ([], ["redirect"])


def test_of_two_apps_on_one_host_the_older_serves() -> None:
    apps = [app("/a-new", {"0_VHOST": "a.b"}, ports=(1,), changed=2.0), app("/z-old", {"0_VHOST": "a.b"}, ports=(2,))]
    both = Both(*with_tasks(apps))
    assert both.clusters(host="a.b") == (["/a-new:1"], ["/z-old:2"])
    assert both.reasons() == ([], ["route-conflict"])


def test_a_suspended_app_holds_nothing() -> None:
    old = app("/old", {"0_VHOST": "a.b"}, ports=(1,), changed=1.0, instances=0)
    new = app("/new", {"0_VHOST": "a.b"}, ports=(2,), changed=2.0)
    assert Both(old, new, *tasks(new)).clusters(host="a.b") == (["/new:2"], ["/new:2"])


def test_of_two_apps_at_one_service_port_the_older_listens() -> None:
    apps = [app("/a-new", changed=2.0), app("/z-old", changed=1.0)]
    both = Both(*with_tasks(apps))
    assert both.clusters(10000) == (["/a-new:10000", "/z-old:10000"], ["/z-old:10000"])
    assert both.reasons() == (["port-conflict"] * 2, ["port-conflict"])


def test_a_path_without_servers_is_not_another_apps() -> None:
    api = app("/api", {"0_VHOST": "a.b", "0_PATH": "/api"}, ports=(10001,))
    both = Both(WEB, api, *tasks(WEB))
    assert both.clusters(host="a.b", path="/api") == (["/web:10000"], ["/api:10001"])
    assert both.actions(host="a.b", path="/api") == (["proxy"], ["unavailable"])


def test_a_service_port_without_servers_stays_open() -> None:
    both = Both(WEB)
    assert both.actions(10000) == ([], ["unavailable"])


def test_checks_that_speak_http_make_a_port_http() -> None:
    of = app("/web", checks=(AppCheck(protocol="MESOS_HTTP", port_index=0),))
    both = Both(*with_tasks([of]))
    assert both.actions(9091, app_id="/web") == (["unavailable"], ["proxy"])


def test_a_mapping_without_a_service_port_keeps_its_index() -> None:
    of = app("/web", {"0_VHOST": "zero", "1_VHOST": "one"}, ports=(0, 10001))
    both = Both(of, *tasks(of))
    compat, safe = both.ask(host="one")
    assert [one.action for one in compat] == ["unavailable"]
    assert [one.servers for one in safe] == [("10.1.0.1:31001", "10.1.0.2:31001")]
    assert [one.servers for one in both.ask(host="zero")[0]] == [("10.1.0.1:31000", "10.1.0.2:31000")]


def test_ids_with_capitals_are_found_whatever_the_map() -> None:
    both = Both(*with_tasks([app("/Web", {"0_VHOST": "a.b"})]), haproxy_map=True)
    assert both.actions(9091, app_id="/web") == (["unavailable"], ["proxy"])


def test_pods_are_routed() -> None:
    pod = app("/pod", {"0_VHOST": "a.b"}, kind="pod")
    assert Both(pod, *tasks(pod)).actions(host="a.b") == (["unavailable"], ["proxy"])


def test_blanks_around_groups_do_not_matter() -> None:
    of = app("/web", {"0_VHOST": "a.b"}, group="internal, external")
    assert Both(of, *tasks(of)).actions(host="a.b") == (["unavailable"], ["proxy"])


def test_what_neither_does() -> None:
    """Hazards of marathon-lb that `compat` does not bring back."""
    alike = [app("/team/prod/svc", ports=(1,)), app("/team/prod_svc", ports=(2,))]
    both = Both(*with_tasks(alike))
    assert both.clusters(9091, app_id="/team/prod_svc") == (["/team/prod_svc:2"], ["/team/prod_svc:2"])
    greedy = app("/greedy", {"0_PORT": "80"})
    both = Both(WEB, greedy, *tasks(WEB), *tasks(greedy, port=32000))
    assert both.clusters(host="a.b") == (["/web:10000"], ["/web:10000"])
    raw = app("/raw", {"0_VHOST": "a.b", "0_HTTP_FRONTEND_HEAD": "x", "0_BACKEND_HTTP_OPTIONS": "http-request deny"})
    both = Both(raw, *tasks(raw))
    assert both.actions(host="a.b") == (["proxy"], ["proxy"])
    assert both.reasons() == (["template", "unknown-label"], ["template", "unknown-label"])


def test_what_both_do() -> None:
    """Health is as marathon-lb has it, also where it leaves no server."""
    both = Both(WEB, *[task(WEB, number, health=Health.UNHEALTHY) for number in (1, 2)])
    assert both.actions(host="a.b") == (["unavailable"], ["unavailable"])


def test_a_path_of_several_meanings_is_refused_where_a_password_depends_on_it() -> None:
    closed = app("/closed", {"0_VHOST": "a.b", "0_PATH": "/admin"} | AUTH, ports=(1,))
    both = Both(*with_tasks([closed, app("/open", {"0_VHOST": "a.b"}, ports=(2,))]))
    assert both.actions(host="a.b", path="/admin/../x") == (["auth"], ["ambiguous"])
    assert both.actions(host="a.b", path="/%61dmin") == (["proxy"], ["auth"])
