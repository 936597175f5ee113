"""[l4]: the defaults are DC/OS', and what can't be is refused."""

from __future__ import annotations

import msgspec
import pytest

from lb4.config import SCHEDULERS, L4Config
from mesos_dns.config import decode_hook


def decoded(**values: object) -> L4Config:
    return msgspec.convert(values, L4Config, dec_hook=decode_hook)


def test_the_defaults() -> None:
    config = decoded()
    assert (config.dataplane, config.range, config.range6) == ("auto", "11.0.0.0/8", "fd01:c::/64")
    assert config == L4Config()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_kernels_schedulers(scheduler: str) -> None:
    assert decoded(scheduler=scheduler).scheduler == scheduler


@pytest.mark.parametrize(
    "values", [{"scheduler": "fastest"}, {"dataplane": "magic"}, {"device": ""}, {"device": "x" * 16}, {"ranges": "x"}]
)
def test_what_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(**values)
