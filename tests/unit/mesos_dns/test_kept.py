"""Answers kept in the process: only those that a change can drop, and no more than there is memory for."""

from __future__ import annotations

import pytest

from mesos_dns import kept
from mesos_dns.answer import Answer
from mesos_dns.kept import KeptAnswers
from mesos_dns.respond import Responder
from mesos_dns.zone import EVERYTHING
from tests.fakes.questions import answers, ask, drop, responder_of, static, task

WEB, SHARED = ("domain", "web.marathon"), ("domain", "slave")


def kept_of(responder: Responder) -> KeptAnswers:
    assert isinstance(responder._kept, KeptAnswers)
    return responder._kept


def an_answer(*depends: tuple[str, str]) -> Answer:
    return Answer(0, [b"x" * 16], depends=depends)


def test_an_answer_comes_back_under_its_question() -> None:
    store, answer = KeptAnswers(), an_answer(WEB)
    store.keep(b"key", answer)
    assert store.get(b"key") is answer
    assert store.get(b"other") is None
    assert len(store) == 1


def test_what_depends_on_nothing_is_not_kept() -> None:
    store = KeptAnswers()
    store.keep(b"key", an_answer())
    store.keep(b"nodata", Answer(0, [], lasting=(WEB,)))
    assert len(store) == 0


def test_a_change_drops_what_hangs_on_it_and_nothing_else() -> None:
    store = KeptAnswers()
    store.keep(b"web", an_answer(WEB, SHARED))
    store.keep(b"slave", an_answer(SHARED))
    store.keep(b"other", an_answer(("directory", "web.marathon")))
    store.drop(*WEB)
    assert (store.get(b"web"), store.get(b"slave") is None, store.get(b"other") is None) == (None, False, False)
    store.drop(*SHARED)
    assert store.get(b"slave") is None
    store.drop("domain", "nobody")
    assert len(store) == 1


def test_everything_goes_at_once() -> None:
    store = KeptAnswers()
    store.keep(b"web", an_answer(WEB))
    store.drop(EVERYTHING, "")
    assert (len(store), store._dependents, store._bytes) == (0, {}, 0)
    store.keep(b"web", an_answer(WEB))
    assert len(store) == 1


def test_random_names_are_not_kept() -> None:
    responder = responder_of(task(), static("*.apps.mesos.", "A", b"\x0a\0\0\1"))
    for number in range(100):
        for name in (
            f"x{number}.mesos",
            f"x{number}.apps.mesos",
            f"{number}.example.net",
            f"{number}.0.9.9.in-addr.arpa",
        ):
            ask(responder, name)
            ask(responder, name, "PTR")
    assert len(kept_of(responder)) == 0
    assert not kept_of(responder)._dependents


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "CACHE_BYTES", 20_000)
    responder = responder_of(*(task(number, f"app{number}", host_ports=(1,)) for number in range(100)))
    store = kept_of(responder)
    for _ in range(2):
        for number in range(100):
            assert answers(ask(responder, f"app{number}.marathon.mesos"))
            assert answers(ask(responder, f"_app{number}._tcp.marathon.mesos", "SRV"))
            assert 0 < store._bytes <= 20_000
    held = {dependency for answer in store._answers.values() for dependency in answer.depends}
    assert set(store._dependents) == held
    responder.view.apply(drop(*(task(number, f"app{number}").key for number in range(100))))
    assert (store._bytes, store._answers, store._dependents) == (0, {}, {})


def test_an_answer_larger_than_the_memory_for_answers_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "CACHE_BYTES", 100)
    responder = responder_of(task())
    assert answers(ask(responder, "web.marathon.mesos"))
    assert len(kept_of(responder)) == 0
