"""Hooks tell one number; which may be asked is for the configuration to say."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale import hooks, polling
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.hooks import HookProvider, read_number
from lb7.autoscale.samples import Reading
from mesos_dns.config import Duration
from tests.fakes.answering import HOSTILE, Answering
from tests.fakes.scaled import hook, known, nameless, providing, scaled_app


@pytest.mark.parametrize(
    ("body", "value", "at"),
    [
        (b'{"value": 12.5}', 12.5, 100.0),
        (b"3", 3.0, 100.0),
        (b' {"value": 0, "at": 40, "unit": "jobs"}\n', 0.0, 40.0),
        (b'{"value": 1e3, "at": null}', 1000.0, 100.0),
        (b'{"value": 1, "at": 99999}', 1.0, 100.0),
    ],
)
def test_numbers(body: bytes, value: float, at: float) -> None:
    assert read_number(body, 100.0) == Reading(value=value, at=at)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"true",
        b"null",
        b'"12"',
        b"[1]",
        b"{}",
        b'{"value": "12"}',
        b'{"value": true}',
        b'{"value": null}',
        b'{"value": NaN}',
        b'{"value": 1} {"value": 2}',
        b'{"value": 1, "at": "now"}',
        b"<html>",
        b'{"value": 1',
        b"\xff",
        b"[" * 50_000,
        b'{"value": ' + b"[" * 50_000,
    ],
)
def test_what_is_no_number(body: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_number(body, 100.0)


@given(st.binary(max_size=40))
def test_anything_else_is_an_error_too(body: bytes) -> None:
    try:
        found = read_number(body, 100.0)
    except ValueError:
        return
    assert found.value is not None
    assert abs(found.value) < float("inf")
    assert found.at <= 100.0


@pytest.mark.asyncio
async def test_a_hook_is_read_without_credentials() -> None:
    async with Answering() as server:
        server.answers["/jobs"] = b'{"value": 4}'
        app = scaled_app("/a", hook(f"{server.url}/jobs?queue=x"))
        provider = HookProvider(AutoscaleConfig(hooks=(server.url,)), nameless())
        async with providing(provider, app):
            found = await known(provider, app)
        assert found.value == 4.0
        assert time.time() - 60 < found.at <= time.time()
        assert {"Authorization", "Cookie"}.isdisjoint(server.asked[0].headers)
        assert (provider.reads, dict(provider.failures)) == (1, {})


@pytest.mark.asyncio
async def test_a_label_cannot_have_us_ask_what_is_not_allowed() -> None:
    async with Answering() as server:
        server.answers |= {"/secret": b"1", "/hooks/a": b"2"}
        refused = scaled_app("/a", hook(f"{server.url}/secret?token=s3cret"))
        odd = scaled_app("/b", hook(f"{server.url}/hooks/../secret"))
        fine = scaled_app("/c", hook(f"{server.url}/hooks/a"))
        provider = HookProvider(AutoscaleConfig(hooks=(f"{server.url}/hooks",)), nameless())
        async with providing(provider, refused, odd, fine):
            assert (await known(provider, fine)).value == 2.0
            error = (await known(provider, refused)).error
            assert "[autoscale] hooks" in error
            assert "s3cret" not in error
            assert "can't be asked" in (await known(provider, odd)).error
        assert server.count("/secret") == 0


@pytest.mark.asyncio
async def test_the_configuration_may_name_any_url_and_that_allows_no_label() -> None:
    async with Answering() as server:
        server.answers["/x"] = b"7"
        ours = scaled_app("/a", hook(f"{server.url}/x"), told_by="config")
        theirs = scaled_app("/b", hook(f"{server.url}/x"))
        provider = HookProvider(AutoscaleConfig(), nameless())
        async with providing(provider, ours, theirs):
            assert (await known(provider, ours)).value == 7.0
            assert "[autoscale] hooks" in (await known(provider, theirs)).error


def test_a_prefix_that_cannot_be_read_allows_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    provider = HookProvider(AutoscaleConfig(hooks=("http://me:s3cret@h.example",)), nameless())
    app = scaled_app("/a", hook("http://h.example/x"))
    assert "[autoscale] hooks" in provider.reading(app, app.policy.metrics[0], 0.0).error
    assert len(caplog.records) == 1
    assert "hooks[0]" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_answers_are_errors(name: str) -> None:
    async with Answering() as server:
        server.answers["/x"] = HOSTILE[name]
        app = scaled_app("/a", hook(f"{server.url}/x"))
        provider = HookProvider(AutoscaleConfig(hooks=(server.url,)), nameless())
        async with providing(provider, app):
            found = await known(provider, app)
        assert found.value is None
        assert f"{server.url}/x" in found.error
        assert len(found.error) < 1000
        assert provider.failures.total() == 1
        assert len(server.asked) == 1


@pytest.mark.asyncio
async def test_hooks_that_hang_do_not_delay_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "SHORTEST_INTERVAL", 0.02)
    monkeypatch.setattr(hooks, "WITHIN", 60.0)  # those that hang do so until the end
    async with Answering() as server, Answering() as hanging:
        hanging.answers = {f"/{n}": None for n in range(40)}
        server.answers["/x"] = b"1"
        app = scaled_app("/a", hook(f"{server.url}/x"))
        others = [scaled_app(f"/hang{n}", hook(f"{hanging.url}/{n}")) for n in range(40)]
        provider = HookProvider(AutoscaleConfig(interval=Duration(0.02), hooks=(server.url, hanging.url)), nameless())
        async with providing(provider, app):
            await known(provider, app)
            provider.want({one.key: one for one in (app, *others)})
            await known(provider, app, lambda _: len(hanging.asked) >= 4)
            server.answers["/x"] = b"2"
            assert (await known(provider, app, lambda found: found.value == 2.0)).error == ""
            assert len(hanging.asked) == 4
