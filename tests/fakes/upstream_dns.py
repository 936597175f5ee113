"""The upstream name servers of the recorded forwarding case, by name: what they answer is in NAMES.

python upstream_dns.py DEFAULT_PORT ZONE_PORT
"""

from __future__ import annotations

import socket
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


def answer(wire: bytes, address: str, tcp: bool) -> bytes | None:
    """nx → NXDOMAIN, servfail, refused, empty, big (60 addresses), tc (truncated by UDP), drop; else one address."""
    query = dns.message.from_wire(wire)
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.RA
    question = query.question[0]
    kind = question.name.to_text().split(".")[0].lower()
    if kind == "drop":
        return None
    if kind in ("nx", "servfail", "refused"):
        reply.set_rcode({"nx": dns.rcode.NXDOMAIN, "servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED}[kind])
    elif kind == "tc" and not tcp:
        reply.flags |= dns.flags.TC
    elif kind != "empty" and question.rdtype == 1:
        count = 60 if kind == "big" else 1
        addresses = [f"192.0.2.{number}" for number in range(1, 61)][:count] if kind == "big" else [address]
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", *addresses))
    return reply.to_wire(max_size=65535)


def serve(port: int, address: str) -> None:
    """UDP and TCP on one port of loopback, a thread each."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", port))
    tcp = socket.create_server(("127.0.0.1", port))

    def by_udp() -> None:
        while True:
            wire, client = udp.recvfrom(65535)
            if (reply := answer(wire, address, False)) is not None:
                udp.sendto(reply, client)

    def by_tcp() -> None:
        while True:
            connection, _ = tcp.accept()
            with connection, connection.makefile("rb") as stream:
                while len(size := stream.read(2)) == 2:
                    reply = answer(stream.read(int.from_bytes(size, "big")), address, True)
                    if reply is None:
                        break
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)

    threading.Thread(target=by_udp, daemon=True).start()
    threading.Thread(target=by_tcp, daemon=True).start()


if __name__ == "__main__":
    serve(int(sys.argv[1]), "192.0.2.1")
    serve(int(sys.argv[2]), "192.0.2.2")
    print("serving", flush=True)
    threading.Event().wait()
