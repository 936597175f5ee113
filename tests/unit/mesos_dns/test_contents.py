"""All records of a zone at one moment: which they are, which are left out, and that they stay."""

from __future__ import annotations

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from mesos_dns import names
from mesos_dns.contents import Contents
from mesos_dns.model import Endpoint, Framework, Health, Leadership, Network, Node, Port, Task
from mesos_dns.names import RUNNING
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import drop, put, soa, static, task, view_of


def rows(view: ZoneView, origin: str = "mesos") -> list[str]:
    """ "owner TTL type rdata" of every record but the SOA, in order."""
    zone = view.zones[name_to_wire(origin)]
    return texts(Contents(zone, view.serial))


def texts(contents: Contents) -> list[str]:
    found = []
    for record in contents.records():
        if record is not None:
            owner = dns.name.from_wire(record.owner + b"\0", 0)[0].relativize(dns.name.root)
            rtype = dns.rdatatype.RdataType.make(record.rtype)
            data = dns.rdata.from_wire(dns.rdataclass.IN, rtype, record.rdata, 0, len(record.rdata))
            kind = dns.rdatatype.to_text(rtype)
            found.append(f"{owner} {record.ttl} {kind} {data}")
    return found


def unique(of: Task) -> str:
    return names.unique_suffix(of).lower()


def test_everything_of_a_small_cluster() -> None:
    web = task(host_ports=(31000,))
    master = Endpoint("10.0.0.11", 5050)
    canonical = f"web{unique(web)}.marathon"
    found = rows(view_of(web, Leadership(master, (master,))))
    assert found[0] == "@ 60 NS ns1.mesos."
    assert sorted(found[1:]) == sorted(
        [
            "ns1 60 A 127.0.0.1",
            "marathon 60 A 10.0.0.21",
            "_framework._tcp.marathon 60 SRV 0 1 15101 marathon.mesos.",
            "slave 60 A 10.1.0.1",
            "_slave._tcp 60 SRV 0 1 5051 slave.mesos.",
            *(f"{name} 60 A 10.0.0.11" for name in ("leader", "master", "master0")),
            *(f"_leader._{protocol} 60 SRV 0 1 5050 leader.mesos." for protocol in ("tcp", "udp")),
            "web.marathon 60 A 9.0.0.1",
            "web.marathon.slave 60 A 10.1.0.1",
            f"{canonical} 60 A 9.0.0.1",
            f"{canonical}.slave 60 A 10.1.0.1",
            *(
                f"_web._{protocol}.marathon{tail} 60 SRV 0 1 31000 {canonical}.slave.mesos."
                for protocol in ("tcp", "udp")
                for tail in ("", ".slave")
            ),
        ]
    )


def test_the_copy_and_the_directory_have_their_own_ttl_priority_and_targets() -> None:
    web = task(host_ports=(31000,))
    view = view_of(web)
    copy = rows(view, "mesos.thisdcos.directory")
    assert len(copy) == len(rows(view))
    target = f"web{unique(web)}.marathon.slave.mesos.thisdcos.directory."
    assert f"_web._tcp.marathon 5 SRV 1 1 31000 {target}" in copy
    assert sorted(rows(view, "dcos.thisdcos.directory")) == [
        "@ 3600 NS ns1.mesos.",
        "web.marathon.agentip 5 A 10.1.0.1",
        "web.marathon.autoip 5 A 9.0.0.1",
        "web.marathon.containerip 5 A 9.0.0.1",
    ]


def test_unhealthy_tasks_have_only_their_canonical_names() -> None:
    sick = task(1, health=Health.UNHEALTHY)
    view = view_of(task(), sick)
    found = rows(view)
    assert "web.marathon 60 A 9.0.0.1" in found
    assert "web.marathon 60 A 9.0.0.2" not in found
    assert f"web{unique(sick)}.marathon 60 A 9.0.0.2" in found
    view.apply(drop(task().key))
    assert "web.marathon 60 A 9.0.0.2" in rows(view), "none is healthy: all are served"


def test_a_zone_of_a_file_is_sent_as_it_is_written() -> None:
    zone = "example.org."
    view = view_of(
        static(zone, "SOA", soa(), zone=zone),
        static(zone, "NS", name_to_wire("ns.example.org"), zone=zone),
        static("ns.example.org.", "A", b"\x0a\7\0\1", zone=zone),
        static("*.apps.example.org.", "A", b"\x0a\7\0\2", zone=zone, ttl=7),
        static("sub.example.org.", "NS", name_to_wire("ns.sub.example.org"), zone=zone),
        static("ns.sub.example.org.", "A", b"\x0a\7\0\3", zone=zone),
        static("www.example.org.", "CNAME", name_to_wire("Web.marathon.mesos"), zone=zone),
        static("é.example.org.", "TXT", b"\2hi", zone=zone),
        static("a\udc2eb.example.org.", "TXT", b"\1x", zone=zone),
    )
    assert rows(view, "example.org") == [
        "@ 300 NS ns.example.org.",
        "ns 300 A 10.7.0.1",
        "*.apps 7 A 10.7.0.2",
        "sub 300 NS ns.sub.example.org.",
        "ns.sub 300 A 10.7.0.3",
        "www 300 CNAME Web.marathon.mesos.",
        r'\195\169 300 TXT "hi"',
        r'a\.b 300 TXT "x"',
    ]
    contents = Contents(view.zones[name_to_wire("example.org")], view.serial)
    assert contents.soa.rdata == soa()
    assert contents.soa.ttl == 300


