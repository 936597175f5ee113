"""`pharos run` as a resolver before real name servers that are killed, frozen, slow, lying, or send questions back.

Knot and Unbound on machines of their own, over IPv4 and IPv6, by UDP, TCP and TLS. Whatever happens to them, clients
are told what is right, what was right, or that there is an error: never something wrong.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.flags
import dns.rcode
import pytest
import trustme

from mesos_dns.resolver.address import parse_upstream
from tests.system.liars import LIE, WAYS, Liars, liars
from tests.system.resolver_lab import Lab, Program, extended_errors, installed, lab, percentile, quoted, told, until
from tests.system.steady_client import Client, asking

pytestmark = pytest.mark.root

MACHINES = ["node", "near", "far", "knot", "deep", "unbound", "dot", "liar", "loop"]
RIGHT = "192.0.2.3"
"""Of every name below many.test.example."""
LARGE = [f'"{number:03} {"x" * 200}"' for number in range(20)]
"""More than one UDP packet takes."""
RECORDS = (
    f"*.many A {RIGHT}\nlong A 192.0.2.1\nbrief 1 A 192.0.2.2\nrested 1 A 192.0.2.2\n"
    + "".join(f"large TXT {text}\n" for text in LARGE)
    + "".join(f"*.{way}.many A {RIGHT}\n" for way in WAYS)
)
STALE, PROHIBITED, CACHED_ERROR = 3, 18, 13
"""Extended errors (RFC 8914 §4)."""


class Servers:
    """The name servers, all of which know test.example, and what Pharos is told of them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.knot = lab.knot("knot", {"test.example": RECORDS, "contoso.example": "www A 192.0.2.10\nx.a A 192.0.2.11"})
        self.deep = lab.knot("deep", {"a.contoso.example": "x A 192.0.2.20"})
        authority, self.ca = trustme.CA(), folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        certificate, key = authority.issue_cert("dot.test"), folder / "dot.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(key))
        self.unbound = lab.unbound("unbound", local_data(), "test.example")
        tls = f"    interface: {lab.v4('dot')}@853\n    tls-service-key: {key}\n    tls-service-pem: {key}\n"
        self.dot = lab.unbound("dot", tls + local_data(), "test.example")
        self.by_udp, self.by_tcp = lab.v4("knot"), f"tcp://[{lab.v6('unbound')}]"
        self.by_tls, self.by_udp6 = f"tls://{lab.v4('dot')}#dot.test", lab.v6("knot")

    @property
    def programs(self) -> list[Program]:
        """Those that know test.example."""
        return [self.knot, self.unbound, self.dot]

    def resolver(self, *upstreams: str, more: str = "") -> Program:
        """Pharos on the node, for all other machines."""
        listen = quoted([f"{self.lab.v4('node')}:53", f"[{self.lab.v6('node')}]:53"])
        ca = f'upstream_ca_file = "{self.ca}"\n'
        return self.lab.pharos(
            "node", f'[resolver]\nlisten = {listen}\ndevice = ""\nupstreams = {quoted(upstreams)}\n{ca}{more}'
        )

    def back(self) -> None:
        """All are there and go on."""
        for program in self.programs:
            if program.running.poll() is not None:
                program.start()
            program.thaw()

    @contextlib.contextmanager
    def slow_knot(self) -> Iterator[None]:
        """Knot's packets take 300 ms meanwhile; where the kernel can't do that, it is frozen."""
        delay = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "300ms"]
        slowed = shutil.which("tc") is not None and self.lab.succeeds("knot", *delay)
        if not slowed:
            self.knot.freeze()
        try:
            yield
        finally:
            if slowed:
                self.lab.run("knot", "tc", "qdisc", "del", "dev", "eth0", "root")
            self.knot.thaw()

    def only_upstream(self, text: str) -> bool:
        """Whether the node asks this server and no other, as it is written in the configuration."""
        rows = self.lab.status("node")["resolver"]["upstreams"]
        return [row["upstream"] for row in rows] == [parse_upstream(text).label]

    def answered(self, label: str) -> int:
        """How many good answers an upstream gave, by /status."""
        rows = self.lab.status("node")["resolver"]["upstreams"]
        return next(int(row["results"].get("answered", 0)) for row in rows if label in row["upstream"])


