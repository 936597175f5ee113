"""agent.service: parts by configuration, reload without a gap, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import dns.asyncquery
import dns.message
import dns.query
import dns.rcode
import pytest
import trustme

from agent.config import load
from agent.service import Service

ZONE = """$ORIGIN corp.example.
@ 300 SOA ns1 root 1 60 600 86400 60
@ 300 NS ns1
ns1 300 A 10.9.9.9
www 300 A 10.9.9.1
"""


def write(folder: Path, more: str = "", zone: str = ZONE) -> Path:
    """A configuration that serves one plain zone, without a cluster."""
    (folder / "corp.zone").write_text(zone)
    path = folder / "pharos.toml"
    path.write_text(
        f'state_dir = "{folder}/state"\ndrain_timeout = "1s"\n'
        f'[file]\npaths = ["{folder}/corp.zone"]\ninterval = "100ms"\n{more}\n'
    )
    return path


async def ask(service: Service, name: str) -> dns.message.Message:
    """One question by UDP."""
    assert service.server is not None
    host, port = service.server.addresses[0]
    return await dns.asyncquery.udp(dns.message.make_query(name, "A"), host, timeout=5, port=port)


async def answered(service: Service, name: str, text: str) -> None:
    """Ask until the answer has the text; 20 s at most."""
    async with asyncio.timeout(20):
        while text not in (await ask(service, name)).to_text():
            await asyncio.sleep(0.01)


async def http_status(service: Service, path: str) -> int:
    """The status of a GET on the first HTTP address."""
    assert service.http is not None
    host, port = service.http.addresses[0]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as reply:
        return reply.status


DNS = '[dns]\nlisten = ["127.0.0.1:0"]\n'


@pytest.mark.asyncio
async def test_sections_that_are_absent_are_roles_that_are_off(tmp_path: Path) -> None:
    service = Service(await asyncio.to_thread(load, write(tmp_path)))
    await service.start()
    try:
        assert (service.server, service.http, list(service.sources)) == (None, None, ["file"])
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_reload_replaces_what_changed_and_keeps_the_sockets(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write, tmp_path, DNS + 'domain = "mesos"\n')
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        await answered(service, "www.corp.example", "10.9.9.1")
        server, serial = service.server, service.view.serial
        await asyncio.to_thread(write, tmp_path, DNS + 'domain = "prod"\n')
        assert await service.reload()
        assert service.server is server
        assert service.view.serial > serial
        assert (await ask(service, "nothing.prod")).authority[0].name.to_text() == "prod."
        await answered(service, "www.corp.example", "10.9.9.1")
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_a_role_that_a_reload_turns_off_is_off(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write, tmp_path, DNS + '[api]\nlisten = ["127.0.0.1:0"]\n')
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        await answered(service, "www.corp.example", "10.9.9.1")
        await asyncio.to_thread(path.write_text, f'state_dir = "{tmp_path}/state"\n{DNS}')
        assert await service.reload()
        assert (await ask(service, "www.corp.example")).rcode() == dns.rcode.REFUSED
        assert (service.http, list(service.sources), list(service.catalog.sources)) == (None, [], [])
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_a_bad_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = await asyncio.to_thread(write, tmp_path, DNS)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        await answered(service, "www.corp.example", "10.9.9.1")
        await asyncio.to_thread(write, tmp_path, DNS + "tll = 5\n")
        assert not await service.reload()
        assert "did you mean 'ttl'" in caplog.text
        await answered(service, "www.corp.example", "10.9.9.1")
    finally:
        await service.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("taken", ["dns", "api"])
async def test_a_reload_to_an_address_that_is_taken_keeps_the_old_one(
    tmp_path: Path, free_port: int, caplog: pytest.LogCaptureFixture, taken: str
) -> None:
    def text(dns_port: int, api_port: int, ttl: int) -> str:
        return (
            f'[dns]\nlisten = ["127.0.0.1:{dns_port}"]\nttl = {ttl}\n'
            f'[api]\nlisten = ["127.0.0.1:{api_port}"]\n[admin]\nlisten = ["127.0.0.1:0"]\n'
        )

    path = await asyncio.to_thread(write, tmp_path, text(0, 0, 60))
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    holder = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", free_port)
    try:
        await answered(service, "www.corp.example", "10.9.9.1")
        new = text(free_port, 0, 7) if taken == "dns" else text(0, free_port, 7)
        await asyncio.to_thread(write, tmp_path, new)
        assert not await service.reload()
        assert f"[{taken}] stays as it was" in caplog.text
        assert str(free_port) in caplog.text
        await answered(service, "www.corp.example", "10.9.9.1")
        assert await http_status(service, "/livez") == 200
        assert service.config.dns is not None
        assert service.config.dns.ttl == (60 if taken == "dns" else 7)
        assert (await ask(service, "none.mesos")).authority[0].ttl == service.config.dns.ttl

        await asyncio.to_thread(write, tmp_path, text(0, 0, 9))
        assert await service.reload()
        assert (await ask(service, "none.mesos")).authority[0].ttl == 9
    finally:
        holder.close()
        await service.stop()


@pytest.mark.asyncio
async def test_admin_shows_the_configuration_in_force_after_a_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin = '[admin]\nlisten = ["127.0.0.1:0"]\n'
    path = await asyncio.to_thread(write, tmp_path, DNS + admin)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        await asyncio.to_thread(write, tmp_path, DNS + f'ttl = 7\n{admin}[state]\ninterval = "9s"\n')
        assert await service.reload()
        assert service.http is not None
        host, port = service.http.addresses[0]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/v1/config") as reply:
            shown = await reply.json()
        assert (shown["dns"]["ttl"], shown["state"]["interval"]) == (7, "5s")
        assert "a restart is needed for changed=state" in caplog.text
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_a_reload_changes_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr("agent.service.setup_log", lambda level, style: said.append((level, style)))
    path = await asyncio.to_thread(write, tmp_path)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        assert await service.reload()
        assert said == []
        await asyncio.to_thread(write, tmp_path, '[log]\nlevel = "debug"')
        assert await service.reload()
        assert said == [("debug", "auto")]
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_an_address_that_is_taken_says_which(tmp_path: Path, free_port: int) -> None:
    text = f'[dns]\nlisten = ["127.0.0.1:{free_port}"]\n'
    first = Service(await asyncio.to_thread(load, write(tmp_path, text)))
    await first.start()
    (tmp_path / "two").mkdir()
    second = Service(await asyncio.to_thread(load, write(tmp_path / "two", text)))
    try:
        with pytest.raises(OSError, match=rf"\[dns\] listen: can't bind '127.0.0.1:{free_port}'"):
            await second.start()
    finally:
        await second.stop()
        await first.stop()


@pytest.mark.asyncio
async def test_a_reload_takes_renewed_certificates(tmp_path: Path) -> None:
    def issue() -> trustme.CA:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / "key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
        return authority

    async def trusted(authority: trustme.CA) -> bool:
        client = ssl.create_default_context()
        authority.configure_trust(client)
        assert service.http is not None
        try:
            _, writer = await asyncio.open_connection(*service.http.addresses[0], ssl=client)
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True

    first = await asyncio.to_thread(issue)
    text = f'[api]\nlisten = ["127.0.0.1:0"]\ncert_file = "{tmp_path}/cert"\nkey_file = "{tmp_path}/key"\n'
    path = await asyncio.to_thread(write, tmp_path, text)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        http = service.http
        assert await trusted(first)
        second = await asyncio.to_thread(issue)
        assert await service.reload()
        assert service.http is http, "the sockets stay"
        assert (await trusted(first), await trusted(second)) == (False, True)
    finally:
        await service.stop()


def test_signals(tmp_path: Path, free_port: int) -> None:
    """SIGHUP reloads, a bad file changes nothing, SIGTERM ends with 0."""
    text = f'[dns]\nlisten = ["127.0.0.1:{free_port}"]\n'
    path = write(tmp_path, text)
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "-c", str(path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        _until_logged(process, "serving")
        assert "10.9.9.1" in _answer(free_port, "www.corp.example", "10.9.9.1")
        write(tmp_path, text + "ttl = 7\n")
        os.kill(process.pid, signal.SIGHUP)
        _until_logged(process, "configuration reloaded")
        assert " 7 IN SOA" in _answer(free_port, "none.mesos", " 7 IN SOA")
        write(tmp_path, text + "ttl = true\n")
        os.kill(process.pid, signal.SIGHUP)
        _until_logged(process, "not reloaded")
        assert " 7 IN SOA" in _answer(free_port, "none.mesos", " 7 IN SOA")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def _until_logged(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the process ended without saying {text!r}")


def _answer(port: int, name: str, text: str) -> str:
    reply = ""
    for _ in range(200):
        reply = dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", timeout=5, port=port).to_text()
        if text in reply:
            break
    return reply
