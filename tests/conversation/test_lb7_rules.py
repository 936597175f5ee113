"""What rules ask for beside a server: passwords, redirects, allow-lists, other paths and hosts, sticky clients."""

from __future__ import annotations

import base64
import re

from lb7.table import AuthRule, HostRules, PathPrefix, RedirectRule, RouteRule
from tests.fakes.edged import HOST, NAME, Edged, edged, request, told
from tests.fakes.scripted_backend import OK, backend, sends

GOOD = "Authorization: Basic " + base64.b64encode(b"bob:s3cret").decode()
BAD = "Authorization: Basic " + base64.b64encode(b"bob:guess").decode()
BOB = ("bob", "$5$mlbsalt$S8QlZRrincTeb0muBW65rPNf9IFcGKxtQ5h1DAyplUD")

ROUTE = (RouteRule(cluster=NAME),)


@told
async def test_passwords() -> None:
    async with backend() as server, edged(server) as edge:
        edge.rules(HOST, HostRules(auth=(AuthRule(realm="My Realm", users=(BOB,)),), routes=ROUTE))
        client = await edge.client()
        answer = await client.ask()
        assert (answer.status, answer.fields("www-authenticate")) == (401, [b'Basic realm="My Realm"'])
        for _ in range(2):
            assert (await client.ask("/", BAD)).status == 401
            assert (await client.ask("/x", GOOD, method="POST", body=b"abc")).status == 200
        assert (await client.ask("/", GOOD, GOOD)).status == 401
        assert [heard.body for heard in server.heard] == [b"abc", b"abc"]
        assert edge.counted("unauthorized") == 4


@told
async def test_requests_behind_one_whose_password_is_looked_into() -> None:
    async with backend() as server, edged(server) as edge:
        edge.rules(HOST, HostRules(auth=(AuthRule(realm="r", users=(BOB,)),), routes=ROUTE))
        client = await edge.client()
        await client.send(request("/1", GOOD) + request("/2", GOOD), request("/3", BAD))
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 401]
        assert server.paths() == ["/1", "/2"]
        gone = await edge.client()
        await gone.send(request("/4", "Authorization: Basic " + base64.b64encode(b"bob:other").decode()))
        gone.writer.transport.abort()


@told
async def test_redirects() -> None:
    async with backend() as server, edged(server) as edge:
        rule = RedirectRule(paths=(PathPrefix("/old"),), status=302, location="https://new.example/")
        edge.rules(HOST, HostRules(redirects=(rule,), routes=ROUTE))
        edge.rules("secure.example", HostRules(redirects=(RedirectRule(https=True),), routes=ROUTE))
        edge.rules("", HostRules(redirects=(RedirectRule(https=True),), routes=ROUTE))
        client = await edge.client()
        answer = await client.ask("/old/x")
        assert (answer.status, answer.fields("location")) == (302, [b"https://new.example/"])
        assert (await client.ask("/new")).status == 200
        await client.send(request("/a/b?c=d", host="secure.example:8080"))
        answer = await client.answer()
        assert (answer.status, answer.fields("location")) == (301, [b"https://secure.example/a/b?c=d"])
        assert (await client.ask("/x")).status == 200
        assert (await edge.raw(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert server.paths() == ["/new", "/x"]


@told
async def test_a_location_that_would_end_the_line_is_not_sent() -> None:
    async with backend() as server, edged(server) as edge:
        edge.rules(HOST, HostRules(redirects=(RedirectRule(location="/x\r\nSet-Cookie: a=b"),), routes=ROUTE))
        answer = await edge.ask()
        assert (answer.status, answer.fields("set-cookie")) == (400, [])


@told
async def test_paths_that_can_be_read_as_others() -> None:
    async with backend() as server, edged(server) as edge:
        rule = AuthRule(paths=(PathPrefix("/admin"),), realm="r", users=(BOB,))
        edge.rules(HOST, HostRules(auth=(rule, AuthRule()), routes=ROUTE))
        assert (await edge.ask("/public")).status == 200
        assert (await edge.ask("/public/../admin")).status == 400
        assert (await edge.ask("//admin")).status in (400, 401)
        assert server.paths() == ["/public"]


@told
async def test_allow_lists() -> None:
    async with backend() as server:
        async with edged(server, cluster={"allow": ("10.0.0.0/8",)}) as edge:
            assert (await edge.ask()).status == 403
            assert edge.counted("denied") == 1
        async with edged(server, cluster={"allow": ("127.0.0.0/8",)}) as edge:
            assert (await edge.ask()).status == 200


@told
async def test_the_root_is_sent_elsewhere() -> None:
    async with backend() as server, edged(server, cluster={"root_redirect": "/my/content"}) as edge:
        answer = await edge.ask("/?a=b")
        assert (answer.status, answer.fields("location")) == (301, [b"/my/content"])
        assert (await edge.ask("/other")).status == 200


@told
async def test_the_root_of_one_host_alone_is_sent_elsewhere() -> None:
    cluster = {"root_redirect": "/start", "root_redirect_hosts": ("shop.example",)}
    async with backend() as server:
        async with edged(server, cluster=cluster) as edge:
            edge.rules("", HostRules(routes=ROUTE))
            client = await edge.client()
            found = []
            for host, path in (("Shop.example", "/?a"), ("shop.example", "/x"), ("shop.example:1", "/"), ("b", "/")):
                await client.send(request(path, host=host))
                found.append((await client.answer()).status)
            assert found == [301, 200, 200, 200]
        async with edged(server, cluster=cluster | {"allow": ("10.0.0.0/8",)}) as edge:
            edge.rules("", HostRules(routes=ROUTE))
            client = await edge.client()
            await client.send(request("/", host="shop.example"))
            assert (await client.answer()).status == 403


async def path_of(edge: Edged, path: str) -> str:
    """What the server is asked for, when the edge is asked for this; it answers with that."""
    return (await edge.ask(path)).body.decode()


async def tells_path(connection, heard):  # type: ignore[no-untyped-def]
    path = heard.line.split(b" ")[1]
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))


