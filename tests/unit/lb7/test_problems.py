"""Problems: counted as long as they are there, logged once, told by app."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

import lb7
from lb7.problems import MOST_OF_APP, REASONS, ProblemBook, at_most
from lb7.table import Problem

BAD_PATH = Problem("/a", "path", "HAPROXY_0_PATH: x")
LOST = Problem("/b", "route-conflict", "h/ is served by /a:1")


def test_problems_are_counted_while_they_are_there() -> None:
    book = ProblemBook()
    book.set("one", [BAD_PATH, LOST])
    book.set("two", [LOST])
    assert book.counts == {"path": 1, "route-conflict": 2}
    assert len(book) == 3
    book.set("one", [LOST])
    assert book.counts == {"route-conflict": 2}
    book.set("one", [])
    book.set("two", [])
    assert not book.counts
    assert book.by_app() == {}


def test_each_is_told_once_and_by_app() -> None:
    book = ProblemBook()
    book.set("two", [LOST, LOST])
    book.set("three", [LOST])
    book.set("one", [BAD_PATH])
    assert book.by_app() == {"/a": [BAD_PATH], "/b": [LOST]}
    assert book.counts["route-conflict"] == 2


def test_each_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    book = ProblemBook()
    with caplog.at_level(logging.WARNING, "lb7.problems"):
        for _ in range(3):
            book.set("one", [BAD_PATH])
            book.set("one", [])
        book.set("two", [BAD_PATH, LOST])
    assert book.logged == 2
    assert [record.getMessage() for record in caplog.records] == [
        "not carried out reason=path app='/a' text=HAPROXY_0_PATH: x",
        "not carried out reason=route-conflict app='/b' text=h/ is served by /a:1",
    ]


def test_of_one_app_only_so_many_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    many = [Problem("/a", "path", str(number)) for number in range(MOST_OF_APP + 7)]
    assert at_most([*many, LOST]) == (*many[:MOST_OF_APP], LOST, Problem("/a", "limit", "and 7 more"))
    assert at_most(many[:MOST_OF_APP]) == tuple(many[:MOST_OF_APP])
    book = ProblemBook()
    with caplog.at_level(logging.WARNING, "lb7.problems"):
        book.set("one", many)
        book.set("two", many[::-1])
        book.set("three", [LOST])
    assert book.counts == {"path": 2 * MOST_OF_APP, "limit": 2, "route-conflict": 1}
    assert book.logged == MOST_OF_APP + 1
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == MOST_OF_APP + 2
    assert messages[-2] == "no more is logged of what is not carried out app='/a'"


def test_every_word_that_is_used_is_explained_and_the_other_way_round() -> None:
    texts: set[str] = set()
    for module in Path(lb7.__file__).parent.rglob("*.py"):
        if module.name != "problems.py":
            texts |= {
                node.value
                for node in ast.walk(ast.parse(module.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    assert REASONS.keys() <= texts
