"""`pharos status` and `pharos tasks` against a Pharos that answers what the test says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent import cli
from agent.commands_ask import is_of

TASKS: list[dict[str, Any]] = [
    {"id": "db.1", "name": "db.prod", "framework": "marathon", "state": "TASK_RUNNING", "addresses": ["10.0.0.1"]},
    {"id": "web.1", "name": "web", "discovery_name": "shop", "framework": "marathon", "state": "TASK_RUNNING"},
]


def test_status_shows_what_admin_says(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/status"] = (200, {"ready": True, "version": "1.2", "sources": {"mesos": {"connected": True}}})
    assert cli.main(["status", "--admin", answers.url]) == 0
    assert "version  1.2" in capsys.readouterr().out
    assert cli.main(["status", "--admin", answers.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "1.2"


def test_status_of_a_pharos_that_is_not_ready_is_1(answers: Any) -> None:
    answers.paths["/status"] = (200, {"ready": False})
    assert cli.main(["status", "--admin", answers.url]) == 1


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_status_falls_back_to_the_lookup_api(
    answers: Any, free_port: int, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    answers.paths["/readyz"] = (status, {"stale": ["mesos"]})
    answers.paths["/v1/version"] = (200, {"Version": "1.2"})
    admin = f"http://127.0.0.1:{free_port}"
    assert cli.main(["status", "--admin", admin, "--api", answers.url, "--json"]) == code
    value = json.loads(capsys.readouterr().out)
    assert value == {"ready": code == 0, "version": {"Version": "1.2"}, "stale": ["mesos"]}
    assert cli.main(["status", "--admin", admin, "--api", answers.url]) == code
    assert "does not answer" in capsys.readouterr().err


def test_status_with_a_wrong_token_does_not_fall_back(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/status"] = (401, b"")
    assert cli.main(["status", "--admin", answers.url, "--api", answers.url]) == 1
    assert "--token-file" in capsys.readouterr().err


def test_status_without_any_pharos_names_both_addresses(free_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port}"
    assert cli.main(["status", "--admin", url, "--api", url + "/api"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"pharos status: no answer from {url}: ")
    assert lines[1].startswith(f"no answer from {url}/api: ")


def test_status_that_is_no_object(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/status"] = (200, [])
    assert cli.main(["status", "--admin", answers.url]) == 1
    assert "is this Pharos?" in capsys.readouterr().err


@pytest.mark.parametrize("body", [TASKS, {"tasks": TASKS}])
def test_tasks_are_a_sorted_table(answers: Any, capsys: pytest.CaptureFixture[str], body: Any) -> None:
    answers.paths["/v1/tasks"] = (200, body)
    assert cli.main(["tasks", "--api", answers.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["NAME", "ID", "FRAMEWORK", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == ["db.prod", "web"]


def test_tasks_of_one_app(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/tasks"] = (200, TASKS)
    assert cli.main(["tasks", "/prod/db", "--api", answers.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == TASKS[:1]
    assert cli.main(["tasks", "other", "--api", answers.url]) == 1
    assert "no task of 'other'" in capsys.readouterr().err


@pytest.mark.parametrize("body", [1, [1], {"other": []}, "x"])
def test_tasks_that_are_none(answers: Any, capsys: pytest.CaptureFixture[str], body: Any) -> None:
    answers.paths["/v1/tasks"] = (200, body)
    assert cli.main(["tasks", "--api", answers.url]) == 1
    assert "no list of tasks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--api", "127.0.0.1:8123"], "expected http(s)://HOST:PORT"),
        (["--token-file", "/nonexistent/token"], "can't read a token from"),
        (["--api", "https://127.0.0.1:1", "--ca-file", "/nonexistent/ca"], "can't use /nonexistent/ca as PEM"),
    ],
)
def test_options_that_can_not_be_used_are_usage_errors(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert cli.main(["tasks", *words]) == 2
    assert expected in capsys.readouterr().err


def test_address_from_the_environment(answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.paths["/v1/tasks"] = (200, [])
    monkeypatch.setenv("PHAROS_API", answers.url)
    assert cli.main(["tasks"]) == 0
    answers.paths["/status"] = (200, {})
    monkeypatch.setenv("PHAROS_ADMIN", answers.url)
    assert cli.main(["status"]) == 0


@pytest.mark.parametrize(
    ("app", "expected"),
    [("db.prod", True), ("/prod/db", True), ("prod/db", True), ("db.1", True), ("db", False), ("/db/prod", False)],
)
def test_is_of(app: str, expected: bool) -> None:
    assert is_of(app, TASKS[0]) is expected