@told
async def test_a_prefix_is_taken_away() -> None:
    async with backend({"": tells_path}) as server:
        async with edged(server, cluster={"strip_path": "/a/b", "host": "inner.example"}) as edge:
            assert await path_of(edge, "/a/b") == "/"
            assert await path_of(edge, "/a/b/") == "/"
            assert await path_of(edge, "/a/b/c?d=/a/b") == "/c?d=/a/b"
            assert await path_of(edge, "/a/b?c") == "/?c"
            assert await path_of(edge, "/a/bc") == "/a/bc"
            assert await path_of(edge, "/A/B/c") == "/A/B/c"
            assert server.heard[0].fields("host") == [b"inner.example"]
            assert server.heard[0].fields("x-forwarded-host") == [HOST.encode()]
        async with edged(server, cluster={"strip_path": "/a/b", "host": "inner.example"}, compat=True) as edge:
            assert await path_of(edge, "/a/b/c?d=e") == "/c?d=e"
            assert await path_of(edge, "/a/bc") == "/c"
            assert await path_of(edge, "/A/B/c") == "/c"
            assert server.heard[-1].fields("x-forwarded-host") == []


@told
async def test_answers_get_other_fields() -> None:
    moved = (
        b"HTTP/1.1 302 Found\r\nLocation: http://inner/abc\r\nStrict-Transport-Security: x\r\nContent-Length: 0\r\n\r\n"
    )
    given = {"location": "/my/content", "hsts": "max-age=15768000"}
    async with backend({"/moved": sends(moved)}) as server, edged(server, cluster=given) as edge:
        answer = await edge.ask("/moved")
        assert answer.fields("location") == [b"/my/content"]
        assert answer.fields("strict-transport-security") == [b"max-age=15768000"]
        answer = await edge.ask("/x")
        assert answer.fields("location") == []
        assert answer.fields("strict-transport-security") == [b"max-age=15768000"]
        assert answer.body == b"ok"


@told
async def test_sticky_clients_stay_with_their_server() -> None:
    async with backend() as one, backend() as two, edged(one, two, cluster={"sticky": "sid"}) as edge:
        answer = await edge.ask()
        assert answer.fields("cache-control") == [b"private"]
        found = re.fullmatch(rb"sid=(c\d+); path=/", answer.fields("set-cookie")[0])
        assert found is not None
        mine = f"Cookie: a=b; sid={found[1].decode()}; c=d"
        for _ in range(4):
            answer = await edge.ask("/mine", mine)
            assert (answer.status, answer.fields("set-cookie"), answer.fields("cache-control")) == (200, [], [])
        server = one if one.heard and one.heard[0].line == b"GET / HTTP/1.1" else two
        assert server.paths() == ["/"] + ["/mine"] * 4
        assert server.heard[-1].fields("cookie") == [b"a=b; c=d"]
        answer = await edge.ask("/other", "Cookie: sid=nobody", "Cookie: e=f")
        assert len(answer.fields("set-cookie")) == 1
        other = (one.heard + two.heard)[-1] if two.paths()[-1:] == ["/other"] else one.heard[-1]
        assert other.fields("cookie") == [b"e=f"]


@told
async def test_a_sticky_client_whose_server_is_away_gets_another() -> None:
    async with backend() as one, backend() as two, edged(one, two, cluster={"sticky": "sid"}) as edge:
        await one.stop()
        answer = await edge.ask("/", f"Cookie: sid=c{one.port}")
        assert answer.status == 200
        assert answer.fields("set-cookie") == [b"sid=c%d; path=/" % two.port]


@told
async def test_routes_by_other_things_than_the_host() -> None:
    async with backend() as server, edged(server, by="app_id") as edge:
        edge.rules("/my/app", HostRules(routes=ROUTE))
        assert (await edge.ask("/", "X-Marathon-App-Id: /MY/app")).status == 200
        assert (await edge.ask("/", "X-Marathon-App-Id: /my")).status == 503
        assert (await edge.ask()).status == 503
    async with backend() as server, edged(server, by="host_port") as edge:
        client = await edge.client()
        await client.send(request(host=f"{HOST}:80") + request(host=HOST.upper()))
        assert [(await client.answer()).status for _ in range(2)] == [503, 200]
    assert OK
