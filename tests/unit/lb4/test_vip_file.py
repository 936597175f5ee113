"""The VIP file: what it holds, and what is said of each mistake."""

from __future__ import annotations

import pytest

from lb4.vip_file import MAX_SERVERS, MAX_VIPS, address_fault, name_fault, read_vips
from mesos_dns.model import Vip, VipCheck, VipSelector, VipServer
from mesos_dns.toml_tables import TomlError

WHOLE = """
[[vip]]
name = "DB.marathon"
port = 5432
scheduler = "mh"
persistence = "5m"
upper_threshold = 100
lower_threshold = 80
backends = { app = "/prod/db", framework = "marathon", labels = { tier = "db", a = "b" }, port = "pg" }
servers = [{ address = "10.0.0.4", port = 5432, weight = 2 }, { address = "FD00::0004", port = 5432 }]
check = { type = "http", path = "/up?x", interval = "500ms", timeout = 1, fall = 5, rise = 1 }

[[vip]]
address = "FD01:c::0005"
port = 53
protocol = "udp"
backends.app = "dns"
backends.port = 53
check.fall = 2
"""
VIP = "[[vip]]\nname = 'db.marathon'\nport = 1\n"
NAME = (
    "vip[0].name: expected LABEL.FRAMEWORK, such as db.marathon, of labels of 1 to 63 letters, digits and '-', "
    "at most 229 characters in all, got "
)
PORT = "expected a port from 1 to 65535, got none"
SCHEDULERS = "rr, wrr, lc, wlc, sh, mh, dh, sed, nq, lblc, lblcr, fo, ovf, twos"
ANY = "vip[0].backends: expected at least one of app, framework and labels: without them every task would be a backend"


def errors(text: str) -> list[str]:
    with pytest.raises(TomlError) as caught:
        read_vips(text.encode(), "v.toml")
    lines = str(caught.value).split("\n")
    assert all(line.startswith("v.toml: ") for line in lines)
    return [line.removeprefix("v.toml: ") for line in lines]


def test_everything_that_a_file_can_say() -> None:
    first, second = read_vips(WHOLE.encode(), "v.toml", "prod")
    assert first == Vip(
        "db.marathon",
        5432,
        "tcp",
        "mh",
        300,
        100,
        80,
        VipSelector("/prod/db", "marathon", (("a", "b"), ("tier", "db")), "pg"),
        (VipServer("10.0.0.4", 5432, 2), VipServer("fd00::4", 5432, 1)),
        VipCheck("http", "/up?x", 0.5, 1.0, 5, 1),
        "prod",
    )
    assert second == Vip(
        "fd01:c::5", 53, "udp", selector=VipSelector("dns", port="53"), check=VipCheck(fall=2), cluster="prod"
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "vip = []"])
def test_a_file_without_vips(text: str) -> None:
    assert read_vips(text.encode(), "v.toml") == ()


