"""Formulas: what they give, what is refused and why, and that nothing large gets in."""

from __future__ import annotations

import pytest

from lb7.autoscale.formula import MOST_DEPTH, metrics_of, read_formula

VALUES = {"rps": 4.0, "queue": 2.0, "rps.value": 380.0, "instances": 3.0}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("8 / 2 / 2", 2),
        ("7 - 2 - 1", 4),
        ("-rps + 6", 2),
        ("2 - -1", 3),
        ("max(rps, queue, 3)", 4),
        ("min(rps, max(queue, 1)) + 0.5", 2.5),
        ("rps.value / 100", 3.8),
        ("instances", 3),
    ],
)
def test_what_formulas_give(text: str, result: float) -> None:
    assert read_formula(text).evaluate(VALUES) == pytest.approx(result)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected a number, a metric's name or '(' at character 1, got the end"),
        ("1 +", "expected a number, a metric's name or '(' at character 4, got the end"),
        ("1 2", "expected an operator or the end at character 2, got '2'"),
        ("(1", "expected ')' at character 3, got the end"),
        ("max 1", "expected '(' after max at character 4, got '1'"),
        ("rps ** 2", "expected a number, a metric's name or '(' at character 6, got '*'"),
        ("__import__('os')", "expected a number, a metric's name, or one of + - * / ( ) , at character 1, got '_'"),
        ("rps.__class__", "expected a number, a metric's name, or one of + - * / ( ) , at character 4, got '.'"),
        ("RPS", "got 'R'"),
        ("1e9", "expected an operator or the end at character 2, got 'e9'"),
        ("(" * (MOST_DEPTH + 2) + "1" + ")" * (MOST_DEPTH + 2), f"expected at most {MOST_DEPTH} brackets"),
        ("-" * (MOST_DEPTH + 2) + "1", f"expected at most {MOST_DEPTH} brackets"),
        ("+".join("1" * 60), "expected at most 100 numbers, names and signs"),
        ("1" * 501, "expected at most 500 characters"),
    ],
)
def test_what_is_refused(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_formula(text)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"), [("1 / (rps - 4)", "division by zero"), ("*".join(["9" * 40] * 12), "too large")]
)
def test_a_result_that_is_none(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_formula(text).evaluate(VALUES)


def test_names_of_metrics() -> None:
    assert metrics_of(read_formula("max(rps.value / 10, queue) + instances")) == {"rps", "queue"}
