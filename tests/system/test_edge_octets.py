"""Many octets at once, one by one, and as Python has it: the edge's native code makes the same of any octets, under
AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.http_messages import PIECES
from tests.native.build import CHECKED, compile_harness, need
from tests.native.edge_messages import GET, GET_BROWSER, OK, OK_APP

CORPUS = sorted((Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "http1-messages").glob("*.hex"))
MESSAGES = (GET, GET_BROWSER, OK, OK_APP)
ROUNDS = 200_000 if os.environ.get("PHAROS_SOAK") else 8_000
SEED = random.randrange(1 << 32) if os.environ.get("PHAROS_SOAK") else 1


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """As this machine can, and without what it can do with many octets at once."""
    need("gcc")
    folder = tmp_path_factory.mktemp("octets")
    plain = (*CHECKED, "-U__SSE2__")
    return compile_harness("gcc", "tell_edge", CHECKED, folder), compile_harness("gcc", "tell_edge", plain, folder)


def told(program: Path, inputs: list[bytes]) -> list[str]:
    """What it tells of each input; fails with what a sanitizer says."""
    sent = b"".join(struct.pack("=I", len(octets)) + octets for octets in inputs)
    done = subprocess.run((str(program),), input=sent, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(inputs)
    return lines


def test_heads_are_read_the_same_both_ways(programs: tuple[Path, Path]) -> None:
    inputs = [*every_octet_at_every_place(), *every_length(), *mutations()]
    fast, plain = (told(program, inputs) for program in programs)
    for octets, one, other in zip(inputs, fast, plain, strict=True):
        assert one == other, f"seed {SEED}: {octets!r}"
    read = [line.partition(" ")[0] for line in fast]
    assert sum(int(result) > 0 for result in read if result.isdigit()) > 1000


def test_words_are_what_python_makes_of_octets(programs: tuple[Path, Path]) -> None:
    by_chance = random.Random(SEED)
    letters = b"@AZ[`az{aA./\x00\x7f\x80\xc1\xff"
    inputs = [bytes([octet]) * length for octet in range(256) for length in range(10)]
    inputs += [bytes(by_chance.choices(letters, k=by_chance.randrange(40))) for _ in range(ROUNDS)]
    expected = [plainly(octets) for octets in inputs]
    for program in programs:
        assert [line.rpartition("; ")[2] for line in told(program, inputs)] == expected


def plainly(octets: bytes) -> str:
    """What the harness has to tell of these octets as words."""
    digits = "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in octets[:8].ljust(8, b"\0"))
    return f"{octets.lower().hex()} {digits} 1"


def every_octet_at_every_place() -> Iterator[bytes]:
    """Each octet in place of each of a line's, for all that a line of 32 octets can begin with."""
    for line in (
        b"Host: a.example-0123.~_:8080\r\n",
        b"X-Name-0123456789abcd: Value\r\n",
        b"A: value of many octets\t\r\n",
    ):
        for place in range(len(line)):
            for octet in range(256):
                changed = line[:place] + bytes([octet]) + line[place + 1 :]
                yield b"GET /path/of/16/octets?q HTTP/1.1\r\n" + changed + b"Host: b\r\n\r\n"


def every_length() -> Iterator[bytes]:
    """Names, values, hosts and paths of up to three steps, with nothing behind the head."""
    for length in range(1, 50):
        long = b"x" * length
        yield b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % long
        yield b"GET /%b HTTP/1.1\r\nHost: a\r\n%b: y\r\n\r\n" % (long, long)
        yield b"GET http://%b/ HTTP/1.0\r\n%b: %b\r\n\r\n" % (long, long, long)
        yield b"HTTP/1.1 200 %b\r\n%b:\t%b\r\n\r\n" % (long, long, long)


def mutations() -> Iterator[bytes]:
    by_chance = random.Random(SEED)
    kept = [
        bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))[1:] for path in CORPUS
    ]
    yield from kept
    for _ in range(ROUNDS):
        octets = by_chance.choice((*MESSAGES, *kept))[:2000]
        for _ in range(by_chance.randrange(4)):
            place = by_chance.randrange(len(octets) + 1)
            piece = by_chance.choice((*PIECES, bytes([by_chance.randrange(256)])))
            octets = octets[:place] + piece + octets[place + by_chance.randrange(3) :]
        yield octets if by_chance.random() < 0.7 else octets[: by_chance.randrange(len(octets) + 1)]
