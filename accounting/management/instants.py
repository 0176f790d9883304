"""How commands read an instant: a day, a time, or a span counted from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def past(option: str, text: str, time_zone: str = "UTC") -> datetime:
    """``2026-11-01`` and ``2026-11-01T09:30`` in the time zone; ``7d``, ``24h`` and ``30m`` count back from now."""
    return _instant(option, text, time_zone, -1)


def future(option: str, text: str) -> datetime:
    """As ``past``, but in UTC, and ``30d`` counts ahead from now. Refuses an instant that has passed."""
    instant = _instant(option, text, "UTC", +1)
    if instant <= datetime.now(UTC):
        raise CommandError(f"{option} {text!r} is in the past.")
    return instant


def _instant(option: str, text: str, time_zone: str, direction: int) -> datetime:
    if span := re.fullmatch(r"([0-9]{1,5})([dhm])", text):
        return datetime.now(UTC) + direction * timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"{option} {text!r} is not a day or time; write 2026-11-01, 2026-11-01T09:30 or 30d."
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=ZoneInfo(time_zone))
