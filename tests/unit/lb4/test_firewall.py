"""How the firewall's tools are chosen and run, with tools that the test plays."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from lb4 import firewall, masquerade
from lb4.firewall import Firewall, run_program
from lb4.masquerade import Networks

RANGES = ("11.0.0.0/8",)


class Tools:
    """Tables by tool: a restore keeps the rules of our chains and puts the jumps at the top."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], list[str]] = {}
        self.missing: set[str] = set()
        self.broken: dict[str, str] = {}
        self.restored: list[str] = []

    def run(self, command: Sequence[str], text: str) -> str:
        """Instead of a program."""
        tool, _, what = command[0].rpartition("-")
        if tool in self.missing:
            raise FileNotFoundError(2, "No such file or directory", command[0])
        if what == "save":
            assert list(command[1:]) == ["-t", command[2]]
            return "\n".join([f"*{command[2]}", *self.tables.get((tool, command[2]), []), "COMMIT"])
        assert list(command[1:]) == ["--noflush", "-w", "5"]
        if tool in self.broken:
            raise OSError(self.broken[tool])
        self.restored.append(tool)
        lines = text.splitlines()
        table = self.tables.setdefault((tool, lines[0][1:]), [])
        chains = [line.split(" ")[0] for line in lines if line.startswith(":")]
        kept = [line for line in table if not any(line.startswith((c, f"-A {c[1:]} ")) for c in chains)]
        dropped = {f"-A {line[3:]}" for line in lines if line.startswith("-D")}
        jumps = [line.replace("-I ", "-A ").replace(" 1 ", " ") for line in lines if line.startswith("-I")]
        rules = [line for line in lines if line.startswith(("-A", ":"))]
        rules = [line for line in rules if f"-X {line.split(' ')[0][1:]}" not in lines]
        table[:] = [*jumps, *(line for line in kept if line not in dropped), *rules]
        return ""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setattr(Firewall, "_networks", lambda self, version: Networks((("eth0", "10.0.0.0/24"),), ("eth0",)))
    return Tools()


def test_rules_are_written_once_and_again_when_they_differ(tools: Tools) -> None:
    rules = Firewall(run=tools.run)
    assert rules.apply(RANGES) == {}
    assert tools.restored == ["iptables", "iptables"]
    assert rules.apply(RANGES) == {}
    assert rules.written == 2
    tools.tables["iptables", "nat"].remove("-A PHAROS-L4-SRC -s 10.0.0.0/24 -d 10.0.0.0/24 -j MASQUERADE")
    assert rules.apply(RANGES) == {}
    assert rules.written == 3
    assert rules.apply(RANGES, ["10.0.0.80", "fd02::1"]) == {}
    assert tools.restored[3:] == ["iptables", "iptables", "ip6tables", "ip6tables"]
    assert rules.apply(()) == {}
    assert not [line for table in tools.tables.values() for line in table]


def test_the_tool_that_has_our_chains_goes_first(tools: Tools) -> None:
    tools.tables["iptables-legacy", "nat"] = [":PHAROS-L4 - [0:0]"]
    Firewall(run=tools.run).apply(RANGES)
    assert tools.restored == ["iptables-legacy"] * 2


def test_the_next_tool_is_tried_where_one_does_not_work(tools: Tools) -> None:
    tools.missing = {"iptables"}
    tools.broken = {"iptables-nft": "iptables-nft-restore failed: no such table"}
    rules = Firewall(run=tools.run)
    assert rules.apply(RANGES) == {}
    assert rules.apply(RANGES) == {}
    assert tools.restored == ["iptables-legacy"] * 2


def test_what_does_not_work_is_said_once_with_its_effect(tools: Tools, caplog: pytest.LogCaptureFixture) -> None:
    tools.missing = {"iptables", "iptables-nft", "iptables-legacy"}
    rules = Firewall(run=tools.run)
    for _ in range(2):
        assert rules.apply(RANGES) == {4: "no iptables"}
    assert caplog.text.count("don't reach virtual addresses family=IPv4 reason=no iptables") == 1
    tools.broken = {"iptables": "it says so"}
    tools.missing = {"iptables-nft", "iptables-legacy"}
    assert rules.apply(RANGES) == {4: "it says so"}
    tools.broken = {}
    assert rules.apply(RANGES) == {}


