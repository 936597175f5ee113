"""The addresses of a host name by the resolver's upstreams: A and AAAA at once, aliases followed in the answers.

For the few names that Pharos itself depends on (`mesos_dns.boot_names`); what programs ask goes another way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from itertools import pairwise
from typing import Protocol

from mesos_dns.message import IN
from mesos_dns.model import canonical_address
from mesos_dns.names import AAAA, A
from mesos_dns.resolver.race import NoAnswer
from mesos_dns.resolver.reading import FAILURE, read_reply
from mesos_dns.wire import IllegalName, name_to_wire

LIMIT = 3.5
"""Seconds for both questions: less than `boot_names.LIMIT`, so that the first family's addresses are still in time."""

OTHER_FAMILY = 1.0
"""Seconds that the second family may take when the first has given addresses."""

MAX_ADDRESSES = 64


class AskReply(Protocol):
    """What an upstream answered; `packet` is the whole message."""

    @property
    def packet(self) -> bytes:
        """A DNS message."""


class Ask(Protocol):
    """Asks upstreams one question: `Upstreams.ask`. `name` is folded and in wire form, `question` has type and class
    behind it. Raises NoAnswer (or OSError) when nobody answered."""

    async def __call__(self, name: bytes, question: bytes, *, dnssec_ok: bool, checking_disabled: bool) -> AskReply:
        """See the class."""


class HostLookup:
    """A `Resolve` (see `mesos_dns.hosts`) on top of upstreams."""

    def __init__(self, ask: Ask, limit: float = LIMIT, other_family: float = OTHER_FAMILY) -> None:
        self._ask = ask
        self._limit = limit
        self._other_family = other_family

    async def __call__(self, name: str) -> tuple[str, ...]:
        """The canonical addresses of a name, IPv4 first; () when it has none or does not exist.

        The name is asked for as it stands: no search domain, no hosts file. One family is enough: an
        upstream that fails for the other is no reason to be without addresses. Raises TimeoutError when
        an answer is missing after `limit` seconds, OSError when an upstream failed or its answer is no use.
        """
        try:
            wire = name_to_wire(name).lower()
        except IllegalName as error:
            raise OSError(str(error)) from None
        asked = [asyncio.create_task(self._family(wire, qtype), name=f"resolve {name}") for qtype in (A, AAAA)]
        try:
            return await self._outcome(asked)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _outcome(self, asked: list[asyncio.Task[tuple[str, ...]]]) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limit
        await asyncio.wait(asked, timeout=self._limit, return_when=asyncio.FIRST_COMPLETED)
        left = max(0.0, end - loop.time())
        await asyncio.wait(asked, timeout=min(left, self._other_family) if _addresses(asked) else left)
        if found := _addresses(asked):
            return found
        failures = [task.exception() for task in asked if task.done()]
        if len(failures) < len(asked):
            raise TimeoutError("no upstream answered in time")
        for failure in failures:
            if isinstance(failure, OSError):
                raise failure
            if failure is not None:
                raise OSError(f"asking upstreams failed: {failure!r}") from failure
        return ()

    async def _family(self, name: bytes, qtype: int) -> tuple[str, ...]:
        """One question. Raises OSError."""
        question = name + struct.pack(">HH", qtype, IN)
        try:
            reply = await self._ask(name, question, dnssec_ok=False, checking_disabled=False)
            return read_addresses(reply.packet, name, qtype)
        except NoAnswer as failure:
            raise OSError(f"the upstreams have no answer: {failure.reason}") from None
        except ValueError as error:
            raise OSError(f"an upstream's answer is no use: {error}") from None


def _addresses(asked: list[asyncio.Task[tuple[str, ...]]]) -> tuple[str, ...]:
    """What the questions that are answered gave, each address once."""
    good = [task.result() for task in asked if task.done() and task.exception() is None]
    return tuple(dict.fromkeys(address for found in good for address in found))


def read_addresses(packet: bytes, name: bytes, qtype: int) -> tuple[str, ...]:
    """The addresses of a folded name (`qtype`: A or AAAA) that a reply holds, at the end of its aliases.

    () where the name does not exist (NXDOMAIN), or has none of this type. Addresses that can't be a
    host's (unspecified, multicast) are left out. Raises ValueError for an error, and for what `reading` refuses.
    """
    read = read_reply(packet, name, qtype)
    if read.kind == FAILURE:
        raise ValueError(f"error {read.rcode}")
    wire, offsets = read.answer.wire, read.answer.offsets
    found: dict[str, None] = {}
    for start, end in pairwise(offsets):
        at = _behind_owner(wire, start)
        if int.from_bytes(wire[at : at + 2], "big") == qtype:
            address = ipaddress.ip_address(wire[at + 10 : end])
            if not address.is_unspecified and not address.is_multicast:
                found[canonical_address(str(address))] = None
    return tuple(found)[:MAX_ADDRESSES]


def _behind_owner(wire: bytes, at: int) -> int:
    """Where the owner's name of a record of ours ends."""
    while 0 < wire[at] < 0xC0:
        at += 1 + wire[at]
    return at + (2 if wire[at] else 1)
