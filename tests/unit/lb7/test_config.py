"""What can be set of the edge."""

from __future__ import annotations

import msgspec
import pytest

from lb7.config import L7Config
from mesos_dns.config import decode_hook


def read(text: str) -> L7Config:
    return msgspec.toml.decode(text, type=L7Config, dec_hook=decode_hook)


def test_defaults_are_those_of_an_edge_that_is_safe() -> None:
    config = L7Config()
    assert (config.compat, config.groups, config.http, config.https) == ("", ("external",), (":80",), (":443",))
    assert config.app_id == ("127.0.0.1:9091",)
    assert config.trusted_proxies == ()


def test_values_are_read() -> None:
    config = read('groups = ["*"]\nconnect_timeout = "500ms"\nauto_ports = [20000, 20100]\naccess_log = 0.01')
    assert (config.groups, config.connect_timeout, config.auto_ports) == (("*",), 0.5, (20000, 20100))
    assert config.access_log == 0.01


@pytest.mark.parametrize(
    "text",
    [
        "groups = []",
        'balance = "fastest"',
        'compat = "haproxy"',
        "workers = 257",
        "max_head = 100",
        "max_headers = 129",
        "retries = 11",
        "retry_budget = 1.5",
        "access_log = 2",
        "auto_ports = [1]",
        'connect_timeout = "soon"',
        "unknown = 1",
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(text)
