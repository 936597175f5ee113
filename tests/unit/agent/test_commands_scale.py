"""`pharos scale` against a real `[admin]` with a decider that does what the test says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent import cli, commands_scale
from lb7.autoscale.outcome import Outcome, Result
from lb7.autoscale.shown import ShownApp
from mesos_dns.coordinate import CoordinatorLost
from tests.fakes.autoscale import FakeAutoscale, admin_of, shown_app

Said = tuple[int, str, str]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_scale, "POLL_SECONDS", 0.01)


async def run(capsys: pytest.CaptureFixture[str], fake: FakeAutoscale | None, *words: str, **config: Any) -> Said:
    """The exit code, and what was printed."""
    async with admin_of(fake, **config) as url:
        code = await asyncio.to_thread(cli.main, ["scale", *words, "--admin", url])
    out, err = capsys.readouterr()
    return code, out, re.sub(r"after \d+ s", "after N s", err)


@pytest.mark.asyncio
async def test_all_apps(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(shown_app(), shown_app("/a", paused=True))
    code, out, err = await run(capsys, fake)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["APP", "/a", "/shop/web"]
    assert "decider  server-1 (the one that was asked)" in out
    code, out, _ = await run(capsys, fake, "--json")
    assert (code, [app["app"] for app in json.loads(out)["apps"]]) == (0, ["/shop/web", "/a"])


@pytest.mark.asyncio
@pytest.mark.parametrize("words", [["/shop/web"], ["shop/web"], ["/shop/web", "explain"]])
async def test_why(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, err = await run(capsys, FakeAutoscale(shown_app()), *words)
    assert (code, err) == (0, "")
    assert out.startswith("/shop/web (marathon of mesos): 5 → 9; up: metrics ask for more\n")
    assert "⌈820 / 100⌉ = 9" in out
    assert " ago) by server-1\n" in out


@pytest.mark.asyncio
async def test_an_app_that_is_not_scaled_though_it_asks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(ShownApp("/bad", problems=("scale-policy: MAX: expected a number",)))
    code, out, _ = await run(capsys, fake, "/bad")
    assert (code, out.splitlines()[0]) == (1, "/bad: not scaled")
    assert "MAX: expected a number" in out


@pytest.mark.asyncio
async def test_pause_and_resume(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(shown_app())
    assert await run(capsys, fake, "shop/web", "pause") == (
        *(0, "/shop/web: paused, until `pharos scale /shop/web resume`\n"),
        "",
    )
    assert await run(capsys, fake, "shop/web", "resume") == (0, "/shop/web: goes on\n", "")
    code, out, _ = await run(capsys, fake, "shop/web", "pause", "--json")
    assert (code, json.loads(out)) == (0, {"app": "/shop/web", "paused": True})
    assert fake.calls == [("pause", "/shop/web", paused) for paused in (True, False, True)]


@pytest.mark.asyncio
async def test_changes(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(shown_app())
    assert await run(capsys, fake, "/shop/web", "7") == (0, "/shop/web: instances 7; deployment d-1\n", "")
    code, out, _ = await run(capsys, fake, "/shop/web", "--cpus", "0.5", "--mem", "512")
    assert (code, out) == (0, "/shop/web: cpus 0.5, mem 512; deployment d-1\n")
    fake.outcome = Outcome("done", "the policy's most is 30: it will be\x1b brought back", 40)
    code, out, _ = await run(capsys, fake, "/shop/web", "40")
    assert (code, out) == (0, "/shop/web: instances 40; the policy's most is 30: it will be� brought back\n")
    code, out, _ = await run(capsys, fake, "/shop/web", "0", "--json")
    assert (code, json.loads(out)["app"], json.loads(out)["result"]) == (0, "/shop/web", "done")
    assert fake.calls == [
        ("set_instances", "/shop/web", 7),
        ("resize", "/shop/web", 0.5, 512.0),
        ("set_instances", "/shop/web", 40),
        ("set_instances", "/shop/web", 0),
    ]


@pytest.mark.asyncio
async def test_a_deployment_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(shown_app())
    lost = CoordinatorLost("zk is away")
    fake.states = iter(("running", "running", lost, lost, "unknown", "running", "finished"))
    code, out, err = await run(capsys, fake, "/shop/web", "7", "--wait")
    assert (code, out) == (0, "/shop/web: instances 7; deployment d-1\n")
    assert err.splitlines() == [
        "deployment d-1 of /shop/web: running",
        "the coordinator can't be reached: zk is away; try again; asking again",
        "deployment d-1 of /shop/web: Marathon does not say how it is; asking again",
        "deployment d-1 of /shop/web: running",
        "deployment d-1 finished after N s",
    ]


@pytest.mark.asyncio
async def test_a_deployment_that_fails_or_takes_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(shown_app())
    fake.state = "failed"
    code, out, err = await run(capsys, fake, "/shop/web", "7", "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (1, "failed")
    assert err == "deployment d-1 failed after N s\n"
    fake.state = "running"
    code, _, err = await run(capsys, fake, "/shop/web", "--mem", "64", "--wait", "--timeout", "0.05")
    assert code == 1
    assert err.endswith("deployment d-1 has not ended after N s; it goes on\n")
    fake.state = LookupError("no such deployment")
    assert await run(capsys, fake, "/shop/web", "7", "--wait") == (
        *(1, "/shop/web: instances 7; deployment d-1\n"),
        "pharos scale: no such deployment\n",
    )


@pytest.mark.asyncio
async def test_a_long_deployment_is_told_of_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_scale, "SAY_SECONDS", 0.0)
    fake = FakeAutoscale(shown_app())
    fake.states = iter(("running", "running"))
    code, _, err = await run(capsys, fake, "/shop/web", "7", "--wait")
    first = "deployment d-1 of /shop/web: running"
    assert (code, err.splitlines()) == (0, [first, f"{first} after N s", "deployment d-1 finished after N s"])


@pytest.mark.asyncio
async def test_nothing_to_wait_for(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale(shown_app())
    fake.outcome = Outcome("done", "has as many", 5)
    assert await run(capsys, fake, "/shop/web", "5", "--wait") == (0, "/shop/web: instances 5; has as many\n", "")


def test_a_pharos_that_goes_away_meanwhile_is_asked_again(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/autoscale/scale"] = (200, {"result": "done", "deployment": "d"})

    class Going(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            if "deployment" in path:
                return (
                    (200, {"state": "finished"}) if len(answers.seen) > 2 else (503, b"503: another one decides next")
                )
            return super().get(path, default)

    answers.paths = Going(answers.paths)
    assert cli.main(["scale", "/web", "2", "--wait", "--admin", answers.url]) == 0
    assert "another one decides next; asking again" in capsys.readouterr().err


@pytest.mark.asyncio
@pytest.mark.parametrize("result", ["changed", "locked", "delayed", "gone", "refused", "unreachable", "uncertain"])
async def test_a_change_that_is_not_made(capsys: pytest.CaptureFixture[str], result: Result) -> None:
    fake = FakeAutoscale(shown_app())
    fake.outcome = Outcome(result, "this is why")
    assert await run(capsys, fake, "/shop/web", "7") == (1, "", f"pharos scale: {result}: this is why\n")


@pytest.mark.asyncio
async def test_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeAutoscale()
    for words in (["/x"], ["/x", "3"], ["/x", "pause"], ["/x", "--cpus", "1"]):
        assert await run(capsys, fake, *words) == (1, "", "pharos scale: no app /x is known\n")
    assert await run(capsys, fake, "marathon-1:/x", "3") == (1, "", "pharos scale: no app marathon-1:/x is known\n")
    fake.fault = ValueError("two apps are /x")
    assert await run(capsys, fake, "/x") == (2, "", "pharos scale: two apps are /x\n")
    code, _, err = await run(capsys, None)
    assert (code, err.startswith("pharos scale: [autoscale] is off here")) == (1, True)


@pytest.mark.asyncio
async def test_the_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim")
    token = str(tmp_path / "token")
    fake = FakeAutoscale(shown_app())
    code, _, err = await run(capsys, fake, "/shop/web", "3", token_file=token)
    assert (code, "--token-file" in err) == (1, True)
    assert (await run(capsys, fake, "/shop/web", "3", "--token-file", token, token_file=token))[0] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/a", "more"], "expected a number of instances, pause, resume or explain, got 'more'"),
        (["/a", "-1"], "-1"),
        (["/a", "1.5"], "got '1.5'"),
        (["/a", "9" * 5000], "expected a number"),
        (["/a", "٣"], "expected a number"),
        (["/a", "--cpus", "0"], "--cpus: expected a number above 0, got 0"),
        (["/a", "--mem", "nan"], "--mem: expected a number above 0, got nan"),
        (["/a", "3", "--cpus", "1"], "--cpus and --mem go with APP alone"),
        (["--cpus", "1"], "--cpus and --mem go with APP alone"),
        (["/a", "--wait"], "--wait goes with a change"),
        (["/a", "3", "--wait", "--timeout", "0"], "--timeout: expected seconds"),
        (["/a", "3", "--admin", "nonsense"], "expected http(s)://HOST:PORT"),
    ],
)
def test_words_that_make_no_sense(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    try:
        code = cli.main(["scale", *words])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/autoscale", [], []),
        ("/v1/autoscale", {"apps": [1]}, []),
        ("/v1/autoscale", {"apps": [{}]}, []),
        ("/v1/autoscale/scale", {"result": "maybe"}, ["/a", "3"]),
        ("/v1/autoscale/scale", 1, ["/a", "3"]),
    ],
)
def test_answers_of_somebody_else(
    answers: Any, capsys: pytest.CaptureFixture[str], path: str, body: Any, words: list[str]
) -> None:
    answers.paths[path] = (200, body)
    assert cli.main(["scale", *words, "--admin", answers.url]) == 1
    assert "is this Pharos?" in capsys.readouterr().err


def test_an_app_that_is_not_among_them(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers.paths["/v1/autoscale?app=%2Fa"] = (200, {"apps": []})
    assert cli.main(["scale", "/a", "--admin", answers.url]) == 1
    assert "'/a' is not scaled" in capsys.readouterr().err
