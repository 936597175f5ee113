"""Addresses and sockets: what an address means, what may be shared, and errors that say what to do."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest

from lb7.sockets import UNSENT, Place, bind, bound_place, is_waited_for, open_many_files, place_of


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.1:80", Place("10.0.0.1", 80)),
        ("0.0.0.0:80", Place("0.0.0.0", 80)),  # noqa: S104 - read, not bound
        ("[::]:80", Place("::", 80)),
        ("[2001:db8::1]:443", Place("2001:db8::1", 443)),
        ("*:80", Place("::", 80, True)),
        (":80", Place("::", 80, True)),
        ("localhost:9091", Place("127.0.0.1", 9091)),
        ("127.0.0.1:0", Place("127.0.0.1", 0)),
    ],
)
def test_what_an_address_means(address: str, place: Place) -> None:
    assert place_of(address) == place
    assert place_of(str(place)) == place


@pytest.mark.parametrize(
    "address", ["", ":", "10.0.0.1", "10.0.0.1:", "[::1]", "[::1", "10.0.0.1:70000", "10.0.0.1:x", "host.example:80"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        place_of(address)


def test_workers_share_an_address_and_others_do_not() -> None:
    first = bind(place_of("127.0.0.1:0"))
    place = bound_place(first, place_of("127.0.0.1:0"))
    with first, bind(place, shared=True) as second:
        assert first.getsockname() == second.getsockname()
        first.listen()
        # Another program of ours may share by the same option; that is seen all the same.
        with pytest.raises(OSError, match=f"can't listen on 127.0.0.1:{place.port}: another program listens there"):
            bind(place)


def test_what_accepted_sockets_inherit() -> None:
    with bind(place_of("127.0.0.1:0")) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            listening.setblocking(True)
            with listening.accept()[0] as accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT


def test_a_port_that_is_held_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"\*:{port}: another program"):
            bind(place_of(f"*:{port}"))


def test_an_address_of_others_is_named() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.7:8080: the address is not one of this host"):
        bind(place_of("192.0.2.7:8080"))


def test_a_star_is_both_families() -> None:
    with bind(Place("::", 0, True)) as sock:
        sock.listen()
        sock.setblocking(True)
        for host in ("127.0.0.1", "::1"):
            try:
                client = socket.create_connection((host, sock.getsockname()[1]))
            except OSError:
                assert host == "::1", "no IPv6 here"
                continue
            accepted, _ = sock.accept()
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            accepted.close()
            client.close()


def test_both_families_by_two_sockets() -> None:
    with bind(place_of("0.0.0.0:0")) as v4:
        with bind(place_of(f"[::]:{v4.getsockname()[1]}")) as v6:
            assert v6.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_open_files_are_as_many_as_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert open_many_files() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.asyncio
async def test_who_waits_is_seen() -> None:
    with bind(place_of("127.0.0.1:0")) as sock:
        sock.listen()
        assert not is_waited_for(sock)
        _, writer = await asyncio.open_connection(*sock.getsockname())
        assert is_waited_for(sock)
        sock.accept()[0].close()
        assert not is_waited_for(sock)
        writer.close()
