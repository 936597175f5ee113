"""Files that can be read and hold something else than they should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.config import load_text
from agent.file_contents import content_problems

MESOS = "[mesos]\nmasters = ['https://m:5050']\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a certificate, its key, the same key encrypted, a token, a secret, an account."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    issued = authority.issue_cert("pharos.test")
    authority.cert_pem.write_to_path(folder / "ca")
    issued.cert_chain_pems[0].write_to_path(folder / "cert")
    issued.private_key_pem.write_to_path(folder / "key")
    authority.issue_cert("other.test").private_key_pem.write_to_path(folder / "other-key")
    private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"x")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / "locked-key").write_bytes(private.private_bytes(*form, locked))
    (folder / "token").write_text("t\n")
    (folder / "secret").write_text("s\nremarks\n")
    (folder / "empty").write_text("\n")
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(*form, serialization.NoEncryption()).decode()
    account = {"uid": "pharos", "private_key": rsa_key, "login_endpoint": "https://m/login", "scheme": "RS256"}
    (folder / "account").write_text(json.dumps(account))
    (folder / "account-without-key").write_text(json.dumps({**account, "private_key": "no key"}))
    return folder


@pytest.fixture
def found(pem: Path) -> Callable[[str], list[str]]:
    """The problems of a configuration whose "@NAME" are files of the folder."""
    return lambda text: [str(problem) for problem in content_problems(load_text(text.replace("@", f"{pem}/"), "f"))]


@pytest.mark.parametrize(
    "text",
    [
        "[dns]",
        MESOS + "ca_file = '@ca'\ncert_file = '@cert'\nkey_file = '@key'",
        MESOS + "auth = 'basic'\nprincipal = 'p'\nsecret_file = '@secret'",
        MESOS + "auth = 'iam'\niam_config_file = '@account'",
        "[api]\ncert_file = '@cert'\nkey_file = '@key'\nclient_ca_file = '@ca'\ntoken_file = '@token'",
        "[admin]\ncert_file = '@cert'\nkey_file = '@key'\ntoken_file = '@token'",
        "[dns]\ncert_file = '@cert'\nkey_file = '@key'\ntls_listen = [':853']",
    ],
)
def test_usable_files(found: Callable[[str], list[str]], text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "start", "told"),
    [
        (MESOS + "ca_file = '@token'", "mesos.ca_file: expected certificates in PEM in '", "/token'"),
        (
            MESOS + "cert_file = '@cert'\nkey_file = '@other-key'",
            "mesos.cert_file: expected a certificate and its unencrypted key in PEM in '",
            "/other-key'",
        ),
        (MESOS + "secret_file = '@empty'", "mesos.secret_file: '", "/empty' has no secret in its first line (UTF-8)"),
        (
            MESOS + "auth = 'iam'\niam_config_file = '@token'",
            "mesos.iam_config_file: ",
            "is not a service account file",
        ),
        (
            MESOS + "auth = 'iam'\niam_config_file = '@account-without-key'",
            "mesos.iam_config_file: ",
            "private_key is not an unencrypted PEM key",
        ),
        ("[api]\ncert_file = '@token'\nkey_file = '@token'", "api.cert_file: expected a certificate", "/token'"),
        ("[api]\ncert_file = '@cert'\nkey_file = '@locked-key'", "api.cert_file: ", "the key is encrypted"),
        ("[dns]\ncert_file = '@cert'\nkey_file = '@locked-key'", "dns.cert_file: ", "the key is encrypted"),
        ("[dns]\ncert_file = '@token'\nkey_file = '@key'", "dns.cert_file: expected a certificate", "/key'"),
        (
            "[api]\ncert_file = '@cert'\nkey_file = '@key'\nclient_ca_file = '@key'",
            "api.client_ca_file: expected certificates in PEM in '",
            "/key'",
        ),
        ("[api]\ntoken_file = '@empty'", "api.token_file: '", "/empty': expected one token of at most 4096 bytes"),
        (
            "[admin]\ntoken_file = '@secret'",
            "admin.token_file: '",
            "/secret': expected one token of at most 4096 bytes",
        ),
    ],
)
def test_refused(found: Callable[[str], list[str]], text: str, start: str, told: str) -> None:
    (problem,) = found(text)
    assert problem.startswith(start)
    assert told in problem


def test_no_secret_is_told(found: Callable[[str], list[str]], pem: Path) -> None:
    (pem / "two").write_text("one-secret\nanother-secret\n")
    (problem,) = found("[api]\ntoken_file = '@two'")
    assert "-secret" not in problem
