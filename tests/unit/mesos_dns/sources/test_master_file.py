"""Master files: what is read, and that a fault costs one entry and no more."""

from __future__ import annotations

import dns.rdataset
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources.master_file import FAULTS_KEPT, MasterFile, TooManyRecords, entries, parse

ZONE = """
$ORIGIN example.
$TTL 1h
@   IN SOA ns1 host\\.master (
        2024010101 ; serial
        3600 600   ; refresh, retry
        1d 60 )
        NS  ns1
    300 IN NS ns2.example.
    IN 300 NS ns3
ns1 A   192.0.2.1
NS2 a   192.0.2.2
    AAAA 2001:db8::2
www CNAME Ns1
txt TXT "semi;colon" ( "two
" ) ; broken on purpose in the next test only
"""


def read(text: str) -> MasterFile:
    return parse(text.encode("utf-8", "surrogateescape").splitlines(keepends=True))


def faults(found: MasterFile) -> list[tuple[int, str]]:
    return [(fault.line, fault.text) for fault in found.faults]


def plain(found: MasterFile) -> dict[tuple[str, int], tuple[int, tuple[bytes, ...]]]:
    return {key: (records.ttl, records.rdata) for key, records in found.sets.items()}


def test_reads_what_dnspython_reads() -> None:
    text = ZONE[: ZONE.index("txt")] + 'txt TXT "semi;colon" ( "two"\n three\\032words ) ; comment\n* MX 10 www\n'
    zone = dns.zone.from_text(text, relativize=False, check_origin=False)
    expected = {}
    for owner, node in zone.nodes.items():
        for each in node.rdatasets:
            assert isinstance(each, dns.rdataset.Rdataset)
            # dnspython keeps the first TTL of a set; the lowest is right (RFC 2181 §5.2 makes them equal).
            data = {item.to_wire() for item in each}
            expected[owner.to_text().lower(), int(each.rdtype)] = data
    found = read(text)
    assert {key: set(records.rdata) for key, records in found.sets.items()} == expected
    assert found.zone == "example."
    assert all(records.zone == "example." for records in found.sets.values())
    assert found.sets["example.", 6].ttl == 3600
    assert found.sets["example.", 2].ttl == 300
    assert "another TTL than in line 8" in found.faults[0].text


def test_an_unclosed_quotation_mark_costs_its_entry_only() -> None:
    found = read(ZONE + "last A 192.0.2.9\n")
    assert ("last.example.", 1) in found.sets
    assert ("txt.example.", 16) not in found.sets
    assert any("does not end on its line" in text for _, text in faults(found))


def test_a_parenthesis_that_is_never_closed_costs_its_entry_only() -> None:
    found = read("$TTL 5\na.x. SOA a. b. ( 1 2\nb.a.x. A 192.0.2.1\nc.a.x. TXT ( one\n two )\nd.a.x. A 192.0.2.2 (\n")
    assert set(found.sets) == {("b.a.x.", 1), ("c.a.x.", 16)}
    assert [line for line, _ in faults(found)] == [2, 6]


def test_many_unclosed_parentheses_take_linear_time() -> None:
    lines = [b"a. 1 TXT (\n"] * 20000
    found = parse(lines)
    assert found.fault_count == 20000
    assert len(found.faults) == FAULTS_KEPT
    assert sum(1 for _ in entries(lines)) == 20000


