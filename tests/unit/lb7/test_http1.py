"""Heads that are accepted: what is read from them, and the limits."""

from __future__ import annotations

import pytest

from lb7._http1 import FAULTS, MOST_HOST, MOST_METHOD, Head, Refused, request, response


def read(octets: bytes) -> Head:
    head = request(octets)
    assert head is not None
    return head


def answer(octets: bytes) -> Head:
    head = response(octets)
    assert head is not None
    return head


def get(target: bytes, host: bytes = b"a", version: bytes = b"HTTP/1.1") -> Head:
    return read(b"GET " + target + b" " + version + b"\r\nHost: " + host + b"\r\n\r\n")


def fault_of(octets: bytes, max_head: int = 16384, max_fields: int = 100) -> str:
    with pytest.raises(Refused) as refused:
        request(octets, max_head, max_fields)
    return refused.value.fault


# --- requests -------------------------------------------------------------------------------------


def test_a_request() -> None:
    octets = b"GET /s?a=1&b HTTP/1.1\r\nHost: app.example:8080\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n"
    head = read(octets + b"GET /next")
    assert head.length == len(octets)
    assert (head.method, head.target, head.path, head.path_only) == (b"GET", b"/s?a=1&b", b"/s?a=1&b", b"/s")
    assert (head.host, head.minor, head.status, head.content_length) == (b"app.example:8080", 1, 0, None)
    assert head.fields == [(b"Host", b"app.example:8080"), (b"User-Agent", b"wrk"), (b"Accept", b"*/*")]
    assert (head.flags, head.dropped, head.reason) == (set(), [], b"")


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    head = read(b"GET / HTTP/1.1\r\nHost:a\r\nA: \t b \t c\t \r\nB:\r\nC: \t \r\n\r\n")
    assert head.fields == [(b"Host", b"a"), (b"A", b"b \t c"), (b"B", b""), (b"C", b"")]


