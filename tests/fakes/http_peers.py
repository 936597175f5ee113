"""Two other readers of HTTP/1.x, h11 and llhttp (by httptools), and what a proxy passes on to such.

Both read a message and a plain one that follows it, so that it shows where each thinks that the first one ends.
"""

from __future__ import annotations

import h11
import httptools
import msgspec

from lb7._http1 import Chunks, Head, Refused, copy_fields, request, response

Fields = list[tuple[bytes, bytes]]

NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
NEXT_ANSWER = b"HTTP/1.1 200 Next\r\nContent-Length: 0\r\n\r\n"

LLHTTP_METHODS = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND"
    b" UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK"
    b" UNLINK QUERY".split()
)
"""llhttp refuses all others, which are as good (RFC 9110 §9.1)."""


class Message(msgspec.Struct):
    """What a reader makes of octets. `start` is method and target, or status; names in lower case."""

    start: tuple[bytes, bytes] | int
    fields: Fields
    body: bytes = b""
    trailers: Fields = []


def lower(fields: Fields) -> Fields:
    """As both peers tell fields: names in lower case.

    h11 does that to the value of Transfer-Encoding as well; llhttp leaves white space behind values where it is.
    """
    lowered = [(name.lower(), value.rstrip(b" \t")) for name, value in fields]
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in lowered]


# --- what is passed on ----------------------------------------------------------------------------


class Passed(msgspec.Struct):
    """The octets that a proxy sends for one message, and how it read that message itself."""

    octets: bytes
    message: Message
    rest: bytes
    ends_with_connection: bool = False


def passed_request(head: Head, octets: bytes) -> Passed | None:
    """What is sent for the request at the beginning of these octets; None: its body is not all there, or is broken."""
    start = b"%s %s HTTP/1.1\r\n" % (head.method, head.path)
    fields = copy_fields(head)
    kept = kept_fields(head)
    if b"host" not in dict(kept):
        fields += b"Host: server\r\n"
        kept.append((b"host", b"server"))
    if "upgrade" in head.flags:
        fields += b"Connection: upgrade\r\n"
        kept.append((b"connection", b"upgrade"))
    message = Message((head.method, head.path), kept)
    return with_body(start + fields + b"\r\n", head, octets, message, head.content_length or 0)


def passed_answer(head: Head, octets: bytes) -> Passed | None:
    """The same for an answer to GET. What has no length lasts until the connection ends."""
    start = b"HTTP/1.1 %d %s\r\n" % (head.status, head.reason)
    message = Message(head.status, kept_fields(head))
    until_end = head.content_length is None and "chunked" not in head.flags
    length = len(octets) - head.length if until_end else head.content_length or 0
    passed = with_body(start + copy_fields(head) + b"\r\n", head, octets, message, length)
    if passed:
        passed.ends_with_connection = until_end
    return passed


def kept_fields(head: Head) -> Fields:
    """The fields that are passed on, of which none was added or changed."""
    dropped = head.dropped
    kept = []
    for field in head.fields:
        if field in dropped:
            dropped.remove(field)
        else:
            kept.append(field)
    return lower(kept)


def with_body(sent: bytes, head: Head, octets: bytes, message: Message, length: int) -> Passed | None:
    """`length` octets of the body, or its chunks as they are."""
    if "chunked" in head.flags:
        chunks = Chunks()
        try:
            length, message.body = chunks.unwrap(octets[head.length :])
        except ValueError:
            return None
        if not chunks.done:
            return None
    else:
        message.body = octets[head.length : head.length + length]
    end = head.length + length
    if end > len(octets):
        return None
    return Passed(sent + octets[head.length : end], message, octets[end:])


# --- h11 ------------------------------------------------------------------------------------------


def h11_request(passed: Passed) -> Message:
    """What h11 reads; fails when it refuses it, or does not end where we do."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(passed.octets + NEXT_REQUEST)
    message = h11_events(connection)
    assert connection.trailing_data == (NEXT_REQUEST, False)
    return message


def h11_answer(passed: Passed) -> Message:
    """As h11_request; further answers follow one with 1xx."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    following = b"" if passed.ends_with_connection else NEXT_ANSWER
    connection.receive_data(passed.octets + following)
    if passed.ends_with_connection:
        connection.receive_data(b"")
    message = h11_events(connection)
    if isinstance(message.start, int) and message.start < 200:
        assert h11_events(connection).start == 200
    else:
        assert connection.trailing_data[0] == following
    return message


