"""URLs, redirects and refusals; the conversation itself is in tests/conversation."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from mesos_dns.config import Duration, MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.marathon_client import MarathonClient, MarathonError, base_url, origin, redirected
from mesos_dns.sources.outgoing import tls_context
from tests.fakes.replay import no_names


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://m.example", "http://m.example:80"),
        ("HTTPS://M.example/", "https://m.example:443"),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("http://[fd00::1]:8080/service/marathon/", "http://[fd00::1]:8080/service/marathon"),
    ],
)
def test_bases(text: str, base: str) -> None:
    assert base_url(text) == base


@pytest.mark.parametrize(
    "text", ["m.example:8080", "ftp://m", "http://", "http://m/?a", "http://m:99999", "http://m#x"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ValueError):
        base_url(text)


@pytest.mark.parametrize("text", ["http://me:s3cret@m.example", "ftp://me:s3cret@m.example"])
def test_a_password_in_a_url_is_refused_and_not_told(text: str) -> None:
    with pytest.raises(ValueError, match="must not hold a password") as error:
        base_url(text)
    assert "s3cret" not in str(error.value)


def test_origin() -> None:
    assert origin("http://m.example:80/service/marathon") == "http://m.example:80"
    assert origin("http://m.example:80") == "http://m.example:80"


BASE = "http://a.example:8080"


@pytest.mark.parametrize(
    ("location", "base"),
    [
        ("http://b.example:8080/v2/events?event_type=x", "http://b.example:8080"),
        ("http://b.example:8080", "http://b.example:8080"),
        ("http://b.example", "http://b.example:80"),
        ("//b.example:8081/v2/events", "http://b.example:8081"),
        ("/other/v2/events", "http://a.example:8080/other"),
        ("https://b.example/service/marathon/v2/events", "https://b.example:443/service/marathon"),
    ],
)
def test_redirects(location: str, base: str) -> None:
    assert redirected(BASE, "/v2/events?plan-format=light", location) == base


@pytest.mark.parametrize(
    "location", ["", "ftp://b/v2/events", "http://b.example/login", "http://u:p@b.example/", "http://"]
)
def test_redirects_to_what_is_no_marathon(location: str) -> None:
    with pytest.raises(MarathonError) as error:
        redirected(BASE, "/v2/events", location)
    assert error.value.kind == "redirect"


def test_no_redirect_leads_out_of_tls() -> None:
    with pytest.raises(MarathonError, match="from https"):
        redirected("https://a.example:443", "/v2/events", "http://a.example/v2/events")


def test_missing_tls_files_are_named() -> None:
    with pytest.raises(OSError, match=r"\[marathon\] ca_file /nowhere"):
        tls_context(MarathonConfig(ca_file="/nowhere"), "marathon")


async def answer(response: dict[str, Any], **settings: Any) -> MarathonError | bytes:
    """What the client makes of one answer."""

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(**response)

    application = web.Application()
    application.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        hosts = Hosts(resolve=no_names)
        async with MarathonClient(MarathonConfig(**settings), [base], hosts, SourceCounters()) as client:
            return (await client.read(base, "/v2/info", limit=1000))[1]
    except MarathonError as error:
        return error
    finally:
        await runner.cleanup()


@pytest.mark.asyncio
async def test_answers() -> None:
    assert await answer({"text": "fine"}) == b"fine"
    gone = b'{"message":"App \'/x\' does not exist"}'
    cases: tuple[tuple[dict[str, Any], str, int, bool], ...] = (
        ({"status": 503}, "status", 503, False),
        ({"status": 401}, "auth", 401, False),
        ({"status": 403}, "auth", 403, False),
        ({"status": 404, "body": gone}, "status", 404, True),
        ({"status": 404, "body": b"<html>does not exist"}, "status", 404, False),
        ({"status": 410, "body": gone}, "status", 410, False),
        ({"status": 204}, "status", 204, False),
        ({"body": b"x" * 2000}, "document", 0, False),
        ({"body": b"x", "headers": {"Content-Encoding": "gzip"}}, "document", 200, False),
        ({"status": 302, "headers": {"Location": "/v2/info"}}, "redirect", 302, False),
        ({"status": 302}, "redirect", 302, False),
    )
    for response, kind, status, missing in cases:
        error = await answer(response)
        assert isinstance(error, MarathonError), response
        assert (error.kind, error.status, error.does_not_exist) == (kind, status, missing), response


@pytest.mark.asyncio
async def test_a_secret_file_that_is_not_there_is_named() -> None:
    error = await answer({"text": "fine"}, auth="token", secret_file="/nowhere")
    assert isinstance(error, MarathonError)
    assert error.kind == "auth"
    assert "[marathon] secret_file /nowhere" in str(error)


@pytest.mark.asyncio
async def test_the_leader_that_is_named() -> None:
    hosts = Hosts(resolve=no_names)
    bodies = ('{"leader":"m2.example:8080"}', "{}", "[]", "<html>")
    found: list[str] = []

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text=bodies[len(found)])

    application = web.Application()
    application.router.add_get("/v2/leader", page)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config = MarathonConfig(connect_timeout=Duration(20))
    async with MarathonClient(config, [base], hosts, SourceCounters()) as client:
        for _ in bodies:
            try:
                found.append(await client.leader(base))
            except MarathonError as error:
                found.append(error.kind)
    await runner.cleanup()
    assert found == ["m2.example:8080", "status", "document", "document"]


class Page:
    """Answers everything with what it was given; `seen`: method, path, body and content type of each request."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, str, bytes, str]] = []
        self.base = ""

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path, await request.read(), request.content_type))
        if not self.answers:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(**self.answers.pop(0))

    async def __aenter__(self) -> Page:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._page)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


