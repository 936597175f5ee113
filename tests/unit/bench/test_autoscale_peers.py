"""The rules of other autoscalers are those of the programs: the recorded calls, and HPA's documented examples."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.autoscale_peers import HpaFormula, MarathonLbAutoscale
from tests.fakes.recorded_scaling import CASES, Case, recorded

FLAGS = {"--samples": "samples", "--cooldown": "cooldown", "--min-instances": "least", "--max-instances": "most"}


def calls(case: Case, args: list[str], intervals: int) -> list[dict[str, Any]]:
    options: dict[str, Any] = {FLAGS[flag]: int(value) for flag, value in zip(args[::2], args[1::2], strict=True)}
    program = MarathonLbAutoscale(case.frontends, **options)
    current, found = case.start, []
    for interval in range(1, intervals + 1):
        for path, number in program.poll(case.rows(interval), {case.app: current}).items():
            found.append({"interval": interval, "path": f"/v2/apps/{path}", "frm": current, "to": number})
            current = number
    return found


def test_every_recording_has_its_load() -> None:
    assert set(CASES) == set(recorded())


@pytest.mark.parametrize("name", CASES)
def test_marathon_lb_autoscale_does_what_it_was_recorded_to_do(name: str) -> None:
    trace = recorded()[name]
    assert calls(CASES[name], trace["args"], trace["intervals"]) == trace["puts"]


def test_hpa_goes_up_at_once_and_down_after_five_minutes() -> None:
    hpa = HpaFormula(target=100, least=1, most=10)
    assert hpa.poll(520, 2, 0) == 6
    assert hpa.poll(520, 6, 5) == 6
    assert hpa.poll(690, 6, 15) == 7
    assert hpa.poll(None, 7, 30) == 7
    assert hpa.poll(100, 7, 45) == 7
    assert hpa.poll(100, 7, 320) == 1
    assert hpa.poll(9999, 1, 400) == 5
