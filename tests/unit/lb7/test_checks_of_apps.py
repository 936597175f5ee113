"""Which health check bears on a port, and how servers are checked by it."""

from __future__ import annotations

import pytest
from msgspec import structs

from lb7.checks_of_apps import check_for, check_of_servers
from lb7.table import ServerCheck
from mesos_dns.model import AppCheck
from tests.fakes.marathon_apps import app

HTTP = AppCheck(protocol="HTTP", path="/up", port_index=0, interval=5, timeout=2, max_failures=3)


def test_a_check_is_of_its_port_index_or_of_all_when_it_names_a_port() -> None:
    other = structs.replace(HTTP, port_index=1)
    assert check_for(app("/a", checks=(other, HTTP)), 0) is HTTP
    assert check_for(app("/a", checks=(other,)), 0) is None
    named = structs.replace(other, port=9000)
    assert check_for(app("/a", checks=(named, HTTP)), 0) is named


@pytest.mark.parametrize(
    ("protocol", "mode", "kind"),
    [
        ("HTTP", "http", "http"),
        ("MESOS_HTTP", "http", "http"),
        ("HTTP", "tcp", "tcp"),
        ("HTTPS", "http", "tcp"),
        ("TCP", "http", "tcp"),
        ("MESOS_TCP", "tcp", "tcp"),
    ],
)
def test_kinds(protocol: str, mode: str, kind: str) -> None:
    found = check_of_servers(app("/a", checks=(structs.replace(HTTP, protocol=protocol),)), 0, None, mode, True)
    path = "/up" if kind == "http" else "/"
    assert found == (ServerCheck(kind, path, 5, 2, 4), -1, 0)  # type: ignore[arg-type]


def test_commands_are_not_run_and_checks_can_be_off() -> None:
    command = app("/a", checks=(structs.replace(HTTP, protocol="COMMAND"),))
    assert check_of_servers(command, 0, None, "http", True) == (None, -1, 0)
    assert check_of_servers(app("/a", checks=()), 0, None, "http", True) == (None, -1, 0)
    assert check_of_servers(app("/a"), 0, None, "http", False) == (None, -1, 0)


def test_the_port_that_is_checked() -> None:
    of = app("/a", checks=(structs.replace(HTTP, port=9000),))
    assert check_of_servers(of, 0, None, "http", True)[1:] == (-1, 9000)
    assert check_of_servers(of, 0, 1, "http", True)[1:] == (1, 0)
    inside = app("/a", checks=(structs.replace(HTTP, protocol="MESOS_HTTP", port=9000),))
    check, index, port = check_of_servers(inside, 0, None, "http", True)
    assert check is not None
    assert (check.type, index, port) == ("tcp", -1, 0)


def test_the_check_of_another_port_by_label() -> None:
    of = app("/a", ports=(1, 2), checks=(structs.replace(HTTP, port_index=1),))
    assert check_of_servers(of, 0, None, "http", True)[0] is None
    check, index, _ = check_of_servers(of, 0, 1, "http", True)
    assert check is not None
    assert index == 1


def test_no_check_keeps_a_server_busy() -> None:
    check, _, _ = check_of_servers(
        app("/a", checks=(AppCheck("TCP", port_index=0, interval=0, timeout=0),)), 0, None, "tcp", True
    )
    assert check is not None
    assert (check.interval, check.timeout) == (0.5, 0.5)
