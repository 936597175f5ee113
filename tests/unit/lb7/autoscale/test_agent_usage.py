"""What containers use, from what a real agent said twice; what can't be known is not taken for nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.agent_usage import Statistics, Usage, Usages, add_container, usage_of, usage_of_task

DATA = Path(__file__).resolve().parents[3] / "data" / "mesos-api"
FRAMEWORK = "56a7fa83-4a40-4149-9036-515fc04f4a04-0000"
WEB = "group_web.instance-6474587c-e6fa-11f1-a2b6-02fc00000001._app.1"
POD = "pod_app.instance-pod_67089fda-e6fa-11f1-a2b6-02fc00000001.front.1"


def recorded(number: int, before: Usages) -> Usages:
    found: Usages = {}
    for element in msgspec.json.decode((DATA / f"agent_statistics_{number}.json").read_bytes(), type=list[msgspec.Raw]):
        add_container(bytes(element), before, found)
    return found


def test_a_real_agent() -> None:
    first = recorded(1, {})
    web = usage_of_task(first, FRAMEWORK, WEB)
    assert web is not None
    assert web.cpu is None
    assert web.memory == pytest.approx(92127232 / 67108864)
    second = recorded(2, first)
    web, pod = usage_of_task(second, FRAMEWORK, WEB), usage_of_task(second, FRAMEWORK, POD)
    assert web is not None
    assert web.cpu == pytest.approx(0.03 / (1795409867.76394 - 1795409863.22163) / 0.2)
    assert pod is not None
    assert pod.cpu == pytest.approx(0.04 / (1795409867.736228 - 1795409863.2063244) / 0.3)
    assert usage_of_task(second, "another-framework", WEB) is None
    assert usage_of_task(second, FRAMEWORK, "another.instance-1._app.1") is None


def test_whose_a_container_is() -> None:
    usage = Usage(0.5, 0.5, 1.0, 1.0)
    for name in ("web.1", "marathon-web.1"):
        assert usage_of_task({("F", name): usage}, "F", "web.1") is usage
    assert usage_of_task({("F", "instance-a_b.1-2"): usage}, "F", "a_b.instance-1-2.side") is usage
    assert usage_of_task({("F", "instance-a_b.1-2"): usage}, "F", "a_b.instance-1-3.side") is None


def element(**told: Any) -> bytes:
    statistics = {"timestamp": 10.0, "cpus_user_time_secs": 1.0, "cpus_soft_limit": 0.5, **told}
    return json.dumps({"executor_id": "e", "framework_id": "F", "source": "web.1", "statistics": statistics}).encode()


def test_the_source_may_name_the_task_and_never_covers_an_executor() -> None:
    found: Usages = {("F", "web.1"): Usage(None, None, 7.0, 1.0)}
    add_container(element(), {}, found)
    assert found["F", "web.1"].seconds == 7.0
    assert found["F", "e"].seconds == 1.0
    found = {}
    add_container(element(), {}, found)
    usage = usage_of_task(found, "F", "web.1")
    assert usage is not None
    assert usage.seconds == 1.0


def test_a_container_without_statistics_is_none() -> None:
    found: Usages = {}
    add_container(b'{"executor_id": "e", "framework_id": "F"}', {}, found)
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        b"7",
        b"{}",
        b'{"executor_id": 1, "framework_id": "F"}',
        element(timestamp="now"),
        element(cpus_user_time_secs=-1),
        element(mem_rss_bytes="1"),
        element(cpus_soft_limit=True),
        element(mem_limit_bytes=-1),
        b'{"executor_id": "e", "framework_id": "F", "statistics": NaN}',
        b"[" * 10_000,
        b"\xff",
    ],
)
def test_what_is_no_container(text: bytes) -> None:
    with pytest.raises(ValueError, match="a container can't be read"):
        add_container(text, {}, {})


BEFORE = Usage(None, None, 10.0, 100.0)


@pytest.mark.parametrize(
    ("told", "cpu"),
    [
        ({"cpus_user_time_secs": 12.0, "cpus_system_time_secs": 3.0, "cpus_soft_limit": 2.0}, 0.25),
        ({"cpus_user_time_secs": 15.0, "cpus_limit": 1.0}, 0.5),
        ({"cpus_user_time_secs": 15.0, "cpus_limit": 4.0, "cpus_soft_limit": 1.0}, 0.5),
        ({"cpus_user_time_secs": 10.0, "cpus_limit": 1.0}, 0.0),
        ({"cpus_user_time_secs": 9.9, "cpus_limit": 1.0}, None),
        ({"cpus_user_time_secs": 15.0}, None),
        ({"cpus_user_time_secs": 15.0, "cpus_soft_limit": 0.0}, None),
        ({"cpus_limit": 1.0}, None),
        ({"cpus_user_time_secs": 1e308, "cpus_limit": 1e-308}, None),
        ({"cpus_user_time_secs": 15.0, "cpus_limit": 1.0, "timestamp": 100.0}, None),
        ({"cpus_user_time_secs": 15.0, "cpus_limit": 1.0, "timestamp": 100.5}, None),
        ({"cpus_user_time_secs": 15.0, "cpus_limit": 1.0, "timestamp": 90.0}, None),
        ({"cpus_user_time_secs": 15.0, "cpus_limit": 1.0, "timestamp": 1000.0}, None),
    ],
)
def test_cpu_is_what_was_used_between_two_reads(told: dict[str, float], cpu: float | None) -> None:
    assert usage_of(Statistics(**{"timestamp": 110.0, **told}), BEFORE).cpu == cpu


@pytest.mark.parametrize(
    ("told", "memory"),
    [
        ({"mem_rss_bytes": 50, "mem_limit_bytes": 100}, 0.5),
        ({"mem_rss_bytes": 50, "mem_limit_bytes": 400, "mem_soft_limit_bytes": 200}, 0.25),
        ({"mem_rss_bytes": 50}, None),
        ({"mem_limit_bytes": 50}, None),
        ({"mem_rss_bytes": 50, "mem_limit_bytes": 0}, None),
    ],
)
def test_memory(told: dict[str, float], memory: float | None) -> None:
    assert usage_of(Statistics(timestamp=1.0, **told), None).memory == memory


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=2, max_size=10))
def test_parts_are_never_negative_nor_odd(reads: list[tuple[float, float]]) -> None:
    before = None
    for at, seconds in reads:
        before = usage_of(Statistics(timestamp=at, cpus_user_time_secs=seconds, cpus_limit=0.1), before)
        assert before.cpu is None or 0 <= before.cpu < float("inf")
