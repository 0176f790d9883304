"""Compares the ledger's windows with Postgres's calendar, an independent implementation of time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from accounting import sql
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
    """The window's bounds, as Postgres computes them."""
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


# --- hours, when the clocks change -------------------------------------------------------------------------

LORD_HOWE = "Australia/Lord_Howe"

LOST = """
    INSERT INTO accounting_ledgerentry (
        id, created_at, settled_at, expires_at, writer_id, state, request_id, key, alias, served_alias, provider, model,
        attempt_count, fallback, streamed, error_code, provider_request_id, input_tokens, cached_input_tokens,
        cache_write_tokens, cache_write_1h_tokens, audio_input_tokens, output_tokens, reasoning_tokens,
        audio_output_tokens, usage_source, hold_usd, cost_usd, overrun, end_user, tags, resolved_by, resolution)
    SELECT gen_random_uuid(), at, at, at, 0, 'unknown', 'req', 'bot', 'gpt-4o', '', 'openai', 'gpt-4o', 0, false, false,
           'worker_lost', '', 0, 0, 0, 0, 0, 0, 0, 0, 'none', 0.01, 0.01, false, '', '{}', '', ''
    FROM generate_series(%s::timestamptz, %s::timestamptz - interval '1 minute', interval '10 minutes') AS at
"""
CLOCK = """
    SELECT p.period_start, p.period_end, p.posted_usd, to_char(min(e.created_at) AT TIME ZONE %s, 'HH24:MI'),
           to_char(max(e.created_at) AT TIME ZONE %s, 'HH24:MI')
    FROM accounting_budgetperiod p JOIN accounting_charge c ON c.period_id = p.id
    JOIN accounting_ledgerentry e ON e.id = c.entry_id GROUP BY p.id ORDER BY p.period_start
"""


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        # 02:00 becomes 03:00, and 02:00 becomes 01:00 again: two windows show the same hour.
        ("America/New_York", datetime(2026, 3, 8, 6, tzinfo=UTC), ["01:00 01:50", "03:00 03:50", "04:00 04:50"]),
        ("America/New_York", datetime(2026, 11, 1, 5, tzinfo=UTC), ["01:00 01:50", "01:00 01:50", "02:00 02:50"]),
        # Lord Howe changes by thirty minutes: 02:00 becomes 02:30 at 15:30 UTC, and becomes 01:30 again at 15:00 UTC.
        (LORD_HOWE, datetime(2026, 10, 3, 14, 30, tzinfo=UTC), ["01:00 01:50", "02:30 03:20", "03:30 04:20"]),
        (LORD_HOWE, datetime(2026, 4, 4, 13, 30, tzinfo=UTC), ["00:30 01:20", "01:30 01:50", "02:00 02:50"]),
        # This clock never changes, and differs from UTC by half an hour.
        ("Asia/Kolkata", datetime(2026, 3, 29, 0, 30, tzinfo=UTC), ["06:00 06:50", "07:00 07:50", "08:00 08:50"]),
    ],
)  # fmt: skip
def test_each_request_of_a_night_when_clocks_change_is_charged_to_one_hour(
    book: Book, zone: str, first: datetime, hours: list[str]
) -> None:
    """Filled by the ledger's SQL, read back by Postgres's clock. An hour is sixty minutes, whatever the clock shows."""
    budget = book.budget("1", period="hour", time_zone=zone)
    with connection.cursor() as cursor:
        cursor.execute(LOST, [first, first + timedelta(hours=3)])
        at = first
        for _ in hours:
            opened = window(Period.HOUR, at, zone)
            values: dict[str, Any] = {"budget_id": budget.pk, "period_start": opened.start, "period_end": opened.end}
            values |= {"period": budget.period, "time_zone": budget.time_zone}
            cursor.execute(sql.load("open_period"), values)
            cursor.execute(sql.load("backfill_period"), {**values, "period_id": cursor.fetchone()[0]})
            assert opened.end is not None
            at = opened.end
    found = book.rows(CLOCK, zone, zone)
    assert [row[:3] for row in found] == [
        (first + timedelta(hours=n), first + timedelta(hours=n + 1), Decimal("0.06")) for n in range(3)
    ]
    assert [" ".join(row[3:]) for row in found] == hours
