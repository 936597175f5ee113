"""The connection to a server: its URL, the token, and errors that name the server and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesos_dns.config import RelayConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.relay_link import Connector, Link, RelayError, Token, server_url
from tests.fakes.relaying import Serving, cluster, free_port
from tests.fakes.replay import no_names


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h", "http://h:8123"),
        ("https://h:443/", "https://h:443"),
        ("https://[fd00::1]:8124", "https://[fd00::1]:8124"),
        ("http://proxy:80/pharos/", "http://proxy:80/pharos"),
    ],
)
def test_server_urls(text: str, url: str) -> None:
    assert server_url(text) == url


@pytest.mark.parametrize("text", ["h:8123", "ftp://h", "http://", "http://u:p@h", "http://h?x", "http://h:x"])
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError):
        server_url(text)


@pytest.mark.asyncio
async def test_a_token_is_read_again_and_the_last_good_one_holds(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = Token(str(file))
    with pytest.raises(RelayError, match="token_file") as caught:
        await token.headers()
    assert caught.value.kind == "auth"
    for text in ("", "\n", "tab\tbed\n", "schön\n"):
        file.write_text(text)
        with pytest.raises(RelayError):
            await token.headers()
    file.write_text("one\n")
    assert await token.headers() == {"Authorization": "Bearer one"}
    file.write_text("two\r\n")
    assert await token.headers() == {"Authorization": "Bearer two"}
    file.write_bytes(b"\xff\xfe\n")
    assert await token.headers() == {"Authorization": "Bearer two"}
    file.unlink()
    assert await token.headers() == {"Authorization": "Bearer two"}
    assert await Token("").headers() == {}


async def to_the_end(link: Link) -> None:
    while True:
        await link.receive()


@pytest.mark.asyncio
async def test_a_link_says_signs_of_life_apart_from_messages() -> None:
    hosts, counters = Hosts(resolve=no_names), SourceCounters()
    connector = Connector(RelayConfig(), hosts, counters)
    async with Serving(*cluster(1)) as server:
        async with connector.open(server.url, "") as link:
            first = await link.receive()
            assert first is not None
            assert b'"hello":1' in first
            assert counters.bytes == len(first)
            heard = link.heard_at
            assert await link.receive() is None  # a ping
            assert link.heard_at > heard
            await server.stop()
            with pytest.raises(RelayError, match=f"{server.url}: ") as caught:
                await to_the_end(link)
            assert caught.value.kind == "connect"
    for url in (f"http://127.0.0.1:{free_port()}", "http://nobody.example.com:1"):
        with pytest.raises(RelayError, match=url) as caught:
            async with connector.open(url, ""):
                pass
        assert caught.value.kind == "connect"
    await hosts.close()
