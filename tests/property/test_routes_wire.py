"""rtnetlink's messages: what is written is read again, and no octets do more than raise ValueError."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb4 import routes_wire as wire
from lb4.netlink import pack_attr

ADDRESSES = st.ip_addresses().map(str)


@given(ADDRESSES, st.integers(1, 2**31 - 1), st.booleans(), st.data())
def test_routes_are_read_as_they_were_written(address: str, device: int, has_source: bool, data: st.DataObject) -> None:
    is_six = ":" in address
    source = str(data.draw(st.ip_addresses(v=6 if is_six else 4))) if has_source else ""
    payload = wire.add_route(address, device, source)
    assert wire.is_ours(payload)
    length = 128 if is_six else 32
    assert wire.parse_route(payload) == wire.Route(address, length, 255, 80, 2, (device,), source)


@pytest.mark.parametrize("parse", [wire.parse_route, wire.parse_link, wire.parse_address])
@given(octets=st.binary(max_size=200), whole=st.booleans())
def test_any_octets_are_an_answer_or_a_value_error(parse: object, octets: bytes, whole: bool) -> None:
    assert callable(parse)
    if whole:  # attributes whose lengths fit get further
        octets = bytes(16) + pack_attr(octets[0] if octets else 9, octets)
    with contextlib.suppress(ValueError):
        parse(octets)
