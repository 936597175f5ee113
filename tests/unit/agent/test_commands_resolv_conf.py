"""`pharos resolv-conf`: status and restore, whatever else is wrong with the configuration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from agent import commands_resolv_conf
from agent.commands_resolv_conf import file_of, restore, status
from agent.resolv_conf_file import ResolvConf
from mesos_dns.resolver.config import ResolverConfig

ORIGINAL = "nameserver 10.0.0.1\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pharos.toml"
    (tmp_path / "resolv.conf").write_text(ORIGINAL)
    path.write_text(
        f'state_dir = "{tmp_path}/state"\n[resolver]\nresolv_conf = "{tmp_path}/resolv.conf"\n'
        'upstreams = ["192.0.2.1", "tls://192.0.2.2"]\n[l7]\nfor_a_later_version = 1\n'
    )
    return path


@pytest.fixture
def file(config: Path, tmp_path: Path) -> ResolvConf:
    found = file_of(ResolverConfig(resolv_conf=str(tmp_path / "resolv.conf")), str(tmp_path / "state"))
    assert found is not None
    return found


def arguments(config: Path, as_json: bool = True) -> argparse.Namespace:
    return argparse.Namespace(config=config, json=as_json)


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_restore_after_a_crash(config: Path, file: ResolvConf, capsys: pytest.CaptureFixture[str]) -> None:
    file.take()
    assert restore(arguments(config)) == 0
    assert shown(capsys) == {"path": str(file.path), "result": "original"}
    assert file.path.read_text() == ORIGINAL
    assert not file.is_kept()
    assert restore(arguments(config, False)) == 0
    assert "left as it is" in capsys.readouterr().out
    assert file.path.read_text() == ORIGINAL


def test_restore_without_a_usable_original(config: Path, file: ResolvConf, capsys: pytest.CaptureFixture[str]) -> None:
    file.path.write_text("search a\n")
    file.take()
    assert restore(arguments(config)) == 0
    assert shown(capsys)["result"] == "upstreams"
    assert file.servers() == ["192.0.2.1"]


def test_restore_with_nothing_to_put_there(config: Path, file: ResolvConf, capsys: pytest.CaptureFixture[str]) -> None:
    file.take()
    file.saved.unlink()
    config.write_text(config.read_text().replace('"192.0.2.1", ', ""))
    assert restore(arguments(config, False)) == 1
    assert "no original is saved" in capsys.readouterr().out
    assert file.state() == "ours"


def test_restore_beside_a_running_pharos(
    config: Path, file: ResolvConf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_resolv_conf, "WAIT", 0.2)
    file.take()
    lock = file.lock()
    assert restore(arguments(config)) == 1
    assert "a running Pharos keeps it" in capsys.readouterr().err
    assert file.state() == "ours"
    assert status(arguments(config)) == 0
    assert shown(capsys)["kept"] is True
    file.unlock(lock)


def test_status(config: Path, file: ResolvConf, capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "path": str(file.path),
        "state": "original",
        "nameservers": ["10.0.0.1"],
        "original_nameservers": ["10.0.0.1"],
        "saved": "",
        "kept": False,
    }
    assert status(arguments(config)) == 0
    assert shown(capsys) == value
    file.take()
    assert status(arguments(config)) == 0
    assert shown(capsys) == value | {
        "state": "ours",
        "nameservers": ["198.51.100.1", "198.51.100.2", "198.51.100.3"],
        "saved": str(file.saved),
    }
    assert status(arguments(config, False)) == 0
    assert "198.51.100.1,198.51.100.2" in capsys.readouterr().out


def test_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    for text in ("", "[resolver]\n"):
        path.write_text(text)
        for command in (status, restore):
            assert command(arguments(path)) == 0
            assert shown(capsys) == {"path": "", "state": "off"}


@pytest.mark.parametrize(
    "text", ["[", "resolver = 3", '[resolver]\nresolv_conf = "/x"\nlisten = ["127.0.0.1:5353"]', "state_dir = 3", None]
)
def test_a_configuration_that_does_not_help(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    if text is not None:
        path.write_text(text)
    assert restore(arguments(path)) == 2
    assert capsys.readouterr().err


def test_a_file_that_can_not_be_read(config: Path, file: ResolvConf, capsys: pytest.CaptureFixture[str]) -> None:
    file.path.unlink()
    file.path.mkdir()
    assert status(arguments(config)) == 1
    assert str(file.path) in capsys.readouterr().err
