"""Netlink: attributes, many messages at a time, and answers that are lost, late or of others."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb4 import netlink
from lb4.netlink import (
    MOST_BYTES,
    MOST_MESSAGES,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    TRIES,
    Answer,
    Message,
    NetlinkSocket,
    each_attr,
    each_message,
    in_namespace,
    pack_attr,
    pack_nested,
    unpack_attrs,
)
from tests.fakes.netlink import LOST, KernelSocket, Reply, acknowledgement, message

RTM_GETLINK, RTM_BASE = 18, 16

Make = Callable[[Callable[[Answer], Reply]], tuple[NetlinkSocket, KernelSocket]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A socket whose other end is made up."""

    def made(answer: Callable[[Answer], Reply]) -> tuple[NetlinkSocket, KernelSocket]:
        kernel = KernelSocket(answer)
        monkeypatch.setattr(netlink, "_opened", lambda protocol: kernel)
        return NetlinkSocket(NETLINK_ROUTE), kernel

    return made


def by_payload(request: Answer) -> int:
    """The errno that the request asks for."""
    return request.payload[0]


def messages(count: int) -> list[Message]:
    """So many; every third one fails."""
    return [Message(RTM_BASE, 0x400, bytes([0 if place % 3 else errno.EEXIST])) for place in range(count)]


# --- attributes and messages ----------------------------------------------------------------------


def test_attributes_are_padded_and_nested() -> None:
    assert pack_attr(6, b"rr\0") == bytes.fromhex("0700 0600 72720000")
    assert pack_nested(1, pack_attr(2, b"\x06\0")) == bytes.fromhex("0c00 0180 0600 0200 0600 0000")
    assert unpack_attrs(pack_attr(6, b"rr\0") + pack_nested(1, pack_attr(2, b"x"))) == {
        6: b"rr\0",
        1: pack_attr(2, b"x"),
    }
    assert list(each_attr(pack_attr(1, b"a") + pack_attr(1, b"b"))) == [(1, b"a"), (1, b"b")]


def test_the_last_attribute_needs_no_padding() -> None:
    assert unpack_attrs(pack_attr(6, b"rr\0")[:-1]) == {6: b"rr\0"}


@pytest.mark.parametrize("data", ["04", "040001", "0300 0100", "0000 0100", "0900 0100 ffffffff", "ffff 0100 00000000"])
def test_attributes_that_are_cut_off(data: str) -> None:
    with pytest.raises(ValueError, match="netlink attribute"):
        unpack_attrs(bytes.fromhex(data))


@pytest.mark.parametrize(
    "data", [bytes(15), struct.pack("=IHHII", 15, 1, 0, 0, 0), struct.pack("=IHHII", 17, 1, 0, 0, 0)]
)
def test_messages_that_are_cut_off(data: bytes) -> None:
    with pytest.raises(ValueError, match="netlink message"):
        list(each_message(data))


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_come_back(attributes: list[tuple[int, bytes]]) -> None:
    assert list(each_attr(b"".join(pack_attr(kind, value) for kind, value in attributes))) == attributes


@given(st.binary(max_size=200))
def test_any_octets_are_attributes_or_an_error(data: bytes) -> None:
    for parse in (unpack_attrs, lambda octets: list(each_message(octets))):
        try:
            parse(data)
        except ValueError:
            pass


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_tells_the_errno_of_each(make: Make) -> None:
    sockets, kernel = make(by_payload)
    assert sockets.batch(messages(7)) == [errno.EEXIST, 0, 0, errno.EEXIST, 0, 0, errno.EEXIST]
    (sent,) = kernel.sends
    assert {request.type for request in sent} == {RTM_BASE}
    assert [request.flags for request in sent] == [0x400 | NLM_F_REQUEST] * 6 + [0x400 | NLM_F_REQUEST | NLM_F_ACK]
    assert sockets.sent == 7
    assert sockets.batch([]) == []
    assert len(kernel.sends) == 1


def test_a_send_holds_a_number_of_messages(make: Make) -> None:
    sockets, kernel = make(by_payload)
    count = 2 * MOST_MESSAGES + 1
    assert sockets.batch(messages(count)) == [0 if place % 3 else errno.EEXIST for place in range(count)]
    assert [len(sent) for sent in kernel.sends] == [MOST_MESSAGES, MOST_MESSAGES, 1]


