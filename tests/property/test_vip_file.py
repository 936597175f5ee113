"""The VIP file over random texts: VIPs survive being written and read, and nothing raises but the file's own error."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lb4.config import SCHEDULERS
from lb4.vip_file import read_vips
from mesos_dns.model import Vip, VipCheck, VipSelector, VipServer
from mesos_dns.toml_tables import Problem, TomlError

labels = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10)
names = st.builds("{}.{}".format, labels, st.text(string.ascii_lowercase, min_size=1, max_size=10))
ports = st.integers(1, 65535)
v4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
v6 = st.ip_addresses(v=6, network="fd00::/16").map(str)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
seconds = st.integers(1, 36_000).map(lambda tenths: tenths / 10)

selectors = st.builds(
    VipSelector,
    texts,
    st.just("") | texts,
    st.dictionaries(texts, texts, max_size=3).map(lambda table: tuple(sorted(table.items()))),
    st.just("") | labels.map("p{}".format) | ports.map(str),
)


@st.composite
def checks(draw: st.DrawFn, protocol: str) -> VipCheck:
    counts = st.integers(1, 100)
    if protocol == "tcp" and draw(st.booleans()):
        path = "/" + draw(st.text(string.ascii_letters + "/?=%", max_size=10))
        return VipCheck("http", path, draw(seconds), draw(seconds), draw(counts), draw(counts))
    return VipCheck("tcp", "/", draw(seconds), draw(seconds), draw(counts), draw(counts))


@st.composite
def vips(draw: st.DrawFn) -> Vip:
    target = draw(names | v4 | v6)
    port = draw(ports)
    protocol = draw(st.sampled_from(["tcp", "udp"]))
    addresses = v6 if ":" in target else v4 if target.replace(".", "").isdigit() else v4 | v6
    places = draw(st.lists(st.tuples(addresses, ports), max_size=4, unique=True))
    upper = draw(st.integers(0, 1000))
    return Vip(
        target,
        port,
        protocol,
        draw(st.just("") | st.sampled_from(SCHEDULERS)),
        draw(st.integers(0, 31 * 86400)),
        upper,
        draw(st.integers(0, upper)),
        draw(st.none() | selectors),
        tuple(VipServer(*place, draw(st.integers(0, 65535))) for place in places if place != (target, port)),
        draw(st.none() | checks(protocol)),
    )


def written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)} = {written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else _basic(value)
    return json.dumps(value)


def _basic(text: str) -> str:
    """A basic string of TOML: what JSON has, but characters beyond 16 bits are one escape."""
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def table_of(vip: Vip) -> dict[str, Any]:
    """A VIP as the file has it."""
    is_address = ":" in vip.target or vip.target.replace(".", "").isdigit()
    table: dict[str, Any] = {"address" if is_address else "name": vip.target, "port": vip.port}
    table |= {"protocol": vip.protocol, "persistence": f"{vip.persistence}s"}
    table |= {"upper_threshold": vip.upper_threshold, "lower_threshold": vip.lower_threshold}
    if vip.scheduler:
        table["scheduler"] = vip.scheduler
    if vip.selector is not None:
        selector = vip.selector
        table["backends"] = {"app": selector.app, "labels": dict(selector.labels)}
        if selector.framework:
            table["backends"]["framework"] = selector.framework
        if selector.port:
            table["backends"]["port"] = int(selector.port) if selector.port.isdigit() else selector.port
    table["servers"] = [{"address": s.address, "port": s.port, "weight": s.weight} for s in vip.servers]
    if vip.check is not None:
        check = vip.check
        table["check"] = {"type": check.type, "interval": check.interval, "timeout": check.timeout}
        table["check"] |= {"fall": check.fall, "rise": check.rise}
        if check.type == "http":
            table["check"]["path"] = check.path
    return table


@given(st.lists(vips(), max_size=4, unique_by=lambda vip: vip.key))
def test_what_is_written_is_read(wanted: list[Vip]) -> None:
    text = f"vip = {written([table_of(vip) for vip in wanted])}"
    assert read_vips(text.encode(), "v") == tuple(wanted)


def outcome(raw: bytes) -> None:
    """VIPs, or the file's own error with one short line for each problem."""
    problems: tuple[Problem, ...] = ()
    try:
        read_vips(raw, "v")
        refused = False
    except TomlError as error:
        problems, refused = error.problems, True
    assert refused == bool(problems)
    assert all(len(problem.text) < 2000 for problem in problems)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(raw: bytes) -> None:
    outcome(raw)
    outcome(b"[[vip]]\n" + raw)


keys = st.sampled_from(
    [
        *("address", "name", "port", "protocol", "scheduler", "persistence", "upper_threshold", "lower_threshold"),
        *("backends", "servers", "check", "app", "framework", "labels", "weight", "type", "path", "interval"),
        *("timeout", "fall", "rise", "vip", ""),
    ]
)
scalars = (
    texts
    | labels
    | names
    | v4
    | v6
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.sampled_from(["tcp", "udp", "http", "wlc", "5s", "0s", "/x", "0.1.2.3", "::", "ff02::1"])
)
values = st.recursive(scalars, lambda part: st.lists(part, max_size=3) | st.dictionaries(keys, part, max_size=5))
tables = st.dictionaries(keys | texts, values, max_size=8)


@given(st.lists(tables, max_size=3))
def test_any_values_of_any_keys(wanted: list[dict[str, Any]]) -> None:
    outcome(f"vip = {written(wanted)}".encode())


@given(tables)
def test_any_document(document: dict[str, Any]) -> None:
    outcome("\n".join(f"{written(key)} = {written(value)}" for key, value in document.items()).encode())


@given(vips(), st.data())
def test_one_odd_value_in_a_good_vip(vip: Vip, data: st.DataObject) -> None:
    table = table_of(vip)
    place = data.draw(st.sampled_from([table, *(part for part in table.values() if isinstance(part, dict))]))
    place[data.draw(st.sampled_from([*place, "odd"]))] = data.draw(values)
    outcome(f"vip = {written([table])}".encode())
