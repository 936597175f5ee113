"""Labels of apps, read into what their ports ask for."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from lb7.config import L7Config
from lb7.label_values import MAX_LABEL, MOST_ITEMS, MOST_LABELS, MOST_PORTS, NOBODY
from lb7.labels import read_app, service_ports
from lb7.port_spec import HSTS, STICKY, AppSpec, PortSpec, UnitKey
from lb7.table import AuthRule, PathPrefix, ServerCheck
from mesos_dns.model import App, AppCheck, AppPort
from tests.fakes.marathon_apps import HTTP_CHECK, app

SAFE = L7Config()
COMPAT = L7Config(compat="marathon-lb")


def read(of: App, config: L7Config = SAFE) -> AppSpec:
    return read_app(of, config, UnitKey(of.cluster, of.framework_id, of.id))


def port(labels: dict[str, str] | None = None, config: L7Config = SAFE, **more: Any) -> PortSpec:
    """The one port of an app with these labels, which has no problems."""
    spec = read(app("/a", labels, **more), config)
    assert spec.problems == ()
    assert len(spec.ports) == 1
    return spec.ports[0]


def reasons(labels: dict[str, str], config: L7Config = SAFE, **more: Any) -> tuple[list[str], tuple[PortSpec, ...]]:
    """The words of all problems, and the ports."""
    spec = read(app("/a", labels, **more), config)
    assert {problem.app for problem in spec.problems} <= {"/a"}
    return [problem.reason for problem in spec.problems], spec.ports


# --- which ports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "group", "own", "routed"),
    [
        (("external",), "external", None, True),
        (("external",), "internal", None, False),
        (("external",), "internal,external", None, True),
        (("external", "internal"), "internal", None, True),
        (("external",), "", None, False),
        (("*",), "", None, True),
        (("external",), "internal", "external", True),
        (("external",), "external", "internal", False),
    ],
)
def test_groups(groups: tuple[str, ...], group: str, own: str | None, routed: bool) -> None:
    labels = {"0_GROUP": own} if own is not None else {}
    for compat in (SAFE, COMPAT):
        config = structs.replace(compat, groups=groups)
        assert bool(read(app("/a", labels, group=group), config).ports) is routed


def test_blanks_in_groups_are_part_of_them_for_marathon_lb_alone() -> None:
    of = app("/a", group="internal, external")
    assert read(of, SAFE).ports
    assert not read(of, COMPAT).ports


def test_a_group_of_one_port_leaves_the_others_alone() -> None:
    spec = read(app("/a", {"1_GROUP": "external"}, group="internal", ports=(10000, 10001)))
    assert [found.port for found in spec.ports] == [10001]


def test_labels_of_a_port_that_is_listed_twice_are_known() -> None:
    assert reasons({"1_VHOST": "a.b"}, COMPAT, ports=(1, 1))[0] == []
    assert reasons({"2_VHOST": "a.b"}, COMPAT, ports=(1, 1))[0] == ["port-index"]


@pytest.mark.parametrize(
    ("strict", "enabled", "routed"),
    [
        (False, None, True),
        (True, None, False),
        (True, "true", True),
        (False, "false", False),
        (False, "perhaps", False),
    ],
)
def test_enabled(strict: bool, enabled: str | None, routed: bool) -> None:
    labels = {"0_ENABLED": enabled} if enabled is not None else {}
    assert bool(read(app("/a", labels), L7Config(strict=strict)).ports) is routed


@pytest.mark.parametrize("own", ["marathon-lb", "/marathon-lb"])
def test_the_edge_does_not_route_to_itself(own: str) -> None:
    config = L7Config(own_app=own)
    assert not read(app("/marathon-lb"), config).ports
    assert read(app("/x/marathon-lb"), config).ports


def test_pods_are_routed_by_safe_rules_alone() -> None:
    assert read(app("/a", kind="pod")).ports
    assert not read(app("/a", kind="pod"), COMPAT).ports


def test_places_of_ports() -> None:
    of = structs.replace(app("/a"), ports=(AppPort(0, 80), AppPort(10001, 81), AppPort(10001, 82)))
    assert service_ports(of, compat=False) == [(0, (0,), 0), (1, (1,), 10001), (2, (2,), 10001)]
    # marathon-lb: mappings without a service port are skipped, of two with one the labels of the last count.
    assert service_ports(of, compat=True) == [(1, (0, 1), 10001)]
    none = structs.replace(of, ports=(AppPort(0, 80),))
    assert service_ports(none, compat=True) == []
    assert service_ports(structs.replace(none, network="container"), compat=True) == [(0, (0,), 0)]
    twice = structs.replace(
        of, ports=(AppPort(0, 53), AppPort(0, 80), AppPort(0, 53, protocol="udp"), AppPort(0, 0), AppPort())
    )
    assert service_ports(structs.replace(twice, network="container"), compat=True) == [
        (2, (0, 2), 0),
        (1, (1,), 0),
        (3, (3,), 0),
        (4, (4,), 0),
    ]


# --- values ---------------------------------------------------------------------------------------


def test_an_app_without_labels_is_a_tcp_port() -> None:
    spec = port(checks=())
    assert (spec.mode, spec.port, spec.listed, spec.hosts, spec.balance) == ("tcp", 10000, 10000, (), "roundrobin")
    assert (spec.sticky, spec.hsts, spec.allow, spec.weight, spec.check) == ("", "", (), 1, None)


def test_all_that_can_be_said() -> None:
    spec = port(
        {
            "0_VHOST": "a.example.com, B.example.com",
            "0_PATH": "-i /x /y/",
            "0_STICKY": "true",
            "0_REDIRECT_TO_HTTPS": "true",
            "0_USE_HSTS": "true",
            "0_AUTH": "Realm:bob:$1$x$UH1JOqOf8vvDkgfHi2kFZ0",
            "0_SSL_CERT": "/etc/ssl/a.pem",
            "0_BIND_ADDR": "10.0.0.1",
            "0_BIND_OPTIONS": "alpn h2,http/1.1 no-sslv3 force-tlsv12 ciphers AES128+EECDH",
            "0_PORT": "15000",
            "0_BALANCE": "leastconn",
            "0_HTTP_BACKEND_PROXYPASS_PATH": "/x",
            "0_HTTP_BACKEND_REVPROXY_PATH": "/back",
            "0_HTTP_BACKEND_REDIR": "/start",
            "0_BACKEND_NETWORK_ALLOWED_ACL": "10.1.40.0/24 10.1.55.43",
        }
    )
    assert spec.hosts == ("a.example.com", "b.example.com")
    assert spec.paths == (PathPrefix("/x", True), PathPrefix("/y", True))
    assert spec.auth == AuthRule((), "Realm", (("bob", "$1$x$UH1JOqOf8vvDkgfHi2kFZ0"),))
    assert (spec.sticky, spec.hsts, spec.redirect, spec.balance) == (STICKY, HSTS, True, "leastconn")
    assert (spec.certificate, spec.address, spec.port, spec.open) == ("/etc/ssl/a.pem", "10.0.0.1", 15000, True)
    assert (spec.strip_path, spec.host, spec.location, spec.root_redirect) == ("/x", "a.example.com", "/back", "/start")
    assert spec.allow == ("10.1.40.0/24", "10.1.55.43/32")
    assert spec.check == ServerCheck("http", "/health", 30, 10, 4)


def test_who_is_to_serve_what_two_ask_for() -> None:
    assert port(changed=3.0).rank == (False, 3.0, "/a", "m-0001", "mesos")
    assert port(changed=3.0, instances=0).rank[0] is True


@pytest.mark.parametrize(
    ("protocol", "label", "vhost", "safe", "compat"),
    [
        ("HTTP", "", "", "http", "http"),
        ("MESOS_HTTP", "", "", "http", "tcp"),
        ("HTTPS", "", "", "http", "tcp"),
        ("TCP", "", "", "tcp", "tcp"),
        ("TCP", "", "a.b", "http", "http"),
        ("HTTP", "TCP", "", "tcp", "tcp"),
        ("TCP", "http", "", "http", "http"),
    ],
)
def test_modes(protocol: str, label: str, vhost: str, safe: str, compat: str) -> None:
    checks = (structs.replace(HTTP_CHECK, protocol=protocol),)
    labels = {"0_MODE": label, "0_VHOST": vhost}
    assert port(labels, checks=checks).mode == safe
    assert port(labels, COMPAT, checks=checks).mode == compat


def test_the_check_of_another_port_goes_before_the_label_at_marathon_lb() -> None:
    checks = (structs.replace(HTTP_CHECK, protocol="MESOS_HTTP", port_index=1),)
    labels = {"0_MODE": "tcp", "0_BACKEND_HEALTHCHECK_PORT_INDEX": "1"}
    for config, mode in ((SAFE, "tcp"), (COMPAT, "http")):
        found = read(app("/a", labels, ports=(1, 2), checks=checks), config).ports[0]
        assert (found.mode, found.check_index) == (mode, 1)


def test_a_password_makes_a_port_speak_http() -> None:
    assert port({"0_AUTH": "r:u:$1$x$UH1JOqOf8vvDkgfHi2kFZ0"}, checks=()).mode == "http"


def test_marathon_lbs_order() -> None:
    def order(labels: dict[str, str]) -> int:
        return port({"0_VHOST": "a.b"} | labels, COMPAT).order

    assert order({}) == 0
    assert order({"0_PATH": "/x"}) == 1
    assert order({"0_PATH": "/x", "0_BACKEND_WEIGHT": "0"}) == 1
    assert order({"0_PATH": "/x", "0_BACKEND_WEIGHT": "-1"}) == -1
    assert order({"0_BACKEND_WEIGHT": "5"}) == 5


def test_hosts_and_paths_as_marathon_lb_takes_them() -> None:
    spec = port({"0_VHOST": "A.b:8080,, c", "0_PATH": "x /Y/"}, COMPAT)
    assert spec.hosts == ("a.b:8080", "c")
    assert spec.paths == (PathPrefix("x", whole=False), PathPrefix("/Y/", whole=False))


def test_blanks_part_hosts_at_marathon_lb() -> None:
    assert port({"0_VHOST": "a.com b.com, c"}, COMPAT).hosts == ("a.com", "b.com", "c")
    spec = port({"0_VHOST": "a.com b.com", "0_HTTP_BACKEND_REDIR": "/x"}, COMPAT)
    assert (spec.root_redirect, spec.root_redirect_hosts) == ("/x", ("a.com", "b.com"))
    assert port({"0_VHOST": "a.com,b.com", "0_HTTP_BACKEND_REDIR": "/x"}).root_redirect_hosts == ()


def test_any_virtual_host_makes_a_port_http_at_marathon_lb() -> None:
    found, ports = reasons({"0_VHOST": "*.a.b"}, COMPAT, checks=())
    assert (found, ports[0].mode, ports[0].hosts) == (["wildcard"], "http", ())


def test_the_root_is_every_path() -> None:
    assert port({"0_VHOST": "a.b", "0_PATH": "/x /"}).paths == ()


def test_options_in_haproxys_language_that_have_a_meaning() -> None:
    spec = port(
        {
            "0_BACKEND_SERVER_OPTIONS": "server {serverName} {host_ipv4}:{port} weight 7 maxconn 9{otherOptions}",
            "0_BACKEND_HEAD": "backend {backend}\n balance source\n mode {mode}",
            "0_BACKEND_STICKY_OPTIONS": "cookie MINE insert indirect nocache",
            "0_STICKY": "yes",
        }
    )
    assert (spec.weight, spec.max_requests, spec.balance, spec.sticky) == (7, 9, "source", "MINE")


def test_service_ports_are_listened_on_where_the_configuration_says() -> None:
    assert port(config=L7Config(service_address="10.0.0.9")).address == "10.0.0.9"
    assert port({"0_BIND_ADDR": "10.0.0.1"}, L7Config(service_address="10.0.0.9")).address == "10.0.0.1"
    assert port({"0_BIND_ADDR": "*"}, L7Config(service_address="fd00::1")).address == "[fd00::1]"


def test_checks_can_be_off() -> None:
    assert port(config=L7Config(checks=False)).check is None
    assert port(checks=(AppCheck(protocol="COMMAND", port_index=0),)).check is None


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"0_PORT": "x"}, "number"),
        ({"0_PORT": "0"}, "number"),
        ({"0_BACKEND_WEIGHT": "high"}, "number"),
        ({"0_BACKEND_WEIGHT": "2"}, "weight"),
        ({"0_STICKY": "1"}, "boolean"),
        ({"0_BALANCE": "uri"}, "balance"),
        ({"0_MODE": "udp"}, "mode"),
        ({"0_MODE": "tcp", "0_VHOST": "a.b"}, "mode"),
        ({"0_VHOST": "a b"}, "vhost"),
        ({"0_PATH": "/x"}, "path-without-vhost"),
        ({"0_VHOST": "a.b", "0_PATH": "x"}, "path"),
        ({"0_VHOST": "a.b", "0_PATH": "-m reg x"}, "path"),
        ({"0_REDIRECT_TO_HTTPS": "true"}, "redirect"),
        ({"0_HTTP_BACKEND_REDIR": "/x"}, "redirect"),
        ({"0_VHOST": "a.b", "0_HTTP_BACKEND_REDIR": "/"}, "redirect"),
        ({"0_HTTP_BACKEND_PROXYPASS_PATH": "/x y"}, "text"),
        ({"0_HTTP_BACKEND_REVPROXY_PATH": "/x\r\ny"}, "text"),
        ({"0_BACKEND_NETWORK_ALLOWED_ACL": "here"}, "network"),
        ({"0_SSL_CERT": "a.pem crt b.pem"}, "certificate"),
        ({"0_BIND_ADDR": "eth0"}, "bind"),
        ({"0_BIND_OPTIONS": "accept-proxy"}, "bind-options"),
        ({"0_FRONTEND_HEAD": "frontend x"}, "template"),
        ({"0_VHOSTS": "a.b"}, "unknown-label"),
        ({"DEPLOYMENT_GRUOP": "x"}, "unknown-label"),
        ({"1_VHOST": "a.b"}, "port-index"),
    ],
)
def test_a_bad_label_costs_only_what_it_says(labels: dict[str, str], reason: str) -> None:
    found, ports = reasons(labels)
    assert found == [reason]
    assert len(ports) == 1


def test_what_can_not_be_matched_is_not_taken_for_everything() -> None:
    for config in (SAFE, COMPAT):
        _, ports = reasons({"0_VHOST": "a.b", "0_PATH": "-m reg x"}, config)
        assert ports[0].hosts == ()


def test_nobody_comes_in_whom_a_bad_label_might_have_kept_out() -> None:
    assert reasons({"0_AUTH": "realm:user"}) == (["auth"], ())
    assert reasons({"0_AUTH": "realm:user"}, COMPAT) == (["auth"], ())
    assert reasons({"0_AUTH": "r:u:$1$x$UH1JOqOf8vvDkgfHi2kFZ0", "0_MODE": "tcp"}) == (["auth"], ())
    _, ports = reasons({"0_BACKEND_NETWORK_ALLOWED_ACL": "here 10.0.0.0/8"})
    assert ports[0].allow == (NOBODY, "10.0.0.0/8")


def test_what_can_not_be_listened_on_as_asked_is_not_listened_on() -> None:
    for labels in ({"0_BIND_ADDR": "eth0"}, {"0_SSL_CERT": "a b"}):
        _, ports = reasons(labels)
        assert ports[0].open is False


def test_problems_of_marathon_lbs_rules() -> None:
    assert reasons({"0_AUTH": "r:u:$1$x$UH1JOqOf8vvDkgfHi2kFZ0"}, COMPAT)[0] == ["auth-bypass"]
    found, ports = reasons({"0_VHOST": "*.a.b,c"}, COMPAT)
    assert (found, ports[0].hosts) == (["wildcard"], ("c",))
    assert reasons({"0_VHOST": "a.b", "0_MODE": "tcp"}, COMPAT) == (["mode"], ())
    assert reasons({"0_VHOST": "a.b,c", "0_HTTP_BACKEND_REDIR": "/x"}, COMPAT)[0] == ["redirect"]
    assert reasons({"0_BACKEND_WEIGHT": "2"}, COMPAT)[0] == []


def test_a_tcp_port_with_a_host_costs_the_whole_app_at_marathon_lb() -> None:
    labels = {"0_VHOST": "x.y", "1_VHOST": "z", "1_MODE": "tcp"}
    assert reasons(labels, COMPAT, ports=(1, 2)) == (["mode"], ())
    assert len(reasons(labels, ports=(1, 2))[1]) == 2


def test_apps_of_other_groups_have_no_problems() -> None:
    assert reasons({"0_PORT": "x", "9_VHOST": "y"}, group="internal") == ([], ())


def test_problems_name_the_label_and_the_value() -> None:
    spec = read(app("/a", {"0_BALANCE": "uri"}))
    assert spec.problems[0].text.startswith("HAPROXY_0_BALANCE: expected one of roundrobin")
    assert "'uri'" in spec.problems[0].text


def test_a_password_that_nobody_can_have_is_told_and_asked_for() -> None:
    spec = read(app("/a", {"0_AUTH": "r:u:secret"}))
    assert [problem.reason for problem in spec.problems] == ["auth"]
    assert "secret" not in spec.problems[0].text
    assert spec.ports[0].auth == AuthRule((), "r", (("u", "secret"),))


# --- too much -------------------------------------------------------------------------------------

LONG = "x" * (MAX_LABEL + 1)


@pytest.mark.parametrize("config", [SAFE, COMPAT])
def test_a_label_that_is_too_long_is_not_looked_at(config: L7Config) -> None:
    found, ports = reasons({"0_VHOST": LONG, "0_BACKEND_SERVER_OPTIONS": "a " * 200_000, "X": LONG}, config)
    assert found == ["limit"] * 3
    assert (ports[0].hosts, ports[0].weight) == ((), 1)
    assert reasons({"0_VHOST": LONG}, config, group="internal") == ([], ())


@pytest.mark.parametrize(
    "name", ["AUTH", "BACKEND_NETWORK_ALLOWED_ACL", "PATH", "GROUP", "ENABLED", "BIND_ADDR", "MODE"]
)
def test_without_a_label_that_says_who_may_come_in_nobody_does(name: str) -> None:
    found, ports = reasons({"0_VHOST": "a.b", f"0_{name}": LONG}, ports=(1, 2))
    assert (found, [one.port for one in ports]) == (["limit"], [2])


def test_too_many_labels_or_ports() -> None:
    assert reasons({f"0_X{number}": "" for number in range(MOST_LABELS)}) == (["limit"], ())
    assert reasons({f"{number}_BACKEND_HEAD": "x" * 16000 for number in range(9)}) == (["limit"], ())
    found, ports = reasons({}, ports=range(1, MOST_PORTS + 2))
    assert (found, len(ports)) == (["limit"], MOST_PORTS)


@pytest.mark.parametrize("config", [SAFE, COMPAT])
def test_too_many_hosts_and_networks(config: L7Config) -> None:
    hosts = ",".join(f"h{number}" for number in range(MOST_ITEMS + 5))
    networks = " ".join(f"10.{number // 250}.{number % 250}.1" for number in range(MOST_ITEMS + 5))
    found, ports = reasons({"0_VHOST": hosts, "0_BACKEND_NETWORK_ALLOWED_ACL": networks}, config)
    assert found == ["limit"] * 2
    assert (len(ports[0].hosts), len(ports[0].allow)) == (MOST_ITEMS, MOST_ITEMS)


def test_too_many_of_an_app() -> None:
    hosts = ",".join(f"h{number}" for number in range(MOST_ITEMS))
    many = {f"{index}_VHOST": hosts for index in range(6)}
    found, ports = reasons(many | {"5_BACKEND_NETWORK_ALLOWED_ACL": "10.0.0.1"}, ports=range(1, 7))
    assert found == ["limit"] * 2
    assert [len(one.hosts) for one in ports] == [MOST_ITEMS] * 5 + [0]
    assert ports[5].allow == (NOBODY,)


def test_hosts_times_paths() -> None:
    paths = " ".join(f"/{number}" for number in range(100))
    hosts = ",".join(f"h{number}" for number in range(150))
    found, ports = reasons({"0_VHOST": hosts, "0_PATH": paths})
    assert (found, len(ports[0].hosts), len(ports[0].paths)) == (["limit"], 100, 100)


def test_a_long_name_is_told_by_its_beginning() -> None:
    (problem,) = read(app("/a", {f"0_{LONG}": "x"})).problems
    assert len(problem.text) < 200
