"""Sockets of listeners: one for each slot, kept as long as their address stays; problems stay with their own."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator

import pytest

from lb7 import listening, sockets
from lb7.listening import Listening


@pytest.fixture
def here() -> Iterator[Listening]:
    """Two slots."""
    made = Listening(2)
    yield made
    made.close()


def test_each_slot_has_sockets_at_each_address(here: Listening) -> None:
    here.put("a", ("127.0.0.1:0", "127.0.0.2:0"))
    both = [here.sockets("a", slot) for slot in (0, 1)]
    assert [len(sockets) for sockets in both] == [2, 2]
    assert len(set(both[0] + both[1])) == 4
    assert [f"{host}:{port}" for host, port in (sock.getsockname() for sock in both[0])] == here.addresses["a"]
    assert [sock.getsockname() for sock in both[0]] == [sock.getsockname() for sock in both[1]]
    assert here.sockets("a", 2) == here.sockets("b", 0) == ()
    assert here.names == ["a"]
    assert here.wanted("a") == ("127.0.0.1:0", "127.0.0.2:0")


def test_an_address_that_stays_keeps_its_sockets(here: Listening) -> None:
    here.put("a", ("127.0.0.1:0", "127.0.0.2:0"))
    kept, gone = here.sockets("a", 0)
    here.put("a", ("127.0.0.3:0", "127.0.0.1:0"))
    assert here.sockets("a", 0)[1] is kept
    here.release()
    assert gone.fileno() == -1
    here.drop("a")
    here.release()
    assert kept.fileno() == -1
    assert not here.addresses


def test_more_slots(here: Listening) -> None:
    here.put("a", ("127.0.0.1:0",))
    before = here.sockets("a", 0)
    here.grow(3)
    here.grow(1)
    here.put("a", ("127.0.0.1:0",))
    assert here.sockets("a", 0) == before
    assert here.sockets("a", 2)[0].getsockname() == before[0].getsockname()


def test_what_is_reserved_is_taken(here: Listening) -> None:
    here.reserve({"http": ("127.0.0.1:0",), "app_id": ()})
    (address,) = here.addresses["http"]
    here.put("http", ("127.0.0.1:0",))
    assert here.addresses["http"] == [address]
    # Not named any more, but the table still has it.
    here.reserve({})
    assert here.sockets("http", 0)[0].fileno() >= 0
    here.drop("http")
    assert not here.addresses


def test_what_is_reserved_for_nobody_is_given_up(here: Listening) -> None:
    here.reserve({"http": ("127.0.0.1:0",)})
    port = int(here.addresses["http"][0].rpartition(":")[2])
    here.reserve({"http": ("127.0.0.2:0",)})
    here.release()
    socket.create_server(("127.0.0.1", port)).close()


def test_what_was_listened_on_does_not_stay_reserved(here: Listening) -> None:
    """Clients would be kept waiting in it."""
    here.reserve({"http": ("127.0.0.1:0",)})
    here.put("http", ("127.0.0.1:0",))
    (sock,) = here.sockets("http", 0)
    here.put("http", ("127.0.0.2:0",))
    here.release()
    assert sock.fileno() == -1
    here.drop("http")
    assert not here.addresses


def test_reserving_all_or_nothing(here: Listening) -> None:
    here.reserve({"http": ("127.0.0.1:0",)})
    before = here.addresses
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"listener app_id: can't listen on {address}: another program listens there"):
            here.reserve({"http": ("127.0.0.2:0",), "app_id": (address,)})
    with pytest.raises(OSError, match="listener app_id: expected an IP address"):
        here.reserve({"app_id": ("name.example:80",)})
    assert here.addresses == before


def test_a_problem_stays_with_its_listener_until_it_is_gone(here: Listening) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        here.put("a", (address, "127.0.0.1:0"))
        here.put("b", ("nonsense:80",))
        here.put("c", ("127.0.0.1:0",))
        assert set(here.problems) == {"a", "b"}
        assert address in here.problems["a"]
        assert len(here.sockets("a", 0)) == 1
        assert here.retry(list(here.problems)) == ["a", "b"]
        assert set(here.problems) == {"a", "b"}
    assert here.retry(list(here.problems)) == ["a", "b"]
    assert set(here.problems) == {"b"}
    assert len(here.sockets("a", 0)) == 2
    here.drop("b")
    assert not here.problems


def test_two_listeners_at_one_address_and_within_another(here: Listening) -> None:
    here.put("a", ("*:0",))
    port = here.sockets("a", 0)[0].getsockname()[1]
    here.put("b", (f"*:{port}",))
    here.put("c", (f"127.0.0.1:{port}",))
    here.put("d", (f"*:{port}", f"[::1]:{port}"))
    assert not here.problems


def test_sockets_pass_to_the_next_listener_of_their_address(here: Listening) -> None:
    here.put("a", ("127.0.0.1:0",))
    (address,) = here.addresses["a"]
    both = [here.sockets("a", slot) for slot in (0, 1)]
    here.drop("a")
    here.put("b", ("127.0.0.1:0", address))
    here.release()
    assert [here.sockets("b", slot)[1:] for slot in (0, 1)] == both
    # One that moves leaves its place to others, too.
    here.put("b", ("127.0.0.1:0",))
    here.put("c", (address,))
    here.put("d", (address,))
    here.release()
    assert [here.sockets("c", slot) for slot in (0, 1)] == both
    # Of two that are done with an address, the sockets of one are kept.
    here.drop("c")
    here.drop("d")
    here.put("e", (address,))
    here.release()
    assert not here.problems
    assert here.sockets("e", 0)[0].fileno() >= 0
    assert both[0][0].fileno() == -1


def test_what_is_reserved_gives_way_to_sockets_that_clients_wait_in(here: Listening) -> None:
    here.reserve({"a": ("127.0.0.1:0",)})
    here.put("a", ("127.0.0.1:0",))
    (address,) = here.addresses["a"]
    (sock,) = here.sockets("a", 0)
    here.reserve({"b": (address,)})
    here.drop("a")
    here.put("b", (address,))
    here.release()
    assert here.sockets("b", 0) == (sock,)
    here.reserve({})
    here.drop("b")
    here.release()
    socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()


def test_a_place_that_a_worker_still_holds_is_no_problem(here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    here.put("a", ("127.0.0.1:0",))
    (address,) = here.addresses["a"]
    with here.sockets("a", 0)[0].dup() as held:
        held.listen()
        here.drop("a")
        here.release()
        here.put("b", (address,))
        assert not here.problems
        here.drop("b")
        here.release()
        # A place of long ago may be another program's by now.
        later = time.monotonic() + listening.REMEMBERED
        monkeypatch.setattr("time.monotonic", lambda: later)
        here.put("b", (address,))
        assert "another program listens there" in here.problems["b"]


def test_listeners_of_labels_leave_files_for_everything_else(here: Listening) -> None:
    here.most = 6
    here.reserve({"http": ("127.0.0.1:0",)})
    here.put("port:1", ("127.0.0.1:0",))
    here.put("port:2", ("127.0.0.1:0", "127.0.0.2:0"))
    here.put("port:3", ("127.0.0.1:0",))
    assert set(here.problems) == {"port:2", "port:3"}
    assert here.problems["port:3"].startswith("listener port:3: its 2 sockets would be more than 6, ")
    assert "LimitNOFILE" in here.problems["port:3"]
    assert [len(here.sockets(name, 1)) for name in ("port:1", "port:2", "port:3")] == [1, 1, 0]
    # What the configuration names has its sockets in any case.
    here.put("http", ("127.0.0.1:0",))
    here.put("app_id", ("127.0.0.1:0",))
    assert not {"http", "app_id"} & here.problems.keys()
    # Others have room when some go, and what is taken over needs none.
    (address,) = here.addresses["port:1"]
    here.drop("port:1")
    here.put("port:4", (address,))
    assert len(here.sockets("port:4", 1)) == 1
    here.drop("port:4")
    here.drop("http")
    here.drop("app_id")
    here.release()
    assert here.retry(list(here.problems)) == ["port:2", "port:3"]
    assert not here.problems
    # More slots than there is room for: some have none.
    here.grow(3)
    here.put("port:3", ("127.0.0.1:0",))
    assert set(here.problems) == {"port:3"}
    assert [len(here.sockets("port:3", slot)) for slot in (0, 1, 2)] == [1, 1, 0]
    here.close()
    assert here.open == 0


def test_files_that_run_out(here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = sockets.bind, [3]

    def bind(*given: object, **options: bool) -> socket.socket:
        if not left[0]:
            raise OSError(errno.EMFILE, "can't listen: no more open files")
        left[0] -= 1
        return real(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(listening, "bind", bind)
    here.put("a", ("127.0.0.1:0",))
    here.put("b", ("127.0.0.1:0",))
    assert "no more open files" in here.problems["b"]
    left[0] = 5
    here.retry(list(here.problems))
    assert not here.problems
    assert len(here.sockets("b", 1)) == 1
