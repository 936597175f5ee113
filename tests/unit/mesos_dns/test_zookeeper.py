"""A session against a real ZooKeeper: requests, watches, lost servers, ended sessions, refused logins, TLS."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from mesos_dns.tls import Tls
from mesos_dns.zookeeper import (
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    Session,
    ZooKeeperLost,
)
from mesos_dns.zookeeper_target import Target, parse_hosts
from tests.fakes.host_upstream import forbid_system_lookups
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import Events, session, unique_path, until

JAAS = """Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_bob="s3cret";
};
"""


@pytest.mark.asyncio
async def test_requests(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s:
        assert await s.get(path) is None
        assert await s.children(path) is None
        assert await s.exists(path) is None
        await s.ensure(f"{path}/a")
        await s.ensure(f"{path}/a")
        assert await s.create(f"{path}/a/b", b"1") == f"{path}/a/b"
        with pytest.raises(NodeExistsError):
            await s.create(f"{path}/a/b")
        with pytest.raises(NoNodeError):
            await s.create(f"{path}/nowhere/b")
        assert (await s.set(f"{path}/a/b", b"2", 0)).version == 1
        with pytest.raises(BadVersionError):
            await s.set(f"{path}/a/b", b"3", 0)
        found = await s.get(f"{path}/a/b")
        assert found is not None
        assert (found[0], found[1].version) == (b"2", 1)
        names = await s.children(f"{path}/a")
        assert names is not None
        assert names[0] == ["b"]
        with pytest.raises(NotEmptyError):
            await s.delete(f"{path}/a")
        await s.delete(f"{path}/a/b")
        with pytest.raises(NoNodeError):
            await s.delete(f"{path}/a/b")
        await s.sync(path)
        first = await s.create(f"{path}/a/x-", sequence=True, ephemeral=True)
        assert first == f"{path}/a/x-0000000001"  # the parent has had one child
        assert "connected" in repr(s)
    async with session(zookeeper) as s:
        assert await s.exists(first) is None, "closing a session ends its ephemerals at once"


@pytest.mark.asyncio
async def test_more_requests_than_may_be_in_flight(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s:
        await s.create(path, b"x")
        found = await asyncio.gather(*(s.get(path) for _ in range(1000)))
        assert {entry[0] for entry in found if entry is not None} == {b"x"}


@pytest.mark.asyncio
async def test_watches_fire_on_the_loop(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        events = Events()
        s.attach(events)
        assert await s.exists(path, watch=True) is None
        await other.create(path)
        await until(lambda: events.paths == [path])
        await s.get(path, watch=True)
        await s.children(path, watch=True)
        await other.create(f"{path}/a")
        await until(lambda: events.paths == [path] * 2)
        await other.set(path, b"1", -1)
        await until(lambda: events.paths == [path] * 3)
        s.detach(events)
        await s.get(path, watch=True)
        await other.set(path, b"2", -1)
        await until(lambda: s.events == 4)
        assert len(events.paths) == 3


@pytest.mark.asyncio
async def test_the_time_that_the_servers_grant_counts_not_what_was_asked(tmp_path: Path) -> None:
    with ensemble(tmp_path, more=["maxSessionTimeout=1500"]) as short:
        async with session(short, session_timeout=60.0) as s:
            await until(lambda: s.timeout == 1.5)
        async with session(short, wait=False, session_timeout=60.0) as s:
            assert s.timeout == 60.0


@pytest.mark.asyncio
async def test_a_dead_server_costs_no_session_and_a_request_made_meanwhile_is_lost(tmp_path: Path) -> None:
    with ensemble(tmp_path, 3) as servers:
        async with session(servers, session_timeout=4.0) as s:
            events, identity = Events(), s.session_id
            s.attach(events)
            port = s._threads._socket.getpeername()[1]  # type: ignore[union-attr]
            (mine,) = [server for server in servers.servers if server.port == port]
            mine.kill()
            await until(lambda: s.connection >= 2)
            assert (s.session_id, s.losses, s.expirations) == (identity, 1, 0)
            assert events.states == 2


@pytest.mark.asyncio
async def test_a_server_that_is_stopped_but_accepts_connections_is_left_in_time(tmp_path: Path) -> None:
    # The story: a stopped process keeps its sockets. kazoo's own check never runs while there are requests to
    # send, and each new try with the stopped server waits for its answer.
    with ensemble(tmp_path, 3) as servers:
        follower = next(server for server in servers.servers if not server.leads())
        others = [server.connect for server in servers.servers if server is not follower]
        opened = Session(Target(parse_hosts([follower.connect]), session_timeout=4.0))
        opened.start()
        try:
            await until(lambda: opened.connected)
            identity = opened.session_id
            opened.target = Target(parse_hosts([follower.connect, *others]), session_timeout=4.0)
            opened._host_changed()
            follower.pause()
            busy = asyncio.create_task(_ask_all_the_time(opened))
            await until(lambda: opened.connection >= 2)
            busy.cancel()
            assert (opened.session_id, opened.expirations) == (identity, 0)
        finally:
            follower.resume()
            await opened.close()


async def _ask_all_the_time(s: Session) -> None:
    while True:
        task = asyncio.create_task(s._touch())
        await asyncio.sleep(0.05)
        del task


@pytest.mark.asyncio
async def test_without_servers_requests_fail_at_once_and_an_ended_session_is_told(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        async with session(servers, session_timeout=3.0) as s:
            identity = s.session_id
            servers.servers[0].kill()
            await until(lambda: not s.connected)
            with pytest.raises(ZooKeeperLost, match="no server can be reached"):
                await s.get("/")
            assert "lost" in repr(s)
            servers.servers[0].wipe()
            servers.servers[0].start()
            await until(lambda: s.connection >= 2)
            assert s.session_id != identity
            assert s.expirations == 1


@pytest.mark.asyncio
async def test_a_pending_write_is_told_to_be_lost(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        async with session(servers) as s:
            servers.servers[0].pause()
            write = asyncio.create_task(s.create("/x"))
            await asyncio.sleep(0.2)
            servers.servers[0].kill()
            with pytest.raises(ZooKeeperLost):
                await write


@pytest.mark.asyncio
async def test_a_read_only_server_is_not_believed(tmp_path: Path) -> None:
    with ensemble(tmp_path, 3, java=["-Dreadonlymode.enabled=true"]) as servers:
        async with session(servers) as s:
            for server in servers.servers[1:]:
                server.kill()
            await until(lambda: "read-only" in servers.servers[0].word("srvr"))
            await until(lambda: not s.connected)
            await asyncio.sleep(1.0)
            assert not s.connected
            for server in servers.servers[1:]:
                server.start()
            await until(lambda: s.connected)


@pytest.mark.asyncio
async def test_digest_protects_what_is_made(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper, auth="digest", principal="bob", secret="s3cret") as s:
        await s.create(path, b"x")
        found = await s.get(path)
        assert found is not None
        assert found[0] == b"x"
    async with session(zookeeper) as stranger:
        with pytest.raises(NoAuthError):
            await stranger.get(path)
        with pytest.raises(NoAuthError):
            await stranger.set(path, b"y", -1)


@pytest.mark.asyncio
async def test_sasl_login_and_a_wrong_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "jaas.conf").write_text(JAAS)
    sasl = [
        f"-Djava.security.auth.login.config={tmp_path}/jaas.conf",
        "-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
    ]
    caplog.set_level(logging.CRITICAL, "mesos_dns.zookeeper.kazoo")
    with ensemble(tmp_path / "zk", java=sasl) as servers:
        async with session(servers, auth="sasl", principal="bob", secret="s3cret") as s:
            await s.create("/sasl", b"x")
        async with session(servers) as stranger:
            with pytest.raises(NoAuthError):
                await stranger.get("/sasl")
        async with session(servers, wait=False, auth="sasl", principal="bob", secret="wrong") as refused:
            await until(lambda: refused.failure == "the login was refused")
            assert not refused.connected
        assert "wrong" not in caplog.text


@pytest.mark.asyncio
async def test_tls_is_verified(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "other.pem").write_bytes(stranger.cert_pem.bytes())
    secure = _secure(tmp_path, authority.issue_cert("127.0.0.1", "localhost"))
    with ensemble(tmp_path / "zk", more=secure, secure=True) as servers:
        async with session(servers, tls=Tls(str(tmp_path / "ca.pem"))) as s:
            await s.create("/tls", b"x")
        async with session(servers, wait=False, tls=Tls(str(tmp_path / "other.pem"))) as refused:
            await asyncio.sleep(1.0)
            assert not refused.connected
        async with session(servers, tls=Tls(verify=False)) as s:
            assert await s.exists("/tls") is not None
        async with session(servers, wait=False, tls=Tls(str(tmp_path / "nowhere.pem"))) as broken:
            await until(lambda: "nowhere.pem" in broken.failure)


@pytest.mark.asyncio
async def test_the_certificate_is_for_the_name_that_was_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = forbid_system_lookups(monkeypatch)
    authority = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())

    async def here(name: str) -> tuple[str, ...]:
        return ("127.0.0.1",)

    secure = _secure(tmp_path, authority.issue_cert("zk-1.example"))
    with ensemble(tmp_path / "zk", more=secure, secure=True) as servers:
        port, tls = servers.servers[0].secure_port, Tls(str(tmp_path / "ca.pem"))
        other, right = (
            Session(Target(((name, port),), tls=tls, session_timeout=4.0), resolve=here)
            for name in ("zk-2.example", "zk-1.example")
        )
        other.start()
        right.start()
        try:
            await until(lambda: right.connected)
            await until(lambda: other._threads is not None and other._threads.refused_since)
            await asyncio.sleep(0.5)
            assert not other.connected, "the address that both names have is not what the certificate is for"
        finally:
            await other.close()
            await right.close()
    assert system == []


def _secure(folder: Path, certificate: trustme.LeafCert) -> list[str]:
    """Settings of servers that speak TLS; `folder` has ca.pem."""
    _key_store(certificate, folder / "server.p12")
    return [
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={folder}/server.p12",
        "ssl.keyStore.password=secret",
        f"ssl.trustStore.location={folder}/ca.pem",
        "ssl.trustStore.type=PEM",
        "ssl.clientAuth=none",
    ]


def _key_store(certificate: trustme.LeafCert, path: Path) -> None:
    """ZooKeeper reads no PEM of this kind of key, but PKCS #12."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    leaf = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
    secret = serialization.BestAvailableEncryption(b"secret")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, leaf, None, secret))


@pytest.mark.asyncio
async def test_host_names_keep_their_last_known_addresses(zookeeper: Ensemble) -> None:
    answers = [("127.0.0.1",)]

    async def resolve(name: str) -> tuple[str, ...]:
        if not answers:
            raise OSError("no name server answers")
        return answers[0]

    port = zookeeper.servers[0].port
    s = Session(Target((("zk.example", port),), session_timeout=4.0), resolve=resolve)
    s.start()
    try:
        await until(lambda: s.connected)
        answers.clear()
        assert s._threads is not None
        s._threads.drop()
        await until(lambda: s.connection >= 2)
    finally:
        await s.close()


@pytest.mark.asyncio
async def test_names_that_no_one_knows_yet_are_waited_for(zookeeper: Ensemble) -> None:
    known: list[str] = []

    async def resolve(name: str) -> tuple[str, ...]:
        return tuple(known)

    s = Session(Target((("zk.example", zookeeper.servers[0].port),)), resolve=resolve)
    s.start()
    try:
        await until(lambda: "zk.example" in s.failure)
        known.append("127.0.0.1")
        await until(lambda: s.connected)
    finally:
        await s.close()
