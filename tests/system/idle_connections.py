"""Opens many TCP connections to a DNS server and holds them, in a process with open files of its own.

`python idle_connections.py HOST PORT COUNT PER_ADDRESS QUESTION`: the question in hexadecimal is asked once on each
connection. Connections come from 127.1.0.1, 127.1.0.2, … Each line of the input is a command, answered by one number:
`open`: connections that were opened and answered. `held`: those that the server has not ended. `ended`: waits until
it has ended all, and says how many it did.
"""

from __future__ import annotations

import resource
import selectors
import socket
import sys

AT_ONCE = 200
"""Connections opened before their answers are read: far fewer than the server's queue holds."""


def opened(address: tuple[str, int], count: int, per_address: int, question: bytes) -> list[socket.socket]:
    """The connections, each with one question answered."""
    held: list[socket.socket] = []
    while len(held) < count:
        batch = []
        for number in range(len(held), min(count, len(held) + AT_ONCE)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.settimeout(60)
            sock.bind((f"127.1.{number // per_address >> 8}.{(number // per_address & 255) + 1}", 0))
            sock.connect(address)
            sock.sendall(len(question).to_bytes(2, "big") + question)
            batch.append(sock)
        for sock in batch:
            with sock.makefile("rb") as stream:
                size = int.from_bytes(stream.read(2), "big")
                assert stream.read(size)[:2] == question[:2]
            sock.setblocking(False)
        held += batch
    return held


def is_held(sock: socket.socket) -> bool:
    """Whether the server has not ended a connection."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def ended(held: list[socket.socket]) -> int:
    """Wait until the server has ended all."""
    with selectors.DefaultSelector() as selector:
        for sock in held:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                selector.unregister(key.fileobj)
    return sum(not is_held(sock) for sock in held)


def main() -> None:
    """See the module."""
    host, port, count, per_address, question = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = opened((host, int(port)), int(count), int(per_address), bytes.fromhex(question))
    for line in sys.stdin:
        command = line.strip()
        number = {"open": lambda: len(held), "held": lambda: sum(map(is_held, held)), "ended": lambda: ended(held)}
        print(number[command](), flush=True)


if __name__ == "__main__":
    main()
