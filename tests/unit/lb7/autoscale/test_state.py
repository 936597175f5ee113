"""State in the coordinator: what is written is read, what is damaged costs itself, a shard never gets too large."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.history import Change, History, Recommendation
from lb7.autoscale.shown import ShownAction, ShownDecision, ShownProposal
from lb7.autoscale.state import (
    MOST_BYTES,
    SHARDS,
    Intent,
    Record,
    decode,
    digest,
    encode,
    page_key,
    part,
    shard_of,
    together,
)

KEY = ("app", "mesos", "marathon-1", "/shop/web")
NUMBER = shard_of(digest(KEY))

PROPOSAL = ShownProposal("rps", "rps", 100.0, 450.0, 5, "⌈450 / 100⌉ = 5")
DECISION = ShownDecision(
    at=5.0,
    instances=5,
    current=2,
    wanted=5,
    reason="up",
    text="2 → 5 (up)",
    low=1,
    high=9,
    proposals=(PROPOSAL,),
    steps=("rps asks for 5",),
)
RECORD = Record(
    KEY,
    History((Recommendation(1.5, 2), Recommendation(2.5, 5, blind=True)), (Change(2.0, -3),), 4.0, 2.0),
    Intent(2, 5, 5.0, "up"),
    DECISION,
    ShownAction(5.0, 2, 5, "sent"),
)


def test_what_is_written_is_read() -> None:
    shard, lost = decode(encode("server-1", "term", [RECORD]), NUMBER)
    assert (shard.decider, shard.term, shard.apps, lost) == ("server-1", "term", (RECORD,), 0)


def test_keys_are_legal_and_spread() -> None:
    assert digest(KEY) == digest(tuple(KEY))
    assert len(digest(KEY)) == 32
    assert page_key(7) == "autoscale/state/07"
    assert len({shard_of(digest(("app", "c", "f", f"/{number}"))) for number in range(2000)}) == SHARDS


def test_what_is_in_a_hurry_is_apart_from_what_people_read() -> None:
    state, shown = part(RECORD, NUMBER), part(RECORD, NUMBER + SHARDS)
    assert (state.decision, state.intent, shown.intent, shown.history) == (None, RECORD.intent, None, History())
    value = encode("one", "t", [shown])
    assert b"history" not in value
    assert decode(value, NUMBER + SHARDS)[0].apps == (shown,)
    assert together([state, shown]) == [RECORD]
    assert together([shown]) == [Record(KEY, decision=DECISION)]
    assert page_key(NUMBER + SHARDS) == page_key(NUMBER).replace("state", "shown")


def test_an_app_that_can_not_be_read_costs_itself() -> None:
    other = next(
        key for number in range(999) if shard_of(digest(key := ("app", "mesos", "marathon-1", f"/{number}"))) == NUMBER
    )
    value = msgspec.json.decode(encode("one", "t", [RECORD, Record(other)]))
    value["apps"][0]["history"] = "lost"
    shard, lost = decode(msgspec.json.encode(value), NUMBER)
    assert ([record.key for record in shard.apps], lost) == ([other], 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ["task", "mesos", "marathon-1", "/shop/web"]},
        {"key": ["app", "mesos", "marathon-1"]},
        {"key": ["app", "mesos", "marathon-1", "/of/another/shard"]},
        {"intent": {"before": 2, "after": -5, "at": 1, "kind": "up"}},
        {"intent": {"before": 2, "after": 5, "at": 1, "kind": "sideways"}},
        {"history": {"recommendations": [{"at": 1, "instances": 10**9}]}},
        {"history": {"recommendations": [{"at": 1, "instances": 1}] * 5001}},
        {"history": {"changes": [{"at": 1, "by": -(10**9)}]}},
    ],
)
def test_numbers_that_no_decider_writes_are_not_believed(changes: dict[str, object]) -> None:
    value = msgspec.json.decode(encode("one", "t", [RECORD]))
    value["apps"][0] |= changes
    shard, lost = decode(msgspec.json.encode(value), NUMBER)
    assert (shard.apps, lost) == ((), 1)


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b'{"apps": 5}', b'{"apps": [' + b"1," * 20_001 + b"1]}"])
def test_what_is_no_shard_is_told(value: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        decode(value, 0)


@given(st.binary(max_size=200))
def test_any_bytes(value: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(value, 0)


def test_a_shard_that_would_be_too_large_loses_what_is_least_needed() -> None:
    proposals = (msgspec.structs.replace(PROPOSAL, text="x" * 400),) * 20
    wordy = msgspec.structs.replace(RECORD, decision=msgspec.structs.replace(DECISION, proposals=proposals))
    value = encode("one", "t", [wordy] * 150)
    assert len(value) <= MOST_BYTES
    record = decode(value, NUMBER)[0].apps[0]
    assert record.decision is not None
    assert (record.decision.proposals, record.decision.reason, record.history) == ((), "up", RECORD.history)

    long = History(tuple(Recommendation(float(at), at) for at in range(700)), (), 1.0, 1.0)
    value = encode("one", "t", [Record(KEY, long, RECORD.intent, DECISION)] * 150)
    assert len(value) <= MOST_BYTES
    record = decode(value, NUMBER)[0].apps[0]
    assert (record.intent, record.decision) == (RECORD.intent, None)
    assert record.history.recommendations[-1] == Recommendation(699.0, 699), "the newest stay"
    assert len(encode("one", "t", [RECORD] * 100_000)) <= MOST_BYTES