def test_what_is_left_out_has_its_default() -> None:
    assert read_vips(VIP.encode(), "v.toml") == (Vip("db.marathon", 1),)
    (vip,) = read_vips(f"{VIP}check = {{}}".encode(), "v.toml")
    assert vip.check == VipCheck()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vips = []", "vips: unknown key; did you mean 'vip'?"),
        ("[vip]\nport = 1", "vip: expected a list of tables: write [[vip]] instead of [vip]"),
        ("vip = 5", "vip: expected `array`, got `int`"),
        ("vip = [5]", "vip[0]: expected a table, got `int`"),
        ("[[vip]]\nport = 1", "vip[0]: expected one of address and name, got neither"),
        (VIP + "address = '11.1.2.3'", "vip[0]: expected one of address and name, got both"),
        ("[[vip]]\nname = 'db.marathon'", f"vip[0].port: {PORT}"),
        ("[[vip]]\nname = 'db.marathon'\nport = 0", "vip[0].port: expected `int` >= 1, got 0"),
        ("[[vip]]\nname = 'db.marathon'\nport = 65536", "vip[0].port: expected `int` <= 65535, got 65536"),
        ("[[vip]]\nname = 'db.marathon'\nport = true", "vip[0].port: expected `int`, got `bool`"),
        ("[[vip]]\nnam = 'db.marathon'\nport = 1", "vip[0].nam: unknown key; did you mean 'name'?"),
        ("[[vip]]\nname = 5\nport = 1", "vip[0].name: expected `str`, got `int`"),
        ("[[vip]]\nname = 'db'\nport = 1", NAME + "'db'"),
        ("[[vip]]\nname = ''\nport = 1", NAME + "''"),
        ("[[vip]]\nname = 'a_b.Marathon'\nport = 1", NAME + "'a_b.Marathon'; did you mean 'a-b.marathon'?"),
        ("[[vip]]\nname = 'a..b'\nport = 1", NAME + "'a..b'; did you mean 'a.b'?"),
        ("[[vip]]\nname = '10.0.0.300'\nport = 1", NAME + "'10.0.0.300'"),
        ("[[vip]]\nname = '10.0.0.3'\nport = 1", "vip[0].name: '10.0.0.3' is an address: set address instead"),
        ("[[vip]]\naddress = '10.0.0.300'\nport = 1", "vip[0].address: expected an IP address, got '10.0.0.300'"),
        (
            "[[vip]]\naddress = '127.0.0.5'\nport = 1",
            "vip[0].address: expected an address that all nodes can share, got the loopback address '127.0.0.5'",
        ),
        (
            "[[vip]]\naddress = '224.0.0.1'\nport = 1",
            "vip[0].address: expected an address that one machine can have, got the multicast address '224.0.0.1'",
        ),
        (VIP + "protocol = 'sctp'", 'vip[0].protocol: expected one of "tcp", "udp", got \'sctp\''),
        (VIP + "scheduler = 'wcl'", f"vip[0].scheduler: expected one of {SCHEDULERS}, got 'wcl'"),
        (VIP + "persistence = '1500ms'", "vip[0].persistence: expected whole seconds, at most 31d, got 1500ms"),
        (VIP + "persistence = '32d'", "vip[0].persistence: expected whole seconds, at most 31d, got 32d"),
        (VIP + "lower_threshold = 1", "vip[0].lower_threshold: expected at most upper_threshold, 0, got 1"),
        (VIP + "upper_threshold = 4294967296", "vip[0].upper_threshold: expected `int` <= 4294967295, got 4294967296"),
        (VIP + "upper_threshold = 'x'\nlower_threshold = 1", "vip[0].upper_threshold: expected `int`, got `str`"),
        (VIP + "backends = {}", ANY),
        (VIP + "backends = { port = 'pg' }", ANY),
        (VIP + "backends.apps = 'x'", "vip[0].backends.apps: unknown key; did you mean 'app'?"),
        (VIP + "backends.app = ''", "vip[0].backends.app: expected `str` of length >= 1, got ''"),
        (VIP + "backends = { app = 'x', labels = { a = 1 } }", "vip[0].backends.labels.a: expected `str`, got `int`"),
        (VIP + "backends = { app = 'x', port = 0 }", "vip[0].backends.port: expected `int` >= 1, got 0"),
        (
            VIP + "backends = { app = 'x', port = '65536' }",
            "vip[0].backends.port: expected a port's name or a number from 1 to 65535, got '65536'",
        ),
        (VIP + "servers = [{ address = '10.0.0.1' }]", f"vip[0].servers[0].port: {PORT}"),
        (VIP + "servers = [{ address = '10.0.0.1', prot = 1 }]", "unknown key; did you mean 'port'?"),
        (VIP + "servers = [{ port = 1 }]", "vip[0].servers[0].address: expected an IP address, got ''"),
        (
            VIP + "servers = [{ address = '10.0.0.1', port = 1, weight = 65536 }]",
            "vip[0].servers[0].weight: expected `int` <= 65535, got 65536",
        ),
        (
            VIP + "servers = [{ address = '::1', port = 1 }, { address = '0::1', port = 1 }]",
            "vip[0].servers[1]: ::1 port 1 is in servers[0] already",
        ),
        (
            "[[vip]]\naddress = '11.0.0.1'\nport = 1\nservers = [{ address = '::1', port = 1 }]",
            "vip[0].servers[0].address: expected an IPv4 address, as the VIP's own is one, got '::1'",
        ),
        (
            "[[vip]]\naddress = '11.0.0.1'\nport = 1\nservers = [{ address = '11.0.0.1', port = 1 }]",
            "vip[0].servers[0]: is the VIP itself: connections would go round in a circle",
        ),
        (VIP + "check.typ = 'tcp'", "vip[0].check.typ: unknown key; did you mean 'type'?"),
        (VIP + "check.type = 'udp'\ncheck.path = '/'", 'vip[0].check.type: expected one of "tcp", "http", got \'udp\''),
        (VIP + "check.path = '/'", 'vip[0].check.path: is for type = "http"'),
        (VIP + "check.interval = '0s'", "vip[0].check.interval: expected 100ms to 1h, got 0s"),
        (VIP + "check.timeout = '2h'", "vip[0].check.timeout: expected 100ms to 1h, got 2h"),
        (VIP + "check.fall = 0", "vip[0].check.fall: expected 1 to 100, got 0"),
        (VIP + "check.rise = 101", "vip[0].check.rise: expected 1 to 100, got 101"),
        (
            VIP + "check = { type = 'http', path = 'up' }",
            "vip[0].check.path: expected a path that begins with / and is at most 2048 characters of ASCII, "
            "without spaces, got 'up'",
        ),
        (
            VIP + "protocol = 'udp'\ncheck.type = 'http'",
            "vip[0].check.type: expected tcp: the VIP's protocol is udp, which has no HTTP",
        ),
        (VIP + VIP.replace("db", "DB"), "vip[1]: tcp db.marathon port 1 is in vip[0] already"),
    ],
)
def test_one_mistake_is_one_problem(text: str, expected: str) -> None:
    (found,) = errors(text)
    if expected.startswith("vip"):
        assert found == expected
    else:
        assert found.endswith(expected)


