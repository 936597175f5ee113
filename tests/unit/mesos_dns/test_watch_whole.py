"""Turns and what is kept encoded: order, bounds, and that nothing old is ever told."""

from __future__ import annotations

from mesos_dns.model import Key
from mesos_dns.watch_whole import Turns, Whole
from mesos_dns.watch_wire import MOST_ENTITIES, ORDER, SLICE_OCTETS


class Woken:
    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


def test_a_few_have_their_turn_in_the_order_in_which_they_came() -> None:
    turns = Turns(2)
    one, two, three, four, five = (Woken() for _ in range(5))
    assert [turns.granted(waiter) for waiter in (one, two, three, four, five, one, three)] == [
        True, True, False, False, False, True, False,
    ]  # fmt: skip
    assert (turns.now, turns.waiting) == (2, 3)
    turns.leave(four)  # gone while it waited
    turns.leave(one)
    turns.leave(one)
    assert three.wakes == 1
    assert turns.granted(three)
    assert not turns.granted(five)
    turns.leave(two)
    assert turns.granted(five)
    for waiter in (three, five):
        turns.leave(waiter)
    assert (turns.now, turns.waiting) == (0, 0)


class Cluster:
    """Texts by key, and how often each was encoded."""

    def __init__(self, octets: int = 1 << 20) -> None:
        self.texts: dict[Key, bytes] = {}
        self.encodings = 0
        self.whole = Whole(self.encoded, octets)

    def encoded(self, key: Key) -> bytes | None:
        self.encodings += 1
        return self.texts.get(key)

    def put(self, bucket: int, kind: str, name: str, text: bytes) -> None:
        self.texts[kind, name] = text
        self.whole.swap(bucket, (kind, name), hash(text))

    def drop(self, bucket: int, kind: str, name: str) -> None:
        del self.texts[kind, name]
        self.whole.swap(bucket, (kind, name), None)


def test_what_is_encoded_for_one_serves_the_others_until_it_changes() -> None:
    one = Cluster()
    one.put(5, "task", "a", b"A")
    one.put(5, "task", "b", b"B")
    one.put(5, "node", "n", b"N")
    one.put(6, "task", "c", b"C")
    assert one.whole.places([6, 5, 7]) == [("node", 5), ("task", 5), ("task", 6)]
    assert ORDER.index("node") < ORDER.index("task")
    for _ in range(3):
        assert [one.whole.part(place) for place in one.whole.places([5, 6])] == [(1, b"N"), (2, b"A,B"), (1, b"C")]
    assert (one.encodings, one.whole.octets) == (4, 5)
    one.put(5, "task", "b", b"BB")
    one.put(6, "task", "c", b"C")  # as it was
    assert one.whole.part(("task", 5)) == (2, b"A,BB")
    assert one.whole.part(("task", 6)) == (1, b"C")
    assert one.encodings == 6
    one.drop(5, "task", "a")
    one.drop(5, "task", "b")
    assert one.whole.places([5]) == [("node", 5)]
    assert one.whole.part(("task", 5)) == (0, b"")
    assert one.whole.keys(5) == [("node", "n")]
    one.whole.clear()
    assert one.whole.octets == 0
    assert one.whole.part(("node", 5)) == (1, b"N")


def test_what_is_kept_is_bounded_and_the_longest_unused_goes_first() -> None:
    one = Cluster(octets=100)
    for bucket in range(4):
        one.put(bucket, "task", f"t{bucket}", b"x" * 40)
    one.whole.part(("task", 0))
    one.whole.part(("task", 1))
    one.whole.part(("task", 0))
    one.whole.part(("task", 2))
    assert one.whole.octets == 80
    before = one.encodings
    one.whole.part(("task", 0))
    assert one.encodings == before
    one.whole.part(("task", 1))
    assert one.encodings == before + 1
    one.put(9, "task", "huge", b"y" * 200)
    assert one.whole.part(("task", 9)) == (1, b"y" * 200)
    assert one.whole.octets == 0


def test_what_is_too_much_for_one_message_comes_in_portions_of_the_moment() -> None:
    one = Cluster()
    for number in range(MOST_ENTITIES + 1):
        one.put(1, "task", f"t{number}", b"%d" % number)
    one.put(2, "task", "a", b"x" * SLICE_OCTETS)
    one.put(2, "task", "b", b"y")
    assert one.whole.part(("task", 1)) is None
    assert one.whole.part(("task", 2)) is None
    assert [len(portion) for portion in one.whole.portions(("task", 1))] == [MOST_ENTITIES, 1]
    portions = one.whole.portions(("task", 2))
    assert next(portions) == [b"x" * SLICE_OCTETS]
    one.put(2, "task", "b", b"z")
    assert list(portions) == [[b"z"]]
    one.drop(2, "task", "a")
    assert one.whole.part(("task", 2)) == (1, b"z")
