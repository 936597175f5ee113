"""What goes into the table of ready answers and when it leaves; which names it denies by itself."""

from __future__ import annotations

import builtins
import logging
import sys
from ipaddress import IPv4Network
from typing import Any

import dns.message
import dns.rcode
import msgspec
import pytest

from mesos_dns import _native, fastpath
from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.fastpath import FastPath, fast_path, native
from mesos_dns.model import Ensemble, Health, Key
from mesos_dns.zone import ZoneView
from tests.fakes.fast_answers import SECRET, Twins, cluster
from tests.fakes.questions import AGENT, MARATHON, answers, drop, native_responder_of, packet, put, soa, static, task

ORG = "example.org."


def serial_of(reply: bytes | None) -> int:
    assert reply is not None
    soa_set = dns.message.from_wire(reply).authority[0]
    return int(soa_set[0].serial)


def rcode_of(reply: bytes | None) -> str | None:
    return dns.rcode.to_text(dns.message.from_wire(reply).rcode()) if reply is not None else None


def kept(twins: Twins) -> int:
    return twins.path.table.figures()["answers"]


# --- what is kept ---------------------------------------------------------------------------------


def test_an_answer_is_ready_once_it_was_asked_for() -> None:
    twins = cluster(task(host_ports=(1,)))
    for name, rtype in (("web.marathon.mesos", "A"), ("_web._tcp.marathon.mesos", "SRV"), ("mesos", "NS")):
        assert twins.ready(packet(name, rtype)) is None
        assert twins.asked(name, rtype) is not None
    assert kept(twins) == 3


@pytest.mark.parametrize("rtype", ["A", "NS", "CNAME", "PTR", "MX", "TXT", "AAAA", "SRV", "HTTPS", "ANY"])
def test_a_common_type_that_an_owner_lacks_is_kept(rtype: str) -> None:
    twins = cluster(task(host_ports=(1,)), static("q.mesos.", "TYPE4711", b"x"))
    assert twins.asked("q.mesos", rtype) is not None
    assert kept(twins) == 1


@pytest.mark.parametrize("rtype", ["TYPE4712", "DS", "SOA"])
def test_other_types_that_an_owner_lacks_are_not_kept(rtype: str) -> None:
    twins = cluster(task())
    assert twins.asked("web.marathon.mesos", rtype) is None
    assert kept(twins) == 0


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        ("nope.mesos", "A"),  # absent
        ("_tcp.marathon.mesos", "A"),  # there only for what is below it, whose going is not told
        ("mesos", "SOA"),  # has the serial of the moment
        ("x.apps.mesos", "A"),  # from a wildcard
        ("x.apps.mesos", "TXT"),
        ("www.example.org", "TXT"),  # a file's zone
        ("x.sub.example.org", "A"),  # a referral
        ("1.0.0.9.in-addr.arpa", "TXT"),
        ("1.2.3.4.in-addr.arpa", "PTR"),
        ("www.example.net", "A"),
    ],
)
def test_what_is_not_kept(name: str, rtype: str) -> None:
    twins = cluster(
        task(host_ports=(1,)),
        static("*.apps.mesos.", "A", b"\x0a\0\0\1"),
        static(ORG, "SOA", soa(), zone=ORG),
        static("www.example.org.", "A", b"\x0a\0\0\1", zone=ORG),
        static("sub.example.org.", "NS", b"\2ns\3net\0", zone=ORG),
    )
    for _ in range(2):
        twins.asked(name, rtype)
    assert kept(twins) == 0


def test_a_change_drops_what_it_touches_and_nothing_else() -> None:
    twins = cluster(task(0, host_ports=(1,)), task(1, "db"))
    names = [("web.marathon.mesos", "A"), ("web.marathon.mesos", "TXT"), ("db.marathon.mesos", "A")]
    for name, rtype in names:
        assert twins.asked(name, rtype) is not None
    twins.apply(put(task(0, host_ports=(2,))))
    assert [twins.ready(packet(name, rtype)) is not None for name, rtype in names] == [False, False, True]
    assert all(twins.asked(name, rtype) for name, rtype in names)


def test_the_set_of_zones_drops_everything() -> None:
    twins = cluster(task())
    twins.asked("web.marathon.mesos")
    apex = static("marathon.mesos.", "SOA", soa(), zone="marathon.mesos.")
    twins.apply(put(apex))
    assert kept(twins) == 0
    twins.apply(drop(apex.key))
    assert twins.asked("web.marathon.mesos") is not None


