"""agent.service: parts by configuration, reload without a gap, signals."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path

import aiohttp
import dns.asyncquery
import dns.edns
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import pytest
import trustme

from agent.config import load
from agent.draining import Drains
from agent.service import Service
from mesos_dns.cookies import matching
from mesos_dns.model import App, Draining, Put
from tests.fakes.dns_serving import certificate, framed, read_one, trusting
from tests.fakes.questions import AGENT, MARATHON, task

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
    return await dns.asyncquery.udp(dns.message.make_query(name, "A"), host, timeout=30, port=port)


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
async def test_drained_tasks_are_told_as_long_as_there_is_a_coordinator(tmp_path: Path) -> None:
    l4 = '[l4]\ndataplane = "off"\n'
    path = await asyncio.to_thread(write, tmp_path, l4)
    service = Service(await asyncio.to_thread(load, path), path)
    app, drained = App("/web", framework_id="F1"), Draining("F1", "web.1", time.time() + 600)

    async def told() -> None:
        assert service.coordination.coordinator is not None
        await Drains(service.coordination.coordinator).set(app, ["web.1"], drained.until)
        async with asyncio.timeout(60):
            while service.catalog.get(drained.key) != drained:
                await asyncio.sleep(0.01)

    await service.start()
    try:
        await told()
        source = service.sources["draining"]
        await asyncio.to_thread(write, tmp_path, l4 + '[log]\nlevel = "info"\n')
        assert await service.reload()
        assert service.sources["draining"] is source
        await asyncio.to_thread(write, tmp_path)
        assert await service.reload()
        assert service.catalog.get(drained.key) is None
        assert "draining" not in service.sources
        assert "draining" not in service.catalog.sources
        await asyncio.to_thread(write, tmp_path, l4)
        assert await service.reload()
        await told()
    finally:
        await service.stop()
    again = Service(await asyncio.to_thread(load, path), path)
    await again.start()
    try:
        assert again.catalog.get(drained.key) == drained, "from before the restart"
    finally:
        await again.stop()


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
async def test_secondaries_are_told_as_the_configuration_says(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as secondary:
        secondary.setblocking(False)
        secondary.bind(("127.0.0.1", 0))
        notify = f'notify = ["127.0.0.1:{secondary.getsockname()[1]}"]\n'
        path = await asyncio.to_thread(write, tmp_path, f'[dns]\nlisten = ["127.0.0.1:0"]\ndirectory = ""\n{notify}')
        service = Service(await asyncio.to_thread(load, path), path)
        await service.start()
        try:
            async with asyncio.timeout(30):
                heard = dns.message.from_wire(await loop.sock_recv(secondary, 4096))
            assert heard.opcode() == dns.opcode.NOTIFY
            assert "notify" in service.naming.background
            await asyncio.to_thread(write, tmp_path, '[dns]\nlisten = ["127.0.0.1:0"]\ndirectory = ""\n')
            assert await service.reload()
            assert "notify" not in service.naming.background
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
async def test_a_reload_takes_renewed_certificates_for_dns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()

    async def shown() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        assert service.server is not None
        address = service.server.tls_addresses[0]
        reader, writer = await asyncio.open_connection(*address, ssl=trusting(authority), server_hostname="dns.test")
        return reader, writer, writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    files = await asyncio.to_thread(certificate, authority, tmp_path)
    tls = 'tls_listen = ["127.0.0.1:0"]\n' + "".join(f'{key} = "{name}"\n' for key, name in files.items())
    path = await asyncio.to_thread(write, tmp_path, DNS + tls)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        await answered(service, "www.corp.example", "10.9.9.1")
        server = service.server
        reader, writer, first = await shown()
        await asyncio.to_thread(certificate, authority, tmp_path)
        assert await service.reload()
        assert service.server is server
        _, other, second = await shown()
        assert first != second
        other.close()
        # While the file is broken, and with another setting beside it: nothing changes then.
        await asyncio.to_thread((tmp_path / "cert.pem").write_text, "nothing")
        assert not await service.reload()
        assert "dns.cert_file: expected a certificate" in caplog.text
        await asyncio.to_thread(write, tmp_path, DNS + tls + "ttl = 7\n")
        assert not await service.reload()
        assert service.config.dns is not None
        assert service.config.dns.ttl == 60
        await asyncio.to_thread(certificate, authority, tmp_path)
        assert await service.reload()
        _, other, third = await shown()
        assert third not in (first, second)
        other.close()
        # Who was connected all the time still is.
        writer.write(framed(dns.message.make_query("www.corp.example", "A").to_wire()))
        assert "10.9.9.1" in dns.message.from_wire(await read_one(reader)).to_text()
        writer.close()
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_a_reload_takes_other_cookie_secrets(tmp_path: Path) -> None:
    secrets, old, new = tmp_path / "secrets", bytes(range(16)), bytes(16)

    async def maker() -> int:
        """Which secret the server makes cookies with."""
        assert service.server is not None
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
        query = dns.message.make_query("www.corp.example", "A", use_edns=0, options=[option])
        host, port = service.server.addresses[0]
        reply = await dns.asyncquery.tcp(query, host, port=port, timeout=30)
        (told,) = reply.options
        return matching(told.to_wire() or b"", b"\x7f\0\0\1", int(time.time()), [old, new])

    await asyncio.to_thread(secrets.write_text, old.hex())
    path = await asyncio.to_thread(write, tmp_path, f'{DNS}cookie_secret_file = "{secrets}"\n')
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        await answered(service, "www.corp.example", "10.9.9.1")
        assert await maker() == 0
        server = service.server
        await asyncio.to_thread(secrets.write_text, f"{new.hex()}\n{old.hex()}\n")
        assert await service.reload()
        assert await maker() == 1
        assert service.server is server, "the sockets stay"
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_a_reload_opens_and_closes_dns_over_tls(tmp_path: Path) -> None:
    files = await asyncio.to_thread(certificate, trustme.CA(), tmp_path)
    tls = 'tls_listen = ["127.0.0.1:0"]\n' + "".join(f'{key} = "{name}"\n' for key, name in files.items())
    path = await asyncio.to_thread(write, tmp_path, DNS)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        for text, count in ((DNS + tls, 1), (DNS, 0)):
            await asyncio.to_thread(write, tmp_path, text)
            assert await service.reload()
            assert service.server is not None
            assert len(service.server.tls_addresses) == count
            await answered(service, "www.corp.example", "10.9.9.1")
    finally:
        await service.stop()


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


@pytest.mark.asyncio
async def test_another_source_takes_over_without_a_name_lost(tmp_path: Path) -> None:
    dead = '[mesos]\nmasters = ["127.0.0.1:1"]\n'
    path = await asyncio.to_thread(write, tmp_path, DNS + dead)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        for entity in (AGENT, MARATHON, task()):
            service.catalog.publish("mesos", Put(entity))
        service.catalog.mark("mesos", connected=True, synced=True)
        assert (await ask(service, "web.marathon.mesos")).rcode() == dns.rcode.NOERROR
        await asyncio.to_thread(write, tmp_path, DNS + '[relay]\nservers = ["http://127.0.0.1:1"]\n')
        assert await service.reload()
        assert (await ask(service, "web.marathon.mesos")).rcode() == dns.rcode.NOERROR
        assert service.catalog.sources["mesos"].stale
        service.catalog.publish("relay", Put(AGENT))
        service.catalog.mark("relay", connected=True, synced=True)
        async with asyncio.timeout(20):
            while "mesos" in service.catalog.sources:
                await asyncio.sleep(0.02)
        assert (await ask(service, "web.marathon.mesos")).rcode() == dns.rcode.NXDOMAIN
        assert service.catalog.get(AGENT.key) == AGENT
    finally:
        await service.stop()


@pytest.mark.asyncio
async def test_a_reload_during_the_end_changes_nothing(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write, tmp_path, DNS)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    assert not await service.reload()
    await stopping
    assert not await service.reload()


@pytest.mark.asyncio
async def test_a_step_of_the_end_that_fails_keeps_no_other_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = await asyncio.to_thread(write, tmp_path, DNS)
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()

    async def broken() -> None:
        raise RuntimeError("no")

    assert service.server is not None
    address = service.server.addresses[0]
    monkeypatch.setattr(service.sessions, "keep", lambda wanted: broken())
    await service.stop()
    assert "could not end a part of the process part=ZooKeeper" in caplog.text
    assert service.saved is not None
    assert service.saved.saves == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(address)


@pytest.mark.asyncio
async def test_an_api_that_could_not_be_served_comes_with_the_next_reload(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write, tmp_path, DNS + '[api]\nlisten = ["127.0.0.1:0"]\n')
    service = Service(await asyncio.to_thread(load, path), path)
    await service.start()
    try:
        assert service.http is not None
        await service.http.close(0.1)
        service.http = None
        assert await service.reload()
        assert await http_status(service, "/livez") == 200
    finally:
        await service.stop()
