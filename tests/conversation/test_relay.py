"""Servers and followers of /v1/watch over real sockets: syncs, deltas, fail-over, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from agent import http
from mesos_dns import watch_session
from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import Key, StaticRecords, Sync, Task
from mesos_dns.sources import relay, relay_link, relay_session
from mesos_dns.watch_journal import Journal
from mesos_dns.watch_whole import Turns
from mesos_dns.watch_wire import bucket_of, encode
from tests.fakes.relaying import Relaying, Scripted, Serving, cluster, free_port, hello, node, task

pytestmark = pytest.mark.asyncio


def key_of(number: int) -> Key:
    return ("task", "mesos", "F0", f"web.{number}")


async def until(condition: Any, limit: float = 20.0) -> None:
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.005)


# --- syncs and deltas -------------------------------------------------------------------------------


async def test_a_full_sync_and_each_change_after_it() -> None:
    async with Serving(*cluster(1200)) as server, Relaying(server.url) as follower:
        await follower.equals(server)
        assert follower.status.connected
        assert server.watch.counters.began == {"full": 1}
        follower.changed()
        server.put(task(1, "TASK_FAILED"), node(10))
        server.drop(key_of(2))
        await follower.equals(server)
        assert follower.changed() == {key_of(1), key_of(2), node(10).key}
        assert follower.source.counters.events["delta"] >= 2


async def test_nodes_come_before_their_tasks_and_go_after_them() -> None:
    async with Serving(*cluster(0)) as server, Relaying(server.url) as follower:
        await follower.equals(server)
        follower.changed()
        moved = Task("F0", "moved", "moved", "S77", "TASK_RUNNING")
        server.put(moved, node(77))
        server.catalog.flush()
        messages = [server.watch.journal.get(n) or b"" for n in range(1, server.watch.journal.head + 1)]
        assert [json.loads(m)["kind"] for m in messages] == ["node", "task"]
        await follower.equals(server)
        server.drop(node(77).key, moved.key)
        server.catalog.flush()
        messages = [server.watch.journal.get(n) or b"" for n in range(3, server.watch.journal.head + 1)]
        assert [(json.loads(m)["kind"], json.loads(m)["drop"]) for m in messages] == [
            ("task", [list(moved.key)]),
            ("node", [list(node(77).key)]),
        ]
        await follower.equals(server)


async def test_changes_during_a_sync_are_never_undone() -> None:
    """While the whole is on its way every key changes several times; nothing ever goes back."""
    async with Serving(*cluster(5000)) as server, Relaying(server.url) as follower:
        states: dict[Key, list[str]] = {}

        def note(delta: Delta) -> None:
            for key, (_, after) in delta.changes.items():
                states.setdefault(key, []).append(after.state if isinstance(after, Task) else "")

        follower.catalog.listen(note)
        for step in range(40):
            server.put(*(task(n, f"STEP_{step:03}") for n in range(0, 5000, 50)))
            await asyncio.sleep(0.002)
        await follower.equals(server)
        for number in range(0, 5000, 50):
            seen = states[key_of(number)]
            assert [s for s in seen if s.startswith("STEP")] == sorted(s for s in seen if s.startswith("STEP"))
            assert seen[-1] == "STEP_039"


async def test_a_cut_connection_is_resumed_without_telling_anything_twice() -> None:
    async with Serving(*cluster(100)) as server, Relaying(server.url) as follower:
        await follower.equals(server)
        follower.changed()
        for number in range(5):
            sent = server.watch.counters.messages
            server.watch.dismiss()
            server.put(task(number, "TASK_LOST"))
            await follower.equals(server)
            await until(lambda n=number: server.watch.counters.began["resume"] == n + 1)
            await follower.until(lambda: follower.status.connected)
            assert server.watch.counters.messages - sent <= 2  # a hello and the change
        assert follower.changed() == {key_of(n) for n in range(5)}
        assert server.watch.counters.began == {"full": 1, "resume": 5}


async def test_a_restarted_server_is_asked_for_what_differs_only() -> None:
    async with Serving(*cluster(500)) as server, Relaying(server.url) as follower:
        await follower.equals(server)
        follower.changed()
        await server.stop()
        await follower.until(lambda: not follower.status.connected)
        assert len(follower.said()) == 511  # what was said stays
        server.put(task(7, "TASK_FAILED"))
        server.drop(key_of(8))
        await server.restart()
        await follower.equals(server)
        assert follower.changed() == {key_of(7), key_of(8)}
        assert server.watch.counters.began == {"digests": 1}


async def test_what_a_process_saved_is_compared_by_digests_and_cleared_of_what_is_gone() -> None:
    async with Serving(*cluster(300)) as server:
        follower = Relaying(server.url)
        follower.catalog.publish("relay", Sync((*cluster(299), task(4000), node(99))))
        follower.changed()
        async with follower:
            await follower.equals(server)
            assert follower.changed() == {key_of(299), key_of(4000), node(99).key}
        assert server.watch.counters.began == {"digests": 1}


async def test_a_fail_over_moves_the_changed_buckets_only() -> None:
    """20,000 tasks, 3 changes while no server was there: nothing but their buckets goes over the line."""
    async with Serving(*cluster(20_000)) as first, Serving(*cluster(20_000)) as second:
        async with Relaying(first.url, second.url) as follower:
            await follower.equals(first)
            whole = first.watch.counters.octets
            follower.changed()
            changes = [task(n, "TASK_FAILED") for n in (1, 5000, 19_000)]
            second.put(*changes)
            second.catalog.flush()
            await first.stop()
            await follower.equals(second)
            assert follower.changed() == {change.key for change in changes}
            assert second.watch.counters.began == {"digests": 1}
            buckets = {bucket_of(change.key) for change in changes}
            inside = sum(len(encode(e)) + 1 for e in second.catalog.entities() if bucket_of(e.key) in buckets)
            assert inside < whole / 100
            assert second.watch.counters.octets < inside + 2000


async def test_followers_that_come_together_share_what_was_encoded() -> None:
    async with Serving(*cluster(50)) as server:
        followers = [Relaying(server.url) for _ in range(10)]
        for follower in followers:
            await follower.start()
        for follower in followers:
            await follower.equals(server)
        server.put(task(3, "TASK_FAILED"))
        for follower in followers:
            await follower.equals(server)
        assert server.watch.counters.deltas == 1
        assert server.watch.counters.now == 10
        for follower in followers:
            await follower.stop()
        await until(lambda: server.watch.counters.now == 0)
        assert server.watch.counters.ended == {"gone": 10}


# --- which server -----------------------------------------------------------------------------------


async def test_a_lost_server_is_replaced_by_another_and_what_was_said_stays() -> None:
    async with Serving(*cluster(20)) as first, Serving(*cluster(20)) as second:
        async with Relaying(first.url, second.url) as follower:
            await follower.equals(first)
            follower.changed()
            await first.stop()
            await until(lambda: second.watch.counters.now == 1)
            await follower.until(lambda: follower.status.connected)
            assert follower.changed() == set()
            assert follower.source.server == second.url
            await second.stop()
            await follower.until(lambda: not follower.status.connected)
            assert len(follower.said()) == 31
            await first.restart()
            await follower.until(lambda: follower.status.connected)
            assert follower.changed() == set()


async def test_a_server_in_sync_is_preferred_to_one_that_is_not() -> None:
    async with Serving(*cluster(5)) as late, Serving(*cluster(6)) as fresh:
        late.stale_since = time.time() - 5
        async with Relaying(late.url, fresh.url) as follower:
            await follower.equals(fresh)
            assert follower.status.connected
            assert late.watch.counters.began == {}


async def test_when_all_are_out_of_date_the_newest_is_followed_and_said_to_be_stale() -> None:
    async with Serving(*cluster(5)) as older, Serving(*cluster(6)) as newer:
        older.stale_since, newer.stale_since = time.time() - 4000, time.time() - 200
        async with Relaying(older.url, newer.url) as follower:
            await follower.equals(newer)
            assert not follower.status.connected
            assert follower.status.stale
            assert "out of date" in follower.status.detail
            assert abs(follower.source.as_of - newer.stale_since) < 1
            newer.stale_since = 0.0
            await follower.until(lambda: follower.status.connected)
            assert time.time() - follower.source.as_of < 60


async def test_a_server_that_knows_less_than_is_known_here_is_not_followed() -> None:
    async with Serving(*cluster(5)) as late:
        late.stale_since = time.time() - 500
        follower = Relaying(late.url, as_of=time.time() - 300)
        follower.catalog.publish("relay", Sync(cluster(9)))
        async with follower:
            await follower.until(lambda: follower.source.counters.errors["stale"] >= 3)
            assert len(follower.said()) == 20
            assert not follower.status.connected
            late.stale_since = time.time() - 330  # within what clocks may differ
            await follower.equals(late)


async def test_a_source_that_is_lost_everywhere_does_not_keep_a_node_from_the_others() -> None:
    lost = time.time() - 3600
    async with Serving(*cluster(5)) as server:
        server.stale_since, server.sources = lost, {"mesos": None, "serversets": lost}
        right = {"mesos": time.time() - 900, "serversets": lost}
        follower = Relaying(server.url, as_of=time.time() - 900, right=right)
        follower.catalog.publish("relay", Sync(cluster(9)))
        async with follower:
            await follower.equals(server)
            assert follower.source.counters.errors == {}
            assert follower.status.stale
            assert follower.source.right["mesos"] > time.time() - 60
            assert follower.source.sources == {"mesos": None, "serversets": pytest.approx(lost, abs=5)}
            server.put(task(7))
            await follower.equals(server)


async def test_a_server_that_never_read_a_file_is_not_followed_by_those_who_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = StaticRecords("www.corp.example.", 1, 300, (bytes(4),), "corp.example.")
    async with Serving(*cluster(5), records) as good, Serving(*cluster(6)) as poor:
        good.sources = {"mesos": None, "file": None}
        poor.sources = {"mesos": None, "file": 0.0}
        async with Relaying(poor.url, good.url) as follower:
            await follower.equals(good)
            await good.stop()
            await follower.until(lambda: follower.source.counters.errors["stale"] >= 3)
            assert records.key in follower.said()
            await good.restart()
            await follower.until(lambda: follower.status.connected and follower.source.server == good.url)
            monkeypatch.setattr(relay, "LATE_MOST", 0.1)  # in the end it is better than nobody
            await good.stop()
            await follower.equals(poor)
            assert follower.status.connected
            assert "which has lost file" in follower.status.detail
        async with Relaying(poor.url) as new:  # nor does it matter to one that knows nothing
            await new.equals(poor)
            assert new.source.counters.errors == {}


async def test_those_who_wait_to_be_told_everything_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.05)
    monkeypatch.setattr(relay_session, "PROGRESS", 0.2)
    async with Serving(*cluster(50)) as server, Relaying(server.url) as waiting:
        await waiting.equals(server)
        await server.stop()
        server.watch = server.new_watch()
        server.watch.turns = Turns(0)
        await server.start()
        server.put(task(7, "TASK_LOST"))
        await waiting.until(lambda: waiting.source.counters.events["wait"] >= 8)
        assert server.watch.counters.began == {"digests": 1}
        assert not server.watch.counters.ended
        server.watch.turns._most = 1
        await waiting.equals(server)


async def test_a_server_that_stays_out_of_date_is_left_for_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.2)
    monkeypatch.setattr(watch_session, "BEAT", 0.05)
    async with Serving(*cluster(5)) as first, Serving(*cluster(5)) as second:
        second.stale_since = time.time() - 100
        follower = Relaying(first.url, second.url)
        follower.source._patience = 0.2
        async with follower:
            await follower.equals(first)
            first.stale_since = time.time()
            await follower.until(lambda: follower.status.stale)
            await follower.until(lambda: second.watch.counters.ended)  # it was looked at
            second.stale_since = 0.0
            await follower.until(lambda: follower.source.server == second.url and follower.status.connected)


async def test_a_server_that_knows_nothing_says_so_and_the_node_keeps_its_names() -> None:
    async with Serving() as empty:
        empty.known = False
        follower = Relaying(empty.url)
        follower.catalog.publish("relay", Sync(cluster(9)))
        async with follower:
            await follower.until(lambda: follower.source.counters.errors["status"] >= 2)
            assert len(follower.said()) == 20
            assert "503" in follower.status.detail
            async with aiohttp.ClientSession() as session, session.get(f"{empty.url}/v1/watch") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert empty.watch.counters.refused["unknown"] >= 3


async def test_servers_in_a_chain_and_their_standing() -> None:
    async with Serving(*cluster(40)) as top:
        middle_follower = Relaying(top.url)
        middle = Serving(catalog=middle_follower.catalog, upstream=middle_follower.source)
        async with middle_follower, middle, Relaying(middle.url) as bottom:
            await middle_follower.equals(top)
            await bottom.equals(top)
            top.put(task(3, "TASK_FAILED"))
            await bottom.equals(top)
            await bottom.until(lambda: bottom.source.via == (middle.watch.epoch, top.watch.epoch))


async def test_a_server_that_follows_us_is_not_followed() -> None:
    """Two that follow each other: what one of them says is its own word of before."""
    one_catalog, two_catalog = Catalog(), Catalog()
    port = free_port()
    one_follower = Relaying(f"http://127.0.0.1:{port}", catalog=one_catalog)
    one = Serving(*cluster(3), catalog=one_catalog, upstream=one_follower.source)
    one_follower.source._own_epoch = one.watch.epoch
    two_follower = Relaying(one.url, catalog=two_catalog)
    two = Serving(catalog=two_catalog, upstream=two_follower.source)
    two.port = port
    two._api = type(two._api)(listen=(f"127.0.0.1:{port}",))
    two_follower.source._own_epoch = two.watch.epoch
    async with one, two, one_follower, two_follower:
        ends = [one_follower.source.counters.errors, two_follower.source.counters.errors]
        await until(lambda: any(errors["circle"] for errors in ends))
        await until(lambda: one.watch.counters.now + two.watch.counters.now <= 1)
    async with one:
        itself = Relaying(one.url, own_epoch=one.watch.epoch)
        async with itself:
            await itself.until(lambda: itself.source.counters.errors["circle"])
            assert not itself.said()


# --- access -----------------------------------------------------------------------------------------


async def test_a_wrong_token_is_told_once_and_the_others_are_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good").write_text("right-0123\n")
    (tmp_path / "own").write_text("wrong-0123\n")
    caplog.set_level(logging.INFO, "mesos_dns.sources.relay")
    async with Serving(*cluster(3), token_file=str(tmp_path / "good")) as guarded, Serving(*cluster(3)) as open_one:
        await open_one.stop()
        async with Relaying(guarded.url, open_one.url, token_file=str(tmp_path / "own")) as follower:
            await follower.until(lambda: follower.source.counters.errors["auth"] >= 5)
            assert not follower.said()
            complaints = [record for record in caplog.records if "401" in record.getMessage()]
            assert len(complaints) == 1
            await open_one.restart()
            await follower.equals(open_one)
            await open_one.stop()
            (tmp_path / "own").write_text("right-0123\n")
            await follower.until(lambda: follower.status.connected and follower.source.server == guarded.url)
            (tmp_path / "own").unlink()
            guarded.watch.dismiss()
            await until(lambda: guarded.watch.counters.began["resume"] == 1)  # the last good token holds
    assert "wrong-0123" not in caplog.text
    assert "right-0123" not in caplog.text


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    await asyncio.to_thread(_write_certificates, ca, other, tmp_path)
    files: dict[str, Any] = {"cert_file": str(tmp_path / "server.pem"), "key_file": str(tmp_path / "server.key")}
    own: dict[str, Any] = {"cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key")}
    async with Serving(*cluster(3), client_ca_file=str(tmp_path / "ca.pem"), **files) as server:
        assert server.url.startswith("https:")
        async with Relaying(server.url, ca_file=str(tmp_path / "ca.pem"), **own) as follower:
            await follower.equals(server)
        async with Relaying(server.url, ca_file=str(tmp_path / "other.pem"), **own) as stranger:
            await stranger.until(lambda: stranger.source.counters.errors["tls"] >= 2)
            assert not stranger.said()
        async with Relaying(server.url, ca_file=str(tmp_path / "ca.pem")) as nobody:
            await nobody.until(lambda: sum(nobody.source.counters.errors.values()) >= 2)
            assert not nobody.said()
        async with Relaying(server.url, tls_verify=False, **own) as careless:
            await careless.equals(server)
        async with Relaying(server.url, ca_file=str(tmp_path / "none.pem")) as broken:
            await broken.until(lambda: broken.source.counters.errors["tls"] >= 2)
            assert "none.pem" in broken.status.detail


def _write_certificates(ca: trustme.CA, other: trustme.CA, folder: Path) -> None:
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    for name in ("server", "client"):
        issued = ca.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")


async def test_a_redirect_is_refused_as_the_token_is_not_for_others(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(text="hello")

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    app = web.Application()
    app.add_routes([web.get("/v1/watch", redirect), web.get("/elsewhere", elsewhere)])
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with Relaying(f"http://127.0.0.1:{port}", token_file=str(tmp_path / "token")) as follower:
        await follower.until(lambda: follower.source.counters.errors["redirect"] >= 2)
    assert not seen
    await runner.cleanup()


async def test_pages_of_a_browser_are_refused() -> None:
    async with Serving(*cluster(3)) as server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{server.url}/v1/watch", origin="https://evil.example.com")
        assert caught.value.status == 403
        assert server.watch.counters.refused == {"origin": 1}


# --- servers that break -----------------------------------------------------------------------------


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with Serving(*cluster(3)) as good:
        async with Relaying(f"http://127.0.0.1:{port}", good.url, connect_timeout=0.2) as follower:
            await follower.equals(good)
            assert follower.source.counters.errors["connect"] >= 1
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("words", [[], [hello()]], ids=["no hello", "nothing more"])
async def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(relay_link, "SILENCE", 0.3)
    monkeypatch.setattr(watch_session, "BEAT", 0.05)

    async def falls_silent(socket: web.WebSocketResponse) -> None:
        for word in words:
            await socket.send_str(word)
        await socket.receive()
        await socket.receive()

    async with Scripted(falls_silent) as mute, Serving(*cluster(3)) as good:
        async with Relaying(mute.url, good.url, connect_timeout=0.5) as follower:
            await follower.equals(good)
            assert follower.source.counters.errors["stall"] >= 1


E = "aaaaaaaaaaaaaaaa"
SYNCED = json.dumps({"v": f"{E}.0", "synced": True, "buckets": list(range(1024))})


def delta(number: int, **fields: Any) -> str:
    return json.dumps({"v": f"{E}.{number}", "kind": "node", "put": [], "drop": [], **fields})


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        [json.dumps({"v": f"{E}.0", "stale": 0})],
        [hello(via=["x"] * 17)],
        [hello(as_of=-1)],
        [hello(v="E.1")],
        [hello(resume=True)],
        [hello(), "["],
        [hello(), hello()],
        [hello(), delta(0, v="bbbbbbbbbbbbbbbb.1")],
        [hello(), SYNCED, delta(2)],
        [hello(), SYNCED, SYNCED],
        [hello(), SYNCED, delta(0, buckets=[1])],
        [hello(), SYNCED, delta(1, put={"a": 1})],
        [hello(), delta(0, buckets=[1024])],
        [hello(), b"binary"],
    ],
    ids=lambda words: str(words)[:60],
)
async def test_what_is_no_message_ends_the_connection_and_drops_nothing(words: list[str | bytes]) -> None:
    broken_again = 0

    async def script(socket: web.WebSocketResponse) -> None:
        nonlocal broken_again
        broken_again += 1
        for word in words:
            await (socket.send_bytes(word) if isinstance(word, bytes) else socket.send_str(word))
        while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE):
            pass

    async with Scripted(script) as broken:
        follower = Relaying(broken.url, connect_timeout=0.5)
        if SYNCED not in words:
            follower.catalog.publish("relay", Sync(cluster(9)))
        before = dict(follower.said())
        async with follower:
            await follower.until(lambda: broken_again >= 3)
            assert follower.said() == before
            assert sum(follower.source.counters.errors.values()) >= 2
            assert not any("since=" in path for path in broken.asked)


async def test_what_a_newer_server_says_is_passed_over_and_bad_entities_are_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = {"id": "S1", "hostname": "a1", "addresses": ["10.0.0.1"], "rack": 7}
    bad: list[Any] = [{"id": "S2"}, {"id": "S3", "hostname": "x", "addresses": ["010.0.0.1"]}, 7]
    words = [
        hello(news={"a": 1}),
        json.dumps({"v": f"{E}.0", "kind": "galaxy", "put": [{"x": 1}], "buckets": [1]}),
        json.dumps({"v": f"{E}.0", "kind": "node", "put": [good, *bad], "buckets": list(range(1024))}),
        SYNCED,
        delta(1, kind="galaxy", put=[1, 2], drop=[["galaxy", "x"]]),
        json.dumps({"v": f"{E}.1", "weather": "fine"}),
        delta(2, drop=[["task", "mesos", "F", "T"], []], put=[bad[1], {**good, "id": "S4"}]),
    ]

    async def script(socket: web.WebSocketResponse) -> None:
        for word in words:
            await socket.send_str(word)
        while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE):
            pass

    async with Scripted(script) as newer, Relaying(newer.url) as follower:
        await follower.until(lambda: ("node", "mesos", "S4") in follower.said())
        assert set(follower.said()) == {("node", "mesos", "S1"), ("node", "mesos", "S4")}
        assert follower.source.counters.skipped_entities == 4
        assert sum("left out" in record.getMessage() for record in caplog.records) == 3  # each bad thing once
        assert follower.source.counters.errors == {}


async def test_a_bad_entity_in_a_sync_does_not_take_away_the_good_one_of_before() -> None:
    words = [
        hello(),
        json.dumps({"v": f"{E}.0", "kind": "node", "put": [{"id": "S1"}], "buckets": [bucket_of(node(1).key)]}),
        SYNCED,
    ]

    async def script(socket: web.WebSocketResponse) -> None:
        for word in words:
            await socket.send_str(word)
        while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE):
            pass

    async with Scripted(script) as server:
        follower = Relaying(server.url)
        follower.catalog.publish("relay", Sync((node(1), task(1))))
        async with follower:
            await follower.until(lambda: follower.status.connected)
            assert set(follower.said()) == {node(1).key}


async def test_a_server_that_dies_within_a_sync_leaves_what_was_known_and_what_came() -> None:
    came = {"id": "S5", "hostname": "a5", "addresses": ["10.0.0.5"]}

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(hello())
        await socket.send_str(json.dumps({"v": f"{E}.0", "kind": "node", "put": [came], "buckets": [1]}))
        await socket.close()

    async with Scripted(script) as dying:
        follower = Relaying(dying.url)
        follower.catalog.publish("relay", Sync(cluster(9)))
        async with follower:
            await follower.until(lambda: len(dying.asked) >= 3)
            assert len(follower.said()) == 20
            assert dying.asked[0] == dying.asked[-1] == "/v1/watch"  # no position to go on from


# --- followers that break ---------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def client(server: Serving, **settings: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{server.url}/v1/watch", **settings) as socket:
            yield socket


async def test_a_follower_that_shows_no_life_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.05)
    monkeypatch.setattr(watch_session, "SILENCE", 0.3)
    async with Serving(*cluster(3)) as server, client(server, autoping=False) as dead:
        await dead.receive()
        await dead.send_str('{"full":true}')
        await until(lambda: server.watch.counters.ended)
        assert server.watch.counters.ended == {"silent": 1}
        assert server.watch.counters.now == 0
        async with Relaying(server.url) as alive:
            await alive.equals(server)
            await asyncio.sleep(0.6)
            assert server.watch.counters.now == 1


async def test_a_follower_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "STALL", 0.3)
    async with Serving(*cluster(20_000)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.watch.counters.ended)
        assert server.watch.counters.ended == {"stalled": 1}
        writer.close()


async def test_a_follower_that_falls_out_of_the_journal_comes_back_by_digests() -> None:
    async with (
        Serving(*cluster(10), journal=lambda: Journal(octets=20_000)) as server,
        Relaying(server.url) as follower,
    ):
        await follower.equals(server)
        sessions = list(server.watch._sessions)
        assert len(sessions) == 1
        server.put(*(task(n) for n in range(1000)))  # at once: more than the journal holds
        server.catalog.flush()
        for n in range(1000, 1100):
            server.put(task(n))
            server.catalog.flush()
        await follower.equals(server)
        assert server.watch.counters.ended == {"slow": 1}
        assert server.watch.counters.began == {"full": 1, "digests": 1}
        assert server.watch.journal.octets <= 20_000


@pytest.mark.parametrize("word", ["x", '{"digests":"AAAA"}', '{"digests":"%%"}', "[]", b"binary", "9" * 20_000])
async def test_an_answer_that_is_none_ends_the_session(word: str | bytes) -> None:
    async with Serving(*cluster(3)) as server, client(server) as odd:
        await odd.receive()
        await (odd.send_bytes(word) if isinstance(word, bytes) else odd.send_str(word))
        await until(lambda: server.watch.counters.ended)
        assert server.watch.counters.ended == {"malformed": 1}


async def test_followers_are_limited_in_number() -> None:
    async with Serving(*cluster(3)) as server:
        server.watch.most_followers = 2
        async with client(server), client(server):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with client(server):
                    pass
            assert caught.value.status == 503
            assert server.watch.counters.refused == {"limit": 1}
        await until(lambda: server.watch.counters.now == 0)
        async with client(server):
            pass


async def test_following_has_no_end_and_does_not_use_up_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    async with Serving(*cluster(3)) as server:
        followers = [Relaying(server.url) for _ in range(5)]
        for follower in followers:
            await follower.start()
            await follower.equals(server)
        await asyncio.sleep(0.6)
        assert server.watch.counters.now == 5
        assert not server.watch.counters.ended
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/livez") as answer:
            assert answer.status == 200
        for follower in followers:
            await follower.stop()


async def test_a_server_that_ends_sends_its_followers_to_others_at_once() -> None:
    async with Serving(*cluster(3)) as first, Serving(*cluster(3)) as second:
        async with Relaying(first.url, second.url) as follower:
            await follower.equals(first)
            assert first.http is not None
            first.http.drain()  # the socket is still open, as it is while other requests end
            await until(lambda: second.watch.counters.now == 1)
            assert first.watch.counters.ended == {"dismissed": 1}
            async with aiohttp.ClientSession() as session, session.get(f"{first.url}/v1/watch") as answer:
                assert answer.status == 503
            assert first.watch.counters.refused == {"draining": 1}


# --- tools ------------------------------------------------------------------------------------------


async def test_lines_of_json_with_curl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.2)
    async with Serving(*cluster(3)) as server:
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sN", f"{server.url}/v1/watch", stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert curl.stdout is not None

        async def line() -> dict[str, Any]:
            async with asyncio.timeout(20):
                assert curl.stdout is not None
                read: dict[str, Any] = json.loads(await curl.stdout.readline())
                return read

        first = await line()
        assert (first["hello"], first["resume"], first["via"]) == (1, False, [server.watch.epoch])
        put: list[Any] = []
        while not (word := await line()).get("synced"):
            put += word.get("put", [])
        assert len(put) == 14
        assert word["buckets"] == list(range(1024))
        server.put(task(1, "TASK_FAILED"))
        while "kind" not in (word := await line()):
            assert word["stale"] == 0
        assert (word["kind"], word["put"][0]["state"], word["drop"]) == ("task", "TASK_FAILED", [])
        position = word["v"]
        server.drop(key_of(1))
        while "kind" not in (word := await line()):
            pass
        assert word["drop"] == [list(key_of(1))]
        curl.terminate()
        await curl.wait()
        await until(lambda: server.watch.counters.ended)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{server.url}/v1/watch", params={"since": position}) as answer:
                assert json.loads(await answer.content.readline())["resume"]
                assert json.loads(await answer.content.readline())["drop"] == [list(key_of(1))]
