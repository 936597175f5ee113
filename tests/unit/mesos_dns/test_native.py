"""The native table: which answers it keeps and drops, what it refuses, and whom it sends to."""

from __future__ import annotations

import os
import socket

import pytest

from mesos_dns import _native
from mesos_dns._native import Table
from mesos_dns.answer import Answer, Glue
from mesos_dns.wire import name_to_wire
from tests.fakes.native_table import (
    CLIENT,
    CLUSTER,
    MESOS,
    NOW,
    PLAIN,
    SOA,
    address,
    answer,
    ask,
    key_of,
    query,
    table_of,
)

# --- answers --------------------------------------------------------------------------------------


def test_an_answer_is_given_under_its_question_alone() -> None:
    table = table_of()
    assert table.put(key_of("web.mesos"), answer(1), ["web"], CLUSTER, 1, 0)
    found = table.answer(query(key_of("wEb.mesos")), CLIENT, False, NOW, 0)
    assert found is not None
    reply, zone, kind, rcode, cookie, age = found
    assert reply == b"\xab\xcd\x85\0\0\1\0\1\0\0\0\0" + key_of("wEb.mesos") + address(1)
    assert (zone, kind, rcode, cookie, age) == (1, 1, 0, 0, 0)
    for other in (key_of("web.mesos", 28), key_of("web.meso"), key_of("xweb.mesos"), key_of("web.mesos")[:-1] + b"\3"):
        assert ask(table, other) is None


def test_an_answer_takes_the_place_of_one_with_the_same_question() -> None:
    table = table_of()
    for number in (1, 2):
        assert table.put(key_of("web.mesos"), answer(number), [f"dependency {number}"], 0, 1, 0)
    assert table.figures()["answers"] == 1
    assert table.touch("dependency 1") == 0
    assert str(ask(table, key_of("web.mesos"))).endswith(str(address(2))[-6:])
    assert table.touch("dependency 2") == 1
    assert ask(table, key_of("web.mesos")) is None


def test_a_touch_tells_the_questions_that_were_read() -> None:
    table = table_of()
    keys = [key_of(f"{number}.mesos") for number in range(6)]
    for number, key in enumerate(keys):
        table.put(key, answer(number), ["all"], 0, 1, 0)
    for key in keys[::2]:
        assert ask(table, key) is not None
    assert sorted(table.touch_read("all")) == sorted(keys[::2])
    assert table.touch_read("all") == []
    assert table.figures()["answers"] == 0


def test_as_many_questions_are_told_as_there_is_room_for() -> None:
    table = table_of(8 << 20)
    keys = [key_of(f"{'x' * 50}{number}.{'y' * 60}.mesos") for number in range(2000)]
    for key in keys:
        assert table.put(key, answer(1), ["all"], 0, 1, 0)
        assert ask(table, key) is not None
    told = table.touch_read("all")
    assert 100 < len(told) < len(keys)
    assert set(told) <= set(keys)
    assert table.figures()["answers"] == 0


def test_a_touch_drops_what_hangs_on_it_once() -> None:
    table = table_of()
    for number in range(10):
        table.put(key_of(f"{number}.mesos"), answer(number), ["all", f"{number}", f"{number % 2}-of-2"], 0, 1, 0)
    assert table.touch("nobody") == 0
    assert table.touch("3") == 1
    assert table.touch("3") == 0
    assert table.touch("1-of-2") == 4
    assert table.touch("all") == 5
    assert table.figures()["answers"] == 0


def test_clear_drops_all_and_names_stay() -> None:
    table = table_of()
    table.enter(77, "web")
    empty = table.figures()["memory"]
    for number in range(100):
        table.put(key_of(f"{number}.mesos"), answer(number), [number], 0, 1, 0)
    assert table.figures()["answers"] == 100
    assert table.figures()["memory"] > empty
    table.clear()
    assert (table.figures()["answers"], table.figures()["memory"], table.figures()["names"]) == (0, empty, 1)
    assert ask(table, key_of("1.mesos")) is None
    table.clear()
    assert table.put(key_of("1.mesos"), answer(1), [1], 0, 1, 0)
    assert ask(table, key_of("1.mesos")) is not None


