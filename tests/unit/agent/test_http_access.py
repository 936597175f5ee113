"""Tokens from files, and TLS contexts."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

import pytest
import trustme

from agent import http_access
from agent.http_access import MAX_TOKEN, TokenFile, server_tls


def write(path: Path, text: str, stamp: int) -> None:
    """A file with a time of its own, so that a change is seen however fast the test is."""
    path.write_text(text)
    os.utime(path, ns=(stamp, stamp))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        ("Bearer s3cret", True),
        ("bearer  s3cret ", True),
        ("Bearer s3cre", False),
        ("Bearer s3cretx", False),
        ("Bearer", False),
        ("Basic s3cret", False),
        ("s3cret", False),
        ("", False),
        ("Bearer \udcff", False),
    ],
)
async def test_token(tmp_path: Path, authorization: str, allowed: bool) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    token = TokenFile(str(tmp_path / "token"))
    await token.load()
    assert await token.allows(authorization) is allowed


@pytest.mark.asyncio
@pytest.mark.parametrize("content", ["", " \n", "two tokens", "a\nb\n", "x" * (MAX_TOKEN + 1)])
async def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(OSError, match="expected one token of at most"):
        await TokenFile(str(tmp_path / "token")).load()


@pytest.mark.asyncio
async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"can't read a token from .*/nope"):
        await TokenFile(str(tmp_path / "nope")).load()


@pytest.mark.asyncio
async def test_a_changed_file_is_read_again_and_a_bad_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_access, "RECHECK_SECONDS", 0.0)
    path = tmp_path / "token"
    write(path, "one", 1)
    token = TokenFile(str(path))
    await token.load()
    assert await token.allows("Bearer one")
    write(path, "two", 2)
    assert await token.allows("Bearer two")
    assert not await token.allows("Bearer one")
    with caplog.at_level(logging.ERROR):
        write(path, "", 3)
        assert await token.allows("Bearer two")
        assert await token.allows("Bearer two")
        path.unlink()
        assert await token.allows("Bearer two")
    assert [record.getMessage().count("the last token stays") for record in caplog.records] == [1, 1]
    assert "two" not in caplog.text.replace(str(tmp_path), "")
    write(path, "three", 4)
    assert await token.allows("Bearer three")


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    both = str(tmp_path / "both.pem")
    plain = server_tls(both, both)
    assert (plain.minimum_version, plain.verify_mode) == (ssl.TLSVersion.TLSv1_2, ssl.CERT_NONE)
    assert server_tls(both, both, str(tmp_path / "ca.pem")).verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(OSError, match="as a certificate and its key"):
        server_tls(str(tmp_path / "ca.pem"), str(tmp_path / "ca.pem"))
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(OSError, match="as certificates of authorities"):
        server_tls(both, both, str(tmp_path / "empty.pem"))
