"""`pharos resolve NAME [TYPE]`: ask a running Pharos by DNS and say where the answer comes from."""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from dnslib import EDNS0, QTYPE, RCODE, DNSHeader, DNSQuestion, DNSRecord
from dnslib.dns import DNSError
from dnslib.label import DNSLabelError

from agent.client import BadOption, Client, ClientError, Unreachable
from agent.commands_ask import access
from agent.table import safe, table
from mesos_dns.config import host_port

_TRIES, _TRY_SECONDS = 3, 2.0
_PAYLOAD = 1232


class Exchange(NamedTuple):
    """An answer, how it came, and what the server says of where it has it from (None: it was not asked)."""

    reply: DNSRecord
    server: str
    transport: str
    seconds: float
    told: dict[str, Any] | None = None


def resolve(args: argparse.Namespace) -> int:
    """0 when the name exists, 1 when not or when nobody answers, 2 when the question can't be put."""
    try:
        query = question(args.name, args.type)
        server = host_port(args.server, 53) if args.server else dns_address(args)
    except ValueError as error:
        print(f"pharos resolve: {error}", file=sys.stderr)
        return 2
    exchange = ask(query, server)
    if not args.server:
        exchange = exchange._replace(told=told_origin(args, query))
    print(json.dumps(as_json(exchange), indent=2) if args.json else "\n".join(as_text(exchange)))
    return 0 if exchange.reply.header.rcode == RCODE.NOERROR else 1


def question(name: str, kind: str | None) -> DNSRecord:
    """The query for a name (always taken as absolute), or for an address its PTR. Raises ValueError."""
    try:
        name, kind = ipaddress.ip_address(name).reverse_pointer, kind or "PTR"
    except ValueError:
        kind = kind or "A"
    numbered = re.fullmatch(r"TYPE(\d{1,5})", kind.upper())
    number = int(numbered[1]) if numbered else QTYPE.reverse.get(kind.upper(), -1)
    if not 0 <= number <= 65535:
        raise ValueError(f"unknown record type {kind!r}; TYPE123 asks for any number")
    try:
        asked = DNSQuestion(name.rstrip(".") + ".", number)
        query = DNSRecord(DNSHeader(id=secrets.randbits(16), rd=1), q=asked)
        query.add_ar(EDNS0(udp_len=_PAYLOAD))
        query.pack()
    except (DNSError, DNSLabelError, UnicodeError) as error:
        raise ValueError(f"{name!r} is no DNS name: {error}") from error
    return query


def told_origin(args: argparse.Namespace, query: DNSRecord) -> dict[str, Any] | None:
    """What `[admin]` says of where the answer comes from; None where nobody can be asked."""
    words = urlencode({"name": str(query.q.qname), "type": query.q.qtype})
    try:
        found = Client(args.admin, access(args)).get(f"/v1/origin?{words}").value
    except BadOption:
        raise
    except ClientError:
        return None
    return found if isinstance(found, dict) else None


def dns_address(args: argparse.Namespace) -> tuple[str, int]:
    """Where the running Pharos serves DNS, as its /status says. Raises ClientError."""
    faults = []
    for url in dict.fromkeys((args.admin, args.api)):
        client = Client(url, access(args))
        try:
            found = list(_dns_addresses(client.get("/status").value))
        except BadOption:
            raise
        except ClientError as error:
            faults.append(str(error))
            continue
        if found:
            host, port = host_port(found[0], 53)
            return (client.host if ipaddress.ip_address(host).is_unspecified else host), port
        faults.append(f"{url}/status names no DNS address: is [dns] or [resolver] on?")
    raise ClientError("\n".join([*faults, "turn [admin] on, or name the DNS server with --server ADDR:PORT"]))


def _dns_addresses(value: Any) -> Iterable[str]:
    """The resolver's first: it answers for every name."""
    for section, key in (("resolver", "listen"), ("dns", "addresses")):
        part = value.get(section) if isinstance(value, dict) else None
        addresses = part.get(key) if isinstance(part, dict) else None
        yield from (each for each in (addresses if isinstance(addresses, list) else ()) if isinstance(each, str))


def ask(query: DNSRecord, server: tuple[str, int]) -> Exchange:
    """Ask by UDP, again by TCP when the answer was cut. Raises Unreachable."""
    where = f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"
    start, transport = time.monotonic(), "UDP"
    try:
        reply = _over_udp(query, server)
        if reply.header.tc:
            reply, transport = _over_tcp(query, server), "TCP"
    except (OSError, EOFError, DNSError) as error:
        raise Unreachable(f"no answer from {where} over {transport}: {error}") from error
    return Exchange(reply, where, transport, time.monotonic() - start)


