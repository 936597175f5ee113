"""Addresses on a device: what is planned, and what is done to a kernel that a test made up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns import device, device_claim
from mesos_dns.device import ALIAS, MARK, Addresses, Present, plan

A, B, V6 = "198.51.100.1", "198.51.100.2", "fd00::1"


class Message(dict[str, Any]):
    """What pyroute2 gives for a link or an address."""

    def get_attr(self, name: str) -> Any:
        """An attribute, None when it is not there."""
        return self.get(name)


class Kernel:
    """Links and addresses; does what netlink is asked to. `refuse` names an errno for a request."""

    def __init__(self) -> None:
        self.links = {"lo": Message(index=1, flags=0x1)}
        self.addresses: dict[tuple[int, str], int] = {(1, "127.0.0.1"): 0}
        self.refuse: dict[str, int] = {}
        self.requests: list[str] = []

    def link(self, command: str, **values: Any) -> list[Message]:
        """get by name; add, set, del."""
        if command == "get":
            if values["ifname"] not in self.links:
                raise _error(errno.ENODEV)
            return [self.links[values["ifname"]]]
        self._ask(f"link {command}")
        if command == "add":
            kind = Message(IFLA_INFO_KIND=values["kind"])
            self.links[values["ifname"]] = Message(index=len(self.links) + 1, flags=0, IFLA_LINKINFO=kind)
        for name, link in list(self.links.items()):
            if link["index"] == values.get("index"):
                if command == "del":
                    self.remove(name)
                elif command == "set":
                    link["flags"] |= 0x1
                    link["IFLA_IFALIAS"] = values.get("ifalias", link.get("IFLA_IFALIAS"))
        return []

    def remove(self, name: str) -> None:
        """A device and its addresses are gone."""
        index = self.links.pop(name)["index"]
        self.addresses = {key: mark for key, mark in self.addresses.items() if key[0] != index}

    def get_addr(self) -> list[Message]:
        """All addresses."""
        return [
            Message(index=index, IFA_ADDRESS=text, IFA_PROTO=mark) for (index, text), mark in self.addresses.items()
        ]

    def addr(self, command: str, **values: Any) -> list[Message]:
        """add, del."""
        self._ask(f"addr {command} {values['address']}")
        assert values["prefixlen"] == (128 if ":" in values["address"] else 32)
        if command == "add":
            self.addresses[values["index"], values["address"]] = values["IFA_PROTO"]
        else:
            del self.addresses[values["index"], values["address"]]
        return []

    def on(self, name: str) -> set[str]:
        """A device's addresses."""
        return {text for index, text in self.addresses if index == self.links[name]["index"]}

    def _ask(self, request: str) -> None:
        self.requests.append(request)
        for start, code in self.refuse.items():
            if request.startswith(start):
                raise _error(code)


