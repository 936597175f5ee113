"""The questions of the DNS measurements are about the zone that all servers have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import dns.zone

from tests.bench import dns_queries

AXFR: dict[str, Any] = {
    "TTL": 60,
    "Serial": 7,
    "RefreshSeconds": 60,
    "Mname": "ns1.mesos.",
    "Rname": "root.ns1.mesos.",
    "Domain": "mesos",
    "Records": {
        "As": {
            "ns1.mesos.": ["127.0.0.1"],
            "svc-1.marathon.mesos.": ["10.0.0.1", "10.0.0.2"],
            "svc-1-abcde-s1.marathon.mesos.": ["10.0.0.1"],
            "svc-1.marathon.slave.mesos.": ["10.0.0.1", "10.0.0.2"],
        },
        "AAAAs": {"svc-1.marathon.mesos.": ["fd00::1"]},
        "SRVs": {
            "_svc-1._tcp.marathon.mesos.": ["svc-1-abcde-s1.marathon.mesos.:31000"],
            "_http._svc-1._tcp.marathon.mesos.": ["svc-1-abcde-s1.marathon.mesos.:31000"],
            "_svc-1._tcp.marathon.slave.mesos.": ["svc-1-abcde-s1.marathon.slave.mesos.:31000"],
        },
    },
}


def test_names_of_the_zone() -> None:
    zone = dns_queries.read_zone(AXFR)
    assert zone.groups == ["svc-1.marathon.mesos."]
    assert zone.tasks == ["svc-1-abcde-s1.marathon.mesos."]
    assert zone.dual == ["svc-1.marathon.mesos."]
    assert zone.services == ["_http._svc-1._tcp.marathon.mesos.", "_svc-1._tcp.marathon.mesos."]
    assert (zone.record_sets, zone.records) == (8, 10)
    assert len(dns_queries.every_question(zone)) == 5


def test_master_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    dns_queries.write_master_file(AXFR, path)
    zone = dns.zone.from_file(str(path), "mesos.", relativize=False)
    for kind, rtype in (("As", "A"), ("AAAAs", "AAAA"), ("SRVs", "SRV")):
        for owner, values in AXFR["Records"][kind].items():
            found = zone.find_rdataset(owner, rtype)
            assert len(found) == len(values)
            assert found.ttl == 60
    srv = zone.find_rdataset("_svc-1._tcp.marathon.mesos.", "SRV")[0]
    assert srv.to_text() == "0 1 31000 svc-1-abcde-s1.marathon.mesos."
    assert zone.find_rdataset("mesos.", "SOA")[0].serial == 7
    assert zone.find_rdataset("mesos.", "NS")[0].to_text() == "ns1.mesos."


def test_shares_of_the_mixes() -> None:
    zone = dns_queries.read_zone(AXFR)
    mixed = dns_queries.mixed(zone, 4000)
    shares = {rtype: sum(kind == rtype for _, kind in mixed) / 4000 for rtype in ("A", "AAAA", "SRV")}
    absent = sum(name.startswith("nope-") for name, _ in mixed) / 4000
    assert abs(shares["A"] - 0.65) < 0.05
    assert abs(shares["AAAA"] - 0.15) < 0.05
    assert abs(shares["SRV"] - 0.2) < 0.05
    assert abs(absent - 0.15) < 0.05
    assert mixed == dns_queries.mixed(zone, 4000)
    assert set(dns_queries.hits(zone, 500)) == set(dns_queries.every_question(zone))


def test_messages_are_what_was_asked() -> None:
    questions = [("svc-1.marathon.mesos.", "A"), ("_svc-1._tcp.marathon.mesos.", "SRV")]
    for wires, edns in ((dns_queries.plain(questions), -1), (dns_queries.edns_0x20(questions), 0)):
        for wire, (name, rtype) in zip(wires, questions, strict=True):
            message = dns.message.from_wire(wire)
            assert message.question[0].name.to_text().lower() == name
            assert message.question[0].rdtype == dns.rdatatype.from_text(rtype)
            assert message.edns == edns
    assert dns.message.from_wire(dns_queries.edns_0x20(questions)[0]).payload == 1232
