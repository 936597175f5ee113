"""Basic headers, login assertions and token lifetimes; logins themselves are tested in conversation."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesos_dns.config import MesosConfig
from mesos_dns.sources.mesos_auth import AuthError, BasicAuth, IamAuth, NoAuth, authenticator, sign_login, token_expiry


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_the_kind_that_is_configured() -> None:
    assert isinstance(authenticator(MesosConfig()), NoAuth)
    assert isinstance(authenticator(MesosConfig(auth="basic")), BasicAuth)
    assert isinstance(authenticator(MesosConfig(auth="iam")), IamAuth)
    assert not NoAuth().rejected()


def test_an_assertion() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    head, claims, signature = sign_login("me", pem(key), 1234.5).split(".")
    padded = [part + "=" * (-len(part) % 4) for part in (head, claims, signature)]
    assert json.loads(base64.urlsafe_b64decode(padded[0])) == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(base64.urlsafe_b64decode(padded[1])) == {"uid": "me", "exp": 1234}
    assert len(base64.urlsafe_b64decode(padded[2])) == 256


@pytest.mark.parametrize("key", ["", "x", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_keys_that_do_not_do(key: str) -> None:
    with pytest.raises(AuthError) as error:
        sign_login("me", key, 1.0)
    assert key not in str(error.value) or not key


def token(claims: object) -> str:
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode() + ".s"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (token({"exp": 5}), 5.0),
        (token({"exp": 5.5, "x": 1}), 5.5),
        (token({}), 7.0),
        (token({"exp": "x"}), 7.0),
        (token([]), 7.0),
        ("opaque", 7.0),
        ("a.b.c", 7.0),
        ("a.\u00e9.c", 7.0),
    ],
)
def test_token_expiry(text: str, expected: float) -> None:
    assert token_expiry(text, 7.0) == expected