def _error(code: int) -> Exception:
    from pyroute2 import NetlinkError

    error: Exception = NetlinkError(code, os.strerror(code))
    return error


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()

    @contextlib.contextmanager
    def netlink() -> Iterator[Kernel]:
        yield made

    monkeypatch.setattr(device, "_netlink", netlink)
    monkeypatch.setattr(device, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(device_claim, "NAME", f"pharos-test-{uuid.uuid4()}")
    return made


async def until(condition: Callable[[], object], limit: float = 30) -> None:
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def kept(addresses: Addresses, monkeypatch: pytest.MonkeyPatch) -> Any:
    """While it looks again and again, without messages."""
    monkeypatch.setattr(device, "LOOK_EVERY", 0.01)
    await addresses.start()
    task = asyncio.create_task(addresses.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await addresses.close()


@pytest.mark.parametrize(
    ("wanted", "present", "operations"),
    [
        ([A], Present(0), ["make", "up", f"add {A}"]),
        ([A, B], Present(7, True, on_it=frozenset({A}), anywhere=frozenset({A})), [f"add {B}"]),
        ([A], Present(7, False, on_it=frozenset({A}), anywhere=frozenset({A})), ["up"]),
        ([A], Present(7, False, anywhere=frozenset({A})), []),
        ([A], Present(0, anywhere=frozenset({A})), []),
        ([A], Present(7, True, True, frozenset({A, B}), frozenset({A, B}), frozenset({A, B})), [f"drop {B}"]),
        ([A], Present(7, True, True, frozenset({A, B}), frozenset({A}), frozenset({A, B})), []),
        ([], Present(0), []),
    ],
)
def test_plan(wanted: list[str], present: Present, operations: list[str]) -> None:
    planned = plan(wanted, present)
    # A device that is made is looked at again before it is raised.
    assert [f"{o.what} {o.address}".strip() for o in planned] == operations


ADDRESS = st.sampled_from([A, B, V6, "192.0.2.1"])


@given(st.lists(ADDRESS, unique=True), st.frozensets(ADDRESS), st.frozensets(ADDRESS), st.frozensets(ADDRESS))
def test_a_plan_leads_to_what_is_wanted_and_no_further(
    wanted: list[str], on_it: frozenset[str], marked: frozenset[str], elsewhere: frozenset[str]
) -> None:
    marked &= on_it
    planned = plan(wanted, Present(7, True, False, on_it, marked, on_it | elsewhere))
    drops = {o.address for o in planned if o.what == "drop"}
    adds = {o.address for o in planned if o.what == "add"}
    assert drops <= marked
    after = Present(7, True, False, on_it - drops | adds, marked - drops | adds, (on_it - drops) | adds | elsewhere)
    assert set(wanted) <= after.anywhere
    assert plan(wanted, after) == []
    assert not adds & elsewhere


@pytest.mark.asyncio
async def test_made_and_removed(kernel: Kernel) -> None:
    addresses = Addresses("pharos-dns", [A, "fd00:0:0::1", A])
    assert await addresses.start() == "pharos-dns"
    assert kernel.on("pharos-dns") == {A, V6}
    assert kernel.links["pharos-dns"]["IFLA_IFALIAS"] == ALIAS
    assert kernel.links["pharos-dns"]["flags"] & 0x1
    await addresses.close()
    assert list(kernel.links) == ["lo"]


@pytest.mark.asyncio
async def test_status(kernel: Kernel) -> None:
    kernel.refuse["addr add fd00::1"] = errno.EACCES
    addresses = Addresses("pharos-dns", [A, V6])
    await addresses.start()  # IPv6 may be off: the rest goes on
    assert addresses.status == {"device": "pharos-dns", "present": [A], "missing": [V6], "restored": 0}
    await addresses.close()


@pytest.mark.asyncio
async def test_loopback_where_there_are_no_dummy_devices(kernel: Kernel) -> None:
    kernel.refuse["link add"] = errno.EOPNOTSUPP
    kernel.addresses[1, B] = 0
    addresses = Addresses("pharos-dns", [A, B])
    assert await addresses.start() == "lo"
    assert kernel.on("lo") == {"127.0.0.1", A, B}
    await addresses.close()
    assert kernel.on("lo") == {"127.0.0.1", B}


@pytest.mark.asyncio
async def test_what_a_crash_left_is_taken_over(kernel: Kernel) -> None:
    kernel.addresses[1, A] = kernel.addresses[1, B] = MARK
    addresses = Addresses("pharos-dns", [A])
    assert await addresses.start() == "lo"
    assert kernel.on("lo") == {"127.0.0.1", A}
    await addresses.close()
    assert kernel.on("lo") == {"127.0.0.1"}


@pytest.mark.asyncio
async def test_another_mark_is_another_keeper(kernel: Kernel) -> None:
    kernel.refuse["link add"] = errno.EOPNOTSUPP
    first, second = Addresses("pharos-dns", [A]), Addresses("pharos0", [B], mark=MARK + 1)
    await first.start()
    await second.start()
    assert kernel.on("lo") == {"127.0.0.1", A, B}
    await first.close()
    assert kernel.on("lo") == {"127.0.0.1", B}
    await second.close()


@pytest.mark.asyncio
async def test_without_the_right(kernel: Kernel) -> None:
    kernel.refuse = {"link": errno.EPERM, "addr": errno.EPERM}
    with pytest.raises(PermissionError, match="without CAP_NET_ADMIN: run as root"):
        await Addresses("pharos-dns", [A]).start()
    kernel.addresses[1, A] = 0
    kernel.requests.clear()
    addresses = Addresses("pharos-dns", [A])
    await addresses.start()
    await addresses.close()
    assert kernel.requests == []
    assert kernel.on("lo") == {"127.0.0.1", A}


@pytest.mark.asyncio
async def test_put_back(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    addresses = Addresses("pharos-dns", [A, V6])
    async with kept(addresses, monkeypatch):
        kernel.remove("pharos-dns")
        await until(lambda: addresses.restored == 4 - 1)  # making it raises it
        for number in range(4, 9):
            kernel.addresses.pop((kernel.links["pharos-dns"]["index"], A))
            await until(lambda number=number: addresses.restored == number)  # type: ignore[misc]
        kernel.links["pharos-dns"]["flags"] = 0
        await until(lambda: addresses.restored == 9)
        assert kernel.on("pharos-dns") == {A, V6}
    assert list(kernel.links) == ["lo"]
    assert [r.levelname for r in caplog.records if "somebody else" in r.message].count("WARNING") == 1


@pytest.mark.asyncio
async def test_errors_are_counted_and_tried_again(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = Addresses("pharos-dns", [A])
    async with kept(addresses, monkeypatch):
        kernel.refuse["addr add"] = errno.ENOMEM
        kernel.addresses.pop((kernel.links["pharos-dns"]["index"], A))
        await until(lambda: addresses.errors >= 2)
        assert addresses.status["missing"] == [A]
        kernel.refuse.clear()
        await until(lambda: kernel.on("pharos-dns") == {A})


@pytest.mark.asyncio
async def test_nothing_is_put_back_after_close(kernel: Kernel) -> None:
    addresses = Addresses("pharos-dns", [A])
    await addresses.start()
    await addresses.close()
    await asyncio.to_thread(addresses._settle)
    assert list(kernel.links) == ["lo"]


@contextlib.contextmanager
def claimed(name: str = "pharos-dns", mark: int = MARK) -> Iterator[None]:
    """While another process keeps a device: as a claim of its own sees it."""
    other = device_claim.Claim(mark)
    assert other.has(name)
    try:
        yield
    finally:
        other.release()


@pytest.mark.asyncio
async def test_what_another_process_keeps_is_used_and_left_alone(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.link("add", ifname="pharos-dns", kind="dummy")
    kernel.link("set", index=2, ifalias=ALIAS)
    kernel.addresses[2, A] = kernel.addresses[2, B] = MARK
    kernel.requests.clear()
    addresses = Addresses("pharos-dns", [A, V6])
    with claimed():
        for _ in range(3):
            await addresses.start()
        assert addresses.status == {"device": "pharos-dns", "present": [A], "missing": [V6], "restored": 0}
        await addresses.close()
    assert kernel.requests == []
    assert [record.message for record in caplog.records].count(
        "another process keeps the device, only what is there is used device=pharos-dns"
    ) == 1


@pytest.mark.asyncio
async def test_the_loopback_device_has_one_keeper_too(kernel: Kernel) -> None:
    kernel.refuse["link add"] = errno.EOPNOTSUPP
    kernel.addresses[1, A] = MARK
    addresses = Addresses("pharos1", [B])
    with claimed("lo"):
        assert await addresses.start() == "lo"
        await addresses.close()
    assert kernel.on("lo") == {"127.0.0.1", A}


@pytest.mark.asyncio
async def test_what_was_never_started_takes_nothing_away(kernel: Kernel) -> None:
    first = Addresses("pharos-dns", [A])
    await first.start()
    await Addresses("pharos-dns", [A]).close()
    await Addresses("pharos-dns", [B], before=first).close()
    assert kernel.on("pharos-dns") == {A}
    await first.close()


@pytest.mark.asyncio
async def test_kept_from_here_when_the_other_process_has_ended(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = Addresses("pharos-dns", [A])
    with claimed():
        await addresses.start()
        assert "pharos-dns" not in kernel.links
    async with kept(addresses, monkeypatch):
        assert kernel.on("pharos-dns") == {A}
    assert "pharos-dns" not in kernel.links


@pytest.mark.asyncio
async def test_a_successor_shares_the_device_with_the_one_before(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Addresses("pharos-dns", [A, B])
    async with kept(first, monkeypatch):
        second = Addresses("pharos-dns", [B, V6], before=first)
        await second.start()
        assert kernel.on("pharos-dns") == {A, B, V6}  # who is asked by A still answers there
    assert kernel.on("pharos-dns") == {B, V6}
    assert first.restored == second.restored == 0
    third = Addresses("pharos-dns", [A], before=second)
    await third.start()
    await third.close()  # it could not be used
    assert kernel.on("pharos-dns") == {B, V6}
    await second.close()
    assert list(kernel.links) == ["lo"]
    with claimed():
        pass


@pytest.mark.asyncio
async def test_one_without_the_right_lets_the_claim_go(kernel: Kernel) -> None:
    kernel.refuse = {"link": errno.EPERM}
    addresses = Addresses("pharos-dns", [A])
    with pytest.raises(PermissionError):
        await addresses.start()
    with claimed():
        pass
    await addresses.close()


@pytest.mark.asyncio
async def test_a_message_about_us_wakes_and_others_do_not() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wake = asyncio.Event()
    with here, there:
        here.setblocking(False)
        there.send(b"a veth came up")
        device._hear(here, [b"pharos-dns\0", bytes([198, 51, 100, 1])], wake)
        assert not wake.is_set()
        there.send(b"del \xc6\x33\x64\x01")
        device._hear(here, [b"pharos-dns\0", bytes([198, 51, 100, 1])], wake)
        assert wake.is_set()


def test_addresses_that_need_no_device() -> None:
    texts = ["0.0.0.0", "127.0.0.5", "::", "::1", "fe80::1%eth0", A]  # noqa: S104
    assert Addresses("pharos-dns", texts).addresses == (A,)
    with pytest.raises(ValueError):
        Addresses("pharos-dns", ["example"])