def test_a_send_holds_a_number_of_octets(make: Make) -> None:
    sockets, kernel = make(lambda request: 0)
    large = Message(RTM_BASE, 0, bytes(MOST_BYTES // 2))
    assert sockets.batch([large, large, Message(RTM_BASE, 0, bytes(2 * MOST_BYTES)), large]) == [0, 0, 0, 0]
    assert [len(sent) for sent in kernel.sends] == [1, 1, 1, 1]


def test_sequence_numbers_go_round(make: Make) -> None:
    sockets, kernel = make(by_payload)
    sockets._sequence = 0xFFFFFFFD
    assert sockets.batch(messages(5)) == [errno.EEXIST, 0, 0, errno.EEXIST, 0]
    assert [request.sequence for request in kernel.sends[0]] == [0xFFFFFFFE, 0xFFFFFFFF, 0, 1, 2]
    assert sockets.batch(messages(1)) == [errno.EEXIST]
    assert kernel.sends[1][0].sequence == 3


def test_lost_answers_are_told_and_the_rest_is_done(make: Make) -> None:
    sockets, kernel = make(by_payload)
    kernel.room = 50
    errnos = sockets.batch(messages(MOST_MESSAGES + 5))
    # Without the last acknowledgement nothing is known of those that have no answer.
    assert errnos[:150] == [errno.ENOBUFS if place % 3 else errno.EEXIST for place in range(150)]
    assert set(errnos[150:MOST_MESSAGES]) == {errno.ENOBUFS}
    assert errnos[MOST_MESSAGES:] == [0, 0, errno.EEXIST, 0, 0]
    kernel.room = 1000
    assert sockets.batch(messages(2)) == [errno.EEXIST, 0]


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EMSGSIZE])
def test_a_send_that_fails_is_the_errno_of_its_messages(make: Make, code: int) -> None:
    sockets, kernel = make(lambda request: 0)
    kernel.send_errors.extend([0, code])
    errnos = sockets.batch(messages(2 * MOST_MESSAGES + 1))
    assert [errnos.count(0), errnos.count(code)] == [MOST_MESSAGES + 1, MOST_MESSAGES]
    assert set(errnos[MOST_MESSAGES : 2 * MOST_MESSAGES]) == {code}


def test_a_socket_that_can_not_be_used_is_an_error(make: Make) -> None:
    sockets, kernel = make(lambda request: 0)
    kernel.send_errors.append(errno.EBADF)
    with pytest.raises(OSError, match="Bad file") as caught:
        sockets.batch(messages(1))
    assert caught.value.errno == errno.EBADF


def test_silence_ends_a_call_and_a_late_answer_is_nobodys(make: Make) -> None:
    silent: list[Answer] = []

    def answer(request: Answer) -> Reply:
        if not silent:
            silent.append(request)
            return []
        return 0

    sockets, kernel = make(answer)
    kernel._reply = lambda request, reply: [] if reply == [] else [acknowledgement(request.sequence)]  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        sockets.batch(messages(1))
    kernel.queue.append(acknowledgement(silent[0].sequence, errno.EIO))
    assert sockets.batch(messages(1)) == [0]
    kernel.queue.append(acknowledgement(silent[0].sequence, errno.EIO))
    assert sockets.request(RTM_BASE, b"") == []


def test_an_answer_of_another_process_does_not_count(make: Make) -> None:
    sockets, kernel = make(by_payload)
    forged = acknowledgement(1, errno.EIO)
    kernel.from_port[forged] = 77
    kernel.queue.append(forged)
    assert sockets.batch(messages(1)) == [errno.EEXIST]


def test_octets_that_are_no_message(make: Make) -> None:
    sockets, kernel = make(lambda request: 0)
    kernel.queue.append(b"\x11\0\0\0" + bytes(12))
    with pytest.raises(OSError, match="netlink message") as caught:
        sockets.batch(messages(1))
    assert caught.value.errno == errno.EBADMSG
    kernel.queue.clear()
    kernel.queue.append(message(2, 2, b"\0"))
    with pytest.raises(OSError, match="no number"):
        sockets.batch(messages(1))


def test_an_answer_that_does_not_fit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_BUFFER", 64)
    sockets, _ = make(lambda request: [bytes(100)])
    with pytest.raises(OSError, match="too long"):
        sockets.request(RTM_GETLINK, b"")


# --- requests and dumps ---------------------------------------------------------------------------


def test_a_request_has_an_answer_or_an_error(make: Make) -> None:
    sockets, kernel = make(lambda request: [b"here"] if request.payload == b"good" else errno.ENODEV)
    assert sockets.request(RTM_GETLINK, b"good") == [b"here"]
    with pytest.raises(OSError, match="No such device") as caught:
        sockets.request(RTM_GETLINK, b"bad")
    assert caught.value.errno == errno.ENODEV
    kernel.queue.append(LOST)
    kernel.room = 0
    with pytest.raises(OSError, match="lost"):
        sockets.request(RTM_GETLINK, b"good")


