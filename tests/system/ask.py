"""Sends recorded DNS queries to a server and prints each answer as a JSON line, in order.

    python ask.py QUERIES.jsonl HOST PORT

A row's own bytes (`raw_hex`) are sent as they are; otherwise its name, type, class, opcode, flags and
EDNS make the packet.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

TIMEOUT = 0.7
"""Seconds to wait for what may never be answered."""


def packet(row: dict[str, Any]) -> bytes | None:
    """The query of a row; None when its name is illegal on the wire."""
    if row.get("raw_hex"):
        return bytes.fromhex(row["raw_hex"])
    try:
        name = dns.name.from_text(row["qname"])
    except (dns.exception.DNSException, UnicodeError):
        return None
    query = dns.message.make_query(name, row["qtype"], row["qclass"])
    if row.get("rd") is False:
        query.flags &= ~dns.flags.RD
    if row.get("opcode"):
        number = int(row["opcode"]) if row["opcode"].isdigit() else int(dns.opcode.from_text(row["opcode"]))
        query.flags = (query.flags & ~0x7800) | number << 11
    if edns := row.get("edns"):
        options: list[dns.edns.Option] = [dns.edns.GenericOption(code, b"\0" * 8) for code in edns["opts"]]
        query.use_edns(edns["version"], dns.flags.DO if edns["do"] else 0, edns["payload"], options=options)
    return query.to_wire()


def exchange(wire: bytes, transport: str, address: tuple[str, int], timeout: float) -> bytes | None:
    """One question and its answer; None when there was none."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(address)
            if transport == "udp":
                sock.send(wire)
                return sock.recv(65535)
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            with sock.makefile("rb") as stream:
                size = stream.read(2)
                return stream.read(int.from_bytes(size, "big")) if len(size) == 2 else None
        except (TimeoutError, ConnectionError):
            return None


def told(wire: bytes | None) -> dict[str, Any]:
    """An answer as the recordings write it: sorted rdata texts by section."""
    if wire is None:
        return {"rcode": "TIMEOUT"}
    message = dns.message.from_wire(wire, ignore_trailing=False)
    texts = {
        section: sorted(
            f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
            for rrset in part
            for rdata in rrset
        )
        for section, part in (
            ("answer", message.answer),
            ("authority", message.authority),
            ("additional", message.additional),
        )
    }
    return {
        "rcode": dns.rcode.to_text(message.rcode()),
        "aa": bool(message.flags & dns.flags.AA),
        "tc": bool(message.flags & dns.flags.TC),
        "ra": bool(message.flags & dns.flags.RA),
        "edns": message.edns,
        "size": len(wire),
        **texts,
    }


def main() -> None:
    """Ask row by row; a truncated UDP answer is followed by the same question over TCP (as `full`)."""
    path, address = Path(sys.argv[1]), (sys.argv[2], int(sys.argv[3]))
    with path.open() as rows:
        for line in rows:
            row = json.loads(line)
            wire = packet(row)
            if wire is None:
                print(json.dumps({"rcode": "UNQUERYABLE"}))
                continue
            silent = row["rcode"] == "TIMEOUT"
            result = told(exchange(wire, row["proto"], address, TIMEOUT if silent else 5.0))
            if result.get("tc") or row.get("tc"):
                result["full"] = told(exchange(wire, "tcp", address, 5.0))
            print(json.dumps(result))


if __name__ == "__main__":
    main()
