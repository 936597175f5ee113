"""What a resolver has besides its server: upstreams of the machine, resolv.conf, and what a successor takes over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent import resolving
from agent.resolving import Resolving, listen_hosts
from mesos_dns.answer import Answer
from mesos_dns.resolver.cache import Entry
from mesos_dns.resolver.config import ResolverConfig

pytestmark = pytest.mark.asyncio

ORIGINAL = "search example.org\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver 10.0.0.3\n"


def config(**keys: Any) -> ResolverConfig:
    return ResolverConfig(**{"listen": ("127.0.0.1:53",), "device": "", **keys})


def servers(parts: Resolving) -> list[str]:
    return [each.label for each in parts.upstreams.status() if each.zone == "."]


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


async def test_upstreams_are_those_of_the_machine_without_ourselves(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(ORIGINAL + "nameserver 127.0.0.1\n")
    parts = await Resolving.make(config(resolv_conf=str(file)), tmp_path)
    try:
        assert servers(parts)[0] == "10.0.0.2:53"
        assert "127.0.0.1:53" not in servers(parts)
        assert file.read_text().startswith(ORIGINAL)
    finally:
        await parts.close()


async def test_a_machine_without_resolv_conf_has_no_upstreams(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = await Resolving.make(config(resolv_conf=str(tmp_path / "none")), tmp_path)
    assert servers(parts) == []
    await parts.close()


async def test_resolv_conf_is_ours_while_it_serves_and_as_it_was_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(ORIGINAL)
    parts = await Resolving.make(config(resolv_conf=str(file), upstreams=("10.0.0.9",)), tmp_path)
    try:
        await parts.open()
        assert file.read_text() == ORIGINAL
        await parts.serve()
        assert "nameserver 127.0.0.1\n" in file.read_text()
        assert "10.0.0.2" not in file.read_text()
        assert parts.status()["resolv_conf"]["state"] == "ours"
        await parts.serve()  # a reload that changes nothing of it
        await parts.leave()
        assert file.read_text() == ORIGINAL
        await parts.serve()
        assert "nameserver 127.0.0.1\n" in file.read_text()
    finally:
        await parts.close()
    assert file.read_text() == ORIGINAL


async def test_a_successor_takes_resolv_conf_over_without_giving_it_back(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(ORIGINAL)
    first = await Resolving.make(config(resolv_conf=str(file)), tmp_path)
    await first.serve()
    second = await Resolving.make(config(resolv_conf=str(file), cache_size=5), tmp_path, first)
    try:
        assert second.resolver.cache is first.resolver.cache
        assert second.kept is first.kept
        await first.close(second)
        assert "nameserver 127.0.0.1\n" in file.read_text()
        await second.serve()
        await asyncio.to_thread(file.write_text, "nameserver 10.0.0.7\n")  # a DHCP client
        await until(lambda: "nameserver 127.0.0.1\n" in file.read_text() and servers(second) == ["10.0.0.7:53"])
    finally:
        await second.close()
    assert file.read_text() == "nameserver 10.0.0.7\n"


async def test_a_resolv_conf_that_cannot_be_kept_is_no_reason_not_to_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "folder"
    file.mkdir()
    parts = await Resolving.make(config(resolv_conf=str(file), upstreams=("10.0.0.9",)), tmp_path)
    await parts.serve()
    assert "[resolver] resolv_conf: not pointed here" in caplog.text
    said = parts.status()["resolv_conf"]
    assert (said["path"], said["state"], said["errors"]) == (str(file), "original", 1)
    await parts.close()


async def test_a_resolv_conf_that_cannot_be_kept_is_tried_again_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resolving, "KEEP_AGAIN", 0.01)
    file = tmp_path / "resolv.conf"
    file.mkdir()
    parts = await Resolving.make(config(resolv_conf=str(file), upstreams=("10.0.0.9",)), tmp_path)
    try:
        await parts.serve()
        await until(lambda: parts.status()["resolv_conf"]["errors"] >= 4)
        assert [record.levelname for record in caplog.records].count("ERROR") == 1
        await asyncio.to_thread(_replace_folder, file)
        await until(lambda: parts.status()["resolv_conf"]["state"] == "ours")
        assert "nameserver 127.0.0.1\n" in file.read_text()
        await asyncio.to_thread(file.write_text, "nameserver 10.0.0.7\n")
        await until(lambda: "nameserver 127.0.0.1\n" in file.read_text())  # it is looked after, too
        await parts.leave()
        assert file.read_text() == "nameserver 10.0.0.7\n"
    finally:
        await parts.close()


def _replace_folder(path: Path) -> None:
    path.rmdir()
    path.write_text(ORIGINAL)


async def test_without_a_file_to_keep_there_is_nothing_to_say_of_it(tmp_path: Path) -> None:
    parts = await Resolving.make(config(upstreams=("10.0.0.9",)), tmp_path)
    assert parts.status()["resolv_conf"] is None
    await parts.close()


async def test_a_successor_that_writes_another_text_takes_the_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search example.org\n")
    first = await Resolving.make(config(resolv_conf=str(file), upstreams=("10.0.0.1",)), tmp_path)
    await first.serve()
    for keys in ({"listen": ("127.0.0.2:53",)}, {"listen": ("127.0.0.2:53", "127.0.0.1:5353")}):
        other = config(resolv_conf=str(file), upstreams=("10.0.0.1",), **keys)
        moved = await Resolving.make(other, tmp_path, first)
        assert moved.kept is None
        await moved.close(first)
        assert "nameserver 127.0.0.1\n" in file.read_text()
    other = config(resolv_conf=str(file), upstreams=("10.0.0.2",), listen=("127.0.0.2:53",))
    second = await Resolving.make(other, tmp_path, first)
    try:
        await first.leave()
        assert "nameserver 10.0.0.1\n" in file.read_text()
        await first.close(second)
        await second.serve()
        assert "nameserver 127.0.0.2\n" in file.read_text()
    finally:
        await second.close()
    assert "nameserver 10.0.0.2\n" in file.read_text()


async def test_upstreams_alone_make_another_text(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search example.org\n")
    first = await Resolving.make(config(resolv_conf=str(file), upstreams=("10.0.0.1",)), tmp_path)
    await first.serve()
    second = await Resolving.make(config(resolv_conf=str(file), upstreams=("10.0.0.2",)), tmp_path, first)
    assert second.kept is None
    await first.leave()
    await first.close(second)
    await second.serve()
    await second.close()
    assert "nameserver 10.0.0.2\n" in file.read_text()


async def test_an_original_without_servers_takes_no_upstreams_away(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.2\n")
    parts = await Resolving.make(config(resolv_conf=str(file)), tmp_path)
    try:
        await parts.serve()
        parts._changed([])
        assert servers(parts) == ["10.0.0.2:53"]
    finally:
        await parts.close()


async def test_without_an_address_that_needs_one_no_device_is_touched(tmp_path: Path) -> None:
    parts = await Resolving.make(config(device="pharos-dns", listen=("127.0.0.1:5353", "[::1]:5353")), tmp_path)
    assert parts.addresses is None
    assert parts.status()["addresses"] is None
    await parts.close()


async def test_a_successor_with_other_addresses_shares_the_device(tmp_path: Path) -> None:
    keys = {"device": "pharos-dns", "upstreams": ("10.0.0.9",)}
    first = await Resolving.make(config(listen=("198.51.100.1:53",), **keys), tmp_path)
    second = await Resolving.make(config(listen=("198.51.100.2:53",), **keys), tmp_path, first)
    third = await Resolving.make(config(listen=("198.51.100.2:53",), **keys | {"device": "other"}), tmp_path, second)
    assert first.addresses is not None
    assert second.addresses is not None
    assert third.addresses is not None
    assert second.addresses._claim is first.addresses._claim
    assert third.addresses._claim is not first.addresses._claim
    for parts in (third, second, first):
        await parts.close()


async def test_without_a_file_to_keep_the_machines_servers_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.2\n")
    monkeypatch.setattr(resolving, "SYSTEM", str(file))
    monkeypatch.setattr(resolving, "LOOK_EVERY", 0.01)
    parts = await Resolving.make(config(), tmp_path)
    try:
        await parts.serve()
        assert servers(parts) == ["10.0.0.2:53"]
        file.write_text("nameserver 10.0.0.4\n")
        await until(lambda: servers(parts) == ["10.0.0.4:53"])
        assert file.read_text() == "nameserver 10.0.0.4\n"
    finally:
        await parts.close()


async def test_status_tells_of_every_upstream(tmp_path: Path) -> None:
    zones = {"corp.example": ("tcp://10.0.0.3",)}
    parts = await Resolving.make(config(upstreams=("10.0.0.2",), zones=zones), tmp_path)
    rows = parts.status()["upstreams"]
    assert [(row["upstream"], row["zone"], row["own"]) for row in rows] == [
        ("10.0.0.2:53", ".", False),
        ("tcp://10.0.0.3:53", "corp.example", False),
    ]
    await parts.close()


async def test_addresses_to_put_on_the_machine() -> None:
    made = config(listen=("10.0.0.1:53", "10.0.0.1:5353", "[::1]:53", "0.0.0.0:54"))
    assert listen_hosts(made) == ["10.0.0.1", "::1"]


async def test_a_successor_that_is_not_served_leaves_no_limits(tmp_path: Path) -> None:
    first = await Resolving.make(config(upstreams=("10.0.0.9",), cache_size=7), tmp_path)
    second = await Resolving.make(config(upstreams=("10.0.0.9",), cache_size=1), tmp_path, first)
    await second.close(first)
    await first.serve()
    for number in range(9):
        first.resolver.cache.keep(bytes([number]), Entry(Answer(0, [], aa=False), "positive", 60, 0.0))
    assert len(first.resolver.cache) == 7
    await first.close()
