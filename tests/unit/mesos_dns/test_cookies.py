"""Cookies: RFC 9018's own examples, how long they are good, and files of secrets."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from mesos_dns import cookies
from mesos_dns.config import DnsConfig
from mesos_dns.cookies import OLDEST, RENEW_AFTER, age, matching, read_secrets, reply_cookie, secrets_of, siphash

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
OLD, NEW = (bytes.fromhex(text) for text in ("dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962"))
CLIENT = ipaddress.ip_address("198.51.100.100").packed
NOW = 1559731985


def made(now: int = NOW, client: bytes = CLIENT, secret: bytes = SECRET) -> bytes:
    """A whole cookie that a server gave at a time."""
    return reply_cookie(b"12345678", client, now, [secret])[0]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "310e0edd47db6f72"), (1, "fd67dc93c539f874"), (15, "e545be4961ca29a1"), (63, "724506eb4c328a95")],
)
def test_the_vectors_of_siphash(size: int, expected: str) -> None:
    assert siphash(bytes(range(16)), bytes(range(size))).hex() == expected


@pytest.mark.parametrize(
    ("cookie", "client", "now", "known", "expected", "trusted"),
    [
        # A.1: a client without a server cookie
        ("2464c4abcf10c957", "198.51.100.100", NOW, [SECRET], "010000005cf79f111f8130c3eee29480", False),
        # A.2: the same one 40 minutes later
        (
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            "198.51.100.100",
            1559734385,
            [SECRET],
            "010000005cf7a871d4a564a1442aca77",
            True,
        ),
        # A.3: reserved octets that are not zero, and nearly two hours old
        (
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            "203.0.113.203",
            1559734700,
            [SECRET],
            "010000005cf7a9acf73a7810aca2381e",
            False,
        ),
        # A.4: IPv6, made with the secret before
        (
            "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1559741961,
            [NEW, OLD],
            "010000005cf7c609a6bb79d16625507a",
            True,
        ),
    ],
)
def test_the_examples_of_rfc_9018(
    cookie: str, client: str, now: int, known: list[bytes], expected: str, trusted: bool
) -> None:
    reply = reply_cookie(bytes.fromhex(cookie), ipaddress.ip_address(client).packed, now, known)
    assert reply == (bytes.fromhex(cookie[:16] + expected), trusted)


def test_reserved_octets_are_hashed_as_they_came() -> None:
    cookie = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    assert matching(cookie, ipaddress.ip_address("203.0.113.203").packed, 1559727985, [SECRET]) == 0


@pytest.mark.parametrize(
    ("passed", "trusted", "renewed"),
    [
        (-301, False, True),
        (-300, True, False),
        (0, True, False),
        (RENEW_AFTER, True, False),
        (RENEW_AFTER + 1, True, True),
        (OLDEST, True, True),
        (OLDEST + 1, False, True),
        (1 << 31, False, True),
        (1 << 32, True, False),  # times wrap around
    ],
)
def test_how_long_a_cookie_is_good(passed: int, trusted: bool, renewed: bool) -> None:
    cookie = made()
    reply, found = reply_cookie(cookie, CLIENT, NOW + passed, [SECRET])
    assert (found, reply != cookie) == (trusted, renewed)
    assert len(reply) == 24
    assert reply[:8] == cookie[:8]
    assert reply_cookie(reply, CLIENT, NOW + passed, [SECRET]) == (reply, True)


def test_times_wrap_around() -> None:
    last = (1 << 32) - 10
    cookie = made(last)
    assert age(cookie, last + 100) == 100
    assert reply_cookie(cookie, CLIENT, last + 100, [SECRET]) == (cookie, True)


def test_a_cookie_belongs_to_one_client_and_one_secret() -> None:
    cookie = made()
    assert matching(cookie, CLIENT, NOW, [SECRET]) == 0
    assert matching(cookie, CLIENT, NOW, [NEW, OLD, SECRET]) == 2
    assert matching(cookie, CLIENT, NOW, [NEW]) == -1
    assert matching(cookie, CLIENT[:3] + b"\1", NOW, [SECRET]) == -1
    assert matching(cookie, CLIENT + bytes(12), NOW, [SECRET]) == -1
    for at in range(len(cookie)):
        other = cookie[:at] + bytes((cookie[at] ^ 1,)) + cookie[at + 1 :]
        assert matching(other, CLIENT, NOW, [SECRET]) == -1


@pytest.mark.parametrize("cookie", [made()[:8], made()[:16], made()[:23], made() + b"\0", made() + bytes(16)])
def test_other_sizes_are_no_cookie_of_ours(cookie: bytes) -> None:
    assert reply_cookie(cookie, CLIENT, NOW, [SECRET]) == (made(), False)


# --- secrets --------------------------------------------------------------------------------------


def test_a_file_of_secrets(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"{NEW.hex().upper()}\r\n\n  {OLD.hex()}  \n")
    assert read_secrets(str(path)) == (NEW, OLD)
    assert secrets_of(DnsConfig(cookie_secret_file=str(path))) == (NEW, OLD)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected 1 to 4 secrets in {name!r}, got 0"),
        ("\n \n", "expected 1 to 4 secrets in {name!r}, got 0"),
        (f"{OLD.hex()}\n" * 5, "expected 1 to 4 secrets in {name!r}, got 5"),
        (
            f"{OLD.hex()}\n{OLD.hex()[:-1]}\n",
            "expected 32 hexadecimal digits a line, not what line 2 of {name!r} holds",
        ),
        (OLD.hex() + "00", "expected 32 hexadecimal digits a line, not what line 1 of {name!r} holds"),
        ("g" * 32, "expected 32 hexadecimal digits a line, not what line 1 of {name!r} holds"),
        ("é" * 32, "expected 32 hexadecimal digits a line, not what line 1 of {name!r} holds"),
        (" ".join(["00"] * 16), "expected 32 hexadecimal digits a line, not what line 1 of {name!r} holds"),
    ],
)
def test_a_file_that_holds_something_else(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "secrets"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"secret|hexadecimal") as caught:
        read_secrets(str(path))
    assert str(caught.value) == expected.format(name=str(path))
    with pytest.raises(ValueError, match=r"^\[dns\] cookie_secret_file: expected "):
        secrets_of(DnsConfig(cookie_secret_file=str(path)))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        secrets_of(DnsConfig(cookie_secret_file=str(tmp_path / "none")))


def test_without_a_file_the_process_has_one_secret() -> None:
    (secret,) = secrets_of(DnsConfig())
    assert len(secret) == cookies.SECRET_SIZE
    assert secrets_of(DnsConfig(ttl=1)) == (secret,)
    assert secrets_of(DnsConfig(cookies=False)) == ()