def test_values_may_be_other_than_ascii() -> None:
    value = bytes([*range(0x21, 0x7F), 0x09, 0x20, *range(0x80, 0x100)])
    assert read(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n").fields[1] == (b"X", value)


def test_names_may_have_all_octets_of_tokens() -> None:
    name = b"!#$%&'*+-.^_`|~09azAZ"
    assert read(b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": b\r\n\r\n").fields[1] == (name, b"b")


def test_one_empty_line_before_a_request_is_skipped() -> None:
    octets = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    head = read(octets)
    assert (head.length, head.method, head.path, head.host) == (len(octets), b"GET", b"/", b"a")


def test_http_1_0() -> None:
    head = read(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.host, head.fields) == (0, b"", [])
    assert get(b"/", version=b"HTTP/1.0").host == b"a"


def test_method_is_any_token_in_its_case() -> None:
    assert read(b"brew / HTTP/1.1\r\nHost: a\r\n\r\n").method == b"brew"
    assert "head" in read(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").flags
    assert "head" not in read(b"head / HTTP/1.1\r\nHost: a\r\n\r\n").flags
    longest = b"M" * MOST_METHOD
    assert read(longest + b" / HTTP/1.1\r\nHost: a\r\n\r\n").method == longest


TOKEN = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
VALUE = {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}
TARGET = set(range(0x21, 0x7F)) - set(b"#")


@pytest.mark.parametrize("behind", [b"", b"z" * 40], ids=["near the end", "far from the end"])
@pytest.mark.parametrize("before", [1, 14, 15, 16, 17, 33])
def test_every_octet_at_every_place(before: int, behind: bytes) -> None:
    def is_right(octets: bytes) -> bool:
        try:
            return request(octets) is not None
        except Refused:
            return False

    for octet in range(256):
        part = b"y" * before + bytes([octet]) + b"z"
        name = b"GET / HTTP/1.1\r\nHost: a\r\n" + part + b":" + behind + b"\r\n\r\n"
        assert is_right(name) == (octet in TOKEN or octet == ord(":")), octet
        value = b"GET / HTTP/1.1\r\nHost: a\r\nX:" + part + b"\r\n" + b"B:" + behind + b"\r\n\r\n"
        assert is_right(value) == (octet in VALUE), octet
        target = b"GET /" + part + b" HTTP/1.0\r\n" + b"B:" + behind + b"\r\n\r\n"
        assert is_right(target) == (octet in TARGET), octet


@pytest.mark.parametrize(
    ("target", "path", "path_only"),
    [
        (b"/", b"/", b"/"),
        (b"//b/c", b"//b/c", b"//b/c"),
        (b"/?", b"/?", b"/"),
        (b"/a?b?c=/d", b"/a?b?c=/d", b"/a"),
        (b'/a%20b;c=1/<x>{y}|^`"\\[]', b'/a%20b;c=1/<x>{y}|^`"\\[]', b'/a%20b;c=1/<x>{y}|^`"\\[]'),
        (b"http://a/", b"/", b"/"),
        (b"HTTP://A/b?c", b"/b?c", b"/b"),
        (b"https://a/b", b"/b", b"/b"),
        (b"http://a", b"/", b"/"),
        (b"http://a//b", b"//b", b"//b"),
    ],
)
def test_targets(target: bytes, path: bytes, path_only: bytes) -> None:
    head = get(target)
    assert (head.target, head.path, head.path_only) == (target, path, path_only)
    assert head.host.lower() == b"a"


def test_the_authority_of_an_absolute_target_is_the_host() -> None:
    assert read(b"GET http://B:80/x HTTP/1.0\r\n\r\n").host == b"B:80"
    assert read(b"GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").host == b"[::1]:80"


def test_asterisk_and_authority() -> None:
    head = read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head.path, head.path_only) == (b"*", b"*")
    assert read(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n").path == b"/x"
    head = read(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
    assert (head.target, head.path, head.path_only, head.host) == (b"a:443", b"", b"", b"a:443")


@pytest.mark.parametrize(
    "host",
    [
        *(b"a", b"A.Example", b"a:0", b"a:65535", b"1.2.3.4:80", b"a_b-c~d.e.", b"[::1]", b"[2001:DB8::1.2.3.4]:8080"),
        b"x" * (MOST_HOST - 6) + b":65535",
    ],
)
def test_hosts(host: bytes) -> None:
    assert get(b"/", host).host == host


# --- framing --------------------------------------------------------------------------------------


def post(fields: bytes, version: bytes = b"HTTP/1.1") -> Head:
    return read(b"POST / " + version + b"\r\nHost: a\r\n" + fields + b"\r\n")


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"0", 0), (b"5", 5), (b"005", 5), (b" \t5\t ", 5), (b"9" * 18, 10**18 - 1)],
)
def test_content_length(value: bytes, length: int) -> None:
    assert post(b"cONTENT-lENGTH:" + value + b"\r\n").content_length == length


def test_transfer_encoding() -> None:
    head = post(b"transfer-encodinG: \tCHUNKed \r\n")
    assert "chunked" in head.flags
    assert head.content_length is None


def test_expectations() -> None:
    assert post(b"Expect: 100-Continue\r\n").flags == {"expect_continue"}
    assert post(b"Expect: 200-ok\r\n").flags == {"expect_other"}
    assert post(b"Expect: 100-continue, x\r\n").flags == {"expect_other"}
    head = post(b"Expect: 100-continue\r\n", b"HTTP/1.0")
    assert (head.flags, head.dropped) == (set(), [(b"Expect", b"100-continue")])
    assert answer(b"HTTP/1.1 200 OK\r\nExpect: x\r\n\r\n").flags == set()


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "minor", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 1, 200, b"OK"),
        (b"HTTP/1.0 404 Not Found", 0, 404, b"Not Found"),
        (b"HTTP/1.1 599 ", 1, 599, b""),
        (b"HTTP/1.1 100", 1, 100, b""),
        (b"HTTP/1.1 200  \tn\xe4h", 1, 200, b" \tn\xe4h"),
    ],
)
def test_status_lines(line: bytes, minor: int, status: int, reason: bytes) -> None:
    head = answer(line + b"\r\nA: b\r\n\r\n")
    assert (head.minor, head.status, head.reason, head.fields) == (minor, status, reason, [(b"A", b"b")])
    assert (head.method, head.target, head.path, head.host) == (b"", b"", b"", b"")


