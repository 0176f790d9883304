"""Values of settings: seconds, counts, budgets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from routing.litellm_config.remarks import Remark
from routing.litellm_config.values import Found

Settings = Mapping[str, Found]

PERIODS = {"1h": "hour", "1d": "day", "24h": "day", "7d": "week", "1w": "week", "30d": "month", "1mo": "month"}
#: The same periods in LiteLLM's other units: 60m, 86400s, 168h …
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PERIODS_BY_S = {3600: "hour", 86_400: "day", 604_800: "week", 2_592_000: "month"}
_MOST_USD = Decimal(10) ** 8 - 1  # what a budget has room for


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    limit_usd: Decimal
    period: str
    scope_value: str = ""  # of a provider's budget: litellm's name for it
    place: str = ""
    line: str = ""


def budget(limit: Found, duration: Found | None) -> BudgetEntry | None:
    """None: 0, which means no budget to LiteLLM. Raises InvalidConfig."""
    limit_usd = limit.number()
    if limit_usd > _MOST_USD:
        raise limit.refused(f"must be at most {_MOST_USD:f} USD")
    period = "total"
    if duration is not None and not duration.is_empty:
        found = _period(duration.value)
        if found is None:
            raise duration.refused(f"must be one of {', '.join(PERIODS)}, and there is no budget without it")
        period = found
    return BudgetEntry(limit_usd, period, place=limit.path, line=limit.line) if limit_usd else None


def _period(said: object) -> str | None:
    if not isinstance(said, str):
        return None
    of_unit = _DURATION.fullmatch(said.strip())
    if of_unit is None:
        return PERIODS.get(said.strip())
    return _PERIODS_BY_S.get(int(of_unit[1]) * _UNITS_S[of_unit[2]])


def seconds(value: Found | None, notes: list[Remark]) -> float | None:
    """None when nothing is said. 0 says nothing either to LiteLLM, which takes its own default then; as the least that
    we take, it would end every request."""
    if value is None or value.is_empty:
        return None
    said = value.number()
    if not said:
        notes.append(Remark(value.path, value.line, "0 means its default to LiteLLM: nothing was changed"))
        return None
    return float(_bounded(value, said, "0.1", "3600", notes))


def count(value: Found | None, notes: list[Remark], *, most: int) -> int | None:
    if value is None or value.is_empty:
        return None
    return int(_bounded(value, Decimal(value.whole(least=0)), "0", str(most), notes))


def _bounded(value: Found, said: Decimal, least: str, most: str, notes: list[Remark]) -> Decimal:
    """The nearest number that we take. LiteLLM takes any number (its own request_timeout is 6000 s)."""
    taken = min(max(said, Decimal(least)), Decimal(most))
    if taken != said:
        notes.append(Remark(value.path, value.line, f"may be {least} to {most} here: taken as {taken}"))
    return taken