def test_nothing_is_said_of_a_family_without_virtual_addresses(tools: Tools) -> None:
    tools.missing = {"ip6tables", "ip6tables-nft", "ip6tables-legacy"}
    assert Firewall(run=tools.run).apply(RANGES) == {}


def test_all_is_removed_with_every_tool(tools: Tools) -> None:
    rules = Firewall(run=tools.run)
    rules.apply(("11.0.0.0/8", "fd11::/64"))
    tools.tables["iptables-legacy", "nat"] = [":PHAROS-L4 - [0:0]", ":DOCKER - [0:0]"]
    tools.missing = {"ip6tables-legacy"}
    rules.remove_all()
    assert [line for table in tools.tables.values() for line in table] == [":DOCKER - [0:0]"]
    tools.tables["ip6tables", "nat"] = [":PHAROS-L4 - [0:0]"]
    tools.broken = {"ip6tables": "busy"}
    with pytest.raises(OSError, match="busy"):
        rules.remove_all()


def test_a_text_that_is_no_network_is_told(tools: Tools) -> None:
    rules = Firewall(run=tools.run)
    said = "'x' does not appear to be an IPv4 or IPv6 network"
    assert rules.apply(["x"]) == {4: said, 6: said}
    assert rules.apply(RANGES) == {}


def test_no_error_of_a_tool_gets_out(tools: Tools) -> None:
    def run(command: Sequence[str], text: str) -> str:
        raise ValueError("embedded null byte")

    assert Firewall(run=run).apply(RANGES) == {4: "embedded null byte"}


def test_fixed_addresses_beyond_the_most_are_told(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (firewall, masquerade):
        monkeypatch.setattr(module, "MOST_FIXED", 2)
    rules = Firewall(run=tools.run)
    fixed = [f"10.0.0.{number}" for number in range(1, 6)] + ["fd00::1"]
    for _ in range(2):
        assert rules.apply(RANGES, fixed) == {4: "3 fixed addresses beyond 2 have no rules"}
        assert rules.left_out == 3
    assert rules.apply(RANGES, fixed[1:]) == {4: "2 fixed addresses beyond 2 have no rules"}
    assert caplog.text.count("firewall rules not set for some virtual addresses") == 1
    assert "family=IPv4 reason=3 fixed addresses beyond 2 have no rules" in caplog.text
    assert rules.apply(RANGES, fixed[:2]) == {}
    assert rules.left_out == 0
    rules.apply(RANGES, fixed)
    assert caplog.text.count("firewall rules not set for some virtual addresses") == 2
    tools.broken = {"iptables": "it says so"}
    assert rules.apply(("12.0.0.0/8",), fixed) == {4: "it says so"}


def test_a_comment_that_is_no_utf_8_hurts_nothing(tools: Tools) -> None:
    comment = rb'-A PREROUTING -m comment --comment "caf\351" -j RETURN'

    def run(command: Sequence[str], text: str) -> str:
        if command[0] == "iptables-save" and command[2] == "nat":
            said = run_program(["printf", comment.decode() + r"\n"], "")
            assert said == comment.decode().replace(r"\351", "\udce9") + "\n"
            return said + tools.run(command, text)
        return tools.run(command, text)

    assert Firewall(run=run).apply(RANGES) == {}
    assert tools.restored == ["iptables", "iptables"]


def test_programs_get_their_input_and_tell_why_they_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = "import sys; sys.stdout.write(sys.stdin.read() * 2)"
    assert run_program([sys.executable, "-c", echo], "ab") == "abab"
    assert run_program(["cat"], "caf\udce9 é\r\n") == "caf\udce9 é\r\n"
    with pytest.raises(OSError, match="failed: it is so"):
        run_program([sys.executable, "-c", "import sys; sys.exit('it is\\n so')"], "")
    with pytest.raises(OSError, match="failed: exit status 3"):
        run_program([sys.executable, "-c", "import sys; sys.exit(3)"], "")
    with pytest.raises(FileNotFoundError):
        run_program(["/no/such/program"], "")
    monkeypatch.setattr(firewall, "TIMEOUT", 0.05)
    with pytest.raises(OSError, match="takes more than"):
        run_program([sys.executable, "-c", "import time; time.sleep(60)"], "")
