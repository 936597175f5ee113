"""The firewall rules: which there are, what is compared, and what is written."""

from __future__ import annotations

import pytest

from lb4 import masquerade
from lb4.masquerade import Networks, family_of, parse, removal, rules, script

NETWORKS = Networks((("br0", "10.1.0.0/24"), ("eth0", "10.3.0.0/24")), ("eth0",))
RULES = rules(NETWORKS, ["11.0.0.0/8", "10.0.0.80/32"])


def test_every_rule_is_about_virtual_addresses_and_in_a_chain_of_ours() -> None:
    for table, lines in RULES.items():
        for line in lines:
            assert line.split(" ")[0] in masquerade.OURS[table]
    assert RULES["filter"] == [
        f"PHAROS-L4 -m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY --ctorigdst {address} -j ACCEPT"
        for address in ("11.0.0.0/8", "10.0.0.80/32")
    ]


def test_clients_get_the_nodes_address_only_where_replies_would_go_past_it() -> None:
    assert [line for line in RULES["nat"] if line.startswith("PHAROS-L4-SRC ")] == [
        "PHAROS-L4-SRC -s 11.0.0.0/8 -j MASQUERADE",
        "PHAROS-L4-SRC -s 10.0.0.80/32 -j MASQUERADE",
        "PHAROS-L4-SRC -m addrtype --src-type LOCAL -j RETURN",
        "PHAROS-L4-SRC -s 10.1.0.0/24 -d 10.1.0.0/24 -j MASQUERADE",
        "PHAROS-L4-SRC -s 10.3.0.0/24 -d 10.3.0.0/24 -j MASQUERADE",
        "PHAROS-L4-SRC -s 10.1.0.0/24 -j RETURN",
        "PHAROS-L4-SRC -o eth0 -j MASQUERADE",
    ]


def test_only_connections_to_virtual_addresses_that_leave_the_machine_are_looked_at() -> None:
    assert [line for line in RULES["nat"] if line.startswith("PHAROS-L4 ")] == [
        "PHAROS-L4 -o lo -j RETURN",
        "PHAROS-L4 -m conntrack --ctorigdst 11.0.0.0/8 -j PHAROS-L4-SRC",
        "PHAROS-L4 -m conntrack --ctorigdst 10.0.0.80/32 -j PHAROS-L4-SRC",
    ]


def test_port_mappings_leave_virtual_addresses_alone() -> None:
    assert [line for line in RULES["nat"] if line.startswith("PHAROS-L4-TO ")] == [
        f"PHAROS-L4-TO -d {address} -m addrtype --dst-type LOCAL -j ACCEPT"
        for address in ("11.0.0.0/8", "10.0.0.80/32")
    ]


def test_without_virtual_addresses_there_are_no_rules() -> None:
    assert rules(NETWORKS, []) == {"nat": [], "filter": []}


def test_a_device_whose_name_means_more_to_the_tool_gets_no_rule() -> None:
    lines = rules(Networks((), ("eth+", 'a"b', "eth0.7@x")), ["11.0.0.0/8"])["nat"]
    assert [line for line in lines if " -o " in line][1:] == ["PHAROS-L4-SRC -o eth0.7@x -j MASQUERADE"]


def test_addresses_of_one_family_that_no_range_has() -> None:
    ranges, fixed = ["11.0.0.0/8", "fd01:c::/64"], ["10.0.0.9", "10.0.0.10", "11.1.1.1", "fd02::1", "fd01:c::5"]
    assert family_of(4, ranges, fixed).texts == ["11.0.0.0/8", "10.0.0.9/32", "10.0.0.10/32"]
    assert family_of(6, ranges, fixed).texts == ["fd01:c::/64", "fd02::1/128"]
    assert family_of(6, [], []) == ([], 0)


def test_very_many_single_addresses_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masquerade, "MOST_FIXED", 2)
    fixed = ["10.0.0.3", "fd00::1", "10.0.0.1", "10.0.0.2"]
    assert family_of(4, [], fixed) == (["10.0.0.1/32", "10.0.0.2/32"], 1)
    assert family_of(6, [], fixed) == (["fd00::1/128"], 0)


@pytest.mark.parametrize(("ranges", "fixed"), [(["11.0.0.1/8"], []), (["x"], []), ([], ["10.0.0.0/8"])])
def test_what_is_no_network_or_address_is_an_error(ranges: list[str], fixed: list[str]) -> None:
    with pytest.raises(ValueError):
        family_of(4, ranges, fixed)


