"""Budget windows: calendar-aligned in a time zone, right across daylight saving and month ends. Pure.

Windows are half-open, ``start <= t < end``, and touch: the end of one is the start of the next. They are computed as
instants (UTC), so that a day on which clocks change simply has 23 or 25 hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

#: The beginning of the only window of a budget without periods, before any entry.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Period(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"  # from Monday
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Window:
    """``end`` is None when the window never ends."""

    start: datetime
    end: datetime | None


def window(period: Period, at: datetime, time_zone: str) -> Window:
    """The window that contains the instant ``at`` (any aware datetime). Its bounds are in UTC."""
    if at.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    if period is Period.TOTAL:
        return Window(EPOCH, None)
    zone = ZoneInfo(time_zone)
    if period is Period.HOUR:
        return _hour(at.astimezone(UTC), zone)
    first = _first_day(period, at.astimezone(zone).date())
    # A clock set back over midnight (Havana, the Azores) shows the day before again for an hour. A day begins when its
    # date is first shown, so the instant's window is the last that has begun.
    following = _next_first_day(period, first)
    while _day_begins(following, zone) <= at:
        first, following = following, _next_first_day(period, following)
    return Window(_day_begins(first, zone), _day_begins(following, zone))


def _first_day(period: Period, day: date) -> date:
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else day


def _next_first_day(period: Period, first: date) -> date:
    if period is Period.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if period is Period.WEEK else 1)


def _day_begins(day: date, zone: ZoneInfo) -> datetime:
    """The first instant that the zone's clocks show as that day or a later one.

    Usually midnight. Where clocks jump over midnight (Beirut, Cairo, formerly São Paulo) it is the jump; ``fold=0``
    reads a time inside the gap with the offset before it, which is the same distance after the jump, so go back to it.
    """
    begins = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    shown = begins.astimezone(zone)
    if (shown.year, shown.month, shown.day, shown.hour, shown.minute) == (day.year, day.month, day.day, 0, 0):
        return begins
    return _transition_before(begins, zone)


def _transition_before(after: datetime, zone: ZoneInfo) -> datetime:
    """The last change of the zone's offset within the day before ``after``, to the second."""
    late, early = after, after - timedelta(days=1)
    offset = late.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)


def _hour(at: datetime, zone: ZoneInfo) -> Window:
    """Always sixty minutes, on the full hours of the zone's standard time (in India at half past the hours of UTC).

    When clocks change by a whole hour, the windows stay on the full hours of the clock. Only Lord Howe changes by half
    an hour, so in summer its windows begin on the half hours of the clock.
    """
    then = datetime(2026, 1, 1, tzinfo=zone)
    standard = (then.utcoffset() or timedelta()) - (then.dst() or timedelta())
    shift = standard % timedelta(hours=1)
    start = (at + shift).replace(minute=0, second=0, microsecond=0) - shift
    return Window(start, start + timedelta(hours=1))
