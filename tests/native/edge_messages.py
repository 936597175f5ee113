"""Messages whose cost is counted, as they are common: requests, answers, and bodies in chunks."""

from __future__ import annotations

HOST = "shop.example.com"


def request(path: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request of HTTP/1.1."""
    return _head(f"{method} {path} HTTP/1.1", f"Host: {HOST}", *fields) + body


def answer(*fields: str, body: bytes = b"") -> bytes:
    """An answer with status 200."""
    return _head("HTTP/1.1 200 OK", *fields) + body


def chunks(*pieces: bytes) -> bytes:
    """A body of these chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


SENT_BY_ALL = ("User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept: */*", "Accept-Encoding: gzip")
SENT_BY_A_BROWSER = (
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.7",
    'Sec-Ch-Ua: "Chromium";v="142", "Not_A Brand";v="99"',
    "Sec-Ch-Ua-Mobile: ?0",
    'Sec-Ch-Ua-Platform: "Windows"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Upgrade-Insecure-Requests: 1",
    f"Referer: https://{HOST}/catalogue/chairs?page=3",
    "Cookie: session=8f2c1b9e6d3a4f70; consent=1; theme=dark; _ga=GA1.2.1234567890.1700000000",
    "Cache-Control: max-age=0",
    "Connection: keep-alive",
)
ANSWERED_BY_ALL = ("Server: backend", "Date: Mon, 23 Nov 2026 03:20:16 GMT", "Content-Type: text/plain")
ANSWERED_BY_AN_APP = (
    "Date: Mon, 23 Nov 2026 03:20:16 GMT",
    "Server: gunicorn",
    "Content-Type: text/html; charset=utf-8",
    "Cache-Control: private, max-age=0, must-revalidate",
    "Vary: Accept-Encoding, Cookie",
    'ETag: W/"5e1c-18c2f0a8d40"',
    "X-Frame-Options: SAMEORIGIN",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: strict-origin-when-cross-origin",
    "Set-Cookie: session=8f2c1b9e6d3a4f70; Path=/; HttpOnly; Secure; SameSite=Lax",
    "Connection: keep-alive",
)

BODY = b"x" * 13
KILOBYTE = b"x" * 1024
CHUNKED = "Transfer-Encoding: chunked"

GET = request("/s", *SENT_BY_ALL)
GET_BROWSER = request("/catalogue/chairs/4711?colour=oak&page=3", *SENT_BY_A_BROWSER)
OK = answer(*ANSWERED_BY_ALL, f"Content-Length: {len(BODY)}", body=BODY)
OK_APP = answer(*ANSWERED_BY_AN_APP, f"Content-Length: {len(KILOBYTE)}", body=KILOBYTE)
OK_KILOBYTE = answer(*ANSWERED_BY_ALL, f"Content-Length: {len(KILOBYTE)}", body=KILOBYTE)
OK_CHUNKED = answer(*ANSWERED_BY_ALL, CHUNKED)
FEW_CHUNKS = chunks(KILOBYTE, KILOBYTE, KILOBYTE)
MANY_CHUNKS = chunks(*[BODY] * 64)
