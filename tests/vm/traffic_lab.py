"""A node with containers, a network that it is on, and what is beyond: namespaces of one VM, served by one process.

    br2: c2 ──────────── node ─── br0: b1 b2 b3 c1 c5     containers of the node, behind it
                          └────── lan: b4 router          the network of the nodes; `router` is also a client beyond it

The node is the VM itself. Every backend answers, by TCP and UDP, with its name and the client's address, and hangs up
on a TCP client that sends "q".
"""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import subprocess
import threading
from functools import lru_cache

from lb4.netlink import in_namespace

PORT = 8080
"""Where backends listen."""
PATIENCE = 10.0
"""Seconds for what is to come; the CPU is emulated."""
BACKENDS = ("b1", "b2", "b3", "b4", "node")
FOUR = {"b1": "10.1.0.11", "b2": "10.1.0.12", "b3": "10.1.0.13", "b4": "10.3.0.14", "node": "10.3.0.1"}
SIX = {"b1": "fd10::11", "b2": "fd10::12", "b3": "fd10::13", "b4": "fd30::14", "node": "fd30::1"}
BEYOND = ("10.9.0.2", "fd90::2")
"""The addresses of the client beyond the router."""

_BRIDGES = {
    "br0": ("10.1.0.", "fd10::", {"b1": 11, "b2": 12, "b3": 13, "c1": 2, "c5": 5}),
    "lan": ("10.3.0.", "fd30::", {"b4": 14, "router": 254}),
    "br2": ("10.2.0.", "fd20::", {"c2": 2}),
}


def sh(command: str) -> str:
    """What a shell prints. Raises RuntimeError when it fails."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


@lru_cache
def firewall(name: str) -> str:
    """iptables or ip6tables as this kernel understands it: Debian's own speaks nf_tables, which not all do."""
    tried = subprocess.run(["sh", "-c", f"{name} -t nat -N tried && {name} -t nat -X tried"], capture_output=True)
    return name if tried.returncode == 0 else f"{name}-legacy"


def ip_batch(lines: list[str], name: str = "") -> None:
    """Many ip commands in one process, in a namespace or ("") on the node."""
    command = ["ip", *(["-n", name] if name else []), "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)


def build() -> None:
    """Make all of it."""
    lines = []
    inside: dict[str, list[str]] = {}
    for bridge, (net4, net6, members) in _BRIDGES.items():
        lines += [f"link add {bridge} type bridge", f"address add {net4}1/24 dev {bridge}", f"link set {bridge} up"]
        lines += [f"address add {net6}1/64 dev {bridge} nodad"]
        for name, number in members.items():
            lines += [f"netns add {name}", f"link add v{name} type veth peer name eth0 netns {name}"]
            lines += [f"link set v{name} master {bridge} up"]
            inside[name] = ["link set lo up", f"address add {net4}{number}/24 dev eth0", "link set eth0 up"]
            inside[name] += [f"address add {net6}{number}/64 dev eth0 nodad"]
            way = 254 if bridge == "lan" else 1
            if number != way:
                inside[name] += [f"route add 0.0.0.0/0 via {net4}{way}", f"route add ::/0 via {net6}{way}"]
    lines += ["route add 0.0.0.0/0 via 10.3.0.254", "route add ::/0 via fd30::254"]
    inside["router"] += [f"address add {BEYOND[0]}/32 dev lo", f"address add {BEYOND[1]}/128 dev lo nodad"]
    for network in ("11.0.0.0/8", "10.1.0.0/24"):
        inside["router"] += [f"route add {network} via 10.3.0.1 src {BEYOND[0]}"]
    for network in ("fd11::/64", "fd10::/64"):
        inside["router"] += [f"route add {network} via fd30::1 src {BEYOND[1]}"]
    ip_batch(lines)
    for name, commands in inside.items():
        ip_batch(commands, name)


def path_of(name: str) -> str:
    """The path of a namespace, "" of the node's."""
    return "" if name == "node" else f"/run/netns/{name}"


def socket_in(name: str, address: str, kind: int) -> socket.socket:
    """A socket of this address' family in a namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return in_namespace(path_of(name), lambda: socket.socket(family, kind))


class Servers:
    """The backends' servers, in a thread that ends with the process."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, tuple[str, str, socket.socket]] = {}
        for name in BACKENDS:
            for address in (FOUR[name], SIX[name]):
                listener = socket_in(name, address, socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                receiver = socket_in(name, address, socket.SOCK_DGRAM)
                for kind, sock in (("listener", listener), ("receiver", receiver)):
                    # To an address of its own: the node has several, and a datagram is answered from the nearest.
                    sock.bind((address, PORT))
                    self._watch(kind, name, sock)
                listener.listen(256)
        threading.Thread(target=self._serve, name="servers", daemon=True).start()

    def _watch(self, kind: str, name: str, sock: socket.socket) -> None:
        self._sockets[sock.fileno()] = kind, name, sock
        self._poll.register(sock, select.EPOLLIN)

    def _serve(self) -> None:
        while True:
            for number, _ in self._poll.poll():
                kind, name, sock = self._sockets[number]
                try:
                    self._serve_one(kind, name, sock)
                except OSError:
                    if kind == "connection":
                        self._forget(sock)

    def _serve_one(self, kind: str, name: str, sock: socket.socket) -> None:
        if kind == "listener":
            self._watch("connection", name, sock.accept()[0])
            return
        data, sender = sock.recvfrom(2048)
        if kind == "receiver":
            sock.sendto(_answer(name, sender[0]), sender)
            return
        if data:
            sock.send(_answer(name, sock.getpeername()[0]))
        if not data or data == b"q":
            self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        self._poll.unregister(sock)
        del self._sockets[sock.fileno()]
        sock.close()


def _answer(name: str, client: str) -> bytes:
    return f"{name} {client}".encode()


class Answer(collections.namedtuple("Answer", ["backend", "client"])):
    """Which backend answered, and from what address it saw the client; ("", the error) when none did."""

    __slots__ = ()


class Client:
    """A TCP connection or a UDP socket of a namespace to a virtual address."""

    def __init__(self, name: str, address: str, port: int = 80, kind: int = socket.SOCK_STREAM, bind: int = 0) -> None:
        self._socket = socket_in(name, address, kind)
        self._socket.settimeout(PATIENCE)
        self.failed = ""
        if bind:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("", bind))
        try:
            self._socket.connect((address, port))
        except OSError as error:
            self.failed = type(error).__name__

    def ask(self, what: bytes = b"x", patience: float = PATIENCE) -> Answer:
        """One answer."""
        if self.failed:
            return Answer("", self.failed)
        self._socket.settimeout(patience)
        try:
            self._socket.send(what)
            received = self._socket.recv(256).decode()
        except OSError as error:
            return Answer("", type(error).__name__)
        return Answer(*received.split()) if received else Answer("", "closed")

    def hang_up(self) -> None:
        """The server hangs up first, so that the client's port is free again."""
        self.ask(b"q")
        with contextlib.suppress(OSError):
            self._socket.recv(1)
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def ask(name: str, address: str, port: int = 80, kind: int = socket.SOCK_STREAM) -> Answer:
    """A new connection and one answer."""
    client = Client(name, address, port, kind)
    try:
        return client.ask()
    finally:
        client.close()


def ask_often(name: str, address: str, port: int = 80, kind: int = socket.SOCK_STREAM, times: int = 9) -> list[Answer]:
    """Several new connections."""
    return [ask(name, address, port, kind) for _ in range(times)]
