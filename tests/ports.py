"""Ports that nobody listens on and that nobody else takes.

They lie below those from which the kernel gives ports to whoever asks for any one: no client's own port is among
them, and who connects to one that is closed never meets itself. They come in blocks, and a process that takes ports
has its block to itself: tests run beside one another on one machine. The claim on a block is a name among the
abstract unix sockets (unix(7)): each network namespace has its own, as it has its own ports, and it ends with the
process.
"""

from __future__ import annotations

import functools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

LOWEST, HIGHEST = 12_000, 31_000
"""From the second one on are those of Mesos agents."""
BLOCK = 500


def free_ports(count: int) -> list[int]:
    """Different ports, free by TCP and UDP on all addresses of IPv4."""
    given = _given(os.getpid())
    return [next(given) for _ in range(count)]


def own_ports(blocks: int = 1) -> Iterator[int]:
    """The free ports of blocks that nobody else has: none is given again before all have been."""
    claimed = [_claimed() for _ in range(blocks)]
    while True:
        yield from (port for block in claimed for port in block if _is_free(port))


@functools.cache
def _given(pid: int) -> Iterator[int]:
    """Those that this process gives."""
    return own_ports()


def _claimed() -> range:
    """A block that is this process' until its end."""
    end = min(HIGHEST, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    starts = list(range(LOWEST, (end if end >= LOWEST + BLOCK else HIGHEST) - BLOCK + 1, BLOCK))
    random.SystemRandom().shuffle(starts)
    for start in starts:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0pharos-tests-ports-{start}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # open until the process ends
        return range(start, start + BLOCK)
    raise OSError(f"all ports from {LOWEST} on are claimed")


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind(("", port))
    except OSError:
        return False
    return True
