"""What each worker goes by."""

from __future__ import annotations

import msgspec
import pytest

from lb7.config import L7Config
from lb7.settings import Settings, settings_of
from mesos_dns.config import Duration


def test_defaults_are_those_of_the_configuration() -> None:
    assert settings_of(L7Config(), 1) == Settings()


@pytest.mark.parametrize(("workers", "connections", "waiting"), [(1, 100, 7), (3, 34, 3), (200, 1, 1)])
def test_limits_are_divided_and_none_becomes_unlimited(workers: int, connections: int, waiting: int) -> None:
    config = L7Config(max_connections=100, max_waiting=7, max_held=7, max_requests_per_server=0)
    settings = settings_of(config, workers)
    assert (settings.max_connections, settings.max_waiting, settings.max_held) == (connections, waiting, waiting)
    assert settings.max_requests_per_server == 0
    assert (settings.retries, settings.workers) == (config.retries, workers)


def test_they_go_to_another_process_as_they_are() -> None:
    config = L7Config(connect_timeout=Duration(0.5), compat="marathon-lb", trusted_proxies=("10.0.0.0/8",))
    settings = settings_of(config, 2)
    assert settings.compat
    assert type(settings.connect_timeout) is float
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=Settings) == settings
