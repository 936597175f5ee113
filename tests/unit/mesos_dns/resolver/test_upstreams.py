"""The resolver's upstream side as the resolver sees it: zones, answers, replaced upstreams, loops, status."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
import trustme

from mesos_dns.names import A
from mesos_dns.resolver.address import UpstreamAddress, parse_upstream
from mesos_dns.resolver.reading import Read, read_reply
from mesos_dns.resolver.upstreams import NoAnswer, Reply, Upstreams, client_tls
from mesos_dns.wire import name_to_wire
from tests.fakes.upstreams import (
    Answering,
    Step,
    address_in,
    failing,
    found,
    right,
    saying,
    silent,
    until,
    upstream,
    wire_question,
)

pytestmark = pytest.mark.asyncio

DEAD = parse_upstream("192.0.2.1")


class Never(random.Random):
    """No upstream is tried beside the one that is asked."""

    def random(self) -> float:
        return 1.0


class Always(random.Random):
    """Another upstream is tried beside each question."""

    def random(self) -> float:
        return 0.0


@asynccontextmanager
async def upstreams(
    default: Sequence[UpstreamAddress], zones: Mapping[str, Sequence[UpstreamAddress]] | None = None, **settings: Any
) -> AsyncIterator[Upstreams]:
    made = Upstreams(default, zones or {}, **{"timeout": 5.0, "tls": None, "dice": Never(), **settings})
    try:
        yield made
    finally:
        await made.close()


async def ask(made: Upstreams, name: str, read: Callable[[bytes], object] | None = None, **flags: bool) -> Reply:
    question = wire_question(name)
    asked = {"dnssec_ok": False, "checking_disabled": False, **flags}
    return await made.ask(question[:-4].lower(), question, read=read, **asked)


async def ask_and_read(made: Upstreams, name: str) -> Reply:
    return await ask(made, name, lambda packet: read_reply(packet, name_to_wire(name), A))


def with_records(*records: bytes, rcode: int = 0) -> Answering:
    """Replies with these answer records."""

    def answering(question: bytes, _: str) -> Sequence[Step]:
        end = question.index(b"\0", 12) + 5
        header = question[:2] + bytes((0x81, 0x80 | rcode)) + b"\0\1" + len(records).to_bytes(2, "big") + bytes(4)
        return [header + question[12:end] + b"".join(records)]

    return answering


A_RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x42"
BROKEN = {
    "a pointer to itself": with_records(b"\xc0\x1b" + A_RECORD[2:]),
    "five octets of address": with_records(A_RECORD[:10] + b"\0\5\xc0\0\2\x42\0"),
    "records of what does not exist": with_records(A_RECORD, rcode=3),
    "aliases in a circle": with_records(b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c"),
}
"""What looks like an answer, until it is read; the names that are asked for have 10 octets (a.example)."""


async def test_the_longest_suffix_wins() -> None:
    zones = {"contoso.com": [DEAD], "Eu.Contoso.com.": [DEAD], "com": [DEAD], "other.example": []}
    async with upstreams([DEAD], zones) as made:
        for name, zone in {
            "contoso.com": "contoso.com",
            "xa.contoso.com": "contoso.com",
            "acontoso.com": "com",
            "a.eu.contoso.com": "eu.contoso.com",
            "eu.contoso.com": "eu.contoso.com",
            "xeu.contoso.com": "contoso.com",
            "com": "com",
            "example": ".",
            "contoso.com.example": ".",
            "a.other.example": "other.example",
            "": ".",
        }.items():
            assert made.route(name_to_wire(name)) == zone, name
        # A label that has the octets of a zone's name in it is no label border.
        assert made.route(b"\x0dx\x07contoso\x03com\0") == "."


async def test_without_zones_everything_is_of_the_root() -> None:
    async with upstreams([DEAD]) as made:
        assert made.route(name_to_wire("a.example")) == "."


@pytest.mark.parametrize("zones", [{".": [DEAD]}, {"": [DEAD]}, {"a.example": [DEAD], "A.example.": [DEAD]}])
async def test_zones_that_can_not_be(zones: dict[str, list[UpstreamAddress]]) -> None:
    with pytest.raises(ValueError):
        Upstreams([DEAD], zones, timeout=1.0, tls=None)


async def test_tls_needs_its_settings() -> None:
    with pytest.raises(ValueError):
        Upstreams([parse_upstream("tls://192.0.2.1")], {}, timeout=1.0, tls=None)


async def test_a_zone_has_its_own_servers() -> None:
    async with upstream(saying("192.0.2.1")) as world, upstream(saying("192.0.2.2")) as corp:
        async with upstreams([world.address()], {"corp.example": [corp.address()]}) as made:
            reply = await ask(made, "a.corp.example")
            assert (address_in(reply.packet), reply.upstream) == ("192.0.2.2", corp.address().label)
            assert reply.seconds > 0
            assert address_in((await ask(made, "a.example")).packet) == "192.0.2.1"
        assert (world.names, corp.names) == (["a.example."], ["a.corp.example."])


async def test_flags_are_passed_on_and_nothing_else() -> None:
    async with upstream() as server, upstreams([server.address()]) as made:
        await ask(made, "a.example", dnssec_ok=True, checking_disabled=True)
        await ask(made, "a.example")
        first, second = (dns.message.from_wire(question) for _, question in server.seen)
        assert (first.flags, first.ednsflags) == (dns.flags.RD | dns.flags.CD, dns.flags.DO)
        assert (second.flags, second.ednsflags, second.options) == (dns.flags.RD, 0, ())


@pytest.mark.parametrize("zones", [{}, {"corp.example": []}])
async def test_no_upstream(zones: dict[str, list[UpstreamAddress]]) -> None:
    async with upstreams([], zones) as made:
        with pytest.raises(NoAnswer) as caught:
            await ask(made, "a.corp.example")
        assert (caught.value.reason, caught.value.packet, caught.value.upstream) == ("no-upstream", None, "")


async def test_our_own_address_is_never_asked(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream() as server:
        own = [("127.0.0.1", server.port)]
        with caplog.at_level(logging.WARNING):
            async with upstreams([server.address("tcp")], own=own) as made:
                made.replace_default([server.address("tcp")])
                with pytest.raises(NoAnswer) as caught:
                    await ask(made, "a.example")
                assert made.status()[0].own
        assert caught.value.reason == "no-upstream"
        assert not server.seen
        assert len(caplog.records) == 1


async def test_the_one_that_answers_is_preferred() -> None:
    async with upstream(silent) as bad, upstream() as good, upstreams([bad.address(), good.address()]) as made:
        for _ in range(20):
            await ask(made, "a.example")
        assert len(good.seen) == 20
        assert len(bad.seen) < 5


@pytest.mark.parametrize("kind", BROKEN)
async def test_one_that_is_fast_but_broken_does_not_win(kind: str) -> None:
    async with upstream(BROKEN[kind]) as bad, upstream(saying("192.0.2.2", 0.02)) as good:
        async with upstreams([bad.address(), good.address()]) as made:
            for letter in "abcdefghij":
                reply = await ask_and_read(made, f"{letter}.example")
                assert (reply.upstream, address_in(reply.packet)) == (good.address().label, "192.0.2.2")
                assert isinstance(reply.read, Read)
                assert reply.read.answer.offsets
            assert made.status()[0].results["malformed"]
            assert len(bad.seen) < 5


@pytest.mark.parametrize("kind", BROKEN)
async def test_when_all_are_broken_there_is_no_answer(kind: str) -> None:
    async with upstream(BROKEN[kind]) as first, upstream(BROKEN[kind]) as second:
        async with upstreams([first.address(), second.address()]) as made:
            with pytest.raises(NoAnswer) as caught:
                await ask_and_read(made, "a.example")
            assert caught.value.reason == "malformed"
            assert len(first.seen) == len(second.seen) == 1


async def test_whose_reader_has_a_fault_is_told() -> None:
    def read(packet: bytes) -> None:
        raise KeyError(packet)

    for servers in (1, 2):
        async with upstream() as server, upstreams([server.address(), server.address("tcp")][:servers]) as made:
            with pytest.raises(KeyError):
                await ask(made, "a.example", read)


async def test_names_of_a_broken_domain_do_not_move_the_others() -> None:
    def answering(question: bytes, transport: str) -> Sequence[Step]:
        return failing(dns.rcode.SERVFAIL if b"evil" in question else 0)(question, transport)

    async with upstream(answering) as best, upstream(saying("192.0.2.2", 0.1)) as other:
        async with upstreams([best.address(), other.address()]) as made:
            for number in range(4):
                await ask(made, f"a{number}.example")
                for _ in range(2):
                    assert (await ask(made, "www.evil.example")).upstream == other.address().label
                assert (await ask(made, f"b{number}.example")).upstream == best.address().label
            assert made.status()[0].failures == 0


async def test_who_has_errors_for_all_names_is_asked_last() -> None:
    async with upstream(failing(dns.rcode.REFUSED)) as bad, upstream() as good:
        async with upstreams([bad.address(), good.address()]) as made:
            for number in range(20):
                await ask(made, f"a{number}.example")
            assert 3 <= len(bad.seen) < 8


async def test_another_one_is_tried_now_and_then() -> None:
    async with upstream() as first, upstream() as second:
        async with upstreams([first.address(), second.address()], dice=Always()) as made:
            await ask(made, "a.example")
            await until(lambda: all(status.rtt for status in made.status()))
            assert len(first.seen) == len(second.seen) == 1


async def test_replaced_upstreams_keep_what_is_known_of_them() -> None:
    async with upstream() as first, upstream() as second:
        async with upstreams([first.address("tcp")], {"corp.example": [first.address()]}) as made:
            await ask(made, "a.example")
            known = made.status()[0]
            made.replace_default([second.address(), first.address("tcp"), second.address()])
            after = {status.label: status for status in made.status() if status.zone == "."}
            assert list(after) == [second.address().label, first.address("tcp").label]
            assert after[known.label].sent == known.sent == {"tcp": 1}
            made.replace_default([second.address()])
            await until(lambda: not first.open)
            await ask(made, "a.example")
            assert second.names == ["a.example."]
            assert [status.zone for status in made.status()] == [".", "corp.example"]


async def test_a_loop_is_noticed_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesos_dns.resolver.loops._TICK", 0.005)
    monkeypatch.setattr("mesos_dns.resolver.loops._GRACE", 0.02)
    monkeypatch.setattr("mesos_dns.resolver.loops.AGAIN", 0.05)
    loops = [True]

    def forwarding(question: bytes, _: str) -> Sequence[Step]:
        name = dns.message.from_wire(question).question[0].name.to_text()
        if loops[0] and made.is_probe(name_to_wire(name)):
            return failing(dns.rcode.REFUSED)(question, _)
        return [found(question)]

    async with upstream(forwarding) as server, upstreams([server.address()]) as made:
        running = asyncio.create_task(made.run())
        await until(lambda: made.status()[0].looping)
        with pytest.raises(NoAnswer) as caught:
            await ask(made, "a.example")
        assert caught.value.reason == "looping"
        loops[0] = False
        await until(lambda: not made.status()[0].looping)
        await ask(made, "a.example")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_many_questions_at_once() -> None:
    def answering(question: bytes, _: str) -> Sequence[Step]:
        return [found(question, f"192.0.2.{question[14]}")]

    async with upstream(answering) as first, upstream(answering) as second:
        default = [first.address(), second.address("tcp")]
        async with upstreams(default, dice=random.Random(1), timeout=30.0) as made:
            names = [f"{letter}{n}.example" for n in range(30) for letter in "abcdefghij"]
            replies = await asyncio.gather(*(ask(made, name) for name in names))
            for name, reply in zip(names, replies, strict=True):
                assert dns.message.from_wire(reply.packet).question[0].name.to_text() == f"{name}."
            status = made.status()
            assert sum(one.results["answered"] for one in status) >= len(names)
            assert status[1].connections <= 2


async def test_status_has_what_metrics_need() -> None:
    async with upstream() as server, upstreams([server.address()], {"corp.example": [server.address("tcp")]}) as made:
        await ask(made, "a.example")
        one, other = made.status()
        assert (one.label, one.zone, one.failures, one.looping, one.own) == (
            server.address().label,
            ".",
            0,
            False,
            False,
        )
        assert one.sent == {"udp": 1}
        assert one.results == {"answered": 1}
        assert sum(one.buckets) == 1
        assert one.seconds > 0
        assert one.rtt >= 1.0
        assert one.score >= 1.0
        assert (other.label, other.zone, other.sent) == (f"tcp://127.0.0.1:{server.port}", "corp.example", {})


async def test_over_tls_with_files(tmp_path: Path) -> None:
    authority, serving = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.set_alpn_protocols(["dot"])

    def prepare() -> ssl.SSLContext:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        authority.issue_cert("dns.example").configure_cert(serving)
        return client_tls(str(tmp_path / "ca.pem"))

    context = await asyncio.to_thread(prepare)
    async with upstream(right, tls=serving) as server:
        async with upstreams([server.address("tls", "dns.example")], tls=context) as made:
            assert address_in((await ask(made, "a.example")).packet) == "192.0.2.7"
        async with upstreams([server.address("tls", "other.example")], tls=context) as made:
            with pytest.raises(NoAnswer) as caught:
                await ask(made, "a.example")
            assert caught.value.reason == "tls"


async def test_client_tls_is_strict(tmp_path: Path) -> None:
    context = await asyncio.to_thread(client_tls, "")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(OSError) as caught:
        await asyncio.to_thread(client_tls, str(tmp_path / "none.pem"))
    assert "none.pem" in str(caught.value)
