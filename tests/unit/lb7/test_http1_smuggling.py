"""Messages that two readers may take for different ones: a row for each, and what it is refused for.

The rows follow RFC 9112 §11.1 and §11.2, and what was found in proxies and servers over the years.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lb7._http1 import FAULTS, Chunks, Refused, request, response

Row = tuple[str, bytes, str]

HOST = b"Host: a\r\n"


def post(fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST / " + version + b"\r\n" + HOST + fields + b"\r\n0\r\n\r\n"


def get(target: bytes, fields: bytes = HOST) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n"


LENGTHS: list[Row] = [
    ("length and coding", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "length_and_coding"),
    ("coding and length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "length_and_coding"),
    ("length zero and coding", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), "length_and_coding"),
    ("length twice, alike", post(b"Content-Length: 5\r\nContent-Length: 5\r\n"), "bad_length"),
    ("length twice, differing", post(b"Content-Length: 5\r\ncontent-length: 6\r\n"), "bad_length"),
    ("list of lengths, alike", post(b"Content-Length: 5, 5\r\n"), "bad_length"),
    ("list of lengths, differing", post(b"Content-Length: 5,6\r\n"), "bad_length"),
    ("length with plus", post(b"Content-Length: +5\r\n"), "bad_length"),
    ("length with minus", post(b"Content-Length: -5\r\n"), "bad_length"),
    ("length minus zero", post(b"Content-Length: -0\r\n"), "bad_length"),
    ("length in hexadecimal", post(b"Content-Length: 0x5\r\n"), "bad_length"),
    ("length with exponent", post(b"Content-Length: 1e1\r\n"), "bad_length"),
    ("length with point", post(b"Content-Length: 5.0\r\n"), "bad_length"),
    ("length with underscore", post(b"Content-Length: 1_0\r\n"), "bad_length"),
    ("length with space inside", post(b"Content-Length: 1 0\r\n"), "bad_length"),
    ("length quoted", post(b'Content-Length: "5"\r\n'), "bad_length"),
    ("length empty", post(b"Content-Length:\r\n"), "bad_length"),
    ("length of spaces", post(b"Content-Length:  \t \r\n"), "bad_length"),
    ("length with other digits", post("Content-Length: \u0665\r\n".encode()), "bad_length"),
    ("length of 2^64", post(b"Content-Length: 18446744073709551616\r\n"), "bad_length"),
    ("length of 2^63", post(b"Content-Length: 9223372036854775808\r\n"), "bad_length"),
    ("length that wraps to 5", post(b"Content-Length: 18446744073709551621\r\n"), "bad_length"),
    ("length of many zeros", post(b"Content-Length: " + b"0" * 30 + b"5\r\n"), "bad_length"),
    ("length after vertical tab", post(b"Content-Length: \x0b5\r\n"), "bad_value"),
    ("length with NUL", post(b"Content-Length: 5\0\r\n"), "bad_value"),
]

CODINGS: list[Row] = [
    ("gzip", post(b"Transfer-Encoding: gzip\r\n"), "unknown_coding"),
    ("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n"), "unknown_coding"),
    ("identity", post(b"Transfer-Encoding: identity\r\n"), "unknown_coding"),
    ("xchunked", post(b"Transfer-Encoding: xchunked\r\n"), "unknown_coding"),
    ("chunked, chunked", post(b"Transfer-Encoding: chunked, chunked\r\n"), "bad_coding"),
    ("chunked, identity", post(b"Transfer-Encoding: chunked, identity\r\n"), "bad_coding"),
    ("chunked, gzip", post(b"Transfer-Encoding: chunked, gzip\r\n"), "bad_coding"),
    ("chunked twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "bad_coding"),
    ("chunked and cow", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"), "bad_coding"),
    ("chunked and comma", post(b"Transfer-Encoding: chunked,\r\n"), "bad_coding"),
    ("comma and chunked", post(b"Transfer-Encoding: ,chunked\r\n"), "bad_coding"),
    ("coding empty", post(b"Transfer-Encoding:\r\n"), "bad_coding"),
    ("chunked quoted", post(b'Transfer-Encoding: "chunked"\r\n'), "bad_coding"),
    ("chunked with parameter", post(b"Transfer-Encoding: chunked;q=1\r\n"), "bad_coding"),
    ("chunked and word", post(b"Transfer-Encoding: chunked x\r\n"), "bad_coding"),
    ("chunked with no-break space", post(b"Transfer-Encoding: \xa0chunked\r\n"), "bad_coding"),
    ("chunked after vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n"), "bad_value"),
    ("chunked after form feed", post(b"Transfer-Encoding: \x0cchunked\r\n"), "bad_value"),
    ("chunked with NUL", post(b"Transfer-Encoding: chunked\0\r\n"), "bad_value"),
    ("chunked folded", post(b"Transfer-Encoding:\r\n chunked\r\n"), "bad_coding"),
    ("chunked of HTTP/1.0", post(b"Transfer-Encoding: chunked\r\n", b"HTTP/1.0"), "bad_coding"),
]

FIELDS: list[Row] = [
    ("space before colon", post(b"Content-Length : 5\r\n"), "bad_field"),
    ("tab before colon", post(b"Transfer-Encoding\t: chunked\r\n"), "bad_field"),
    ("vertical tab before colon", post(b"Transfer-Encoding\x0b: chunked\r\n"), "bad_field"),
    ("NUL before colon", post(b"Transfer-Encoding\0: chunked\r\n"), "bad_field"),
    ("space before the first name", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "bad_field"),
    ("space before a name", post(b" Content-Length: 5\r\n"), "bad_field"),
    ("folded by space", post(b"X: a\r\n b\r\n"), "bad_field"),
    ("folded by tab", post(b"X: a\r\n\tb\r\n"), "bad_field"),
    ("folded, only space", post(b"X: a\r\n \r\n"), "bad_field"),
    ("name empty", post(b": 5\r\n"), "bad_field"),
    ("line without colon", post(b"Content-Length\r\n"), "bad_field"),
    ("name in quotes", post(b'"Content-Length": 5\r\n'), "bad_field"),
    ("name with slash", post(b"a/b: 5\r\n"), "bad_field"),
    ("name with parenthesis", post(b"a(b): 5\r\n"), "bad_field"),
    ("name not ASCII", post("Content-Lengt\u0125: 5\r\n".encode()), "bad_field"),
    ("name with DEL", post(b"a\x7f: 5\r\n"), "bad_field"),
    ("bare LF behind a value", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "bad_value"),
    ("bare LF inside of a value", post(b"X: a\nContent-Length: 5\r\n"), "bad_value"),
    ("bare CR inside of a value", post(b"X: a\rContent-Length: 5\r\n"), "bad_value"),
    ("CR twice", post(b"X: a\r\r\n"), "bad_value"),
    ("NUL in a value", post(b"X: a\0b\r\n"), "bad_value"),
    ("DEL in a value", post(b"X: a\x7fb\r\n"), "bad_value"),
    ("escape in a value", post(b"X: a\x1bb\r\n"), "bad_value"),
    ("control behind 16 octets", post(b"X: 0123456789abcdef\x010123456789abcdef\r\n"), "bad_value"),
    ("head that ends by LF alone", b"GET / HTTP/1.1\r\n" + HOST + b"\n", "bad_field"),
    ("head that ends by CR alone", b"GET / HTTP/1.1\r\n" + HOST + b"\rGET /", "bad_field"),
]

HOSTS: list[Row] = [
    ("no Host", get(b"/", b""), "bad_host"),
    ("Host twice, alike", get(b"/", HOST + HOST), "bad_host"),
    ("Host twice, differing", get(b"/", HOST + b"host: b\r\n"), "bad_host"),
    ("Host twice in HTTP/1.0", b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", "bad_host"),
    *(
        (f"Host {value!r}", get(b"/", b"Host: " + value + b"\r\n"), "bad_host")
        for value in (
            *(b"", b"user@a", b"a b", b"a, b", b"a,b", b"a/b", b"a?b", b"a#b", b"a\\b", b"http://a", b"a%20b", b"a;b"),
            *(b":80", b"a:", b"a:b", b"a:80:90", b"a:-1", b"a:65536", b"a:000080", b"a:8 0", b"\xe4", b"a\tb", b'"a"'),
            *(b"[::1", b"::1", b"[::1]x", b"[::1]:", b"[::g]", b"[]", b"[1.2.3.4]", b"[fe80::1%25eth0]", b"a[::1]"),
            *(b"x" * 262, b"[" + b"0" * 60 + b"]"),
        )
    ),
    ("absolute, another Host", get(b"http://b/"), "bad_host"),
    ("absolute, another port", get(b"http://a:81/", b"Host: a:80\r\n"), "bad_host"),
    ("absolute, no Host", get(b"http://a/", b""), "bad_host"),
    ("absolute, longer Host", get(b"http://a/", b"Host: a.b\r\n"), "bad_host"),
    ("CONNECT, another Host", b"CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", "bad_host"),
]

TARGETS: list[Row] = [
    *(
        (f"target {target!r}", get(target), "bad_target")
        for target in (
            *(b"x", b"*", b"a:80", b"/a#x", b"/#", b"/\x7f", b"/\xc3\xa4", b"/\0", b"/\x0b", b"/\tHTTP/1.1"),
            *(b"ftp://a/", b"http:/a", b"http:///", b"http://", b"HTTP://u@a/", b"http://a?x", b"?x"),
            *(b"http://a#/", b"https://a:x/", b"ws://a/", b"http://a\\/", b"httpx://a/", b"http:a"),
        )
    ),
    ("two spaces before the target", get(b" /"), "bad_target"),
    ("OPTIONS **", b"OPTIONS ** HTTP/1.1\r\n" + HOST + b"\r\n", "bad_target"),
    ("OPTIONS of an authority alone", b"OPTIONS http://a HTTP/1.1\r\n" + HOST + b"\r\n", "bad_target"),
    ("CONNECT of a path", b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", "bad_target"),
    ("CONNECT without port", b"CONNECT a HTTP/1.1\r\n" + HOST + b"\r\n", "bad_target"),
    ("CONNECT of a URL", b"CONNECT http://a:80/ HTTP/1.1\r\n" + HOST + b"\r\n", "bad_target"),
    ("HTTP/0.9", b"GET /\r\n\r\n", "bad_target"),
    ("beginning of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_version"),
]

LINES: list[Row] = [
    ("empty lines before", b"\r\n\r\n" + get(b"/"), "bad_line"),
    ("LF before", b"\n" + get(b"/"), "bad_line"),
    ("CR before", b"\r" + get(b"/"), "bad_line"),
    ("space before", b" " + get(b"/"), "bad_line"),
    ("NUL before", b"\0" + get(b"/"), "bad_line"),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "bad_line"),
    ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n", "bad_line"),
    ("tab behind the method", b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", "bad_line"),
    ("method not a token", b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n", "bad_line"),
    ("method too long", b"G" * 33 + b" / HTTP/1.1\r\n" + HOST + b"\r\n", "bad_line"),
    ("two spaces before the version", get(b"/ "), "bad_line"),
    ("space in the authority", get(b"http://a b/"), "bad_line"),
    ("space behind the version", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", "bad_line"),
    ("version twice", get(b"/ HTTP/1.1"), "bad_line"),
    ("lower-case version", b"GET / http/1.1\r\n" + HOST + b"\r\n", "bad_line"),
    ("version of another protocol", b"GET / HTCPCP/1.0\r\n" + HOST + b"\r\n", "bad_line"),
    ("version with a comma", b"GET / HTTP/1,1\r\n" + HOST + b"\r\n", "bad_line"),
    ("version without minor", b"GET / HTTP/1\r\n" + HOST + b"\r\n", "bad_line"),
    ("version with two digits", b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", "bad_line"),
    ("version with two major digits", b"GET / HTTP/11.1\r\n" + HOST + b"\r\n", "bad_line"),
    ("request line that ends by LF", b"GET / HTTP/1.1\n" + HOST + b"\r\n", "bad_line"),
    ("request line that ends by CR", b"GET / HTTP/1.1\r" + HOST + b"\r\n", "bad_line"),
    *(
        (f"version {version.decode()}", b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n", "bad_version")
        for version in (b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"0.0")
    ),
]

ANSWERS: list[Row] = [
    (
        "length and coding",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "length_and_coding",
    ),
    ("length twice, alike", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "bad_length"),
    ("length twice, differing", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "bad_length"),
    ("list of lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "bad_length"),
    ("length signed", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "bad_length"),
    ("length of 304 not a number", b"HTTP/1.1 304 OK\r\nContent-Length: x\r\n\r\n", "bad_length"),
    ("gzip", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown_coding"),
    ("gzip, chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unknown_coding"),
    ("identity", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", "unknown_coding"),
    ("chunked twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "bad_coding"),
    ("chunked of HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_coding"),
    ("space before colon", b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", "bad_field"),
    ("folded", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "bad_field"),
    ("bare LF", b"HTTP/1.1 200 OK\nX: a\n\n", "bad_line"),
    ("bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n\r\n", "bad_line"),
    ("NUL in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n", "bad_line"),
    ("bare CR in a value", b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n", "bad_value"),
    ("empty line before", b"\r\nHTTP/1.1 200 OK\r\n\r\n", "bad_line"),
    ("version in lower case", b"http/1.1 200 OK\r\n\r\n", "bad_line"),
    ("no version", b"200 OK\r\n\r\n", "bad_line"),
    ("ICY", b"ICY 200 OK\r\n\r\n", "bad_line"),
    ("HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n", "bad_version"),
    ("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n", "bad_version"),
    ("two spaces before the status", b"HTTP/1.1  200 OK\r\n\r\n", "bad_status"),
    ("tab before the status", b"HTTP/1.1\t200 OK\r\n\r\n", "bad_line"),
    ("no status", b"HTTP/1.1 OK\r\n\r\n", "bad_status"),
    ("no status, no reason", b"HTTP/1.1\r\n\r\n", "bad_line"),
    ("status 099", b"HTTP/1.1 099 OK\r\n\r\n", "bad_status"),
    ("status 600", b"HTTP/1.1 600 OK\r\n\r\n", "bad_status"),
    ("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n", "bad_status"),
    ("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n", "bad_status"),
    ("status signed", b"HTTP/1.1 +20 OK\r\n\r\n", "bad_status"),
    ("a body instead", b"<html>", "bad_line"),
]

CHUNKS: list[tuple[str, bytes]] = [
    ("0x before the size", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("minus before the size", b"-3\r\nabc\r\n0\r\n\r\n"),
    ("plus before the size", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("space before the size", b" 3\r\nabc\r\n0\r\n\r\n"),
    ("space behind the size", b"3 \r\nabc\r\n0\r\n\r\n"),
    ("tab behind the size", b"3\t\r\nabc\r\n0\r\n\r\n"),
    ("underscore in the size", b"1_0\r\nabc\r\n0\r\n\r\n"),
    ("no size", b"\r\nabc\r\n0\r\n\r\n"),
    ("size not hexadecimal", b"g\r\nabc\r\n0\r\n\r\n"),
    ("size with NUL", b"3\0\r\nabc\r\n0\r\n\r\n"),
    ("size of 16 digits", b"0000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size that wraps", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size that ends by LF", b"3\nabc\r\n0\r\n\r\n"),
    ("size that ends by CR", b"3\rabc\r\n0\r\n\r\n"),
    ("size that ends by two CR", b"3\r\r\nabc\r\n0\r\n\r\n"),
    ("chunk longer than its size", b"3\r\nabcd\r\n0\r\n\r\n"),
    ("chunk that ends by LF", b"3\r\nabc\n0\r\n\r\n"),
    ("chunk that ends by CR", b"3\r\nabc\r0\r\n\r\n"),
    ("chunk without an end", b"3\r\nabc0\r\n\r\n"),
    ("chunk that ends by two other octets", b"3\r\nabcXX0\r\n\r\n"),
    ("extension with LF", b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("extension that ends by LF", b"3;a\nabc\r\n0\r\n\r\n"),
    ("extension with CR", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("extension with NUL", b"3;a\0\r\nabc\r\n0\r\n\r\n"),
    ("extension without name", b"3;\r\nabc\r\n0\r\n\r\n"),
    ("extension without value", b"3;a=\r\nabc\r\n0\r\n\r\n"),
    ("extension after a space", b"3 ;a\r\nabc\r\n0\r\n\r\n"),
    ("extension with a space", b"3; a\r\nabc\r\n0\r\n\r\n"),
    ("extension with CRLF in quotes", b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n'),
    ("extension with LF in quotes", b'3;a="\n"\r\nabc\r\n0\r\n\r\n'),
    ("extension with escaped CR", b'3;a="\\\r\n"\r\nabc\r\n0\r\n\r\n'),
    ("extension goes on behind quotes", b'3;a="b"c\r\nabc\r\n0\r\n\r\n'),
    ("last chunk that ends by LF", b"0\n\r\n"),
    ("body that ends by LF", b"0\r\n\n"),
    ("body that ends by CR and another", b"0\r\n\rX"),
    ("trailer folded", b"0\r\nX: a\r\n b\r\n\r\n"),
    ("trailer without name", b"0\r\n: a\r\n\r\n"),
    ("trailer with a space before the colon", b"0\r\nX : a\r\n\r\n"),
    ("trailer that ends by LF", b"0\r\nX: a\n\r\n"),
    ("trailer with CR", b"0\r\nX: a\rb\r\n\r\n"),
    ("trailer with NUL", b"0\r\nX: a\0\r\n\r\n"),
    ("request in the trailers' place", b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    *(
        (f"trailer {name.decode()}", b"0\r\n" + name + b": 5\r\n\r\n")
        for name in (
            *(b"Content-Length", b"content-length", b"Transfer-Encoding", b"Host", b"Connection", b"Trailer", b"TE"),
            *(b"Authorization", b"Cookie", b"Set-Cookie", b"Content-Type", b"Content-Encoding", b"Content-Range"),
            *(b"X-Forwarded-For", b"x-forwarded-proto", b"Upgrade", b"Expect", b"Content_Length", b"Location"),
        )
    ),
]


def named(rows: Iterable[Row]) -> list[object]:
    return [pytest.param(octets, fault, id=name) for name, octets, fault in rows]


@pytest.mark.parametrize(("octets", "fault"), named([*LENGTHS, *CODINGS, *FIELDS, *HOSTS, *TARGETS, *LINES]))
def test_request_is_refused(octets: bytes, fault: str) -> None:
    with pytest.raises(Refused) as refused:
        request(octets)
    assert refused.value.fault == fault
    assert refused.value.status == FAULTS[fault]


@pytest.mark.parametrize(("octets", "fault"), named(ANSWERS))
def test_answer_is_refused(octets: bytes, fault: str) -> None:
    with pytest.raises(Refused) as refused:
        response(octets)
    assert refused.value.fault == fault


@pytest.mark.parametrize("octets", [pytest.param(octets, id=name) for name, octets in CHUNKS])
def test_chunks_are_refused(octets: bytes) -> None:
    chunks = Chunks()
    with pytest.raises(Refused) as refused:
        chunks.read(octets)
    assert refused.value.fault == "bad_chunks"
    assert refused.value.status == 400
    assert not chunks.done
    with pytest.raises(Refused):
        chunks.read(b"0\r\n\r\n")


def test_every_row_has_its_own_name() -> None:
    names = [row[0] for row in (*LENGTHS, *CODINGS, *FIELDS, *HOSTS, *TARGETS, *LINES)]
    assert len(names) == len(set(names))
