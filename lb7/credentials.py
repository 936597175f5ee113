"""HTTP basic authentication: who is known, by crypt(3) hashes that are computed off the event loop, once.

    header ─▶ known: in the cache? ─▶ else ask: a thread hashes ─▶ cache ─▶ done(answer)

A hash takes milliseconds by design, so it must neither be computed on the loop nor anew for each request; and whoever
sends wrong passwords must not keep others waiting. Results live for some minutes in bounded caches, right and wrong
ones apart, under a hash with a key of this process, so that no password stays in memory. A user that does not exist
costs as much time as a wrong password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias
from weakref import WeakValueDictionary

from lb7.crypt import crypt, hash_fault
from lb7.table import AuthRule

Done: TypeAlias = Callable[[bool], None]

MOST_REMEMBERED = 1024
"""Right answers that one set of credentials remembers, and wrong ones."""
REMEMBERED = 300.0
"""Seconds that an answer is remembered."""
MOST_WAITING = 64
"""Hashes that wait or are computed at once, in the whole process."""
MOST_WAITING_EACH = 16
"""Those of one set of credentials: one app's guests don't lock out another's."""
_LONGEST = 1024
"""Octets of a header value; what crypt(3) takes is shorter."""
_THREADS = 2

_Memo: TypeAlias = dict[bytes, float]
"""Key of a header value → until when it holds; the oldest first."""

_key = secrets.token_bytes(32)
_waiting = 0
_threads: ThreadPoolExecutor | None = None


class Credentials:
    """Who may pass by one set of users; `hashed` and `refused` count hashes computed and not taken on.

    Users whose hash has a fault (`lb7.crypt.hash_fault`) never pass.
    """

    def __init__(self, rule: AuthRule) -> None:
        self.challenge = _challenge(rule.realm)
        self.hashed = 0
        self.refused = 0
        self._hashes: dict[bytes, bytes] = {}
        for user, text in rule.users:
            if not hash_fault(text):
                self._hashes.setdefault(user.encode("utf-8", "surrogatepass"), text.encode("ascii"))
        self._right: _Memo = {}
        self._wrong: _Memo = {}
        self._asked: dict[bytes, list[Done]] = {}

    def known(self, header_value: bytes) -> bool | None:
        """Whether the value of an Authorization header is right; None: `ask` will tell.

        What is no basic authentication (RFC 7617) is wrong at once.
        """
        key, now = _keyed(header_value), time.monotonic()
        if (until := self._right.get(key)) is not None and now < until:
            return True
        if (until := self._wrong.get(key)) is not None and now < until:
            return False
        return None if self._hashes and _user_and_password(header_value) is not None else False

    def ask(self, header_value: bytes, done: Done) -> bool:
        """Have the value checked; `done` is called from the running loop, later, unless the answer here is False:
        too many wait already, and the client should be told 503."""
        key = _keyed(header_value)
        asked = self._asked.get(key)
        if asked is not None:
            asked.append(done)
            return True
        pair = _user_and_password(header_value)
        loop = asyncio.get_running_loop()
        if pair is None or not self._hashes:
            loop.call_soon(done, False)
            return True
        if _waiting >= MOST_WAITING or len(self._asked) >= MOST_WAITING_EACH:
            self.refused += 1
            return False
        self._asked[key] = [done]
        user, password = pair
        stored = self._hashes.get(user)
        setting = stored if stored is not None else next(iter(self._hashes.values()))

        def computed(future: Future[bool]) -> None:
            right = not future.cancelled() and future.exception() is None and future.result() and stored is not None
            try:
                loop.call_soon_threadsafe(self._answered, key, bool(right))
            except RuntimeError:  # the loop is closed: nobody waits any more
                _leave()

        _begin(password, setting).add_done_callback(computed)
        return True

    def _answered(self, key: bytes, right: bool) -> None:
        _leave()
        self.hashed += 1
        _remember(self._right if right else self._wrong, key)
        loop = asyncio.get_running_loop()
        for done in self._asked.pop(key):
            loop.call_soon(done, right)


def credentials(rule: AuthRule) -> Credentials | None:
    """The credentials of a rule, one object for all rules with this realm and these users; None: everybody passes."""
    if not rule.users:
        return None
    name = (rule.realm, rule.users)
    found = _shared.get(name)
    if found is None:
        found = _shared[name] = Credentials(rule)
    return found


_shared: WeakValueDictionary[tuple[str, tuple[tuple[str, str], ...]], Credentials] = WeakValueDictionary()


def _keyed(header_value: bytes) -> bytes:
    return hashlib.blake2b(header_value, digest_size=16, key=_key).digest()


def _remember(memo: _Memo, key: bytes) -> None:
    """Entries are in order of age, for all live equally long."""
    now = time.monotonic()
    memo.pop(key, None)
    while memo:
        oldest = next(iter(memo))
        if len(memo) < MOST_REMEMBERED and memo[oldest] > now:
            break
        del memo[oldest]
    memo[key] = now + REMEMBERED


def _begin(password: bytes, stored: bytes) -> Future[bool]:
    """Compare in a thread, one of two for the whole process."""
    global _threads, _waiting
    if _threads is None:
        _threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="crypt")
    future = _threads.submit(_matches, password, stored)
    _waiting += 1
    return future


def _leave() -> None:
    global _waiting
    _waiting -= 1


def _matches(password: bytes, stored: bytes) -> bool:
    computed = crypt(password, stored)
    return computed is not None and secrets.compare_digest(computed, stored)


def _user_and_password(header_value: bytes) -> tuple[bytes, bytes] | None:
    """RFC 7617 §2: the scheme in any case, one space or more, base64 of "user:password" without control characters."""
    if len(header_value) > _LONGEST or header_value[:6].lower() != b"basic ":
        return None
    encoded = header_value[6:].strip(b" ")
    if len(encoded) % 4:  # more or less padding than there must be
        return None
    try:
        text = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    user, colon, password = text.partition(b":")
    if not colon or any(octet < 0x20 or octet == 0x7F for octet in text):
        return None
    return user, password


def _challenge(realm: str) -> bytes:
    """The value of WWW-Authenticate; what can't stand in a quoted string (RFC 9110 §5.6.4) is left out."""
    kept = "".join(letter for letter in realm if letter >= " " and letter != "\x7f")
    quoted = kept.replace("\\", "\\\\").replace('"', '\\"')
    return f'Basic realm="{quoted}"'.encode("utf-8", "replace")