def _over_udp(query: DNSRecord, server: tuple[str, int]) -> DNSRecord:
    family, _, _, _, address = socket.getaddrinfo(*server, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        asker.connect(address)
        for _ in range(_TRIES):
            asker.send(query.pack())
            deadline = time.monotonic() + _TRY_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                asker.settimeout(left)
                try:
                    reply = _matching(query, asker.recv(65535))
                except TimeoutError:
                    break
                if reply is not None:
                    return reply
    raise TimeoutError(f"{_TRIES} tries of {_TRY_SECONDS:g} s")


def _over_tcp(query: DNSRecord, server: tuple[str, int]) -> DNSRecord:
    message = query.pack()
    with socket.create_connection(server, timeout=_TRY_SECONDS) as asker, asker.makefile("rb") as stream:
        asker.sendall(len(message).to_bytes(2, "big") + message)
        size = int.from_bytes(stream.read(2), "big")
        reply = _matching(query, stream.read(size))
    if reply is None:
        raise EOFError("the answer is to another question")
    return reply


def _matching(query: DNSRecord, message: bytes) -> DNSRecord | None:
    """The answer to this very question, or None (RFC 5452 §9.1: id and question must match)."""
    try:
        reply = DNSRecord.parse(message)
    except (DNSError, DNSLabelError, ValueError, IndexError):
        return None
    same = reply.header.id == query.header.id and reply.header.qr == 1
    if reply.questions and (reply.q.qtype != query.q.qtype or reply.q.qname != query.q.qname):
        same = False
    return reply if same else None


def origin(reply: DNSRecord) -> str:
    """Where the answer comes from, as its AA bit says."""
    if reply.header.rcode == RCODE.REFUSED:
        return "not served"
    if reply.header.rcode == RCODE.SERVFAIL:
        return "not known now"
    return "its own names" if reply.header.aa else "forwarded"


def said(exchange: Exchange) -> str:
    """The origin in words."""
    told = exchange.told
    if told is None or exchange.reply.header.rcode == RCODE.REFUSED:
        return origin(exchange.reply)
    zone = safe(str(told.get("zone", "")))
    if told.get("source") == "zone":
        return f"{origin(exchange.reply)} (zone {zone})"
    if told.get("source") == "cache":
        age, lifetime = told.get("age"), told.get("lifetime")
        if not isinstance(age, int | float) or not isinstance(lifetime, int | float):
            return origin(exchange.reply)
        left = "past its time" if told.get("stale") else f"for {lifetime - age:.0f} s more"
        return f"cache, {left}, {age:.0f} s ago from {safe(str(told.get('upstream')))} (zone {zone})"
    servers = told.get("upstreams")
    names = ", ".join(safe(str(each)) for each in servers) if isinstance(servers, list) else ""
    return f"{origin(exchange.reply)}, servers {names or 'none'} (zone {zone})"


def as_text(exchange: Exchange) -> list[str]:
    """Lines: the records, then one that says how the answer came."""
    reply = exchange.reply
    rows = [[str(rr.rname), rr.ttl, _type_name(rr.rtype), str(rr.rdata)] for rr in reply.rr]
    lines = table(["NAME", "TTL", "TYPE", "DATA"], rows) if rows else []
    code = "NODATA" if not rows and reply.header.rcode == RCODE.NOERROR else _code_name(reply.header.rcode)
    how = f"{exchange.server} over {exchange.transport} in {exchange.seconds * 1000:.1f} ms"
    return [*lines, f"{code} for {safe(str(reply.q.qname))} {_type_name(reply.q.qtype)}: {said(exchange)}, from {how}"]


def as_json(exchange: Exchange) -> dict[str, Any]:
    """The same as JSON; `data` is in presentation format."""
    reply = exchange.reply
    sections = {"answers": reply.rr, "authority": reply.auth, "additional": reply.ar}
    return {
        "name": str(reply.q.qname),
        "type": _type_name(reply.q.qtype),
        "rcode": _code_name(reply.header.rcode),
        "authoritative": bool(reply.header.aa),
        "origin": origin(reply),
        **({"told": exchange.told} if exchange.told is not None else {}),
        **{
            section: [
                {"name": str(rr.rname), "ttl": rr.ttl, "type": _type_name(rr.rtype), "data": str(rr.rdata)}
                for rr in records
                if rr.rtype != QTYPE.OPT
            ]
            for section, records in sections.items()
        },
        "server": exchange.server,
        "transport": exchange.transport.lower(),
        "milliseconds": round(exchange.seconds * 1000, 3),
    }


def _type_name(number: int) -> str:
    return str(QTYPE.forward.get(number, f"TYPE{number}"))


def _code_name(number: int) -> str:
    return str(RCODE.forward.get(number, f"RCODE{number}"))
