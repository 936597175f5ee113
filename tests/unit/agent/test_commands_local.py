"""Commands that need no running Pharos."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from agent import cli, log
from agent.config import Config


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text("[dns]\n[file]\npaths = ['x']\n")
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.toml"
    path.write_text("[dns]\nttl = -1\n[l7]\n")
    return path


def test_check_config(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-config", "-c", str(good)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{good}: ok; on: file, dns\n"
    assert err == ""
    assert cli.main(["check-config", "-c", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "roles": ["file", "dns"], "advice": []}


def test_check_config_gives_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_text("")
    assert cli.main(["check-config", "-c", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "on: nothing" in out
    assert err.startswith(f"{path}: warning: neither [mesos], [marathon], [serversets], [file] nor [relay]")


def test_check_config_tells_every_problem(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-config", "-c", str(bad)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert cli.main(["check-config", "-c", str(bad), "--json"]) == 2
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is False
    assert [problem["path"] for problem in value["problems"]] == ["dns.ttl", "l7"]


def test_run_refuses_a_bad_file(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-c", str(bad)]) == 2
    assert "dns.ttl" in capsys.readouterr().err


def test_run_serves_what_the_file_says(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Config, Path]] = []

    async def serve(config: Config, *, config_path: Path) -> int:
        served.append((config, config_path))
        return 7

    service: Any = types.ModuleType("agent.serving")
    service.serve = serve
    monkeypatch.setitem(sys.modules, "agent.serving", service)
    monkeypatch.setattr(log, "setup", lambda *_: None)
    assert cli.main(["run", "-c", str(good)]) == 7
    [(config, path)] = served
    assert config.dns is not None
    assert path == good


def test_config_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config-schema"]) == 0
    assert "DnsConfig" in json.loads(capsys.readouterr().out)["$defs"]


def test_import_mesos_dns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"masters": ["m:5050"], "odd": 1}')
    assert cli.main(["import", "mesos-dns", str(path)]) == 0
    out, err = capsys.readouterr()
    assert 'masters = ["m:5050"]' in out
    assert err == f"{path}: warning: odd: unknown key, skipped (mesos-dns skips it too)\n"
    path.write_text("{")
    assert cli.main(["import", "mesos-dns", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"{path}: not JSON")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("pharos ")
    assert cli.main(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"name", "version"}