CHANGE: dict[str, Any] = {"method": "POST", "body": b'{"ids":[]}', "statuses": frozenset({200, 409})}


def client(base: str) -> MarathonClient:
    return MarathonClient(MarathonConfig(), [base], Hosts(resolve=no_names), SourceCounters())


@pytest.mark.asyncio
async def test_a_change_takes_a_body_and_statuses_that_are_answers_too() -> None:
    async with Page({"text": "{}"}, {"status": 409, "text": "locked"}, {"status": 422}) as page:
        async with client(page.base) as asking:
            answer, body = await asking.read(page.base, "/v2/x", **CHANGE)
            assert (answer.status, body) == (200, b"{}")
            answer, body = await asking.read(page.base, "/v2/x", **CHANGE)
            assert (answer.status, body) == (409, b"locked")
            with pytest.raises(MarathonError) as error:
                await asking.read(page.base, "/v2/x", **CHANGE)
    assert (error.value.status, error.value.unsent) == (422, False)
    assert page.seen == [("POST", "/v2/x", b'{"ids":[]}', "application/json")] * 3


@pytest.mark.asyncio
async def test_a_redirect_takes_the_body_along_unless_it_is_told_to_look_elsewhere() -> None:
    async with Page({"text": "{}"}) as leader:
        moved = {"status": 307, "headers": {"Location": leader.base + "/v2/x"}}
        done = {"status": 303, "headers": {"Location": leader.base + "/v2/x"}}
        async with Page(moved, done) as page, client(page.base) as asking:
            answer, _ = await asking.read(page.base, "/v2/x", **CHANGE)
            assert answer.base == leader.base
            with pytest.raises(MarathonError) as error:
                await asking.read(page.base, "/v2/x", **CHANGE)
    assert (error.value.status, error.value.unsent) == (303, False)
    assert leader.seen == [("POST", "/v2/x", b'{"ids":[]}', "application/json")]


@pytest.mark.asyncio
async def test_what_surely_was_not_sent() -> None:
    elsewhere = {"status": 302, "headers": {"Location": "ftp://login.example/"}}
    async with Page(elsewhere) as page, client(page.base) as asking:
        found = []
        for base in (page.base, page.base, "http://127.0.0.1:1"):
            with pytest.raises(MarathonError) as error:
                await asking.read(base, "/v2/x", **CHANGE)
            found.append((error.value.kind, error.value.unsent))
    assert found == [("redirect", True), ("connect", False), ("connect", True)]


@pytest.mark.asyncio
async def test_a_change_is_sent_once_even_where_a_connection_breaks() -> None:
    async with Page({"text": "{}"}) as page, client(page.base) as asking:
        await asking.read(page.base, "/v2/x")
        with pytest.raises(MarathonError) as error:
            await asking.read(page.base, "/v2/x", **(CHANGE | {"method": "PUT"}))
    assert (error.value.kind, error.value.unsent) == ("connect", False)
    assert [method for method, *_ in page.seen] == ["GET", "PUT"]