def test_nodata_turns_into_records() -> None:
    twins = cluster(task())
    assert rcode_of(twins.asked("web.marathon.mesos", "AAAA")) == "NOERROR"
    twins.apply(put(static("web.marathon.mesos.", "AAAA", bytes(15) + b"\1")))
    reply = twins.asked("web.marathon.mesos", "AAAA")
    assert reply is not None
    assert dns.message.from_wire(reply).answer


# --- what is denied -------------------------------------------------------------------------------


def test_negative_answers_follow_each_change_with_the_serial() -> None:
    twins = cluster(task())
    twins.asked("web.marathon.mesos", "TXT")
    before = twins.fast.view.serial
    for number in range(1, 5):
        twins.apply(put(task(number, f"app{number}")))
        serial = twins.fast.view.serial
        assert serial > before
        assert serial_of(twins.agreed(packet("nope.mesos"))) == serial
        assert serial_of(twins.agreed(packet("web.marathon.mesos", "TXT"))) == serial
        before = serial


def test_a_name_that_came_is_not_denied_and_one_that_went_is() -> None:
    twins = cluster()
    query = packet("web.marathon.mesos")
    assert rcode_of(twins.agreed(query)) == "NXDOMAIN"
    twins.apply(put(task()))
    assert twins.agreed(query) is None
    assert rcode_of(twins.asked("web.marathon.mesos")) == "NOERROR"
    twins.apply(drop(task().key))
    assert rcode_of(twins.agreed(query)) == "NXDOMAIN"


def test_a_name_that_one_change_moves_is_denied_at_no_moment() -> None:
    """Workers answer while a change is applied, and clients keep what they deny."""
    twins = cluster(task())
    canonical = next(iter(twins.plain.view.task_records(next(twins.plain.view.places()))[1:]))[0]
    asked = [packet(name) for name in ("web.marathon.mesos", "marathon.mesos", "slave.mesos")]
    seen: list[str | None] = []
    dropped = twins.fast.view.touch

    def touched(tag: str, owner: str) -> None:
        dropped(tag, owner)
        seen.extend(rcode_of(twins.ready(query)) for query in asked)

    twins.fast.view.touch = touched
    other = msgspec.structs.replace(AGENT, id="agent-S1")
    gone: dict[Key, Any] = dict.fromkeys((task().key, AGENT.key), (None, None))
    twins.apply(Delta(2, {**gone, other.key: (None, other), task(1).key: (None, task(1, node="agent-S1"))}))
    assert len(seen) > 10
    assert set(seen) == {None}
    assert rcode_of(twins.ready(packet(f"{canonical}.mesos"))) == "NXDOMAIN"
    twins.apply(drop(task(1).key))
    assert rcode_of(twins.agreed(asked[0])) == "NXDOMAIN"


def test_both_copies_of_a_zone_deny_names() -> None:
    twins = cluster(task())
    origins = ("mesos", "mesos.thisdcos.directory", "dcos.thisdcos.directory")
    for origin in origins:
        reply = twins.agreed(packet(f"nope.{origin}"))
        assert rcode_of(reply) == "NXDOMAIN"
        assert dns.message.from_wire(reply or b"").authority[0].name.to_text() == f"{origin}."


def test_canonical_names_are_left_to_python() -> None:
    twins = cluster(task(), put_agent := task(1, node="ip-10.ec2.internal"))
    canonical = [name for place in twins.plain.view.places() for name, _, _ in twins.plain.view.task_records(place)]
    unique = next(name for name in canonical if "-s0" in name).split(".")[0].removeprefix("web")
    for name in (f"web{unique}.marathon.mesos", f"other{unique}.x.mesos"):
        assert twins.ready(packet(name)) is None
    twins.apply(drop(task().key, put_agent.key))
    assert rcode_of(twins.agreed(packet(f"web{unique}.marathon.mesos"))) == "NXDOMAIN"


@pytest.mark.parametrize("rclass", ["CH", "ANY"])
@pytest.mark.parametrize("rtype", ["A", "AXFR", "IXFR"])
def test_other_classes_and_transfers_are_left_to_python(rclass: str, rtype: str) -> None:
    twins = cluster(task())
    for name in ("nope.mesos", "www.example.net"):
        assert twins.ready(packet(name, rtype, rclass=rclass)) is None
        assert twins.ready(packet(name, "AXFR")) is None


