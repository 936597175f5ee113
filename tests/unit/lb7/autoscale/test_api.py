"""/v1/autoscale over a real listener: what it tells, what it takes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from lb7.autoscale.api import MAX_BODY, STATUS, Autoscale, foreign
from lb7.autoscale.outcome import Outcome, Result
from mesos_dns.coordinate import CoordinatorLost
from tests.fakes.autoscale import FakeAutoscale, admin_of, shown_app

pytestmark = pytest.mark.asyncio

Answer = tuple[int, str]


async def ask(url: str, path: str = "", body: Any = None, **headers: str) -> Answer:
    """GET, or POST where there is a body: bytes as they are, else as JSON. `Content_Type` is a header."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    async with aiohttp.ClientSession() as session:
        method = "GET" if data is None else "POST"
        async with session.request(method, f"{url}/v1/autoscale{path}", data=data, headers=sent) as response:
            return response.status, await response.text()


async def test_what_is_scaled() -> None:
    async with admin_of(FakeAutoscale(shown_app(), shown_app("/other"))) as url:
        status, body = await ask(url)
        told = json.loads(body)
        assert (status, told["leading"], told["decider"]) == (200, True, "server-1")
        assert [app["app"] for app in told["apps"]] == ["/shop/web", "/other"]
        status, body = await ask(url, "?app=/shop/web")
        (app,) = json.loads(body)["apps"]
        assert (app["decision"]["instances"], app["policy"]["max"]) == (9, 30)
        assert app["decision"]["proposals"][0]["text"] == "⌈820 / 100⌉ = 9"
        assert await ask(url, "?app=/none") == (404, "404: no app /none is known")


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_it_is_what_shown_is_as_json(count: int) -> None:
    fake = FakeAutoscale(*(shown_app(f"/{number}") for number in range(count)))
    fake.edges = ({"url": "http://e:8123", "apps": []},)
    async with admin_of(fake) as url:
        _, body = await ask(url)
    assert body.encode() == msgspec.json.encode(await fake.shown())


async def test_pause_and_resume() -> None:
    fake = FakeAutoscale(shown_app())
    async with admin_of(fake) as url:
        for path, paused in (("/pause", True), ("/resume", False)):
            status, body = await ask(url, path, {"app": "/shop/web"})
            assert (status, json.loads(body)) == (200, {"app": "/shop/web", "paused": paused})
            assert fake.apps["/shop/web"].paused is paused


async def test_scale_and_resize() -> None:
    fake = FakeAutoscale(shown_app())
    async with admin_of(fake) as url:
        status, body = await ask(url, "/scale", {"app": "/shop/web", "instances": 7})
        assert status == 200
        assert json.loads(body) == {
            **{"result": "done", "text": "", "instances": 7},
            **{"deployment": "d-1", "retry_after": 0.0},
        }
        assert (await ask(url, "/resize", {"app": "/shop/web", "mem": 512}))[0] == 200
        assert (await ask(url, "/resize", {"app": "/shop/web", "cpus": 0.5, "mem": 512}))[0] == 200
        status, body = await ask(url, "/deployment?app=/shop/web&id=d-1")
        assert json.loads(body) == {"app": "/shop/web", "deployment": "d-1", "state": "finished"}
        assert (await ask(url, "/deployment?app=/shop/web"))[0] == 400
    assert fake.calls == [
        ("set_instances", "/shop/web", 7),
        ("resize", "/shop/web", None, 512.0),
        ("resize", "/shop/web", 0.5, 512.0),
        ("deployment", "/shop/web", "d-1"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/pause", {}, "400: expected a JSON object: Object missing required field `app`"),
        ("/pause", {"app": ""}, "400: expected a JSON object: Expected `str` of length >= 1"),
        ("/pause", {"app": "/a", "for": 3}, "400: expected a JSON object: Object contains unknown field `for`"),
        ("/pause", [], "400: expected a JSON object: "),
        ("/pause", b"\xff", "400: expected a JSON object: "),
        ("/pause", b"[" * 60_000, "400: expected a JSON object: "),
        ("/scale", {"app": "/a", "instances": -1}, "400: expected a JSON object: Expected `int` >= 0"),
        ("/scale", {"app": "/a", "instances": 100_001}, "400: expected a JSON object: Expected `int` <= 100000"),
        ("/scale", {"app": "/a", "instances": "7"}, "400: expected a JSON object: Expected `int`, got `str`"),
        ("/scale", {"app": "/a"}, "400: expected a JSON object: Object missing required field `instances`"),
        ("/resize", {"app": "/a"}, "400: expected a JSON object: expected cpus, mem or both"),
        ("/resize", {"app": "/a", "cpus": 0}, "400: expected a JSON object: Expected `float` > 0"),
        ("/resize", b'{"app": "/a", "mem": 1e999}', "400: expected a JSON object: "),
        ("/scale", b" " * (MAX_BODY + 1), "413: expected at most 65536 bytes"),
    ],
)
async def test_a_question_that_is_none(path: str, body: Any, expected: str) -> None:
    fake = FakeAutoscale(shown_app("/a"))
    async with admin_of(fake) as url:
        status, text = await ask(url, path, body)
    assert text.startswith(expected)
    assert text.startswith(f"{status}: ")
    assert not fake.calls