def test_dependencies_that_hash_to_nothing_in_particular() -> None:
    # hash(0) is 0 and hash(-1) is -2: neither is an empty place.
    table = table_of()
    for dependency in (0, -1, "", (), 2**64):
        assert table.put(key_of("web.mesos"), answer(1), [dependency], 0, 1, 0)
        assert table.touch(dependency) == 1


def test_a_record_section_of_different_sizes_is_rotated_by_whole_records() -> None:
    table = table_of()
    records = [b"\xc0\x0c\0\x10\0\1\0\0\0\x3c" + bytes((0, size + 1, size)) + b"x" * size for size in (1, 5, 3)]
    table.put(key_of("text.mesos", 16), Answer(0, records), ["text"], 0, 1, 0)
    for first, turn in enumerate((0, 1431655766, 2863311531)):
        reply = ask(table, key_of("text.mesos", 16), turn)
        assert reply is not None
        assert reply.endswith(b"".join(records[first:] + records[:first]))


@pytest.mark.parametrize("key", [b"", b"\0\0\1\0", bytes(260), bytes(1000)])
def test_what_is_no_question_is_not_kept(key: bytes) -> None:
    table = table_of()
    assert not table.put(key, answer(1), ["x"], 0, 1, 0)
    assert table.figures()["answers"] == 0


def test_the_shortest_and_the_longest_question() -> None:
    table = table_of()
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    for name in ("", longest):
        assert table.put(key_of(name), answer(1), [name], 0, 1, 0)
        assert ask(table, key_of(name)) is not None
    assert len(key_of(longest)) == 259


def test_an_answer_larger_than_an_eighth_of_the_table_is_not_kept() -> None:
    table = table_of()
    large = Answer(0, [bytes(1000)] * 132)
    assert not table.put(key_of("web.mesos"), large, ["x"], 0, 1, 0)
    assert ask(table, key_of("web.mesos")) is None


def test_an_answer_of_too_many_records_for_its_header_is_not_kept() -> None:
    table = Table(64 << 20, 1, 1)
    assert not table.put(key_of("web.mesos"), Answer(0, [address(1)] * 65536), ["x"], 0, 1, 0)
    assert table.put(key_of("web.mesos"), Answer(0, [address(1)] * 65535), ["x"], 0, 1, 0)


def test_glue_that_no_pointer_reaches_is_not_kept() -> None:
    table = Table(64 << 20, 1, 1)
    far = Glue(0, 65536, MESOS, (b"rest",))
    assert not table.put(key_of("web.mesos"), Answer(0, [bytes(70000)], glue=[far]), ["x"], 0, 1, 0)


@pytest.mark.parametrize(
    "packet", [b"", b"\0" * 11, query(key_of("web.mesos"))[:-1], query(key_of("web.mesos")) + b"\0", bytes(70000)]
)
def test_odd_packets_are_left_to_python(packet: bytes) -> None:
    table = table_of()
    table.put(key_of("web.mesos"), answer(1), ["web"], 0, 1, 0)
    for stream in (False, True):
        assert table.answer(packet, CLIENT, stream, NOW, 0) is None


def test_nothing_is_answered_before_there_are_settings() -> None:
    table = Table(1 << 20, 1, 1)
    for name in ("web.mesos", "example.org", "1.0.0.10.in-addr.arpa"):
        assert ask(table, key_of(name)) is None  # neither NXDOMAIN nor REFUSED: Python knows


# --- settings -------------------------------------------------------------------------------------


def zones(count: int) -> list[tuple[bytes, bytes, int, int, int]]:
    return [(name_to_wire(f"zone-{number}"), b"", 0, 0, 0) for number in range(count)]


@pytest.mark.parametrize(
    ("secrets", "served"),
    [
        ([], zones(_native.ZONES + 1)),
        ([bytes(16)] * (_native.SECRETS + 1), []),
        ([bytes(15)], []),
        ([bytes(17)], []),
        ([b""], []),
        ([], [(bytes(256), b"", 0, 0, 0)]),
        ([], [(MESOS, bytes(817), 0, 0, 0)]),
        ([], [(MESOS, b"", 0, 0, _native.LABELS)]),
    ],
)
def test_settings_beyond_their_limits(secrets: list[bytes], served: list[tuple[bytes, bytes, int, int, int]]) -> None:
    table = table_of()
    table.put(key_of("web.mesos"), answer(1), ["web"], 0, 1, 0)
    with pytest.raises(ValueError, match=r"too many|a secret has|too large"):
        table.configure(PLAIN, secrets, served)
    assert ask(table, key_of("web.mesos")) is not None


