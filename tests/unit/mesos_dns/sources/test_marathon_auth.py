"""Which header is sent, how long it is kept, and what is said when there is none."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import aiohttp
import pytest

from mesos_dns.config import MarathonConfig
from mesos_dns.sources.marathon_auth import KEPT, KeptAuth, TokenAuth, authenticator
from mesos_dns.sources.mesos_auth import AuthError, IamAuth, NoAuth

pytestmark = pytest.mark.asyncio


async def headers(config: MarathonConfig) -> dict[str, str]:
    async with aiohttp.ClientSession() as session:
        return await authenticator(config).headers(session, None)


async def test_the_kinds(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\r\nsecond line\n")
    assert isinstance(authenticator(MarathonConfig()), NoAuth)
    assert isinstance(authenticator(MarathonConfig(auth="iam")), IamAuth)
    basic = await headers(MarathonConfig(auth="basic", principal="me", secret_file=str(file)))
    assert base64.b64decode(basic["Authorization"].removeprefix("Basic ")) == b"me:from-file"
    assert await headers(MarathonConfig(auth="token", secret="t0ken")) == {"Authorization": "token=t0ken"}
    assert await headers(MarathonConfig(auth="token", secret_file=str(file))) == {"Authorization": "token=from-file"}


@pytest.mark.parametrize("kind", ["basic", "token"])
async def test_a_file_that_is_not_there_is_named(kind: str) -> None:
    with pytest.raises(AuthError, match=r"\[marathon\] secret_file /nowhere"):
        await headers(MarathonConfig(auth=kind, principal="me", secret_file="/nowhere"))  # type: ignore[arg-type]


async def test_an_account_that_is_not_there_is_named() -> None:
    with pytest.raises(AuthError, match=r"\[marathon\] iam_config_file /nowhere"):
        await headers(MarathonConfig(auth="iam", iam_config_file="/nowhere"))


async def test_a_token_that_would_break_the_header_is_refused() -> None:
    with pytest.raises(AuthError, match="characters") as error:
        await headers(MarathonConfig(auth="token", secret="s3cret\nX-Evil: 1"))
    assert "s3cret" not in str(error.value)


class Counting:
    """An authenticator that tells how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        self.asked += 1
        return {"Authorization": str(self.asked)}

    def rejected(self) -> bool:
        return False


async def test_headers_are_kept_for_a_while_and_thrown_away_when_refused() -> None:
    now, inner = [100.0], Counting()
    kept = KeptAuth(inner, lambda: now[0])
    async with aiohttp.ClientSession() as session:
        assert await kept.headers(session, None) == {"Authorization": "1"}
        assert not kept.rejected()  # it was read just now
        assert await kept.headers(session, None) == {"Authorization": "2"}
        assert await kept.headers(session, None) == {"Authorization": "2"}
        assert kept.rejected()
        assert await kept.headers(session, None) == {"Authorization": "3"}
        now[0] += KEPT
        assert await kept.headers(session, None) == {"Authorization": "4"}


async def test_a_token_itself_knows_no_better_one() -> None:
    assert not TokenAuth("x", "").rejected()
