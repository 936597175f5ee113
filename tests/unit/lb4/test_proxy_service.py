"""What services of the proxy share: totals, and how their sockets are bound."""

from __future__ import annotations

import socket

import pytest

from lb4.proxy_poll import FREEBIND
from lb4.proxy_service import ProxiedService, bind, family_of
from lb4.services import BackendKey, BackendStats, Destination, Service, ServiceKey, ServiceStats, Settings

FOUR, SIX = ServiceKey("udp", "127.0.0.1", 0), ServiceKey("udp", "::1", 0)


def test_totals_and_backends() -> None:
    service = ProxiedService(FOUR, Settings("rr"), 0)
    assert service.stats == ServiceStats()
    service.balance.put(BackendKey("127.0.0.2", 80), Destination())
    assert service.balance.service == Service(Settings("rr"), {BackendKey("127.0.0.2", 80): Destination()})
    service.connections, service.in_packets, service.out_packets = 1, 2, 3
    service.in_bytes, service.out_bytes = 4, 5
    assert service.stats == ServiceStats(1, 2, 3, 4, 5, {BackendKey("127.0.0.2", 80): BackendStats()})


@pytest.mark.parametrize("key", [FOUR, SIX])
@pytest.mark.parametrize("freebind", [False, True])
def test_a_socket_is_bound_to_its_address_alone(key: ServiceKey, freebind: bool) -> None:
    with socket.socket(family_of(key), socket.SOCK_DGRAM) as sock:
        bind(sock, key, freebind=freebind)
        assert sock.getsockname()[0] == key.address
        assert bool(sock.getsockopt(*FREEBIND[sock.family])) is freebind
        if key is SIX:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_an_address_that_is_not_local_needs_freebind() -> None:
    far = FOUR._replace(address="192.0.2.77")
    with socket.socket(family_of(far), socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="assign"):
            bind(sock, far, freebind=False)
        bind(sock, far, freebind=True)
