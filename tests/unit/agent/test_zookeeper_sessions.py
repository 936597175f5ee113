"""Which sessions a configuration asks for, and that those who want the same get the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import load_text, redacted
from agent.sections import Config
from agent.zookeeper_sessions import (
    Sessions,
    ensemble_target,
    mesos_target,
    read_url,
    section_target,
    serversets_target,
)
from mesos_dns.tls import Tls
from mesos_dns.zookeeper_target import Target, ZkUrl, parse_hosts
from tests.system.ensemble import Ensemble
from tests.zookeeper_clients import until

SECTION = (
    "[zookeeper]\nhosts = ['b:2181', 'a']\nauth = 'digest'\nprincipal = 'bob'\nsecret = 's3cret'\n"
    "tls = true\nca_file = '/ca.pem'\nsession_timeout = '4s'\n"
)
OURS = Target((("b", 2181), ("a", 2181)), "digest", "bob", "s3cret", Tls("/ca.pem"), 4.0)


def config(text: str) -> Config:
    return load_text(text, "f.toml")


def test_the_same_servers_get_the_login_of_the_section() -> None:
    both = config(SECTION + "[mesos]\nzk = 'zk://a,b/mesos'\n[serversets]\nroots = { '/aurora' = 'aurora' }")
    assert mesos_target(both) == (OURS, "/mesos")
    assert serversets_target(both) == OURS
    assert ensemble_target(both) == OURS


def test_other_servers_never_get_the_login_of_the_section() -> None:
    other = config(
        SECTION + "[mesos]\nzk = 'zk://a,b,c/mesos'\n[serversets]\nroots = { '/x' = 'x' }\nzk = 'zk://u:p@a,b'"
    )
    assert mesos_target(other) == (Target(parse_hosts(["a", "b", "c"]), session_timeout=4.0), "/mesos")
    assert serversets_target(other) == Target(parse_hosts(["a", "b"]), "digest", "u", "p", session_timeout=4.0)


def test_nothing_is_asked_for() -> None:
    none = config("[mesos]\nmasters = ['m:5050']")
    assert (mesos_target(none), serversets_target(none), ensemble_target(none)) == (None, None, None)
    alone = config("[mesos]\nzk = 'zk://a/mesos'")
    assert ensemble_target(alone) == Target((("a", 2181),))


def test_secrets_come_from_files_and_are_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "zk").write_text("zk://bob:s3cret@a:1/m\nmore\n")
    assert read_url(f"file://{tmp_path}/zk") == ZkUrl((("a", 1),), "/m", "bob", "s3cret")
    (tmp_path / "secret").write_text("s3cret\r\n")
    text = f"[zookeeper]\nhosts = ['a']\nauth = 'sasl'\nprincipal = 'bob'\nsecret_file = '{tmp_path}/secret'"
    section = config(text).zookeeper
    assert section is not None
    assert section_target(section).secret == "s3cret"
    with pytest.raises(OSError):
        read_url("file:///no/such/file")
    shown = redacted(config("[mesos]\nzk = 'zk://bob:s3cret@a:1/m'\n" + SECTION))
    assert shown["mesos"]["zk"] == "zk://***@a:1/m"
    assert "s3cret" not in str(shown)


@pytest.mark.asyncio
async def test_one_session_for_all_who_want_the_same(zookeeper: Ensemble) -> None:
    sessions, target = Sessions(), Target(parse_hosts(zookeeper.hosts))
    first = sessions.get(target)
    assert sessions.get(Target(parse_hosts(zookeeper.hosts))) is first
    await until(lambda: first.connected)
    await sessions.keep({target})
    assert sessions.all() == [first]
    await sessions.keep(set())
    assert not first.connected
    assert sessions.all() == []
    assert "Sessions" in repr(sessions)
