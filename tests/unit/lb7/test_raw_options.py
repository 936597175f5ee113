"""What of HAProxy's language in labels is understood."""

from __future__ import annotations

import pytest

from lb7.raw_options import TEMPLATES, RawOptions, read_template

SERVER = "  server {serverName} {host_ipv4}:{port} id {serverId} "
GLUED = "{cookieOptions}{healthCheckOptions}{otherOptions}\n"


def read(name: str, text: str) -> tuple[RawOptions, str]:
    into = RawOptions()
    return into, read_template(name, text, into)


def test_weight_and_connections_of_servers() -> None:
    found, left = read("BACKEND_SERVER_OPTIONS", f"{SERVER}weight 7{GLUED}")
    assert (found.weight, found.max_requests, left) == (7, None, "")
    found, left = read("BACKEND_SERVER_OPTIONS", f"{SERVER} maxconn 40 weight 0{GLUED}")
    assert (found.weight, found.max_requests, left) == (0, 40, "")


@pytest.mark.parametrize("more", ["ssl verify none", "weight 1000", "weight", "send-proxy"])
def test_what_else_is_said_of_servers_is_left(more: str) -> None:
    found, left = read("BACKEND_SERVER_OPTIONS", f"{SERVER}{more}{GLUED}")
    assert (found, left) == (RawOptions(), more)


def test_many_words() -> None:
    found, left = read("BACKEND_SERVER_OPTIONS", "a weight x maxconn " * 1000 + "weight 3")
    assert (found.weight, len(left)) == (None, 200)
    found, left = read("BACKEND_SERVER_OPTIONS", "weight 2 " * 1000 + "b weight 3")
    assert (found.weight, left) == (3, "b")


def test_the_algorithm() -> None:
    text = "\nbackend {backend}\n  balance leastconn\n  mode {mode}\n"
    found, left = read("BACKEND_HEAD", text)
    assert (found.balance, left) == ("leastconn", "")
    found, left = read("BACKEND_HEAD", f"{text}  timeout server 5m\n  balance uri\n")
    assert (found.balance, left) == ("leastconn", "timeout server 5m; balance uri")


def test_the_cookie() -> None:
    found, left = read("BACKEND_STICKY_OPTIONS", "  cookie MYID insert indirect nocache\n")
    assert (found.cookie, left) == ("MYID", "")
    found, left = read("BACKEND_STICKY_OPTIONS", "  cookie MYID insert httponly\n")
    assert (found.cookie, left) == ("MYID", "httponly")
    found, left = read("BACKEND_STICKY_OPTIONS", "  cookie JSESSIONID prefix\n")
    assert (found.cookie, left) == (None, "cookie JSESSIONID prefix")


@pytest.mark.parametrize(
    "text",
    [
        "  rspadd  Strict-Transport-Security:\\ max-age=60;\\ includeSubDomains\n",
        'http-response set-header Strict-Transport-Security "max-age=60; includeSubDomains"',
    ],
)
def test_hsts(text: str) -> None:
    found, left = read("BACKEND_HSTS_OPTIONS", text)
    assert (found.hsts, left) == ("max-age=60; includeSubDomains", "")


def test_other_headers_are_left() -> None:
    found, left = read("BACKEND_HSTS_OPTIONS", "  rspadd X:\\ y\n")
    assert (found.hsts, left) == (None, "rspadd X:\\ y")


def test_names_below_a_host() -> None:
    condition = "host_{cleanedUpHostname}"
    rule = f"  acl {condition} hdr_end(host) -i {{hostname}}\n  use_backend {{backend}} if {condition}"
    found, left = read("HTTP_FRONTEND_ACL", rule + "\n")
    assert (found.subdomains, left) == (True, "")
    found, left = read("HTTP_FRONTEND_ACL", rule.replace("hdr_end", "hdr_reg"))
    assert not found.subdomains
    assert left.startswith("acl host_")
    found, left = read("HTTP_FRONTEND_ACL", rule.replace("if host_", "if !host_"))
    assert not found.subdomains


def test_everything_else_is_left() -> None:
    assert "FRONTEND_HEAD" in TEMPLATES
    assert read("FRONTEND_HEAD", "frontend x\n  bind :1\n") == (RawOptions(), "frontend x bind :1")
    assert len(read("FRONTEND_HEAD", "x " * 5000)[1]) <= 200
