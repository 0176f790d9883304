"""Prices from a list, such as litellm's price map: first the difference, then new rows effective from now.

A price on record is never edited: what entries were charged stays explained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from accounting.models import Price
from accounting.money import plain_usd
from accounting.pricing import PriceList


@dataclass(frozen=True, slots=True)
class PriceChange:
    """What an import would write for one model: ``before`` None when nobody had said what it costs."""

    provider: str
    model: str
    before: PriceList | None
    after: PriceList


def in_force(at: datetime) -> dict[tuple[str, str], PriceList]:
    """What every provider's model costs at that moment, by provider and model."""
    rows = Price.objects.in_force(at).prefetch_related("rates")
    return {(row.provider, row.model): row.price_list() for row in rows}


def changes(offered: Iterable[tuple[str, str, PriceList]], at: datetime | None = None) -> list[PriceChange]:
    """The offered prices (provider, model, price) that differ from those in force. Nothing is written."""
    known = in_force(at or datetime.now(UTC))
    found = []
    for provider, model, prices in offered:
        before, after = known.get((provider, model)), prices.rounded()  # as it will be read back
        if before != after:
            found.append(PriceChange(provider, model, before, after))
    return found


def apply(found: Iterable[PriceChange], source: str, at: datetime | None = None) -> list[Price]:
    """Write the changes, effective from now. The rows written."""
    rows = [(change.provider, change.model, change.after, source) for change in found]
    return Price.objects.add_all(rows, at or datetime.now(UTC))


def differences(change: PriceChange) -> list[str]:
    """The change in words, a line a rate: ``cached input 1.5 → 1.25``."""
    before = {} if change.before is None else _flat(change.before)
    after = _flat(change.after)
    return [
        f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _flat(prices: PriceList) -> dict[str, str]:
    return {rate.words: plain_usd(rate.usd_per_unit) for rate in prices.rates}
