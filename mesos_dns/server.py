"""The DNS server's sockets: binds them, hands out what answers, ends it all.

UDP is in `udp`, TCP and TLS in `streams`.
"""

from __future__ import annotations

import asyncio

from mesos_dns.config import DnsConfig, host_port
from mesos_dns.fastpath import FastPath
from mesos_dns.forward import Forwarder
from mesos_dns.respond import Beyond, Responder
from mesos_dns.streams import Streams
from mesos_dns.udp import UdpListener
from mesos_dns.workers import Worker

MAKE_AT_ONCE = 16
"""Answers made anew in one step, about 1 ms."""
MAKE_PAUSE = 0.005
"""Seconds between two steps: a storm of changes costs a fifth of a core here at most."""


class DnsServer:
    """Serves every address of `listen` by UDP and TCP, and of `tls_listen` by TLS; `section` is where these are.

    `start` binds, `close` lets go.
    """

    def __init__(self, config: DnsConfig, responder: Responder, section: str = "dns") -> None:
        self._section = section
        self._config = config
        self._responder = responder
        self._beyond = _beyond(config, responder)
        self.addresses: list[tuple[str, int]] = []
        """The bound (host, port) pairs, ports filled in where 0 was asked for."""
        self._udp: list[UdpListener] = []
        self._ending: set[asyncio.Future[None]] = set()
        self._making: asyncio.TimerHandle | None = None
        self._streams = Streams(config, responder, self._beyond)

    @property
    def workers(self) -> list[Worker]:
        """The native workers, one for each UDP socket; none where Python answers."""
        return [listener.worker for listener in self._udp if listener.worker is not None]

    @property
    def tls_addresses(self) -> list[tuple[str, int]]:
        """The bound (host, port) pairs of DNS over TLS."""
        return self._streams.tls_addresses

    def tell_stale(self, stale: bool) -> None:
        """Whether what is served of the cluster may be out of date; also brings the workers' settings up to date."""
        self._responder.stale = stale

    async def start(self) -> None:
        """Bind everything. Raises OSError naming the address or the certificate; nothing stays bound then."""
        what = f"[{self._section}]"
        self._responder.wanting = self._want
        try:
            await self._streams.renew(self._config)
            for text in self._config.listen:
                what = f"[{self._section}] listen: can't bind {text!r}"
                await self._listen(*host_port(text, 53))
            for text in self._config.tls_listen:
                what = f"[{self._section}] tls_listen: can't bind {text!r}"
                await self._streams.listen_tls(*host_port(text, 853))
            self._responder.take_over()  # not before: until here another may go on
        except OSError as error:
            await self.close()
            raise OSError(error.errno, f"{what}: {error.strerror or error}") from error

    async def renew(self, config: DnsConfig | None = None) -> None:
        """Read the certificate again: of another configuration, before `swap`, or of this one.

        Connections stay, new ones get it. Raises OSError when it can't be used; the old one is then kept.
        """
        try:
            await self._streams.renew(config or self._config)
        except OSError as error:
            raise OSError(error.errno, f"[{self._section}]: {error}") from error

    def swap(self, config: DnsConfig, responder: Responder) -> None:
        """Answer with another responder from the next packet on; the sockets stay as they are."""
        responder.stale = self._responder.stale
        before = self._responder.fast
        self._config, self._responder = config, responder
        responder.take_over()
        responder.wanting = self._want
        if responder.fast is not None:
            responder.fast.workers = len(self._udp)
        if before is not None and before is not responder.fast:
            before.retire()
        self._beyond = _beyond(config, responder)
        ending = [each for listener in self._udp for each in listener.swap(responder, self._beyond)]
        if before is not None and before is not responder.fast:
            closing = asyncio.get_running_loop().create_task(_close_after(before, ending))
            self._ending.add(closing)
            closing.add_done_callback(self._ending.discard)
        self._streams.swap(config, responder, self._beyond)

    async def close(self) -> None:
        """Stop serving; open connections are closed, and nothing of ours runs when this returns."""
        self._responder.wanting = lambda: None
        if self._making is not None:
            self._making.cancel()
            self._making = None
        ending = list(self._ending)
        for listener in self._udp:
            ending += listener.close()
        await self._streams.close()
        await asyncio.gather(*ending, return_exceptions=True)
        self._udp, self.addresses = [], []

    def forget(self) -> None:
        """Give the memory of its table back; after `close`, when it is not started again."""
        if self._responder.fast is not None:
            self._responder.fast.close()

    def _want(self) -> None:
        """Answers that clients ask for were dropped: make them anew in small steps, not when they ask."""
        if self._making is None:
            self._making = asyncio.get_running_loop().call_later(MAKE_PAUSE, self._make)

    def _make(self) -> None:
        self._making = None
        if self._responder.make_ready(MAKE_AT_ONCE):
            self._want()

    async def _listen(self, host: str, port: int) -> None:
        count = max(1, self._config.workers) if self._responder.fast is not None else 1
        for attempt in range(8):
            listener = self._bind(host, port, count > 1)
            try:
                await self._streams.listen_tcp(listener.socket)
            except OSError:
                # With port 0 the kernel chose a UDP port whose TCP twin may be taken: choose again.
                if port or attempt == 7:
                    raise
                self._udp.pop().close()
                continue
            self.addresses.append(listener.address)
            listener.open()
            for _ in range(count - 1):
                self._bind(host, listener.address[1], True).open()
            return

    def _bind(self, host: str, port: int, shared: bool) -> UdpListener:
        listener = UdpListener(host, port, self._responder, self._beyond, len(self._udp), shared)
        self._udp.append(listener)
        if self._responder.fast is not None:
            self._responder.fast.workers = len(self._udp)
        return listener


async def _close_after(fast: FastPath, workers: list[asyncio.Future[None]]) -> None:
    """Close a table when the workers that serve from it have ended."""
    await asyncio.gather(*workers, return_exceptions=True)
    fast.close()


def _beyond(config: DnsConfig, responder: Responder) -> Beyond:
    return responder.recursion or Forwarder(responder, float(config.forward_timeout), config.forward_clients)
