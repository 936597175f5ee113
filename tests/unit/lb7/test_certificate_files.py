"""The folder of certificates: what is taken, what is reported, and what stays when a file goes bad."""

from __future__ import annotations

import datetime
import os
import ssl
import time
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lb7 import certificate_files
from lb7.certificate_files import CertificateFiles, names_of

AUTHORITY = trustme.CA()


def pem(*names: str) -> bytes:
    return AUTHORITY.issue_cert(*names).private_key_and_cert_chain_pem.bytes()


def names(files: CertificateFiles) -> list[tuple[str, tuple[str, ...]]]:
    return [(certificate.name, certificate.names) for certificate in files.certificates]


@pytest.mark.asyncio
async def test_files_are_taken_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.pem").write_bytes(pem("B.example", "*.b.example"))
    (tmp_path / "a.crt").write_bytes(pem("a.example"))
    (tmp_path / ".hidden.pem").write_bytes(b"nonsense")
    (tmp_path / "readme.txt").write_bytes(b"nonsense")
    (tmp_path / "folder.pem").mkdir()
    (tmp_path / "nowhere.pem").symlink_to(tmp_path / "nothing")
    files = CertificateFiles(str(tmp_path))
    assert await files.look(settled=True)
    assert names(files) == [("a.crt", ("a.example",)), ("b.pem", ("b.example", "*.b.example"))]
    assert not files.problems
    assert all(when > time.time() for when in files.expiry.values())
    assert not await files.look()


@pytest.mark.asyncio
async def test_no_folder_named_and_none_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not await CertificateFiles("").look()
    files = CertificateFiles(str(tmp_path / "certs"))
    assert not await files.look()
    assert not await files.look()
    assert list(files.problems) == [""]
    assert len(caplog.records) == 1
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "a.pem").write_bytes(pem("a.example"))
    assert await files.look()
    assert not files.problems


@pytest.mark.asyncio
async def test_a_bad_file_keeps_what_it_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(pem("a.example"))
    (tmp_path / "b.pem").write_bytes(pem("b.example"))
    files = CertificateFiles(str(tmp_path))
    await files.look(settled=True)
    before = files.certificates
    path.write_bytes(b"nonsense")
    assert not await files.look()
    assert files.certificates == before
    assert "no certificate" in files.problems["a.pem"]
    assert "still used" in files.problems["a.pem"]
    assert len(caplog.records) == 1
    path.write_bytes(pem("c.example"))
    assert await files.look()
    assert names(files) == [("a.pem", ("c.example",)), ("b.pem", ("b.example",))]
    assert not files.problems
    path.unlink()
    assert await files.look()
    assert names(files) == [("b.pem", ("b.example",))]
    assert list(files.expiry) == ["b.pem"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no certificate"),
        (AUTHORITY.issue_cert("a.example").cert_chain_pems[0].bytes(), "no key"),
        (
            AUTHORITY.issue_cert("a.example").cert_chain_pems[0].bytes()
            + AUTHORITY.issue_cert("b.example").private_key_pem.bytes(),
            "can't be used",
        ),
        (b"x" * (certificate_files.MOST_OCTETS + 1), "larger than"),
    ],
    ids=["nothing", "no key", "another's key", "large"],
)
async def test_what_is_said_of_a_bad_file(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.pem").write_bytes(content)
    (tmp_path / "good.pem").write_bytes(pem("a.example"))
    files = CertificateFiles(str(tmp_path))
    assert await files.look(settled=True)
    assert names(files) == [("good.pem", ("a.example",))]
    assert said in files.problems["bad.pem"]
    assert f"{tmp_path}/bad.pem" in files.problems["bad.pem"]


def odd_version() -> bytes:
    """A certificate and its key, of a version that there is not."""
    made = AUTHORITY.issue_cert("odd.example")
    der = bytearray(ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode()))
    der[der.index(bytes.fromhex("a003020102")) + 4] = 5
    return ssl.DER_cert_to_PEM_cert(bytes(der)).encode() + made.private_key_pem.bytes()


@pytest.mark.asyncio
async def test_an_odd_certificate_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is odd in it is told by exceptions of any kind."""
    (tmp_path / "a.pem").write_bytes(odd_version())
    (tmp_path / "b.pem").write_bytes(pem("b.example"))
    files = CertificateFiles(str(tmp_path))
    assert await files.look(settled=True)
    assert names(files) == [("b.pem", ("b.example",))]
    assert "version" in files.problems["a.pem"]
    assert not await files.look(settled=True)
    assert len(caplog.records) == 1, "it is not read again before it has changed"


@pytest.mark.asyncio
async def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    """Workers could not be told of it."""
    for name in ("\udcff.pem", "a.pem"):  # the octet \xff, as Python has it
        (tmp_path / name).write_bytes(pem("a.example"))
    files = CertificateFiles(str(tmp_path))
    assert await files.look(settled=True)
    assert [certificate.name for certificate in files.certificates] == ["a.pem"]
    assert list(files.problems) == ["\\udcff.pem"]
    assert b"not UTF-8" in files.problems["\\udcff.pem"].encode()
    (tmp_path / "\udcff.pem").unlink()
    await files.look(settled=True)
    assert not files.problems


@pytest.mark.asyncio
async def test_a_file_that_can_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rights may change, which no stamp shows."""
    (tmp_path / "a.pem").write_bytes(pem("a.example"))
    real = certificate_files.read_certificate

    def forbidden(folder: str, name: str) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(certificate_files, "read_certificate", forbidden)
    files = CertificateFiles(str(tmp_path))
    assert not await files.look(settled=True)
    assert "Permission denied" in files.problems["a.pem"]
    monkeypatch.setattr(certificate_files, "read_certificate", real)
    assert await files.look(settled=True)
    assert not files.problems


@pytest.mark.asyncio
async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(b"half")
    real, looks = certificate_files._stamps_of, [0]

    def stamps_of(folder: str) -> object:
        looks[0] += 1
        if looks[0] == 2:
            path.write_bytes(pem("a.example"))
            os.utime(path, ns=(1, 1))
        return real(folder)

    monkeypatch.setattr(certificate_files, "_stamps_of", stamps_of)
    files = CertificateFiles(str(tmp_path))
    assert not await files.look()
    assert not files.problems
    assert await files.look()
    assert names(files) == [("a.pem", ("a.example",))]


@pytest.mark.asyncio
async def test_a_folder_has_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_files, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.pem").write_bytes(pem(f"{name}.example"))
    files = CertificateFiles(str(tmp_path))
    assert await files.look(settled=True)
    assert [certificate.name for certificate in files.certificates] == ["a.pem", "b.pem"]
    assert "more than 2" in files.problems[""]


def test_a_certificate_without_extension_is_for_its_common_name() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Old.Example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    assert names_of(made) == ("old.example",)