# --- what is there, and what is written -----------------------------------------------------------

EMPTY = """# Generated
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
COMMIT
"""
FULL = """*nat
:PREROUTING ACCEPT [1:60]
:PHAROS-L4 - [0:0]
:PHAROS-L4-SRC - [0:0]
:PHAROS-L4-TO - [0:0]
-A PREROUTING -j PHAROS-L4-TO
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -j PHAROS-L4-TO
-A POSTROUTING -j PHAROS-L4
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
-A PHAROS-L4 -o lo -j RETURN
COMMIT
"""
WANTED = ["PHAROS-L4 -o lo -j RETURN"]


def test_the_first_time_all_is_written_before_what_others_have() -> None:
    assert script("nat", WANTED, parse("nat", EMPTY), False).splitlines() == [
        "*nat",
        ":PHAROS-L4-TO - [0:0]",
        ":PHAROS-L4 - [0:0]",
        ":PHAROS-L4-SRC - [0:0]",
        "-A PHAROS-L4 -o lo -j RETURN",
        "-I PREROUTING 1 -j PHAROS-L4-TO",
        "-I OUTPUT 1 -j PHAROS-L4-TO",
        "-I POSTROUTING 1 -j PHAROS-L4",
        "COMMIT",
    ]


def test_what_is_as_it_was_written_is_left() -> None:
    found = parse("nat", FULL)
    assert found.ours == ("PHAROS-L4 -o lo -j RETURN",)
    assert found.chains == {"PHAROS-L4", "PHAROS-L4-SRC", "PHAROS-L4-TO"}
    assert script("nat", WANTED, found, True) == ""
    assert "-I" not in script("nat", WANTED, found, False)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("-A OUTPUT -j PHAROS-L4-TO\n", "", ["-I OUTPUT 1 -j PHAROS-L4-TO"]),
        (
            "-A OUTPUT -j PHAROS-L4-TO\n",
            "-A OUTPUT -j PHAROS-L4-TO\n" * 2,
            ["-D OUTPUT -j PHAROS-L4-TO"] * 2 + ["-I OUTPUT 1 -j PHAROS-L4-TO"],
        ),
        (
            "-A OUTPUT -j PHAROS-L4-TO\n",
            "-A OUTPUT -j DOCKER\n-A OUTPUT -j PHAROS-L4-TO\n",
            ["-D OUTPUT -j PHAROS-L4-TO", "-I OUTPUT 1 -j PHAROS-L4-TO"],
        ),
    ],
)
def test_a_jump_that_is_lost_doubled_or_behind_others_is_put_right(
    before: str, after: str, expected: list[str]
) -> None:
    text = script("nat", WANTED, parse("nat", FULL.replace(before, after)), True)
    assert [line for line in text.splitlines() if line.startswith(("-D", "-I"))] == expected


def test_replies_are_let_through_wherever_the_jump_stands() -> None:
    saved = "*filter\n:PHAROS-L4 - [0:0]\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j PHAROS-L4\nCOMMIT\n"
    assert script("filter", [], parse("filter", saved), True) == ""


def test_removal_takes_all_of_ours_and_nothing_else() -> None:
    assert removal("nat", parse("nat", FULL)).splitlines() == [
        "*nat",
        ":PHAROS-L4-TO - [0:0]",
        ":PHAROS-L4 - [0:0]",
        ":PHAROS-L4-SRC - [0:0]",
        "-D PREROUTING -j PHAROS-L4-TO",
        "-D OUTPUT -j PHAROS-L4-TO",
        "-D POSTROUTING -j PHAROS-L4",
        "-X PHAROS-L4-TO",
        "-X PHAROS-L4",
        "-X PHAROS-L4-SRC",
        "COMMIT",
    ]
    assert removal("nat", parse("nat", EMPTY)) == ""


def test_a_comment_does_not_end_a_line() -> None:
    comment = '-A FORWARD -m comment --comment "a\u2028-A PHAROS-L4 -j ACCEPT" -j RETURN'
    found = parse("filter", f"*filter\n:PHAROS-L4 - [0:0]\n{comment}\nCOMMIT\n")
    assert found.ours == ()
    assert found.kernel == {"FORWARD": (comment[3:],)}
