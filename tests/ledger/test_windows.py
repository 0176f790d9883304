"""Windows as the ledger opens them, against Postgres's own calendar: the other implementation of time zones at hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounting.periods import Period, window
from tests.ledger.conftest import Book

# Half and quarter hours, both hemispheres, a clock that moves by thirty minutes, the earliest and the latest day.
ZONES = (
    "UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "America/New_York", "Europe/Berlin",
    "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Pago_Pago",
)  # fmt: skip
CALENDAR = (
    "SELECT date_trunc(%s, at, %s),"
    " ((date_trunc(%s, at AT TIME ZONE %s) + ('1 ' || %s)::interval) AT TIME ZONE %s)"
    " FROM (SELECT %s::timestamptz AS at) t"
)


def calendar(book: Book, period: str, at: datetime, zone: str) -> tuple[datetime, datetime]:
    """The window's bounds, as Postgres reckons them."""
    return book.rows(CALENDAR, period, zone, period, zone, period, zone, at)[0]


@pytest.mark.parametrize("zone", ZONES)
def test_a_budget_opens_the_window_of_its_own_time_zone(book: Book, zone: str) -> None:
    for period in ("day", "week", "month"):
        book.budget("1", name=period, period=period, time_zone=zone)
    hold = book.hold("0.5")
    opened = book.rows("SELECT budget, period_start, period_end, held_usd FROM budget_status ORDER BY budget")
    assert [(row[0], row[1:3]) for row in opened] == [
        (period, calendar(book, period, hold.created_at, zone)) for period in ("day", "month", "week")
    ]
    assert {row[3] for row in opened} == {hold.hold_usd}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_windows_agree_with_the_calendar_across_a_year_of_clock_changes(book: Book, zone: str, period: str) -> None:
    instants = [datetime(2026, 1, 1, 0, 30, tzinfo=UTC) + timedelta(hours=7 * step) for step in range(365 * 24 // 7)]
    reckoned = book.rows(
        "SELECT date_trunc(%s, at, %s) FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS t(at, n) ORDER BY n",
        period, zone, instants,
    )  # fmt: skip
    assert [window(Period(period), at, zone).start for at in instants] == [row[0] for row in reckoned]


def test_an_hour_begins_at_the_full_hour_of_the_wall_clock(book: Book) -> None:
    book.budget("1", name="delhi", period="hour", time_zone="Asia/Kolkata")
    hold = book.hold("0.5")
    [(start, end)] = book.rows("SELECT period_start, period_end FROM budget_status")
    assert (start.minute, end - start) == (30, timedelta(hours=1))
    assert start <= hold.created_at < end
