"""Untrusted HTTP/1.x messages: the kept corpus replayed, and mutations of it, beside h11 and llhttp.

Each file of corpus/http1-messages is one input of tests/native/fuzz_http1.c: the octet that says what it is, then the
message, in hexadecimal, `#` beginning a comment that says why it is kept. PHAROS_SOAK makes the second test long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lb7._http1 import Chunks, Head, Refused, request, response
from tests.fakes.http_messages import PIECES
from tests.fakes.http_peers import agreed_answer, agreed_request

CORPUS = sorted((Path(__file__).parent / "corpus" / "http1-messages").glob("*.hex"))
KINDS = {0: "request", 1: "answer", 2: "chunks", 3: "chunks"}
Reader = Callable[[bytes], Head | None]

ROUNDS = 300_000 if os.environ.get("PHAROS_SOAK") else 6_000


def load(path: Path) -> tuple[str, bytes]:
    """A corpus file's kind and message."""
    octets = bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))
    return KINDS[octets[0] & 3], octets[1:]


def head_result(read: Reader, octets: bytes) -> int | str:
    """The head's length, 0 for more, or the fault."""
    try:
        head = read(octets)
    except Refused as refused:
        return refused.fault
    return head.length if head else 0


def chunks_result(octets: bytes, size: int) -> tuple[int, bytes, bool] | None:
    """Octets of the body read in pieces, what its chunks hold, whether it is whole; None when it is refused."""
    chunks, at, held = Chunks(), 0, b""
    try:
        while at < len(octets) and not chunks.done:
            length, part = chunks.unwrap(octets[at : at + size])
            at += length
            held += part
    except Refused:
        return None
    return at, held, chunks.done


def check(kind: str, octets: bytes, cut: int) -> bool:
    """Whether it is passed on. What is, both peers read alike; pieces have no other result than the whole."""
    if kind == "chunks":
        whole = chunks_result(octets, len(octets) or 1)
        assert chunks_result(octets, cut + 1) == whole
        return whole is not None
    read: Reader = request if kind == "request" else response
    assert head_result(read, octets[:cut]) in (0, head_result(read, octets))
    return (agreed_request(octets) if kind == "request" else agreed_answer(octets)) is not None


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    kind, octets = load(path)
    passed = {check(kind, octets, cut) for cut in range(min(len(octets) + 1, 200))}
    assert len(passed) == 1
    if path.stem.startswith(("good-", "bad-")):
        assert passed == {path.stem.startswith("good-")}


def test_mutations() -> None:
    seed = random.randrange(1 << 32) if os.environ.get("PHAROS_SOAK") else 5
    print(f"seed={seed}")
    chance = random.Random(seed)
    kept = [load(path) for path in CORPUS]
    passed = 0
    for _ in range(ROUNDS):
        kind, octets = chance.choice(kept)
        octets = mutated(chance, octets, kept)
        passed += check(kind, octets, chance.randrange(len(octets) + 1))
    # What is always refused says nothing of what the peers read.
    assert passed > ROUNDS / 20


def mutated(chance: random.Random, octets: bytes, kept: list[tuple[str, bytes]]) -> bytes:
    """A message with octets replaced, cut, put in, or spliced with another one."""
    message = bytearray(octets)
    for _ in range(chance.randrange(4)):
        kind = chance.randrange(6)
        at = chance.randrange(len(message) + 1)
        if kind == 0 and message:
            message[at % len(message)] = chance.randrange(256)
        elif kind == 1:
            del message[at : at + chance.randrange(1, 5)]
        elif kind == 2:
            other = chance.choice(kept)[1]
            message[at:] = other[chance.randrange(len(other) + 1) :]
        elif kind == 3:
            message[at:at] = message[max(0, at - chance.randrange(20)) : at]
        else:
            message[at:at] = chance.choice(PIECES)
    return bytes(message)


def test_the_corpus_is_there() -> None:
    assert {load(path)[0] for path in CORPUS} == set(KINDS.values())
    assert len(CORPUS) >= 40
    for path in CORPUS:
        assert path.read_text().startswith("# "), f"{path.name} does not say why it is kept"
