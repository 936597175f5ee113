"""The load generator compiles, asks by UDP and TCP, and tells right answers from wrong, missing and strange ones."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench.dns_load import Load, compiled
from tests.bench.dns_queries import edns_0x20, plain, write_queries

QUESTIONS = [(f"svc-{number}.marathon.mesos.", "A") for number in range(10)]
ANSWER = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01"

Reply = Callable[[bytes], bytes | None]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    return Load(tmp_path_factory.mktemp("load"))


def good(query: bytes) -> bytes:
    """A well-formed answer: one A record, no EDNS."""
    question_end = query.index(b"\0", 12) + 5
    return query[:2] + b"\x85\x80\0\x01\0\x01\0\0\0\0" + query[12:question_end] + ANSWER


class Answering(threading.Thread):
    """A DNS server on loopback that says to each query what `reply` does."""

    def __init__(self, reply: Reply, host: str, tcp: bool) -> None:
        super().__init__(daemon=True)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, 0))
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(0.05)
        if tcp:
            self._socket.listen()
        self.address: tuple[str, int] = (host, self._socket.getsockname()[1])
        self._reply = reply
        self._tcp = tcp
        self._over = threading.Event()

    def run(self) -> None:
        """Until `close`."""
        while not self._over.is_set():
            try:
                if self._tcp:
                    connection, _ = self._socket.accept()
                    with connection:
                        self._converse(connection)
                else:
                    query, client = self._socket.recvfrom(4096)
                    if (answer := self._reply(query)) is not None:
                        self._socket.sendto(answer, client)
            except TimeoutError:
                continue

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        data = b""
        while piece := connection.recv(65536):
            data += piece
            while len(data) >= 2 and len(data) >= 2 + int.from_bytes(data[:2], "big"):
                length = int.from_bytes(data[:2], "big")
                answer = self._reply(data[2 : 2 + length]) or b""
                connection.sendall(len(answer).to_bytes(2, "big") + answer)
                data = data[2 + length :]

    def close(self) -> None:
        """End it."""
        self._over.set()
        self.join(20)
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, int]]]:
    running: list[Answering] = []

    def start(reply: Reply, host: str = "127.0.0.1", tcp: bool = False) -> tuple[str, int]:
        running.append(Answering(reply, host, tcp))
        running[-1].start()
        return running[-1].address

    yield start
    for server in running:
        server.close()


@pytest.mark.parametrize(("host", "tcp"), [("127.0.0.1", False), ("::1", False), ("127.0.0.1", True)])
def test_right_answers_are_counted(
    load: Load, serve: Callable[..., tuple[str, int]], tmp_path: Path, host: str, tcp: bool
) -> None:
    try:
        server = serve(good, host, tcp)
    except OSError:
        pytest.skip(f"no {host} here")
    queries = write_queries(edns_0x20(QUESTIONS), tmp_path / "queries")
    found = load.run(server, queries, seconds=30, passes=3, sockets=1 if tcp else 2, window=4, tcp=tcp, timeout=10)
    assert (found["sent"], found["answers"], found["rcodes"]) == (30, 30, {"0": 30})
    assert (found["wrong"], found["unexpected"], found["lost"], found["truncated"]) == (0, 0, 0, 0)
    assert found["octets"] == 3 * sum(len(good(message)) for message in plain(QUESTIONS))
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["p999_us"] <= found["max_us"] * 1.04


def test_what_is_not_an_answer_is_told_apart(load: Load, serve: Callable[..., tuple[str, int]], tmp_path: Path) -> None:
    def reply(query: bytes) -> bytes | None:
        answer = good(query)
        number = int(query[17:18])  # svc-N
        cases: dict[int, bytes | None] = {
            0: None,
            1: query,  # no QR
            2: answer[:13] + b"S" + answer[14:],  # another case than asked
            3: bytes([answer[0], answer[1] ^ 0x80]) + answer[2:],  # an ID that nobody asked with
            4: answer[:3] + b"\x83" + answer[4:],  # NXDOMAIN
            5: answer[:2] + b"\x87" + answer[3:],  # TC
            6: answer[:5] + b"\0" + answer[6:],  # no question
        }
        return cases.get(number, answer)

    queries = write_queries(plain(QUESTIONS), tmp_path / "queries")
    found = load.run(serve(reply), queries, seconds=30, passes=1, sockets=1, window=10, timeout=1)
    assert (found["sent"], found["answers"], found["rcodes"]) == (10, 5, {"0": 4, "3": 1})
    assert (found["wrong"], found["unexpected"], found["truncated"]) == (3, 1, 1)
    assert found["lost"] == 2  # unanswered, and the one whose answer had another ID


def test_steady_rate_sends_what_is_due(load: Load, serve: Callable[..., tuple[str, int]], tmp_path: Path) -> None:
    queries = write_queries(plain(QUESTIONS), tmp_path / "queries")
    found = load.run(serve(good), queries, seconds=0.5, rate=200, sockets=2, timeout=10)
    assert 0 < found["sent"] <= 100
    assert found["answers"] == found["sent"]
    assert found["longest_gap_ms"] > 0
    assert found["longest_send_gap_ms"] > 0


def test_a_server_that_is_not_there(load: Load, tmp_path: Path, free_port: int) -> None:
    queries = write_queries(plain(QUESTIONS), tmp_path / "queries")
    found = load.run(("127.0.0.1", free_port), queries, seconds=0.2, sockets=1, timeout=0.1)
    assert (found["answers"], found["seconds"], found["qps"]) == (0, 0, 0)
    with pytest.raises(RuntimeError):
        load.run(("127.0.0.1", free_port), queries, seconds=0.2, sockets=1, tcp=True)


def test_questions_that_cannot_be_read(load: Load, tmp_path: Path, free_port: int) -> None:
    for content in (b"", b"\x40\0abc", b"\x0d\0" + bytes(12) + b"\x3f"):
        queries = tmp_path / "queries"
        queries.write_bytes(content)
        with pytest.raises(RuntimeError):
            load.run(("127.0.0.1", free_port), queries, seconds=0.1)


def test_echo_only_sets_qr(tmp_path: Path, free_port: int) -> None:
    echo = subprocess.Popen(
        [compiled("dns_echo", tmp_path), "127.0.0.1", str(free_port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            query = plain(QUESTIONS[:1])[0]
            client.sendto(query, ("127.0.0.1", free_port))
            assert client.recv(4096) == query[:2] + bytes([query[2] | 0x80]) + query[3:]
    finally:
        echo.kill()
        echo.communicate()
