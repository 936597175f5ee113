"""lb7.waiting: first come, first served, and no place stays free while somebody waits."""

from __future__ import annotations

import asyncio

import pytest

from lb7.waiting import Waiting


class Places:
    """So many free places, as the queue is told and asked."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.waiting = 0

    def __call__(self, waiting: int) -> int:
        self.waiting = waiting
        return self.free


class Guest:
    """Takes a place when it gets its turn; `wants` says what it does instead."""

    def __init__(self, name: str, queue: Waiting, places: Places, served: list[str], wants: str = "place") -> None:
        self.name, self.queue, self.places, self.served, self.wants = name, queue, places, served, wants

    def room(self) -> None:
        assert self.queue.has_turn
        if self.wants == "nothing":
            return
        if self.wants == "fault":
            raise LookupError(self.name)
        if self.wants == "later":
            self.wants = "place"
            self.places.free -= 1  # somebody was quicker
            assert self.queue.add(self)
            return
        self.places.free -= 1
        self.served.append(self.name)


class Room:
    """A queue with guests a, b, c, …"""

    def __init__(self, most: int = 10) -> None:
        self.places = Places()
        self.queue = Waiting(most, self.places)
        self.served: list[str] = []

    def come(self, names: str, wants: str = "place") -> list[Guest]:
        guests = [Guest(name, self.queue, self.places, self.served, wants) for name in names]
        for guest in guests:
            assert self.queue.add(guest)
        return guests

    async def free(self, places: int) -> str:
        """So many places come free; who was served when all is quiet again."""
        self.served.clear()
        for _ in range(places):
            self.places.free += 1
            self.queue.wake()
        for _ in range(50):
            await asyncio.sleep(0)
        return "".join(self.served)


@pytest.mark.asyncio
async def test_first_come_first_served() -> None:
    room = Room()
    room.come("abcd")
    assert (len(room.queue), room.places.waiting) == (4, 4)
    assert await room.free(1) == "a"
    assert await room.free(2) == "bc"
    assert await room.free(2) == "d"
    assert (len(room.queue), room.places.free, room.places.waiting) == (0, 1, 0)


@pytest.mark.asyncio
async def test_one_is_woken_for_each_place_and_not_before_the_next_round() -> None:
    room = Room()
    room.come("abc")
    room.places.free = 2
    room.queue.wake()
    room.queue.wake()
    assert room.served == []
    assert len(room.queue) == 3
    await asyncio.sleep(0)
    assert room.served == ["a", "b"]


@pytest.mark.asyncio
async def test_a_place_that_is_there_already_is_given() -> None:
    room = Room()
    room.places.free = 1
    room.come("ab")
    assert await room.free(0) == "a"


@pytest.mark.asyncio
async def test_too_many() -> None:
    room = Room(most=2)
    room.come("ab")
    assert not room.queue.add(Guest("c", room.queue, room.places, room.served))
    assert await room.free(3) == "ab"


@pytest.mark.asyncio
@pytest.mark.parametrize("woken", [False, True])
async def test_one_that_gives_up_hands_its_turn_on(woken: bool) -> None:
    room = Room()
    a, *_ = room.come("abc")
    if woken:
        room.places.free = 1
        room.queue.wake()
    room.queue.drop(a)
    room.queue.drop(a)
    assert room.places.waiting == 2
    assert await room.free(0 if woken else 1) == "b"


@pytest.mark.asyncio
async def test_one_that_waits_again_keeps_its_place() -> None:
    room = Room()
    room.come("a", wants="later")
    room.come("b")
    assert await room.free(1) == ""
    assert await room.free(2) == "ab"


@pytest.mark.asyncio
async def test_those_who_waited_before_come_first_in_the_order_in_which_they_came_back() -> None:
    room = Room(most=3)
    room.come("c")
    a, b = (Guest(name, room.queue, room.places, room.served) for name in "ab")
    assert room.queue.add(a, first=True)
    assert room.queue.add(b, first=True)
    assert not room.queue.add(Guest("d", room.queue, room.places, room.served), first=True)
    assert room.queue.add(Guest("d", room.queue, room.places, room.served), 4)
    assert len(room.queue) == room.places.waiting == 4
    room.queue.drop(b)
    assert await room.free(4) == "acd"


@pytest.mark.asyncio
async def test_a_place_that_is_not_taken_goes_to_the_next() -> None:
    room = Room()
    room.come("ab", wants="nothing")
    room.come("cd")
    assert await room.free(1) == "c"


@pytest.mark.asyncio
async def test_a_fault_of_one_is_not_the_end_for_others() -> None:
    room = Room()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))
    room.come("a", wants="fault")
    room.come("b")
    assert await room.free(1) == "b"
    assert [repr(fault) for fault in faults] == ["LookupError('a')"]
    assert not room.queue.has_turn


@pytest.mark.asyncio
async def test_all_are_woken_when_there_is_nothing_to_wait_for() -> None:
    room = Room()
    room.come("abc")
    room.queue.wake_all()
    assert await room.free(0) == "abc"
    assert room.places.waiting == 0