def test_names_elsewhere_are_refused_where_nothing_is_forwarded() -> None:
    assert rcode_of(cluster().agreed(packet("www.example.net", payload=1232))) == "REFUSED"
    assert cluster(forward=("192.0.2.1",)).ready(packet("www.example.net")) is None
    some = cluster(zones={"corp.example": ("192.0.2.1",)})
    assert some.ready(packet("www.corp.example")) is None
    assert rcode_of(some.agreed(packet("www.example.net"))) == "REFUSED"
    assert some.ready(packet("1.2.3.4.in-addr.arpa", "PTR")) is None


def test_a_forward_zone_inside_our_own() -> None:
    twins = cluster(task(), zones={"consul.mesos": ("192.0.2.1",), "mesos": ("192.0.2.2",)})
    assert twins.ready(packet("db.consul.mesos")) is None
    assert twins.ready(packet("consul.mesos")) is None
    assert rcode_of(twins.agreed(packet("xconsul.mesos"))) == "NXDOMAIN"


def test_a_wildcard_leaves_its_zone_to_python_until_it_goes() -> None:
    twins = cluster(task())
    star = static("*.apps.mesos.", "A", b"\x0a\0\0\1")
    asked = [packet(f"nope.{origin}") for origin in ("mesos", "mesos.thisdcos.directory", "dcos.thisdcos.directory")]
    twins.apply(put(star))
    assert [rcode_of(twins.agreed(query)) for query in asked] == [None, None, "NXDOMAIN"]
    twins.apply(drop(star.key))
    assert [rcode_of(twins.agreed(query)) for query in asked] == ["NXDOMAIN"] * 3
    starred = task(5, discovery_name="*")  # no wildcard, and yet a name that could be taken for one
    twins.apply(put(starred))
    assert twins.ready(asked[0]) is None
    twins.apply(drop(starred.key))
    assert rcode_of(twins.agreed(asked[0])) == "NXDOMAIN"


def test_zones_of_files_are_left_to_python() -> None:
    twins = cluster(static(ORG, "SOA", soa(), zone=ORG))
    assert twins.ready(packet("nope.example.org")) is None
    assert twins.ready(packet("nope.sub.example.org")) is None
    assert rcode_of(twins.agreed(packet("example.net"))) == "REFUSED"


def test_the_ensembles_zone_denies_names_while_it_is_there() -> None:
    twins, servers = cluster(), Ensemble((("10.0.0.1",),))
    assert rcode_of(twins.agreed(packet("zk-9.zk"))) == "REFUSED"
    twins.apply(put(servers))
    assert rcode_of(twins.agreed(packet("zk-9.zk"))) == "NXDOMAIN"
    assert rcode_of(twins.asked("zk-1.zk")) == "NOERROR"
    twins.apply(drop(servers.key))
    assert rcode_of(twins.agreed(packet("zk-1.zk"))) == "REFUSED"


# --- known, stale ---------------------------------------------------------------------------------


def test_nothing_is_denied_before_anybody_has_said_what_runs() -> None:
    heard = [False]
    twins = Twins(MARATHON, AGENT, task(), known=lambda: heard[0])
    assert twins.ready(packet("nope.mesos")) is None
    assert twins.asked("web.marathon.mesos", "TXT") is None
    assert kept(twins) == 0
    assert twins.asked("web.marathon.mesos") is not None
    heard[0] = True
    twins.path.refresh()
    assert rcode_of(twins.agreed(packet("nope.mesos"))) == "NXDOMAIN"
    assert twins.asked("web.marathon.mesos", "TXT") is not None
    heard[0] = False
    twins.path.refresh()
    assert twins.ready(packet("nope.mesos")) is None
    assert twins.asked("web.marathon.mesos", "TXT") is None
    assert twins.asked("web.marathon.mesos") is not None


def test_without_room_for_settings_everything_is_left_to_python_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    twins = cluster(task())
    query, real = packet("nope.mesos"), twins.path.table

    class Full:
        def configure(self, plain: dict[str, int], secrets: list[bytes], zones: list[Any], allow: None) -> bool:
            return not zones and real.configure(plain, secrets, zones, allow)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    twins.path.table = Full()  # type: ignore[assignment]
    for number in range(1, 4):
        twins.apply(put(task(number, f"app{number}")))
        assert twins.ready(query) is None
    assert [record.message for record in caplog.records] == [
        "the table of answers is full beyond use; raise [dns] answer_memory"
    ]
    twins.path.table = real
    twins.path.refresh()
    assert rcode_of(twins.agreed(query)) == "NXDOMAIN"


