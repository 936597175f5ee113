"""The names of VIPs under random change: the zone is always what it would be if it were made anew, and every answer
is what these records say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from lb4.names import Named, VipNames, vip_records
from mesos_dns.config import DnsConfig
from mesos_dns.fastpath import FastPath
from mesos_dns.model import VipAddress
from mesos_dns.names import Rdata
from mesos_dns.records import fold, legal_owner
from mesos_dns.respond import Responder
from mesos_dns.wire import IllegalName, name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.fast_answers import Twins

ORIGIN = "l4lb.thisdcos.directory"
NAMES = (
    *("web.marathon", "Web.marathon", "a.web.marathon", "marathon", "web", "b.c.team.marathon", "*.marathon", "a..b"),
    *("", "_web._tcp.marathon", "x" * 63 + ".marathon", "y" * 64, ".".join(["z" * 60] * 4)),
)
addresses = st.builds(
    VipAddress,
    st.just("name"),
    st.sampled_from(("", "11.0.0.1", "11.0.0.2", "no address")),
    st.sampled_from(("", "", "fd01:c::1")),
)
ports = st.sets(st.tuples(st.sampled_from(("tcp", "udp")), st.sampled_from((80, 443, 65535))), max_size=3)
changes = st.dictionaries(
    st.sampled_from(NAMES), st.none() | st.builds(Named, st.none() | addresses, ports), max_size=3
)
stories = st.lists(changes, min_size=1, max_size=10)
Content = dict[tuple[str, int], frozenset[Rdata]]


def content(view: ZoneView) -> tuple[Content, dict[bytes, tuple[str, str] | None]]:
    """The records of the zone, and where addresses point."""
    store = view.zones[name_to_wire(ORIGIN)].store
    found = {
        (owner, rtype): frozenset(store.rrset(owner, rtype)) for owner in store.owners() for rtype in store.types(owner)
    }
    pointed = {}
    for address in (b"\x0b\0\0\1", b"\x0b\0\0\2", b"\xfd\1\0\x0c" + bytes(11) + b"\1"):
        at = view.pointed(address)
        pointed[address] = (at[0].origin, at[1]) if at is not None else None
    return found, pointed


def expected(state: dict[str, Named]) -> Content:
    """The same, straight from the rules."""
    room = 255 - len(name_to_wire(ORIGIN)) + 1
    found: dict[tuple[str, int], set[Rdata]] = defaultdict(set)
    for name, named in state.items():
        for owner, rtype, rdata in vip_records(name, named.address, named.ports):
            target = rdata[1] if isinstance(rdata, tuple) else ""
            if "*" not in owner + target and owner and legal_owner(owner, room) and legal_owner(target, room):
                found[fold(owner), rtype].add(rdata)
    return {key: frozenset(rdata) for key, rdata in found.items()}


def advance(state: dict[str, Named], change: dict[str, Named | None]) -> None:
    for name, named in change.items():
        if named is None:
            state.pop(name, None)
        else:
            state[name] = named


@given(stories, stories, st.integers(0, 5))
def test_increments_give_what_a_new_view_gives(
    before: list[dict[str, Named | None]], after: list[dict[str, Named | None]], slice_size: int
) -> None:
    names, state = VipNames(), dict[str, Named]()
    for change in before:
        names.change(change)
        advance(state, change)
    view = ZoneView(DnsConfig(), extra=names)
    for change in after:
        view.fill_extra(slice_size)
        names.change(change)
        advance(state, change)
    view.fill_extra()
    fresh = ZoneView(DnsConfig(), extra=names)
    fresh.fill_extra()
    assert content(view) == content(fresh)
    assert content(view)[0] == expected(state)
    names.change(dict.fromkeys(state))
    assert content(view) == content(ZoneView(DnsConfig()))
    assert list(names.records()) == []


class VipTwins(Twins):
    """With the names of VIPs."""

    def __init__(self, names: VipNames) -> None:
        self.names = names
        super().__init__()

    def _responder(self, known: Callable[[], bool], secrets: tuple[bytes, ...], fast: FastPath | None) -> Responder:
        presence = {"presence": fast.presence} if fast is not None else {}
        view = ZoneView(self.config, known=known, extra=self.names, **presence)  # type: ignore[arg-type]
        view.fill_extra()
        return Responder(view, self.config, secrets=secrets, fast=fast)


def question(name: str, rtype: int) -> bytes | None:
    try:
        return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + name_to_wire(name) + rtype.to_bytes(2, "big") + b"\0\1"
    except IllegalName:
        return None


@settings(max_examples=20)
@given(stories)
def test_every_name_is_asked_before_and_after_each_change(story: list[dict[str, Named | None]]) -> None:
    twins = VipTwins(VipNames())
    owners = {name for name in NAMES if name} | {f"_80._tcp.{name}" for name in NAMES[:6]} | {"_web._tcp.marathon", "x"}
    asked = [
        packet
        for owner, origin in product(sorted(owners), (ORIGIN, "dclb.thisdcos.global"))
        for rtype in (1, 28, 33, 255)
        if (packet := question(f"{owner}.{origin}", rtype)) is not None
    ]
    asked += [packet for number in (1, 2) if (packet := question(f"{number}.0.0.11.in-addr.arpa", 12)) is not None]
    for change in story:
        twins.names.change(change)
        twins.plain.view.serial = twins.fast.view.serial
        for packet in asked:
            twins.agreed(packet, "tcp")
            twins.warm(packet)
            twins.agreed(packet, "tcp")
