"""The limits of checks."""

from __future__ import annotations

import math

import pytest

from mesos_dns.checked import LONGEST_PATH, check_faults
from mesos_dns.model import VipCheck


@pytest.mark.parametrize(
    "check",
    [
        VipCheck(),
        VipCheck("http", "/up?a=b%20c#d"),
        VipCheck(interval=0.1, timeout=3600.0, fall=1, rise=100),
        VipCheck(path="/" + "x" * (LONGEST_PATH - 1)),
    ],
)
def test_sound(check: VipCheck) -> None:
    assert list(check_faults(check)) == []


@pytest.mark.parametrize(
    ("check", "key"),
    [
        (VipCheck("udp"), "type"),
        (VipCheck("http", ""), "path"),
        (VipCheck("http", "x"), "path"),
        (VipCheck("http", "/a b"), "path"),
        (VipCheck("http", "/a\r\nX: y"), "path"),
        (VipCheck("http", "/a\n"), "path"),
        (VipCheck("http", "/ä"), "path"),
        (VipCheck("http", "/" + "x" * LONGEST_PATH), "path"),
        (VipCheck(interval=0.09), "interval"),
        (VipCheck(interval=math.nan), "interval"),
        (VipCheck(timeout=math.inf), "timeout"),
        (VipCheck(timeout=-1.0), "timeout"),
        (VipCheck(fall=0), "fall"),
        (VipCheck(rise=101), "rise"),
    ],
)
def test_unsound(check: VipCheck, key: str) -> None:
    ((found, text),) = check_faults(check)
    assert found == key
    assert "expected" in text
    assert "got" in text
