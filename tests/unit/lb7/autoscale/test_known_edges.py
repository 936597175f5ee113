"""Which edges there are, and for how long one that is gone is counted on."""

from __future__ import annotations

import logging

import pytest

from lb7.autoscale.known_edges import GRACE, MOST, KnownEdges, read_entry


def entry(url: str) -> bytes:
    return b'{"url":"%s"}' % url.encode()


def test_those_of_the_configuration_and_of_the_coordinator() -> None:
    known = KnownEdges(["http://a", "https://b:1/"], heard=False)
    assert not known.heard
    assert known.urls == ["http://a:8123", "https://b:1"]
    known.told({"edges/x": entry("http://c:8123"), "edges/y": entry("http://a")}, 0.0)
    assert known.heard
    assert known.urls == ["http://a:8123", "https://b:1", "http://c:8123"]


def test_who_named_it() -> None:
    known = KnownEdges(["http://a:1"], heard=False)
    known.told({"edges/x": entry("http://a:1"), "edges/y": entry("http://b:1")}, 0.0)
    assert known.urls == ["http://a:1", "http://b:1"]
    assert [known.is_named(url) for url in known.urls] == [True, False]


def test_one_that_vanishes_is_counted_on_for_a_while() -> None:
    known = KnownEdges([], heard=True)
    known.told({"edges/x": entry("http://c")}, 0.0)
    known.told({}, 5.0)
    known.look(5.0 + GRACE - 0.1)
    assert known.urls == ["http://c:8123"]
    known.look(5.0 + GRACE)
    assert known.urls == []


def test_one_that_starts_again_was_never_gone() -> None:
    known = KnownEdges([], heard=True)
    known.told({"edges/x": entry("http://c")}, 0.0)
    known.told({}, 5.0)
    known.told({"edges/other": entry("http://c")}, 6.0)
    known.look(100.0)
    assert known.urls == ["http://c:8123"]


def test_those_of_the_configuration_stay() -> None:
    known = KnownEdges(["http://c"], heard=True)
    known.told({"edges/x": entry("http://c")}, 0.0)
    known.told({}, 5.0)
    known.look(100.0)
    assert known.urls == ["http://c:8123"]


def test_what_can_not_be_read_is_known_to_be_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    known = KnownEdges(["ftp://x"], heard=True)
    assert list(known.unreadable) == ["ftp://x"]
    for _ in range(2):
        known.told({"edges/x": b"{", "edges/y": entry("http://c")}, 0.0)
    assert known.urls == ["http://c:8123"]
    assert set(known.unreadable) == {"ftp://x", "edges/x"}
    assert len(caplog.records) == 1
    known.told({"edges/y": entry("http://c")}, 0.0)
    assert set(known.unreadable) == {"ftp://x"}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{}",
        b'{"url":5}',
        b"\xff",
        b"[" * 2000,
        entry("c:1"),
        entry("http://user:secret@c"),
        entry("http://c/?x"),
        entry("http://" + "c" * 5000),
        entry("http://\u00e4"),
        entry("http://a\x00b"),
        entry("http://a b"),
    ],
)
def test_what_is_no_entry(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        read_entry(value)
    assert "secret" not in str(error.value)


def test_they_are_limited() -> None:
    known = KnownEdges([], heard=True)
    known.told({f"edges/{n}": entry(f"http://c{n}") for n in range(MOST + 2)}, 0.0)
    assert (len(known.urls), known.left_out) == (MOST, 2)