def local_data() -> str:
    """test.example in Unbound, by itself: it needs no other server."""
    redirects = ["many", *(f"{way}.many" for way in WAYS)]
    return (
        '    local-zone: "test.example." static\n'
        '    local-data: "test.example. 3600 SOA ns.test.example. root.test.example. 1 3600 600 86400 5"\n'
        '    local-data: "long.test.example. 3600 A 192.0.2.1"\n    local-data: "brief.test.example. 1 A 192.0.2.2"\n'
        '    local-data: "rested.test.example. 1 A 192.0.2.2"\n'
        + "".join(f"    local-data: 'large.test.example. 3600 TXT {text}'\n" for text in LARGE)
        + "".join(
            f'    local-zone: "{name}.test.example." redirect\n    local-data: "{name}.test.example. 3600 A {RIGHT}"\n'
            for name in redirects
        )
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    for program, package in (("knotd", "knot"), ("unbound", "unbound")):
        installed(program, package)
    folder = tmp_path_factory.mktemp("upstreams")
    with lab(MACHINES, folder) as made:
        yield Servers(made, folder)


@pytest.fixture
def node(servers: Servers) -> Iterator[Lab]:
    """The lab, with all servers there again, and Pharos ended, after the test."""
    yield servers.lab
    servers.back()
    for machine in ("knot", "unbound", "dot"):
        servers.lab.until_answers(machine, "test.example", servers.knot)
    servers.lab.end_of("pharos")


def test_others_take_over_from_one_that_is_killed_frozen_or_slow(servers: Servers, node: Lab) -> None:
    servers.resolver(servers.by_udp, servers.by_tcp, servers.by_tls, servers.by_udp6)
    clients = [Client(node, "near", here, "many.test.example", RIGHT) for here in (node.v4("node"), node.v6("node"))]
    one = clients[0]
    with asking(clients):
        one.more()
        servers.knot.kill()
        one.more()
        servers.unbound.freeze()
        one.more()
        assert servers.answered("tls://")
        servers.unbound.thaw()
        servers.dot.freeze()
        before = servers.answered("tcp://")
        one.more()
        assert servers.answered("tcp://") > before
        servers.unbound.kill()
        servers.dot.thaw()
        servers.knot.start()
        one.more()
        servers.unbound.start()
        with servers.slow_knot():
            one.more()
        clients[1].more()
    took = [each for client in clients for each in client.took]
    print(f"questions={len(took)} p50={percentile(took, 0.5):.4f} p99={percentile(took, 0.99):.4f} max={max(took):.3f}")


def test_other_upstreams_by_a_reload(servers: Servers, node: Lab) -> None:
    program = servers.resolver(servers.by_udp)
    config = node.home("node") / "pharos.toml"
    text = config.read_text()
    client = Client(node, "near", node.v4("node"), "many.test.example", RIGHT, patience=2)
    with asking([client]):
        for upstream in (servers.by_tcp, servers.by_tls, servers.by_udp6, servers.by_udp):
            config.write_text(text.replace(f'upstreams = ["{servers.by_udp}"]', f'upstreams = ["{upstream}"]'))
            program.running.send_signal(signal.SIGHUP)
            until(lambda u=upstream: servers.only_upstream(u), f"{upstream} is asked", program.text)  # type: ignore[misc]
            client.more()
    print(f"questions={len(client.took)} asked again={client.again}")


@pytest.mark.parametrize("gone", [Program.kill, Program.freeze])
def test_what_is_kept_is_answered_when_all_are_gone(
    servers: Servers, node: Lab, gone: Callable[[Program], None]
) -> None:
    servers.resolver(servers.by_udp, servers.by_tcp, servers.by_tls, more='failure_ttl = 1\ntimeout = "2s"\n')
    here = node.v4("node")
    assert told(node.ask("near", "long.test.example", here)) == ["192.0.2.1"]
    for name in ("brief", "rested"):
        assert told(node.ask("near", f"{name}.test.example", here)) == ["192.0.2.2"]
    assert told(node.ask("near", "nope.test.example", here)) == ["NXDOMAIN"]
    for program in servers.programs:
        gone(program)
    time.sleep(2)
    for tcp in (False, True):
        long = node.ask("near", "long.test.example", here, tcp=tcp)
        assert (told(long), extended_errors(long)) == (["192.0.2.1"], [])
        brief = node.ask("near", "brief.test.example", here, tcp=tcp)
        assert (told(brief), extended_errors(brief)) == (["192.0.2.2"], [STALE])
        assert 0 < brief.answer[0].ttl <= 30
        assert told(node.ask("near", "nope.test.example", here, tcp=tcp)) == ["NXDOMAIN"]
    unknown = node.ask("near", "a.many.test.example", here)
    assert (told(unknown), bool(unknown.flags & dns.flags.QR)) == (["SERVFAIL"], True)
    assert set(extended_errors(unknown)) & {22, 23}
    servers.back()
    until(lambda: told(node.ask("near", "a.many.test.example", here)) == [RIGHT], "an answer after the outage")

    def once(number: int) -> list[str]:
        return told(node.ask("near", f"p{number % 400}.many.test.example", here, tcp=number % 10 == 0, timeout=20))

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(once, range(500))) == [[RIGHT]] * 500
    assert extended_errors(node.ask("near", "rested.test.example", here)) == []
    if os.environ.get("PHAROS_SOAK"):  # what was given past its time is asked for again after 30 s (RFC 8767 §5)
        until(lambda: not extended_errors(node.ask("near", "brief.test.example", here)), "fresh again", limit=70)


