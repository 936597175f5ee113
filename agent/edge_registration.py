"""An edge tells the other processes where its `[api]` is: it holds the key `edges/ID` in the coordinator."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Callable, Iterator, Sequence

import msgspec

from agent.check_values import url_problem
from agent.sections import Config
from lb7.autoscale.known_edges import PREFIX, EdgeEntry
from mesos_dns.config import ApiConfig, host_port, host_port_text
from mesos_dns.coordinate import Coordinator, CoordinatorLost, VersionConflict
from mesos_dns.toml_tables import Problem

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks whether another URL is to be told."""
AGAIN = 1.0
"""Seconds, times a random part, before it is tried again."""


class EdgeRegistration:
    """See the module: `run` until cancelled. `identity` is one segment of a key; `url` tells where others reach the
    `[api]` now (`advertised`)."""

    def __init__(self, coordinator: Coordinator, identity: str, url: Callable[[], str]) -> None:
        self._coordinator, self._url = coordinator, url
        self._key = f"{PREFIX}/{identity}"
        self._complaint = ""

    def __repr__(self) -> str:
        return f"<EdgeRegistration {self._key}>"

    async def run(self) -> None:
        """Hold the key until cancelled; the coordinator makes it anew when it was lost."""
        while True:
            try:
                await self._hold()
            except (CoordinatorLost, VersionConflict, ValueError) as error:
                text = str(error) or type(error).__name__
                if text != self._complaint:
                    self._complaint = text
                    log.warning("this edge could not tell where it is key=%s error=%s", self._key, text)
            await asyncio.sleep(AGAIN * random.uniform(0.5, 1.0))

    async def _hold(self) -> None:
        """Hold it until another URL is to be told. Raises CoordinatorLost, VersionConflict,
        ValueError."""
        url = self._url()
        async with self._coordinator.register(self._key, msgspec.json.encode(EdgeEntry(url))):
            log.info("this edge tells where it is key=%s url=%s", self._key, url)
            self._complaint = ""
            while True:
                await asyncio.sleep(LOOK_EVERY)
                if self._url() != url:
                    return


def advertised(config: Config, bound: Sequence[tuple[str, int]] = ()) -> str | None:
    """The URL by which other machines reach the `[api]`; None: there is none. `bound` are its sockets' addresses, in
    the order of `listen`, for ports that the system chooses.

    `advertise`, else the first address of `listen` that is neither loopback nor a wildcard, else, for a wildcard, this
    machine's name, else a loopback address, which is good on this machine only.
    """
    api = config.api
    if api is None:
        return None
    if api.advertise:
        return api.advertise.rstrip("/")
    found = [host_port(text) for text in api.listen]
    if len(bound) == len(found):
        found = [(host, port or given) for (host, port), (_, given) in zip(found, bound, strict=True)]
    host, port = next((pair for pair in found if _is_specific(pair[0])), ("", 0))
    if not host:
        wildcard = next((pair for pair in found if ipaddress.ip_address(pair[0]).is_unspecified), None)
        host, port = (socket.gethostname(), wildcard[1]) if wildcard is not None else found[0]
    return f"{_scheme(api)}://{host_port_text(host, port)}"


def problems(config: Config) -> Iterator[Problem]:
    """What is wrong with `[api] advertise`."""
    text = config.api.advertise if config.api is not None else ""
    if not text:
        return
    expected = "expected http(s)://HOST[:PORT]"
    yield from url_problem("api.advertise", text, expected, "set token_file", bare=True)


def advice(config: Config) -> Iterator[Problem]:
    """An edge whose decider, elsewhere, could not reach it."""
    if config.l7 is None or config.zookeeper is None:
        return
    if config.api is None:
        if config.autoscale is not None:
            yield Problem("api", "is off: nobody hears what this edge carries, and apps are not scaled by it")
        return
    url = advertised(config) or ""
    host = url.partition("://")[2]
    if host.startswith(("127.", "[::1]")):
        text = f"other machines can't reach {url}, by which this edge tells what it carries: set listen, or advertise"
        yield Problem("api.listen", text)
    elif config.api.token_file and url.startswith("http://"):
        text = f"who decides shows {url} no token over plain HTTP: set cert_file, or name it in [autoscale] edges there"
        yield Problem("api.token_file", text)


def _is_specific(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return not address.is_unspecified and not address.is_loopback


def _scheme(api: ApiConfig) -> str:
    return "https" if api.cert_file else "http"