@pytest.mark.parametrize("result", get_args(Result))
async def test_what_became_of_a_change(result: Result) -> None:
    fake = FakeAutoscale(shown_app())
    fake.outcome = Outcome(result, "this is why", retry_after=12.4)
    async with admin_of(fake) as url, aiohttp.ClientSession() as session:
        question = {"app": "/shop/web", "instances": 3}
        async with session.post(f"{url}/v1/autoscale/scale", json=question) as response:
            assert response.status == STATUS[result]
            if result != "done":
                assert await response.text() == f"{STATUS[result]}: {result}: this is why"
                assert response.headers["Retry-After"] == "12"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (LookupError("no app /x"), (404, "404: no app /x")),
        (KeyError("no app /x"), (404, "404: no app /x")),
        (ValueError("two apps\nare /x"), (400, "400: two apps?are /x")),
        (CoordinatorLost("zk"), (503, "503: the coordinator can't be reached: zk; try again")),
        (ConnectionRefusedError(111, "refused"), (503, "503: refused")),
        (ConnectionError("nothing was changed: zk"), (503, "503: nothing was changed: zk")),
        (TimeoutError(), (503, "503: no answer in time: try again")),
    ],
)
async def test_what_can_not_be_done(fault: Exception, expected: Answer) -> None:
    fake = FakeAutoscale(shown_app())
    fake.fault = fault
    async with admin_of(fake) as url:
        assert await ask(url, "?app=/shop/web") == expected
        assert await ask(url, "/pause", {"app": "/shop/web"}) == expected
        assert await ask(url, "/scale", {"app": "/shop/web", "instances": 3}) == expected


async def test_without_the_section() -> None:
    async with admin_of(None) as url:
        for path, body in (("", None), ("/deployment?app=/a&id=b", None), ("/pause", {"app": "/a"})):
            status, text = await ask(url, path, body)
            assert status == 404
            assert text.startswith("404: [autoscale] is off here")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://{host}"}, 403),
        ({"Origin": "http://{host}"}, 200),
        ({"Origin": "http://{host}", "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://localhost:1", "Host": "localhost:1"}, 200),
        ({"Origin": "http://rebound.example:1", "Host": "rebound.example:1"}, 403),
        ({"Origin": "http://[::1", "Host": "[::1"}, 403),
    ],
)
async def test_pages_of_others_can_do_nothing(headers: dict[str, str], status: int) -> None:
    fake = FakeAutoscale(shown_app())
    async with admin_of(fake) as url:
        sent = {name: text.replace("{host}", url.removeprefix("http://")) for name, text in headers.items()}
        found, text = await ask(url, "/pause", {"app": "/shop/web"}, **sent)
    assert found == status, text
    assert len(fake.calls) == (status == 200)


async def test_the_token_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    fake: Autoscale = FakeAutoscale(shown_app())
    async with admin_of(fake, token_file=str(tmp_path / "token")) as url:
        for path, body in (("", None), ("/pause", {"app": "/shop/web"})):
            assert (await ask(url, path, body))[0] == 401
            assert (await ask(url, path, body, Authorization="Bearer geheim"))[0] == 200


async def test_it_is_json_or_nothing() -> None:
    async with admin_of(FakeAutoscale(shown_app())) as url:
        assert (await ask(url, "", Accept="text/html"))[0] == 406


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "refused"),
    [
        ("https", "pharos.example", "https://pharos.example", False),  # no certificate is that of a name that was moved
        ("http", "pharos.example", "http://pharos.example", True),
        ("https", "pharos.example", "http://pharos.example", True),
        ("http", "127.0.0.1:8124", "http://127.0.0.1:8124", False),
        ("http", "[::1]:8124", "http://[::1]:8124", False),
        ("http", "LOCALHOST:8124", "http://localhost:8124", False),
        ("http", "127.0.0.1.evil.example", "http://127.0.0.1.evil.example", True),
        ("http", "", "http://", True),
    ],
)
async def test_which_pages_are_ours(scheme: str, host: str, origin: str, refused: bool) -> None:
    request = make_mocked_request("POST", "/", headers={"Host": host, "Origin": origin})
    assert bool(foreign(request.clone(scheme=scheme))) is refused
