"""Windows of time: crontab fields, time zones, the hour that is missing and the one that comes twice."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from lb7.autoscale.schedule import Schedule, last_time, read_cron, zone

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, where: datetime.tzinfo = BERLIN, fold: int = 0) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=where, fold=fold).timestamp()


OFFICE = Schedule(start="0 8 * * mon-fri", end="0 18 * * mon-fri", timezone="Europe/Berlin", min=5)


@pytest.mark.parametrize(
    ("time", "is_open"),
    [
        ("2026-07-06 07:59:59", False),  # a Monday
        ("2026-07-06 08:00:00", True),
        ("2026-07-06 17:59:59", True),
        ("2026-07-06 18:00:00", False),
        ("2026-07-10 12:00:00", True),
        ("2026-07-11 12:00:00", False),  # Saturday
        ("2026-01-05 08:00:00", True),  # winter, on the same clock
    ],
)
def test_office_hours(time: str, is_open: bool) -> None:
    assert OFFICE.open(at(time)) is is_open


def test_over_midnight_and_over_a_weekend() -> None:
    night = Schedule(start="0 22 * * *", end="0 6 * * *", max=2)
    assert [night.open(at(f"2026-07-06 {hour}", datetime.UTC)) for hour in ("21:59", "22:00", "23:59")] == [
        False,
        True,
        True,
    ]
    assert night.open(at("2026-07-07 05:59", datetime.UTC))
    assert not night.open(at("2026-07-07 06:00", datetime.UTC))
    weekend = Schedule(start="0 18 * * fri", end="0 6 * * mon", max=2)
    assert weekend.open(at("2026-07-12 12:00", datetime.UTC))
    assert not weekend.open(at("2026-07-13 06:00", datetime.UTC))


def test_once_a_year_and_in_leap_years() -> None:
    sale = Schedule(start="0 0 27 nov *", end="0 0 1 dec *", min=50)
    assert sale.open(at("2026-11-28 10:00", datetime.UTC))
    assert not sale.open(at("2026-12-02 10:00", datetime.UTC))
    leap = read_cron("0 0 29 2 *")
    assert last_time(leap, at("2026-11-28 10:00", datetime.UTC), datetime.UTC) == at("2024-02-29", datetime.UTC)


def test_the_hour_that_the_clock_skips_comes_late() -> None:
    early = Schedule(start="30 2 * * *", end="0 5 * * *", timezone="Europe/Berlin", min=2)
    assert not early.open(at("2026-03-29 01:59"))
    assert not early.open(at("2026-03-29 03:29"))
    assert early.open(at("2026-03-29 03:30"))


def test_the_hour_that_comes_twice_opens_once() -> None:
    early = Schedule(start="30 2 * * *", end="0 5 * * *", timezone="Europe/Berlin", min=2)
    open_at = [early.open(at(f"2026-10-25 {time}", fold=fold)) for fold in (0, 1) for time in ("02:29", "02:30")]
    assert open_at == [False, True, True, True]
    assert not early.open(at("2026-10-25 05:00"))


@pytest.mark.asyncio
async def test_a_zone_may_be_read_on_the_event_loop() -> None:
    zone.cache_clear()
    assert zone("Asia/Tokyo") is zone("Asia/Tokyo")
    with pytest.raises(ValueError, match="expected a time zone"):
        zone("Nowhere/Else")


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 8 * * *", [480]),
        ("*/20 8-9 * * *", [580, 560, 540, 520, 500, 480]),
        ("5,10 0 * * *", [10, 5]),
        ("50/5 1 * * *", [115, 110]),
    ],
)
def test_times_of_a_day(text: str, times: list[int]) -> None:
    assert list(read_cron(text).times) == times


def test_days() -> None:
    monday, sunday = datetime.date(2026, 7, 6), datetime.date(2026, 7, 12)
    assert read_cron("0 0 * * 0").on(sunday)
    assert read_cron("0 0 * * 7").on(sunday)
    assert not read_cron("0 0 * * SUN").on(monday)
    assert read_cron("0 0 6 * sun").on(monday), "either kind of day"
    assert read_cron("0 0 6 * sun").on(sunday)
    assert not read_cron("0 0 6 jun *").on(monday)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0 8 * *", "expected five crontab fields"),
        ("60 8 * * *", "minute: expected a number from 0 to 59, got '60'"),
        ("0 8 * foo *", "month: expected a number from 1 to 12, got 'foo'"),
        ("0 8 5-3 * *", "day of the month: expected a range that goes up"),
        ("*/0 8 * * *", "minute: expected a range that goes up"),
        ("0 8 * * mon-fri-sun", "day of the week: expected *, N, N-M"),
        ("0 8 30 2 *", "expected a day that comes"),
    ],
)
def test_what_no_crontab_is(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_cron(text)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"timezone": "Europe/Atlantis", "min": 1}, "expected a time zone as Europe/Berlin, got 'Europe/Atlantis'"),
        ({"timezone": "../../etc/passwd", "min": 1}, "expected a time zone"),
        ({"timezone": "Europe", "min": 1}, "expected a time zone"),
        ({}, "expected min, max or both"),
        ({"min": -1}, "min: expected 0 or more"),
        ({"min": 3, "max": 2}, "max: expected 3 or more, got 2"),
        ({"max": 0}, "max: expected 1 or more, got 0"),
    ],
)
def test_what_no_schedule_is(fields: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Schedule(start="0 8 * * *", end="0 9 * * *", **fields)  # type: ignore[arg-type]
    assert error in str(caught.value)
