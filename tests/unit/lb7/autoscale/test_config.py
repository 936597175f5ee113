"""What `[autoscale]` says without a word in it."""

from __future__ import annotations

from lb7.autoscale.config import AutoscaleConfig


def test_defaults_ask_nobody_unknown() -> None:
    config = AutoscaleConfig()
    assert (config.edges, config.prometheus, config.hooks, config.apps) == ((), "", (), {})
    assert config.tls_verify
    assert not config.dry_run
