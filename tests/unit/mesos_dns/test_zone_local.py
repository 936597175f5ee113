"""A node's own zones in the view, and the other names of DC/OS' zones, which share everything with them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import dns.flags
import pytest

from mesos_dns.config import DnsConfig
from mesos_dns.cookies import secrets_of
from mesos_dns.fastpath import fast_path
from mesos_dns.model import Endpoint as At
from mesos_dns.model import Entity, Leadership, StaticRecords
from mesos_dns.presence import Presence
from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.resolver.local import local_records
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import AGENT, MARATHON, answers, ask, drop, has_flag, packet, put, soa, static, task, view_of

NODE = ("10.1.0.7",)
KEY = "yb3kh1ngz9zfpdzc4z5eyx6rkw9p6hbqpc9ehx4hxo3ypo6x1cty"
PARENTS = ("thisdcos.directory", "thisdcos.global", f"{KEY}.dcos.directory")
ONE, TWO = b"\x0a\0\0\1", b"\x0a\0\0\2"


def resolving(
    *entities: Entity,
    native: bool = False,
    key: str = KEY,
    known: Callable[[], bool] = lambda: True,
    resolver: ResolverConfig = ResolverConfig(components={"registry": "master.mesos.thisdcos.directory"}),  # noqa: B008
    **config: Any,
) -> Responder:
    """A responder over a view with a node's own names, as a resolver's."""
    settings = DnsConfig(**{"forward": ("192.0.2.53",), "rate_limit": 0, **config})
    secrets = secrets_of(settings)
    fast = fast_path(settings, secrets) if native else None
    presence: Callable[[str], Presence | None] = fast.presence if fast is not None else lambda tag: None
    local = local_records(resolver, settings, NODE)
    view = ZoneView(settings, local=local, cluster_key=key, presence=presence, known=known)
    view.apply(put(MARATHON, AGENT, *entities))
    return Responder(view, settings, None, secrets, fast)


def said(responder: Responder, name: str, rtype: str = "A") -> tuple[str, list[str]]:
    """The code and the rdata; "forwarded" where it is left to others."""
    reply = responder.respond(packet(name, rtype), "udp")
    if isinstance(reply, Forward):
        return "forwarded", []
    message = ask(responder, name, rtype)
    assert has_flag(message, dns.flags.QR)
    if message.answer:
        assert message.answer[0].name.to_text() == name.removesuffix(".") + "."
    return dns.rcode.to_text(message.rcode()), answers(message)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("localhost", "A", ("NOERROR", ["127.0.0.1"])),
        ("LocalHost", "AAAA", ("NOERROR", ["::1"])),
        ("a.b.localhost", "A", ("NOERROR", ["127.0.0.1"])),
        ("localhost", "MX", ("NOERROR", [])),
        ("ready.spartan", "A", ("NOERROR", ["127.0.0.1"])),
        ("ready.spartan", "AAAA", ("NOERROR", [])),
        ("ns.spartan", "A", ("NOERROR", ["198.51.100.1"])),
        ("spartan", "NS", ("NOERROR", ["ns.spartan."])),
        ("x.spartan", "A", ("NXDOMAIN", [])),
        ("thisnode.thisdcos.directory", "A", ("NOERROR", ["10.1.0.7"])),
        ("public.thisnode.thisdcos.directory", "A", ("NXDOMAIN", [])),
        ("other.component.thisdcos.directory", "A", ("NXDOMAIN", [])),
        ("web.l4lb.thisdcos.directory", "A", ("NXDOMAIN", [])),
        ("web.dclb.thisdcos.directory", "A", ("NXDOMAIN", [])),
        ("web.other.thisdcos.directory", "A", ("NXDOMAIN", [])),
        ("thisdcos.directory", "A", ("forwarded", [])),
        ("directory", "A", ("forwarded", [])),
        ("web.dcos.directory", "A", ("forwarded", [])),
        ("xspartan", "A", ("forwarded", [])),
    ],
)
def test_what_a_node_says_itself(native: bool, name: str, rtype: str, expected: tuple[str, list[str]]) -> None:
    responder = resolving(native=native)
    for _ in range(2):  # once more, as it is kept
        assert said(responder, name, rtype) == expected


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("parent", PARENTS)
def test_the_same_names_below_every_parent(native: bool, parent: str) -> None:
    leader = At("10.0.0.11", 5050)
    responder = resolving(task(), Leadership(leader, (leader,)), native=native)
    expected = {
        f"web.marathon.autoip.dcos.{parent}": ["9.0.0.1"],
        f"web.marathon.agentip.DCOS.{parent}": ["10.1.0.1"],
        f"leader.dcos.{parent}": ["10.0.0.11"],
        f"web.marathon.mesos.{parent}": ["9.0.0.1"],
        f"thisnode.{parent}": ["10.1.0.7"],
        f"registry.component.{parent}": ["10.0.0.11", "master.mesos.thisdcos.directory."],
    }
    for name, rdata in expected.items():
        for _ in range(2):
            message = ask(responder, name)
            assert answers(message) == rdata
            assert message.answer[0].name.to_text() == f"{name}."
            assert message.answer[0].ttl == 5
    for label in ("dcos", "mesos", "l4lb", "dclb", "thisnode", "component", "other"):
        assert said(responder, f"absent.{label}.{parent}") == ("NXDOMAIN", [])
    assert said(responder, parent) == ("forwarded", [])


@pytest.mark.parametrize("native", [False, True])
def test_a_change_is_seen_under_every_name(native: bool) -> None:
    responder = resolving(task(), native=native)
    names = [f"web.marathon.autoip.dcos.{parent}" for parent in PARENTS]
    names += [f"web.marathon.mesos.{parent}" for parent in PARENTS]

    def found() -> list[list[str]]:
        return [answers(ask(responder, name)) for name in names]

    for _ in range(2):
        assert found() == [["9.0.0.1"]] * len(names)
    responder.view.apply(put(task(1)))
    assert found() == [["9.0.0.1", "9.0.0.2"]] * len(names)
    responder.view.apply(drop(task().key, task(1).key))
    assert found() == [[]] * len(names)
    assert {said(responder, name)[0] for name in names} == {"NXDOMAIN"}
    responder.view.apply(put(task(2)))
    assert found() == [["9.0.0.3"]] * len(names)


@pytest.mark.parametrize("native", [False, True])
def test_a_name_in_the_zone_of_virtual_addresses_is_under_all_of_its_names(native: bool) -> None:
    responder = resolving(native=native)
    names = [f"app.marathon.{label}.{parent}" for label in ("l4lb", "dclb") for parent in PARENTS]
    for name in names:
        assert said(responder, name) == ("NXDOMAIN", [])
    record = static("app.marathon.l4lb.thisdcos.directory.", "A", b"\x0b\0\0\1", ttl=9)
    responder.view.apply(put(record))
    for name in names:
        message = ask(responder, name)
        assert answers(message) == ["11.0.0.1"]
        assert (message.answer[0].name.to_text(), message.answer[0].ttl) == (f"{name}.", 9)
    responder.view.apply(drop(record.key))
    for name in names:
        assert said(responder, name) == ("NXDOMAIN", [])


def test_other_names_share_stores_and_tasks() -> None:
    view = resolving(task()).view
    for label in ("dcos", "mesos", "l4lb", "thisnode", "component"):
        first = view.zones[name_to_wire(f"{label}.thisdcos.directory")]
        assert not first.alias
        for parent in PARENTS[1:]:
            other = view.zones[name_to_wire(f"{label}.{parent}")]
            assert other.alias
            assert other.store is first.store
            assert other.tasks is first.tasks
            assert other.ttls is first.ttls
            assert (other.tag, other.ttl, other.srv_prefix, other.plain) == (
                *(first.tag, first.ttl, first.srv_prefix, first.plain),
            )


@pytest.mark.parametrize(
    ("directory", "parents"),
    [
        ("thisdcos.directory", {"thisdcos.directory", "thisdcos.global"}),
        ("a.b.Directory", {"a.b.Directory", "a.b.global"}),
        ("cluster.test", {"cluster.test"}),
        ("directory", {"directory"}),
    ],
)
def test_names_that_end_in_global_stand_for_those_that_end_in_directory(directory: str, parents: set[str]) -> None:
    origins = {zone.origin for zone in view_of(directory=directory).zones.values()} - {"mesos"}
    assert origins == {f"{label}.{parent}" for label in ("dcos", "mesos", "l4lb", "dclb") for parent in parents}


def test_without_a_key_other_clusters_names_are_not_ours() -> None:
    responder = resolving(task(), key="")
    assert said(responder, f"web.marathon.autoip.dcos.{PARENTS[2]}") == ("forwarded", [])
    assert said(resolving(task()), "web.marathon.autoip.dcos.otherkey.dcos.directory") == ("forwarded", [])


def test_without_the_directory_only_the_nodes_own_zones_are_left() -> None:
    responder = resolving(directory="")
    assert {zone.origin for zone in responder.view.zones.values()} == {"mesos", "localhost", "spartan"}
    assert said(responder, "thisnode.thisdcos.directory") == ("forwarded", [])


def test_the_domain_keeps_its_zone_whatever_it_is_called() -> None:
    responder = resolving(task(), domain="dcos.thisdcos.global")
    assert responder.view.zones[name_to_wire("dcos.thisdcos.global")] is responder.view.domain
    assert said(responder, "web.marathon.dcos.thisdcos.global") == ("NOERROR", ["9.0.0.1"])


@pytest.mark.parametrize("native", [False, True])
def test_a_node_knows_its_own_names_before_anybody_has_said_what_runs(native: bool) -> None:
    responder = resolving(native=native, known=lambda: False)
    assert said(responder, "localhost") == ("NOERROR", ["127.0.0.1"])
    assert said(responder, "x.spartan") == ("NXDOMAIN", [])
    assert said(responder, "x.component.thisdcos.directory") == ("NXDOMAIN", [])
    assert said(responder, "web.l4lb.thisdcos.directory") == ("SERVFAIL", [])
    assert said(responder, "web.dcos.thisdcos.global") == ("SERVFAIL", [])


# --- beside records from files -----------------------------------------------------------------------


def test_files_do_not_change_what_a_node_says_itself(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[StaticRecords] = [
        static("ready.spartan.", "A", ONE, zone="spartan."),
        static("spartan.", "SOA", soa(), zone="spartan."),
        static("localhost.", "A", ONE),
        static("thisnode.thisdcos.directory.", "TXT", b"\1x"),
        static("registry.component.thisdcos.directory.", "A", ONE),
        static("thisnode.thisdcos.global.", "A", TWO),
    ]
    with caplog.at_level(logging.WARNING):
        responder = resolving(*taken)
    for _ in range(2):
        assert said(responder, "ready.spartan") == ("NOERROR", ["127.0.0.1"])
        assert said(responder, "spartan", "SOA")[1][0].startswith("ns.spartan. ")
        assert said(responder, "localhost") == ("NOERROR", ["127.0.0.1"])
        assert said(responder, "thisnode.thisdcos.directory", "TXT") == ("NOERROR", [])
        assert said(responder, "registry.component.thisdcos.directory")[1] == ["master.mesos.thisdcos.directory."]
        assert said(responder, "thisnode.thisdcos.global") == ("NOERROR", ["10.1.0.7"])
        responder.view.apply(drop(*(each.key for each in taken)))
    assert "this node gives itself" in caplog.text


def test_files_may_add_names_to_a_nodes_zones() -> None:
    records = (
        static("extra.component.thisdcos.directory.", "A", ONE, ttl=60),
        static("more.component.thisdcos.directory.", "A", TWO, zone="component.thisdcos.directory."),
        static("own.component.thisdcos.global.", "A", TWO, zone="component.thisdcos.global."),
    )
    responder = resolving(*records)
    for parent in PARENTS:
        assert said(responder, f"extra.component.{parent}") == ("NOERROR", ["10.0.0.1"])
        assert said(responder, f"more.component.{parent}") == ("NOERROR", ["10.0.0.2"])
        assert said(responder, f"own.component.{parent}") == ("NOERROR", ["10.0.0.2"])
    responder.view.apply(drop(*(each.key for each in records)))
    for parent in PARENTS:  # the zones stay, whoever else named them
        assert said(responder, f"extra.component.{parent}") == ("NXDOMAIN", [])
        assert said(responder, f"more.component.{parent}") == ("NXDOMAIN", [])
        assert said(responder, f"own.component.{parent}") == ("NXDOMAIN", [])
        assert f"component.{parent}" in {zone.origin for zone in responder.view.zones.values()}


@pytest.mark.parametrize(
    "zone", ["dcos.thisdcos.global.", "l4lb.thisdcos.directory.", f"thisnode.{KEY}.dcos.directory."]
)
def test_a_file_that_names_a_zone_of_ours_does_not_take_it_away(zone: str) -> None:
    origins = {each.origin for each in resolving().view.zones.values()}
    records = (static(zone, "SOA", soa(), zone=zone), static(f"www.{zone}", "A", ONE, zone=zone))
    responder = resolving(*records)
    assert said(responder, f"www.{zone}") == ("NOERROR", ["10.0.0.1"])
    responder.view.apply(drop(*(each.key for each in records)))
    assert {each.origin for each in responder.view.zones.values()} == origins
    assert said(responder, f"www.{zone}") == ("NXDOMAIN", [])


def test_a_zone_of_a_file_below_a_nodes_zone_is_its_own() -> None:
    zone = "sub.component.thisdcos.directory."
    responder = resolving(static(zone, "SOA", soa(), zone=zone), static(f"www.{zone}", "A", ONE, zone=zone))
    assert said(responder, f"www.{zone}") == ("NOERROR", ["10.0.0.1"])
    assert said(responder, "thisnode.thisdcos.directory") == ("NOERROR", ["10.1.0.7"])
