"""What HTTP to masters and to Marathon has in common: TLS settings, sessions, and what a refusal says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import aiohttp

from mesos_dns.config import MarathonConfig, MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.known_hosts import KnownHosts
from mesos_dns.tls import Tls

CONNECTIONS = 16


def tls_context(config: MesosConfig | MarathonConfig, section: str) -> ssl.SSLContext:
    """The TLS settings of a section. Raises OSError (also for broken files) that names section and file."""
    try:
        return Tls(config.ca_file, config.cert_file, config.key_file, config.tls_verify).context()
    except OSError as error:
        raise OSError(f"[{section}] {error}") from None


def new_session(hosts: Hosts, connect_timeout: float, connections: int = CONNECTIONS) -> aiohttp.ClientSession:
    """A session without cookies and proxies that decompresses nothing and looks hosts up by `hosts`; seconds.

    `connections`: most that are open at a time; further requests wait.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=KnownHosts(hosts, connect_timeout), use_dns_cache=False, limit=connections
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=1 << 18,
        headers={"Accept-Encoding": "identity", "User-Agent": "pharos"},
    )


async def text_of_refusal(response: aiohttp.ClientResponse) -> str:
    """The beginning of an answer that is no success, for people; "" when it does not come within a second."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            return (await response.content.read(300)).decode("utf-8", "replace").strip()
    return ""