def test_a_lie_is_never_passed_on(servers: Servers, node: Lab) -> None:
    with liars(node.net.space("liar"), node.v4("liar")) as lying:
        zones = "".join(
            f'"{way}.many.test.example" = ["{lying.address(way)}", "{servers.by_udp}"]\n'
            f'"{way}.example" = ["{lying.address(way)}"]\n'
            for way in WAYS
        )
        servers.resolver(servers.by_udp, more=f'timeout = "3s"\n[resolver.zones]\n{zones}')
        with ThreadPoolExecutor(len(WAYS)) as pool:
            wrong = [text for found in pool.map(lambda way: _lied_to(node, lying, way), WAYS) for text in found]
    assert wrong == []


def _lied_to(node: Lab, lying: Liars, way: str) -> list[str]:
    """What went wrong with names that a liar is asked for, beside an honest server and alone."""
    wrong = []
    for number in range(20):
        said = told(node.ask("near", f"n{number}.{way}.many.test.example", node.v4("node"), timeout=20))
        if said != [RIGHT]:
            wrong.append(f"{way} beside another: {said}")
    for tcp in (False, True):
        alone = node.ask("near", f"alone.{way}.example", node.v4("node"), tcp=tcp, timeout=20)
        if told(alone) != ["SERVFAIL"] or LIE in alone.to_text():
            wrong.append(f"{way} alone: {told(alone)}")
    if lying.asked[way, "udp"] < 2:
        wrong.append(f"{way}: not asked")
    return wrong


def test_the_longest_suffix_has_the_servers(servers: Servers, node: Lab) -> None:
    zones = f'"contoso.example" = ["{node.v4("knot")}"]\n"a.contoso.example" = ["tcp://{node.v4("deep")}"]\n'
    servers.resolver(servers.by_tls, more=f"[resolver.zones]\n{zones}")
    here = node.v4("node")
    assert told(node.ask("near", "www.contoso.example", here)) == ["192.0.2.10"]
    assert told(node.ask("near", "X.A.Contoso.Example", here)) == ["192.0.2.20"]
    assert told(node.ask("near", "xa.contoso.example", here)) == ["NXDOMAIN"]
    assert told(node.ask("near", "q.many.test.example", here)) == [RIGHT]
    assert told(node.ask("near", "www.contoso.example", node.v6("node"), tcp=True)) == ["192.0.2.10"]


