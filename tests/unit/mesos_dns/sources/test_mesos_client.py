"""URLs of masters and where redirects lead; requests themselves are tested in conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesos_dns.config import MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.mesos_client import MasterClient, MasterError, base_url, place, redirected
from mesos_dns.sources.outgoing import tls_context
from tests.fakes.mesos_master import FakeMaster
from tests.fakes.replay import no_names


@pytest.mark.parametrize(
    ("master", "base", "at"),
    [
        ("10.0.0.1:5051", "http://10.0.0.1:5051", ("10.0.0.1", 5051)),
        ("host", "http://host:5050", ("host", 5050)),
        ("[fd00::1]:5050", "http://[fd00::1]:5050", ("fd00::1", 5050)),
        ("fd00::1", "http://[fd00::1]:5050", ("fd00::1", 5050)),
        ("http://host", "http://host:5050", ("host", 5050)),
        ("https://host/mesos/", "https://host:443/mesos", ("host", 443)),
        ("https://[fd00::1]:5050", "https://[fd00::1]:5050", ("fd00::1", 5050)),
    ],
)
def test_base_url(master: str, base: str, at: tuple[str, int]) -> None:
    assert base_url(master) == base
    assert place(base) == at


@pytest.mark.parametrize("master", ["", "ftp://host", "http://", "host:port", "http://u:p@host", "http://host/?q"])
def test_no_master(master: str) -> None:
    with pytest.raises(ValueError):
        base_url(master)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("//10.0.0.2:15050/master/api/v1", ("http://10.0.0.2:15050", "/master/api/v1")),
        ("//10.0.0.2:15050", ("http://10.0.0.2:15050", "/api/v1")),
        ("//10.0.0.2", ("http://10.0.0.2:5050", "/api/v1")),
        ("//[fd00::2]:1/", ("http://[fd00::2]:1", "/api/v1")),
        ("http://lead:5/x", ("http://lead:5", "/x")),
        ("https://lead/x", ("https://lead:443", "/x")),
    ],
)
def test_redirected(location: str, expected: tuple[str, str]) -> None:
    assert redirected("http://10.0.0.1:5050", "/api/v1", location) == expected


def test_a_redirect_keeps_tls() -> None:
    assert redirected("https://a:1", "/x", "//b:2") == ("https://b:2", "/x")
    with pytest.raises(MasterError, match="refused"):
        redirected("https://a:1", "/x", "http://b:2")


@pytest.mark.parametrize("location", ["", "/api/v1", "ftp://x", "//", "javascript:1", "//h:99999"])
def test_a_useless_redirect(location: str) -> None:
    if location == "//h:99999":
        assert redirected("http://a:1", "/x", location)[0] == "http://h:5050"
        return
    with pytest.raises(MasterError):
        redirected("http://a:1", "/x", location)


def test_broken_tls_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("x")
    with pytest.raises(OSError, match=r"ca_file .*broken"):
        tls_context(MesosConfig(ca_file=str(broken)), "mesos")
    with pytest.raises(OSError, match=r"cert_file .*missing"):
        tls_context(MesosConfig(cert_file=str(tmp_path / "missing.pem")), "mesos")


@pytest.mark.asyncio
async def test_limits_and_refusals() -> None:
    counters = SourceCounters()
    hosts = Hosts(resolve=no_names)
    async with FakeMaster() as master, MasterClient(MesosConfig(), hosts, counters) as client:
        base = base_url(master.place)
        master.gets["/big"] = {"x": "y" * 1000}
        async with client.request(base, "/big") as answer:
            with pytest.raises(MasterError, match="larger"):
                await answer.read(100)
        async with client.request(base, "/big") as answer:
            assert len(await answer.read(2000)) > 1000
        assert master.headers[0]["accept-encoding"] == "identity"
        assert counters.bytes > 1000
        with pytest.raises(MasterError) as refused:
            async with client.request(base, "/none"):
                pass
        assert (refused.value.status, refused.value.answered) == (404, True)
        with pytest.raises(MasterError) as unknown:
            async with client.request("http://no.such.host:1", "/none"):
                pass
        assert not unknown.value.answered
    await hosts.close()
