"""Budget windows: they contain their instant, they touch, and they begin when the zone's calendar says."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.periods import EPOCH, Period, Window, window

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Kolkata", "Asia/Kathmandu",
    "Asia/Beirut", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Atlantic/Azores",
]  # fmt: skip

instants = st.datetimes(datetime(2005, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  zoned by st
zones = st.sampled_from(ZONES)
calendar_periods = st.sampled_from([Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH])


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(calendar_periods, instants, zones)
def test_a_window_contains_its_instant_and_touches_its_neighbours(period: Period, at: datetime, zone: str) -> None:
    this = window(period, at, zone)
    assert this.end is not None
    assert this.start <= at < this.end
    assert window(period, this.start, zone) == this
    assert window(period, this.end - timedelta(microseconds=1), zone) == this
    assert window(period, this.end, zone).start == this.end


@given(st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]), instants, zones)
def test_a_window_begins_when_its_first_date_is_first_shown(period: Period, at: datetime, zone: str) -> None:
    start = window(period, at, zone).start
    place = zoneinfo.ZoneInfo(zone)
    shown, before = start.astimezone(place), (start - timedelta(seconds=1)).astimezone(place)
    assert before.date() < shown.date()
    if period is Period.WEEK:
        assert shown.weekday() == 0
    # Apia skipped the 30th of December 2011, so a window may begin on a later date than the calendar's.
    if period is Period.MONTH:
        assert shown.day == 1


@given(instants, zones)
def test_a_total_never_ends(at: datetime, zone: str) -> None:
    assert window(Period.TOTAL, at, zone) == Window(EPOCH, None)


@pytest.mark.parametrize(
    ("period", "zone", "at", "start", "end"),
    [
        (Period.DAY, "UTC", "2026-11-23T13:00", "2026-11-23T00:00", "2026-11-24T00:00"),
        # 23 and 25 hours
        (Period.DAY, "Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        (Period.DAY, "Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        # there was no midnight in Beirut on 2022-03-27: the day began at one o'clock
        (Period.DAY, "Asia/Beirut", "2022-03-27T12:00", "2022-03-26T22:00", "2022-03-27T21:00"),
        # midnight came twice in Havana on 2025-11-02; the first one began the day
        (Period.DAY, "America/Havana", "2025-11-02T05:30", "2025-11-02T04:00", "2025-11-03T05:00"),
        (Period.WEEK, "UTC", "2026-11-22T23:59", "2026-11-16T00:00", "2026-11-23T00:00"),
        (Period.WEEK, "Europe/Berlin", "2026-03-29T12:00", "2026-03-22T23:00", "2026-03-29T22:00"),
        (Period.MONTH, "UTC", "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        (Period.MONTH, "America/New_York", "2026-12-31T23:00", "2026-12-01T05:00", "2027-01-01T05:00"),
        (Period.HOUR, "Asia/Kolkata", "2026-11-23T13:29", "2026-11-23T12:30", "2026-11-23T13:30"),
        (Period.HOUR, "Asia/Kathmandu", "2026-11-23T13:16", "2026-11-23T13:15", "2026-11-23T14:15"),
    ],
)
def test_a_window_has_the_calendar_s_bounds(period: Period, zone: str, at: str, start: str, end: str) -> None:
    assert window(period, utc(at), zone) == Window(utc(start), utc(end))


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        window(Period.DAY, datetime(2026, 1, 1), "UTC")  # noqa: DTZ001  that is the point
