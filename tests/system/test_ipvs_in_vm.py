"""IPVS as Pharos sets it, in a real kernel and as ipvsadm sees it, in a VM where this machine's kernel may lack it."""

from __future__ import annotations

import pytest


@pytest.mark.timeout(2400)
@pytest.mark.vm("tests.vm.ipvs_checks", 700)
def test_ipvs(in_vm: str) -> None:
    assert in_vm.count(": ok") == 12
