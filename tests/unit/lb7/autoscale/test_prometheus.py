"""Queries give one number, or an error that says what they gave instead."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale import polling, prometheus
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.prometheus import PrometheusProvider, read_result
from lb7.autoscale.samples import Reading
from mesos_dns.config import Duration
from mesos_dns.tls import server_context
from tests.fakes.answering import HOSTILE, Answering
from tests.fakes.scaled import known, nameless, providing, query, scaled_app

PATH = "/api/v1/query"


def answer(kind: str, result: Any, **more: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **more}).encode()


def vector(*values: str) -> bytes:
    return answer("vector", [{"metric": {"job": "x"}, "value": [1.5, value]} for value in values])


@pytest.mark.parametrize(
    ("body", "reading"),
    [
        (answer("scalar", [1435781430.781, "1.5"]), Reading(value=1.5, at=50.0)),
        (vector("3"), Reading(value=3.0, at=50.0)),
        (vector("1e-3"), Reading(value=0.001, at=50.0)),
        (answer("scalar", [1, "2"], warnings=["a store did not answer"]), Reading(value=2.0, at=50.0, partial=True)),
        (answer("scalar", [1, "2"], infos=["metric might not be a counter"]), Reading(value=2.0, at=50.0)),
        (answer("scalar", [1, "2"], warnings=[]), Reading(value=2.0, at=50.0)),
    ],
)
def test_one_number(body: bytes, reading: Reading) -> None:
    assert read_result(body, 50.0) == reading


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (vector(), "no data"),
        (vector("1", "2", "3"), r"3 samples, expected one: use sum\(\)"),
        (vector("NaN"), "NaN, expected a number"),
        (vector("+Inf"), r"\+Inf, expected a number"),
        (answer("scalar", [1, "-Inf"]), "-Inf, expected a number"),
        (vector("x"), "x, expected a number"),
        (vector("1_000"), "1_000, expected a number"),
        (vector("1" * 400), "1{40}, expected a number"),
        (answer("vector", [{"metric": {}, "histogram": [1, {"count": "1"}]}]), r"use histogram_quantile\(\)"),
        (answer("matrix", []), "a range of samples"),
        (answer("string", [1, "7"]), "a string, expected a number"),
        (answer("scalar", [1, 7]), "not an answer of Prometheus"),
        (answer("scalar", "7"), "not an answer of Prometheus"),
        (answer("other", 7), "not an answer of Prometheus"),
        (b'{"status": "success"}', "status 'success'"),
        (b'{"status": "error", "errorType": "timeout", "error": "query timed out"}', "'query timed out'"),
        (b"[]", "not an answer"),
        (b"7", "not an answer"),
        (b"<html>", "not an answer"),
        (b"\xff", "not an answer"),
        (b'{"data": ' + b"[" * 100_000, "not an answer"),
    ],
)
def test_what_is_none(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_result(body, 50.0)


@given(st.text(max_size=10))
def test_a_sample_is_a_finite_number_or_an_error(text: str) -> None:
    try:
        found = read_result(vector(text), 50.0)
    except ValueError:
        return
    assert found.value is not None
    assert abs(found.value) < float("inf")


@pytest.mark.asyncio
async def test_a_query_of_two_apps_is_put_once() -> None:
    async with Answering() as server:
        server.answers[f"/prometheus{PATH}"] = vector("12")
        apps = [scaled_app(name, query('sum(rate(jobs{x="ä & b"}[1m]))')) for name in ("/a", "/b")]
        provider = PrometheusProvider(AutoscaleConfig(prometheus=f"{server.url}/prometheus/"), nameless())
        async with providing(provider, *apps):
            for app in apps:
                found = await known(provider, app)
                assert found.value == 12.0
                assert time.time() - 60 < found.at <= time.time()  # not that of the server's clock
        assert [asked.method for asked in server.asked] == ["GET"]
        asked = parse_qs(urlsplit(server.asked[0].target).query)
        assert asked == {"query": ['sum(rate(jobs{x="ä & b"}[1m]))'], "timeout": ["10s"]}
        assert "Authorization" not in server.asked[0].headers
        assert provider.reads == 1


@pytest.mark.asyncio
async def test_a_long_query_is_posted() -> None:
    async with Answering() as server:
        server.answers[PATH] = vector("1")
        app = scaled_app("/a", query("jobs or " * 1000 + "jobs"))
        provider = PrometheusProvider(AutoscaleConfig(prometheus=server.url), nameless())
        async with providing(provider, app):
            assert (await known(provider, app)).value == 1.0
        assert (server.asked[0].method, server.asked[0].target) == ("POST", PATH)
        assert parse_qs(server.asked[0].body.decode())["query"] == [app.policy.metrics[0].query]


def test_without_a_server_the_setting_is_named() -> None:
    provider = PrometheusProvider(AutoscaleConfig(), nameless())
    app = scaled_app("/a", query("jobs"))
    provider.want({app.key: app})
    assert "[autoscale] prometheus" in provider.reading(app, app.policy.metrics[0], 0.0).error


@pytest.mark.asyncio
async def test_a_query_that_is_wrong_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def evaluate(request: web.Request) -> web.StreamResponse:
        if request.query["query"] == "sum(":
            error = {"status": "error", "errorType": "bad_data", "error": "1:5: parse error"}
            return web.json_response(error, status=400)
        return web.Response(body=vector("1"))

    async with Answering() as server:
        server.answers[PATH] = evaluate
        wrong, right = scaled_app("/a", query("sum(")), scaled_app("/b", query("jobs"))
        provider = PrometheusProvider(AutoscaleConfig(prometheus=server.url), nameless())
        async with providing(provider, wrong, right):
            assert (await known(provider, right)).value == 1.0
            assert "parse error" in (await known(provider, wrong)).error
        assert dict(provider.failures) == {"status": 1}
        assert len(caplog.records) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_answers_are_errors(name: str) -> None:
    async with Answering() as server:
        server.answers[PATH] = HOSTILE[name]
        app = scaled_app("/a", query("jobs"))
        provider = PrometheusProvider(AutoscaleConfig(prometheus=server.url), nameless())
        async with providing(provider, app):
            found = await known(provider, app)
        assert found.value is None
        assert "[autoscale] prometheus, query 'jobs'" in found.error
        assert len(server.asked) == 1


@pytest.mark.asyncio
async def test_a_query_that_hangs_does_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def evaluate(request: web.Request) -> web.StreamResponse:
        if "slow" in request.query["query"]:
            await asyncio.Event().wait()
        return web.Response(body=vector(str(len(server.asked))))

    monkeypatch.setattr(polling, "SHORTEST_INTERVAL", 0.02)
    monkeypatch.setattr(prometheus, "WITHIN", 60.0)  # those that hang do so until the end
    async with Answering() as server:
        server.answers[PATH] = evaluate
        quick = scaled_app("/a", query("jobs"))
        slow = [scaled_app(f"/slow{n}", query(f"slow{n}")) for n in range(30)]
        provider = PrometheusProvider(AutoscaleConfig(prometheus=server.url, interval=Duration(0.02)), nameless())
        async with providing(provider, quick):
            first = await known(provider, quick)
            provider.want({app.key: app for app in (quick, *slow)})
            await known(provider, quick, lambda _: sum("slow" in asked.target for asked in server.asked) >= 8)
            count = len(server.asked)
            found = await known(provider, quick, lambda found: (found.value or 0) > count + 5)
            assert found.value != first.value
            assert sum("slow" in asked.target for asked in server.asked) == 8


@pytest.mark.asyncio
async def test_the_token_and_the_authorities_are_those_of_the_files_as_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(polling, "SHORTEST_INTERVAL", 0.02)
    monkeypatch.setattr(polling, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(prometheus, "KEPT", 0.0)
    authority, token, roots = trustme.CA(), tmp_path / "token", tmp_path / "roots.pem"
    trustme.CA().cert_pem.write_to_path(str(roots))
    own = tmp_path / "own.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    async with Answering(server_context(str(own), "", [])) as server:
        server.answers[PATH] = vector("1")
        app = scaled_app("/a", query("jobs"))
        config = AutoscaleConfig(
            interval=Duration(0.02),
            prometheus=server.url,
            prometheus_token_file=str(token),
            prometheus_ca_file=str(roots),
        )
        provider = PrometheusProvider(config, nameless())
        async with providing(provider, app):
            assert "token" in (await known(provider, app)).error
            token.write_text("s3cret\n")
            await known(provider, app, lambda found: "certificate" in found.error)
            assert not server.asked
            authority.cert_pem.write_to_path(str(roots))
            await known(provider, app, lambda found: found.value == 1.0)
            assert server.asked[-1].headers["Authorization"] == "Bearer s3cret"
            token.write_text("other\n")
            await known(provider, app, lambda _: server.asked[-1].headers["Authorization"] == "Bearer other")
        assert "s3cret" not in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["ftp://h", "http://me:s3cret@127.0.0.1:1", "nowhere", "http://[::1", "http://h:99999"])
async def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    provider = PrometheusProvider(AutoscaleConfig(prometheus=url), nameless())
    app = scaled_app("/a", query("jobs"))
    async with providing(provider, app):
        error = (await known(provider, app)).error
    assert "[autoscale] prometheus" in error
    assert "s3cret" not in error
