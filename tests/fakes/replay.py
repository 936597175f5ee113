"""Replays bytes of a recorded event stream through the source, without sockets."""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

from mesos_dns.hosts import Hosts, Resolve
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_calls import settle
from mesos_dns.sources.mesos_client import Answer, MasterError
from mesos_dns.sources.mesos_ledger import Ledger, Want
from mesos_dns.sources.mesos_snapshot import Snapshot
from mesos_dns.sources.mesos_stream import EventStream
from tests.fakes.followed import Followed


def read(path: Path) -> bytes:
    """A recording, unpacked."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def records(data: bytes) -> Iterator[bytes]:
    """The records of a whole recording, framing and all (written without the source's own reader)."""
    at = 0
    while at < len(data):
        newline = data.index(b"\n", at)
        end = newline + 1 + int(data[at:newline])
        yield data[at:end]
        at = end


def chunks(data: bytes, dice: random.Random, largest: int = 4000) -> Iterator[bytes]:
    """`data` cut at random places."""
    at = 0
    while at < len(data):
        size = dice.randint(1, largest)
        yield data[at : at + size]
        at += size


async def no_names(host: str) -> tuple[str, ...]:
    """A resolver that knows no name."""
    raise OSError(f"no such host {host}")


class _Bytes:
    """The part of Answer that a stream uses, over an iterator."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.base = "http://replayed"
        self._pieces = pieces

    async def chunk(self) -> bytes:
        return await anext(self._pieces, b"")


class Replay:
    """One source's inner parts on a catalog; connections are fed to it one after another."""

    def __init__(self, followed: Followed, resolve: Resolve = no_names, reregister_timeout: float = 600.0) -> None:
        self.followed = followed
        self.now = 0.0
        self.wanted = Want.NOTHING
        self.counters = SourceCounters()
        self.hosts = Hosts(self._host_changed, resolve)
        complain = Complaints(logging.getLogger("replay"))
        self.book = Book(followed.publisher, "mesos", self.hosts)
        self.ledger = Ledger(self.book, self.counters, complain, reregister_timeout, lambda: self.now)

    def _host_changed(self, host: str) -> None:
        self.ledger.host_changed(host)

    async def connection(
        self, pieces: Iterator[bytes], after: Callable[[int], None] | None = None, leader: str = "http://one"
    ) -> str:
        """Feed one connection; `after` is called with the number of each piece once it was read. How it ended."""

        async def feed() -> AsyncIterator[bytes]:
            for number, piece in enumerate(pieces):
                yield piece
                if after is not None:
                    after(number)
                if number % 50 == 0:
                    await asyncio.sleep(0)

        async def apply(snapshot: Snapshot) -> None:
            await settle(self.hosts, snapshot)
            await self.ledger.apply(snapshot, leader)

        def want(want: Want) -> None:
            self.wanted |= want

        answer = cast(Answer, _Bytes(feed()))
        try:
            await EventStream(answer, self.ledger, self.counters, apply, want, 60).run()
        except MasterError as error:
            return f"{error.kind}: {error}"
        finally:
            await self.hosts.close()
        raise AssertionError("a stream always ends in an error")
