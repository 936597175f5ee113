"""`pharos run` with virtual IPs over IPVS, under churn, in a VM where this machine's kernel may lack it."""

from __future__ import annotations

import pytest


@pytest.mark.timeout(2400)
@pytest.mark.vm("tests.vm.service_checks", 900)
def test_service_over_ipvs(in_vm: str) -> None:
    print(in_vm)
    assert in_vm.count(": ok") == 12