def test_all_problems_are_told_at_once() -> None:
    found = errors(
        "[[vip]]\nname = 'x'\nport = 0\nscheduler = 'no'\n"
        "servers = [{ address = 'y', port = 1 }, { address = '::1', port = 2, wait = 1 }]\n"
        "check = { type = 'http', path = 'z', fall = -1 }\n[[vip]]\nport = 1\n[other]\n"
    )
    assert [line.partition(": ")[0] for line in found] == [
        "vip[0].port",
        "vip[0].servers[1].wait",
        "other",
        "vip[0].name",
        "vip[0].scheduler",
        "vip[0].servers[0].address",
        "vip[0].check.path",
        "vip[0].check.fall",
        "vip[1]",
    ]


def test_one_name_with_another_protocol_or_port_is_another_vip() -> None:
    text = f"{VIP}{VIP}protocol = 'udp'\n{VIP.replace('port = 1', 'port = 2')}"
    assert len(read_vips(text.encode(), "v.toml")) == 3


def test_limits() -> None:
    text = "".join(f"{{name='a.b',port={n}}}," for n in range(1, MAX_VIPS + 1))
    assert len(read_vips(f"vip = [{text}]".encode(), "v.toml")) == MAX_VIPS
    assert errors(f"vip = [{text}{{}}]") == ["vip: expected at most 10000 VIPs, got 10001"]
    servers = "".join(f"{{address='::1',port={n}}}," for n in range(1, MAX_SERVERS + 1))
    assert len(read_vips(f"{VIP}servers = [{servers}]".encode(), "v.toml")[0].servers) == MAX_SERVERS
    assert errors(f"{VIP}servers = [{servers}{{}}]") == ["vip[0].servers: expected at most 1000 servers, got 1001"]


@pytest.mark.parametrize("text", ["10.0.0.1", "127.0.0.1", "::1", "198.51.100.200", "::ffff:10.0.0.1", "169.254.1.1"])
def test_addresses_that_a_machine_can_have(text: str) -> None:
    assert address_fault(text) == ""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0.0.0.0", "unspecified"),  # noqa: S104 - an address like others here
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("ff02::1", "multicast"),
        ("239.1.1.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("fe80::1", "link-local"),
    ],
)
def test_addresses_that_no_machine_can_have(text: str, kind: str) -> None:
    assert f"got the {kind} address" in address_fault(text)


@pytest.mark.parametrize("text", ["", "10.0.0", "010.0.0.1", "fe80::1%eth0", "10.0.0.1:80", "db.marathon"])
def test_what_is_no_address(text: str) -> None:
    assert address_fault(text) == f"expected an IP address, got {text!r}"


@pytest.mark.parametrize("name", ["a.b", "DB-1.Marathon", "web.eu.marathon", "1.2x", f"{'a' * 63}.marathon"])
def test_names(name: str) -> None:
    assert name_fault(name) == ""


@pytest.mark.parametrize(
    "name", ["a", "-a.b", "a.b.", ".a.b", "a b.c", "ä.b", f"{'a' * 64}.b", "a." * 115 + "b", "x.5"]
)
def test_what_is_no_name(name: str) -> None:
    assert name_fault(name).startswith("expected LABEL.FRAMEWORK")
