"""The measured resolvers are asked for what the generated zone has, and for what it has not."""

from __future__ import annotations

from pathlib import Path

import dns.name
import dns.rdatatype
import dns.zone
import pytest

from tests.bench.dns_queries import Question
from tests.bench.resolver_questions import DOMAIN, TTL, Names, never_asked

NAMES = Names(60)


@pytest.fixture
def zone(tmp_path: Path) -> dns.zone.Zone:
    return dns.zone.from_file(str(NAMES.write_zone(tmp_path / "zone")), f"{DOMAIN}.", relativize=False)


def chain(zone: dns.zone.Zone, question: Question) -> tuple[int, int]:
    """(aliases on the way, records at their end)."""
    name, aliases = dns.name.from_text(question[0]), 0
    while (alias := zone.get_rdataset(name, "CNAME")) is not None:
        name, aliases = alias[0].target, aliases + 1
    return aliases, len(zone.get_rdataset(name, question[1]) or ())


def test_the_zone_has_what_is_asked_for_as_existing(zone: dns.zone.Zone) -> None:
    found = {chain(zone, question) for question in NAMES.hits(2000)}
    assert {aliases for aliases, _ in found} == {0, 2}
    assert {records for _, records in found} == {1, 3}


def test_the_mix_also_asks_for_what_is_not_there(zone: dns.zone.Zone) -> None:
    mixed = NAMES.mixed(4000)
    empty = [question for question in mixed if not chain(zone, question)[1]]
    absent = [name for name, _ in empty if zone.get_node(name) is None]
    assert abs(len(absent) / 4000 - 0.1) < 0.03
    assert abs((len(empty) - len(absent)) / 4000 - 0.15) < 0.03
    assert mixed == NAMES.mixed(4000)


def test_every_question_of_the_mixes_is_asked_before() -> None:
    every = NAMES.every_question()
    assert len(every) == len(set(every))
    assert set(NAMES.mixed(4000)) | set(NAMES.hits(4000)) <= set(every)


def test_what_is_kept_outlives_the_measurement(zone: dns.zone.Zone) -> None:
    assert {rdataset.ttl for _, rdataset in zone.iterate_rdatasets()} == {TTL}
    assert zone.find_rdataset(f"{DOMAIN}.", "SOA")[0].minimum == TTL


def test_new_names_are_new_in_each_round_and_are_there(zone: dns.zone.Zone) -> None:
    rounds = [never_asked(number, 50) for number in range(3)]
    assert len({question for asked in rounds for question in asked}) == 150
    wildcard = dns.name.from_text(f"*.miss.{DOMAIN}.")
    assert zone.find_rdataset(wildcard, "A")
    assert all(dns.name.from_text(name).parent() == wildcard.parent() for name, _ in rounds[0])
