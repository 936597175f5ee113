"""The configuration section of lb7: what can be set, its unit, its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from mesos_dns.config import Duration, Listen

Balance: TypeAlias = Literal["roundrobin", "leastconn", "p2c", "source", "random", "first"]


class L7Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[l7]`: the edge. It listens for HTTP and TCP from outside and sends it to live tasks, as their labels say."""

    groups: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="which apps are routed: those whose HAPROXY_GROUP names one of these; `*`: all"),
    ] = ("external",)
    http: Annotated[tuple[Listen, ...], Meta(description="addresses for HTTP, routed by host and path")] = (":80",)
    https: Annotated[
        tuple[Listen, ...], Meta(description="addresses for HTTPS; without a certificate nothing is listened on")
    ] = (":443",)
    app_id: Annotated[
        tuple[Listen, ...],
        Meta(description="addresses for HTTP that is routed by the header X-Marathon-App-Id alone"),
    ] = ("127.0.0.1:9091",)
    service_ports: Annotated[bool, Meta(description="listen on the service ports of routed apps")] = True
    service_address: Annotated[
        str, Meta(description="address of service ports that name none; `*`: every IPv4 and IPv6 address")
    ] = "*"
    cert_dir: Annotated[
        str, Meta(description="folder of PEM files, each a certificate with its chain and key; it is watched")
    ] = ""
    workers: Annotated[int, Meta(ge=0, le=256, description="processes that carry traffic; 0: one a processor")] = 0
    compat: Annotated[
        Literal["", "marathon-lb"],
        Meta(description="marathon-lb: its exact order of rules, its gaps included (README); empty: safe rules"),
    ] = ""
    haproxy_map: Annotated[bool, Meta(description="with `compat`: match hosts as marathon-lb's --haproxy-map does")] = (
        False
    )
    group_https_by_vhost: Annotated[
        bool, Meta(description="with `compat`: HTTPS for known names alone, as marathon-lb's --group-https-by-vhost")
    ] = False
    strict: Annotated[bool, Meta(description="route only ports with HAPROXY_n_ENABLED=true")] = False
    health: Annotated[
        Literal["ignore", "exclude-unhealthy"],
        Meta(description="leave out tasks whose health checks don't pass, as Marathon tells, or ignore what it tells"),
    ] = "exclude-unhealthy"
    own_app: Annotated[str, Meta(description="id of the app that this edge itself is, which it does not route to")] = ""
    auto_ports: Annotated[
        tuple[int, int],
        Meta(description="service ports for apps that have none: the first, and the one after the last"),
    ] = (10050, 10101)
    balance: Annotated[
        Balance,
        Meta(description="how a server is picked where no label says; p2c: the better of two by latency and load"),
    ] = "roundrobin"
    checks: Annotated[
        bool, Meta(description="check servers from here too, as the app's first HTTP or TCP health check says")
    ] = True
    trusted_proxies: Annotated[
        tuple[str, ...], Meta(description="networks of clients whose X-Forwarded-* and Forwarded headers are believed")
    ] = ()
    connect_timeout: Annotated[Duration, Meta(description="time for one try to connect to a server")] = Duration(3)
    request_timeout: Annotated[Duration, Meta(description="time for a request's whole head to arrive")] = Duration(15)
    client_timeout: Annotated[
        Duration, Meta(description="longest pause of a client that sends a body or is to read an answer")
    ] = Duration(30)
    server_timeout: Annotated[
        Duration, Meta(description="longest wait for a server's answer, and longest pause within it")
    ] = Duration(30)
    keep_alive_timeout: Annotated[
        Duration, Meta(description="how long a client's connection without a request is kept open")
    ] = Duration(60)
    server_keep_alive: Annotated[
        Duration, Meta(description="how long a connection to a server is kept for the next request")
    ] = Duration(30)
    tunnel_timeout: Annotated[
        Duration, Meta(description="longest silence of an upgraded (WebSocket) or TCP connection")
    ] = Duration(3600)
    queue_timeout: Annotated[Duration, Meta(description="longest wait for a server that has room")] = Duration(30)
    max_head: Annotated[int, Meta(ge=1024, le=262144, description="octets of a request's or an answer's head")] = 16384
    max_headers: Annotated[int, Meta(ge=8, le=128, description="header fields of a request or an answer")] = 100
    max_body: Annotated[int, Meta(ge=0, description="octets of a request's body; 0: no limit")] = 0
    max_connections: Annotated[int, Meta(ge=1, description="connections of clients at once, over all workers")] = 50_000
    max_connections_per_client: Annotated[
        int, Meta(ge=0, description="connections of one client address at once, over all workers; 0: no limit")
    ] = 0
    max_requests_per_server: Annotated[
        int, Meta(ge=0, description="requests (of TCP: connections) that one server has at once; 0: no limit")
    ] = 0
    max_requests_per_route: Annotated[
        int, Meta(ge=0, description="requests of one app port at once, those that wait included; 0: no limit")
    ] = 0
    max_waiting: Annotated[
        int, Meta(ge=0, description="requests of one app port that wait while all its servers are full")
    ] = 1024
    max_held: Annotated[
        int, Meta(ge=0, description="requests of one app port that are held while the app sleeps or wakes")
    ] = 1000
    hold_timeout: Annotated[
        Duration, Meta(description="longest wait for a sleeping app, until a server of it takes the request")
    ] = Duration(60)
    retries: Annotated[int, Meta(ge=0, le=10, description="further tries of a request that failed safely")] = 3
    retry_budget: Annotated[
        float, Meta(ge=0, le=1, description="retries at most, as a share of requests, beyond a few a second")
    ] = 0.2
    eject_after: Annotated[
        int, Meta(ge=0, description="failures in a row after which a server is left alone for a while; 0: never")
    ] = 5
    eject_time: Annotated[
        Duration, Meta(description="how long the first time; each further time in a row that much longer")
    ] = Duration(10)
    max_ejected: Annotated[
        float, Meta(ge=0, le=1, description="servers of one app port left alone at once, a share")
    ] = 0.5
    slow_start: Annotated[
        Duration, Meta(description="time in which a new server's share grows to the full; 0: at once")
    ] = Duration(0)
    request_id: Annotated[
        bool, Meta(description="name each request by X-Request-Id; a trusted proxy's own is passed on")
    ] = True
    access_log: Annotated[
        float,
        Meta(ge=0, le=1, description="share of requests that are written to the log, as JSON; failures always are"),
    ] = 0.0