def test_an_entry_without_end_is_cut_off() -> None:
    found = parse([b"a. 1 TXT (\n", *[b"x" * 1000 + b"\n"] * 1000, b"b. 1 A 192.0.2.1\n"])
    assert set(found.sets) == {("b.", 1)}
    assert faults(found)[0][0] == 1
    assert "an entry of over" in faults(found)[0][1]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("a.x. 5 A 192.0.2", "address '192.0.2': expected IPv4"),
        ("a.x. 5 CH A 192.0.2.1", "class 'CH': expected IN"),
        ("a.x. 5 CLASS3 A 192.0.2.1", "class 'CLASS3': expected IN"),
        ("a.x. 5 IN", "without a type"),
        ("a.x. 5", "without a type"),
        ("a.x. 5 IN IN A 192.0.2.1", "type 'IN'"),
        ("a.x. 2147483648 A 192.0.2.1", "expected seconds"),
        ("a.x. -1 A 192.0.2.1", "type '-1'"),
        ("a.x. 5 BOGUS 1", "type 'BOGUS'"),
        ("a 5 A 192.0.2.1", "relative name 'a' without an origin"),
        ("a..x. 5 A 192.0.2.1", "a label of 0 octets"),
        (f"{'a' * 64}.x. 5 A 192.0.2.1", "a label of 64 octets"),
        ("a\\.b.x. 5 A 192.0.2.1", "a dot inside a label"),
        ("\\200.x. 5 A 192.0.2.1", "no UTF-8"),
        ('"a.x." 5 A 192.0.2.1', "without quotation marks"),
        ('a.x. 5 TXT a"b"', "a quotation mark inside"),
        ('a.x. 5 TXT "b', "does not end on its line"),
        ("a.x. 5 TXT b\\", "unexpected"),
        ("a.x. 5 TXT \x01", "unexpected"),
        ("a.x. 5 A 192.0.2.1 )", 'a ")" without its "("'),
        ("a.x. 5 A ( ( 192.0.2.1 ) )", 'a second "("'),
        ("$INCLUDE /etc/passwd", "$INCLUDE is not read"),
        ("$GENERATE 1-9 a$ A 192.0.2.$", "$GENERATE is not read"),
        ("$TTL", "with 0 values"),
        ("$TTL x", "expected seconds"),
        (". 5 SOA a. b. 1 2 3 4 5", "a SOA record at the root"),
    ],
)
def test_a_fault_costs_its_entry_only(line: str, what: str) -> None:
    found = read(f"before.x. 5 A 192.0.2.1\n{line}\nafter.x. 6 A 192.0.2.2\n")
    assert set(found.sets) == {("before.x.", 1), ("after.x.", 1)}
    assert found.fault_count == 1
    assert found.faults[0].line == 2
    assert what in found.faults[0].text


def test_a_blank_owner_is_the_last_owner_and_never_one_further_back() -> None:
    found = read("a.x. 5 A 192.0.2.1\n  TXT t\nb..x. 5 A 192.0.2.2\n  TXT lost\nc.x. 5 A bad\n  TXT kept\n")
    assert set(found.sets) == {("a.x.", 1), ("a.x.", 16), ("c.x.", 16)}
    assert [line for line, _ in faults(found)] == [3, 4, 5]
    assert "without an owner" in faults(found)[1][1]


def test_a_broken_entry_still_names_the_owner_of_the_next() -> None:
    found = read('a.x. 5 A 192.0.2.1\nb.x. 5 TXT "open\n  5 TXT kept\n')
    assert found.sets["b.x.", 16].rdata == (b"\x04kept",)


def test_a_bad_origin_refuses_relative_names_until_the_next_one() -> None:
    found = read(
        "$TTL 5\n$ORIGIN x.\na A 192.0.2.1\n$ORIGIN y..\nb A 192.0.2.2\nc.x. A 192.0.2.3\n$ORIGIN z.\nd A 192.0.2.4\n"
    )
    assert set(found.sets) == {("a.x.", 1), ("c.x.", 1), ("d.z.", 1)}
    assert [line for line, _ in faults(found)] == [4, 5]


def test_a_relative_origin_is_completed_by_the_one_before() -> None:
    assert ("a.sub.x.", 1) in read("$ORIGIN x.\n$ORIGIN sub\na 5 A 192.0.2.1\n").sets


def test_ttls_come_from_the_record_the_directive_the_last_one_or_the_soa() -> None:
    assert read("a. 7 A 192.0.2.1\nb. A 192.0.2.1\n").sets["b.", 1].ttl == 7
    assert read("$TTL 9\na. 7 A 192.0.2.1\nb. A 192.0.2.1\n").sets["b.", 1].ttl == 9
    soa = read("x. SOA a. b. 1 2 3 4 60\nb.x. A 192.0.2.1\n")
    assert (soa.sets["x.", 6].ttl, soa.sets["b.x.", 1].ttl) == (60, 60)
    assert "without a TTL" in read("a. A 192.0.2.1\n").faults[0].text
    assert read("$TTL 9\n$TTL bad\na. A 192.0.2.1\n").sets["a.", 1].ttl == 9


def test_ttl_and_class_in_either_order_and_a_number_as_owner() -> None:
    found = read("$ORIGIN x.\n1 5 IN A 192.0.2.1\n2 IN 5 A 192.0.2.2\n3 5 class1 A 192.0.2.3\n")
    assert {owner for owner, _ in found.sets} == {"1.x.", "2.x.", "3.x."}
    assert not found.faults


