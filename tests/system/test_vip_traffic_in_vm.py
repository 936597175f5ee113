"""Traffic through virtual addresses over IPVS, in a VM because this machine's kernel may lack it."""

from __future__ import annotations

import pytest


@pytest.mark.vm("tests.vm.traffic_checks", 700)
@pytest.mark.timeout(2400)
def test_traffic(in_vm: str) -> None:
    assert in_vm.count(": ok") == 19
