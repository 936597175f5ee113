"""What a decider leaves for the one after it: the form of it in the coordinator.

    autoscale/state/NN        NN: 00 … 31, by the hash of an app's key
    {"decider": …, "term": …, "apps": [{"key", "history", "intent", "action"}, …]}

    autoscale/shown/NN        what only people need, apart, so that writes in a hurry are small
    {"decider": …, "term": …, "apps": [{"key", "decision"}, …]}

An intent is written before Marathon is asked for anything, and goes when the answer is known: who finds one knows that
the change may have been made. `term` is another for each time that a process leads, so that it knows what it wrote.

What is read is checked: an app that can't be read costs its own history and no other's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from lb7.autoscale.history import History
from lb7.autoscale.policy import MOST_INSTANCES
from lb7.autoscale.shown import ShownAction, ShownDecision
from mesos_dns.coordinate import MAX_VALUE
from mesos_dns.model import Key

SHARDS = 32
PAGES = 2 * SHARDS
"""Values in the coordinator: the shards' state, then what is shown of them."""

PREFIX, SHOWN_PREFIX = "autoscale/state", "autoscale/shown"

MOST_BYTES = 900_000
"""Of a page, below the coordinator's own limit."""

MOST_APPS, MOST_ITEMS, MOST_TEXT = 20_000, 5000, 1000
"""Of a page; of one app's recommendations and changes; characters of an id."""

_FEWER_ITEMS = (200, 20, 0)
"""How many of them each app keeps where a page would be too large, one after the other."""

Direction: TypeAlias = Literal["up", "down"]


class Intent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change that Marathon is about to be asked for, `at` a time (seconds since 1970)."""

    before: int
    after: int
    at: float
    kind: Direction


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is kept of one app; `key` is the app's in the catalog."""

    key: tuple[str, str, str, str]
    history: History = History()
    intent: Intent | None = None
    decision: ShownDecision | None = None
    action: ShownAction | None = None


class Page(msgspec.Struct, frozen=True):
    """One value. `decider` is the identity of the process that wrote it."""

    decider: str = ""
    term: str = ""
    apps: tuple[Record, ...] = ()


class _Raw(msgspec.Struct, frozen=True):
    """A page before its apps are looked at."""

    decider: str = ""
    term: str = ""
    apps: tuple[msgspec.Raw, ...] = ()


_encoder = msgspec.json.Encoder()
_raw = msgspec.json.Decoder(_Raw)
_record = msgspec.json.Decoder(Record)


def digest(key: Key) -> str:
    """An app's key as it may stand in a key of the coordinator: the first 32 hex digits of SHA-256 of its JSON."""
    return hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:32]


def shard_of(hexed: str) -> int:
    """The shard of an app by its digest."""
    return int(hexed[:8], 16) % SHARDS


def page_key(number: int) -> str:
    """The coordinator's key of a page."""
    return f"{PREFIX if number < SHARDS else SHOWN_PREFIX}/{number % SHARDS:02d}"


def part(record: Record, number: int) -> Record:
    """What of a record is on this page."""
    if number < SHARDS:
        return Record(record.key, record.history, record.intent, None, record.action)
    return Record(record.key, decision=record.decision)


def together(parts: Iterable[Record]) -> list[Record]:
    """Whole records, from what is on all pages."""
    found: dict[tuple[str, ...], Record] = {}
    for item in parts:
        known = found.get(item.key)
        if known is None:
            found[item.key] = item
        elif item.decision is not None:
            found[item.key] = msgspec.structs.replace(known, decision=item.decision)
    return list(found.values())


def encode(decider: str, term: str, records: Iterable[Record]) -> bytes:
    """A page's value. Where it would be too large, what metrics asked for is left out, then the decisions, then the
    oldest of the histories."""
    page = Page(decider, term, tuple(records))
    for smaller in _ever_smaller(page):
        value = _encoder.encode(smaller)
        if len(value) <= MOST_BYTES:
            return value
    return _encoder.encode(Page(decider, term))


def decode(value: bytes, number: int) -> tuple[Page, int]:
    """A page, and how many of its apps could not be read. Raises ValueError for what is no page at all."""
    if len(value) > MAX_VALUE:
        raise ValueError(f"expected at most {MAX_VALUE} bytes, got {len(value)}")
    try:
        raw = _raw.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"expected a page of apps: {error}") from None
    if len(raw.apps) > MOST_APPS:
        raise ValueError(f"expected at most {MOST_APPS} apps, got {len(raw.apps)}")
    found = [record for text in raw.apps if (record := _read(text, number)) is not None]
    return Page(raw.decider[:MOST_TEXT], raw.term[:MOST_TEXT], tuple(found)), len(raw.apps) - len(found)


def _read(text: msgspec.Raw, number: int) -> Record | None:
    try:
        record = _record.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record if _sound(record) and shard_of(digest(record.key)) == number % SHARDS else None


def _sound(record: Record) -> bool:
    """Whether all numbers are such as a decider writes."""
    history = record.history
    if record.key[0] != "app" or any(len(part) > MOST_TEXT for part in record.key):
        return False
    if len(history.recommendations) > MOST_ITEMS or len(history.changes) > MOST_ITEMS:
        return False
    counts = [item.instances for item in history.recommendations]
    times = [item.at for item in history.recommendations] + [item.at for item in history.changes]
    times += [time for time in (history.active, history.changed) if time is not None]
    for change in (record.intent, record.action):
        if change is not None:
            counts += [change.before, change.after]
            times.append(change.at)
    steps = (abs(item.by) <= MOST_INSTANCES for item in history.changes)
    return all(0 <= count <= MOST_INSTANCES for count in counts) and all(steps) and all(map(math.isfinite, times))


def _ever_smaller(page: Page) -> Iterator[Page]:
    replace = msgspec.structs.replace
    yield page
    apps = tuple(
        replace(record, decision=replace(record.decision, proposals=(), steps=())) if record.decision else record
        for record in page.apps
    )
    yield replace(page, apps=apps)
    apps = tuple(replace(record, decision=None, action=None) for record in page.apps)
    yield replace(page, apps=apps)
    for most in _FEWER_ITEMS:
        yield replace(page, apps=tuple(replace(item, history=_newest(item.history, most)) for item in apps))


def _newest(history: History, most: int) -> History:
    recommendations, changes = history.recommendations, history.changes
    return msgspec.structs.replace(
        history,
        recommendations=recommendations[max(0, len(recommendations) - most) :],
        changes=changes[max(0, len(changes) - most) :],
    )