def h11_events(connection: h11.Connection) -> Message:
    """One message of those that have come."""
    message = Message(0, [])
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            assert event.http_version == b"1.1"
            message = Message((event.method, event.target), list(event.headers))
        elif isinstance(event, h11.Response | h11.InformationalResponse):
            message = Message(event.status_code, list(event.headers))
            if event.status_code < 200:
                return message
        elif isinstance(event, h11.Data):
            message.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            message.trailers = list(event.headers)
            return message
        else:
            raise AssertionError(f"h11 wants more: {event}")


# --- llhttp ---------------------------------------------------------------------------------------


class _Collected:
    """What the callbacks of llhttp tell."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.complete = 0
        self.target = b""
        self.in_trailers = False
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser | None = None

    def on_message_begin(self) -> None:
        self.messages.append(Message(0, []))
        self.target = b""
        self.in_trailers = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self.messages[-1]
        (message.trailers if self.in_trailers else message.fields).append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_trailers = True
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.messages[-1].start = (self.parser.get_method(), self.target)
        elif self.parser is not None:
            self.messages[-1].start = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def llhttp_request(passed: Passed) -> Message:
    """What llhttp reads; fails when it refuses it, or does not end where we do."""
    seen = _Collected()
    seen.parser = httptools.HttpRequestParser(seen)
    end = None
    try:
        seen.parser.feed_data(passed.octets + NEXT_REQUEST)
    except httptools.HttpParserUpgrade as upgrade:
        end = upgrade.args[0]
    if end is None:
        assert seen.complete == 2
        assert seen.messages[1].start == (b"GET", b"/next")
    else:  # What follows the message is left to the other protocol.
        assert seen.complete == 1
        assert end == len(passed.octets)
    return seen.messages[0]


def llhttp_answer(passed: Passed) -> Message:
    """As llhttp_request."""
    seen = _Collected()
    seen.parser = httptools.HttpResponseParser(seen)
    if passed.ends_with_connection:
        seen.parser.feed_data(passed.octets)
        assert len(seen.messages) == 1
        return seen.messages[0]
    seen.parser.feed_data(passed.octets + NEXT_ANSWER)
    assert seen.complete == 2
    assert seen.messages[1].start == 200
    return seen.messages[0]


# --- all three ------------------------------------------------------------------------------------


def agreed_request(octets: bytes) -> Passed | None:
    """What is passed on of the request at the beginning of these octets, after both peers were asked; None: nothing is.

    Both have to read method, target, fields and body as we do, and see the end where it is. CONNECT is never passed on.
    """
    try:
        head = request(octets)
    except Refused:
        return None
    passed = passed_request(head, octets) if head and head.method != b"CONNECT" else None
    if head and passed:
        by_h11 = h11_request(passed)
        agree(by_h11, passed.message)
        if head.method in LLHTTP_METHODS:
            by_llhttp = llhttp_request(passed)
            agree(by_llhttp, passed.message)
            assert lower(by_llhttp.trailers) == lower(by_h11.trailers)
    return passed


def agreed_answer(octets: bytes) -> Passed | None:
    """The same for an answer. 101 is not looked at: HTTP ends with it, and it is passed on only to who asked for it."""
    try:
        head = response(octets)
    except Refused:
        return None
    passed = passed_answer(head, octets) if head and head.status != 101 else None
    if passed:
        by_h11, by_llhttp = h11_answer(passed), llhttp_answer(passed)
        agree(by_h11, passed.message)
        agree(by_llhttp, passed.message)
        assert lower(by_llhttp.trailers) == lower(by_h11.trailers)
    return passed


def agree(read: Message, passed: Message) -> None:
    """Fails when a peer reads another message."""
    assert read.start == passed.start
    assert lower(read.fields) == passed.fields
    assert read.body == passed.body
