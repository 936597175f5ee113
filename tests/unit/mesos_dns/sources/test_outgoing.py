"""What both HTTP clients go by."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from aiohttp import web

from mesos_dns.config import MarathonConfig, MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.outgoing import new_session, text_of_refusal, tls_context


@pytest.mark.parametrize(("section", "config"), [("mesos", MesosConfig), ("marathon", MarathonConfig)])
def test_tls_is_verified_and_what_is_missing_is_named(
    section: str, config: type[MesosConfig] | type[MarathonConfig], tmp_path: Path
) -> None:
    assert tls_context(config(), section).verify_mode is ssl.CERT_REQUIRED
    missing = tmp_path / "missing.pem"
    with pytest.raises(OSError, match=rf"^\[{section}\] .*{missing}"):
        tls_context(config(ca_file=str(missing)), section)


@pytest.mark.asyncio
async def test_a_session_asks_for_nothing_compressed_and_a_refusal_is_cut() -> None:
    async def refuse(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(status=403, text=f" {'x' * 1000} ", headers={"Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_get("/", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hosts = Hosts()
    session = new_session(hosts, 5.0)
    try:
        async with session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/") as response:
            assert response.status == 403
            text = await text_of_refusal(response)
            assert text == "x" * len(text)
            assert 0 < len(text) <= 300
        assert not list(session.cookie_jar)
    finally:
        await session.close()
        await hosts.close()
        await runner.cleanup()