def test_owners_are_lower_case_names_in_data_are_not() -> None:
    found = read("WwW.Example. 5 CNAME Target.Example.\n")
    assert found.sets["www.example.", 5].rdata == (b"\x06Target\x07Example\x00",)


def test_non_ascii_owners_and_strings_are_utf_8() -> None:
    found = read("bücher.x. 5 TXT größe\n")
    assert found.sets["bücher.x.", 16].rdata == (bytes([len("größe".encode())]) + "größe".encode(),)


def test_records_outside_the_zone_are_left_out() -> None:
    found = read("$TTL 5\nb.other. A 192.0.2.1\nx. SOA a. b. 1 2 3 4 5\nax. A 192.0.2.2\nc.x. A 192.0.2.3\n")
    assert set(found.sets) == {("x.", 6), ("c.x.", 1)}
    assert [line for line, _ in faults(found)] == [2, 4]
    assert all("outside the file's zone x." in text for _, text in faults(found))


def test_a_file_without_soa_has_no_zone() -> None:
    found = read("a.mesos. 5 A 192.0.2.1\n")
    assert (found.zone, found.sets["a.mesos.", 1].zone) == ("", "")


def test_sets_keep_each_record_once() -> None:
    found = read("a. 5 A 192.0.2.1\na. 5 A 192.0.2.2\nA. 5 A 192.0.2.1\n")
    assert found.sets["a.", 1].rdata == (b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02")


@pytest.mark.parametrize(
    ("text", "what", "left"),
    [
        ("a. 5 CNAME b.\na. 5 A 192.0.2.1\n", "other data", {5}),
        ("a. 5 A 192.0.2.1\na. 5 CNAME b.\n", "other data", {1}),
        ("a. 5 CNAME b.\na. 5 CNAME c.\n", "a second CNAME record", {5}),
        ("a. 5 SOA a. b. 1 2 3 4 5\na. 5 SOA a. b. 2 2 3 4 5\n", "a second SOA record", {6}),
        ("a. 5 SOA a. b. 1 2 3 4 5\nb.a. 5 SOA a. b. 2 2 3 4 5\n", "a second SOA record", {6}),
        ("a. 5 DNAME b.\na. 5 DNAME c.\n", "a second DNAME record", {39}),
    ],
)
def test_what_can_not_stand_together_is_left_out(text: str, what: str, left: set[int]) -> None:
    found = read(text)
    assert {rtype for _, rtype in found.sets} == left
    assert [line for line, _ in faults(found)] == [2]
    assert what in faults(found)[0][1]


def test_a_set_that_fits_no_message_is_cut() -> None:
    found = read("".join(f'a. 5 TXT "{number:0200d}"\n' for number in range(400)))
    wire = sum(len(data) + 12 for data in found.sets["a.", 16].rdata)
    assert 60000 < wire <= 65000
    assert found.fault_count == 400 - len(found.sets["a.", 16].rdata)
    assert "no message could hold it" in found.faults[0].text


def test_too_many_records_refuse_the_file() -> None:
    lines = [b"a. 5 A 192.0.2.1\n"] * 11
    assert parse(lines, max_records=11).sets
    with pytest.raises(TooManyRecords, match="more than 10 records"):
        parse(lines, max_records=10)


def test_line_ends_of_other_systems() -> None:
    assert read('a. 5 TXT "x" ; c\r\nb. 5 A 192.0.2.1\r\n').fault_count == 0


PIECES = [
    "a.x.",
    "b",
    "@",
    "5",
    "IN",
    "A",
    "TXT",
    "CNAME",
    "192.0.2.1",
    '"q',
    '"q"',
    "(",
    ")",
    ";",
    "\\",
    "\\065",
    " ",
    "\n",
    "$TTL",
    "$ORIGIN",
    "x.",
    "\0",
]


@given(st.lists(st.sampled_from(PIECES), max_size=60), st.booleans())
def test_any_text_is_read_without_an_exception_and_good_lines_survive(pieces: list[str], spaced: bool) -> None:
    noise = (" " if spaced else "").join(pieces)
    found = read(f"{noise}\n$TTL 5\n$ORIGIN good.\ngood.good. 5 MX 1 mail.good.\n")
    if not found.zone:
        assert ("good.good.", 15) in found.sets
