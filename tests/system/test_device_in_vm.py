"""The resolver's device on a kernel that has dummy devices, in a VM where this machine's kernel may lack them."""

from __future__ import annotations

import pytest


@pytest.mark.timeout(2400)
@pytest.mark.vm("tests.vm.device_checks", 400)
def test_dummy_device(in_vm: str) -> None:
    assert in_vm.count(": ok") == 5