def test_a_dump_comes_in_pieces(make: Make) -> None:
    sockets, kernel = make(lambda request: [b"a", b"b", b"c", b"d"] if not request.payload else errno.EPERM)
    assert sockets.dump(RTM_GETLINK, b"") == [b"a", b"b", b"c", b"d"]
    with pytest.raises(PermissionError):
        sockets.dump(RTM_GETLINK, b"x")
    assert not kernel.queue


def test_an_error_at_the_end_of_a_dump(make: Make) -> None:
    sockets, kernel = make(lambda request: [])
    kernel._reply = lambda request, reply: [message(3, request.sequence, struct.pack("=i", -errno.ENOMEM), 2)]  # type: ignore[method-assign]
    with pytest.raises(OSError, match="allocate"):
        sockets.dump(RTM_GETLINK, b"")


def test_a_dump_that_changed_meanwhile_is_made_again(make: Make) -> None:
    sockets, kernel = make(lambda request: [b"a", b"b", b"c"])
    kernel.dump_flags.append(NLM_F_DUMP_INTR)
    assert sockets.dump(RTM_GETLINK, b"") == [b"a", b"b", b"c"]
    assert len(kernel.sends) == 2
    kernel.dump_flags.extend([NLM_F_DUMP_INTR] * TRIES)
    with pytest.raises(InterruptedError):
        sockets.dump(RTM_GETLINK, b"")
    assert len(kernel.sends) == 2 + TRIES


def test_a_dump_whose_answers_were_lost_is_made_again(make: Make) -> None:
    sockets, kernel = make(lambda request: [b"a", b"b", b"c"])
    kernel.queue.append(LOST)
    assert sockets.dump(RTM_GETLINK, b"") == [b"a", b"b", b"c"]
    assert [len(sent) for sent in kernel.sends] == [1, 1]


def test_closing(make: Make) -> None:
    sockets, kernel = make(lambda request: 0)
    with sockets:
        pass
    assert kernel.closed
    sockets.close()


# --- this machine's kernel ------------------------------------------------------------------------


def test_the_kernel_answers() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        links = [unpack_attrs(payload[16:]) for payload in kernel.dump(RTM_GETLINK, bytes(16))]
        assert b"lo\0" in [link[3] for link in links]
        (loopback,) = kernel.request(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 1, 0, 0))
        assert unpack_attrs(loopback[16:])[3] == b"lo\0"
        bad, good = Message(RTM_BASE + 4000, 0, bytes(101)), Message(1, 0, b"")  # NLMSG_NOOP
        assert kernel.batch([bad] * 1000) == [errno.EOPNOTSUPP] * 1000
        assert kernel.batch([good] * 1000) == [0] * 1000
        assert kernel.batch([bad, good, good, bad, good] * 100) == [errno.EOPNOTSUPP, 0, 0, errno.EOPNOTSUPP, 0] * 100


def test_no_such_namespace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        NetlinkSocket(NETLINK_ROUTE, str(tmp_path / "gone"))
    with pytest.raises(OSError) as caught:
        NetlinkSocket(NETLINK_ROUTE, "/dev/null")
    assert caught.value.errno in (errno.EINVAL, errno.EPERM)
    with pytest.raises(OSError, match="supported"):
        NetlinkSocket(999)


@pytest.mark.root
def test_a_namespace_is_entered_by_one_thread_only() -> None:
    here = os.readlink("/proc/self/ns/net")
    made: list[str] = []
    ready, finished = threading.Event(), threading.Event()

    def elsewhere() -> None:
        import ctypes

        ctypes.CDLL(None).unshare(0x40000000)
        made.append(f"/proc/self/task/{threading.get_native_id()}/ns/net")
        ready.set()
        finished.wait(60)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    try:
        assert ready.wait(60)
        (path,) = made
        assert in_namespace(path, lambda: os.readlink("/proc/thread-self/ns/net")) == os.readlink(path) != here
        with NetlinkSocket(NETLINK_ROUTE, path) as kernel:
            assert b"lo\0" in [unpack_attrs(payload[16:])[3] for payload in kernel.dump(RTM_GETLINK, bytes(16))]
        with pytest.raises(ZeroDivisionError):
            in_namespace(path, lambda: 1 // 0)
        assert os.readlink("/proc/thread-self/ns/net") == here
    finally:
        finished.set()
        thread.join()