def test_a_task_called_star_does_not_become_a_wildcard() -> None:
    star = task(1, discovery_name="*", ports=(Port(80, "http", "tcp"),))
    found = rows(view_of(star, task(2)))
    assert not [row for row in found if row.startswith("*.")]
    assert f"*{unique(star)}.marathon 60 A 9.0.0.2" in found
    assert [row for row in found if row.startswith("_*._tcp.marathon ")]
    view = view_of(star, static("*.marathon.mesos.", "A", b"\x0a\7\0\1"))
    assert {"*.marathon 300 A 10.7.0.1", "*.marathon 300 A 9.0.0.2"} <= set(rows(view))


def test_what_a_secondary_would_refuse_is_left_out() -> None:
    target = name_to_wire("else.net")
    view = view_of(
        task(),
        static("web.marathon.mesos.", "CNAME", target),
        static("two.mesos.", "CNAME", target, name_to_wire("other.net")),
        static("soa.mesos.", "SOA", soa(), zone="mesos."),
        static("mesos.", "SOA", soa(), zone="mesos."),
    )
    found = rows(view)
    assert [row for row in found if " CNAME " in row] == ["two 300 CNAME else.net."]
    assert not [row for row in found if " SOA " in row]
    assert "web.marathon 60 A 9.0.0.1" in found


def test_an_owner_of_a_file_and_of_tasks_is_told_once() -> None:
    web = task(host_ports=(31000,))
    canonical = f"web{unique(web)}.marathon.slave"
    service = b"\0\0\0\1" + (31000).to_bytes(2, "big") + name_to_wire(f"WEB{canonical[3:]}.mesos")
    view = view_of(
        web,
        static("web.marathon.mesos.", "A", b"\x0a\7\0\1", ttl=60),
        static(f"{canonical}.mesos.", "TXT", b"\1x", ttl=60),
        static("_web._tcp.marathon.mesos.", "SRV", service, ttl=60),
    )
    found = rows(view)
    assert len(found) == len(set(found))
    assert {"web.marathon 60 A 10.7.0.1", "web.marathon 60 A 9.0.0.1", f"{canonical} 60 A 10.1.0.1"} <= set(found)
    assert len([row for row in found if row.startswith("_web._tcp.marathon ")]) == 1


def test_two_tasks_with_one_canonical_name() -> None:
    """The same id in two clusters: both addresses, once."""
    first = task()
    second = Task(
        "f-1", first.id, "web", "agent-S0", RUNNING, networks=(Network("dcos", ("9.0.0.9",)),), cluster="other"
    )
    framework = Framework("f-1", "marathon", cluster="other")
    node = Node("agent-S0", "agent0", ("10.1.0.1",), 5051, cluster="other")
    found = rows(view_of(first, second, framework, node))
    name = f"web{unique(first)}.marathon"
    assert sorted(row for row in found if row.startswith(f"{name} ")) == [
        f"{name} 60 A 9.0.0.1",
        f"{name} 60 A 9.0.0.9",
    ]
    assert len(found) == len(set(found))


def test_ports_and_targets_are_what_answers_have() -> None:
    long = ".".join(("w" * 63, "x" * 63, "v" * 30, "y" * 54))
    web = task(discovery_name="Web", ports=(Port(70000, "", "tcp"), Port(70000 & 0xFFFF, "", "tcp")))
    tall = task(1, discovery_name=long, ports=(Port(80, "", "tcp"),))
    view = view_of(web, tall)
    assert len([row for row in rows(view) if row.startswith("_web._tcp.marathon ")]) == 1
    canonical = f"{long}{unique(tall)}.marathon "
    assert [row for row in rows(view) if row.startswith(canonical)]
    copy = rows(view, "mesos.thisdcos.directory")
    assert not [row for row in copy if row.startswith(canonical)], "too long below the longer origin"


@pytest.mark.parametrize("name", ["\ud800x", "\udcc3\udca9x"])
def test_names_that_no_question_can_have_are_left_out(name: str) -> None:
    networks = (Network("n", ("9.0.0.7",)),)
    found = rows(view_of(task(1, discovery_name=name, networks=networks)))
    assert {row.partition(" ")[0] for row in found if "9.0.0.7" in row} == {
        "x.marathon",
        f"x{unique(task(1))}.marathon",
    }


@pytest.mark.parametrize("number", [1, 199, 200, 1000])
def test_pauses_in_one_large_record_set(number: int) -> None:
    view = view_of(*(task(n) for n in range(number)))
    steps = list(Contents(view.domain, view.serial).records())
    assert steps.count(None) >= number // 50
    assert len([row for row in rows(view) if row.startswith("web.marathon 60")]) == number


def test_changes_are_not_seen() -> None:
    view = view_of(*(task(n, host_ports=(31000,)) for n in range(5)), static("a.mesos.", "A", b"\x0a\7\0\1"))
    contents = Contents(view.domain, view.serial)
    serial, before = view.serial, texts(Contents(view.domain, view.serial))
    view.apply(drop(task(1).key))
    view.apply(put(task(0, host_ports=(32000,)), task(9, "new"), static("a.mesos.", "A", b"\x0a\7\0\2")))
    view.apply(put(task(2, health=Health.UNHEALTHY), Framework("f-1", "other")))
    assert texts(contents) == before
    assert contents.serial == serial
    assert texts(Contents(view.domain, view.serial)) != before
    assert "mesos" in repr(contents)
