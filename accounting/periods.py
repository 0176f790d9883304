"""Budget windows in a time zone. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class Period(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Window:
    start: datetime
    end: datetime | None


def window(period: Period, at: datetime, time_zone: str) -> Window:
    if period is Period.TOTAL:
        return Window(datetime(1970, 1, 1, tzinfo=UTC), None)
    zone = ZoneInfo(time_zone)
    local = at.astimezone(zone)
    if period is Period.HOUR:
        start = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return Window(start, start + timedelta(hours=1))
    day = local.date()
    if period is Period.DAY:
        first, last = day, day + timedelta(days=1)
    elif period is Period.WEEK:
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    return Window(_midnight(first, zone), _midnight(last, zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