def test_a_star_inside_a_label_is_no_wildcard() -> None:
    twins = cluster(task(discovery_name="a*b"))
    assert rcode_of(twins.agreed(packet("nope.mesos"))) == "NXDOMAIN"


@pytest.mark.parametrize(
    ("name", "rtype", "code"),
    [
        ("web.marathon.mesos", "A", 3),
        ("web.marathon.mesos", "TXT", 3),
        ("nope.mesos", "A", 19),
        ("example.net", "A", 20),
    ],
)
def test_stale_answers_say_so(name: str, rtype: str, code: int) -> None:
    twins = cluster(task())
    fresh = twins.asked(name, rtype, payload=1232)
    twins.stale(True)
    stale = twins.asked(name, rtype, payload=1232)
    assert stale is not None
    assert stale.endswith(b"\0\x0f\0\2" + code.to_bytes(2, "big"))
    assert b"\0\x0f\0\2" not in (twins.asked(name, rtype) or b"")
    twins.stale(False)
    again = twins.asked(name, rtype, payload=1232)
    assert (again or b"")[2:] == (fresh or b"")[2:]


# --- many zones -----------------------------------------------------------------------------------


def files(count: int) -> list[Any]:
    return [
        each
        for number in range(count)
        for zone in [f"z{number}.org."]
        for each in (static(zone, "SOA", soa(), zone=zone), static(f"www.{zone}", "A", b"\x0a\0\0\1", zone=zone))
    ]


def test_zones_beyond_the_number_of_labels_are_counted_together() -> None:
    twins = cluster(task(), *files(40))
    names = [f"www.z{number}.org" for number in range(40)]
    labels = []
    for name in names:
        assert twins.asked(name) is not None
        found = twins.path.answer(packet(name), b"\x0a\0\0\1", False, 0, 0)
        assert found is not None
        labels.append(found[1])
    unlabelled = twins.path.zone_names[0]
    assert labels.count(unlabelled) == len(twins.fast.view.zones) - 32
    assert all(label in (unlabelled, name.removeprefix("www.")) for label, name in zip(labels, names, strict=True))
    assert len(twins.path.zone_names) == 34
    assert rcode_of(twins.agreed(packet("nope.mesos"))) == "NXDOMAIN"


def test_with_too_many_zones_everything_unknown_is_left_to_python() -> None:
    twins = cluster(task())
    first = files(70)
    twins.apply(put(*first))
    assert twins.asked("web.marathon.mesos") is not None
    assert twins.asked("www.z69.org") is not None
    for name, rtype in (
        ("nope.mesos", "A"),
        ("web.marathon.mesos", "TXT"),
        ("example.net", "A"),
        ("www.z1.org", "TXT"),
    ):
        assert twins.asked(name, rtype) is None, name
    twins.apply(drop(*(each.key for each in first)))
    assert rcode_of(twins.agreed(packet("nope.mesos"))) == "NXDOMAIN"
    assert rcode_of(twins.agreed(packet("example.net"))) == "REFUSED"
    assert twins.asked("web.marathon.mesos", "TXT") is not None


def test_nodata_names_its_zone_whatever_the_order_of_zones_is() -> None:
    twins = cluster(task())
    for number in range(4):
        zone = "x" * number + "zone.example."
        assert twins.asked("web.marathon.mesos", "TXT") is not None
        twins.apply(put(static(zone, "SOA", soa(), zone=zone)))
    assert twins.asked("web.marathon.mesos", "TXT") is not None


# --- whether there is a table ---------------------------------------------------------------------


def test_no_table_without_workers_or_addresses() -> None:
    assert fast_path(DnsConfig(workers=0, listen=("127.0.0.1:0",)), [SECRET]) is None
    assert fast_path(DnsConfig(workers=1, listen=()), [SECRET]) is None
    assert isinstance(fast_path(DnsConfig(workers=1, listen=("127.0.0.1:0",), answer_memory=4), [SECRET]), FastPath)


def test_a_missing_extension_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "mesos_dns" and "_native" in (rest[2] or ()):
            raise ImportError("not built")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with caplog.at_level(logging.WARNING):
        assert native() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "not built" in caplog.text
    assert fast_path(DnsConfig(workers=1, listen=("127.0.0.1:0",)), [SECRET]) is None


