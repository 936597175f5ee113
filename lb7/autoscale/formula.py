"""Formulas that combine metrics: numbers, names, + - * / ( ), min and max; nothing else, and little of it.

    formula := term (("+" | "-") term)*
    term    := factor (("*" | "/") factor)*
    factor  := "-" factor | number | name | ("min" | "max") "(" formula ("," formula)* ")" | "(" formula ")"

A name alone is what that metric proposes (instances), `name.value` what was measured, `instances` how many there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec

MOST_CHARACTERS, MOST_PARTS, MOST_DEPTH = 500, 100, 20
"""Of one formula."""

INSTANCES = "instances"
"""The name that every formula may use."""

_TOKEN = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[a-z][a-z0-9_]*(?:\.value)?)|(?P<sign>[-+*/(),]))")

Node = tuple["Node", ...] | str | float
"""("+", left, right) and so on; ("min", …); a name; a number."""

_FUNCTIONS: dict[str, Callable[[list[float]], float]] = {"min": min, "max": max}


class Formula(msgspec.Struct, frozen=True):
    """A formula as it was read."""

    text: str
    tree: Node
    names: frozenset[str]

    def evaluate(self, values: Mapping[str, float]) -> float:
        """Its value. Raises ValueError where there is none: a division by zero, a result that is no number."""
        try:
            result = _evaluate(self.tree, values)
        except ZeroDivisionError:
            raise ValueError("division by zero") from None
        if not math.isfinite(result):
            raise ValueError("too large a number")
        return result


@lru_cache(maxsize=1024)
def read_formula(text: str) -> Formula:
    """Read a formula. Raises ValueError with what was expected, and where."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"expected at most {MOST_CHARACTERS} characters")
    reader = _Reader(text)
    tree = reader.sum(0)
    if reader.word:
        raise reader.expected("an operator or the end")
    return Formula(text, tree, frozenset(reader.names))


def metrics_of(formula: Formula) -> frozenset[str]:
    """The names of metrics that a formula uses."""
    return frozenset(name.removesuffix(".value") for name in formula.names if name != INSTANCES)


def _evaluate(node: Node, values: Mapping[str, float]) -> float:
    if isinstance(node, float):
        return node
    if isinstance(node, str):
        return values[node]
    kind = node[0]
    parts = [_evaluate(part, values) for part in node[1:]]
    if kind == "+":
        return parts[0] + parts[1]
    if kind == "-":
        return parts[0] - parts[1]
    if kind == "*":
        return parts[0] * parts[1]
    if kind == "/":
        return parts[0] / parts[1]
    return _FUNCTIONS[str(kind)](parts)


class _Reader:
    """One token ahead of a recursive descent."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.kind = self.word = ""
        self._text = text.rstrip()
        self._start = self._end = self._parts = 0
        self.advance()

    def advance(self) -> None:
        """Go to the next token; at the end it is empty."""
        self._start = self._end
        if self._end == len(self._text):
            self.kind = self.word = ""
            return
        match = _TOKEN.match(self._text, self._end)
        if match is None:
            self.word = self._text[self._end :].lstrip()[:1]
            raise self.expected("a number, a metric's name, or one of + - * / ( ) ,")
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ValueError(f"expected at most {MOST_PARTS} numbers, names and signs")
        self.kind, self._end = str(match.lastgroup), match.end()
        self.word = match[self.kind]

    def expected(self, what: str) -> ValueError:
        """The error of a token that does not belong."""
        found = repr(self.word) if self.word else "the end"
        return ValueError(f"expected {what} at character {self._start + 1}, got {found}")

    def sum(self, depth: int) -> Node:
        """A formula."""
        if depth > MOST_DEPTH:
            raise ValueError(f"expected at most {MOST_DEPTH} brackets inside each other")
        node = self._product(depth)
        while self.word in {"+", "-"}:
            node = (self._take(), node, self._product(depth))
        return node

    def _product(self, depth: int) -> Node:
        node = self._factor(depth)
        while self.word in {"*", "/"}:
            node = (self._take(), node, self._factor(depth))
        return node

    def _factor(self, depth: int) -> Node:
        if depth > MOST_DEPTH:
            raise ValueError(f"expected at most {MOST_DEPTH} brackets inside each other")
        if self.word == "-":
            self.advance()
            return ("-", 0.0, self._factor(depth + 1))
        if self.kind == "number":
            return float(self._take())
        if self.kind == "name" and self.word in _FUNCTIONS:
            return self._call(depth)
        if self.kind == "name":
            self.names.add(self.word)
            return self._take()
        if self.word != "(":
            raise self.expected("a number, a metric's name or '('")
        self.advance()
        node = self.sum(depth + 1)
        self._close()
        return node

    def _call(self, depth: int) -> Node:
        name = self._take()
        if self.word != "(":
            raise self.expected(f"'(' after {name}")
        self.advance()
        parts = [self.sum(depth + 1)]
        while self.word == ",":
            self.advance()
            parts.append(self.sum(depth + 1))
        self._close()
        return (name, *parts)

    def _close(self) -> None:
        if self.word != ")":
            raise self.expected("')'")
        self.advance()

    def _take(self) -> str:
        token = self.word
        self.advance()
        return token
