"""`pharos routes` against a Pharos that answers what the test says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent import cli

SERVERS = [
    {"address": "10.0.0.1:31000", "weight": 1, "state": "up", "task": "shop.1", "active": 1, "failures": 0},
    {"address": "10.0.0.2:31000", "weight": 1, "state": "down", "task": "shop.2", "active": 0, "failures": 7},
]
HTTP: dict[str, Any] = {"table": "http", "host": "shop.example.com"}
AUTH = {**HTTP, "kind": "auth", "paths": [{"prefix": "/admin", "whole": True}], "realm": "r", "users": ["ann", "bob"]}
OPEN = {**HTTP, "kind": "auth", "paths": []}
REDIRECT = {
    **HTTP,
    "kind": "redirect",
    "paths": [{"prefix": "/old", "whole": False, "ignore_case": True}],
    "to": "https",
}
ROUTE = {**HTTP, "kind": "route", "app": "/shop", "port": 10000, "servers": SERVERS, "problems": ["text: x\x1b[2J"]}
TCP = {"table": "port:10001", "host": "", "kind": "tcp", "app": "/db", "port": 10001, "servers": SERVERS[:1]}
REFUSED = {"table": "", "host": "", "kind": "refused", "app": "/bad", "problems": ["auth: no"]}
EXPLAINED: dict[str, Any] = {
    "listener": "http",
    "action": "auth",
    "then": "proxy",
    "realm": "r",
    "app": "/shop",
    "port": 10000,
    "steps": ["'shop.example.com' goes by 'shop.example.com' in http", "route 1 of 2 (/cart): to /shop:10000"],
    "servers": SERVERS,
    "lost": [
        {"app": "/web", "reason": "fits as well, and another path fits further", "paths": []},
        {"app": "/x", "reason": "the path does not begin so", "paths": [{"prefix": "/x", "whole": True}]},
    ],
}


def test_a_table_of_all(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/routes"] = (200, [AUTH, OPEN, REDIRECT, ROUTE, TCP, REFUSED])
    assert cli.main(["routes", "--api", answers.url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["HOST", "PATH", "TABLE", "KIND", "APP", "PORT", "SERVERS", "NOTE"]
    host = "shop.example.com"
    assert lines[1] == [host, "/admin", "http", "auth", "-", "-", "-", "password", "of", "ann,", "bob"]
    assert lines[2] == [host, "/", "http", "auth", "-", "-", "-", "everybody"]
    assert lines[3] == [host, "/old…", "(any", "case)", "http", "redirect", "-", "-", "-", "to", "https"]
    assert lines[4] == [host, "/", "http", "route", "/shop", "10000", "1/2", "1", "not", "carried", "out"]
    assert lines[5] == ["*", "/", "port:10001", "tcp", "/db", "10001", "1/1", "-"]
    assert lines[6] == ["-", "-", "-", "refused", "/bad", "-", "-", "1", "not", "carried", "out"]
    assert lines[8:] == [
        ["/shop:", "not", "carried", "out"],
        ["text:", "x\ufffd[2J"],
        [],
        ["/bad:", "not", "carried", "out"],
        ["auth:", "no"],
    ]


def test_one_host(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/routes?host=shop.example.com"] = (200, [ROUTE])
    assert cli.main(["routes", "shop.example.com", "--api", answers.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [ROUTE]
    answers.paths["/v1/routes?host=nobody"] = (200, [])
    assert cli.main(["routes", "nobody", "--api", answers.url]) == 1
    assert "no rule for 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["shop.example.com", "/cart"],
        ["shop.example.com", "/cart?x=1"],
        ["http://shop.example.com/cart"],
        ["https://u:p@shop.example.com/cart?x"],
    ],
)
def test_which_route_wins_and_why(answers: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/routes/explain?host=shop.example.com&path=%2Fcart"] = (200, [EXPLAINED])
    assert cli.main(["routes", *words, "--api", answers.url]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "http: 401, a password for 'r'; with it to /shop:10000"
    assert out[2] == "  2. route 1 of 2 (/cart): to /shop:10000"
    assert out[3].split() == ["ADDRESS", "WEIGHT", "STATE", "ACTIVE", "FAILURES", "TASK"]
    assert out[5].split() == ["10.0.0.2:31000", "1", "down", "0", "7", "shop.2"]
    assert out[6] == "  not chosen:"
    assert out[8].split(maxsplit=2) == ["/web", "/", "fits as well, and another path fits further"]
    assert out[9].split(maxsplit=2) == ["/x", "/x", "the path does not begin so"]
    assert cli.main(["routes", *words, "--api", answers.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [EXPLAINED]


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [
        ({"action": "proxy", "app": "/a", "port": 1}, 0, "http: to /a:1"),
        ({"action": "redirect", "location": "https://a/"}, 0, "http: 301 to https://a/"),
        ({"action": "ambiguous"}, 1, "http: 400, the path has several meanings"),
        ({"action": "unavailable"}, 1, "http: 503, no route"),
        ({"action": "unavailable", "app": "/a", "port": 1}, 1, "http: 503, /a:1 has no server"),
        ({"action": "deny"}, 0, "http: deny"),
    ],
)
def test_what_is_done(
    answers: Any, row: dict[str, Any], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.paths["/v1/routes/explain?host=a&path=%2F"] = (200, [{"listener": "http", **row}])
    assert cli.main(["routes", "http://a", "--api", answers.url]) == code
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == said
    assert err == ("" if code == 0 else "nobody serves a/\n")


@pytest.mark.parametrize("words", [["ftp://a/"], ["http://"], ["http://a/", "/b"], ["a", "b"], ["http://[a"]])
def test_what_is_no_host_or_path(answers: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["routes", *words, "--api", answers.url]) == 2
    assert "pharos routes: expected " in capsys.readouterr().err
    assert answers.seen == []


@pytest.mark.parametrize("value", [{}, [1], [{"x": 1}]])
def test_what_is_no_list_of_routes(answers: Any, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/routes"] = answers.paths["/v1/routes/explain?host=a&path=%2F"] = (200, value)
    assert cli.main(["routes", "--api", answers.url]) == 1
    assert cli.main(["routes", "a", "/", "--api", answers.url]) == 1
    assert capsys.readouterr().err.count("is this Pharos?") == 2
