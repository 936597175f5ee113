"""phash2: values that Erlang gave, of every length of a block's rest."""

from __future__ import annotations

import pytest

from lb4.phash2 import INITIAL, phash2

# (text, limit, what OTP 25 gave)
VECTORS = [
    ("", 254, 77),
    ("", 16777215, 13708909),
    ("a", 254, 227),
    ("a", 16777215, 12139245),
    ("foo.bar", 254, 37),
    ("foo.bar", 16777215, 9058972),
    ("baz.qux", 254, 39),
    ("baz.qux", 16777215, 6242577),
    ("broker.kafka", 254, 205),
    ("broker.kafka", 16777215, 11494539),
    ("web.marathon", 254, 67),
    ("web.marathon", 16777215, 14755009),
    ("svc-0.marathon", 254, 53),
    ("svc-0.marathon", 16777215, 12469520),
    ("svc-1.marathon", 254, 201),
    ("svc-1.marathon", 16777215, 8803341),
    ("svc-2.marathon", 254, 51),
    ("svc-2.marathon", 16777215, 14933178),
    ("svc-3.marathon", 254, 176),
    ("svc-3.marathon", 16777215, 10036501),
    ("svc-4.marathon", 254, 123),
    ("svc-4.marathon", 16777215, 9046062),
    ("svc-5.marathon", 254, 199),
    ("svc-5.marathon", 16777215, 2045525),
    ("l4lbtest.marathon", 254, 149),
    ("l4lbtest.marathon", 16777215, 8407458),
    ("api.hello-world.marathon", 254, 21),
    ("api.hello-world.marathon", 16777215, 3016467),
    ("x" * 63 + ".marathon", 254, 101),
    ("x" * 63 + ".marathon", 16777215, 920130),
]

# Of bytes(range(length)), without a limit.
BY_LENGTH = """
    147926629 2914887855 4211532522 4212827134 4112461889 3189851449 452994737 1168815232 2753121870 2773044368
    3442075556 1465783407 3606656872 3937812469 276715269 883560804 3944290399 846389177 1990092590 3276609848
    1812367891 1671214028 2684629153 1043827900 4085772184 2816225101 4006039691 1387315372 4084562859 3255131665
    3555080288 2677663165 4093796042 539893909 1686837745 3838859208 3891876696 1382987239 3319639656 2135088103
"""


@pytest.mark.parametrize(("text", "limit", "expected"), VECTORS)
def test_what_erlang_gives(text: str, limit: int, expected: int) -> None:
    assert phash2(text.encode(), limit) == expected


def test_every_length_of_a_rest() -> None:
    assert [phash2(bytes(range(length))) for length in range(40)] == [int(text) for text in BY_LENGTH.split()]


def test_every_byte_counts() -> None:
    data = bytes(range(200, 236))
    changed = [data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :] for at in range(len(data))]
    assert len({phash2(text) for text in [data, *changed]}) == len(data) + 1


def test_limits() -> None:
    assert phash2(b"anything", 1) == 0
    assert phash2(b"", 1 << 32) == INITIAL
    for wrong in (0, -1, (1 << 32) + 1):
        with pytest.raises(ValueError, match="expected 1 to"):
            phash2(b"x", wrong)