@pytest.mark.parametrize(
    ("name", "value"), [("max_udp", 65536), ("rate", -1), ("slip", 1 << 32), ("header_flags", 1 << 16)]
)
def test_a_number_that_does_not_fit(name: str, value: int) -> None:
    table = table_of()
    with pytest.raises(OverflowError):
        table.configure(PLAIN | {name: value}, [], [])


def test_settings_at_their_limits() -> None:
    table = table_of()
    assert table.configure(PLAIN, [bytes(16)] * _native.SECRETS, zones(_native.ZONES))
    longest = name_to_wire(".".join(["a" * 63] * 3 + ["b" * 61]))
    assert table.configure(PLAIN, [], [(longest, bytes(816), 2**64 - 1, 3, _native.LABELS - 1)])


def test_settings_may_change_any_number_of_times() -> None:
    table = table_of()
    memory = table.figures()["memory"]
    for number in range(2000):
        assert table.configure(PLAIN | {"rate": number}, [], [(MESOS, SOA, 77, 0, 1)])
    table.reclaim()
    assert table.figures()["memory"] == memory


def test_names_in_no_zone() -> None:
    table = table_of(refuse_others=1)
    assert ask(table, key_of("x.mesos")) is None  # in a zone whose names are not known
    reply = ask(table, key_of("example.net"))
    assert reply == b"\xab\xcd\x81\5\0\1\0\0\0\0\0\0" + key_of("example.net")
    assert table.configure(PLAIN, [], [])
    assert ask(table, key_of("example.net")) is None


# --- memory and files -----------------------------------------------------------------------------


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_table_closes_its_files() -> None:
    table = table_of()
    files = (table.table_fd, table.desk_fd)
    assert all(map(is_open, files))
    assert not any(map(os.get_inheritable, files))
    assert os.fstat(table.table_fd).st_size == 1 << 20
    del table
    assert not any(map(is_open, files))


@pytest.mark.parametrize(("size", "error"), [(0, OSError), (64, MemoryError), (4096, MemoryError), (1 << 62, OSError)])
def test_a_table_that_cannot_be_made_leaves_nothing_open(size: int, error: type[Exception]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        Table(size, 1, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_worker_has_counted_anything_yet() -> None:
    table = table_of()
    for number in range(_native.WORKERS):
        assert table.counts(number) == dict.fromkeys(_native.COUNTS, 0)
        assert table.answers(number) == []
        assert table.heartbeat(number) == 0
        table.release(number)


def test_figures_have_their_names() -> None:
    assert set(table_of().figures()) == {"answers", "memory", "names", "evicted", "refused", "flushed"}


# --- what workers call ----------------------------------------------------------------------------


def test_a_worker_has_a_number_and_files_that_are_open() -> None:
    table = table_of()
    with pytest.raises(ValueError, match="worker 64 of at most 64"):
        _native.work(table.table_fd, table.desk_fd, _native.WORKERS, 0, 0, False, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        _native.work(-1, table.desk_fd, 0, 0, 0, False, b"")


def test_an_answer_goes_where_a_header_says() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to,
    ):
        for each in (sock, to):
            each.bind(("127.0.0.1", 0))
        to.settimeout(60)
        port = to.getsockname()[1].to_bytes(2, "big")
        name = socket.AF_INET.to_bytes(2, "little") + port + bytes((127, 0, 0, 1)) + bytes(8)
        header = (bytes((0, len(name), 0, 0)) + name).ljust(_native.HANDED_SIZE, b"\0")
        assert _native.send(sock.fileno(), header, b"an answer") == 0
        assert to.recv(100) == b"an answer"
        for wrong in (b"\0\x1d\0\0", b"\0\x10\x29\0"):  # more than the header holds
            assert os.strerror(_native.send(sock.fileno(), wrong + header[4:], b"x")) == "Invalid argument"
    assert os.strerror(_native.send(-1, header, b"x")) == "Bad file descriptor"
    with pytest.raises(ValueError, match="not a worker's message"):
        _native.send(0, header[:-1], b"x")
