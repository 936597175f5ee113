"""lb7.credentials: who is known, what is asked once, and what floods do."""

from __future__ import annotations

import asyncio
import base64
import gc
import threading

import pytest

from lb7 import credentials as module
from lb7.credentials import Credentials, credentials
from lb7.table import AuthRule

SECRET = "$1$uVoNRpkV$nxIHYSWEOvS4znNtyR30j/"  # of "secret"


def header(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def made(*users: tuple[str, str], realm: str = "Here") -> Credentials:
    return Credentials(AuthRule((), realm, users or (("me", SECRET),)))


async def asked(who: Credentials, value: bytes) -> bool:
    """Asks, and waits for the answer."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    assert who.ask(value, answer.set_result)
    assert not answer.done()
    return await answer


@pytest.mark.asyncio
async def test_right_and_wrong_passwords_are_asked_once() -> None:
    who = made()
    for password, right in (("secret", True), ("Secret", False), ("", False)):
        value = header("me", password)
        assert who.known(value) is None
        assert await asked(who, value) is right
        assert who.known(value) is right
    assert who.hashed == 3


@pytest.mark.asyncio
async def test_a_user_that_does_not_exist_costs_as_much() -> None:
    who = made()
    value = header("you", "secret")
    assert who.known(value) is None
    assert await asked(who, value) is False
    assert (who.known(value), who.hashed) == (False, 1)


@pytest.mark.asyncio
async def test_those_who_ask_the_same_share_the_answer() -> None:
    who = made()
    value = header("me", "secret")
    assert await asyncio.gather(*(asked(who, value) for _ in range(100))) == [True] * 100
    assert who.hashed == 1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic %%%",
        b"Basic bWU6c2VjcmV0=",
        b"Bearer bWU6c2VjcmV0",
        b"Basic " + base64.b64encode(b"no colon"),
        b"Basic " + base64.b64encode(b"me:secret\0x"),
        b"Basic " + base64.b64encode(b"me:secret\n"),
        b"Basic " + base64.b64encode(b"me:" + b"x" * 1024),
    ],
)
def test_what_is_no_basic_authentication_is_wrong_at_once(value: bytes) -> None:
    assert made().known(value) is False


@pytest.mark.asyncio
async def test_asking_for_what_is_wrong_anyway() -> None:
    assert await asked(made(), b"Basic %%%") is False
    assert await asked(made(("me", "plain")), header("me", "plain")) is False


@pytest.mark.asyncio
async def test_forms_of_the_header() -> None:
    encoded = base64.b64encode(b"me:secret")
    for value in (b"basic " + encoded, b"BASIC   " + encoded + b" "):
        assert await asked(made(), value) is True


@pytest.mark.asyncio
async def test_users_with_a_bad_hash_never_pass_and_harm_no_others() -> None:
    who = made(("bad", "plain"), ("me", SECRET), ("me", "$1$abcdefgh$AAAAAAAAAAAAAAAAAAAAA."))
    assert await asked(who, header("bad", "plain")) is False
    assert await asked(who, header("me", "secret")) is True
    assert made(("bad", "plain")).known(header("bad", "plain")) is False


@pytest.mark.asyncio
async def test_answers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 0.0)
    who = made()
    for value in (header("me", "secret"), header("me", "wrong")):
        await asked(who, value)
        assert who.known(value) is None


@pytest.mark.asyncio
async def test_memory_has_a_bound_and_wrong_ones_push_no_right_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 10)
    who = made()
    assert await asked(who, header("me", "secret"))
    for number in range(30):
        assert not await asked(who, header("me", str(number)))
    assert (len(who._right), len(who._wrong)) == (1, 10)
    assert who.known(header("me", "secret")) is True
    assert who.known(header("me", "29")) is False
    assert who.known(header("me", "0")) is None


@pytest.mark.asyncio
async def test_too_many_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(module, "_matches", lambda password, stored: gate.wait(60))
    one, other = made(), made(realm="There")
    answers: list[bool] = []
    for number in range(module.MOST_WAITING_EACH):
        assert one.ask(header("me", str(number)), answers.append)
    assert not one.ask(header("me", "more"), answers.append)
    assert one.ask(header("me", "0"), answers.append)  # is being asked already
    assert one.refused == 1
    assert other.ask(header("me", "secret"), answers.append)
    monkeypatch.setattr(module, "MOST_WAITING", module.MOST_WAITING_EACH + 1)
    assert not other.ask(header("me", "more"), answers.append)
    gate.set()
    while len(answers) < module.MOST_WAITING_EACH + 2:
        await asyncio.sleep(0.005)
    assert all(answers)
    assert one.ask(header("me", "more"), answers.append)
    while len(answers) < module.MOST_WAITING_EACH + 3:
        await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_a_failure_of_the_thread_is_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(password: bytes, stored: bytes) -> bool:
        raise OSError

    monkeypatch.setattr(module, "_matches", fails)
    assert await asked(made(), header("me", "secret")) is False


@pytest.mark.parametrize(
    ("realm", "expected"),
    [
        ("My Realm", b'Basic realm="My Realm"'),
        ('a"b\\c', b'Basic realm="a\\"b\\\\c"'),
        ("a\r\nSet-Cookie: x", b'Basic realm="aSet-Cookie: x"'),
        ("Käse", 'Basic realm="Käse"'.encode()),
    ],
)
def test_challenge(realm: str, expected: bytes) -> None:
    assert made(realm=realm).challenge == expected


def test_rules_with_the_same_users_share_one_object() -> None:
    users = (("me", SECRET),)
    one = credentials(AuthRule((), "x", users))
    assert one is not None
    assert credentials(AuthRule((), "x", users)) is one
    assert credentials(AuthRule((), "y", users)) is not one
    assert credentials(AuthRule((), "x")) is None
    del one
    gc.collect()
    assert ("x", users) not in module._shared
