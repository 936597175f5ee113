"""Windows of time in which other bounds hold: from one cron time to another, on the clock of a time zone.

A window is open when its start came last: later than its end. Times are those of a clock on the wall, so that 8:00
stays 8:00 in summer; one that the clock skips comes an hour late, and of one that it shows twice the first counts.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from bisect import bisect_left
from functools import lru_cache
from itertools import islice
from operator import neg
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day of the week": {name: number for number, name in enumerate(_DAYS)},
}
_ITEM = re.compile(r"(?:(\*)|(\w{1,3})(?:-(\w{1,3}))?)(?:/(\d{1,2}))?", re.ASCII)

_TURNED_BACK = 180
"""Minutes; clocks are turned back by at most so much."""

_LONGEST_SEARCH = 1462
"""Days that are looked back for a time: 29 February comes every four years."""


class Cron(NamedTuple):
    """What five fields of a crontab say: the days, and the times of such a day (minutes since midnight, late first)."""

    times: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def on(self, day: datetime.date) -> bool:
        """Whether it comes on this day. As in cron, where both kinds of day are restricted, one of them is enough."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either else (of_month and of_week)


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`start` and `end` are crontab fields ("0 8 * * mon-fri"); while open, `min` and `max` stand for the policy's."""

    start: Annotated[str, Meta(description="when it opens, as in a crontab: minute hour day month weekday")]
    end: Annotated[str, Meta(description="when it closes")]
    timezone: Annotated[str, Meta(description="the clock of the times")] = "UTC"
    min: Annotated[int | None, Meta(description="the fewest instances while it is open")] = None
    max: Annotated[int | None, Meta(description="the most instances while it is open")] = None
    name: Annotated[str, Meta(description="what it is called in answers")] = ""

    def __post_init__(self) -> None:
        for key, read in (("start", read_cron), ("end", read_cron), ("timezone", zone)):
            try:
                read(getattr(self, key))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        if self.min is None and self.max is None:
            raise ValueError("expected min, max or both")
        if self.min is not None and self.min < 0:
            raise ValueError(f"min: expected 0 or more, got {self.min}")
        if self.max is not None and self.max < max(1, self.min or 0):
            raise ValueError(f"max: expected {max(1, self.min or 0)} or more, got {self.max}")

    def open(self, now: float) -> bool:
        """Whether it is open at a time (seconds since 1970)."""
        return _open(self.start, self.end, self.timezone, int(now // 60))


@lru_cache(maxsize=1 << 14)
def _open(start: str, end: str, timezone: str, minute: int) -> bool:
    """Whether a window is open in this minute: it opens and closes on whole ones, and is asked for often."""
    now, where = minute * 60.0, zone(timezone)
    opened, closed = last_time(read_cron(start), now, where), last_time(read_cron(end), now, where)
    return opened is not None and (closed is None or opened > closed)


@lru_cache(maxsize=1024)
def read_cron(text: str) -> Cron:
    """Read five fields; raises ValueError with what was expected. Names of months and days may stand for numbers."""
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected five crontab fields (minute hour day month weekday), got {text[:100]!r}")
    minutes, hours, days, months, weekdays = (_numbers(field, *of) for field, of in zip(fields, _FIELDS, strict=True))
    times = sorted((hour * 60 + minute for hour in hours for minute in minutes), reverse=True)
    # As in cron: a field that begins with a star restricts nothing by itself.
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    cron = Cron(tuple(times), days, months, frozenset(day % 7 for day in weekdays), either)
    if not _ever(cron):
        raise ValueError(f"expected a day that comes, got {text[:100]!r}")
    return cron


@lru_cache(maxsize=1024)  # there are about 600
def zone(name: str) -> datetime.tzinfo:
    """A time zone by its name in the system's database, whose file is read once."""
    if name == "UTC":  # needs no database
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError(f"expected a time zone as Europe/Berlin, got {name[:100]!r}") from None


def last_time(cron: Cron, now: float, where: datetime.tzinfo) -> float | None:
    """When it last came, `now` included; None where that is more than four years ago."""
    local = datetime.datetime.fromtimestamp(now, where)
    day = local.date()
    # Later ones of today have not come. An hour that comes twice makes the clock show less than there was already.
    latest = local.hour * 60 + local.minute + _TURNED_BACK
    earliest = day - datetime.timedelta(days=_LONGEST_SEARCH)
    while day > earliest:
        if cron.on(day):
            first = bisect_left(cron.times, -latest, key=neg) if day == local.date() else 0
            for minutes in islice(cron.times, first, None):
                at = datetime.datetime(day.year, day.month, day.day, *divmod(minutes, 60), tzinfo=where).timestamp()
                if at <= now:
                    return at
        # A month that is none of its months is passed by as a whole.
        day -= datetime.timedelta(days=1 if day.month in cron.months else day.day)
    return None


def _numbers(text: str, what: str, low: int, high: int) -> frozenset[int]:
    """One field: a list of *, n, n-m, each perhaps with /step."""
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{what}: expected *, N, N-M or these with /STEP, got {item[:20]!r}")
        star, first, last, step = match.groups()
        begin = low if star else _number(first, what, low, high)
        # In "5/10" the range goes to the end, as in cron.
        end = _number(last, what, low, high) if last else high if star or step else begin
        if end < begin or step == "0":
            raise ValueError(f"{what}: expected a range that goes up, got {item[:20]!r}")
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, what: str, low: int, high: int) -> int:
    number = int(text) if text.isdecimal() else _NAMES.get(what, {}).get(text, -1)
    if not low <= number <= high:
        raise ValueError(f"{what}: expected a number from {low} to {high}, got {text!r}")
    return number


def _ever(cron: Cron) -> bool:
    """Whether any day of four years is one of its days."""
    return last_time(cron, 1_800_000_000.0, datetime.UTC) is not None
