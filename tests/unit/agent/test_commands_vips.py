"""`pharos vips` against a Pharos that answers what the test says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent import cli

WEB: dict[str, Any] = {
    "vip": "web.marathon.l4lb.thisdcos.directory:80",
    "protocol": "tcp",
    "address": "11.0.0.1",
    "address6": "fd01:c::1",
    "state": "serving",
    "reason": "",
    "backend": [
        {"ip": "10.0.0.1", "port": 31000, "weight": 1, "health": "healthy", "state": "active", "task": "web.1"},
        {"ip": "10.0.0.2", "port": 31001, "weight": 0, "health": "pending", "state": "pending", "task": "web.2"},
    ],
    "failures": [],
    "shared": ["other.marathon.l4lb.thisdcos.directory:81"],
}
BROKEN: dict[str, Any] = {
    "vip": "10.1.2.3:5432",
    "protocol": "tcp",
    "address": "10.1.2.3",
    "state": "failed",
    "reason": "add-service: not permitted",
    "backend": [],
    "failures": [{"operation": "add-service", "address": "10.1.2.3", "errno": "EPERM", "reason": "not permitted"}],
}


def test_a_table_of_all(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/vips"] = (200, [WEB])
    assert cli.main(["vips", "--api", answers.url]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["VIP", "PROTOCOL", "ADDRESS", "STATE", "BACKENDS", "REASON"]
    assert line.split()[:5] == [WEB["vip"], "tcp", "11.0.0.1,fd01:c::1", "serving", "1/2"]
    assert line.endswith("shares backends with other.marathon.l4lb.thisdcos.directory:81")


def test_json_is_what_the_server_says(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/vips"] = (200, [WEB])
    assert cli.main(["vips", "--api", answers.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [WEB]


def test_one_with_its_backends_and_failures(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/vips?name=10.1.2.3"] = (200, [BROKEN, WEB])
    assert cli.main(["vips", "10.1.2.3", "--api", answers.url]) == 1
    out = capsys.readouterr().out
    assert "  add-service  10.1.2.3  EPERM  not permitted" in out
    assert "  10.0.0.2  31001  0       pending  pending  -     web.2" in out


def test_one_that_is_not_there(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/vips?name=nobody"] = (200, [])
    assert cli.main(["vips", "nobody", "--api", answers.url]) == 1
    assert "no virtual IP of 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize("value", [{}, [1], [{"vip": "x"}]])
def test_what_is_no_list_of_vips(answers: Any, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/vips"] = (200, value)
    assert cli.main(["vips", "--api", answers.url]) == 1
    assert "is this Pharos?" in capsys.readouterr().err
