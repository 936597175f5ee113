"""Keeps a resolv.conf as Pharos does, and answers DNS beside it: `python -m tests.system.resolv_conf_program`
PATH SAVED ADDRESS [UPSTREAM…]. On port 53 of ADDRESS every A question is answered with 192.0.2.99. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from agent.resolv_conf_file import ResolvConf
from agent.resolv_conf_kept import KeptResolvConf
from tests.fakes.upstream_dns import answer


class Resolver(asyncio.DatagramProtocol):
    """Answers everything."""

    def __init__(self, address: str) -> None:
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """uvloop's transports are no asyncio.DatagramTransport."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One question."""
        reply = answer(data, self._address, False)
        if reply is not None:
            self._transport.sendto(reply, addr)  # type: ignore[attr-defined]


async def serve(address: str, said: str) -> None:
    """A name server on port 53 that gives `said` for every name."""
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: Resolver(said), (address, 53))


async def keep(path: str, saved: str, address: str, upstreams: list[str]) -> None:
    """Until a signal."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await serve(address, "192.0.2.99")
    file = ResolvConf(Path(path), Path(saved), [address])
    kept = KeptResolvConf(
        file, upstreams, lambda servers: print("changed", *servers, flush=True), name="ready.test", interval=0.5
    )
    await kept.start()
    await kept.take()
    task = loop.create_task(kept.run())
    print("taken", flush=True)
    await ended.wait()
    task.cancel()
    await asyncio.wait((task,))
    await kept.close()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        loop = uvloop.new_event_loop()
        loop.run_until_complete(serve(sys.argv[2], sys.argv[3]))
        print("serving", flush=True)
        loop.run_forever()
    uvloop.run(keep(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