@pytest.mark.parametrize("forwarder", ["dnsmasq", "unbound"])
def test_an_upstream_that_asks_us_back_is_left_out(servers: Servers, node: Lab, forwarder: str) -> None:
    here = node.v4("node")
    if forwarder == "dnsmasq":
        command = [installed("dnsmasq", "dnsmasq-base"), "--keep-in-foreground", "--no-resolv", "--no-hosts"]
        own = [f"--server={here}", "--user=root", f"--pid-file={node.home('loop')}/pid"]
        node.start("loop", "dnsmasq", [*command, *own])
    else:
        node.unbound("loop", f'forward-zone:\n    name: "."\n    forward-addr: {here}\n', "localhost")
    servers.resolver(node.v4("loop"), servers.by_udp)

    def looping() -> list[str]:
        return [row["upstream"] for row in node.status("node")["resolver"]["upstreams"] if row["looping"]]

    until(lambda: looping() == [f"{node.v4('loop')}:53"], "found to be looping", lambda: str(node.status("node")))
    for number in range(20):
        assert told(node.ask("near", f"{forwarder}{number}.many.test.example", here)) == [RIGHT]
    # Through the one that loops: we answer what it forwards to us.
    assert told(node.ask("near", f"{forwarder}.many.test.example", node.v4("loop"))) == [RIGHT]
    node.end_of(forwarder, "loop")


def test_only_clients_that_are_allowed_are_answered(servers: Servers, node: Lab) -> None:
    servers.resolver(servers.by_udp, more=f'allow = ["{node.v4("near")}", "{node.v6("near")}/128"]\n')
    for here in (node.v4("node"), node.v6("node")):
        for tcp in (False, True):
            # Twice: the second answer may be the workers' own.
            for name, right in 2 * (("c.many.test.example", [RIGHT]), ("ready.spartan", ["127.0.0.1"])):
                assert told(node.ask("near", name, here, tcp=tcp)) == right, (name, here, tcp)
                refused = node.ask("far", name, here, tcp=tcp)
                assert (told(refused), extended_errors(refused)) == (["REFUSED"], [PROHIBITED]), (name, here, tcp)
            refused = node.ask("far", "leader.mesos", here, tcp=tcp)
            assert (told(refused), extended_errors(refused)) == (["REFUSED"], [PROHIBITED])


def test_its_own_addresses_on_the_machine(servers: Servers, node: Lab) -> None:
    before = _addresses(node)
    program = node.pharos("node", f'[resolver]\nupstreams = ["{servers.by_udp}", "{servers.by_tcp}"]\n')
    three = {f"198.51.100.{number}" for number in (1, 2, 3)}
    assert _addresses(node) == before | three
    for address in sorted(three):
        assert told(node.ask("node", "o.many.test.example", address)) == [RIGHT]
    dig = [installed("dig", "bind9-dnsutils"), "+short", "+tries=1", "@198.51.100.2", "o2.many.test.example"]
    assert node.run("node", *dig).split() == [RIGHT]
    large = node.run("node", installed("kdig", "knot-dnsutils"), "+short", "@198.51.100.3", "large.test.example", "TXT")
    assert large.count("x" * 200) == 20
    device = node.status("node")["resolver"]["addresses"]["device"]
    node.run("node", "ip", "address", "del", "198.51.100.2/32", "dev", device)
    until(lambda: _addresses(node) == before | three, "the address is back")
    assert node.run("node", *dig).split() == [RIGHT]
    assert program.stop() == 0
    assert _addresses(node) == before


def _addresses(node: Lab) -> set[str]:
    """The IPv4 addresses of the node."""
    lines = node.run("node", "ip", "-o", "-4", "address", "show").splitlines()
    return {line.split()[3].partition("/")[0] for line in lines}


def test_real_clients(servers: Servers, node: Lab) -> None:
    servers.resolver(servers.by_tls, servers.by_udp6)
    for here in (node.v4("node"), node.v6("node")):
        for client, package, words in (
            ("dig", "bind9-dnsutils", ["+short", "+tcp"]),
            ("dig", "bind9-dnsutils", ["+short", "+notcp", "+nocookie"]),
            ("kdig", "knot-dnsutils", ["+short", "+tcp"]),
            ("kdig", "knot-dnsutils", ["+short", "+dnssec"]),
        ):
            command = [installed(client, package), *words, f"@{here}", "long.test.example", "A"]
            try:
                assert node.run("near", *command).split() == ["192.0.2.1"], command
            except subprocess.CalledProcessError as error:
                pytest.fail(f"{command}: {error}")