def test_framing_of_answers() -> None:
    assert answer(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n").content_length == 7
    assert answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").flags == {"chunked"}
    assert answer(b"HTTP/1.1 200 OK\r\n\r\n").content_length is None


@pytest.mark.parametrize("status", [100, 101, 103, 199, 204])
def test_answers_without_body_have_no_length(status: int) -> None:
    for field in ((b"Content-Length", b"7"), (b"Transfer-Encoding", b"chunked")):
        head = answer(b"HTTP/1.1 %d x\r\n%s: %s\r\n\r\n" % (status, *field))
        assert (head.content_length, head.flags, head.dropped) == (0, set(), [field])


def test_the_length_of_304_is_that_of_another_answer() -> None:
    head = answer(b"HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n")
    assert (head.content_length, head.dropped) == (0, [])
    head = answer(b"HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (head.content_length, head.flags, len(head.dropped)) == (0, set(), 1)


def test_host_of_an_answer_means_nothing() -> None:
    head = answer(b"HTTP/1.1 200 OK\r\nHost: a b\r\nHost:\r\n\r\n")
    assert (head.host, len(head.fields)) == (b"", 2)


# --- beginnings and limits ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\nPOST http://a:8/p?q HTTP/1.1\r\nHost: a:8\r\nContent-Length: 3\r\nConnection: x\r\nX:y\r\n\r\nabc",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_a_beginning_is_not_all(octets: bytes) -> None:
    head = read(octets)
    for length in range(head.length):
        assert request(octets[:length]) is None
    assert read(octets[: head.length]).fields == head.fields


def test_a_beginning_of_an_answer_is_not_all() -> None:
    octets = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    assert all(response(octets[:length]) is None for length in range(len(octets)))


@pytest.mark.parametrize(
    "octets", [b"x y\r", b"GET /\x80", b"GET / X", b"GET / HTTP/2.0", b"GET / HTTP/1.1\r\nA ", b"\r\n\r"]
)
def test_what_cannot_become_right_is_refused_at_once(octets: bytes) -> None:
    assert request(octets[:-1]) is None
    with pytest.raises(Refused):
        request(octets)


def test_largest_head() -> None:
    octets = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100 + b"\r\n\r\n"
    head = request(octets + b"more", max_head=len(octets))
    assert head is not None
    assert fault_of(octets, max_head=len(octets) - 1) == "too_large"
    assert request(octets[:-2], max_head=len(octets) - 1) is None
    assert fault_of(octets[:-1], max_head=len(octets) - 1) == "too_large"
    with pytest.raises(Refused, match="too_large"):
        response(b"HTTP/1.1 200 " + b"x" * 100, max_head=100)


def test_most_fields() -> None:
    octets = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n"
    assert request(octets, max_fields=3) is not None
    assert fault_of(octets, max_fields=2) == "too_many_fields"
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 128
    assert fault_of(many, max_fields=1000) == "too_many_fields"
    assert request(many[:-6] + b"\r\n", max_fields=1000) is not None


def test_longest_target_is_half_of_the_head() -> None:
    start = b"GET /" + b"x" * 99
    assert request(start, max_head=200) is None
    assert fault_of(start + b"x", max_head=200) == "long_target"
    assert fault_of(start + b"x HTTP/1.1\r\nHost: a\r\n\r\n", max_head=200) == "long_target"
    assert request(start + b" HTTP/1.1\r\nHost: a\r\n\r\n", max_head=200) is not None


def test_longest_name() -> None:
    octets = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 65535 + b": b\r\n\r\n"
    head = request(octets, max_head=1 << 20)
    assert head is not None
    assert len(head.fields[1][0]) == 65535
    assert fault_of(octets.replace(b"x:", b"xx:"), max_head=1 << 20) == "bad_field"


def test_statuses_of_faults() -> None:
    others = {"bad_version": 505, "too_large": 431, "too_many_fields": 431, "long_target": 414, "unknown_coding": 501}
    assert {fault: status for fault, status in FAULTS.items() if status != 400} == others
    assert len(FAULTS) == 14
    assert all(FAULTS)
    assert Refused("long_target").status == 414