def test_no_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Module:
        @staticmethod
        def Table(*_: int) -> None:
            raise OSError("no memory")

    monkeypatch.setattr(fastpath, "native", lambda: Module)
    with caplog.at_level(logging.WARNING):
        assert fast_path(DnsConfig(workers=1, listen=("127.0.0.1:0",)), [SECRET]) is None
    assert "no shared memory (no memory)" in caplog.text


def test_more_networks_than_a_table_holds_are_told(caplog: pytest.LogCaptureFixture) -> None:
    config = DnsConfig(workers=1, listen=("127.0.0.1:0",), answer_memory=4)
    networks = [IPv4Network((number << 8, 24)) for number in range(_native.PREFIXES + 1)]
    assert fast_path(config, [SECRET], networks[1:]) is not None
    assert fast_path(config, [SECRET], networks) is None
    assert "more than 80 allowed networks" in caplog.text


def test_the_extension_is_found() -> None:
    assert native() is _native
    assert "mesos_dns._native" in sys.modules


def test_before_it_serves_a_view_a_table_answers_nothing() -> None:
    path = FastPath(DnsConfig(answer_memory=4), [SECRET], _native)
    path.refresh()
    assert path.answer(packet("mesos", "SOA"), b"\x7f\0\0\1", False, 0, 0) is None
    ZoneView(DnsConfig(), presence=path.presence)
    assert path.table.figures()["names"] == 0


def test_answers_are_looked_up_in_the_table_alone() -> None:
    twins = cluster(task())
    twins.asked("web.marathon.mesos")
    assert twins.path.get(b"") is None


def test_unhealthy_tasks_come_and_go_from_ready_answers() -> None:
    twins = cluster(task(0), task(1))
    for health in (Health.UNHEALTHY, Health.HEALTHY, Health.UNHEALTHY):
        twins.apply(put(task(1, health=health)))
        reply = twins.asked("web.marathon.mesos")
        assert reply is not None
        assert len(dns.message.from_wire(reply).answer[0]) == (1 if health == Health.UNHEALTHY else 2)


def test_what_clients_read_is_made_ready_again_in_steps() -> None:
    responder = native_responder_of(*[task(number, f"app{number}") for number in range(6)])
    fast = responder.fast
    assert fast is not None
    asked: list[None] = []
    responder.wanting = lambda: asked.append(None)
    names = [packet(f"app{number}.marathon.mesos") for number in range(6)]
    for query in names * 2:
        responder.respond(query, "tcp", b"\x7f\0\0\1")
    for number in range(6):
        responder.view.apply(put(task(number + 10, f"app{number}")))
    assert len(asked) == 6
    assert len(fast.wanted) == 6
    assert responder.make_ready(4)
    assert not responder.make_ready(4)
    assert fast.wanted == {}
    compiled = responder.counters.compiled
    for number, query in enumerate(names):
        reply = responder.respond(query, "tcp", b"\x7f\0\0\1")
        assert isinstance(reply, bytes)
        assert len(answers(dns.message.from_wire(reply))) == 2, number
    assert responder.counters.compiled == compiled


def test_a_name_that_went_away_is_not_made_ready() -> None:
    responder = native_responder_of(task())
    fast = responder.fast
    assert fast is not None
    query = packet("web.marathon.mesos")
    for _ in range(2):
        responder.respond(query, "tcp", b"\x7f\0\0\1")
    responder.view.apply(drop(task().key))
    assert not responder.make_ready(10)
    assert fast.figures()["answers"] == 0
    reply = responder.respond(query, "tcp", b"\x7f\0\0\1")
    assert isinstance(reply, bytes)
    assert dns.message.from_wire(reply).rcode() == 3


def test_more_dropped_answers_than_are_remembered_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastpath, "MOST_WANTED", 3)
    responder = native_responder_of(*[task(number, f"app{number}") for number in range(6)])
    assert responder.fast is not None
    for number in list(range(6)) * 2:
        responder.respond(packet(f"app{number}.marathon.mesos"), "tcp", b"\x7f\0\0\1")
    for number in range(6):
        responder.view.apply(put(task(number + 10, f"app{number}")))
    assert len(responder.fast.wanted) == 3
    responder.fast.drop("*", "")
    assert responder.fast.wanted == {}
