"""A client's TLS settings: what is read, and which file an error names."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from mesos_dns.tls import Tls


def test_tls_files_are_read_and_named_when_bad(tmp_path: Path) -> None:
    authority = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    assert Tls(str(tmp_path / "ca.pem")).context().check_hostname
    assert not Tls(verify=False).context().check_hostname
    with pytest.raises(OSError, match="nowhere"):
        Tls(str(tmp_path / "nowhere")).context()
    with pytest.raises(OSError, match="nokey"):
        Tls(str(tmp_path / "ca.pem"), str(tmp_path / "nokey"), str(tmp_path / "nokey")).context()
