"""Aliases that lead from one who tells to another: from our zones to upstreams, from a zone's servers elsewhere, back.

Each tells its part, and the parts become one answer. What is at the end of somebody else's alias is asked for as if a
client had asked, so it has its own place in the cache, and its own time.
"""

from __future__ import annotations

import msgspec

from mesos_dns.answer import Answer
from mesos_dns.message import SERVFAIL, Query
from mesos_dns.reply import MAX_TCP
from mesos_dns.resolver.reading import Malformed, joined

MOST_PARTS = 8
"""Of one answer."""


def behind(query: Query, target: bytes) -> Query:
    """The same question for the (wire) name that an alias leads to."""
    return msgspec.structs.replace(query, question=target + query.question[-4:], name=target.lower())


def with_end(query: Query, alias: Answer, end: Answer) -> Answer:
    """The aliases, and the answer to what they lead to (`alias.beyond`); SERVFAIL where both are too large."""
    asked = behind(query, alias.beyond)
    try:
        answer = joined(_packet(alias, query), _packet(end, asked), query.name, asked.name, query.qtype)
    except Malformed:
        return Answer(SERVFAIL, [], aa=False)
    answer.extended_error = end.extended_error
    return answer


def _packet(answer: Answer, query: Query) -> bytes:
    plain = msgspec.structs.replace(query, question=query.name + query.question[-4:])
    return answer.encode(plain, MAX_TCP, 0, 0, b"")
