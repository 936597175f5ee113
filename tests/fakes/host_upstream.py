"""An upstream name server on loopback that knows the host names that a test gives it, and a way to ask it."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mesos_dns.forward import exchange_udp
from mesos_dns.model import canonical_address
from tests.ports import free_ports


class Reply(NamedTuple):
    """What the upstream answered."""

    packet: bytes


class HostUpstream(asyncio.DatagramProtocol):
    """`names` maps a name to (type, data) pairs, also of its aliases; what is not in it does not exist.

    `deaf` are types that get no answer. `asked` holds every question as "name TYPE". `raise_port` binds
    again to the port of one that was closed.
    """

    def __init__(self, **names: list[tuple[str, str]]) -> None:
        self.names = {name.replace("_", "."): records for name, records in names.items()}
        self.deaf: set[str] = set()
        self.rcode = dns.rcode.NOERROR
        self.asked: list[str] = []
        self.port = free_ports(1)[0]
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> HostUpstream:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        """Serve, on the port of last time if there was one."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self.port))

    async def down(self) -> None:
        """Stop: whoever asks then gets an ICMP error."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
            await asyncio.sleep(0.01)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if kind in self.deaf or self._transport is None:
            return
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        reply.set_rcode(self.rcode)
        self._fill(reply, name, kind)
        self._transport.sendto(reply.to_wire(), addr)

    def _fill(self, reply: dns.message.Message, name: str, kind: str) -> None:
        for _ in range(40):
            if name not in self.names:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                return
            for rtype, data in self.names[name]:
                if rtype in (kind, "CNAME"):
                    reply.answer.append(dns.rrset.from_text(dns.name.from_text(name), 60, "IN", rtype, data))
            aliases = [data for rtype, data in self.names[name] if rtype == "CNAME"]
            if not aliases:
                return
            name = aliases[0].removesuffix(".")

    async def ask(self, name: bytes, question: bytes, *, dnssec_ok: bool, checking_disabled: bool) -> Reply:
        """Ask this upstream over a real socket. Raises OSError when nobody listens."""
        packet = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + question
        return Reply(await exchange_udp(packet, ("127.0.0.1", self.port)))


def forbid_system_lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the system's resolver fail for names (addresses pass: nobody is asked for those); the names it was given."""
    asked: list[str] = []
    original = socket.getaddrinfo

    def addresses_only(host: object, *arguments: object, **more: object) -> object:
        text = host.decode() if isinstance(host, bytes) else str(host)
        if host is not None and not canonical_address(text):
            asked.append(text)
            raise AssertionError(f"the system's resolver was asked for {text}")
        return original(host, *arguments, **more)  # type: ignore[arg-type]

    def none(name: object) -> object:
        asked.append(str(name))
        raise AssertionError(f"the system's resolver was asked for {name!r}")

    monkeypatch.setattr(socket, "getaddrinfo", addresses_only)
    monkeypatch.setattr(socket, "gethostbyname", none)
    monkeypatch.setattr(socket, "gethostbyname_ex", none)
    return asked
