"""The options of the resolver's measurement; without an upstream there is nothing to measure, and it says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench import dns_servers, resolver


def test_options_are_those_of_the_size() -> None:
    words = ["--names", "50", "--rounds", "1", "--seconds", "0.5", "--paced-seconds", "2", "--rate", "9"]
    size = resolver.options([*words, "--sample", "3"])["size"]
    assert size == resolver.Size(names=50, rounds=1, seconds=0.5, paced_seconds=2, rate=9, sample=3)
    assert resolver.options([])["size"] == resolver.WHOLE


def test_programs_that_are_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dns_servers, "installed", lambda _: None)
    found: dict[str, Any] = resolver.measure(resolver.Size(names=10))
    packages = ("Debian package knot", "Debian package unbound", "Debian package dnsmasq-base")
    said = capsys.readouterr().err
    for line, package in zip(found["missing"], packages, strict=True):
        assert package in line
        assert line in said
    assert "udp" not in found
